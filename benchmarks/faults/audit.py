"""After a scene: bring everything to its end, then compare what was acknowledged, the record, the results and a rebuild.

Reads: the home, the ledger. Writes: the home, as the app would: it moves queues on, resumes lost runs, takes in, rebuilds.
"""

from __future__ import annotations

import contextlib
import subprocess
import time
from collections import Counter
from pathlib import Path

import pandas as pd

from benchmarks.faults.stage import Stage, epochs_of
from kdengine import runner
from kdengine.errors import RunBusy
from kdengine.rundir import RunDir, run_dirs
from kdengine.status import RunStatus, is_over, status_of
from store.db import Store
from store.export.race import exports, shelf
from store.rebuild import rebuild

SETTLED_S = 180.0
KEPT = shelf.FILES | {shelf.ORDER, shelf.ABOUT, shelf.POSTER}
ROWS = "SELECT run_id, epoch, network, count(*) AS n FROM epochs GROUP BY ALL"
TERMS = "SELECT run_id, phase, epoch, network, term, count(*) AS n FROM terms GROUP BY ALL"
ALL = """SELECT 'epoch' AS kind, run_id, epoch, network, images_seen AS number, test_top1_frac AS value FROM epochs
    UNION ALL SELECT 'term', run_id, epoch, network || ' ' || term, 0, value FROM terms
    UNION ALL SELECT 'run', run_id, epoch, status, images_seen, 0 FROM runs ORDER BY ALL"""


def audit(stage: Stage) -> None:
    """Make up the account of a scene that has been played."""
    _runs(stage)
    _exports(stage)
    _record(stage)
    _results(stage)


# ---- do they end ----------------------------------------------------------------------------------------------------------


def _runs(stage: Stage) -> None:
    """Move the queue on and resume what is lost until every run is over; what is not then, is stuck."""
    home, until, tries = stage.home, time.monotonic() + SETTLED_S, Counter[str]()
    while (open_runs := _unsettled(stage)) and time.monotonic() < until:
        for run in open_runs:
            if status_of(run, home) is RunStatus.LOST and tries[run.run_id] < 3:
                tries[run.run_id] += 1
                with contextlib.suppress(RunBusy):
                    runner.resume(home, run.run_id)
        with contextlib.suppress(RunBusy):
            runner.tick(home)
        time.sleep(0.05)
    stage.account.runs += len(run_dirs(home))
    for run in _unsettled(stage):
        stage.account.runs_stuck += 1
        stage.complain(f"{run.run_id} is stuck: {status_of(run, home)}")


def _unsettled(stage: Stage) -> list[RunDir]:
    status = ((run, status_of(run, stage.home)) for run in run_dirs(stage.home))
    return [run for run, how in status if not is_over(how) or how is RunStatus.LOST]


def _exports(stage: Stage) -> None:
    """Move the queue of exports on until each is done or has failed with a reason; look for halves."""
    home, until = stage.home, time.monotonic() + SETTLED_S
    while _waiting(stage) and time.monotonic() < until:
        with contextlib.suppress(RunBusy):
            exports.tick(home)
        time.sleep(0.05)
    with shelf.queue(home):
        shelf.tidy(home)
    stuck = _waiting(stage)
    stage.account.exports_stuck += len(stuck)
    stage.complaints += [f"export {key} is stuck: {exports.view(home, key).state}" for key in stuck]
    for folder in shelf.folders(home):
        stage.account.exports += 1
        for fault in _halves(stage, folder):
            stage.account.halves += 1
            stage.complain(f"export {folder.name}: {fault}")


def _waiting(stage: Stage) -> list[str]:
    states = {folder.name: exports.view(stage.home, folder.name) for folder in shelf.folders(stage.home)}
    return [key for key, export in states.items() if export.state in ("waiting", "drawing", "absent")]


def _halves(stage: Stage, folder: Path) -> list[str]:
    export = exports.view(stage.home, folder.name)
    found = [f"leftover {path.name}" for path in folder.iterdir() if path.name not in KEPT]
    if export.state == "failed" and not all(p.given and p.allowed and p.do for p in export.problems):
        found.append("failed without a reason")
    if export.state == "failed" and shelf.file_of(folder):
        found.append("failed, and there is a file")
    if export.state == "done" and (fault := _unreadable(export)):
        found.append(fault)
    return found


