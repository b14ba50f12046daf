"""Text as pictures: words in the fonts that lie beside this file, Latin, Chinese, Japanese and Korean, drawn once and kept.

The digits are of one width, so that a running number does not tremble. What no font has is drawn as an empty box.

Reads: ``fonts/``, and DejaVu Sans as matplotlib brings it. Writes: nothing. Never: a font of the system, so that a picture is
the same everywhere.
"""

from __future__ import annotations

import functools
import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import matplotlib as mpl
import numpy as np
from matplotlib.font_manager import get_font
from matplotlib.ft2font import FT2Font, LoadFlags
from numpy.typing import NDArray

FOLDER = Path(__file__).parent / "fonts"
LATIN = {False: "Inter-Regular.otf", True: "Inter-SemiBold.otf"}
CJK = "NotoSansCJKsc-Regular.otf"
BOX, ELLIPSIS = "\N{WHITE SQUARE}", "\N{HORIZONTAL ELLIPSIS}"
KEPT = 4096  # pictures of texts that are kept: every value of a long race once


@dataclass(frozen=True, slots=True)
class Word:
    """A text as a picture: ``coverage`` (height, width), 0 to 255; ``baseline``: the rows of it above the line it stands on."""

    coverage: NDArray[np.uint8]
    baseline: int

    @property
    def width(self) -> int:
        """Its width in pixels."""
        return int(self.coverage.shape[1])


@dataclass(frozen=True)
class Face:
    """A font in one size, ``pixels`` of its em; ``bold``: the heavier cut."""

    pixels: float
    bold: bool = False

    def word(self, text: str) -> Word:
        """Return the text as a picture."""
        return _word(shown(text), self.pixels, self.bold)

    def width(self, text: str) -> int:
        """Return how many pixels wide the text is."""
        return self.word(text).width

    def elided(self, text: str, most: float) -> str:
        """Return the text with its middle left out, so that it is at most so many pixels wide."""
        if self.width(text) <= most:
            return text
        least, longest = 0, len(text) - 1
        while least < longest:  # the longest that fits
            size = (least + longest + 1) // 2
            least, longest = (size, longest) if self.width(_without_middle(text, size)) <= most else (least, size - 1)
        return _without_middle(text, least)

    def lines(self, text: str, most: float, lines: int) -> list[str]:
        """Return the text in at most so many lines, broken between words; the last one is elided where it does not fit."""
        words, found = text.split(), list[str]()
        while words and len(found) < lines - 1:
            fit = 1
            while fit < len(words) and self.width(" ".join(words[: fit + 1])) <= most:
                fit += 1
            found.append(self.elided(" ".join(words[:fit]), most))
            words = words[fit:]
        return [*found, self.elided(" ".join(words), most)] if words else found

    @property
    def cap(self) -> int:
        """The height of a capital letter, in pixels: what a line is centred by."""
        return int(self.word("H").coverage.any(axis=1).sum())


def shown(text: str) -> str:
    """Return the text in one line, with a box for each character that no font has."""
    known = _known()
    return "".join(c if ord(c) in known else " " if c.isspace() else BOX for c in text)


def files() -> Sequence[Path]:
    """Return the font files that lie beside this file: a picture depends on them."""
    return sorted(FOLDER.glob("*.otf"))


def _without_middle(text: str, kept: int) -> str:
    head = (kept + 1) // 2
    return text[:head].rstrip() + ELLIPSIS + text[len(text) - (kept - head) :].lstrip()


@functools.lru_cache(maxsize=KEPT)
def _word(text: str, pixels: float, bold: bool) -> Word:
    font = _font(bold)
    font.set_size(pixels, 72)
    font.set_text(text or " ", 0.0, flags=LoadFlags.TARGET_LIGHT)
    font.draw_glyphs_to_bitmap(antialiased=True)
    ink = np.array(font.get_image(), dtype=np.uint8)
    left, across = max(0, round(font.get_bitmap_offset()[0] / 64)), math.ceil(font.get_width_height()[0] / 64)
    # as wide as the text runs, not as its ink: else a number would shift when its first digit becomes a 1
    coverage = np.zeros((ink.shape[0], max(across, left + ink.shape[1])), dtype=np.uint8)
    coverage[:, left : left + ink.shape[1]] = ink
    below = math.ceil(font.get_descent() / 64) + 1  # the picture has an empty row at its foot
    return Word(coverage, coverage.shape[0] - below)


@functools.cache
def _font(bold: bool) -> FT2Font:
    return get_font([str(FOLDER / LATIN[bold]), str(FOLDER / CJK), _dejavu()])


def _dejavu() -> str:
    return str(Path(mpl.get_data_path()) / "fonts" / "ttf" / "DejaVuSans.ttf")


@functools.cache
def _known() -> frozenset[int]:
    paths = [str(FOLDER / LATIN[False]), str(FOLDER / CJK), _dejavu()]
    return frozenset(code for path in paths for code in get_font(path).get_charmap())
