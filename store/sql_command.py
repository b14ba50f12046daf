"""``python -m store sql``: one statement on the results, its answer as a table, CSV, JSON, or a file.

Reads: the results, through ``sandbox``; stdin or a file, where the statement comes from there. Writes: stdout (the answer and
nothing else), stderr (all else), the file of ``--out``. Never: DuckDB in this process, a run folder.
"""

from __future__ import annotations

import sys
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.console import Console
from rich.table import Table
from rich.text import Text

from kdengine.durable import write_aside
from kdengine.errors import KdError
from kdengine.home import Home

if TYPE_CHECKING:
    import pandas as pd

errors = Console(stderr=True, highlight=False, soft_wrap=True)
_CONTROL = {code: "\N{REPLACEMENT CHARACTER}" for code in (*range(32), 127, *range(128, 160)) if chr(code) not in "\n\t"}


class Format(StrEnum):
    """How an answer is written."""

    TABLE = "table"
    CSV = "csv"
    JSON = "json"


def sql(
    statement: Annotated[str, typer.Argument(help='one statement, for example "select * from leaderboard"')] = "",
    file: Annotated[str, typer.Option(help="read the statement from this file instead; - is stdin")] = "",
    format: Annotated[Format, typer.Option(help="json: a list of objects and nothing else")] = Format.TABLE,
    out: Annotated[Path | None, typer.Option(help="write the answer to this file instead: .csv, .json or .parquet")] = None,
    max_rows: Annotated[int, typer.Option(min=1, help="rows at most")] = 1_000_000,
    timeout: Annotated[float, typer.Option(min=0.1, help="seconds the statement may run")] = 60.0,
) -> None:
    """Run one statement on the results, whether the app runs or not. Tables: runs, epochs, terms, published, artifacts,
    best, leaderboard. Exit code 0: answered; 1: a fault, told in three parts; 2: an option that does not exist."""
    from store import sandbox

    write = _writer(out)
    frame = sandbox.run(_statement(statement, file), timeout_s=timeout, max_rows=max_rows, home=Home.find())
    if frame.attrs["cut"]:
        errors.print(f"only the first {len(frame)} rows are shown (--max-rows; an answer is cut at 512 MiB, too)")
    if out is not None:
        write_aside(out, write(frame), durable=False)
        errors.print(f"{out}: {len(frame)} rows, {len(frame.columns)} columns")
    else:
        _print(frame, format)


def _statement(given: str, file: str) -> str:
    if bool(given) == bool(file):
        what = "a statement and a file with one" if given else "no statement"
        raise KdError.of(what, "one of the two", 'write it in quotes, or name a file with --file ("-": stdin)', "sql")
    if file == "-":
        return sys.stdin.buffer.read().decode(errors="surrogateescape")
    return Path(file).read_bytes().decode(errors="surrogateescape") if file else given


def _writer(out: Path | None) -> Any:
    """Return what makes the bytes of the file; before the statement runs, so that a wrong ending costs no time."""
    from store.export import tables

    if out is None:
        return None
    writers = {".csv": tables.csv, ".json": tables.json, ".parquet": tables.parquet}
    if out.suffix.lower() not in writers or not out.parent.is_dir():
        allowed = f"names that end in {', '.join(writers)}, in a folder that is there"
        raise KdError.of(f"a file {str(out)!r}", allowed, "choose another name", "--out")
    return writers[out.suffix.lower()]


def _print(frame: pd.DataFrame, format: Format) -> None:
    from store.export import tables

    if format is Format.JSON:
        sys.stdout.write(tables.json(frame).decode() + "\n")
    elif format is Format.CSV:
        frame.to_csv(sys.stdout, index=False)
    else:
        _print_table(frame, [tables.plain(row) for row in frame.to_dict("records")])
    sys.stdout.flush()  # here, where a reader that has gone is no fault


def _print_table(frame: pd.DataFrame, rows: list[dict[str, Any]]) -> None:
    table = Table()
    for name in frame.columns:
        table.add_column(Text(_shown(name)))
    for row in rows:
        table.add_row(*(Text(_shown(value)) for value in row.values()))
    wide = None if sys.stdout.isatty() else 10_000  # into a file or a pipe nothing is cut off
    Console(width=wide, highlight=False).print(table)


def _shown(value: Any) -> str:
    """Return a value as one text; what would steer a terminal is shown as a replacement character."""
    if value is None:
        return ""
    return f"{value:.6g}" if isinstance(value, float) else str(value).translate(_CONTROL)
