"""Draws an order into a file, frame by frame, in the process that calls it.

Reads: the order. Writes: the file asked for, aside and renamed, and the picture of the last frame beside it where wanted.
Never: the store, a queue; the app's own process (``exports`` starts one).
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

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
    raise NotImplementedError
