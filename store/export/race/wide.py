"""Wide tables (epochs, columns): read from a text file, shown as best so far or smoothed, a colour for each column.

Reads: the file that is named. Writes: nothing. Never: pandas, the store.
"""

from __future__ import annotations

import codecs
import csv
import functools
import hashlib
import io
import math
import re
from collections import Counter
from collections.abc import Iterator, Sequence
from itertools import islice
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from kdengine import catalogue
from kdengine.errors import KdError, Problem, nearest, unknown
from store.export import colours
from store.export.race.options import Options
from store.export.race.order import MOST_EPOCHS, MOST_RACERS, Order, Racer

Floats = NDArray[np.float64]
MODES = {"best": "Best so far", "raw": "As measured", "smooth": "Smoothed"}
KEPT = 0.6  # share of what came before in a smoothed value
MOST_BYTES = 20 * 2**20
MOST_FAULTS = 12  # named one by one; more are counted
DELIMITERS = ";\t|,"  # the first counts where two fit: numbers may hold commas, nothing else of these
NOTHING = {"", "-", "na", "n/a", "null", "none"}  # as good as an empty cell
_DECIMAL_COMMA = re.compile(r"[+-]?\d+,\d+([eE][+-]?\d+)?")
_MODE_TEXTS = {"raw": "Values as given", "best": "Best value so far", "smooth": "Smoothed values"}


def in_mode(table: Floats, mode: str, *, lower_is_better: bool = False) -> Floats:
    """Return (epochs, columns) as ``mode`` shows each column: the best so far, or smoothed (a moving average that keeps 60 % of
    what came before), or as it is. Gaps hold the value before; NaN stays before the first and behind the last value.
    """
    has = np.isfinite(table)
    rows = np.arange(len(table))[:, None]
    last = np.where(has, rows, -1).max(axis=0, initial=-1)
    known = np.where(has, table, np.nan)
    if mode == "smooth":
        shown = _smoothed(known)
    else:
        best = np.fmin if lower_is_better else np.fmax
        shown = best.accumulate(known, axis=0) if mode == "best" else held(known)
    return np.where(rows > last, np.nan, shown)


def held(table: Floats) -> Floats:
    """Return the table with every gap, and all behind the last value, filled by the value before."""
    rows = np.where(np.isnan(table), -1, np.arange(len(table))[:, None])
    last = np.maximum.accumulate(rows, axis=0)
    return np.where(last >= 0, np.take_along_axis(table, np.maximum(last, 0), axis=0), np.nan)


def _smoothed(table: Floats) -> Floats:
    shown = table.copy()
    for before, row in zip(shown, shown[1:], strict=False):
        row[:] = np.where(np.isnan(row), before, np.where(np.isnan(before), row, KEPT * before + (1 - KEPT) * row))
    return shown


# ---- colours ---------------------------------------------------------------------------------------------------------------


def colours_of(names: Sequence[str]) -> list[str]:
    """Return a colour (#rrggbb) per name: a method's own, else one that follows from the name alone, so that no other name
    changes it. Each has 3:1 contrast on light and on dark. Two are alike only where two names mean one method.
    """
    found = {name: method_colour for name in names if (method_colour := _of_method(name))}
    for name in names:
        if name not in found:
            shades = (_of_name(name, n) for n in range(1000))
            found[name] = next(shade for shade in shades if shade not in found.values())
    return [found[name] for name in names]


def _of_method(name: str) -> str | None:
    key = name.strip().lower()
    # asks for the file first: reading all cards takes longer than reading the table
    known = re.fullmatch(r"[a-z]\w*", key, re.ASCII) and (catalogue.FOLDER / f"{key}.py").exists() and key in catalogue.labels()
    return colours.style_of(key).colour if known else None


@functools.cache
def _of_name(name: str, turn: int) -> str:
    """Return a colour that follows from ``name``; ``turn`` counts the tries."""
    digest = hashlib.sha256(f"{name.strip()}{turn or ''}".encode()).digest()
    hue, light, chroma = (int.from_bytes(digest[i : i + 4], "big") / 2**32 for i in (0, 4, 8))
    return colours.visible(0.48 + 0.18 * light, 0.10 + 0.06 * chroma, 360 * hue)


