"""Which columns of an answer a chart is drawn over: what each column is good for, and a sensible choice.

Reads: the frame it is given. Writes: nothing. Never: Streamlit, figures (``figures`` draws them).
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import pandas as pd

from pages.parts import words

Type = Literal["number", "time", "text", "other"]
KINDS = {"line": "Line", "bar": "Bar", "scatter": "Scatter", "heat": "Heat map"}
COURSES = ("epoch", "elapsed_s", "images_seen", "step", "generation")  # along these, values change
COUNTED = ("n", "seed", "seeds", "runs", "position", "batch_size")  # numbers that are rarely what was asked for
SPREAD = re.compile(r"(^|_)(std|stddev|sd|spread|low|high|min|max)(_|$)")
FIRST_COLOURS = ("method", "dataset", "student", "suite", "network", "term", "status")
UNITS = {"frac": "", "s": "s", "mib": "MiB"}  # the last part of a name -> how a title says it
MOST_COLOURS = 40
ANY = 1_000_000  # of so many lines the first are drawn: their mean would be no line of the answer
MOST_SIDE_BY_SIDE = 8  # bars of one category


class Unfit(Exception):
    """A chart that cannot be drawn over these columns; the text says why, and what could."""


@dataclass(frozen=True, slots=True)
class Column:
    """A column of an answer: its type, and how many different values it has."""

    name: str
    type: Type
    distinct: int

    @property
    def course(self) -> bool:
        """Whether a line may run along it."""
        return self.type == "time" or (self.type == "number" and self.name in COURSES)

    @property
    def measure(self) -> bool:
        """Whether it holds what was measured, as far as its name tells."""
        return self.type == "number" and self.name not in (*COURSES, *COUNTED) and not SPREAD.search(self.name)


@dataclass(frozen=True, slots=True)
class Axes:
    """What is drawn: ``kind`` (a key of ``KINDS``) over columns; ``colour`` "" = one colour, of a heat map the cell's number."""

    kind: str
    x: str
    y: str
    colour: str = ""


def columns(frame: pd.DataFrame) -> list[Column]:
    """Return the columns of an answer with their types; empty ones are of type other."""
    return [_column(str(name), frame[name]) for name in frame.columns]


def _column(name: str, values: pd.Series) -> Column:
    known = values.dropna()
    if known.empty:
        return Column(name, "other", 0)
    if pd.api.types.is_bool_dtype(values) or all(isinstance(value, str) for value in known):
        return Column(name, "text", int(known.nunique()))
    if pd.api.types.is_numeric_dtype(values):
        return Column(name, "number", int(known.nunique()))
    if pd.api.types.is_datetime64_any_dtype(values):
        return Column(name, "time", int(known.nunique()))
    return Column(name, "other", 0)


def suggest(found: Sequence[Column], kind: str, **given: str) -> Axes:
    """Return the axes for a chart of ``kind`` over these columns; ``given``: x, y or colour that are chosen already.

    Raises:
        Unfit: there are no columns for it.
    """
    if not any(column.distinct for column in found):
        raise Unfit("The answer has no values, so there is nothing to draw.")
    return _SUGGEST[kind](found, given)


def _line(found: Sequence[Column], given: dict[str, str]) -> Axes:
    along = _ranked(found, lambda c: (c.course, c.type == "time", c.type == "number"))
    x = given.get("x") or _first([c for c in along if c.type in ("number", "time")], "a line", "numbers or times to run along")
    y = given.get("y") or _measure(found, x, "a line")
    return Axes("line", x, y, _colour(found, given, (x, y), ANY))


def _bar(found: Sequence[Column], given: dict[str, str]) -> Axes:
    texts = _ranked(_of(found, "text"), lambda c: (c.distinct > 1, _preferred(c), -found.index(c)))
    counted = [c for c in found if c.type == "number" and not c.measure] + [c for c in found if c.type == "time"]
    x = given.get("x") or _first([*texts, *counted, *found], "bars", "names or whole numbers to stand beside one another")
    y = given.get("y") or _measure(found, x, "bars")
    return Axes("bar", x, y, _colour(found, given, (x, y), MOST_SIDE_BY_SIDE))


