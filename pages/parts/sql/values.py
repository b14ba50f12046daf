"""What charts of an answer are made of: its values as numbers or names, how a value looks, and how it is written.

Reads: the frame it is given. Writes: nothing. Never: Streamlit, the store; what an answer says is never taken as markup.
"""

from __future__ import annotations

import html
from collections.abc import Hashable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import pandas as pd
import plotly.graph_objects as go

from kdengine import catalogue
from pages.parts import charts, tables, words
from pages.parts.sql.axes import Axes, Unfit, percent, title
from store.export.colours import DASHES, SYMBOLS, Style, style_of, visible

PALETTE = tuple(visible(0.58, 0.14, hue) for hue in (258, 40, 160, 335, 95, 210, 300, 65))
LONGEST_NAME, LONGEST_TITLE = 28, 44  # characters beside, and along, an axis
QUIET = Style("rgba(128,136,150,0.45)", "solid", "circle")


@dataclass(slots=True)
class Drawn:
    """A figure, what it says for those who cannot see it, and ``notes``: what was left out or put together."""

    figure: go.Figure
    alt: str
    notes: list[str] = field(default_factory=list)


def rows(frame: pd.DataFrame, axes: Axes, types: Mapping[str, str], *, x_as_text: bool = False) -> tuple[pd.DataFrame, list[str]]:
    """Return the rows that have both values as x, y and colour (text), and a note on those left out.

    Numbers are floats (fractions in percent), times are ms since 1970, names are text.

    Raises:
        Unfit: no row is left.
    """
    x = named(frame[axes.x]) if x_as_text else along(frame[axes.x], types[axes.x])
    colour = named(frame[axes.colour]) if axes.colour else pd.Series("", index=frame.index)
    found = pd.DataFrame({"x": x, "y": along(frame[axes.y], types[axes.y]), "colour": colour.fillna("none")})
    found = found.replace([np.inf, -np.inf], np.nan).dropna()
    if found.empty:
        raise Unfit(f"No row has values in both {axes.x!r} and {axes.y!r}. Choose other columns.")
    left = len(frame) - len(found)
    return found, [f"{words.count(left, 'row')} without a value left out."] if left else []


def along(values: pd.Series, kind: str) -> pd.Series:
    """Return a column as it stands along an axis."""
    if kind == "number":
        return numbers(values)
    if kind == "time":
        ms = pd.to_datetime(values).astype("datetime64[ms]").astype("int64")
        return ms.astype(float).where(values.notna())
    return named(values)


def named(values: pd.Series) -> pd.Series:
    """Return a column as names of rows, bars or colours; missing values stay missing."""
    if pd.api.types.is_datetime64_any_dtype(values):
        return values.dt.strftime("%Y-%m-%d %H:%M").astype(object)
    short = pd.api.types.is_float_dtype(values)
    found = [None if words.missing(v) else f"{v:g}" if short else str(v) for v in values.astype(object)]
    return pd.Series(found, index=values.index, dtype=object, name=values.name)


def numbers(values: pd.Series) -> pd.Series:
    """Return a column as floats, fractions in percent."""
    found = pd.to_numeric(values, errors="coerce").astype("Float64").to_numpy(dtype=float, na_value=np.nan)
    return pd.Series(found * (100.0 if percent(str(values.name)) else 1.0), index=values.index)


def by_colour(found: pd.DataFrame, axes: Axes, notes: list[str], most: int) -> list[tuple[str, pd.DataFrame]]:
    """Return the rows by colour, in their order; of more than ``most`` colours the first, and a note."""
    parts = [(str(name), part) for name, part in found.groupby("colour", sort=False)]
    if len(parts) > most:
        notes.append(f"Of {len(parts)} values of {axes.colour} the first {most} are drawn.")
    return parts[:most]


def in_order(values: pd.Series, kind: str) -> list[Hashable]:
    """Return the different values: numbers and times by size, names as they come."""
    found = list(dict.fromkeys(values))
    return sorted(found) if kind in ("number", "time") else found


def colours_of(column: str, names: Sequence[str]) -> dict[str, Style]:
    """Return how each row or bar is drawn whose name stands beside it: methods and statuses in their colours, others alike."""
    known = set(names) <= set(catalogue.labels()) or set(names) <= set(words.STATUSES)
    return styles_of(column, names) if known else dict.fromkeys(names, Style(PALETTE[0], "solid", "circle"))


def styles_of(column: str, names: Sequence[str]) -> dict[str, Style]:
    """Return how each value of a column is drawn: methods as everywhere, statuses in their colours, others in turn."""
    if column and names and set(names) <= set(catalogue.labels()):
        return {name: style_of(name) for name in names}
    if column and names and set(names) <= set(words.STATUSES):
        return {name: Style(tables.HEX[words.STATUSES[name].colour], "solid", "circle") for name in names}
    symbols = list(SYMBOLS.values())
    return {
        name: Style(PALETTE[i % len(PALETTE)], DASHES[i // len(PALETTE) % len(DASHES)], symbols[i % len(symbols)])
        for i, name in enumerate(names)
    }


def demand(types: Mapping[str, str], name: str, allowed: tuple[str, ...], why: str) -> None:
    """Raise ``Unfit`` unless the column is of an allowed type."""
    if types[name] not in allowed:
        held = {"text": "names", "time": "times", "number": "numbers"}[types[name]]
        raise Unfit(f"{why}, and {name!r} holds {held}. Choose another column.")


def sent(values: pd.Series) -> Any:
    """Return a column as plotly takes it: float32 where that is exact enough."""
    if values.dtype == object:
        return [plain(str(value)) for value in values]
    found = values.to_numpy(dtype=float)
    return found if np.abs(found).max(initial=0.0) >= charts.EXACT else found.astype(np.float32)


def written(value: float, name: str, std: float = np.nan) -> str:
    """Write a number of column ``name`` (fractions are in percent already) with its spread."""
    if np.isnan(value):
        return "–"
    if percent(name):
        return f"{words.spread(value / 100, std / 100)} %"
    return words.number(value) + ("" if np.isnan(std) else f" {words.PLUS_MINUS} {words.number(std)}")


def extremes(found: Mapping[str, float], name: str, when: str = "") -> str:
    """Say which is highest and which is lowest of several numbers of column ``name``; "" where they are all the same."""
    known = {key: value for key, value in found.items() if not np.isnan(value)}
    if len(set(known.values())) < 2:
        return ""
    high, low = max(known, key=known.__getitem__), min(known, key=known.__getitem__)
    tail = f" {when}" if when else ""
    return f" {high} is highest{tail} with {written(known[high], name)}, {low} lowest with {written(known[low], name)}."


def headed(name: str) -> str:
    """Return the title of an axis over column ``name``, safe for plotly."""
    return plain(short(title(name), LONGEST_TITLE))


def ticks(names: Sequence[str]) -> dict[str, Any]:
    """Return what an axis of names needs besides: where some are long, their short forms."""
    if max(map(len, names), default=0) <= LONGEST_NAME:
        return {}
    return {"tickvals": [plain(name) for name in names], "ticktext": [plain(short(name)) for name in names]}


def short(name: str, most: int = LONGEST_NAME) -> str:
    """Return a long name without its middle."""
    return name if len(name) <= most else f"{name[: most - 11]}…{name[-10:]}"


def plain(text: str) -> str:
    """Return text that plotly shows as it stands: it takes some tags for markup."""
    return html.escape(text, quote=False)
