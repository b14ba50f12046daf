"""The queue of free SQL: who is next, what is kept, that nothing is left behind, that no child ever runs app.py."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator

import psutil
import pytest

from kdengine.home import Home
from store.db import Store
from store.questions import Question, Questions
from tests.store.conftest import MakeRun

LONG = "select count(*) from range(100000000000) a, range(10000000) b"


@pytest.fixture
def asked(home: Home, make_run: MakeRun) -> Iterator[Questions]:
    """The questions of an app with one run, published."""
    make_run()
    with Store.open(home) as store:
        store.take_in()
    questions = Questions(home)
    yield questions
    questions.close()


def until(questions: Questions, key: str, enough: Callable[[Question], bool] = lambda seen: seen.over) -> Question:
    """Look until ``enough``."""
    end = time.monotonic() + 60
    while not enough(seen := questions.look(key)):
        assert time.monotonic() < end, seen
        time.sleep(0.02)
    return seen


def children() -> list[psutil.Process]:
    return [child for child in psutil.Process().children(recursive=True) if "sandbox_child" in " ".join(child.cmdline())]


@pytest.mark.slow
def test_an_answer_and_a_fault(asked: Questions) -> None:
    good = until(asked, asked.ask("select 1 as one from runs", "ada"))
    assert good.state == "done" and good.frame is not None and good.frame.one[0] == 1 and not good.cut
    assert good.snapshot_at is not None and good.began_at is not None and good.snapshot_at <= good.began_at
    bad = until(asked, asked.ask("select metod from runs", "ada"))
    assert bad.state == "failed" and bad.frame is None and "method" in bad.problems[0].do
    assert asked.look("made up").state == "gone"


@pytest.mark.slow
def test_stopping_one_that_runs_and_one_that_waits(asked: Questions) -> None:
    running = asked.ask(LONG, "ada", timeout_s=30)
    until(asked, running, lambda seen: seen.state == "running" and bool(children()))
    waiting = asked.ask(LONG, "ada", timeout_s=30)
    assert asked.look(waiting).position == 1
    assert not asked.cancel(running, "bob") and asked.cancel(waiting, "ada") and asked.cancel(running, "ada")
    assert asked.look(running).state == asked.look(waiting).state == "cancelled" and not asked.cancel(running, "ada")
    after = until(asked, asked.ask("select 1", "ada"))
    assert after.state == "done" and children() == []
