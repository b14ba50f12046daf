"""Room for names: where the name of each marker of a scatter can stand without covering a marker or another name.

Reads / writes: nothing. Never: Streamlit, plotly.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

WIDE, HIGH = 760, 350  # pixels of a plot for which names are placed: a figure of middle width
LETTER, LINE, MARKER = 6.6, 13, 6  # pixels: width of a letter, height of a name, half a marker
MARGIN = 30  # pixels that a name may reach beyond the outermost markers


def places(
    x: np.ndarray, y: np.ndarray, names: Sequence[str], *, first: Sequence[int] = (), upright: tuple[float, float] | None = None,
    wide: float = WIDE,
) -> list[str | None]:  # fmt: skip
    """Return for each name the ``textposition`` where it covers nothing, None where there is none ("" has none).

    ``x``, ``y``: (N,) of the markers, linear in pixels, in any unit. ``first``: places in ``names`` of those that choose before
    the others. ``upright``: the ends of the upright axis, where they are not the markers'. ``wide``: pixels from the first marker
    to the last; less where names are many and a phone shows them too.
    """
    px, py = _pixels(x, wide, (x.min(), x.max())), _pixels(y, HIGH, upright or (y.min(), y.max()))
    taken = [(a - MARKER, a + MARKER, b - MARKER, b + MARKER) for a, b in zip(px, py, strict=True)]
    found: list[str | None] = [None] * len(names)
    for place in dict.fromkeys([*first, *range(len(names))]):
        if names[place]:
            found[place] = _free(px[place], py[place], LETTER * len(names[place]), wide, taken)
    return found


def _pixels(values: np.ndarray, size: float, ends: tuple[float, float]) -> list[float]:
    low, high = ends
    return [float(v) for v in (values - low) * size / ((high - low) or 1.0)]


def _free(x: float, y: float, width: float, wide: float, taken: list[tuple[float, float, float, float]]) -> str | None:
    """Return the first position of a name at (x, y) that is free, and take it."""
    for position, left, low in (
        ("top center", x - width / 2, y + 7), ("bottom center", x - width / 2, y - 20),
        ("middle right", x + 8, y - 7), ("middle left", x - 8 - width, y - 7),
    ):  # fmt: skip
        box = (left, left + width, low, low + LINE)
        inside = left >= -MARGIN and left + width <= wide + MARGIN
        if inside and not any(box[0] < b[1] and b[0] < box[1] and box[2] < b[3] and b[2] < box[3] for b in taken):
            taken.append(box)
            return position
    return None