def _unreadable(export: exports.Export) -> str:
    """Return what is wrong with a file that was made: it must decode to the end and have all its frames."""
    assert export.file is not None and export.about is not None
    if export.file.suffix != ".mp4":
        from PIL import Image

        with Image.open(export.file) as picture:
            frames = getattr(picture, "n_frames", 1)
            picture.seek(frames - 1)
            picture.load()
            return "" if export.file.stat().st_size == export.about.bytes else "another size than was noted"
    from store.export.race.encode import ffmpeg_exe

    argv = [str(ffmpeg_exe()), "-v", "error", "-i", str(export.file), "-map", "0:v", "-progress", "-", "-f", "null", "-"]
    done = subprocess.run(argv, capture_output=True, text=True, check=False)
    frames = max((int(line[6:]) for line in done.stdout.splitlines() if line.startswith("frame=")), default=0)
    if done.returncode or done.stderr.strip():
        return f"does not decode: {done.stderr.strip()[:200]}"
    return "" if frames == export.about.frames else f"{frames} of {export.about.frames} frames"


# ---- is all of it there ---------------------------------------------------------------------------------------------------


def _record(stage: Stage) -> None:
    """Compare what was acknowledged with the event logs."""
    told = stage.acknowledged()
    for run in run_dirs(stage.home):
        logged = Counter((event.phase, event.epoch) for event in epochs_of(run))
        known = {(t.phase, t.epoch) for t in told.get(run.run_id, [])}
        stage.account.acknowledged += len(known)
        if missing := known - logged.keys():
            stage.account.lost += len(missing)
            stage.complain(f"{run.run_id}: acknowledged, not in the record: {sorted(missing)[:3]} and so on, {len(missing)}")
        twice = [place for place, n in logged.items() if n > 1]
        stage.account.repeated += len(twice)
        if twice and not stage.may_repeat:
            stage.complain(f"{run.run_id}: twice in the record: {twice[:3]}")


def _results(stage: Stage) -> None:
    """Compare the record with the results, and the results with what a rebuild makes of the record."""
    with Store.open(stage.home) as store:
        _await_rows(store)
        if store.role != "writer" or store.notice:
            stage.complain(f"the store is a {store.role}: {store.notice}")
        rows, terms, before = store.frame(ROWS), store.frame(TERMS), store.frame(ALL)
    for frame, what in ((rows, "rows"), (terms, "terms")):
        doubled = frame[frame["n"] > 1]
        stage.account.doubled += len(doubled)
        stage.complaints += [f"doubled {what}: {doubled.head(3).values.tolist()}"] * bool(len(doubled))
    _compare_rows(stage, rows)
    rebuild(stage.home)
    stage.snapshot_epochs()
    with Store.open(stage.home) as store:
        after = store.frame(ALL)
    if not before.equals(after):
        changed = len(pd.concat([before, after]).drop_duplicates(keep=False))
        stage.account.differences += changed
        stage.complain(f"a rebuild changes {changed} of {len(before)} rows")


def _await_rows(store: Store) -> None:
    """Take in until nothing more comes; after a full disk the store waits a little before it tries again."""
    until = time.monotonic() + 90
    version = -1
    while (store.take_in() != version or store.notice) and time.monotonic() < until:
        version = store.data_version
        time.sleep(0.2 if store.notice else 0.0)


def _compare_rows(stage: Stage, rows: pd.DataFrame) -> None:
    have = set(zip(rows["run_id"], rows["epoch"], rows["network"], strict=True))
    want = {
        (run.run_id, event.epoch, network)
        for run in run_dirs(stage.home)
        for event in epochs_of(run)
        for network in event.measures
    }
    if missing := want - have:
        stage.account.lost += len(missing)
        stage.complain(f"in the record, not in the results: {sorted(missing)[:3]} and so on, {len(missing)}")
    if surplus := have - want:
        stage.account.differences += len(surplus)
        stage.complain(f"in the results, not in the record: {sorted(surplus)[:3]} and so on, {len(surplus)}")
