"""Taking in: what is new in the run folders becomes rows, in one transaction per batch together with the positions read to.

Reads: run folders, through ``kdengine.rundir`` and ``status``. Writes: the open database. Never: a run folder; half a line.
"""

from __future__ import annotations

import time
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Any

import duckdb

from kdengine.errors import KdError
from kdengine.eventlog import Reject
from kdengine.events import EpochEnded
from kdengine.home import Home
from kdengine.labels import Labels
from kdengine.labels import read as read_labels
from kdengine.rundir import Request, RunDir, run_dirs
from kdengine.status import RunStatus, is_over, status_of, view
from store.connection import Connection
from store.rows import Row, apply, arrow, epoch_rows, first_row, term_rows

BATCH_EVENTS = 20_000  # a rebuild of many runs shows its progress and keeps its transactions small
ETA_SLACK_FRAC = 0.1  # an expectation is rewritten when it moves by more than this share of what is left
SETTLED_NS = 1_000_000_000
SPEC_FAULT, LABELS_FAULT = -1, -2  # places among the rejects of what is no line of the log
TABLES = ("runs", "epochs", "terms", "artifacts", "intake.offsets", "intake.rejects")

Signature = tuple[int, int, int]


@dataclass(slots=True)
class _Known:
    """What the database holds of a run, so that a poll need not ask it."""

    position: int = 0
    status: str = ""
    artifacts: frozenset[tuple[str, int]] = frozenset()
    labels: Labels = Labels()
    labels_fault: str = ""  # why the run shows the labels of its launch though it was given others
    expected_at: datetime | None = None
    signature: Signature | None = None
    settled: bool = False  # over, and its folder so long unchanged that one more change must show in the signature


@dataclass(slots=True)
class _Change:
    """What one run adds to a batch."""

    run_id: str
    request: Request | None
    after: _Known
    events: list[Any] = field(default_factory=list)
    rejects: list[Reject] = field(default_factory=list)
    fault: str = ""
    fresh: bool = False  # its rows are written from nothing: new here, or its log is not the one that was read before


@dataclass(frozen=True, slots=True)
class Batch:
    """What one ``poll`` did: whether rows changed, whether more is waiting, how many runs it touched."""

    changed: bool
    more: bool
    runs: int


