"""Scenes around exports: the process that draws is killed.

Reads / writes: the home of the stage. Kills what it has ordered.
"""

from __future__ import annotations

import contextlib
import time

import psutil

from benchmarks.faults.stage import Stage, await_true
from kdengine import errands
from store.export.race import exports, shelf
from store.export.race.options import Options
from store.export.race.order import Order, Racer

FORMATS = ("mp4", "gif", "png")
EPOCHS, RACERS = 16, 5


def order(number: int) -> Order:
    """Return a small order, another one for each number."""
    racers = tuple(
        Racer(name=f"method {place}", colour="#1d60bc", values=tuple(50 + place + (epoch * (place + 2 + number)) % 37
              for epoch in range(EPOCHS)))
        for place in range(RACERS)
    )  # fmt: skip
    options = Options(format=FORMATS[number % len(FORMATS)], width=320, height=180, fps=20, steps=6, hold_s=0.0)
    return Order(epochs=tuple(range(1, EPOCHS + 1)), racers=racers, title=f"Race {number}", options=options)


def exporter_killed(stage: Stage) -> None:
    """Kill -9 of the process that draws a race chart, from its start to its end; asked for again, it is drawn whole"""
    typical_s: dict[str, float] = {}
    kills = number = 0
    while kills < stage.count:
        made = FORMATS[number % len(FORMATS)]
        if made not in typical_s:
            typical_s[made] = _undisturbed(stage, number)
            number += len(FORMATS)
        key = exports.ask(stage.home, order(number), f"reader {number}")
        exports.ask(stage.home, order(number + 1), f"reader {number + 1}")  # waits behind it: the queue has to move on
        kills += _kill_one(stage, key, typical_s[made])
        number += 1
    for again in range(number + 1):
        key = exports.ask(stage.home, order(again), "somebody")
        _await_end(stage, key)
        if (state := exports.view(stage.home, key).state) != "done":
            stage.complain(f"export {key}, asked for again, is {state}")
    _no_orphans(stage)


def _undisturbed(stage: Stage, number: int) -> float:
    began = time.monotonic()
    key = exports.ask(stage.home, order(number), "first")
    _await_end(stage, key)
    if exports.view(stage.home, key).state != "done":
        stage.complain(f"an export that nobody disturbs is {exports.view(stage.home, key)}")
    return time.monotonic() - began


def _await_end(stage: Stage, key: str) -> None:
    def over() -> bool:
        exports.tick(stage.home)
        return exports.view(stage.home, key).state in ("done", "failed", "absent")

    await_true(f"the end of export {key}", over, 120)


def _kill_one(stage: Stage, key: str, typical_s: float) -> bool:
    errand = shelf.errand(stage.home, key)

    def drawing() -> bool:
        exports.tick(stage.home)
        return exports.view(stage.home, key).state != "waiting"

    await_true(f"the turn of export {key}", drawing, 120)
    time.sleep(stage.rng.uniform(0, typical_s))
    killed = False
    if errands.is_going(stage.home, errand):
        with contextlib.suppress(ValueError):  # just started: its number is not noted yet
            killed = stage.kill("exporter", int(errand.lock(stage.home).read_text()))
    await_true("the lock of a killed exporter", lambda: not errands.is_going(stage.home, errand), 30)
    export = exports.view(stage.home, key)
    if export.state not in ("failed", "done") or (export.state == "failed" and not export.problems):
        stage.complain(f"export {key} was killed and is {export.state} {export.problems}")
    return killed


def _no_orphans(stage: Stage) -> None:
    """Whatever a killed exporter had started (ffmpeg) has to end by itself."""

    def left() -> list[str]:
        found = []
        for process in psutil.process_iter(["cmdline"]):
            words = " ".join(process.info["cmdline"] or [])
            if str(stage.home.exports) in words:
                found.append(words[:200])
        return found

    try:
        await_true("the end of what exporters had started", lambda: not left(), 20)
    except TimeoutError:
        stage.complain(f"still at work for a killed exporter: {left()}")
