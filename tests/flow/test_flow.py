"""The whole way with real workers: command line, queue, training, results, figure; once per kind of method."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time

import pytest

from kdengine import runner
from kdengine.events import EpochEnded
from kdengine.rundir import find_run, run_dirs
from kdengine.spec import RunSpec
from kdengine.status import RunStatus, status_of

pytestmark = [pytest.mark.slow, pytest.mark.timeout(300)]

SMALL = (
    "--dataset",
    "digits",
    "--student",
    "resnet8",
    "--train-images",
    "64",
    "--image-size",
    "16",
    "--epochs",
    "2",
    "--seed",
    "1",
)
TEACHER = ("--teacher", "resnet14", "--teacher-epochs", "1")


def kd(*words: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run([sys.executable, "-m", "kdengine", *words], capture_output=True, text=True, timeout=240)


def sql(query: str) -> list[dict[str, object]]:
    done = subprocess.run(
        [sys.executable, "-m", "store", "sql", query, "--format", "json"], capture_output=True, text=True, timeout=60
    )
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


def curve(run):
    return [(e.phase, e.epoch, e.lr, e.measures, e.terms) for e in run.read_events()[0] if isinstance(e, EpochEnded)]


@pytest.mark.parametrize(
    ("words", "runs", "networks"),
    [
        (("--method", "kd", *TEACHER), 2, {"student"}),
        (("--method", "dml", "--peer", "resnet14"), 1, {"student", "peer1"}),
        (("--method", "ft", *TEACHER, "--set", "paraphraser_epochs=1"), 2, {"student"}),
        (("--method", "ban", "--generation", "2"), 3, {"student", "ensemble"}),
    ],
    ids=["teacher", "online", "phases", "chain"],
)
def test_a_run_goes_from_the_command_line_to_the_database(home, words, runs, networks):
    done = kd("run", *SMALL, *words)
    assert done.returncode == 0, done.stdout + done.stderr
    rows = sql("select run_id, method, status, epochs, train_images, student, teacher, generation from runs order by started_at")
    assert len(rows) == runs and {r["status"] for r in rows} == {"finished"}
    asked = rows[-1]
    assert (asked["method"], asked["epochs"], asked["train_images"], asked["student"]) == (words[1], 2, 64, "resnet8")
    found = sql(f"select network, epoch, test_top1_frac from epochs where run_id = '{asked['run_id']}'")
    assert {r["network"] for r in found} == networks and {r["epoch"] for r in found} == {1, 2}
    assert all(0 <= r["test_top1_frac"] <= 1 for r in found)
    status = json.loads(kd("status", "--json").stdout)
    assert [s["status"] for s in status] == ["finished"] * runs


def test_a_run_that_cannot_be_trained_says_all_reasons_and_starts_nothing(home):
    done = kd("run", *SMALL, "--method", "kd", "--student", "resnet9", "--batch-size", "100")
    assert done.returncode == 2
    text = " ".join((done.stdout + done.stderr).split())
    for word in ("resnet9", "teacher", "batch_size"):
        assert word in text
    assert "Traceback" not in text
    assert run_dirs(home) == []


def test_a_killed_worker_goes_on_where_it_was_and_ends_with_the_same_curve(home):
    spec = RunSpec(train_images=128, image_size=16, epochs=6, batch_size=16, precision="fp32", seed=2)
    whole = find_run(home, runner.launch(home, spec))
    list(runner.follow(home, whole.run_id))
    assert status_of(whole, home) is RunStatus.FINISHED
    cut = find_run(home, runner.launch(home, spec))
    deadline = time.monotonic() + 120
    while len(curve(cut)) < 2 and time.monotonic() < deadline:
        time.sleep(0.02)
    os.killpg(cut.attempts()[-1].pid, signal.SIGKILL)
    while status_of(cut, home) is not RunStatus.LOST and time.monotonic() < deadline:
        time.sleep(0.05)
    assert status_of(cut, home) is RunStatus.LOST
    runner.resume(home, cut.run_id)
    list(runner.follow(home, cut.run_id))
    assert status_of(cut, home) is RunStatus.FINISHED
    assert curve(cut) == curve(whole)


def test_a_run_is_stopped_on_request_between_two_steps(home):
    run = find_run(home, runner.launch(home, RunSpec(epochs=1000, train_images=64, image_size=16)))
    deadline = time.monotonic() + 120
    while not curve(run) and time.monotonic() < deadline:
        time.sleep(0.02)
    began = time.monotonic()
    runner.cancel(home, run.run_id)
    assert status_of(run, home) is RunStatus.CANCELLED
    assert run.last_event().reason == "stopped on request"
    assert time.monotonic() - began < 10


def test_a_lab_run_ends_in_a_figure(home):
    from pages.parts import charts
    from store import queries
    from store.db import Store

    done = kd("run", *SMALL, "--method", "base", "--suite", "lab")
    assert done.returncode == 0, done.stderr
    store = Store.open(home)
    try:
        store.take_in()
        ids = list(queries.runs(store, suite="lab")["run_id"])
        frame = queries.mean_curves(store, ids, "test_top1_frac", "epoch")
        figure = charts.mean_curves(frame, metric="test_top1_frac")
    finally:
        store.close()
    assert len(frame) == 2
    assert figure.data
