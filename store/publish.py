"""Publishing: a read-only copy of the results that other processes and free SQL may open.

Reads: the open database. Writes: ``snapshot.duckdb``, aside and renamed. Never: the database's rows.
"""

from __future__ import annotations

import os
from pathlib import Path

import duckdb

from store.connection import CONFIG, Connection, remove_logs

INTERNAL = ("intake.offsets", "intake.rejects")


class Publisher:
    """Copies an open database file to ``target``.

    The descriptor it reads from stays open for as long as the database does. Opening and closing the file for each copy
    would drop DuckDB's lock on it: POSIX releases a process's locks on a file when any descriptor of it is closed.
    """

    def __init__(self, connection: Connection, target: Path) -> None:
        self._connection = connection
        self._target = target
        self._source = os.open(connection.path, os.O_RDONLY | os.O_CLOEXEC)

    def publish(self) -> bool:
        """Write the committed state out and replace the snapshot; readers see the old or the new one, never a part.

        False when questions kept the database busy: to be tried again soon. The internal tables of the intake are left
        out. Only the single writer may call it, between transactions.

        Raises:
            duckdb.Error, OSError: the disk is full or failing; the former snapshot is still there.
        """
        with self._connection.alone() as cursor:
            if cursor is None:
                return False
            cursor.execute("CHECKPOINT")
        aside = self._target.with_name(f".{self._target.name}.new")
        aside.unlink(missing_ok=True)
        remove_logs(aside)
        try:
            self._copy(aside)
            _without_internals(aside)
            aside.chmod(0o444)
            aside.replace(self._target)
        except BaseException:
            aside.unlink(missing_ok=True)
            raise
        return True

    def close(self) -> None:
        """Give the descriptor back; only after the database itself was closed."""
        os.close(self._source)

    def _copy(self, aside: Path) -> None:
        size, done = os.fstat(self._source).st_size, 0
        with aside.open("wb") as out:
            while done < size:
                block = os.pread(self._source, min(size - done, 1 << 22), done)
                if not block:
                    raise OSError(f"{self._source} ended after {done} of {size} bytes")
                out.write(block)
                done += len(block)


def _without_internals(path: Path) -> None:
    with duckdb.connect(str(path), config=CONFIG) as copy:
        for table in INTERNAL:
            copy.execute(f"DROP TABLE IF EXISTS {table}")
        copy.execute("CHECKPOINT")
