"""The throw-away process that runs one statement of free SQL on the snapshot; started by ``sandbox_process``.

Reads: stdin (the request, one JSON object), the snapshot. Writes: stdout (JSON lines), no file.
Never: the environment, the network; a second statement.

Lines of the answer: the walls that hold (the snapshot is open by then); names and types of the columns; blocks of rows,
column by column; at last ``{"cut": bool}`` or what went wrong.
"""

from __future__ import annotations

import datetime
import decimal  # noqa: F401 - here and below: DuckDB hands out values of their types, and later no file can be opened
import json
import math
import os
import pathlib  # noqa: F401
import resource
import sys
import uuid  # noqa: F401
from collections.abc import Iterator, Sequence
from typing import Any

import _duckdb as duckdb  # its core alone: the package around it takes four times as long to load, and is not needed

from store import sandbox_walls as walls

NICE = 5
MOST_AT_ONCE, BLOCK_BYTES = 1000, 2 << 20  # rows fetched and sent at a time: not more than this costs
MOST_COLUMNS = 1000
LONGEST_NAME = 200
LONGEST_MESSAGE = 4000
VALUE_BYTES, NESTED_BYTES = 16, 72  # what a value costs the reader beside its text, and one within a list or struct
CONFIG: dict[str, str | bool | int | float | list[str]] = {
    "memory_limit": "512MB",
    "threads": "2",
    "async_threads": "1",
    "max_temp_directory_size": "0KB",
    "temp_directory": "",  # nothing spills to disk: too much for the memory is a plain out-of-memory fault
    "autoload_known_extensions": "false",
    "autoinstall_known_extensions": "false",
    "allow_community_extensions": "false",
    "allow_persistent_secrets": "false",
    "max_expression_depth": "250",
}
INTEGERS = ("TINYINT", "SMALLINT", "INTEGER", "BIGINT")
READING = {"SELECT", "MULTI"}  # MULTI: a PIVOT that looks its columns up first
FIRST_WORDS = {"select", "from", "with", "table", "values", "pivot", "unpivot", "describe", "desc", "show", "summarize"}


class Refused(Exception):
    """The statement is not one that reads; the text is its first word, or how many statements there are."""


class _Utc(datetime.tzinfo):
    """Stands for the module that DuckDB asks for time zones: UTC is the only one here, and no file is read for it."""

    def timezone(self, _: str) -> _Utc:
        """Return the one zone."""
        return self

    def localize(self, moment: datetime.datetime) -> datetime.datetime:
        """Return a moment of UTC as one."""
        return moment.replace(tzinfo=datetime.UTC)

    def utcoffset(self, _: datetime.datetime | None) -> datetime.timedelta:
        """Return zero, always."""
        return datetime.timedelta(0)

    dst = utcoffset

    def tzname(self, _: datetime.datetime | None) -> str:
        """Return its name."""
        return "UTC"


def main() -> None:
    """Answer the request on stdin."""
    request = json.loads(sys.stdin.buffer.read())
    sys.modules["pytz"] = _Utc()  # type: ignore[assignment]
    held = _limit(float(request["timeout_s"]), request["app"])
    if request["handle"] is not None:
        held |= {"files": walls.only_this_file(request["handle"])}
    held |= {"calls": walls.few_calls()}
    try:
        con = _open(request)
        _say(held | {"nothing new": _close_off()})
        for line in _answer(con, request):
            _say(line)
    except Exception as error:  # whatever it is, the reader must be told
        _say(_fault(error))
    os._exit(0)  # nothing to tidy up, and a large answer is freed by the kernel faster


def _say(line: Any) -> None:
    text = line if isinstance(line, str) else json.dumps(line, separators=(",", ":"))
    sys.stdout.buffer.write(text.encode("utf-8", "replace") + b"\n")
    sys.stdout.buffer.flush()


# -- before the statement -------------------------------------------------------------------------------------------------


def _limit(timeout_s: float, app: int) -> dict[str, bool]:
    os.environ.clear()
    os.nice(NICE)
    held = {"first to go": walls.first_to_go(), "not root": walls.step_down()}
    held |= {"ends with the app": walls.die_with(app)}  # after stepping down, which would undo it
    limits = {resource.RLIMIT_CPU: math.ceil(2 * timeout_s) + 5, resource.RLIMIT_FSIZE: 0, resource.RLIMIT_CORE: 0}
    if sys.platform.startswith("linux"):  # elsewhere address space is not a bound on memory
        limits[resource.RLIMIT_AS] = 2 << 30
    for kind, value in limits.items():
        resource.setrlimit(kind, (value, value))
    return held | {"memory": resource.RLIMIT_AS in limits}


def _open(request: dict[str, Any]) -> duckdb.DuckDBPyConnection:
    con = duckdb.connect(request["snapshot"], read_only=True, config=CONFIG)
    con.execute("SET enable_external_access = false")  # not among CONFIG: together with temp_directory it is refused there
    con.execute("SET python_enable_replacements = false")
    # after opening: the open file stays readable, every other read and write of a file is refused, its own included
    con.execute("SET disabled_filesystems = 'LocalFileSystem'")
    limit_ms = math.ceil(1000 * float(request["timeout_s"]))
    con.execute(f"SET max_execution_time = {limit_ms}")  # the clean end; being killed from outside is the sure one
    con.execute(f"SET pivot_limit = {MOST_COLUMNS}")
    con.execute("SET enable_progress_bar = false")
    con.execute("SET TimeZone = 'UTC'")
    con.execute("SET errors_as_json = true")
    con.execute("SET lock_configuration = true")
    return con


