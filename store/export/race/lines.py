"""The line race: a line per racer that grows from epoch to epoch, its name and value at its head.

Reads: what is prepared. Writes: pixels of a canvas. Never: files.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from store.export.race.canvas import Bytes
from store.export.race.fonts import Face
from store.export.race.layout import frame_of
from store.export.race.prepare import Prepared, rising
from store.export.race.words import axis_words, epoch_text, epoch_ticks

NAMES_SHARE = 0.24  # of the width, at most, for a name at the head of its line
STROKE, THIN = 3.2, 1.4  # pixels of a 1280 x 720 picture: a line, and one whose run has ended
LONGEST_LEADER = 2.5  # rows, from the head of a line to its name


class Lines:
    """Draws the frames of a line race; ``table``: the 256 colours that its pixels are indices of."""

    def __init__(self, prepared: Prepared) -> None:
        order, self._prepared = prepared.order, prepared
        self._frame = frame = frame_of(prepared)
        self.table = frame.table
        room = (frame.foot - frame.top) / max(1, prepared.shown)
        self._face = Face(round(max(8.0, min(18 * frame.unit, 0.85 * room)), 2))
        self._names = [self._face.elided(racer.name, NAMES_SHARE * order.options.width) for racer in order.racers]
        self._stroke = max(1.5, STROKE * frame.unit)
        self._thin = max(1.0, THIN * frame.unit)
        self._columns()
        self._ground()

    def draw(self, number: int) -> Bytes:
        """Return the picture of a frame, counted from 0: indices (height, width). It is overwritten by the next one."""
        prepared, frame = self._prepared, self._frame
        at = float(prepared.at[number])
        self._grow(int(at))
        frame.canvas.clear()
        values, row = prepared.values[number], int(at)
        x = self._x(self._epoch(at))
        heads = np.flatnonzero(~np.isnan(values))
        if at > row:
            for racer in heads.tolist():
                self._segment(racer, row, at, float(values[racer]))
        for racer in heads.tolist():
            y = min(max(self._y(values[racer]), frame.top), frame.foot)
            frame.canvas.line(self._frame.racers[racer], x, y, x, y, self._stroke * 2.6)
        self._labels(number, x, heads)
        face = frame.faces.epoch
        frame.write(epoch_text(prepared.epoch[number]), face, prepared.order.options.width - frame.margin,
                    frame.margin + face.cap, frame.letters, side="right")  # fmt: skip
        return frame.canvas.pixels

    def _columns(self) -> None:
        frame, axis, width = self._frame, self._prepared.axis, self._prepared.order.options.width
        ticks = max(frame.faces.ticks.width(axis.tick_text(tick)) for tick in axis.ticks or (axis.low,))
        finite = self._prepared.filled[~np.isnan(self._prepared.filled)]
        values = max(self._face.width(axis.value_text(float(value))) for value in (finite.min(), finite.max()))
        self._gap = round(10 * frame.unit)
        self._x0 = frame.margin + ticks + self._gap
        self._x1 = width - frame.margin - max(self._face.width(name) for name in self._names) - values - 5 * self._gap

    def _ground(self) -> None:
        """Draw what stands still: grid, ticks, what the axes measure."""
        frame, axis, epochs = self._frame, self._prepared.axis, self._prepared.order.epochs
        face = frame.faces.ticks
        for tick in axis.ticks:
            y = round(self._y(tick))
            frame.canvas.bar(self._x0, self._x1, y, y + max(1, round(frame.unit)), frame.grid)
            frame.write(axis.tick_text(tick), face, self._x0 - self._gap, y + face.cap / 2, frame.muted, side="right")
        base = frame.foot + face.pixels * 1.4
        for epoch in epoch_ticks(epochs):
            frame.write(f"{epoch:,g}", face, self._x(epoch), base, frame.muted, side="middle")
        words = " · ".join(filter(None, [axis_words(self._prepared), "epochs from left to right"]))
        words = face.elided(words, self._prepared.order.options.width - frame.margin - self._x0)
        frame.write(words, face, self._x0, base + face.pixels * 1.5, frame.muted)
        self._blank = frame.canvas.pixels.copy()
        self._grown = 0
        frame.canvas.keep()

    def _grow(self, row: int) -> None:
        """Add the whole segments up to ``row`` to the ground; going back begins anew."""
        canvas = self._frame.canvas
        if row < self._grown:
            np.copyto(canvas.pixels, self._blank)
            canvas.keep()
            self._grown = 0
        if row > self._grown:
            canvas.clear()
            for before in range(self._grown, row):
                for racer in np.flatnonzero(~np.isnan(self._prepared.filled[before])).tolist():
                    self._segment(racer, before, before + 1.0, float(self._prepared.filled[before + 1, racer]))
            canvas.keep()
            self._grown = row

    def _segment(self, racer: int, row: int, at: float, value: float) -> None:
        filled, epochs = self._prepared.filled, self._prepared.order.epochs
        ended = self._prepared.ended[racer]
        width = self._thin if epochs[row] >= ended else self._stroke  # a comparison with NaN is false
        start = self._x(epochs[row]), self._y(filled[row, racer])
        self._frame.canvas.line(self._frame.racers[racer], *start, self._x(self._epoch(at)), self._y(value), width,
                                rows=(self._frame.top, self._frame.foot + 1))  # fmt: skip

    def _labels(self, number: int, x: float, heads: NDArray[np.int64]) -> None:
        """Write names and values at the heads, pushed apart where they would touch; they change places as their values do."""
        prepared, frame, face = self._prepared, self._frame, self._face
        places = prepared.places[number]
        best = heads[np.argsort(places[heads], kind="stable")]
        heights = np.clip([self._y(prepared.values[number, racer]) for racer in best], frame.top, frame.foot)
        wanted = (-heights if self._downwards else heights)[: prepared.shown]
        slots = apart(wanted, face.pixels * 1.22, frame.top, frame.foot, flipped=self._downwards)
        above = np.empty(0)
        for racer, height in zip(best[: prepared.shown].tolist(), heights, strict=False):
            y = float(np.interp(places[racer], np.arange(1, len(slots) + 1), slots))
            clear = min(1.0, max(0.0, (np.min(abs(above - y), initial=np.inf) / face.pixels - 0.75) / 0.35))
            above = np.append(above, y)
            self._label(racer, number, (x, float(height)), y, clear * float(prepared.presence[number, racer]))

    def _label(self, racer: int, number: int, head: tuple[float, float], y: float, alpha: float) -> None:
        if alpha <= 0:
            return
        frame, face, axis = self._frame, self._face, self._prepared.axis
        text = f"{self._names[racer]}  {axis.value_text(float(self._prepared.values[number, racer]))}"
        x, word = head[0] + 2 * self._gap + 0.8 * face.pixels, face.word(text)
        if abs(y - head[1]) < LONGEST_LEADER * face.pixels:  # longer ones only tangle
            frame.canvas.line(self._frame.racers[racer], *head, x - face.pixels, y, self._thin)
        frame.canvas.line(self._frame.racers[racer], x - 0.8 * face.pixels, y, x - 0.55 * face.pixels, y, 0.42 * face.pixels)
        frame.canvas.stamp(frame.letters.inked(word.coverage, alpha), round(x), round(y + face.cap / 2) - word.baseline)

    @property
    def _downwards(self) -> bool:
        """Whether the best is at the foot: a low value, where that is what one wants."""
        return self._prepared.order.lower_is_better

    def _epoch(self, at: float) -> float:
        epochs, row = self._prepared.order.epochs, int(at)
        return epochs[row] + (epochs[row + 1] - epochs[row]) * (at - row) if at > row else epochs[row]

    def _x(self, epoch: float) -> float:
        first, last = self._prepared.order.epochs[0], self._prepared.order.epochs[-1]
        return self._x0 + (self._x1 - self._x0) * ((epoch - first) / (last - first) if last > first else 0.0)

    def _y(self, value: float) -> float:
        axis = self._prepared.axis
        return self._frame.foot - (value - axis.low) / (axis.high - axis.low) * (self._frame.foot - self._frame.top)


def apart(wanted: NDArray[np.float64], gap: float, top: float, foot: float, *, flipped: bool = False) -> NDArray[np.float64]:
    """Return rows as near to ``wanted`` (rising) as can be, ``gap`` from each other, between ``top`` and ``foot`` if they fit.

    ``flipped``: rows are counted from below; what comes back is counted from above again.
    """
    steps = np.arange(len(wanted)) * gap
    found = rising(wanted - steps) + steps if len(wanted) else wanted
    low, high = (-foot, -top) if flipped else (top, foot)
    if len(found):
        found = np.minimum(found, high - steps[::-1])
        found = np.maximum(found, low + steps)
    return -found if flipped else found
