"""Is the store what the run folders say? Compares row by row, and looks for what should not lie about.

Works beside a running app, then on the snapshot: what is under way may be ahead of it. The results database itself, with its
positions, is looked at where no process writes it.

Reads: run folders, the database or its snapshot, backups. Writes: ``verify.json`` (the last result; ``verify`` itself writes
nothing). Never: mends anything; every finding says what does.
"""

from __future__ import annotations

import contextlib
import json
import time
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass, field
from datetime import datetime
from pathlib import Path
from typing import Any

import duckdb

from kdengine import errands
from kdengine.durable import write_aside
from kdengine.errands import Errand, Standing
from kdengine.errors import KdError, Problem
from kdengine.events import EpochEnded, now
from kdengine.home import Home
from kdengine.labels import read as read_labels
from kdengine.rundir import RunDir, run_dirs
from kdengine.status import is_over, status_of
from store import backup, schema
from store.connection import CONFIG
from store.db import hold, holder
from store.ingest import data_version
from store.rows import Row, epoch_rows, term_rows

ERRAND = Errand("verify", ("verify",), module="store")
REBUILD = "stop the app, run `python -m store rebuild`, and start it again"
FRESH_S = 60.0  # what changed in this time may not have been taken in and published yet
LEFT_S = 3600.0  # an aside file of a process at work is younger
LEFTOVERS = (
    ".snapshot.duckdb.new*", ".results.duckdb.new*", "results.spoilt-*", ".new/*", ".removed/*", ".writable-*", "backups/.new-*",
    ".*.json.*", "runs/*/.*.json.*",
)  # fmt: skip
MOST = 20  # findings of one kind that are listed each

Report = Callable[[float, float], None]


@dataclass(frozen=True, slots=True)
class Verified:
    """What was found. ``source``: database or snapshot; ``findings`` empty = sound; ``notes``: what is no fault.

    ``at`` is UTC text; ``runs`` and ``epochs``: how much was compared.
    """

    at: str
    source: str
    runs: int = 0
    epochs: int = 0
    findings: tuple[Problem, ...] = ()
    notes: tuple[str, ...] = ()

    def as_dict(self) -> dict[str, Any]:
        """Plain values for JSON."""
        return {"sound": not self.findings, **asdict(self)}


def verify(home: Home, report: Report = lambda done, total: None) -> Verified:
    """Compare the store with the run folders and return what was found. ``report(done, total)`` is told runs.

    Raises:
        OSError: the home cannot be read.
    """
    lock = hold(home)
    source = home.snapshot if lock is None else home.results
    tally = _Tally(home, beside_app=lock is None)
    try:
        if lock is None:
            tally.notes.append(
                f"{holder(home)} writes the results, so the snapshot was compared; runs under way may be ahead of it"
            )
        if source.exists():
            _compare(source, tally, report)
        elif run_dirs(home):
            tally.say("database", f"{source.name} is missing", "one that holds the runs of this home", "start the app, or run "
                      "`python -m store rebuild`")  # fmt: skip
    finally:
        if lock is not None:
            lock.release()
    _look_at_snapshot(tally)
    _look_for_leftovers(tally)
    _look_at_backups(tally)
    return Verified(
        now(), "snapshot" if lock is None else "database", tally.runs, tally.epochs, tally.listed(), tuple(tally.notes)
    )


def keep(home: Home, found: Verified) -> None:
    """Write the result down for the page that shows it."""
    with contextlib.suppress(OSError):  # a full disk is told by others
        write_aside(_file(home), json.dumps(found.as_dict()).encode(), durable=False)


def start(home: Home) -> bool:
    """Compare in a process of its own; False where that is under way. Raises ``OSError`` where no process can be started."""
    return errands.start(home, ERRAND)


def standing(home: Home) -> Standing:
    """Return how the comparison stands that is under way, or why the last one failed."""
    return errands.standing(home, ERRAND)


