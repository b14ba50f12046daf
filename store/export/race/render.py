"""Draws an order into a file, frame by frame, in the process that calls it.

Reads: the order. Writes: the file asked for, aside and renamed, and the picture of the last frame beside it where wanted.
Never: the store, a queue; the app's own process (``exports`` starts one).
"""

from __future__ import annotations

import os
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from store.export.race.canvas import Bytes
from store.export.race.chart import Race, classic
from store.export.race.encode import add_comment, encoder, save_png
from store.export.race.order import Order

Report = Callable[[float, float], None]


@dataclass(frozen=True, slots=True)
class Made:
    """What was drawn: ``frames`` in the file, ``seconds`` it took, ``bytes`` of the file."""

    frames: int
    seconds: float
    bytes: int


def render(order: Order, out: Path, *, poster: Path | None = None, report: Report | None = None) -> Made:
    """Draw ``order`` into ``out`` and return what was made. ``poster``: where the last frame goes as PNG.

    ``report(done, total)`` is called with frames after each of them, and once more for finishing.

    Raises:
        KdError: ffmpeg is missing or fails, the disk is full, the picture is too small for what is on it.
    """
    began = time.monotonic()
    aside = out.with_name(f".{out.stem}-{os.getpid()}{out.suffix}")
    try:
        if order.options.kind == "classic":
            frames = classic(order, aside, report or _silent)
        else:
            frames = _drawn(order, aside, poster, report or _silent)
        aside.replace(out)
    finally:
        aside.unlink(missing_ok=True)
    return Made(frames, time.monotonic() - began, out.stat().st_size)


def _drawn(order: Order, out: Path, poster: Path | None, report: Report) -> int:
    race, options = Race(order), order.options
    source = "\n".join(filter(None, [order.caption, order.source]))
    if options.format == "png":
        last = _last(race)
        save_png(last, race.table, out, title=order.title, comment=source)
        report(1, 1)
    else:
        with encoder(options, race.table, out, title=order.title, comment=source) as file:
            last = _written(race, file.write, report)
            file.close()
        if options.format == "gif" and source:
            add_comment(out, source)
    if poster is not None:
        save_png(last, race.table, poster, title=order.title, comment=source)
    return options.frames(len(order.epochs))


def _written(race: Race, write: Callable[[Bytes], None], report: Report) -> Bytes:
    """Write every frame, and the first and the last as often as they are held; return the last."""
    options, total = race.prepared.order.options, race.prepared.frames
    repeats = options.format == "mp4"  # a GIF holds a frame by its delay
    first, last = options.held_frames if repeats else (0, 0)
    pixels = None
    for number, pixels in enumerate(race.frames()):
        for _ in range(1 + (first if number == 0 else 0) + (last if number == total - 1 else 0)):
            write(pixels)
        report(number + 1, total)
    assert pixels is not None
    return pixels


def _last(race: Race) -> Bytes:
    *_, last = race.frames()
    return last


def _silent(done: float, total: float) -> None:
    """Report to nobody."""
