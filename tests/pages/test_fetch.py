"""Answers for pages: asked once for a state of what they are about, and anew when that has changed."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator

import pytest

from kdengine import runner
from kdengine.home import Home
from kdengine.rundir import RunDir
from kdengine.spec import RunSpec
from pages.parts import fetch, pulse
from pages.parts.compare import findings
from store import queries
from tests.pages.seed import Seeded
from tests.store.killing import epoch, started

QUESTIONS = ("mean_curves", "curves", "results", "leaderboard", "counts")


@pytest.fixture
def asked(home: Home, monkeypatch: pytest.MonkeyPatch) -> Iterator[Counter[str]]:
    """Count how often the store is asked."""
    monkeypatch.setattr(runner, "tick", lambda home: [])
    count: Counter[str] = Counter()
    for name in QUESTIONS:

        def counting(*args: object, _truth: object = getattr(queries, name), _name: str = name, **more: object) -> object:
            count[_name] += 1
            return _truth(*args, **more)  # type: ignore[operator]

        monkeypatch.setattr(queries, name, counting)
    yield count
    pulse.close_all()


def ask_all(ids: tuple[str, ...]) -> None:
    """Ask what the compare page and home ask of runs."""
    fetch.mean_curves(ids, "test_top1_frac", "epoch")
    fetch.ask("curves", ids, "test_top1_frac", "epoch")
    fetch.ask("results", ids)
    fetch.ask("leaderboard", ids=ids, over=False)
    findings.of("stats.ranking", ids, "best")
    fetch.counts()


def test_answers_about_some_runs_are_kept_while_others_train(home: Home, seeded: Seeded, asked: Counter[str]) -> None:
    run = RunDir.create(home, RunSpec(epochs=9))
    run.append_event(started(epochs=9))
    done, both = tuple(seeded.finished[:3]), (*seeded.finished[:3], run.run_id)
    store = pulse.of().store
    ask_all(done)
    first = asked.copy()
    version = store.take_in()
    run.append_event(epoch(1, epochs=9))
    assert store.take_in() > version
    ask_all(done)
    assert {name for name in QUESTIONS if asked[name] > first[name]} == {"counts"}, "only what is about all runs"
    ask_all(both)
    mean = fetch.mean_curves(both, "test_top1_frac", "epoch")
    run.append_event(epoch(2, epochs=9))
    store.take_in()
    later = fetch.mean_curves(both, "test_top1_frac", "epoch")
    assert len(later) == len(mean) + 1 or later["n"].sum() == mean["n"].sum() + 1