def last(home: Home) -> Verified | None:
    """Return the result that was kept last; None where there is none."""
    try:
        said = json.loads(_file(home).read_bytes())
        findings = tuple(Problem(**problem) for problem in said["findings"])
        return Verified(said["at"], said["source"], said["runs"], said["epochs"], findings, tuple(said["notes"]))
    except (OSError, ValueError, KeyError, TypeError):
        return None


def _file(home: Home) -> Path:
    return home.root / "verify.json"


@dataclass(slots=True)
class _Tally:
    home: Home
    beside_app: bool
    found: dict[str, list[Problem]] = field(default_factory=dict)
    notes: list[str] = field(default_factory=list)
    runs: int = 0
    epochs: int = 0
    version: int | None = None  # how often the data of the database that was compared had changed

    def say(self, kind: str, given: str, allowed: str, do: str, which: str = "") -> None:
        """Keep a finding of a kind; ``which`` thing of that kind."""
        self.found.setdefault(kind, []).append(Problem(f"{kind} {which}".strip(), given, allowed, do))

    def listed(self) -> tuple[Problem, ...]:
        """Return the findings; of a kind that is found often, the first ones and how many more there are."""
        shown = []
        for kind, problems in self.found.items():
            shown += problems[:MOST]
            if more := len(problems) - MOST:
                shown += [Problem(kind, f"{more} more like these", "none", problems[-1].do)] if more > 0 else []
        return tuple(shown)


# ---- rows against events -----------------------------------------------------------------------------------------------------


def _compare(source: Path, tally: _Tally, report: Report) -> None:
    try:
        with duckdb.connect(str(source), read_only=True, config=CONFIG) as con:
            if _is_of_this_release(con, tally):
                tally.version = data_version(con)
                _compare_runs(_Rows(con, with_positions=not tally.beside_app), tally, report)
    except duckdb.Error as error:
        why = str(error).strip().splitlines()[0][:200]
        tally.say("database", f"{source.name} does not open, or not to its end ({why})", "a sound database", REBUILD)


def _is_of_this_release(con: duckdb.DuckDBPyConnection, tally: _Tally) -> bool:
    held, ours = schema.version_of(con), len(schema.MIGRATIONS)
    if held != ours:
        do = "start the app once: it brings the database up to date" if held < ours else "update KD Explorer, or " + REBUILD
        tally.say("database", f"schema {held}", f"schema {ours}, as this release writes it", do)
    return held == ours


class _Rows:
    """The rows of one run after the other, from an open database."""

    def __init__(self, con: duckdb.DuckDBPyConnection, with_positions: bool) -> None:
        self._con = con
        self.runs = {row["run_id"]: row for row in self._rows("SELECT run_id, status, bad_lines FROM runs")}
        self.positions: dict[str, int] | None = None
        self.rejects: dict[str, int] = {}
        if with_positions:
            self.positions = {row["run_id"]: row["position"] for row in self._rows("SELECT run_id, position FROM intake.offsets")}
            counted = self._rows("SELECT run_id, count(*) AS n FROM intake.rejects WHERE position >= 0 GROUP BY run_id")
            self.rejects = {row["run_id"]: row["n"] for row in counted}

    def epochs(self, run_id: str) -> dict[tuple[Any, ...], Row]:
        """Return (epoch, network) -> row."""
        return {(row["epoch"], row["network"]): row for row in self._rows("SELECT * FROM epochs WHERE run_id = ?", run_id)}

    def terms(self, run_id: str) -> list[tuple[Any, ...]]:
        """Return (phase, epoch, network, term, value), in order; one that is there twice comes twice."""
        found = self._rows("SELECT * FROM terms WHERE run_id = ?", run_id)
        return sorted((row["phase"], row["epoch"], row["network"], row["term"], str(row["value"])) for row in found)

    def _rows(self, sql: str, *values: Any) -> list[Row]:
        self._con.execute(sql, list(values))
        names = [column[0] for column in self._con.description or ()]
        return [dict(zip(names, row, strict=True)) for row in self._con.fetchall()]


