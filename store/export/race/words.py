"""What a race says in words, and its colours: the same in files and in the player of the page.

Reads: what is prepared. Writes: nothing. Never: matplotlib; the app draws with it.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

from store.export.race.prepare import Prepared, nice

X_TICKS = 8


@dataclass(frozen=True, slots=True)
class Theme:
    """Colours: ``background``, ``text``, ``muted`` text, ``grid`` lines, ``grey`` of those that are not highlighted."""

    background: str
    text: str
    muted: str
    grid: str
    grey: str


THEMES = {
    "light": Theme("#ffffff", "#191c21", "#5d6470", "#e3e7ec", "#c3c8d0"),
    "dark": Theme("#0f1217", "#e7eaee", "#9aa3b0", "#262c35", "#4a515c"),
    "print": Theme("#ffffff", "#000000", "#3c3c3c", "#d0d0d0", "#bdbdbd"),
}


def axis_words(prepared: Prepared) -> str:
    """Return what stands below the axis: what is measured, and where it begins if not at zero."""
    axis = prepared.axis
    begin = axis.tick_text(axis.low) if axis.low in axis.ticks else axis.value_text(axis.low)
    return " · ".join(filter(None, [prepared.order.measure, f"axis starts at {begin}" if axis.broken else ""]))


def epoch_text(epoch: float) -> str:
    """Write the epoch as the header has it; a whole number has no point."""
    return f"epoch {epoch:,.0f}" if float(epoch).is_integer() else f"epoch {epoch:g}"


def ended_text(epoch: float, *, short: bool = False) -> str:
    """Say that a racer's values ended before those of the others; ``short`` where there is little room."""
    return f"until {epoch_text(epoch).removeprefix('epoch ')}" if short else f"ended at {epoch_text(epoch)}"


def epoch_ticks(epochs: tuple[float, ...]) -> list[float]:
    """Return whole epochs to write below lines, the first and the last among them."""
    first, last = epochs[0], epochs[-1]
    step = max(1.0, nice(max(1e-9, last - first) / X_TICKS))
    inner = [k * step for k in range(math.ceil(first / step), math.floor(last / step) + 1)]
    return [first, *(tick for tick in inner if first + 0.6 * step < tick < last - 0.6 * step), *([last] if last > first else [])]
