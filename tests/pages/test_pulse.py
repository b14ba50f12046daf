"""The background thread: it takes in, survives faults and shows them, does each thing it is asked for once."""

from __future__ import annotations

import gc
import threading
import time
import tomllib
import weakref
from collections.abc import Iterator
from pathlib import Path

import pytest

from kdengine import runner
from kdengine.errors import KdError
from kdengine.home import Home
from pages.parts import pulse
from pages.parts.pulse import Pulse
from store import nightly, queries
from store.db import Store
from tests.pages.conftest import Visit
from tests.pages.seed import Seeded

ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture
def beating(home: Home, monkeypatch: pytest.MonkeyPatch) -> Iterator[Pulse]:
    monkeypatch.setattr(runner, "tick", lambda home: [])
    heart = Pulse(home, Store.open(home))
    heart.start()
    yield heart
    heart.close()
    assert not heart._thread.is_alive()


def test_it_has_taken_in_before_the_first_page(beating: Pulse) -> None:
    assert queries.counts(beating.store) == {}


def test_what_was_there_is_in_the_store(seeded: Seeded, beating: Pulse) -> None:
    assert queries.counts(beating.store) == {"finished": 13}


def test_a_fault_is_kept_once_and_the_beat_goes_on(home: Home, beating: Pulse, monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(home: Home) -> list[str]:
        raise KdError.of("a broken queue", "a sound one", "mend it")

    monkeypatch.setattr(runner, "tick", broken)
    beating.beat()
    beating.beat()
    assert [t.problems[0].given for t in beating.troubles] == ["a broken queue"]
    monkeypatch.setattr(runner, "tick", lambda home: 1 / 0)
    beating.beat()
    assert "ZeroDivisionError" in beating.troubles[-1].problems[0].given


def test_the_nightly_backup_is_looked_after_once_a_minute(home: Home, monkeypatch: pytest.MonkeyPatch) -> None:
    looked: list[Home] = []
    monkeypatch.setattr(nightly, "tick", looked.append)
    monkeypatch.setattr(runner, "tick", lambda home: [])
    with Store.open(home) as first, Store.open(home) as second:
        heart, other = Pulse(home, first), Pulse(home, second)  # not started: the test beats
        heart.beat()
        assert looked == [], "not in the first minutes"
        heart._backup_look_at = other._backup_look_at = 0
        for _ in range(2):
            heart.beat()
            other.beat()
        assert looked == [home], "once, and by the one who writes"

        def failed(home: Home) -> bool:
            raise KdError.of("a full disk", "room", "make room")

        monkeypatch.setattr(nightly, "tick", failed)
        heart._backup_look_at = 0
        heart.beat()
        assert (heart.troubles[-1].doing, heart.troubles[-1].problems[0].do) == ("starting the nightly backup", "make room")
        heart.close()
        other.close()


def test_asking_twice_does_it_once(beating: Pulse) -> None:
    done, gate = [], threading.Event()
    for _ in range(2):
        beating.ask("k", "doing it", lambda: (gate.wait(5), done.append(1)))
    assert beating.pending == {"k": "doing it"}
    gate.set()
    until = time.monotonic() + 5
    while beating.pending and time.monotonic() < until:
        time.sleep(0.01)
    assert done == [1] and not beating.pending


def test_ticks_slow_down_as_readers_come(beating: Pulse) -> None:
    assert beating.period_s("first") == 2.0
    periods = [beating.period_s(f"reader {i}") for i in range(20)]
    assert periods[-1] == pytest.approx(21 * pulse.TICK_CPU_S * pulse.AROUND / pulse.SHARE)


def test_ticks_slow_down_as_pages_cost_more(beating: Pulse) -> None:
    for _ in range(3):
        beating.spent("a", "compare", "ranking", 0.5)
        beating.spent("a", "compare", "line", 0.3)
    whole = pulse.AROUND / pulse.SHARE  # seconds between two ticks, per second that their bodies cost
    assert beating.period_s("a") == pytest.approx(0.8 * whole)
    assert beating.period_s("b") == pytest.approx((0.8 + pulse.TICK_CPU_S) * whole)
    beating.spent("a", "compare", "ranking", 0.2)
    assert beating.period_s("a") == pytest.approx((0.41 + 0.3 + pulse.TICK_CPU_S) * whole), "one tick alone decides nothing"
    beating.spent("a", "home", "line", 0.01)
    assert beating.period_s("a") == pulse.FASTEST_S, "another page costs what it costs"


def test_pages_where_nothing_runs_count_as_often_as_they_are_redrawn(beating: Pulse) -> None:
    whole = pulse.AROUND / pulse.SHARE
    beating.spent("a", "compare", "curves", 0.5, pulse.IDLE_S)
    assert beating.period_s("a") == pulse.FASTEST_S, "half a second of CPU in ten"
    for _ in range(12):
        for number in range(40):  # of whom there are many
            beating.spent(f"reader {number}", "compare", "curves", 0.5, pulse.IDLE_S)
    assert beating.period_s("a") == pytest.approx(40 * 0.5 * whole, rel=0.05), "then each counts for what it costs"


def test_what_is_loaded_for_good_is_left_out_of_later_collections() -> None:
    before = gc.get_freeze_count()
    try:
        pulse._settle_memory()
        assert gc.get_freeze_count() > before + 10_000
    finally:
        gc.unfreeze()


def test_the_pulse_collects_garbage_in_the_place_of_every_script(beating: Pulse, monkeypatch: pytest.MonkeyPatch) -> None:
    assert tomllib.loads((ROOT / ".streamlit" / "config.toml").read_text())["runner"]["postScriptGC"] is False

    class Left(list):
        pass

    gc.disable()
    try:
        left = Left()
        left.append(left)
        seen = weakref.ref(left)
        del left
        beating.beat()
        assert seen() is not None, "not at every beat"
        monkeypatch.setattr(beating, "_collect_at", 0.0)
        beating.beat()
        assert seen() is None
    finally:
        gc.enable()


def test_troubles_are_shown_on_the_page(visit: Visit, seeded: Seeded) -> None:
    app = visit("runs")
    pulse.of().ask("x", "stopping a run", lambda: 1 / 0)
    until = time.monotonic() + 5
    while not pulse.of().troubles and time.monotonic() < until:
        time.sleep(0.01)
    app.run()
    assert "While stopping a run" in app.error[0].value
    next(b for b in app.button if b.key == "dismiss-troubles").click().run()
    assert not app.error
