"""The writing side of the store: one open database file with its schema, its intake and its publisher.

Reads: run folders through the intake. Writes: the database file and the snapshot. Never: without the store's lock.
"""

from __future__ import annotations

import shutil
import time
from pathlib import Path

import duckdb

from kdengine.home import Home
from store import published, schema
from store.connection import Connection
from store.ingest import Batch, Intake, bump_version, data_version
from store.publish import Publisher

ROOM_MIB = 16.0  # least free space; a poll also wants twice the database: it may grow, and the snapshot is a copy
# what a full or failing disk, or an interrupted commit, looks like: reopen, wait, try again
PASSING_FAULTS = (
    duckdb.FatalException, duckdb.InternalException, duckdb.IOException, duckdb.TransactionException,
    duckdb.OutOfMemoryException, duckdb.ConnectionException, OSError,
)  # fmt: skip


class Writer:
    """Opens (and makes, and migrates) the database at ``path``. The caller holds the store's lock.

    Raises:
        duckdb.Error: the file is no database, or another program has it open.
        KdError: a newer release wrote it.
    """

    def __init__(self, home: Home, path: Path, every_s: float = 3.0) -> None:
        self._home = home
        self._path = path
        self._every_s = every_s
        self._published_at = float("-inf")
        self._published_version = -1
        self._changed_at: float | None = None
        self._publisher: Publisher | None = None
        self._intake = Intake(home)
        self.connection = Connection(path)
        try:
            self._prepare()
        except BaseException:
            self.close()
            raise

    def poll(self) -> Batch:
        """Take in one batch; ``data_version`` tells whether anything changed. Raises one of PASSING_FAULTS and rolls back."""
        batch = self._intake.poll(self.connection)
        if batch.changed:
            self.data_version = self._version()
            self._changed_at = self._changed_at or time.monotonic()
        return batch

    def publish(self, force: bool = False) -> bool:
        """Publish what has changed, at most every ``every_s`` seconds unless forced; say whether it was done."""
        assert self._publisher is not None
        if self._published_version == self.data_version and self._home.snapshot.exists():
            return False
        if not force and time.monotonic() - self._published_at < self._every_s and self._home.snapshot.exists():
            return False
        if not self._publisher.publish():
            return False
        self._published_at, self._published_version = time.monotonic(), self.data_version
        self._changed_at = None
        return True

    def unpublished_s(self) -> float:
        """Return for how long the oldest change that the snapshot lacks has waited, in seconds; 0 when it lacks none."""
        since = self._changed_at
        return 0.0 if since is None else time.monotonic() - since

    def reopen(self) -> None:
        """Throw away what a fault has left: close, open again, read the positions from the database."""
        self._intake.forget()
        self.connection.reopen(between=self._drop_publisher)
        self._prepare()

    def count_from(self, version: int) -> None:
        """Count changes from beyond ``version`` on: answers to an earlier database must not pass for answers to this one."""
        with self.connection.cursor() as cursor:
            bump_version(cursor, least=version)
        self.data_version = self._version()

    def missing_mib(self) -> float:
        """Return how much free disk space is lacking to go on safely, in MiB; 0 = there is enough."""
        size = self._path.stat().st_size if self._path.exists() else 0
        free = shutil.disk_usage(self._home.root).free
        return max(0.0, ROOM_MIB + (2 * size - free) / 2**20)

    def close(self) -> None:
        """Close the database, when the last cursor is done."""
        self.connection.close()
        self._drop_publisher()

    def _drop_publisher(self) -> None:
        if self._publisher is not None:
            self._publisher.close()
            self._publisher = None

    def _prepare(self) -> None:
        with self.connection.cursor() as cursor:
            schema.migrate(cursor)
            if published.load(cursor):
                bump_version(cursor)
        self.data_version = self._version()
        # opened after DuckDB's own descriptor and closed after it, see Publisher
        self._publisher = Publisher(self.connection, self._home.snapshot)

    def _version(self) -> int:
        with self.connection.cursor() as cursor:
            return data_version(cursor)