# ---- orders ----------------------------------------------------------------------------------------------------------------


def from_csv(path: Path, *, options: Options, mode: str = "raw", unit: str = "", lower_is_better: bool = False,
             title: str = "", measure: str = "") -> Order:  # fmt: skip
    """Return the race of a wide table: first column the epoch, then one column per racer, its name in the first line.

    Separated by comma, semicolon, tab or bar; UTF-8, or UTF-16 with its mark; with semicolons and tabs a decimal comma is
    understood. Rows may come in any order. An empty cell is no value: a gap, a late start, an early end.

    Args:
        mode: see ``in_mode``; ``raw`` draws the values as they are given.
        unit: behind a value, with its space.
        measure: what is measured, below the axis.

    Raises:
        KdError: with every fault of the file, the first dozen by row and column.
    """
    if mode not in MODES:
        raise KdError(unknown("mode", mode, tuple(MODES)))
    epochs, names, table = read(path)
    shown = table if mode == "raw" else in_mode(table, mode, lower_is_better=lower_is_better)
    columns = zip(names, colours_of(names), shown.T.tolist(), strict=True)
    percent = unit.strip() == "%" and np.nanmax(table) <= 100
    return Order(
        epochs=tuple(epochs), racers=tuple(Racer(name=name, colour=colour, values=tuple(own)) for name, colour, own in columns),
        title=title or _title(path, measure), caption=f"{_MODE_TEXTS[mode]}, from {path.name}.", source=f"From {path.name}.",
        measure=measure, unit=unit, most=100.0 if percent else None, lower_is_better=lower_is_better, options=options,
    )  # fmt: skip


def _title(path: Path, measure: str) -> str:
    words = f"{measure} by epoch" if measure else re.sub(r"[_\s]+", " ", path.stem).strip()
    return words[:1].upper() + words[1:]


# ---- reading ---------------------------------------------------------------------------------------------------------------

Line = tuple[int, list[str]]  # number in the file, cells


def read(path: Path) -> tuple[list[float], list[str], Floats]:
    """Return epochs in rising order, names, and values (epochs, columns; NaN = none) of a wide table in a text file.

    Raises:
        KdError: with every fault of the file, the first dozen one by one.
    """
    delimiter, lines = _split(_text_of(path), path)
    names, rows = _names(lines), lines[1:]
    faults = list(_shape_faults(names, rows))
    if faults:  # numbers are not looked at while it is not clear which column they belong to
        raise KdError(*faults)
    table, faults = _numbers(names, rows, comma=delimiter in ";\t")
    epochs = table[:, 0]
    faults += _epoch_faults(epochs)
    nothing = [name for name, column in zip(names[1:], table.T[1:], strict=True) if np.isnan(column).all()]
    if nothing and not faults:
        faults = [Problem("csv", f"{', '.join(nothing)} without any value", "a value in one row at least", "remove the column")]
    if len(faults) > MOST_FAULTS:
        more = f"{len(faults) - MOST_FAULTS} further faults"
        faults = [*faults[:MOST_FAULTS], Problem("csv", more, "numbers", "correct these first, then see")]
    if faults:
        raise KdError(*faults)
    order = np.argsort(epochs)
    return epochs[order].tolist(), names[1:], table[order, 1:]


def _text_of(path: Path) -> str:
    allowed = "a table as text: comma, semicolon or tab between the columns"
    try:
        if path.stat().st_size > MOST_BYTES:
            raise KdError.of(f"{path} with {path.stat().st_size / 2**20:.0f} MiB", f"{MOST_BYTES >> 20} MiB at most",
                             "leave rows and columns out", "csv")  # fmt: skip
        raw = path.read_bytes()
    except OSError as error:
        close = nearest(path.name, [p.name for p in path.parent.glob("*.?sv")])
        do = f"did you mean {str(path.with_name(close))!r}?" if close and not path.exists() else "look at its name and its rights"
        raise KdError.of(f"{path} ({error.strerror})", allowed, do, "csv") from None
    marked = raw.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE))
    try:
        text = raw.decode("utf-16" if marked else "utf-8-sig")
    except UnicodeDecodeError:
        text = "\0"
    if "\0" in text:
        raise KdError.of(f"{path}, which is no UTF-8 text", allowed, "save it as CSV in UTF-8", "csv")
    return text


