"""Scenes around workers: killed at any moment, mute, started by several at once.

Reads / writes: the home of the stage. Starts and kills workers.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time

from benchmarks.faults.stage import (
    REAL,
    ROOT,
    SWIFT,
    Stage,
    await_true,
    bring_back,
    complaints_of,
    curve,
    to_end,
    worker_pid,
)  # fmt: skip
from benchmarks.faults.swift_worker import formula
from kdengine import runner
from kdengine.rundir import RunDir, find_run
from kdengine.spec import RunSpec
from kdengine.status import RunStatus, is_over, status_of
from store.db import Store

EPOCHS = 4  # of a real training
SWIFT_EPOCHS, SWIFT_EPOCH_S = 40, 0.02
WIDE = 4  # runs at once
TICK = "from kdengine import runner; from kdengine.home import Home; runner.tick(Home.find())"


def small(method: str = "base", **fields: object) -> RunSpec:
    """Return a real training of a few seconds, complete."""
    from kdengine import check  # loads torch, which most scenes do without

    common: dict[str, object] = {
        "dataset": "digits",
        "student": "resnet8",
        "train_images": 200,
        "epochs": EPOCHS,
        "device": "cpu",
    }
    return check.resolve(RunSpec(**(common | fields), method=method))


def worker_killed(stage: Stage) -> None:
    """Kill -9 of workers (a formula trains) at random moments, from their first instant on, up to many times each, then resume"""
    stage.home.settings.write_text(f'{{"cpu_slots": {WIDE}}}')
    runs: list[RunDir] = []
    kills = 0
    with Store.open(stage.home, publish_every_s=0.5) as store:
        while kills < stage.count:
            going = [run for run in runs if not is_over(status_of(run, stage.home))]
            if len(going) < WIDE:
                runs.append(stage.launch(epochs=SWIFT_EPOCHS, epoch_s=SWIFT_EPOCH_S, seed=len(runs)))
                continue
            time.sleep(stage.rng.uniform(0, 0.35))
            store.take_in()
            run = stage.rng.choice(going)
            if run.attempts() and stage.kill_worker(run):
                kills += 1
                status = bring_back(stage.home, run)
                if status not in (RunStatus.LOST, RunStatus.FINISHED):  # finished: it had spoken its last word
                    stage.complain(f"{run.run_id} was killed and is {status}, not lost")
    for run in runs:
        ended = to_end(stage.home, run.run_id)
        stage.complaints += complaints_of(ended, stage.home, formula_of(ended))


def formula_of(run: RunDir) -> list[str]:
    """Return the curve that a run of the formula must have."""
    spec, kept = run.read_request().spec, {"phase", "epoch", "lr", "images_seen", "measures", "terms"}
    events = (formula(spec, epoch) for epoch in range(1, spec.epochs + 1))
    return [json.dumps(event.model_dump(include=kept), sort_keys=True) for event in events]


def training_killed(stage: Stage) -> None:
    """Kill -9 of real trainings at random moments, sometimes twice, then resume; the curve equals the undisturbed one"""
    os.environ[runner.WORKER_MODULE] = REAL
    specs = [small("base"), small("kd", teacher="resnet8", teacher_epochs=2), small("dml", peers=("resnet8",))]
    specs = specs[: max(1, min(len(specs), stage.count))]
    expected, seconds = [], []
    for spec in specs:
        began = time.monotonic()
        expected.append(curve(to_end(stage.home, runner.launch(stage.home, spec))))
        seconds.append(time.monotonic() - began)
    kills = number = 0
    while kills < stage.count:
        which = number % len(specs)
        number += 1
        run = find_run(stage.home, runner.launch(stage.home, specs[which]))
        for _ in range(stage.rng.choice((1, 1, 2))):
            worker_pid(run)
            time.sleep(stage.rng.uniform(0.0, seconds[which]))
            if is_over(status_of(run, stage.home)):
                break
            kills += stage.kill_worker(run, "real training")
            if bring_back(stage.home, run) is RunStatus.FINISHED:  # it was killed after its last word
                break
        stage.complaints += complaints_of(to_end(stage.home, run.run_id), stage.home, expected[which])


def died_before_first_line(stage: Stage) -> None:
    """A worker that ends without a word makes the run lost, not queued; resumed, it finishes"""
    for number in range(stage.count):
        os.environ[runner.WORKER_MODULE] = "platform"  # prints the system's name and ends
        run = stage.launch(epochs=3, epoch_s=0.01, seed=number)
        await_true("the end of a mute worker", lambda run=run: is_over(status_of(run, stage.home)))
        os.environ[runner.WORKER_MODULE] = SWIFT
        if status_of(run, stage.home) is not RunStatus.LOST:
            stage.complain(f"{run.run_id} is {status_of(run, stage.home)}, not lost")
        runner.resume(stage.home, run.run_id)
        stage.complaints += complaints_of(to_end(stage.home, run.run_id), stage.home, formula_of(run))


def two_ticks(stage: Stage) -> None:
    """Four processes move the queue on at the same moment: one place, so exactly one of three runs starts, once"""
    stage.home.settings.write_text('{"cpu_slots": 1}')
    for _ in range(stage.count):
        runs = [stage.launch(epochs=2000, epoch_s=0.1, seed=seed, start=False) for seed in range(3)]
        ticks = [subprocess.Popen([sys.executable, "-c", TICK], cwd=ROOT) for _ in range(4)]
        codes = [tick.wait(60) for tick in ticks]
        if any(codes):
            stage.complain(f"ticks ended with {codes}")
        attempts = [len(run.attempts()) for run in runs]
        if attempts != [1, 0, 0]:
            stage.complain(f"attempts of three queued runs after four ticks: {attempts}")
        for run in reversed(runs):
            runner.cancel(stage.home, run.run_id)
        if any(status_of(run, stage.home) is not RunStatus.CANCELLED for run in runs):
            stage.complain("a cancelled run is not cancelled")