def _scatter(found: Sequence[Column], given: dict[str, str]) -> Axes:
    numbers = _ranked([c for c in found if c.type in ("number", "time")], lambda c: (c.measure, -found.index(c)))
    x = given.get("x") or _first(numbers, "a scatter", "numbers")
    others = [c for c in numbers if c.name != x] + [c for c in found if c.type == "text"]
    y = given.get("y") or _first(others, "a scatter", "numbers or names for y")
    return Axes("scatter", x, y, _colour(found, given, (x, y), MOST_COLOURS))


def _heat(found: Sequence[Column], given: dict[str, str]) -> Axes:
    value = given.get("colour") or _measure(found, given.get("x", ""), "a heat map")
    texts = _ranked(_of(found, "text"), lambda c: (c.distinct > 1, _preferred(c), -found.index(c)))
    steps = [c for c in found if c.course] + [c for c in found if c.type == "number" and c.name in COUNTED]
    rows = [c for c in [*texts, *steps] if c.name not in (value, given.get("x"))]
    y = given.get("y") or _first(rows, "a heat map", "names for its rows")
    across = [c for c in [*steps, *texts] if c.name not in (y, value)]
    x = given.get("x") or _first(across, "a heat map", "names or steps to run across, beside those of its rows")
    return Axes("heat", x, y, value)


_SUGGEST = {"line": _line, "bar": _bar, "scatter": _scatter, "heat": _heat}


def _of(found: Sequence[Column], kind: Type) -> list[Column]:
    return [c for c in found if c.type == kind]


def _ranked(found: Sequence[Column], key: Any) -> list[Column]:
    return sorted(found, key=key, reverse=True)


def _preferred(column: Column) -> int:
    return -FIRST_COLOURS.index(column.name) if column.name in FIRST_COLOURS else -len(FIRST_COLOURS)


def _first(found: Sequence[Column], chart: str, wanted: str) -> str:
    if not found:
        raise Unfit(f"For {chart} the answer would need a column of {wanted}. Ask for one, or choose another chart.")
    return found[0].name


def _measure(found: Sequence[Column], but: str, chart: str) -> str:
    numbers = [c for c in _of(found, "number") if c.name != but]
    ranked = _ranked(numbers, lambda c: (c.measure, not SPREAD.search(c.name), not c.course, -numbers.index(c)))
    return _first(ranked, chart, "numbers to show")


def _colour(found: Sequence[Column], given: dict[str, str], taken: tuple[str, str], most: int) -> str:
    if "colour" in given:
        return given["colour"]
    fitting = [c for c in found if c.type == "text" and c.name not in taken and 1 < c.distinct <= most]
    return _ranked(fitting, _preferred)[0].name if fitting else ""


def title(name: str) -> str:
    """Return a column's name as the title of an axis, with its unit: ``Reached mean, s``."""
    if name in words.MEASURES:
        return words.MEASURES[name].title
    said, _, unit = name.rpartition("_")
    if unit not in UNITS or not said or said.endswith("_per"):
        said, unit = name, ""
    said = said.replace("_", " ").strip() or name
    return said[:1].upper() + said[1:] + (f", {UNITS[unit]}" if UNITS.get(unit) else "")


def percent(name: str) -> bool:
    """Say whether a column holds fractions, to be drawn in percent."""
    return name.endswith("_frac")


def spread_of(name: str, found: Iterable[Any]) -> str:
    """Return the column that holds the standard deviation of ``name``: ``best_std_frac`` of ``best_mean_frac``; "" = none."""
    guesses = [re.sub(r"(^|_)(mean|avg)(?=_|$)", rf"\1{word}", name) for word in ("std", "stddev", "sd")]
    guesses += [f"{name}_std", re.sub(r"_(frac|s|mib)$", r"_std_\1", name)]
    names = set(found)
    return next((guess for guess in guesses if guess != name and guess in names), "")
