"""The store of one process: the writer of the results where nobody else is, else a reader of the published snapshot.

Reads: the database or its snapshot. Writes: through ``writer``, while it holds ``locks/store.lock``. Never: run folders.
"""

from __future__ import annotations

import contextlib
import os
import threading
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Self

import duckdb
import pandas as pd
from filelock import FileLock, Timeout

from kdengine.durable import write_aside
from kdengine.errors import KdError, StoreBusy
from kdengine.home import Home
from store import schema
from store.connection import Connection, remove_logs
from store.ingest import data_version
from store.writer import PASSING_FAULTS, Writer

LONGEST_WAIT_S = 60.0
INVALIDATED = (duckdb.FatalException, duckdb.ConnectionException)
ANEW = "The results database was damaged; it is being made anew from the run folders, which hold everything."


def hold(home: Home) -> FileLock | None:
    """Take the lock of the one writer; None where another process, or another store of this one, has it."""
    lock = FileLock(home.locks / "store.lock", thread_local=False)
    try:
        lock.acquire(timeout=0)
    except Timeout:
        return None
    with contextlib.suppress(OSError):  # words for people: on a full disk questions are answered all the same
        write_aside(_holder_file(home), str(os.getpid()).encode(), durable=False)
    return lock


def holder(home: Home) -> str:
    """Return who took the writer's lock last, for people: ``process 1234``."""
    try:
        return f"process {_holder_file(home).read_text()}"
    except OSError:
        return "another process"


