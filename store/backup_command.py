"""``python -m store backup`` and ``restore``: what cannot be made again, put away and brought back.

Reads: a home, a backup. Writes: through ``backup`` and ``restore``; one line or a few on stderr. Never: DuckDB before a command
is asked for.
"""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich.console import Console
from rich.progress import Progress

from kdengine.errors import KdError, Problem
from kdengine.home import Home

if TYPE_CHECKING:
    from store.restore import Restored

NEWEST = "newest"
says = Console(stderr=True, highlight=False, soft_wrap=True, markup=False)


def backup(
    to: Annotated[Path | None, typer.Option(help="folder that takes the backup (backups/ of KD_HOME)")] = None,
    keep: Annotated[int | None, typer.Option(min=1, help="how many stay, newest first (as settings.json has it)")] = None,
    weights: Annotated[bool, typer.Option("--weights", help="with the best weights, so that teachers stay usable")] = False,
) -> None:
    """Put away what cannot be made again: the record of every run, people, views, settings; the tables as Parquet besides."""
    from kdengine.errands import Recorder
    from store import backup as backups
    from store import nightly

    home = Home.find()
    # how one elsewhere goes is no concern of the nightly ones: it has a name of its own
    errand = nightly.ERRAND if to is None else replace(nightly.ERRAND, name="backup-elsewhere")
    with Recorder(home, errand) as note, Progress(console=says, transient=True) as bar:
        note.step("backup")
        task = bar.add_task("backing up", total=None)

        def report(done: float, total: float) -> None:
            bar.update(task, completed=done, total=total)
            note(done, total)

        made = backups.make(home, to.expanduser().absolute() if to else None, weights=weights, report=report)
        gone = backups.rotate(home, keep, made.path.parent) if to is None or keep is not None else []
    says.print(f"{made.path}: {made.counts['runs']} runs, {made.counts['epochs']} epochs, {made.bytes / 2**20:.1f} MiB")
    if gone:
        says.print(f"removed {len(gone)} older: {', '.join(gone)}")


def restore(
    which: Annotated[
        str, typer.Argument(metavar="BACKUP", help="folder of a backup, its name in backups/ of KD_HOME, or newest")
    ],
    to: Annotated[Path | None, typer.Option(help="home that takes it, made where there is none (KD_HOME)")] = None,
) -> None:
    """Bring back the runs that a home lacks, and make the database anew. Nothing that is there is changed."""
    from store import restore as restoring

    home = Home(to.expanduser().absolute()).made() if to else Home.find()
    path = _found(which, home if to is None else None)
    with Progress(console=says, transient=True) as bar:
        task = bar.add_task("restoring", total=None)
        done = restoring.restore(path, home, report=lambda n, total: bar.update(task, completed=n, total=total))
    _say(done, home)


def _found(which: str, home: Home | None) -> Path:
    """Return the folder that is meant: a path, or a name in the backups of ``home`` (None = of KD_HOME)."""
    from store import backup as backups

    named = Path(which).expanduser()
    if named.is_dir():
        return named.absolute()
    folder = backups.folder_of(home or Home.find())
    there = {made.name: made for made in backups.listed(folder)}
    if which == NEWEST and there:
        return list(there.values())[-1].path
    if which in there:
        return there[which].path
    raise KdError.of(
        f"{which!r}", ", ".join([*list(there)[-5:], NEWEST]) if there else f"no backup is in {folder}", "name a backup", "backup"
    )


def _say(done: Restored, home: Home) -> None:
    says.print(f"{home.root}: {len(done.runs)} runs are back, {done.kept} were there")
    if done.files:
        says.print(f"also back: {', '.join(done.files)}")
    if done.cut_off:
        says.print(f"{len(done.cut_off)} runs were under way on another machine; they are cancelled and can be resumed")
    if done.rows:
        says.print("rebuilt: " + ", ".join(f"{n} {name}" for name, n in done.rows.items()))
    elif done.runs:
        says.print("the app that runs here takes them in by itself")
    if done.conflicts:
        raise KdError(*(Problem(p.field, p.given, p.allowed, p.do) for p in done.conflicts))