class Intake:
    """The only writer of the tables that mirror run folders. One thread at a time."""

    def __init__(self, home: Home) -> None:
        self._home = home
        self._known: dict[str, _Known] | None = None
        self._types: dict[str, dict[str, str]] = {}

    def forget(self) -> None:
        """Read the positions from the database again at the next poll (after a failed transaction)."""
        self._known = None

    def poll(self, connection: Connection) -> Batch:
        """Take in what is new in all run folders: rows and positions in one transaction, or nothing at all.

        Raises:
            duckdb.Error, OSError: nothing of this batch was taken in; the next poll begins where the last good one ended.
        """
        known = self._known if self._known is not None else self._load(connection)
        runs = run_dirs(self._home)
        gone = known.keys() - {run.run_id for run in runs}
        changes, more = self._changes(runs, known)
        if changes or gone:
            with connection.cursor() as cursor:
                self._write(cursor, changes, sorted(gone))
        for run_id in gone:
            del known[run_id]
        known.update((change.run_id, change.after) for change in changes)
        return Batch(bool(changes or gone), more, len(changes) + len(gone))

    # -- looking at folders ---------------------------------------------------------------------------------------------

    def _changes(self, runs: list[RunDir], known: dict[str, _Known]) -> tuple[list[_Change], bool]:
        changes: list[_Change] = []
        events = 0
        for run in runs:
            try:
                change = self._look(run, known.get(run.run_id))
            except FileNotFoundError:  # deleted under our eyes: gone at the next poll
                continue
            if change is not None:
                changes.append(change)
                events += len(change.events)
            if events >= BATCH_EVENTS:
                return changes, True
        return changes, False

    def _look(self, run: RunDir, before: _Known | None) -> _Change | None:
        # taken first, so that whatever is written from here on makes it differ at the next poll
        signature = _signature(run)
        if before and before.settled and before.signature == signature:
            return None
        try:
            request = run.read_request()
            # the status comes before the lines: whoever reads "finished" finds every row
            status = status_of(run, self._home)
        except (KdError, ValueError) as error:
            return _broken(run, before, signature, error)
        change = self._read(run, before or _Known(), signature, request)
        change.fresh = change.fresh or before is None or not before.status
        after = change.after
        after.status = status.value
        after.settled = is_over(status) and _is_settled(signature)
        after.expected_at = _expected(run, self._home, status, before.expected_at if before else None)
        if before is None or before.status != status or before.signature is None or before.signature[0] != signature[0]:
            after.artifacts = frozenset((a.name, a.bytes) for a in run.artifacts() if is_over(status) or not _grows(a.name))
        after.labels, after.labels_fault = _labels(run, request)
        if before and not change.fresh and not change.rejects and _same(before, after):
            before.signature, before.settled = after.signature, after.settled
            return None
        return change

    def _read(self, run: RunDir, before: _Known, signature: Signature, request: Request) -> _Change:
        after = _Known(before.position, artifacts=before.artifacts, signature=signature)
        change = _Change(run.run_id, request, after)
        size = signature[1]
        if size == before.position:
            return change
        if 0 < before.position <= size:  # from the newline before: if none is there, this is not the file we read
            change.events, after.position, change.rejects = run.scan_events(before.position - 1)
            if not change.rejects or change.rejects[0].position != before.position - 1:
                return change
        change.fresh = True
        change.events, after.position, change.rejects = run.scan_events(0)
        return change

    # -- writing --------------------------------------------------------------------------------------------------------

    def _load(self, connection: Connection) -> dict[str, _Known]:
        with connection.cursor() as cursor:
            self._types = {name: _column_types(cursor, name) for name in TABLES}
            known = {row[0]: _Known(row[1]) for row in cursor.execute("SELECT run_id, position FROM intake.offsets").fetchall()}
            cursor.execute("SELECT run_id, status, expected_at, tags, note FROM runs")
            for run_id, status, expected, tags, note in cursor.fetchall():
                known.setdefault(run_id, _Known()).status = status
                known[run_id].expected_at, known[run_id].labels = expected, Labels(tuple(tags or ()), note or "")
            held: dict[str, set[tuple[str, int]]] = {}
            for run_id, name, size in cursor.execute("SELECT run_id, name, bytes FROM artifacts").fetchall():
                held.setdefault(run_id, set()).add((name, size))
            for run_id, files in held.items():
                known[run_id].artifacts = frozenset(files)
        self._known = known
        return known

    def _write(self, cursor: duckdb.DuckDBPyConnection, changes: list[_Change], gone: list[str]) -> None:
        sound = [change for change in changes if change.request is not None]
        with _transaction(cursor):
            for table in TABLES:
                _delete(cursor, table, gone)
            for table in ("epochs", "terms", "intake.rejects"):
                _delete(cursor, table, [change.run_id for change in sound if change.fresh])
            self._write_runs(cursor, sound)
            self._write_events(cursor, sound)
            _delete(cursor, "artifacts", [change.run_id for change in sound])
            _delete(cursor, "intake.rejects", [change.run_id for change in sound], f"position = {LABELS_FAULT}")
            files = [{"run_id": c.run_id, "name": name, "bytes": size} for c in sound for name, size in sorted(c.after.artifacts)]
            self._insert(cursor, "artifacts", files)
            self._write_books(cursor, changes)

    def _write_runs(self, cursor: duckdb.DuckDBPyConnection, changes: list[_Change]) -> None:
        stored = _stored_rows(cursor, [change.run_id for change in changes if not change.fresh])
        rows = []
        for change in changes:
            row = stored.get(change.run_id) or self._first_row(change)
            for event in change.events:
                apply(row, event)
            row["bad_lines"] = (row.get("bad_lines") or 0) + len(change.rejects)
            row.update(status=change.after.status, expected_at=change.after.expected_at)
            row.update(tags=list(change.after.labels.tags), note=change.after.labels.note)
            rows.append(row)
        self._insert(cursor, "runs", rows, replace=True)

    def _first_row(self, change: _Change) -> Row:
        assert change.request is not None
        return first_row(change.run_id, change.request) | {"chain": _chain(self._home, change.request)}

    def _write_events(self, cursor: duckdb.DuckDBPyConnection, changes: list[_Change]) -> None:
        epochs: dict[tuple[Any, ...], Row] = {}
        terms: dict[tuple[Any, ...], list[Row]] = {}
        for change in changes:
            for event in change.events:
                if isinstance(event, EpochEnded):  # a later event of the same epoch, by a resumed worker, takes its place
                    epochs.update(
                        ((row["run_id"], row["epoch"], row["network"]), row) for row in epoch_rows(change.run_id, event)
                    )
                    terms[change.run_id, event.phase, event.epoch] = term_rows(change.run_id, event)
        self._insert(cursor, "epochs", epochs.values(), replace=True)
        if terms:
            places = [{"run_id": run_id, "phase": phase, "epoch": epoch} for run_id, phase, epoch in terms]
            cursor.register("incoming", arrow(places, {"run_id": "VARCHAR", "phase": "VARCHAR", "epoch": "INTEGER"}))
            cursor.execute("DELETE FROM terms WHERE (run_id, phase, epoch) IN (SELECT (run_id, phase, epoch) FROM incoming)")
            self._insert(cursor, "terms", (row for rows in terms.values() for row in rows))

    def _write_books(self, cursor: duckdb.DuckDBPyConnection, changes: list[_Change]) -> None:
        offsets = [{"run_id": change.run_id, "position": change.after.position} for change in changes]
        self._insert(cursor, "intake.offsets", offsets, replace=True)
        rejects = [
            _reject(change.run_id, reject.position, reject.text, "no event") for change in changes for reject in change.rejects
        ]
        rejects += [_reject(c.run_id, SPEC_FAULT, "spec.json", c.fault) for c in changes if c.fault]
        rejects += [_reject(c.run_id, LABELS_FAULT, "labels.json", f) for c in changes if (f := c.after.labels_fault)]
        self._insert(cursor, "intake.rejects", rejects, replace=True)
        bump_version(cursor)

    def _insert(self, cursor: duckdb.DuckDBPyConnection, table: str, rows: Iterable[Row], replace: bool = False) -> None:
        listed = list(rows)
        if listed:
            cursor.register("incoming", arrow(listed, self._types[table]))
            cursor.execute(f"INSERT {'OR REPLACE ' if replace else ''}INTO {table} BY NAME SELECT * FROM incoming")
            cursor.unregister("incoming")


