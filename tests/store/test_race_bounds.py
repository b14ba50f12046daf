"""What a server draws, and what it says about it before: bounds with a way out, and estimates that learn."""

from __future__ import annotations

import math
import re
from typing import Any

import pytest

from store.export.race import bounds
from store.export.race.options import Options
from store.export.race.order import Order, Racer
from store.export.race.shelf import About


def order(epochs: int = 60, racers: int = 10, **options: Any) -> Order:
    """Return an order of that many epochs and bars."""
    values = tuple(range(epochs))
    return Order(
        epochs=values,
        racers=tuple(Racer(name=f"m{number}", colour="#336699", values=values) for number in range(racers)),
        options=Options(**options),
    )


def made(seconds: float, bytes: int, **values: Any) -> About:
    """Return what an export of 614 megapixel-frames says of itself."""
    known = {"frames": 666, "made_at": "2026-01-01T00:00:00.000000Z", "kind": "bars", "format": "mp4", "width": 1280,
             "height": 720, "bars": 10}  # fmt: skip
    return About(**known | {"seconds": seconds, "bytes": bytes} | values)


@pytest.mark.parametrize(
    "options",
    [
        {},
        {"format": "gif", "width": 800, "height": 450, "fps": 20},
        {"format": "gif", "width": 540, "height": 960},
        {"format": "png", "width": 1080, "height": 1920},
        {"kind": "classic", "format": "gif", "width": 800, "height": 450, "steps": 5},
        {"width": 1920, "height": 1080, "steps": 30},
    ],
)
def test_what_is_usual_is_drawn(options: dict[str, Any]) -> None:
    assert bounds.faults(order(**options)) == []


@pytest.mark.parametrize(
    ("epochs", "options", "fields"),
    [
        (61, {"steps": 31}, ["steps"]),
        (601, {"steps": 4}, ["steps"]),
        (901, {"steps": 1, "format": "gif", "width": 800, "height": 450}, ["steps"]),
        (61, {"steps": 6, "format": "gif", "width": 800, "height": 450, "kind": "classic"}, ["steps"]),
        (201, {"steps": 6, "kind": "classic"}, ["steps"]),
        (10, {"width": 1920, "height": 1082}, ["width"]),
        (10, {"format": "gif", "width": 1280, "height": 720}, ["width"]),
        (10, {"format": "gif", "width": 3840, "height": 180}, ["width"]),
        (10, {"format": "gif", "width": 320, "height": 3840}, ["width"]),
        (10, {"format": "png", "width": 320, "height": 3840, "theme": "print"}, []),
        (10, {"format": "png", "width": 3840, "height": 3840}, ["width"]),
        (301, {"steps": 6, "width": 1920, "height": 1080, "hold_s": 10, "fps": 60}, ["steps", "hold_s"]),
        (300, {"steps": 6, "width": 1920, "height": 1080, "hold_s": 10, "fps": 60}, ["hold_s"]),
        (5000, {"steps": 60, "width": 3840, "height": 2160, "hold_s": 10, "fps": 60}, ["steps", "width", "hold_s"]),
        (5000, {"format": "gif", "width": 3840, "height": 2160, "kind": "classic"}, ["steps", "width"]),
    ],
)  # fmt: skip
def test_what_is_too_large_is_told_what_would_fit(epochs: int, options: dict[str, Any], fields: list[str]) -> None:
    found = bounds.faults(order(epochs, **options))
    assert [problem.field for problem in found] == fields
    for problem in found:
        assert problem.given and problem.allowed
        numbers = [float(number) for number in re.findall(r"[\d.]*\d", problem.do)]
        if problem.field == "steps" and "one epoch in" in problem.do:
            epochs, options = math.ceil(epochs / numbers[0]), options | {"steps": int(numbers[1])}
        elif problem.field == "steps":
            options = options | {"steps": int(numbers[0])}
        else:
            options = options | (
                {"hold_s": numbers[0]}
                if problem.field == "hold_s"
                else dict(zip(("width", "height"), map(int, numbers), strict=True))
            )
    assert bounds.faults(order(epochs, **options)) == [], "who does what is said is let in"


def test_the_advice_gives_away_little() -> None:
    (steps,) = bounds.faults(order(61, steps=60))
    assert "choose 29 frames" in steps.do and "3,601 moving frames: 61 epochs, 60 frames" in steps.given
    (size,) = bounds.faults(order(width=3840, height=2160))
    assert "choose 1920 x 1080" in size.do
    (gif,) = bounds.faults(order(format="gif", width=1280, height=720, steps=2))
    assert "choose 960 x 540" in gif.do and "such as 960 x 540" in gif.allowed
    (hold,) = bounds.faults(order(300, steps=6, width=1920, height=1080, hold_s=10, fps=60))
    assert "hold for 1.7 s" in hold.do


def test_an_estimate_grows_with_size_frames_and_bars() -> None:
    first = bounds.estimate(order())
    assert bounds.START_S < first.seconds < 30 and 0.1 < first.mib < 10
    for larger in (order(width=1920, height=1080), order(steps=20), order(racers=20, top=20)):
        assert bounds.estimate(larger).seconds > first.seconds and bounds.estimate(larger).mib > first.mib
    assert bounds.estimate(order(racers=20, top=10)) == first, "bars out of view cost nothing"
    assert bounds.estimate(order(hold_s=10)).seconds > first.seconds, "a video shows held frames again"
    assert bounds.estimate(order(format="gif", hold_s=10)) == bounds.estimate(order(format="gif", hold_s=0))
    assert bounds.estimate(order(format="png")).seconds == bounds.PNG_S
    assert bounds.estimate(order(kind="classic", steps=2)).seconds > 2 * bounds.estimate(order(steps=2)).seconds
    large = order(kind="classic", width=1920, height=1080, hold_s=10)
    assert bounds.estimate(large) == bounds.estimate(order(kind="classic")), "the package neither holds nor has that size"


def test_an_estimate_learns_from_the_last_ones_like_it() -> None:
    wanted = order(hold_s=2)
    size = bounds.work("bars", 1280, 720, wanted.options.frames(60), 10)
    lately = [made(10.5, 2_000_000), made(12.5, 3_000_000), made(200.5, 90_000_000)]
    others = [made(99.0, 9, kind="lines"), made(99.0, 9, format="gif"), made(5.0, 9, frames=2)]
    now = bounds.estimate(wanted, [*others, *lately])
    known = bounds.work("bars", 1280, 720, 666, 10)
    per_frame = 12.0 / known
    assert now.seconds == pytest.approx(bounds.START_S + per_frame * size), "the median, without what starting takes"
    assert now.mib == pytest.approx(3_000_000 / 2**20 * size / known)
    old = [made(1000.5, 9)] * 10
    assert bounds.estimate(wanted, [made(12.5, 3_000_000)] * 5 + old) == now, "those before the last five do not count"


def test_an_estimate_of_a_picture_learns_too() -> None:
    known = [made(seconds, 100_000, format="png", frames=1) for seconds in (2.0, 3.0, 40.0)]
    now = bounds.estimate(order(format="png"), known)
    assert now.seconds == pytest.approx(3.0 + bounds.START_S - bounds.SETTLE_S)
    assert now.mib == pytest.approx(100_000 / 2**20)
    assert bounds.estimate(order(format="png", width=1920, height=1080), known).mib == pytest.approx(2.25 * 100_000 / 2**20)
