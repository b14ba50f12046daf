"""One hue per family of methods, a shade per method, the same everywhere: in curves, bars and cards.

Reads: the catalogue of methods. Writes: nothing. Never: Streamlit, torch. Pages and race charts draw with it.

Every colour has at least 3:1 contrast against the light and the dark background, so that a figure looks the same in both and
in a talk. The five hues keep their distance for the common kinds of colour blindness. Dash and marker say the same again: no
two methods share both, and two with the same dash differ in colour for everybody.
"""

from __future__ import annotations

import functools
import math
from dataclasses import dataclass

from kdengine import catalogue

# family -> lightness, chroma, hue (OKLCH) of its first method, and how many degrees the others may leave that hue
FAMILIES: dict[str, tuple[float, float, float, float]] = {
    "response": (0.50, 0.16, 258, 14),
    "feature": (0.58, 0.16, 40, 24),
    "relation": (0.62, 0.14, 160, 24),
    "online": (0.62, 0.16, 335, 12),
    "self": (0.60, 0.16, 300, 12),
    "plain": (0.58, 0.012, 260, 0),
}
SYMBOLS = {
    "response": "circle",
    "feature": "square",
    "relation": "diamond",
    "online": "triangle-up",
    "self": "x",
    "plain": "circle-open",
}
SYMBOLS_AGAIN = {  # from the seventh method of a family on, when its dashes begin anew
    "response": "hexagon",
    "feature": "cross",
    "relation": "star-diamond",
    "online": "triangle-down",
    "self": "hourglass",
    "plain": "octagon-open",
}
DASHES = ("solid", "dash", "dot", "dashdot", "longdash", "longdashdot")
DARK, PALE = 0.47, 0.66  # lightness of the methods after the first
HUES = (0.0, -0.75, 1.0, 0.75, -1.0, 0.0)  # share of those degrees, by place in the family
MUTED, WIDER = 0.35, 1.5  # factors of chroma and degrees from the seventh method of a family on
REFERENCE = "#7d828b"  # the teacher's line: readable on both backgrounds, always dashed
LUMINANCE = (0.122, 0.298)


@dataclass(frozen=True, slots=True)
class Style:
    """How one method is drawn: ``colour`` (#rrggbb), ``dash`` and ``symbol`` as plotly names them."""

    colour: str
    dash: str
    symbol: str

    def faint(self, opacity: float = 0.15) -> str:
        """Return the colour with ``opacity``, for the band over seeds."""
        r, g, b = (int(self.colour[i : i + 2], 16) for i in (1, 3, 5))
        return f"rgba({r},{g},{b},{opacity})"


@functools.cache
def style_of(method: str) -> Style:
    """Return how ``method`` is drawn; an unknown key is drawn like a plain method."""
    label = catalogue.label_of(method)
    family = label.family if label.family in FAMILIES else "plain"
    sisters = [m.key for m in catalogue.labels().values() if m.family == label.family]
    place = sisters.index(method) if method in sisters else 0
    turn, step = divmod(place, len(DASHES))
    return Style(_shade(family, place), DASHES[step], (SYMBOLS_AGAIN if turn else SYMBOLS)[family])


def _shade(family: str, place: int) -> str:
    light, chroma, hue, reach = FAMILIES[family]
    turn, place = divmod(place, len(HUES))
    if turn:
        chroma, reach = chroma * MUTED, reach * WIDER
    if place:  # far from the first in lightness, then on its other side, in turn
        far, near = (PALE, DARK) if PALE - light > light - DARK else (DARK, PALE)
        light = far if place % 2 else near
    return visible(light, chroma, hue + HUES[place] * reach)


def visible(light: float, chroma: float, hue: float) -> str:
    """Return the nearest colour of that hue that a screen can show and both backgrounds can bear."""
    for _ in range(200):
        linear = _linear(light, chroma, hue)
        luminance = 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]
        if min(linear) < -1e-4 or max(linear) > 1.0001:
            chroma -= 0.002
        elif luminance < LUMINANCE[0]:
            light += 0.004
        elif luminance > LUMINANCE[1]:
            light -= 0.004
        else:
            return "#" + "".join(f"{round(255 * _gamma(c)):02x}" for c in linear)
    raise ValueError(f"no colour at lightness {light}, hue {hue}")


def _gamma(value: float) -> float:
    value = min(1.0, max(0.0, value))
    return 12.92 * value if value <= 0.0031308 else 1.055 * value ** (1 / 2.4) - 0.055


def _linear(light: float, chroma: float, hue: float) -> tuple[float, float, float]:
    """Convert OKLCH to linear sRGB (Ottosson 2020)."""
    a, b = chroma * math.cos(math.radians(hue)), chroma * math.sin(math.radians(hue))
    l_ = (light + 0.3963377774 * a + 0.2158037573 * b) ** 3
    m_ = (light - 0.1055613458 * a - 0.0638541728 * b) ** 3
    s_ = (light - 0.0894841775 * a - 1.2914855480 * b) ** 3
    return (
        4.0767416621 * l_ - 3.3077115913 * m_ + 0.2309699292 * s_,
        -1.2684380046 * l_ + 2.6097574011 * m_ - 0.3413193965 * s_,
        -0.0041960863 * l_ - 0.7034186147 * m_ + 1.7076147010 * s_,
    )