def _split(text: str, path: Path) -> tuple[str, list[Line]]:
    """Return the delimiter and the lines that are not empty."""
    try:
        widths = {delimiter: [len(row) for _, row in islice(_lines(text, delimiter), 2)] for delimiter in DELIMITERS}
        delimiter = max(DELIMITERS, key=lambda delimiter: (min(widths[delimiter], default=0), widths[delimiter][:1]))
        lines = list(_lines(text, delimiter))
    except csv.Error as error:
        raise KdError.of(f"{path} ({error})", "a table as text", "save it as CSV in UTF-8", "csv") from None
    if not lines:
        raise KdError.of(f"{path}, which is empty", "a line of names, then a row per epoch", "write the table again", "csv")
    return delimiter, lines


def _lines(text: str, delimiter: str) -> Iterator[Line]:
    reader = csv.reader(io.StringIO(text, newline=""), delimiter=delimiter, skipinitialspace=True)
    for row in reader:
        cells = [cell.strip() for cell in row]
        if any(cells):
            yield reader.line_num, cells


def _names(lines: Sequence[Line]) -> list[str]:
    """Return the first line without what a delimiter at the end of every line adds."""
    names = list(lines[0][1])
    while len(names) > 1 and not names[-1] and not any(any(row[len(names) - 1 :]) for _, row in lines[1:]):
        names.pop()
    return names


def _shape_faults(names: Sequence[str], rows: Sequence[Line]) -> Iterator[Problem]:
    if len(names) < 2:
        yield Problem("csv", f"one column ({names[0][:40]})", "the epoch, then a column per method",
                      "separate the columns by comma, semicolon or tab")  # fmt: skip
    elif all(_number(name) is not None for name in names):
        yield Problem("csv", "a first line of numbers", "a first line with the names of the columns", "add it")
    if not rows:
        yield Problem("csv", "no row below the names", "a row per epoch", "add the values")
    for number, name in enumerate(names[1:], 2):
        if not name:
            yield Problem("csv", f"column {number} without a name", "a name for each column", "name or remove it")
    twice = [name for name, n in Counter(names[1:]).items() if n > 1 and name]
    if twice:
        yield Problem("csv", f"{', '.join(twice)} more than once", "a name for each column", "rename them")
    for what, n, most in (("columns", len(names) - 1, MOST_RACERS), ("rows", len(rows), MOST_EPOCHS)):
        if n > most:
            yield Problem("csv", f"{n} {what}", f"{most} at most", "leave some out")
    long = [str(number) for number, row in rows if any(row[len(names) :])]
    if long:
        yield Problem("csv", f"more cells than names in line {', '.join(long[:MOST_FAULTS])}", f"{len(names)} cells a line",
                      "put names that hold the separator into quotes")  # fmt: skip


def _numbers(names: Sequence[str], rows: Sequence[Line], *, comma: bool) -> tuple[Floats, list[Problem]]:
    """Return all cells as numbers (rows, columns), NaN where there is none, and a fault per cell that is neither."""
    table = np.full((len(rows), len(names)), np.nan)
    faults = []
    for place, (number, row) in enumerate(rows):
        for column, cell in enumerate(row[: len(names)]):
            text = cell.replace(",", ".") if comma and _DECIMAL_COMMA.fullmatch(cell) else cell
            value = math.nan if text.lower() in NOTHING else _number(text)
            if value is not None and math.isfinite(value):
                table[place, column] = value
            elif value is None or column == 0:
                where = f"line {number}, {names[column] or 'the first column'}"
                allowed = "a number" if column == 0 else "a number, or nothing where there is no value"
                faults.append(Problem(where, repr(cell[:40]), allowed, "correct the cell"))
    return table, faults


def _number(text: str) -> float | None:
    try:
        return float(text)
    except ValueError:
        return None


def _epoch_faults(epochs: Floats) -> list[Problem]:
    values, counts = np.unique(epochs[~np.isnan(epochs)], return_counts=True)
    twice = [f"{value:g}" for value in values[counts > 1]]
    if not twice:
        return []
    return [Problem("csv", f"epoch {', '.join(twice[:MOST_FAULTS])} more than once", "one row per epoch", "keep one of each")]
