"""Scenes around a disk that is full, of a home that lies on a small one.

Reads / writes: the home of the stage. Starts and kills workers and an ingester; orders exports.
"""

from __future__ import annotations

import contextlib
import os
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

from benchmarks.faults.exports import order
from benchmarks.faults.intake import INTAKE
from benchmarks.faults.stage import (
    REAL,
    ROOT,
    Stage,
    await_true,
    bring_back,
    complaints_of,
    curve,
    epochs_of,
    to_end,
)  # fmt: skip
from benchmarks.faults.workers import small
from kdengine import runner
from kdengine.errors import KdError
from kdengine.rundir import RunDir, find_run
from kdengine.status import RunStatus, is_over, status_of
from store.db import Store
from store.export.race import exports

WIDE = 3  # runs at once


def full_disk(stage: Stage) -> None:
    """The disk fills up in the middle of a real training: the run waits, then ends as if nothing had been"""
    os.environ[runner.WORKER_MODULE] = REAL
    expected = curve(to_end(stage.home, runner.launch(stage.home, small())))
    filler = stage.home.root / "filler"
    with Store.open(stage.home) as store:
        for _ in range(stage.count):
            run = find_run(stage.home, runner.launch(stage.home, small()))
            await_true("an epoch", lambda run=run: bool(epochs_of(run)))
            fill(filler)
            store.take_in()  # must neither raise nor lose anything
            time.sleep(stage.rng.uniform(2, 6))
            store.take_in()
            filler.unlink()
            stage.complaints += complaints_of(to_end(stage.home, run.run_id), stage.home, expected)


def disk_full_at_random(stage: Stage) -> None:
    """The disk fills up at random while runs log, one process takes in and publishes, and exports are drawn; some are killed"""
    stage.may_repeat = True
    stage.home.settings.write_text(f'{{"cpu_slots": {WIDE + 1}}}')
    filler, runs, keys = stage.home.root / "filler", list[RunDir](), list[str]()
    ingester = subprocess.Popen([sys.executable, "-c", INTAKE], cwd=ROOT)
    try:
        for number in range(stage.count):
            while sum(not is_over(status_of(run, stage.home)) for run in runs) < WIDE:
                runs.append(stage.launch(epochs=60, epoch_s=0.03, seed=len(runs)))
            time.sleep(stage.rng.uniform(0, 1.0))
            if stage.rng.random() < 0.5:
                keys.append(exports.ask(stage.home, order(number), "somebody"))
                time.sleep(stage.rng.uniform(0, 1.0))
            runs.append(stage.launch(epochs=20, epoch_s=0.02, seed=len(runs), start=False))  # to be started on a full disk
            fill(filler)
            _work_on_a_full_disk(stage, number, runs, keys)
            filler.unlink()
            if ingester.poll() is not None:
                stage.complain("a full disk ended the process that takes in")
                ingester = subprocess.Popen([sys.executable, "-c", INTAKE], cwd=ROOT)
            for run in runs:
                bring_back(stage.home, run)
        for run in runs:
            to_end(stage.home, run.run_id)
            if status_of(run, stage.home) is not RunStatus.FINISHED or told(run) != sorted(set(told(run))):
                stage.complain(f"{run.run_id} is {status_of(run, stage.home)} with epochs {told(run)}")
        _draw_all(stage, keys)
    finally:
        filler.unlink(missing_ok=True)
        stage.kill("ingester", ingester.pid)
        ingester.wait()


def told(run: RunDir) -> list[int]:
    """Return the epochs in the record; one that is told again after a lost checkpoint counts where it was told last."""
    last = {event.epoch: place for place, event in enumerate(epochs_of(run))}
    return sorted(last, key=lambda epoch: last[epoch])


def _work_on_a_full_disk(stage: Stage, number: int, runs: list[RunDir], keys: list[str]) -> None:
    """Ask for everything that a full disk refuses: each must be refused in words or done, and hold nobody up."""
    before = {run.name for run in stage.home.runs.iterdir()}
    for what, act in (
        ("a launch", lambda: runs.append(stage.launch(epochs=20, epoch_s=0.01, seed=1000 + number))),
        ("moving the queue on", lambda: runner.tick(stage.home)),
        ("an export", lambda: keys.append(exports.ask(stage.home, order(1000 + number), "somebody else"))),
        ("moving the exports on", lambda: exports.tick(stage.home)),
    ):  # fmt: skip
        _refused_or_done(stage, what, act)
    known = {run.run_id for run in runs}
    for name in {run.name for run in stage.home.runs.iterdir()} - before - known:  # placed, and only its start was refused
        runs.append(find_run(stage.home, name))
    time.sleep(stage.rng.uniform(0.1, 2.0))
    going = [run for run in runs if status_of(run, stage.home) is RunStatus.RUNNING and _is_known(run)]
    if going and stage.rng.random() < 0.3:
        stage.kill_worker(stage.rng.choice(going))


def _is_known(run: RunDir) -> bool:
    """Say whether the number of its worker is on disk: a full one may have refused it."""
    return bool(run.attempts()) and run.attempts()[-1].pid is not None


def _refused_or_done(stage: Stage, what: str, act: Callable[[], object]) -> None:
    began = time.monotonic()
    try:
        act()
    except OSError as error:
        if error.errno != 28:
            stage.complain(f"{what} on a full disk: {error!r}")
    except KdError as error:
        if not all(p.given and p.allowed and p.do for p in error.problems):
            stage.complain(f"{what} on a full disk is refused without reason: {error!r}")
    if time.monotonic() - began > 20:
        stage.complain(f"{what} on a full disk takes {time.monotonic() - began:.0f} s")


def _draw_all(stage: Stage, keys: list[str]) -> None:
    """With room again, every export that was asked for can be had."""
    for key in keys:
        wanted = exports.view(stage.home, key).order
        if wanted is not None:
            exports.ask(stage.home, wanted, f"reader of {key}")

            def over(key: str = key) -> bool:
                with contextlib.suppress(OSError):
                    exports.tick(stage.home)
                return exports.view(stage.home, key).state in ("done", "failed")

            await_true("the end of an export", over, 60)
            if exports.view(stage.home, key).state != "done":
                stage.complain(f"export {key}, with room again, is {exports.view(stage.home, key)}")


def fill(file: Path) -> None:
    """Take all the room there is."""
    with file.open("wb", buffering=0) as out:
        for size in (1 << 20, 1 << 12, 1):
            with contextlib.suppress(OSError):
                while True:
                    out.write(b"\0" * size)