def bump_version(cursor: duckdb.DuckDBPyConnection, least: int = 0) -> None:
    """Count one more change of the data, beyond ``least`` too, inside the caller's transaction."""
    version = max(data_version(cursor), least) + 1
    cursor.execute(f"INSERT OR REPLACE INTO intake.state VALUES ('data_version', '{version}')")


def data_version(cursor: duckdb.DuckDBPyConnection) -> int:
    """Return how many times the data has changed; 0 in an empty database."""
    row = cursor.execute("SELECT value FROM intake.state WHERE key = 'data_version'").fetchone()
    return int(row[0]) if row else 0


@contextmanager
def _transaction(cursor: duckdb.DuckDBPyConnection) -> Iterator[None]:
    cursor.execute("BEGIN")
    try:
        yield
        cursor.execute("COMMIT")
    except BaseException:
        try:
            cursor.execute("ROLLBACK")
        except duckdb.Error as error:  # the commit failed for good and has ended the transaction itself
            del error
        raise


def _delete(cursor: duckdb.DuckDBPyConnection, table: str, run_ids: list[str], which: str = "true") -> None:
    if run_ids:
        cursor.execute(f"DELETE FROM {table} WHERE run_id IN (SELECT unnest(?::VARCHAR[])) AND {which}", [run_ids])


