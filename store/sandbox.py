"""Free SQL, run in a throw-away process on the published snapshot: it can read the results and nothing else.

Reads: the snapshot, through the child process. Writes: the snapshot, when nobody else keeps it fresh. Never: runs a
statement in its own process. The limits guard against mistakes and mischief of a lab's own people; whoever offers this to
strangers puts the server into a container of its own besides.
"""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import pandas as pd

from kdengine.errors import KdError, Problem, nearest
from kdengine.home import Home
from store.columns import COLUMNS
from store.db import Store, hold
from store.sandbox_process import Order, Process, Reply, turns

MOST_CHARACTERS = 20_000
MOST_BYTES = 64 << 20
_INTEGER = re.compile(r"^U?(TINYINT|SMALLINT|INTEGER|BIGINT|HUGEINT)$")


class QueryError(KdError):
    """A statement that cannot be run, or took too much. ``problems`` has the three parts."""


def run(sql: str, *, timeout_s: float = 5, max_rows: int = 10_000, home: Home | None = None) -> pd.DataFrame:
    """Run one statement on the snapshot and return its answer; ``frame.attrs["cut"]`` says whether rows were left out.

    Where no process holds the writer's lock, what is new is taken in and published first. Whole numbers stay whole
    (nullable where values are missing), times become UTC datetimes, lists and structs stay Python values.

    Args:
        timeout_s: seconds the statement may run.
        max_rows: rows returned at most.
        home: where the results are; None = the home that ``KD_HOME`` names.

    Raises:
        QueryError: the statement is wrong, refused, too slow or too large.
    """
    order = Order(checked(sql), timeout_s, max_rows, MOST_BYTES)
    home = home or Home.find()
    make_fresh(home)
    with turns.turn():
        return answer(Process(), order, home.snapshot)


def make_fresh(home: Home) -> None:
    """Take in and publish where nobody else does; leave the snapshot to the running app where one is.

    Raises:
        QueryError: nobody has published yet, and it is not possible now.
    """
    notice = ""
    lock = hold(home)
    if lock is not None:
        lock.release()
        with Store.open(home) as store:
            store.take_in()
            notice = store.notice
    if not home.snapshot.exists():
        raise QueryError.of(
            f"no published results in {home.root} ({notice or 'their writer has just started'})",
            "a home where the results could be published once",
            "try again in a few seconds",
        )


def checked(sql: str) -> str:
    """Return the statement as it can be sent.

    Raises:
        QueryError: it is empty or too long.
    """
    text = sql.encode(errors="replace").decode().strip()
    if not text or len(text) > MOST_CHARACTERS:
        raise QueryError.of(
            f"a statement of {len(text)} characters",
            f"1 to {MOST_CHARACTERS} characters",
            "write a statement, for example: select * from leaderboard" if not text else "write a shorter statement",
            "sql",
        )
    return text


def answer(process: Process, order: Order, snapshot: Path) -> pd.DataFrame:
    """Run ``order`` in ``process`` on ``snapshot`` and return the answer; for callers that keep their own queue.

    Raises:
        QueryError: as ``run``; also when the process was stopped.
    """
    reply = process.ask(order, snapshot)
    found = _read_answer(reply, order.timeout_s)
    if "error" in found:
        raise _explained(order.sql, found["error"], found["message"])
    return _frame(found)


def _read_answer(reply: Reply, timeout_s: float) -> dict[str, Any]:
    if reply.stopped:
        raise QueryError.of("a statement that was stopped", "statements that run to their end", "run it again", "sql")
    try:
        return dict(json.loads(reply.rest))
    except ValueError:
        how = "was killed" if reply.code == -9 else f"ended with code {reply.code}"
    if reply.code == -9 and reply.ready:
        raise QueryError.of(
            f"a statement that ran longer than {timeout_s:g} s",
            f"statements of at most {timeout_s:g} s",
            "ask for fewer rows or runs, or group before joining",
            "sql",
        )
    raise QueryError.of(
        f"a statement whose process {how}",
        "statements that stay within 512 MB of memory",
        "make it simpler; the results themselves are untouched",
        "sql",
    )


# -- the answer as a frame ------------------------------------------------------------------------------------------------


