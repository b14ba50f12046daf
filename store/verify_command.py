"""``python -m store verify``: whether the store is what the run folders say, for people and for scripts.

Reads: what ``verify`` reads. Writes: its result into the home, for the page; standard output. Never: mends anything.
"""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Annotated

import typer
from rich.console import Console
from rich.progress import Progress
from rich.text import Text

from kdengine.home import Home

if TYPE_CHECKING:
    from store.verify import Verified

out = Console(highlight=False, soft_wrap=True, markup=False)
err = Console(stderr=True, highlight=False, soft_wrap=True, markup=False)


def verify(as_json: Annotated[bool, typer.Option("--json", help="JSON and nothing else on standard output")] = False) -> None:
    """Compare the store with the run folders. Exits 0 when all is sound, 1 with findings; each says what mends it."""
    from kdengine.errands import Recorder
    from store import verify as verifying

    home = Home.find()
    with Recorder(home, verifying.ERRAND) as note, Progress(console=err, transient=True) as bar:
        note.step("verify")
        task = bar.add_task("comparing runs", total=None)

        def report(done: float, total: float) -> None:
            bar.update(task, completed=done, total=total)
            note(done, total)

        found = verifying.verify(home, report)
        verifying.keep(home, found)
    if as_json:
        out.print_json(json.dumps(found.as_dict()))
    else:
        _say(found)
    raise typer.Exit(1 if found.findings else 0)


def _say(found: Verified) -> None:
    for problem in found.findings:
        out.print(Text(f"{problem.field}: {problem.given}", "bold red"))
        out.print(f"  allowed: {problem.allowed}\n  next: {problem.do}")
    for note in found.notes:
        out.print(Text(note, "dim"))
    compared = f"{found.runs} runs and {found.epochs} epochs of the {found.source} compared with the run folders"
    out.print(f"{compared}: {_counted(len(found.findings)) if found.findings else 'sound'}")


def _counted(n: int) -> str:
    return "1 finding" if n == 1 else f"{n} findings"
