"""``python -m store``: ask SQL of the results, rebuild them from the run folders, back up and restore.

Reads: the results, through ``sandbox`` and ``rebuild``. Writes: stdout (answers), stderr (all else). Never: a run folder, except
those that ``restore`` puts back.
"""

from __future__ import annotations

import sys
from enum import StrEnum
from typing import Annotated, Any

import typer
from rich.console import Console
from rich.progress import Progress
from rich.table import Table

from kdengine.errors import KdError
from kdengine.home import Home
from store import backup_command, verify_command
from store.export.race.command import race

app = typer.Typer(no_args_is_help=True, add_completion=False, help="The results of all runs, in DuckDB.")
errors = Console(stderr=True, highlight=False, soft_wrap=True)


class Format(StrEnum):
    """How an answer is written."""

    TABLE = "table"
    CSV = "csv"
    JSON = "json"


@app.command()
def sql(
    statement: Annotated[str, typer.Argument(help='one statement, for example "select * from leaderboard"')],
    format: Annotated[Format, typer.Option(help="json: a list of objects and nothing else")] = Format.TABLE,
    max_rows: Annotated[int, typer.Option(min=1, help="rows at most")] = 1_000_000,
    timeout: Annotated[float, typer.Option(min=0.1, help="seconds the statement may run")] = 60.0,
) -> None:
    """Run one statement on the results, whether the app runs or not. Tables: runs, epochs, terms, published, artifacts,
    best, leaderboard."""
    from store import sandbox
    from store.export import tables

    frame = sandbox.run(statement, timeout_s=timeout, max_rows=max_rows, home=Home.find())
    if frame.attrs["cut"]:
        errors.print(f"only the first {len(frame)} rows are shown (--max-rows)")
    if format is Format.JSON:
        print(tables.json(frame).decode())
    elif format is Format.CSV:
        frame.to_csv(sys.stdout, index=False)
    else:
        _print_table(frame, [tables.plain(row) for row in frame.to_dict("records")])


@app.command()
def rebuild() -> None:
    """Make the database anew from the run folders. The app must be stopped; trainings may go on."""
    from store.rebuild import rebuild as rebuild_results

    with Progress(console=errors, transient=True) as bar:
        task = bar.add_task("reading run folders", total=None)
        found = rebuild_results(Home.find(), lambda done, total: bar.update(task, completed=done, total=total))
    errors.print("rebuilt: " + ", ".join(f"{n} {name}" for name, n in found.items()))


app.command()(race)
app.command()(backup_command.backup)
app.command()(backup_command.restore)
app.command()(verify_command.verify)


def _print_table(frame: Any, rows: list[dict[str, Any]]) -> None:
    table = Table(*(str(name) for name in frame.columns))
    for row in rows:
        table.add_row(*(_shown(value) for value in row.values()))
    wide = None if sys.stdout.isatty() else 10_000  # into a file or a pipe nothing is cut off
    Console(width=wide, highlight=False).print(table)


def _shown(value: Any) -> str:
    if value is None:
        return ""
    return f"{value:.6g}" if isinstance(value, float) else str(value)


def main() -> None:
    """Run the command line; faults are printed in three parts, without a traceback, and end with code 1."""
    try:
        app()
    except KdError as error:
        for problem in error.problems:
            where = f"{problem.field}: " if problem.field else ""
            errors.print(f"{where}{problem.given}", markup=False, style="bold red")
            errors.print(f"  allowed: {problem.allowed}", markup=False)
            errors.print(f"  next: {problem.do}", markup=False)
        sys.exit(1)


if __name__ == "__main__":
    main()
