"""``python -m store``: ask SQL of the results, rebuild them from the run folders, back up and restore.

Reads: the results, through ``sql_command`` and ``rebuild``. Writes: stdout (answers), stderr (all else). Never: a run
folder, except those that ``restore`` puts back.
"""

from __future__ import annotations

import sys
from collections.abc import Iterable

import typer
from rich.console import Console
from rich.progress import Progress

from kdengine.errors import KdError, Problem
from kdengine.home import Home
from store import backup_command, sql_command, verify_command
from store.export.race.command import race

app = typer.Typer(no_args_is_help=True, add_completion=False, help="The results of all runs, in DuckDB.")
errors = Console(stderr=True, highlight=False, soft_wrap=True)


@app.command()
def rebuild() -> None:
    """Make the database anew from the run folders. The app must be stopped; trainings may go on."""
    from store.rebuild import rebuild as rebuild_results

    with Progress(console=errors, transient=True) as bar:
        task = bar.add_task("reading run folders", total=None)
        found = rebuild_results(Home.find(), lambda done, total: bar.update(task, completed=done, total=total))
    errors.print("rebuilt: " + ", ".join(f"{n} {name}" for name, n in found.items()))


app.command()(sql_command.sql)
app.command()(race)
app.command()(backup_command.backup)
app.command()(backup_command.restore)
app.command()(verify_command.verify)


def main() -> None:
    """Run the command line; faults are printed in three parts, without a traceback, and end with code 1.

    A reader that closes the pipe early (``| head``) ends it quietly, with code 1, too.
    """
    try:
        app()
    except KdError as error:
        _tell(error.problems)
    except OSError as error:
        given = f"{error.filename or 'the disk'}: {error.strerror or error}"
        _tell((Problem("", given, "files and folders that can be read and written", "correct the path, or make room"),))
    sys.exit(1)


def _tell(problems: Iterable[Problem]) -> None:
    for problem in problems:
        where = f"{problem.field}: " if problem.field else ""
        errors.print(f"{where}{problem.given}", markup=False, style="bold red")
        errors.print(f"  allowed: {problem.allowed}", markup=False)
        errors.print(f"  next: {problem.do}", markup=False)


if __name__ == "__main__":
    main()
