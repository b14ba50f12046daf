"""What the contract's tests share: a fake worker in the place of the real one, specs that tell it what to do, patience."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from kdengine.home import Home
from kdengine.rundir import RunDir, run_dirs
from kdengine.spec import RunSpec
from kdengine.status import RunStatus, is_locked, status_of


@pytest.fixture
def fake_worker(home: Home, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Make every worker a fake one; whoever is left at the end is killed."""
    monkeypatch.setenv("KD_WORKER_MODULE", "fake_worker")
    monkeypatch.setenv("PYTHONPATH", str(Path(__file__).parent))
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "")
    home.settings.write_text('{"cpu_slots": 1}')
    yield
    home.settings.write_text('{"cpu_slots": 1}')
    for run in run_dirs(home):
        for attempt in run.attempts():
            if attempt.pid and is_locked(run):
                with contextlib.suppress(ProcessLookupError):  # an earlier attempt, or one that is just leaving
                    os.kill(attempt.pid, signal.SIGKILL)


@pytest.fixture
def spec() -> Callable[..., RunSpec]:
    """Return a maker of specs: fields of the spec, and under ``plan`` what the fake worker does."""

    def make(plan: dict[str, Any] | None = None, **fields: Any) -> RunSpec:
        return RunSpec(**{"epochs": 2, "note": json.dumps(plan or {})} | fields)

    return make


@pytest.fixture
def until() -> Callable[..., None]:
    """Return a patient assertion: the condition becomes true within some seconds."""

    def wait(condition: Callable[[], Any], patience_s: float = 10.0) -> None:
        end = time.monotonic() + patience_s
        while not condition():
            assert time.monotonic() < end, "it did not come true in time"
            time.sleep(0.01)

    return wait


@pytest.fixture
def becomes(home: Home, until: Callable[..., None]) -> Callable[[str, str], RunDir]:
    """Return a patient assertion about the status of a run; gives back its folder."""

    def wait(run_id: str, status: str) -> RunDir:
        run = RunDir(home.runs / run_id)
        until(lambda: status_of(run, home) is RunStatus(status))
        return run

    return wait