def _compare_runs(rows: _Rows, tally: _Tally, report: Report) -> None:
    there = run_dirs(tally.home)
    behind = 0
    for done, run in enumerate(there):
        report(done, len(there))
        with contextlib.suppress(FileNotFoundError):  # removed meanwhile
            behind += _compare_run(run, rows, tally)
    if behind:
        tally.notes.append(f"{behind} runs have more than was taken in so far; that comes by itself while the app runs")
    for run_id in sorted(rows.runs.keys() - {run.run_id for run in there}):
        do = "it goes by itself when the app runs; if the folder went by mistake: `python -m store restore newest`"
        tally.say("run", "rows without a folder in runs/", "a folder for every run of the database", do, run_id)


def _compare_run(run: RunDir, rows: _Rows, tally: _Tally) -> bool:
    """Compare one run; say whether the store may rightly lack something of it."""
    changed_s = time.time() - max(run.path.stat().st_mtime, run.events_jsonl.stat().st_mtime if run.events_jsonl.exists() else 0)
    fresh = changed_s < FRESH_S
    if not _can_be_read(run, tally):
        return False
    if run.run_id not in rows.runs:
        if not fresh:
            do = "start the app: it takes the run in; if it runs already, " + REBUILD
            tally.say("run", "a folder that the database does not know", "a row for every folder", do, run.run_id)
        return fresh
    events, end, rejects = run.scan_events()
    position = rows.positions.get(run.run_id, 0) if rows.positions is not None else None
    if position is not None and position > end:
        given = f"read up to byte {position} of {end}"
        tally.say("position", given, "a place within events.jsonl, behind a line", _look_into(run), run.run_id)
        return False
    over = is_over(status_of(run, tally.home))
    behind = (not over or fresh) if position is None else position < end
    _compare_rows(run, events, rows, tally, whole=not behind)
    if not behind:
        _compare_row(run, rows, tally, len(rejects), over)
    tally.runs += 1
    return behind


def _can_be_read(run: RunDir, tally: _Tally) -> bool:
    try:
        run.read_request()
    except (KdError, ValueError) as error:
        why = " ".join(str(error).split())[:200]
        do = "put the file back (`python -m store restore` into another home shows it), or remove the folder"
        tally.say("request", f"spec.json cannot be read ({why})", "a request as a release wrote it", do, run.run_id)
        return False
    try:
        read_labels(run)
    except KdError as error:
        tally.say("labels", error.problems[0].given, error.problems[0].allowed, error.problems[0].do, run.run_id)
    return True


def _compare_rows(run: RunDir, events: list[Any], rows: _Rows, tally: _Tally, whole: bool) -> None:
    """``whole``: all events must be there, as they are; else the store may lack some, or have an earlier word for one that a
    resumed worker has said again, but no others."""
    said = [event for event in events if isinstance(event, EpochEnded)]
    # of two words on one epoch the later one counts
    wanted = {(row["epoch"], row["network"]): row for event in said for row in epoch_rows(run.run_id, event)}
    held = rows.epochs(run.run_id)
    tally.epochs += len(held)
    faults = [f"{len(held.keys() - wanted.keys())} epochs that no event tells of"] if held.keys() - wanted.keys() else []
    if whole and wanted.keys() - held.keys():
        faults.append(f"{len(wanted.keys() - held.keys())} of {len(wanted)} epochs are missing")
    other = [key for key in held.keys() & wanted.keys() if not _equal(held[key], wanted[key])]
    if other and whole:
        faults.append(f"{len(other)} epochs have other numbers than their events")
    if faults:
        tally.say("epochs", "; ".join(faults), "a row for each epoch and network of events.jsonl", REBUILD, run.run_id)
    _compare_terms(run, said, rows.terms(run.run_id), tally, whole)


def _compare_terms(run: RunDir, said: list[EpochEnded], held: list[tuple[Any, ...]], tally: _Tally, whole: bool) -> None:
    last = {(event.phase, event.epoch): event for event in said}
    counted = last.values() if whole else said
    wanted = sorted((row["phase"], row["epoch"], row["network"], row["term"], str(float(row["value"])))
                    for event in counted for row in term_rows(run.run_id, event))  # fmt: skip
    if held != wanted if whole else not set(held) <= set(wanted):
        given = f"{len(held)} rows where its events have {len(wanted)}" if len(held) != len(wanted) else "other numbers"
        tally.say("terms", given, "a row for each loss term of events.jsonl", REBUILD, run.run_id)