def _close_off() -> bool:
    """Let no further file, connection, thread or process be opened: whatever is needed is there by now."""
    resource.setrlimit(resource.RLIMIT_NPROC, (0, 0))
    resource.setrlimit(resource.RLIMIT_NOFILE, (0, 0))
    try:
        os.close(os.dup(0))
    except OSError:
        return True
    return False


# -- the statement --------------------------------------------------------------------------------------------------------


def _answer(con: duckdb.DuckDBPyConnection, request: dict[str, Any]) -> Iterator[Any]:
    con.execute(_one_that_reads(con, request["sql"]))
    columns = [[str(name)[:LONGEST_NAME], _kind(str(kind))] for name, kind, *_ in con.description or ()]
    if len(columns) > MOST_COLUMNS:
        raise Refused(f"{len(columns)} columns")
    yield {"columns": columns}
    kinds = [kind for _, kind in columns]
    part, left, rows_left = 16, int(request["most_bytes"]), int(request["max_rows"])
    while rows := con.fetchmany(min(part, rows_left + 1)):
        block, fits, cost = _block(rows[:rows_left], kinds, left)
        if fits:
            yield block
        elif rows_left and left == request["most_bytes"]:
            raise Refused("a row")
        if fits < len(rows):
            yield {"cut": True, "cost": request["most_bytes"] - left + cost}
            return
        rows_left, left = rows_left - fits, left - cost
        part = max(1, min(MOST_AT_ONCE, 8 * part, int(part * BLOCK_BYTES / cost)))
    yield {"cut": False, "cost": request["most_bytes"] - left}


def _one_that_reads(con: duckdb.DuckDBPyConnection, sql: str) -> Any:
    statements = con.extract_statements(sql)
    if len(statements) != 1:
        raise Refused(f"{len(statements)} statements")
    word = _first_word(sql)
    if word not in FIRST_WORDS or statements[0].type.name not in READING:
        if word != "explain":
            raise Refused(word)
        try:
            _one_that_reads(con, _explained(sql))
        except duckdb.Error:  # its place would be one in the text after the explain
            raise Refused(word) from None
    return statements[0]


def _words(sql: str) -> Iterator[tuple[int, str]]:
    """Yield place (in bytes) and text of the tokens, without comments."""
    text = sql.encode()
    tokens = duckdb.tokenize(sql)
    ends = [place for place, _ in tokens[1:]] + [len(text)]
    for (place, kind), end in zip(tokens, ends, strict=True):
        word = text[place:end].decode("utf-8", "replace").strip()
        if kind != duckdb.token_type.comment:
            yield place, word.lower()


def _first_word(sql: str) -> str:
    return next((word for _, word in _words(sql) if word not in ("(", ";")), "")[:40]


def _explained(sql: str) -> str:
    """Return the statement that an EXPLAIN explains."""
    place = next((place for place, word in _words(sql) if word not in (";", "explain", "analyze")), None)
    return "" if place is None else sql.encode()[place:].decode("utf-8", "replace")


# -- the answer -----------------------------------------------------------------------------------------------------------


def _block(rows: list[Any], kinds: list[str], most: int) -> tuple[str, int, int]:
    """Return as many of the rows as cost the reader at most ``most`` bytes: as text, how many, what they cost."""
    while rows:
        columns, cost = [], VALUE_BYTES * len(rows) * len(kinds)
        for values, kind in zip(zip(*rows, strict=True), kinds, strict=True):
            text = json.dumps(_sendable(values, kind), separators=(",", ":"), ensure_ascii=False)
            cost += len(text.encode("utf-8", "replace")) + NESTED_BYTES * _inner_values(text, kind)
            columns.append(text)
        if cost <= most:
            return f"[{','.join(columns)}]", len(rows), cost
        rows = rows[: len(rows) // 2]
    return "", 0, 0


def _kind(name: str) -> str:
    """Return the name of a type; of a long one (all values of an enum) its begin and end."""
    return name if len(name) <= 60 else f"{name[:50]}...{name[-5:]}"


def _sendable(values: Sequence[Any], kind: str) -> Sequence[Any]:
    plain = kind in ("VARCHAR", "JSON", "DOUBLE", "FLOAT", "BOOLEAN") or kind.removeprefix("U") in INTEGERS
    return values if plain else [_plain(value) for value in values]


def _inner_values(text: str, kind: str) -> int:
    nested = kind.endswith("]") or kind.startswith(("STRUCT", "MAP", "UNION", "VARIANT"))
    return sum(map(text.count, ",[{")) if nested else 0


def _plain(value: Any) -> Any:
    """Return a value that JSON can hold."""
    if value is None or isinstance(value, (str, bool, float)):
        return value
    if isinstance(value, int):
        return value if value.bit_length() <= 128 else hex(value)
    if isinstance(value, (bytes, bytearray, memoryview)):
        return bytes(value).hex()
    if isinstance(value, dict):
        return {str(_plain(key)): _plain(item) for key, item in value.items()}
    if isinstance(value, (list, set, tuple)):
        return [_plain(item) for item in value]
    return float(value) if type(value).__name__ == "Decimal" else str(value)


def _fault(error: Exception) -> dict[str, Any]:
    fault: dict[str, Any] = {"fault": type(error).__name__, "message": str(error)[:LONGEST_MESSAGE]}
    brace = str(error).find("{")
    try:
        known = json.loads(str(error)[brace:]) if isinstance(error, duckdb.Error) and brace >= 0 else {}
    except ValueError:
        known = {}
    if "exception_message" in known:
        fault["message"] = known["exception_message"][:LONGEST_MESSAGE]
        fault |= {name: known[name][:LONGEST_MESSAGE] for name in ("name", "type", "candidates", "position") if name in known}
    return fault
