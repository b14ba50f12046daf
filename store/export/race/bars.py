"""The bar race: a bar per racer, the best on top, gliding past each other as their values cross.

Reads: what is prepared. Writes: pixels of a canvas. Never: files.
"""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import NDArray

from store.export.race.canvas import Bytes, Ramp
from store.export.race.fonts import Face
from store.export.race.layout import frame_of
from store.export.race.prepare import Prepared
from store.export.race.words import axis_words, ended_text, epoch_text

NAMES_SHARE = 0.38, 0.28  # of the width, at most, for the names: of a tall picture, of a wide one
BARS_SHARE = 0.45  # of the width, for the bars, before words beside them are cut short
THICKNESS = 0.74  # of the way from bar to bar
THICKEST = 92  # pixels of a 1280 x 720 picture: one bar alone is no wall
SEEN_APART = 0.45, 0.8  # texts this many rows below a better one begin to show, and are whole


class Bars:
    """Draws the frames of a bar race; ``table``: the 256 colours that its pixels are indices of."""

    def __init__(self, prepared: Prepared) -> None:
        self._prepared = prepared
        self._frame = frame = frame_of(prepared)
        self.table = frame.table
        self._pitch = min((frame.foot - frame.top) / prepared.shown, THICKEST * frame.unit / THICKNESS)
        self._foot = round(frame.top + self._pitch * prepared.shown)
        self._face = Face(round(max(8.0, min(21 * frame.unit, 0.66 * self._pitch)), 2))
        self._small = Face(round(max(8.0, self._face.pixels * 0.72), 2))
        self._thick = THICKNESS * self._pitch
        self._columns()
        self._ground()

    def draw(self, number: int) -> Bytes:
        """Return the picture of a frame, counted from 0: indices (height, width). It is overwritten by the next one."""
        prepared, frame = self._prepared, self._frame
        frame.canvas.clear()
        places, presence = prepared.places[number], prepared.presence[number]
        values = prepared.values[number]
        lengths = prepared.axis.share(np.nan_to_num(values, nan=prepared.axis.low)) * (self._x1 - self._x0)
        seen = np.flatnonzero((presence > 0) & (places < prepared.shown + 1))
        seen = seen[np.lexsort((seen, -places[seen]))]  # the best last, on top
        for racer in seen.tolist():
            self._bar(racer, float(places[racer]), float(lengths[racer]), float(presence[racer]))
        for racer, alpha in zip(seen.tolist(), self._alphas(places[seen], presence[seen]), strict=True):
            if alpha > 0:
                self._texts(racer, number, float(places[racer]), float(lengths[racer]), alpha)
        face = frame.faces.epoch
        frame.write(epoch_text(prepared.epoch[number]), face, prepared.order.options.width - frame.margin,
                    frame.margin + face.cap, frame.letters, side="right")  # fmt: skip
        return frame.canvas.pixels

    def _columns(self) -> None:
        """Find where names end, bars begin, and the longest may end so that its value fits."""
        prepared, width, unit = self._prepared, self._prepared.order.options.width, self._frame.unit
        racers = prepared.order.racers
        share = float(np.interp(width / prepared.order.options.height, [9 / 16, 16 / 9], NAMES_SHARE))
        self._names = [self._face.elided(racer.name, share * width) for racer in racers]
        gap = round(10 * unit)
        self._x0 = self._frame.margin + max(self._face.width(name) for name in self._names) + gap
        finite = prepared.filled[~np.isnan(prepared.filled)]
        extremes = {prepared.axis.value_text(float(value)) for value in (finite.min(), finite.max())}
        values = max(self._face.width(text) for text in extremes)
        ended = prepared.ended[~np.isnan(prepared.ended)].tolist()
        for self._short in (False, True):  # in a narrow picture most of the width belongs to the bars
            ends = max((self._small.width(ended_text(epoch, short=self._short)) + gap for epoch in ended), default=0)
            self._x1 = width - self._frame.margin - values - gap - ends
            if self._x1 - self._x0 > BARS_SHARE * width:
                break
        self._gap = gap

    def _ground(self) -> None:
        """Draw what stands still: grid, ticks, what the axis measures."""
        frame, axis = self._frame, self._prepared.axis
        face = frame.faces.ticks
        base = self._foot + face.pixels * 1.4
        free = -1.0
        for tick in axis.ticks:
            x = self._x0 + float(axis.share(np.array(tick))) * (self._x1 - self._x0)
            frame.canvas.bar(round(x), round(x) + max(1, round(frame.unit)), frame.top, self._foot, frame.grid)
            text = axis.tick_text(tick)
            if x - face.width(text) / 2 > free:  # labels never touch, however small the picture
                frame.write(text, face, x, base, frame.muted, side="middle")
                free = x + face.width(text) / 2 + 8 * frame.unit
        words = face.elided(axis_words(self._prepared), self._prepared.order.options.width - frame.margin - self._x0)
        frame.write(words, face, self._x0, base + face.pixels * 1.5, frame.muted)
        frame.canvas.keep()
        self._torn = torn(math.ceil(self._thick), frame.unit) if axis.broken else None

    def _bar(self, racer: int, place: float, length: float, presence: float) -> None:
        middle = self._frame.top + (place - 0.5) * self._pitch
        top, canvas = middle - self._thick / 2, self._frame.canvas
        foot = self._foot
        canvas.bar(
            self._x0, self._x0 + max(length, 1.0), top, top + self._thick, self._frame.racers[racer], alpha=presence, below=foot
        )
        if self._torn is not None and length > 3 * self._torn.shape[1] and presence == 1:
            first, last = math.ceil(top), min(math.floor(top + self._thick), foot)
            x, height = self._x0 + self._torn.shape[1], last - first
            if 0 < height <= len(self._torn):
                canvas.pixels[first:last, x : x + self._torn.shape[1]] = self._frame.racers[racer].inked(self._torn[:height])

    def _texts(self, racer: int, number: int, place: float, length: float, alpha: float) -> None:
        frame, face, prepared = self._frame, self._face, self._prepared
        base = frame.top + (place - 0.5) * self._pitch + face.cap / 2
        self._write(self._names[racer], face, self._x0 - self._gap, base, frame.letters, alpha, right=True)
        text = prepared.axis.value_text(float(prepared.values[number, racer]))
        x = self._x0 + length + self._gap * 0.8
        self._write(text, face, x, base, frame.letters, alpha)
        if prepared.over[number, racer]:
            x += face.width(text) + self._gap
            self._write(ended_text(prepared.ended[racer], short=self._short), self._small, x, base, frame.muted, alpha)

    def _write(self, text: str, face: Face, x: float, base: float, ramp: Ramp, alpha: float, *, right: bool = False) -> None:
        word = face.word(text)
        left = round(x - word.width if right else x)
        below = self._foot + round(self._pitch * 0.3)  # letters may hang a little lower than bars
        self._frame.canvas.stamp(ramp.inked(word.coverage, alpha), left, round(base) - word.baseline, below=below)

    def _alphas(self, places: NDArray[np.float64], presence: NDArray[np.float64]) -> list[float]:
        """Return how visible each racer's texts are: of two in one place only those of the better one can be read."""
        shown = self._prepared.shown
        alphas = []
        for row, place in enumerate(places):
            better = places[row + 1 :]
            apart = float(np.min(place - better)) if len(better) else np.inf
            clear = (apart - SEEN_APART[0]) / (SEEN_APART[1] - SEEN_APART[0])
            inside = (shown + 0.75 - place) / 0.5
            alphas.append(min(1.0, max(0.0, min(clear, inside))) * float(presence[row]))
        return alphas


def torn(height: int, unit: float) -> Bytes:
    """Return what is left of a bar (height, width) with two slanted gaps through it: the mark of an axis that is not whole."""
    slant, stroke, apart = 0.3, max(1.5, 2.0 * unit), max(5.0, 6.5 * unit)
    width = math.ceil(slant * height + stroke + apart) + 2
    x, y = np.meshgrid(np.arange(width) + 0.5, np.arange(height) + 0.5)
    along = x - (height - y) * slant - 1 - stroke / 2
    away = np.minimum(abs(along), abs(along - apart))
    return np.rint(255 * np.clip(away - stroke / 2 + 0.5, 0, 1)).astype(np.uint8)
