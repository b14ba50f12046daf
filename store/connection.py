"""One open database file of this process, shared by its threads, that can be closed and opened again under them.

Reads / writes: the one database file. Never: run folders, the lock that says who may write (``db`` holds it).
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import duckdb

CONFIG = {"threads": "2", "memory_limit": "1GB", "autoload_known_extensions": "false", "autoinstall_known_extensions": "false"}
WAIT_S = 30.0


def remove_logs(path: Path) -> None:
    """Remove the logs of changes of the database at ``path``, which nobody has open.

    DuckDB keeps ``.wal``, and while it writes one out ``.wal.checkpoint`` and ``.wal.recovery``. One that is left beside
    another database would be played into it.
    """
    for log in path.parent.glob(f"{path.name}.wal*"):
        log.unlink(missing_ok=True)


class Connection:
    """A database file; every use takes a cursor of its own, so any thread may ask at any time.

    DuckDB keeps one instance per path and process as long as any cursor lives: to see a replaced file, or to get rid of an
    instance that a fatal error has invalidated, all cursors must be gone first. ``reopen`` waits for that.
    """

    def __init__(self, path: Path, read_only: bool = False) -> None:
        self.path = path
        self.read_only = read_only
        self._base: duckdb.DuckDBPyConnection | None = None
        self._active = 0
        self._shut = False  # nobody may take a cursor at the moment
        self._gate = threading.Condition()
        self.reopen()

    @contextmanager
    def cursor(self) -> Iterator[duckdb.DuckDBPyConnection]:
        """Yield a cursor for one thread's use; it is closed at the end, an open transaction rolled back with it.

        Raises:
            duckdb.ConnectionException: the database is closed.
        """
        with self._gate:
            self._gate.wait_for(lambda: not self._shut, WAIT_S)
            if self._base is None or self._shut:
                raise duckdb.ConnectionException("the results database is closed")
            cursor = self._base.cursor()
            self._active += 1
        try:
            yield cursor
        finally:
            cursor.close()
            with self._gate:
                self._active -= 1
                self._gate.notify_all()

    @contextmanager
    def alone(self, wait_s: float = 2.0) -> Iterator[duckdb.DuckDBPyConnection | None]:
        """Yield a cursor while no other is in use and new ones wait; None when the others take longer than ``wait_s``.

        A checkpoint needs this: DuckDB refuses one as long as any other transaction is open.
        """
        with self._gate:
            self._gate.wait_for(lambda: not self._shut, WAIT_S)
            self._shut = True
            free = self._gate.wait_for(lambda: self._active == 0, wait_s) and self._base is not None
        try:
            if free and self._base is not None:
                with self._base.cursor() as cursor:
                    yield cursor
            else:
                yield None
        finally:
            self._let_in()

    def reopen(self, between: Callable[[], None] = lambda: None) -> None:
        """Close, wait until no cursor is left, call ``between``, and open anew; questions asked meanwhile wait.

        Raises:
            duckdb.Error: the file does not open; the database stays closed.
        """
        self._close()
        try:
            between()
            self._base = duckdb.connect(str(self.path), read_only=self.read_only, config=CONFIG)
        finally:
            self._let_in()

    def close(self) -> None:
        """Close when the last cursor is done (waits up to 30 s for it)."""
        self._close()
        self._let_in()

    def _close(self) -> None:
        with self._gate:
            self._gate.wait_for(lambda: not self._shut, WAIT_S)
            self._shut = True
            self._gate.wait_for(lambda: self._active == 0, WAIT_S)
            base, self._base = self._base, None
        if base is not None:
            base.close()

    def _let_in(self) -> None:
        with self._gate:
            self._shut = False
            self._gate.notify_all()
