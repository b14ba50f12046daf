"""The throw-away process that runs one statement of free SQL on the snapshot; started by ``sandbox`` as ``python -I``.

Reads: stdin (the request, one JSON object), the snapshot. Writes: stdout ("ready", then one JSON object), no file.
Never: another module of ours, the environment, the network.
"""

from __future__ import annotations

import json
import os
import resource
import sys
from typing import Any

import duckdb

MOST_BYTES = 64 << 20
PART = 1000
CONFIG = {
    "memory_limit": "512MB",
    "threads": "2",
    "max_temp_directory_size": "0KB",
    "temp_directory": "",  # nothing spills to disk: too much for the memory is a plain out-of-memory fault
    "autoload_known_extensions": "false",
    "autoinstall_known_extensions": "false",
    "allow_community_extensions": "false",
    "max_expression_depth": "250",
}


def main() -> None:
    """Answer the request on stdin."""
    request = json.loads(sys.stdin.buffer.read())
    os.environ.clear()
    _limit(int(request["timeout_s"]) + 5)
    try:
        con = _open(request["snapshot"])
        print("ready", flush=True)
        answer = _answer(con, request["sql"], int(request["max_rows"]))
    except (duckdb.Error, MemoryError, ValueError) as error:
        answer = {"error": type(error).__name__, "message": str(error)}
    json.dump(answer, sys.stdout, separators=(",", ":"), default=_plain)
    sys.stdout.flush()
    os._exit(0)  # nothing to tidy up, and a large answer is freed by the kernel faster


def _limit(cpu_s: int) -> None:
    limits = {resource.RLIMIT_CPU: cpu_s, resource.RLIMIT_FSIZE: 0, resource.RLIMIT_CORE: 0}
    if sys.platform.startswith("linux"):  # elsewhere address space is not a bound on memory
        limits[resource.RLIMIT_AS] = 2 << 30
    for kind, value in limits.items():
        resource.setrlimit(kind, (value, value))


def _open(snapshot: str) -> duckdb.DuckDBPyConnection:
    con = duckdb.connect(snapshot, read_only=True, config=CONFIG)
    con.execute("SET enable_external_access = false")
    con.execute("SET python_enable_replacements = false")
    # after opening: the open file stays readable, every other read and write of a file is refused, its own included
    con.execute("SET disabled_filesystems = 'LocalFileSystem'")
    con.execute("SET lock_configuration = true")
    return con


def _answer(con: duckdb.DuckDBPyConnection, sql: str, max_rows: int) -> dict[str, Any]:
    statements = con.extract_statements(sql)
    if len(statements) != 1:
        raise ValueError(f"{len(statements)} statements")
    con.execute(statements[0])
    rows: list[Any] = []
    size = 0
    while len(rows) <= max_rows and size <= MOST_BYTES:
        part = con.fetchmany(PART)
        if not part:
            break
        rows += part
        size += len(json.dumps(part, default=_plain))
    columns = [[column[0], str(column[1])] for column in con.description or ()]
    cut = len(rows) > max_rows or size > MOST_BYTES
    return {"columns": columns, "rows": rows[:max_rows], "cut": cut}


def _plain(value: Any) -> Any:
    if isinstance(value, (bytes, bytearray, memoryview)):
        return bytes(value).hex()
    if isinstance(value, (set, tuple)):
        return list(value)
    return float(value) if type(value).__name__ == "Decimal" else str(value)


if __name__ == "__main__":
    main()