class Store:
    """One per process. ``role`` is ``writer`` or ``reader``; ``notice`` is "" or says what keeps results from coming in.

    ``data_version`` counts the changes of the data: an answer stays right as long as it does not move. Any thread may ask
    with ``frame``; ``take_in`` is for one thread, and waits for itself when two call it.
    """

    def __init__(self, home: Home, every_s: float = 3.0) -> None:
        self.home = home
        self.notice = ""
        self.data_version = 0
        self._every_s = every_s
        self._taking_in = threading.RLock()
        self._lock: FileLock | None = None
        self._writer: Writer | None = None
        self._reader: Connection | None = None
        self._seen: tuple[int, int] | None = None
        self._wait_s = 1.0
        self._retry_at = 0.0
        self._closed = False

    @classmethod
    def open(cls, home: Home, *, publish_every_s: float = 3.0) -> Self:
        """Open the results of ``home``: as the writer if nobody is, else as a reader. Rows come with ``take_in``.

        Raises:
            KdError: a newer release wrote the database.
        """
        store = cls(home, publish_every_s)
        if not store._become_writer():
            store._follow_snapshot()
        return store

    @property
    def role(self) -> str:
        """``writer`` or ``reader``."""
        return "writer" if self._writer is not None else "reader"

    def frame(self, sql: str, params: Sequence[Any] | dict[str, Any] = ()) -> pd.DataFrame:
        """Return the answer to ``sql`` as a frame. A database that a full disk has invalidated is opened again first.

        Raises:
            StoreBusy: the database cannot be opened at present, or it was damaged and is being made anew; ``notice`` says so.
        """
        try:
            return self._ask(sql, params)
        except duckdb.Error as error:
            if not isinstance(error, INVALIDATED) and not _is_spoilt(error):
                raise
            if self._closed:
                raise StoreBusy.of("a store that was closed", "an open store", "open it again with Store.open") from None
            with self._taking_in:
                return self._ask_again(sql, params)

    def take_in(self) -> int:
        """Take in all that is new and publish it; return ``data_version``. Cheap when nothing is new.

        A reader follows the snapshot instead, and becomes the writer as soon as the former one has gone. A full or
        failing disk raises nothing: ``notice`` says so, what is new stays in the run folders, later calls try again.
        """
        with self._taking_in:
            if self._closed:
                return self.data_version
            if self._writer is None and not self._become_writer():
                self._follow_snapshot()
            elif self._writer is not None and time.monotonic() >= self._retry_at:
                self._take_in_as_writer(self._writer)
            return self.data_version

    def publish(self, *, force: bool = True) -> bool:
        """Publish the snapshot now if anything has changed; False for a reader, or when there was nothing to do.

        Raises:
            duckdb.Error, OSError: the disk is full or failing.
        """
        with self._taking_in:
            return self._writer is not None and self._writer.publish(force)

    def unpublished_s(self) -> float:
        """Return for how long the oldest change that the snapshot lacks has waited, in seconds; 0 for a reader."""
        writer = self._writer
        return writer.unpublished_s() if writer is not None else 0.0

    def close(self) -> None:
        """Publish what is not yet, close, and let another process write."""
        with self._taking_in:
            try:
                if self._writer is not None:
                    self._writer.publish(force=True)
            except (*PASSING_FAULTS, duckdb.Error) as error:
                if not isinstance(error, PASSING_FAULTS) and not _is_spoilt(error):
                    raise
                self.notice = _notice(str(error))
            finally:
                self._closed = True
                self._close_files()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    # -- writing --------------------------------------------------------------------------------------------------------

    def _take_in_as_writer(self, writer: Writer) -> None:
        missing = writer.missing_mib()
        if missing:
            self.notice = _notice(f"{missing:.0f} MiB of free disk space are missing")
            return
        try:
            while writer.poll().more:
                self.data_version = writer.data_version
            self.data_version = writer.data_version
            writer.publish()
            self.notice, self._wait_s = "", 1.0
        except (*PASSING_FAULTS, duckdb.Error) as error:
            if _is_spoilt(error):
                self._start_anew(writer)
            elif isinstance(error, PASSING_FAULTS):
                self._back_off(writer, error)
            else:
                raise

    def _back_off(self, writer: Writer, error: Exception) -> None:
        self.notice = _notice(str(error))
        self._retry_at = time.monotonic() + self._wait_s
        self._wait_s = min(LONGEST_WAIT_S, 2 * self._wait_s)
        try:
            writer.reopen()
        except (*PASSING_FAULTS, duckdb.Error) as again:
            if _is_spoilt(again):
                self._start_anew(writer)
            elif isinstance(again, PASSING_FAULTS):
                self.notice = _notice(str(again))
            else:
                raise

    def _start_anew(self, writer: Writer) -> None:
        """Set the damaged database aside and begin an empty one, which the next rounds fill; the snapshot stays until then."""
        writer.close()
        _set_aside(self.home)
        self._writer = Writer(self.home, self.home.results, self._every_s)
        self._writer.count_from(self.data_version)
        self.data_version = self._writer.data_version
        self.notice = ANEW

    def _become_writer(self) -> bool:
        lock = hold(self.home)
        if lock is None:
            return False
        try:
            self._writer = _open_writer(self.home, self._every_s)
        except PASSING_FAULTS as error:  # a foreign program has the file open, or the disk fails: stay a reader for now
            lock.release()
            self.notice = _notice(str(error))
            return False
        except BaseException:
            lock.release()
            raise
        self._lock, self.notice = lock, ""
        self.data_version = max(self.data_version, self._writer.data_version)
        reader, self._reader = self._reader, None
        if reader is not None:
            reader.close()
        return True

    def _ask_again(self, sql: str, params: Sequence[Any] | dict[str, Any]) -> pd.DataFrame:
        try:
            return self._ask(sql, params)  # another thread may have opened it again in the meantime
        except duckdb.Error as error:
            if not isinstance(error, INVALIDATED) and not _is_spoilt(error):
                raise
            self._recover(error)
        return self._ask(sql, params)

    def _recover(self, fault: duckdb.Error) -> None:
        try:
            if self._writer is None:
                self._seen = None
                self._follow_snapshot()
            elif _is_spoilt(fault):
                self._start_anew(self._writer)
            else:
                self._writer.reopen()
        except (*PASSING_FAULTS, duckdb.Error) as error:  # the next round of the intake tries again
            self.notice = _notice(str(error))
            raise StoreBusy.of(
                f"the results database, which does not open ({_first_line(error)})",
                "a readable database on a disk with free space",
                "free some space; it is tried again by itself",
            ) from error

    # -- reading --------------------------------------------------------------------------------------------------------

    def _ask(self, sql: str, params: Sequence[Any] | dict[str, Any]) -> pd.DataFrame:
        writer, reader = self._writer, self._reader
        connection = writer.connection if writer is not None else reader
        if connection is None:
            raise duckdb.ConnectionException("the results database is closed")
        with connection.cursor() as cursor:
            return cursor.execute(sql, params).df()

    def _follow_snapshot(self) -> None:
        seen = _identity(self.home.snapshot)
        if self._reader is not None and seen == self._seen:
            return
        if self._reader is not None and self._seen is not None and seen is not None:
            self._reader.reopen()
        elif seen is not None or self._reader is None:
            before, self._reader = self._reader, _open_reader(self.home.snapshot if seen else None)
            if before is not None:
                before.close()
        self._seen = seen
        assert self._reader is not None
        with self._reader.cursor() as cursor:
            self.data_version = max(self.data_version + 1, data_version(cursor))

    def _close_files(self) -> None:
        writer, reader, lock = self._writer, self._reader, self._lock
        self._writer = self._reader = self._lock = None
        for connection in (writer, reader):
            if connection is not None:
                connection.close()
        if lock is not None:
            lock.release()


