"""A picture of at most 256 colours, one byte per pixel, drawn on by copying and comparing bytes: that is what makes it fast.

A colour that meets the background has a ramp: indices of rising coverage, so that edges and letters are smooth. Index 0 is the
background. Ramps of letters come last: where two things meet, the greater index is seen, and letters win.

Reads / writes: nothing. Never: files, fonts.
"""

from __future__ import annotations

import functools
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

Bytes = NDArray[np.uint8]
Colour = tuple[int, int, int]
EDGE_LEVELS, LETTER_LEVELS = 7, 15


def rgb(colour: str) -> Colour:
    """Return ``#rrggbb`` as three numbers."""
    return int(colour[1:3], 16), int(colour[3:5], 16), int(colour[5:7], 16)


@dataclass(frozen=True)
class Ramp:
    """The indices ``first`` to ``first + levels - 1``: a colour over the background in rising coverage."""

    first: int
    levels: int

    @property
    def full(self) -> int:
        """The index of the colour itself."""
        return self.first + self.levels - 1

    def at(self, coverage: float) -> int:
        """Return the index of a coverage, 0 to 1; 0 is the background."""
        level = round(coverage * self.levels)
        return self.first + level - 1 if level > 0 else 0

    def inked(self, coverage: Bytes, alpha: float = 1.0) -> Bytes:
        """Return a picture of coverages (0 to 255) as indices of this ramp."""
        return _table(self.first, self.levels, round(alpha * 32))[coverage]


@functools.lru_cache(maxsize=4096)
def _table(first: int, levels: int, alpha: int) -> Bytes:
    level = np.rint(np.arange(256) / 255 * alpha / 32 * levels).astype(int)
    return np.where(level > 0, first + level - 1, 0).astype(np.uint8)


class Palette:
    """The colours of a picture; ramps are added from the least important to the most."""

    def __init__(self, background: str) -> None:
        self._colours: list[Colour] = [rgb(background)]

    def ramp(self, colour: str, levels: int) -> Ramp:
        """Add a colour with its mixtures with the background.

        Raises:
            ValueError: more than 256 colours.
        """
        under, over = np.array(self._colours[0]), np.array(rgb(colour))
        first = len(self._colours)
        if first + levels > 256:
            raise ValueError(f"{first + levels} colours, and a palette has 256")
        mixed = [under + (over - under) * level / levels for level in range(1, levels + 1)]
        self._colours += [(round(r), round(g), round(b)) for r, g, b in mixed]
        return Ramp(first, levels)

    def table(self) -> Bytes:
        """Return the colours as (256, 3); indices that are not used are black."""
        table = np.zeros((256, 3), dtype=np.uint8)
        table[: len(self._colours)] = self._colours
        return table


class Canvas:
    """``pixels`` (height, width), each an index of the palette. ``keep`` makes what is drawn so far the ground of each frame."""

    def __init__(self, width: int, height: int) -> None:
        self.pixels: Bytes = np.zeros((height, width), dtype=np.uint8)
        self._ground = self.pixels.copy()

    def keep(self) -> None:
        """Make this picture the ground that ``clear`` returns to."""
        np.copyto(self._ground, self.pixels)

    def clear(self) -> None:
        """Go back to the ground."""
        np.copyto(self.pixels, self._ground)

    def stamp(self, picture: Bytes, x: int, y: int, *, below: int | None = None) -> None:
        """Put a picture of indices with its corner at (x, y), cut off at the edges and from row ``below`` on."""
        height, width = self.pixels.shape
        foot = height if below is None else min(height, below)
        left, top = max(0, -x), max(0, -y)
        right, bottom = min(picture.shape[1], width - x), min(picture.shape[0], foot - y)
        if left < right and top < bottom:
            target = self.pixels[y + top : y + bottom, x + left : x + right]
            np.maximum(target, picture[top:bottom, left:right], out=target)

    def bar(
        self, x0: float, x1: float, y0: float, y1: float, ramp: Ramp, *, alpha: float = 1.0, below: int | None = None
    ) -> None:
        """Draw a filled box with its edges where they are, also between two pixels; it hides what it covers.

        ``below``: the row from which on nothing is drawn.
        """
        height, width = self.pixels.shape
        columns = _cover(x0, x1, width)
        rows = _cover(y0, y1, height if below is None else min(height, below))
        if columns is None or rows is None:
            return
        (left, across), (top, down) = columns, rows
        box = self.pixels[top : top + len(down), left : left + len(across)]
        box[:] = ramp.at(alpha)
        for line, share in ((box[0], down[0]), (box[-1], down[-1]), (box[:, 0], across[0]), (box[:, -1], across[-1])):
            if share < 1:
                line[:] = ramp.at(alpha * share)
        for row, column in ((0, 0), (0, -1), (-1, 0), (-1, -1)):
            box[row, column] = ramp.at(alpha * down[row] * across[column])

    def line(
        self, ramp: Ramp, x0: float, y0: float, x1: float, y1: float, width: float, *, rows: tuple[int, int] | None = None
    ) -> None:
        """Draw a line with round ends between two points; ``rows``: the first it may touch and the one after the last."""
        first, last = rows or (0, self.pixels.shape[0])
        reach = width / 2 + 1
        left, right = int(max(0, min(x0, x1) - reach)), int(min(self.pixels.shape[1], max(x0, x1) + reach + 1))
        top, bottom = int(max(first, min(y0, y1) - reach)), int(min(last, max(y0, y1) + reach + 1))
        if left >= right or top >= bottom:
            return
        x = np.arange(left, right, dtype=np.float32)[None, :] + 0.5 - x0
        y = np.arange(top, bottom, dtype=np.float32)[:, None] + 0.5 - y0
        dx, dy = x1 - x0, y1 - y0
        along = np.clip((x * dx + y * dy) / max(dx * dx + dy * dy, 1e-9), 0.0, 1.0)
        away = np.hypot(x - along * dx, y - along * dy)
        coverage = np.clip(width / 2 + 0.5 - away, 0.0, 1.0)
        target = self.pixels[top:bottom, left:right]
        np.maximum(target, ramp.inked((coverage * 255).astype(np.uint8)), out=target)


def _cover(start: float, end: float, most: int) -> tuple[int, list[float]] | None:
    """Return the first pixel that lies between ``start`` and ``end``, and how much of each pixel does; None for nothing."""
    start, end = max(0.0, start), min(float(most), end)
    if end - start < 1e-6:
        return None
    first, last = int(start), min(most - 1, int(np.ceil(end)) - 1)
    shares = [1.0] * (last - first + 1)
    shares[0] = min(1.0, first + 1 - start)
    shares[-1] = shares[-1] - (last + 1 - end) if last > first else end - start
    return first, shares
