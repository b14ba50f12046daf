"""The queue of free SQL: who is next, what is kept, that nothing is left behind, that no process of it ever runs app.py."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from pathlib import Path

import pandas as pd
import psutil
import pytest
from streamlit.testing.v1 import AppTest

from kdengine.home import Home
from pages.parts import pulse
from store import questions as rules
from store import sandbox, sandbox_process
from store.db import Store
from store.questions import Question, Questions
from store.sandbox import Answered, QueryError
from store.sandbox_process import Order, Process
from tests.store.conftest import MakeRun
from tests.store.killing import ROOT

LONG = "select count(*) from range(100000000000) a, range(10000000) b"


def until(questions: Questions, key: str, enough: Callable[[Question], bool] = lambda seen: seen.over) -> Question:
    """Look until ``enough``."""
    end = time.monotonic() + 120
    while not enough(seen := questions.look(key)):
        assert time.monotonic() < end, seen
        time.sleep(0.01)
    return seen


def children(of: psutil.Process | None = None) -> list[psutil.Process]:
    """Return the processes of free SQL that are there."""
    found = []
    for child in (of or psutil.Process()).children(recursive=True):
        try:
            found += [child] if "sandbox_child" in " ".join(child.cmdline()) else []
        except psutil.Error:
            continue
    return found


# -- the rules of the queue, without processes ----------------------------------------------------------------------------


class Stage:
    """Stands for the processes: notes which statements began, ends one when told to. ``begun`` in order."""

    def __init__(self) -> None:
        self.begun: list[str] = []
        self.bytes = 100
        self._moved = threading.Condition()
        self._over: set[str] = set()
        self._all = False

    def answer(self, process: Process, order: Order, _: Path) -> Answered:
        """Wait until the statement is ended."""
        with self._moved:
            self.begun.append(order.sql)
            self._moved.notify_all()
            assert self._moved.wait_for(lambda: self._all or order.sql in self._over, 30)
        frame = pd.DataFrame({"one": [1]})
        frame.attrs["cut"] = False
        return Answered(frame, datetime.now(UTC), self.bytes)

    def wait_begun(self, number: int) -> list[str]:
        """Wait until ``number`` have begun; return all that have."""
        with self._moved:
            assert self._moved.wait_for(lambda: len(self.begun) >= number, 30), self.begun
            return list(self.begun)

    def end_one(self, sql: str) -> str:
        """Let a statement end; return the one that begins in its place."""
        number = len(self.begun)
        self.end(sql)
        return self.wait_begun(number + 1)[number]

    def end_all(self) -> None:
        """Let every statement end, also those to come."""
        with self._moved:
            self._all = True
            self._moved.notify_all()

    def end(self, sql: str) -> None:
        """Let a statement end."""
        with self._moved:
            self._over.add(sql)
            self._moved.notify_all()


@pytest.fixture
def stage(monkeypatch: pytest.MonkeyPatch) -> Stage:
    """Processes that end when they are told to."""
    made = Stage()
    monkeypatch.setattr(sandbox, "answer", made.answer)
    return made


@pytest.fixture
def queue(home: Home, stage: Stage) -> Iterator[Questions]:
    """The questions, on such processes."""
    questions = Questions(home)
    yield questions
    stage.end_all()
    questions.close()


def test_everybody_in_turn_and_one_at_a_time_each(queue: Questions, stage: Stage) -> None:
    keys = {name: queue.ask(name, name[0]) for name in ("a1", "a2", "a3", "a4")}
    assert stage.wait_begun(1) == ["a1"]  # the second place stays free: it is not a's
    keys["b1"] = queue.ask("b1", "b")
    assert stage.wait_begun(2) == ["a1", "b1"]
    keys |= {name: queue.ask(name, name[0]) for name in ("c1", "b2", "c2")}
    assert [queue.look(keys[name]).position for name in ("a2", "c1", "b2", "a3", "c2", "a4")] == [1, 2, 3, 4, 5, 6]
    assert queue.look(keys["a1"]).position == 0 and queue.look(keys["a1"]).state == "running"
    for ends, begins in (("b1", "c1"), ("a1", "a2"), ("c1", "b2"), ("a2", "c2"), ("b2", "a3")):
        assert stage.end_one(ends) == begins
    states = [queue.look(keys[name]).state for name in ("a1", "a2", "a3", "a4", "b1", "b2", "c1", "c2")]
    assert states == ["done", "done", "running", "waiting", "done", "done", "done", "running"]


def test_who_hammers_delays_another_by_one_round(queue: Questions, stage: Stage) -> None:
    for number in range(4):
        queue.ask(f"a{number}", "a")
        queue.ask(f"b{number}", "b")
    stage.wait_begun(2)
    queue.ask("c0", "c")
    assert "c0" in [stage.end_one(name) for name in ("a0", "b0", "a1")]


def test_how_many_may_wait(queue: Questions, stage: Stage, monkeypatch: pytest.MonkeyPatch) -> None:
    for number in range(4):
        queue.ask(f"a{number}", "a")
    stage.wait_begun(1)
    with pytest.raises(QueryError, match="a fifth question while 4 of yours"):
        queue.ask("a4", "a")
    monkeypatch.setattr(rules, "MOST_WAITING", 4)
    queue.ask("b0", "b")
    stage.wait_begun(2)
    queue.ask("c0", "c")
    with pytest.raises(QueryError, match="a question while 4 wait"):
        queue.ask("d0", "d")
    stage.end_all()
    queue.close()
    with pytest.raises(QueryError, match="closing"):
        queue.ask("d0", "d")


@pytest.mark.parametrize("sql", ["", "  \n", "select '" + "x" * 20_000 + "'", "select 'a\0'", "select '\ud800'"])
def test_what_is_no_statement_never_waits(queue: Questions, stage: Stage, sql: str) -> None:
    with pytest.raises(QueryError):
        queue.ask(sql, "a")
    assert stage.begun == []


def test_stopping_needs_to_be_ones_own(queue: Questions, stage: Stage) -> None:
    running, waiting = queue.ask("a1", "a"), queue.ask("a2", "a")
    stage.wait_begun(1)
    assert not queue.cancel(running, "b") and not queue.cancel("made up", "a")
    assert queue.cancel(waiting, "a") and queue.cancel(running, "a") and not queue.cancel(running, "a")
    assert queue.look(running).state == queue.look(waiting).state == "cancelled"
    queue.ask("a3", "a")
    assert queue.look(running).state == "cancelled" and stage.begun == ["a1"]  # its process has not gone yet
    stage.end("a1")
    assert stage.wait_begun(2) == ["a1", "a3"]


def test_answers_are_kept_for_a_while(queue: Questions, stage: Stage, monkeypatch: pytest.MonkeyPatch) -> None:
    keys = []
    for number in range(5):
        keys.append(queue.ask(f"a{number}", "a"))
        stage.end(f"a{number}")
        assert until(queue, keys[-1]).frame is not None
    until(queue, keys[0])  # looked at last
    monkeypatch.setattr(rules, "KEPT", 3)
    queue.look("nothing")
    assert [queue.look(key).state for key in keys] == ["done", "gone", "gone", "done", "done"]
    monkeypatch.setattr(rules, "KEPT_BYTES", 250)
    queue.look("nothing")
    assert [queue.look(key).state for key in keys] == ["gone", "gone", "gone", "done", "done"]
    monkeypatch.setattr(rules, "KEPT_S", 0.0)
    assert queue.look(keys[4]).state == "gone"


def test_a_fault_of_ours_is_told_and_the_queue_goes_on(queue: Questions, stage: Stage, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*_: object) -> Answered:
        raise ZeroDivisionError("a secret of ours")

    monkeypatch.setattr(sandbox, "answer", fail)
    found = until(queue, queue.ask("a0", "a"))
    assert found.state == "failed" and "ZeroDivisionError" in found.problems[0].given and "secret" not in str(found.problems)
    monkeypatch.setattr(sandbox, "answer", stage.answer)
    stage.end("a1")
    assert until(queue, queue.ask("a1", "a")).state == "done"


# -- with processes -------------------------------------------------------------------------------------------------------


@pytest.fixture
def asked(home: Home, make_run: MakeRun) -> Iterator[Questions]:
    """The questions of an app with one run, published."""
    make_run()
    with Store.open(home) as store:
        store.take_in()
    questions = Questions(home)
    yield questions
    questions.close()


@pytest.mark.slow
def test_an_answer_and_a_fault(asked: Questions) -> None:
    good = until(asked, asked.ask("select 1 as one from runs", "ada"))
    assert good.state == "done" and good.frame is not None and good.frame.one[0] == 1 and not good.cut and good.took_s > 0
    assert good.snapshot_at is not None and good.began_at is not None and good.snapshot_at <= good.began_at
    assert good.sql == "select 1 as one from runs" and good.limit_s == 5
    bad = until(asked, asked.ask("select metod from runs", "ada"))
    assert bad.state == "failed" and bad.frame is None and "method" in bad.problems[0].do
    assert sandbox.place_of(bad) == (1, 8)


@pytest.mark.slow
def test_stopping_ends_the_process(asked: Questions) -> None:
    running = asked.ask(LONG, "ada", timeout_s=3600)
    until(asked, running, lambda seen: seen.state == "running" and bool(children()))
    waiting = asked.ask(LONG, "ada", timeout_s=3600)
    assert asked.look(waiting).position == 1
    assert asked.cancel(waiting, "ada") and asked.cancel(running, "ada")
    assert until(asked, asked.ask("select 1", "ada")).state == "done" and children() == []
    last = asked.ask(LONG, "ada", timeout_s=3600)
    until(asked, last, lambda seen: bool(children()))
    asked.close()
    assert children() == [] and asked.look(last).state == "gone"


@pytest.mark.slow
def test_two_at_most_whoever_asks(asked: Questions, home: Home, monkeypatch: pytest.MonkeyPatch) -> None:
    alive, most, lock = 0, 0, threading.Lock()
    follow = Process._follow

    def counted(self: Process, *words: object) -> object:
        nonlocal alive, most
        with lock:
            alive += 1
            most = max(most, alive)
        try:
            return follow(self, *words)  # type: ignore[arg-type]
        finally:
            with lock:
                alive -= 1

    monkeypatch.setattr(Process, "_follow", counted)
    callers = [threading.Thread(target=lambda: sandbox.run("select 1", home=home)) for _ in range(4)]
    for caller in callers:
        caller.start()
    keys = [asked.ask("select 1", f"person {n}") for n in range(4)]
    for caller in callers:
        caller.join()
    assert {until(asked, key).state for key in keys} == {"done"} and most == 2


@pytest.mark.slow
def test_two_hundred_questions_leave_nothing(asked: Questions) -> None:
    until(asked, asked.ask("select 1", "first"))
    process = psutil.Process()
    before = process.num_fds(), threading.active_count()
    keys = []
    for number in range(200):
        sql = ("select * from runs", "select 1 +", "select json_transform('1', repeat('[', 100000) || repeat(']', 100000))")[
            number % 3
        ]
        while True:
            try:
                keys.append(asked.ask(sql, f"person {number % 20}"))
                break
            except QueryError:
                time.sleep(0.02)
        if number % 10 == 9:
            asked.cancel(keys[-1], f"person {number % 20}")
    for key in keys:
        until(asked, key)
    end = time.monotonic() + 30
    while (process.num_fds(), threading.active_count()) != before and time.monotonic() < end:
        time.sleep(0.05)
    assert (process.num_fds(), threading.active_count()) == before and children() == []


@pytest.mark.slow
def test_a_killed_app_leaves_no_process(asked: Questions, home: Home) -> None:
    code = (
        "import sys, time; from kdengine.home import Home; from store.questions import Questions;"
        f"q = Questions(Home.find()); q.ask({LONG!r}, 'ada', timeout_s=60); print('asked', flush=True); time.sleep(60)"
    )
    environment = os.environ | {"PYTHONPATH": str(ROOT)}
    with subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE, env=environment) as app:
        assert app.stdout is not None and app.stdout.readline() == b"asked\n"
        end = time.monotonic() + 30
        while not (found := children(psutil.Process(app.pid))) and time.monotonic() < end:
            time.sleep(0.01)
        time.sleep(0.5)  # it is at its statement
        app.send_signal(signal.SIGKILL)
        app.wait()
    (child,) = found
    assert psutil.wait_procs([child], timeout=10)[1] == []


@pytest.mark.slow
def test_no_process_runs_the_app_again(home: Home, make_run: MakeRun, tmp_path: Path) -> None:
    make_run()
    script, count = tmp_path / "app.py", tmp_path / "count"
    script.write_text(
        f"with open({str(count)!r}, 'a') as file: file.write('x')\n"
        "import streamlit as st\n"
        "from pages.parts import pulse\n"
        "key = pulse.of().questions.ask('select count(*) as n from runs', 'ada')\n"
        "while not (seen := pulse.of().questions.look(key)).over: pass\n"
        "st.write(str(seen.frame.n[0]) if seen.frame is not None else str(seen.problems))\n"
    )
    try:
        app = AppTest.from_file(str(script), default_timeout=30).run()
        for _ in range(2):
            app.run()
        assert app.markdown[0].value == "1" and not app.exception
        assert count.read_text() == "xxx"
    finally:
        pulse.close_all()


@pytest.mark.slow
def test_a_question_before_anything_is_published(home: Home) -> None:
    questions = Questions(home)
    found = until(questions, questions.ask("select 1", "ada"))
    questions.close()
    assert found.state == "failed" and "could not be started" in found.problems[0].given


def test_a_process_that_was_stopped_before_it_began_never_starts(home: Home, monkeypatch: pytest.MonkeyPatch) -> None:
    home.snapshot.touch()
    monkeypatch.setattr(sandbox_process, "_start", lambda handle: pytest.fail("started"))
    process = Process()
    process.stop()
    with pytest.raises(QueryError, match="stopped"):
        sandbox.answer(process, Order("select 1", 1, 1, 1000), home.snapshot)