def _frame(answer: dict[str, Any]) -> pd.DataFrame:
    names = _unique([name for name, _ in answer["columns"]])
    rows = answer["rows"]
    columns = [_column([row[place] for row in rows], kind) for place, (_, kind) in enumerate(answer["columns"])]
    frame = pd.DataFrame(dict(zip(names, columns, strict=True)), columns=names)
    frame.attrs["cut"] = bool(answer["cut"])
    return frame


def _column(values: list[Any], kind: str) -> Any:
    missing = any(value is None for value in values)
    if _INTEGER.match(kind) and all(value is None or -(2**63) <= value < 2**63 for value in values):
        return pd.array(values, dtype="Int64") if missing else pd.array(values, dtype="int64")
    if kind in ("DOUBLE", "FLOAT") or kind.startswith("DECIMAL"):
        return pd.array([float("nan") if value is None else float(value) for value in values], dtype="float64")
    if kind == "BOOLEAN":
        return pd.array(values, dtype="boolean" if missing else "bool")
    if kind.startswith("TIMESTAMP"):
        return pd.to_datetime(pd.Series(values, dtype="object"), format="ISO8601", utc=True).dt.tz_localize(None)
    return pd.Series(values, dtype="object")


def _unique(names: list[str]) -> list[str]:
    seen: dict[str, int] = {}
    result = []
    for name in names:
        seen[name] = seen.get(name, 0) + 1
        result.append(name if seen[name] == 1 else f"{name}_{seen[name]}")
    return result


# -- faults in three parts ------------------------------------------------------------------------------------------------

_NO_COLUMN = re.compile(r'Referenced column "([^"]+)" not found|does not have a column named "([^"]+)"')
_NO_TABLE = re.compile(r"Table with name (\S+) does not exist")
_NO_FUNCTION = re.compile(r"(?:Function|Macro) with name (\S+) does not exist")
_REFUSED = re.compile(
    r"disabled (?:by|through) configuration|read-only|configuration has been locked|Permission Error|File system"
)


def _explained(sql: str, kind: str, message: str) -> QueryError:
    first = re.sub(r"^\w[\w ]* Error: ", "", message.strip().splitlines()[0] if message.strip() else kind)
    if found := _NO_COLUMN.search(message):
        return _no_column(sql, found[1] or found[2])
    if found := _NO_TABLE.search(message):
        close = nearest(found[1], COLUMNS)
        return _fault(f"table {found[1]!r}", ", ".join(COLUMNS), _did_you_mean(close, "choose one of the tables"))
    if found := _NO_FUNCTION.search(message):
        hint = re.search(r'Did you mean "([^"]+)"', message)
        return _fault(f"function {found[1]!r}", "DuckDB's functions", _did_you_mean(hint and hint[1], "see duckdb.org/docs"))
    if kind == "ValueError" and first.endswith("statements"):
        return _fault(first, "one statement at a time", "run them one after the other")
    if kind in ("MemoryError", "OutOfMemoryException"):
        return _fault("a statement that needs more than 512 MB of memory", "up to 512 MB", "ask for fewer rows, or group first")
    if _REFUSED.search(message):
        allowed = "reading the tables of the results: " + ", ".join(COLUMNS)
        return _fault(f"a statement that is refused ({first})", allowed, "write a select; files and settings are out of reach")
    return _fault(first, "one statement in DuckDB's SQL", _place(message))


def _no_column(sql: str, name: str) -> QueryError:
    words = {word.lower() for word in re.findall(r"\w+", sql)}
    tables = [table for table in COLUMNS if table in words] or list(COLUMNS)
    known = list(dict.fromkeys(column for table in tables for column in COLUMNS[table]))
    close = nearest(name, known)
    return _fault(f"column {name!r}", f"columns of {', '.join(tables)}: {', '.join(known)}", _did_you_mean(close, "choose one"))


def _did_you_mean(close: str | None, otherwise: str) -> str:
    return f"did you mean {close!r}?" if close else otherwise


def _place(message: str) -> str:
    lines = message.splitlines()
    marked = next((number for number, line in enumerate(lines) if set(line.strip()) == {"^"}), None)
    return f"look at: {lines[marked - 1].split(': ', 1)[-1].strip()}" if marked else "correct it and run it again"


def _fault(given: str, allowed: str, do: str) -> QueryError:
    return QueryError(Problem("sql", given, allowed, do))


__all__ = ["QueryError", "make_fresh", "run"]
