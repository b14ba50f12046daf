"""Status as people and programs see it: queue places, time left, and that a look costs next to nothing."""

from __future__ import annotations

import json
import os
import time
from collections.abc import Callable

import pytest

from kdengine.events import Ended, EpochEnded, Measures
from kdengine.home import Home
from kdengine.rundir import Attempt, RunDir
from kdengine.spec import RunSpec
from kdengine.status import RunStatus, boot_id, is_locked, is_over, status_of, take_lock, view, views

Spec = Callable[..., RunSpec]


def epoch(n: int, phase: str = "main", epochs: int = 4) -> EpochEnded:
    measures = {"student": Measures(test_top1_frac=n / 10)}
    return EpochEnded(
        phase=phase, epoch=n, epochs=epochs, images_seen=n, elapsed_s=2.0 * n, epoch_s=2.0, images_per_s=10, lr=0.1,
        measures=measures,
    )  # fmt: skip


@pytest.fixture
def running(home: Home, spec: Spec) -> RunDir:
    """A run whose lock this test holds until it ends, by a descriptor that closes with the process or the fixture."""
    run = RunDir.create(home, spec(epochs=4, batch_size=10))
    run.write_attempt(Attempt(1, 1, "here", boot_id(), "t", "cpu"))
    assert take_lock(run) is not None
    return run


def test_a_full_disk_leaves_no_lock_that_nobody_frees(home: Home, spec: Spec, monkeypatch: pytest.MonkeyPatch) -> None:
    run = RunDir.create(home, spec())

    def full(*_: object) -> int:
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as disk:
        disk.setattr(os, "pwrite", full)  # the words about the holder cannot be written
        handle = take_lock(run)
    assert handle is not None and is_locked(run)
    os.close(handle)
    assert not is_locked(run)


def test_over_means_nothing_more_happens_by_itself() -> None:
    assert [s.value for s in RunStatus if not is_over(s)] == ["queued", "waiting", "running"]


def test_time_left_follows_the_last_epoch_and_the_steps_under_way(home: Home, running: RunDir) -> None:
    assert view(running, home).eta_s is None
    running.write_progress({"phase": "main", "epoch": 1, "epochs": 4, "step": 5, "steps": 10, "images_per_s": 50.0})
    assert view(running, home).eta_s == pytest.approx(3.5 * 2)
    running.append_event(epoch(1))
    assert view(running, home).eta_s == pytest.approx(3 * 2), "progress of an epoch that is over does not count"
    running.write_progress({"phase": "main", "epoch": 2, "epochs": 4, "step": 5, "steps": 10})
    shown = view(running, home)
    assert shown.eta_s == pytest.approx(2.5 * 2) and shown.done_epochs == 1.5 and shown.top1_frac == 0.1


def test_time_left_in_an_earlier_phase_counts_main_too(home: Home, running: RunDir) -> None:
    running.append_event(epoch(1, "paraphraser", epochs=3))
    shown = view(running, home)
    assert shown.eta_s == pytest.approx((2 + 4) * 2) and shown.done_epochs == 0


def test_last_word_counts_even_while_the_worker_leaves(home: Home, running: RunDir) -> None:
    assert status_of(running, home) is RunStatus.RUNNING
    running.append_event(Ended(how="failed", reason="why"))
    assert status_of(running, home) is RunStatus.FAILED and view(running, home).reason == "why"
    running.write_attempt(Attempt(2, 1, "here", boot_id(), "t", "cpu", events_bytes=running.events_bytes()))
    assert status_of(running, home) is RunStatus.RUNNING, "a newer attempt that has not spoken yet"


def test_views_are_oldest_first_with_places(home: Home, spec: Spec) -> None:
    names = [RunDir.create(home, spec(method=m)).run_id for m in ("zz", "aa", "mm")]
    RunDir(home.runs / names[0]).append_event(Ended(how="cancelled"))
    shown = views(home)
    assert [v.run_id for v in shown] == names and [v.position for v in shown] == [None, 1, 2]
    assert view(RunDir(home.runs / names[2]), home).position == 2


def test_views_are_plain_json_even_when_a_request_is_broken(home: Home, spec: Spec) -> None:
    RunDir.create(home, spec()).spec_json.write_text("{")
    RunDir.create(home, spec())
    shown = json.loads(json.dumps([v.as_dict() for v in views(home)]))
    assert [v["spec"] is None for v in shown] == [True, False]
    assert {"run_id", "status", "epoch", "epochs", "test_top1_frac", "eta_s", "position", "reason"} <= shown[1].keys()


@pytest.mark.parametrize("away_ns", [10**10, -(10**10)], ids=["later", "after the clock was set back"])
def test_runs_that_are_over_cost_next_to_nothing_to_look_at(
    home: Home, spec: Spec, monkeypatch: pytest.MonkeyPatch, away_ns: int
) -> None:
    run = RunDir.create(home, spec())
    run.append_event(Ended(how="finished"))
    later = time.time_ns() + away_ns
    monkeypatch.setattr("kdengine.status.time.time_ns", lambda: later)
    assert status_of(run, home) is RunStatus.FINISHED
    monkeypatch.setattr(RunDir, "last_event", lambda *_: pytest.fail("it was read again"))
    assert status_of(run, home) is RunStatus.FINISHED
    monkeypatch.undo()
    run.write_resume_ask()
    assert status_of(run, home) is RunStatus.QUEUED, "and a change is still seen"