def _compare_row(run: RunDir, rows: _Rows, tally: _Tally, rejects: int, over: bool) -> None:
    row, status = rows.runs[run.run_id], status_of(run, tally.home).value
    if over and row["status"] != status:
        do = "start the app, or run `python -m store sql 'select 1'`: it looks at all runs; if that does not help, " + REBUILD
        tally.say("status", f"{row['status']} in the database", f"{status}, as its folder says", do, run.run_id)
    noted = rows.rejects.get(run.run_id, 0) if rows.positions is not None else rejects
    if {row["bad_lines"] or 0, noted} != {rejects}:
        given = f"{row['bad_lines'] or 0} lines counted and {noted} noted as unreadable, of {rejects}"
        tally.say("lines", given, "each line of events.jsonl that cannot be read, counted and noted once", REBUILD, run.run_id)
    elif rejects:
        tally.notes.append(f"{run.run_id}: {rejects} lines cannot be read, as after a worker was killed; they are left out")


def _equal(held: Row, wanted: Row) -> bool:
    return all(_same(held.get(name), value) for name, value in wanted.items())


def _same(held: Any, wanted: Any) -> bool:
    if isinstance(wanted, datetime) or held is None or wanted is None or isinstance(wanted, str):
        return bool(held == wanted)
    return bool(held == wanted or (held != held and wanted != wanted))  # not-a-number is equal to itself here


def _look_into(run: RunDir) -> str:
    return (
        f"somebody cut {run.run_id}/events.jsonl: put it back from a backup (`python -m store restore newest` into another home)"
    )


# ---- everything beside the rows ----------------------------------------------------------------------------------------------


def _look_at_snapshot(tally: _Tally) -> None:
    path = tally.home.snapshot
    if not path.exists():
        if tally.home.results.exists() and not tally.beside_app:
            _say_stale(tally, "there is none")
        return
    try:
        with duckdb.connect(str(path), read_only=True, config=CONFIG) as con:
            version = data_version(con)
    except duckdb.Error as error:
        why = str(error).strip().splitlines()[0][:200]
        do = "remove snapshot.duckdb: the app, or any `python -m store sql`, publishes a new one"
        tally.say("snapshot", f"it does not open ({why})", "a sound copy of the results", do)
        return
    if tally.version is not None and not tally.beside_app and version != tally.version:
        _say_stale(tally, f"of change {version} while the database is at {tally.version}")


def _say_stale(tally: _Tally, given: str) -> None:
    do = "start the app, or run `python -m store sql 'select 1'`: both publish"
    tally.say("snapshot", given, "a copy of the newest state", do)


def _look_for_leftovers(tally: _Tally) -> None:
    for path in _leftovers(tally.home):
        do = f"nobody needs it any more: remove {path.relative_to(tally.home.root)}"
        if path.name.startswith("results.spoilt-"):
            do = f"a database that could not be opened, set aside; all runs are in the new one: remove {path.name}"
        with contextlib.suppress(FileNotFoundError):
            if time.time() - path.stat().st_mtime > LEFT_S:
                tally.say("leftover", str(path.relative_to(tally.home.root)), "no files of work that was cut off", do)


def _leftovers(home: Home) -> Iterator[Path]:
    for pattern in LEFTOVERS:
        yield from sorted(home.root.glob(pattern))
    for path in sorted(home.runs.iterdir()):
        if not (path / "spec.json").is_file():
            yield path


def _look_at_backups(tally: _Tally) -> None:
    folder = backup.folder_of(tally.home)
    there = backup.listed(folder)
    for made in there:
        for problem in backup.faults(made):
            tally.say("backup", problem.given, problem.allowed, problem.do, problem.field)
    for path in sorted(set(folder.glob("[!.]*")) - {made.path for made in there}):
        do = f"remove backups/{path.name}"
        tally.say("backup", "a folder without a readable backup.json", "backups as they were made", do, path.name)
