"""What both kinds of race share: sizes that follow the picture's, and the texts around the drawing.

Reads: what is prepared. Writes: nothing. Never: a frame; what moves is drawn by ``bars`` and ``lines``.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from kdengine.errors import KdError
from store.export.race.canvas import EDGE_LEVELS, LETTER_LEVELS, Bytes, Canvas, Palette, Ramp
from store.export.race.fonts import Face
from store.export.race.order import Order
from store.export.race.prepare import Prepared
from store.export.race.words import THEMES, Theme, axis_words, epoch_text

SMALLEST_LETTERS = 9.0  # pixels; below nobody reads
SMALLEST_ROW = 9.0  # pixels from bar to bar
MOST_INDICES = 220  # of the palette, for the racers


@dataclass(frozen=True)
class Faces:
    """The fonts of a picture."""

    title: Face
    subtitle: Face
    epoch: Face
    ticks: Face
    caption: Face


@dataclass(frozen=True)
class Frame:
    """The picture around the drawing, and where the drawing goes: ``top`` to ``foot`` and ``margin`` from the sides, in pixels.

    ``table``: the 256 colours. ``unit``: how many pixels one of a 1280 x 720 picture is. ``racers``: the ramp of each;
    ``letters``, ``muted``: of text; ``grid``: of lines.
    """

    canvas: Canvas
    table: Bytes
    faces: Faces
    unit: float
    margin: int
    top: int
    foot: int
    racers: tuple[Ramp, ...]
    letters: Ramp
    muted: Ramp
    grid: Ramp

    def write(self, text: str, face: Face, x: float, base: float, ramp: Ramp, *, side: str = "left") -> None:
        """Write text that stands on ``base`` and begins at ``x``, or ends there (``side="right"``), or has its middle there."""
        word = face.word(text)
        shift = {"left": 0.0, "middle": word.width / 2, "right": float(word.width)}[side]
        self.canvas.stamp(ramp.inked(word.coverage), round(x - shift), round(base) - word.baseline)


def unit_of(width: int, height: int) -> float:
    """Return the scale of letters and gaps; a tall picture counts as a narrower one, so that it stays readable on a phone."""
    counted = np.interp(width / height, [9 / 16, 1, 16 / 9], [720, 900, 1280])
    return min(width / float(counted), height / 620 if width > height else height / 900)


def frame_of(prepared: Prepared) -> Frame:
    """Draw title, subtitle and caption, and return the frame with the room that is left.

    Raises:
        KdError: the picture is too small for what is on it.
    """
    order, options = prepared.order, prepared.order.options
    theme, unit = THEMES[options.theme], unit_of(options.width, options.height)
    faces, margin = _faces(unit), round(30 * unit)
    palette = Palette(theme.background)
    grid, racers = palette.ramp(theme.grid, 1), _ramps(order, palette, theme)
    muted, letters = palette.ramp(theme.muted, LETTER_LEVELS), palette.ramp(theme.text, LETTER_LEVELS)
    top, foot = _heights(prepared, faces, unit, margin)
    canvas = Canvas(options.width, options.height)
    made = Frame(canvas, palette.table(), faces, unit, margin, top, foot, racers, letters, muted, grid)
    if foot - top < SMALLEST_ROW * prepared.shown:
        fits = max(1, int((foot - top) / SMALLEST_ROW))
        raise KdError.of(f"{prepared.shown} bars in {options.width} x {options.height} pixels", f"up to {fits} in that height",
                         "choose a larger picture, or fewer bars in view", "height")  # fmt: skip
    room = options.width - 2 * margin - faces.epoch.width(epoch_text(order.epochs[-1])) - round(20 * unit)
    base = margin + faces.title.cap
    if order.title:
        made.write(faces.title.elided(order.title, room), faces.title, margin, base, letters)
        base += round(faces.subtitle.pixels * 1.5)
    if order.subtitle:
        made.write(faces.subtitle.elided(order.subtitle, room), faces.subtitle, margin, base, muted)
    _caption(made, prepared)
    return made


def _ramps(order: Order, palette: Palette, theme: Theme) -> tuple[Ramp, ...]:
    """Add the colours of the racers: those that are not highlighted first, because where lines meet the greater index is seen."""
    lit = order.options.highlight
    colours = [racer.colour if racer.name in lit or not lit else theme.grey for racer in order.racers]
    levels = max(1, min(EDGE_LEVELS, MOST_INDICES // len(set(colours))))  # all share 256 with the letters
    ramps = {colour: palette.ramp(colour, levels) for colour in sorted(set(colours), key=lambda c: (c != theme.grey, c))}
    return tuple(ramps[colour] for colour in colours)


def _faces(unit: float) -> Faces:
    def face(pixels: float, bold: bool = False) -> Face:
        return Face(round(max(SMALLEST_LETTERS, pixels * unit), 2), bold)

    return Faces(face(27, True), face(17), face(34, True), face(15), face(12.5))


def _caption_lines(prepared: Prepared, faces: Faces, unit: float, margin: int) -> list[str]:
    order = prepared.order
    room = order.options.width - 2 * margin
    return faces.caption.lines(order.caption, room, 2) if order.options.caption and order.caption else []


def _heights(prepared: Prepared, faces: Faces, unit: float, margin: int) -> tuple[int, int]:
    order = prepared.order
    head = max(faces.epoch.cap, faces.title.cap + (faces.subtitle.pixels * 1.5 if order.subtitle else 0))
    lines = len(_caption_lines(prepared, faces, unit, margin))
    below = lines * faces.caption.pixels * 1.4 + (8 * unit if lines else 0)
    axis = faces.ticks.pixels * 1.7 + (faces.ticks.pixels * 1.5 if axis_words(prepared) else 0)
    return round(margin + head + 22 * unit), round(order.options.height - margin * 0.8 - below - axis)


def _caption(frame: Frame, prepared: Prepared) -> None:
    lines = _caption_lines(prepared, frame.faces, frame.unit, frame.margin)
    face, height = frame.faces.caption, prepared.order.options.height
    base = height - frame.margin * 0.8 - (len(lines) - 1) * face.pixels * 1.4
    for number, line in enumerate(lines):
        frame.write(line, face, frame.margin, base + number * face.pixels * 1.4, frame.muted)
