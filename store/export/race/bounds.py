"""How large an export that a server draws may be, and about how long it takes and how large it becomes.

Reads: what it is given. Writes: nothing. Never: files, the queue.
"""

from __future__ import annotations

import math
import statistics
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from kdengine.errors import Problem
from store.export.race.options import Options
from store.export.race.order import Order
from store.export.race.shelf import About

MOST_FRAMES = {"mp4": 1800, "gif": 900, "png": 1}  # that differ
MOST_CLASSIC = {"mp4": 1200, "gif": 300}  # it takes a tenth of a second for each, and holds all those of a GIF in memory
MOST_PIXELS = {"mp4": 1920 * 1080, "gif": 960 * 540, "png": 1920 * 1080}
MOST_WORK = 4.0e9  # frames x pixels, held frames included: about a minute
LEAST_WIDTH, LEAST_HEIGHT = 320, 180

START_S = 1.0  # until the first frame: a process, what it loads, fonts
SETTLE_S = 0.5  # the part of it that counts as drawing
PNG_S, PNG_MIB = 1.0, 0.02
# (kind, format) -> ms and kB of a megapixel-frame, until there are exports to judge by
PACE: dict[tuple[str, str], tuple[float, float]] = {
    ("bars", "mp4"): (6.0, 2.5), ("bars", "gif"): (3.0, 10.0), ("lines", "mp4"): (6.0, 2.5), ("lines", "gif"): (6.0, 10.0),
    ("classic", "mp4"): (90.0, 3.5), ("classic", "gif"): (120.0, 36.0),
}  # fmt: skip
CLASSIC_SIZE = (942, 504)  # about, whatever is asked for
PER_BAR = 0.03  # what a bar adds to a frame, as a share of one of ten bars
JUDGED_BY, LEAST_WORK = 5, 10.0  # exports; a small one says more about the start than about the pace
LOOK_BACK = 60  # exports that are looked through for them


@dataclass(frozen=True, slots=True)
class Estimate:
    """About how many ``seconds`` an export takes, once it is its turn, and how many ``mib`` it becomes."""

    seconds: float
    mib: float


def faults(order: Order) -> list[Problem]:
    """Return everything that makes ``order`` too large to be drawn by a server, with what would fit."""
    return list(_faults(order.options, len(order.epochs)))


def _faults(options: Options, epochs: int) -> Iterator[Problem]:
    most_pixels, pixels = MOST_PIXELS[options.format], options.width * options.height
    classic, moving = options.kind == "classic" and options.format in MOST_CLASSIC, options.moving_frames(epochs)
    most = (MOST_CLASSIC if classic else MOST_FRAMES)[options.format]
    what = f"a {options.format.upper()}{' of the package bar_chart_race' if classic else ''}"
    if moving > most:
        given = f"{moving:,} moving frames: {epochs:,} epochs, {options.steps_for(epochs)} frames from one to the next"
        yield Problem("steps", given, f"at most {most:,} frames for {what}", _fewer_frames(epochs, most))
    if pixels > most_pixels:
        width, height = _smaller(options, most_pixels)
        allowed = (
            f"at most {most_pixels:,} pixels for {what}, such as {'960 x 540' if options.format == 'gif' else '1920 x 1080'}"
        )
        yield Problem("width", f"{options.width} x {options.height} pixels", allowed, f"choose {width} x {height}, or less")
    held = options.frames(epochs) - moving
    room = int(MOST_WORK / min(pixels, most_pixels)) - min(moving, most) - 1
    if held > room + 1:
        hold_s = math.floor(10 * room / (1.25 * options.fps)) / 10
        given = f"{options.hold_s:g} s in which the ends stand still, in a file of {options.frames(epochs):,} frames"
        yield Problem("hold_s", given, f"at most {MOST_WORK:,.0f} pixels in all frames", f"hold for {hold_s:g} s, or less")


def _fewer_frames(epochs: int, most: int) -> str:
    steps = (most - 1) // (epochs - 1)
    if steps:
        return f"choose {steps} frames from one epoch to the next, or fewer"
    return f"take one epoch in {math.ceil((epochs - 1) / (most - 1))}, or fewer, and 1 frame from one to the next"


def _smaller(options: Options, most: int) -> tuple[int, int]:
    scale = math.sqrt(most / (options.width * options.height))
    width, height = max(LEAST_WIDTH, int(options.width * scale) // 2 * 2), max(LEAST_HEIGHT, int(options.height * scale) // 2 * 2)
    if width == LEAST_WIDTH:
        return width, min(height, most // width // 2 * 2)
    return min(width, most // height // 2 * 2), height


# ---- what it takes -------------------------------------------------------------------------------------------------------------


def bars(order: Order) -> int:
    """Return how many bars or lines are in view at once."""
    return min(order.options.top, len(order.racers))


def work(kind: str, width: int, height: int, frames: int, bars: int) -> float:
    """Return the size of an export in megapixel-frames of ten bars."""
    width, height = CLASSIC_SIZE if kind == "classic" else (width, height)
    return 1e-6 * width * height * frames * (1 + PER_BAR * (bars - 10))


def _work(made: About) -> float:
    return work(made.kind, made.width, made.height, made.frames, made.bars)


def estimate(order: Order, made: Sequence[About] = ()) -> Estimate:
    """Return what ``order`` will take. ``made``: what this machine has made, last first; the nearest of them set the pace."""
    options, epochs = order.options, len(order.epochs)
    frames = options.moving_frames(epochs) if options.kind == "classic" else options.frames(epochs)
    size = work(options.kind, options.width, options.height, frames, bars(order))
    alike = [a for a in made if (a.kind, a.format) == (options.kind, options.format)]
    if options.format == "png":
        return _still(size, alike[:JUDGED_BY])
    enough = [(a, w) for a in alike if (w := _work(a)) >= LEAST_WORK][:JUDGED_BY]
    ms, kb = PACE[options.kind, options.format]
    if enough:
        ms = statistics.median([1e3 * max(0.1 * a.seconds, a.seconds - SETTLE_S) / w for a, w in enough])
        kb = statistics.median([1e-3 * a.bytes / w for a, w in enough])
    return Estimate(START_S + 1e-3 * ms * size, 1e3 * kb * size / 2**20)


def _still(size: float, alike: Sequence[About]) -> Estimate:
    if not alike:
        return Estimate(PNG_S, PNG_MIB * size)
    per_size = statistics.median([a.bytes / 2**20 / _work(a) for a in alike])
    return Estimate(START_S - SETTLE_S + statistics.median([a.seconds for a in alike]), per_size * size)