def _reject(run_id: str, position: int, line: str, fault: str) -> Row:
    return {"run_id": run_id, "position": position, "line": line, "fault": fault}


def _stored_rows(cursor: duckdb.DuckDBPyConnection, run_ids: list[str]) -> dict[str, Row]:
    if not run_ids:
        return {}
    cursor.execute("SELECT * FROM runs WHERE run_id IN (SELECT unnest(?::VARCHAR[]))", [run_ids])
    names = [column[0] for column in cursor.description or ()]
    return {row["run_id"]: row for row in (dict(zip(names, values, strict=True)) for values in cursor.fetchall())}


def _column_types(cursor: duckdb.DuckDBPyConnection, table: str) -> dict[str, str]:
    schema, _, name = table.rpartition(".")
    cursor.execute(
        "SELECT column_name, data_type FROM duckdb_columns() WHERE schema_name = ? AND table_name = ? ORDER BY column_index",
        [schema or "main", name],
    )
    return {str(column): str(kind) for column, kind in cursor.fetchall()}


def _broken(run: RunDir, before: _Known | None, signature: Signature, error: Exception) -> _Change | None:
    """A folder that cannot be understood: noted among the rejects; rows that it had stay as they are."""
    if before and before.signature == signature:
        return None
    after = before or _Known()
    after.signature = signature
    return _Change(run.run_id, None, after, fault=str(error))


def _signature(run: RunDir) -> Signature:
    try:
        log = run.events_jsonl.stat()
        size, changed = log.st_size, log.st_mtime_ns
    except FileNotFoundError:
        size, changed = 0, 0
    return run.path.stat().st_mtime_ns, size, changed


def _is_settled(signature: Signature) -> bool:
    """Whether one more change must show in the times of folder and log; they lie in the future where the clock was set back."""
    now = time.time_ns()
    return all(abs(now - changed) > SETTLED_NS for changed in (signature[0], signature[2]))


def _same(before: _Known, after: _Known) -> bool:
    return (before.position, before.status, before.expected_at, before.artifacts, before.labels, before.labels_fault) == (
        after.position, after.status, after.expected_at, after.artifacts, after.labels, after.labels_fault,
    )  # fmt: skip


def _labels(run: RunDir, request: Request) -> tuple[Labels, str]:
    """The run's tags and note; where somebody broke their file, those of its launch, and why."""
    try:
        return read_labels(run), ""
    except (KdError, ValueError) as error:  # ValueError: the folder is just being removed
        return Labels(request.spec.tags, request.spec.note), str(error)


def _grows(name: str) -> bool:
    return name in ("events.jsonl", "worker.log")  # their size would change the database at every line


def _expected(run: RunDir, home: Home, status: RunStatus, before: datetime | None) -> datetime | None:
    left_s = view(run, home).eta_s if status is RunStatus.RUNNING else None
    if left_s is None:
        return None
    expected = datetime.now(UTC).replace(tzinfo=None, microsecond=0) + timedelta(seconds=round(left_s))
    slack_s = max(5.0, ETA_SLACK_FRAC * left_s)
    return before if before and abs((expected - before).total_seconds()) <= slack_s else expected


def _chain(home: Home, request: Request) -> str | None:
    if request.spec.generation == 0 or not request.teacher_run:
        return None
    try:
        teacher = RunDir(home.runs / request.teacher_run).read_request()
    except (KdError, ValueError):
        return request.teacher_run
    return _chain(home, teacher) or request.teacher_run
