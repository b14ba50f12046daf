"""Run folders for the tests of the store, written by the code that writes real ones. Never: torch."""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any

import pytest

from kdengine.events import Ended
from kdengine.home import Home
from kdengine.rundir import RunDir
from kdengine.spec import RunSpec
from tests.store.killing import epoch, started

MakeRun = Callable[..., RunDir]


def write_run(home: Home, *, epochs: int = 3, done: int = 3, end: str | None = "finished", top1: list[float] | None = None,
              networks: tuple[str, ...] = ("student",), teacher_run: str | None = None, **spec: Any) -> RunDir:  # fmt: skip
    """Make a run folder with ``done`` epochs of accuracies ``top1``, ended as ``end`` (None = under way)."""
    run = RunDir.create(home, RunSpec(epochs=epochs, **spec), teacher_run=teacher_run)
    if done or end:
        run.append_event(started(epochs))
    for number in range(1, done + 1):
        accuracy = top1[number - 1] if top1 else 0.5 + number / 100
        run.append_event(epoch(number, epochs=epochs, top1=accuracy, networks=networks))
    if end:
        run.append_event(Ended(how=end, elapsed_s=1.5 * done, reason="" if end == "finished" else "asked for"))  # type: ignore[arg-type]
    return run


@pytest.fixture
def make_run(home: Home) -> MakeRun:
    """Return a maker of run folders: ``make_run(epochs=3, done=3, end="finished", top1=[...], **spec)``."""
    return functools.partial(write_run, home)
