"""Scenes around clocks: somebody sets the wall clock, by days and in both directions, while everything works.

No clock of the machine is touched: a small library, compiled here and preloaded into what the scene starts, adds a number of
seconds that the scene changes. Files keep the true time, so they lie days in the past or in the future of those who look at them.

Reads / writes: the home of the stage. Starts and kills workers, a server, exports.
"""

from __future__ import annotations

import mmap
import os
import shutil
import struct
import subprocess
import time
from datetime import UTC, datetime, timedelta
from pathlib import Path

import duckdb

from benchmarks.faults.exports import order
from benchmarks.faults.servers import Watch
from benchmarks.faults.stage import NotHere, Stage, await_true, bring_back, complaints_of
from benchmarks.faults.workers import formula_of
from kdengine import errands
from kdengine.rundir import RunDir
from kdengine.status import RunStatus, is_over, status_of
from store.export.race import exports, shelf

SOURCE = Path(__file__).with_name("wall_clock.c")
EPOCHS_EACH, MOST_EPOCHS, EPOCH_S = 40, 120, 0.05
SANE_S = 60.0  # more than anything in this scene takes, less than any jump
JUMPS_S = (-864_000, -90_000, -3_700, -61, 61, 3_700, 90_000, 864_000)


class Clock:
    """The wall clock of everything that this process starts from now on. ``away_s``: seconds away from the true one.

    Raises:
        NotHere: there is no compiler.
    """

    def __init__(self, folder: Path) -> None:
        compiler = shutil.which("cc") or shutil.which("gcc")
        if compiler is None:
            raise NotHere("needs a C compiler, for a clock that can be set")
        library, file = folder / "wall_clock.so", folder / "wall_clock"
        subprocess.run([compiler, "-shared", "-fPIC", "-O1", "-o", str(library), str(SOURCE)], check=True, capture_output=True)
        file.write_bytes(bytes(8))
        with file.open("r+b") as opened:
            self._page = mmap.mmap(opened.fileno(), 8)
        self.away_s = 0
        os.environ |= {"LD_PRELOAD": str(library), "KD_WALL_CLOCK": str(file)}

    def jump(self, by_s: int) -> None:
        """Set the clock forwards or backwards."""
        self.away_s += by_s
        self._page[:] = struct.pack("=q", self.away_s)

    def now(self) -> datetime:
        """Return what the clock says, UTC without a zone, as the results hold times."""
        return datetime.now(UTC).replace(tzinfo=None) + timedelta(seconds=self.away_s)


def clock_jumps(stage: Stage) -> None:
    """The wall clock jumps by a minute to ten days, either way, while a server, runs and exports work; some are killed"""
    clock, runs, keys = Clock(stage.aside), list[RunDir](), list[str]()
    _keep_busy(stage, runs)
    with Watch(stage, "run", f"run={runs[0].run_id}") as watch:
        for number in range(stage.count):
            _keep_busy(stage, runs)
            keys.append(exports.ask(stage.home, order(number), "somebody"))
            time.sleep(stage.rng.uniform(0, 1.5))
            clock.jump(stage.rng.choice(JUMPS_S))
            time.sleep(stage.rng.uniform(0, 1.0))
            _sane_errands(stage, keys)
            if stage.rng.random() < 0.3:
                _kill_one(stage, runs)
            _published(stage)
            _sane_expectation(stage, clock)
            if not watch.click():
                stage.complain(f"{clock.away_s} s away, the server does not draw its page")
        for run in runs:
            await_true("the end of a run", lambda run=run: is_over(status_of(run, stage.home)))
            stage.complaints += complaints_of(run, stage.home, formula_of(run))
        for key in keys:
            await_true("the end of an export", lambda key=key: exports.view(stage.home, key).state in ("done", "failed"), 60)
            if exports.view(stage.home, key).state != "done":
                stage.complain(f"export {key} is {exports.view(stage.home, key)}")


def _keep_busy(stage: Stage, runs: list[RunDir]) -> None:
    stage.home.settings.write_text('{"cpu_slots": 2}')
    while sum(not is_over(status_of(run, stage.home)) for run in runs) < 2:
        epochs = min(MOST_EPOCHS, EPOCHS_EACH * stage.count)
        runs.append(stage.launch(epochs=epochs, epoch_s=EPOCH_S, seed=len(runs), start=False))


def _kill_one(stage: Stage, runs: list[RunDir]) -> None:
    going = [run for run in runs if status_of(run, stage.home) is RunStatus.RUNNING]
    if going and stage.kill_worker(going[0]):
        bring_back(stage.home, going[0])


def _published(stage: Stage) -> None:
    """Publishing goes on, whatever the clock says."""
    before = stage.home.snapshot.stat().st_ino
    try:
        await_true("the next snapshot", lambda: stage.home.snapshot.stat().st_ino != before, 20)
    except TimeoutError:
        stage.complain("nothing is published any more after the clock was set")
    stage.snapshot_epochs()


def _sane_expectation(stage: Stage, clock: Clock) -> None:
    """A run under way is expected to end soon, not in days and not days ago."""

    def wrong() -> list[str]:
        with duckdb.connect(str(stage.home.snapshot), read_only=True) as con:
            sql = "SELECT run_id, expected_at FROM runs WHERE status = 'running' AND expected_at IS NOT NULL"
            rows = con.execute(sql).fetchall()
        return [f"{run_id} at {at}" for run_id, at in rows if abs((at - clock.now()).total_seconds()) > SANE_S]

    try:
        await_true("sane expectations", lambda: not wrong(), 20)
    except TimeoutError:
        stage.complain(f"it is {clock.now()}, and these are expected: {wrong()}")


def _sane_errands(stage: Stage, keys: list[str]) -> None:
    for key in keys:
        standing = errands.standing(stage.home, shelf.errand(stage.home, key))
        if not 0 <= standing.step_s <= SANE_S:
            stage.complain(f"a step of an export that has just begun takes {standing.step_s:.0f} s")