def _open_writer(home: Home, every_s: float) -> Writer:
    """Open the results for writing; a file that is no sound database is set aside first."""
    try:
        return Writer(home, home.results, every_s)
    except duckdb.Error as error:
        if not _is_spoilt(error):
            raise
    _set_aside(home)
    return Writer(home, home.results, every_s)


def _set_aside(home: Home) -> None:
    """Move the database out of the way, with nothing lost: the run folders hold everything. The last one is kept, for doctors."""
    for before in home.root.glob("results.spoilt-*.duckdb"):
        before.unlink(missing_ok=True)
    spoilt = home.results.with_name(f"results.spoilt-{time.strftime('%Y%m%d-%H%M%S', time.gmtime())}.duckdb")
    with contextlib.suppress(FileNotFoundError):
        home.results.replace(spoilt)
    remove_logs(home.results)


def _open_reader(snapshot: Path | None) -> Connection:
    if snapshot is not None:
        return Connection(snapshot, read_only=True)
    empty = Connection(Path(":memory:"))  # nobody has published yet: the tables are there, and empty
    with empty.cursor() as cursor:
        schema.migrate(cursor)
    return empty


def _is_spoilt(error: BaseException) -> bool:
    """Say whether DuckDB calls its file damaged. A wrong checksum comes as a plain ``duckdb.Error``, others as several kinds."""
    signs = (
        "corrupt database file", "corrupt wal", "replaying wal", "not a valid duckdb database file",
        "could not read enough bytes", "metadatareader",
    )  # fmt: skip
    return isinstance(error, duckdb.Error) and any(sign in str(error).lower() for sign in signs)


def _identity(path: Path) -> tuple[int, int] | None:
    try:
        found = path.stat()
    except FileNotFoundError:
        return None
    return found.st_ino, found.st_mtime_ns


def _first_line(error: Exception) -> str:
    return str(error).strip().splitlines()[0] if str(error).strip() else type(error).__name__


def _notice(why: str) -> str:
    first = why.strip().splitlines()[0] if why.strip() else "unknown fault"
    return f"New results are not coming in ({first}). Nothing is lost: they wait in the run folders and are taken in later."


def _holder_file(home: Home) -> Path:
    return home.locks / "store.pid"


__all__ = ["KdError", "Store", "StoreBusy", "hold", "holder"]
