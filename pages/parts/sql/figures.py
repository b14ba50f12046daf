"""Charts of an answer: a frame and its axes in, a figure out, with what was left out said in a sentence. Lines and bars here.

Reads: the frame it is given. Writes: nothing. Never: Streamlit, the store.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import pandas as pd
import plotly.graph_objects as go

from pages.parts import charts, words
from pages.parts.charts import Line
from pages.parts.sql import axes as known
from pages.parts.sql import planes, values
from pages.parts.sql.axes import Axes, Unfit, percent, title
from pages.parts.sql.values import QUIET, Drawn, colours_of, extremes, headed, plain, styles_of
from store.export.colours import Style

MOST_BARS = 40
LOWER_IS_BETTER = re.compile(r"(^|_)(loss|ece|kl)(_|$)|_s$")


def draw(frame: pd.DataFrame, axes: Axes) -> Drawn:
    """Draw the answer over its axes.

    Raises:
        Unfit: these columns make no such chart; says why.
    """
    asked = [axes.x, axes.y, *([axes.colour] if axes.colour else [])]
    missing = [name for name in asked if not name or name not in frame]
    if missing:
        raise Unfit(f"The answer has no column {missing[0]!r}. Choose one that it has.")
    frame = frame.reset_index(drop=True)
    if axes.x == axes.y:
        raise Unfit(f"Both axes show {axes.x!r}. Choose another column for one of them.")
    types: dict[str, str] = {column.name: column.type for column in known.columns(frame[list(dict.fromkeys(asked))])}
    odd = [name for name in asked if types[name] == "other"]
    if odd:
        raise Unfit(f"Column {odd[0]!r} is empty or holds lists, which no axis can show. Choose another column.")
    return {"line": _lines, "bar": _bars, "scatter": planes.scatter, "heat": planes.heat}[axes.kind](frame, axes, types)


# ---- lines -----------------------------------------------------------------------------------------------------------------


def _lines(frame: pd.DataFrame, axes: Axes, types: dict[str, str]) -> Drawn:
    values.demand(types, axes.x, ("number", "time"), "A line runs along numbers or times")
    values.demand(types, axes.y, ("number",), "A line goes up and down with numbers")
    rows, notes = values.rows(frame, axes, types)
    parts = values.by_colour(rows, axes, notes, known.MOST_COLOURS)
    styles = styles_of(axes.colour, [name for name, _ in parts])
    spread = known.spread_of(axes.y, frame.columns)
    if any(part["x"].duplicated().any() for _, part in parts):
        notes.append(f"Several rows share a value of {axes.x}: their mean is drawn.")
        parts = [(name, part.groupby("x", as_index=False)[["y"]].mean()) for name, part in parts]
    elif spread:
        notes.append(f"Bands: {axes.y} plus and minus {spread}.")
        around = values.numbers(frame[spread])
        parts = [(name, part.assign(around=around.reindex(part.index).fillna(0.0))) for name, part in parts]
    lines = _loud([_line(name, part, styles[name]) for name, part in parts], axes.y, notes)
    figure = charts.draw(
        [line for line in lines if line.named], under=[line for line in lines if not line.named], height=420, x="",
        y=words.Measure(headed(axes.y), "percent" if percent(axes.y) else "", ""), x_axis=_along(axes.x, types, lines),
    )  # fmt: skip
    what = f"{words.count(len(lines), 'line')} of {title(axes.y)} along {title(axes.x)}."
    ends = {name: float(line.y[-1]) for (name, _), line in zip(parts, lines, strict=True)}
    return Drawn(figure, what + extremes(ends, axes.y, "at the end"), notes)


def _line(name: str, part: pd.DataFrame, style: Style) -> Line:
    part = part.sort_values("x")
    y = part["y"].to_numpy()
    around = part["around"].to_numpy() if "around" in part else None
    bands = {} if around is None or len(y) < 2 else {"low": y - around, "high": y + around}
    return Line(plain(values.short(name)), style, part["x"].to_numpy(), y, **bands)


def _loud(lines: list[Line], y: str, notes: list[str]) -> list[Line]:
    """Leave at most eight lines their colour and name: those that end highest, of a loss lowest; the others become grey."""
    if len(lines) <= charts.MAX_LABELS:
        return lines
    lower = bool(LOWER_IS_BETTER.search(y))
    ranked = sorted(lines, key=lambda line: float(line.y[-1]), reverse=not lower)
    loud = {id(line) for line in ranked[: charts.MAX_LABELS]}
    ends = "lowest" if lower else "highest"
    notes.append(f"The {len(loud)} that end {ends} have a colour and a name; point at a grey line for its name.")
    return [
        line if id(line) in loud else replace(line, style=QUIET, weight=1.2, named=False, low=None, high=None) for line in lines
    ]


def _along(name: str, types: dict[str, str], lines: Sequence[Line]) -> dict[str, Any]:
    x = np.concatenate([line.x for line in lines])
    low, high = float(x.min()), float(x.max())
    axis: dict[str, Any] = {"title": {"text": headed(name), **charts.TITLE}, "range": [low, high if high > low else low + 1]}
    if types[name] == "time":
        return axis | {"type": "date", "title": {"text": f"{headed(name)}, UTC", **charts.TITLE}}
    if percent(name):
        return axis | {"ticksuffix": " %"}
    if bool(np.all(x == np.round(x))) and high < 1e5:
        return axis | {"tickformat": "d"} | ({"dtick": 1} if high - low <= 12 else {"nticks": 9})
    return axis


# ---- bars ------------------------------------------------------------------------------------------------------------------


def _bars(frame: pd.DataFrame, axes: Axes, types: dict[str, str]) -> Drawn:
    values.demand(types, axes.y, ("number",), "The length of a bar is a number")
    rows, notes = values.rows(frame, axes, types, x_as_text=True)
    names = list(dict.fromkeys(rows["x"]))
    if len(names) > MOST_BARS:
        notes.append(f"Of {len(names)} values of {axes.x} the first {MOST_BARS} are drawn.")
        names = names[:MOST_BARS]
        rows = rows[rows["x"].isin(names)]
    parts = values.by_colour(rows, axes, notes, known.MOST_SIDE_BY_SIDE)
    if any(part["x"].duplicated().any() for _, part in parts):
        notes.append(f"Several rows share a bar: their mean of {axes.y} is drawn.")
    spread = known.spread_of(axes.y, frame.columns)
    around = values.numbers(frame[spread]) if spread else pd.Series(np.nan, index=frame.index)
    if spread:
        notes.append(f"Whiskers: {spread}.")
    floor = _floor(rows["y"], axes.y)
    own = colours_of(axes.x, names)
    styles = styles_of(axes.colour, [name for name, _ in parts])
    colours = [[own[name].colour for name in names] if len(parts) == 1 else styles[group].colour for group, _ in parts]
    traces = [
        _bar(group if len(parts) > 1 else "", part, names, axes.y, around, colour, floor)
        for (group, part), colour in zip(parts, colours, strict=True)
    ]
    what = f"{words.count(sum(part['x'].nunique() for _, part in parts), 'bar')} of {title(axes.y)} by {title(axes.x)}."
    told = {str(name): float(mean) for name, mean in rows.groupby("x")["y"].mean().items()}
    return Drawn(_bar_figure(traces, names, axes, floor), what + extremes(told, axes.y), notes)


def _bar(
    group: str, part: pd.DataFrame, names: list[str], y: str, around: pd.Series, colour: Any, floor: float
) -> dict[str, Any]:
    means = part.groupby("x")["y"].mean().reindex(names)
    wide = around.reindex(part.index).groupby(part["x"]).mean().reindex(names)
    whole = [plain(name) for name in names]
    trace: dict[str, Any] = {
        "type": "bar", "orientation": "h", "y": whole, "x": (means - floor).to_numpy(dtype=np.float32),
        "text": whole, "textposition": "none",
        "name": plain(values.short(group)), "marker": {"color": colour, "line": {"width": 0}},
        "customdata": [values.written(mean, y, std) for mean, std in zip(means, wide, strict=True)],
        "hovertemplate": f"%{{text}}{', ' + plain(group) if group else ''}: %{{customdata}}<extra></extra>",
    }  # fmt: skip
    trace.update(base=floor)
    if wide.notna().any():
        trace["error_x"] = {"type": "data", "array": np.nan_to_num(wide), "thickness": 1.5, "width": 4, "color": charts.AXIS}
    return trace


def _bar_figure(traces: list[dict[str, Any]], names: list[str], axes: Axes, floor: float) -> go.Figure:
    several, suffix = len(traces) > 1, " %" if percent(axes.y) else ""
    said = [] if several else traces[0]["customdata"]
    layout = charts.blank(
        90 + (16 * len(traces) + 14) * len(names), legend=several, right=16 + charts.LETTER_PX * max(map(len, said), default=0)
    )
    layout["annotations"] = [
        {"x": 1, "xref": "paper", "y": plain(name), "text": text, "showarrow": False, "xanchor": "left", "xshift": 8}
        for name, text in zip(names, said, strict=False)
    ]
    layout |= {"bargap": 0.34, "bargroupgap": 0.06}
    layout["legend"] |= {"y": 1.0, "yanchor": "bottom"}
    layout["yaxis"] |= {"showgrid": False, "type": "category", "autorange": "reversed", "tickfont": {"size": 13}}
    layout["yaxis"] |= values.ticks(names)
    start = f" (axis starts at {floor:g}{suffix})" if floor else ""
    layout["xaxis"] |= {
        "showgrid": True, "gridcolor": charts.GRID, "showline": False, "ticksuffix": suffix, "zerolinecolor": charts.AXIS,
        "title": {"text": headed(axes.y) + start, **charts.TITLE}, "zeroline": any((t["x"] < 0).any() for t in traces),
    }  # fmt: skip
    return go.Figure({"data": traces, "layout": layout})


def _floor(y: pd.Series, name: str) -> float:
    """Return where bars begin: at zero; but accuracies that are all high, near the lowest, or they would all look the same."""
    low, high = float(y.min()), float(y.max())
    if not percent(name) or low < 40 or high > 100 or low < 0.8 * high:
        return 0.0
    return max(0.0, float(np.floor((low - 0.5 * max(high - low, 2.0)) / 5) * 5))
