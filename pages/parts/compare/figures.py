"""Figures of the compare page: courses of many methods that stay readable, differences with intervals, accuracy against cost.

Reads: the frames it is given. Writes: nothing. Never: Streamlit, the store, statistics (``store.compare`` does them).
"""

from __future__ import annotations

from collections.abc import Hashable, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import pandas as pd
import plotly.graph_objects as go

from kdengine import catalogue
from pages.parts import charts, room, words
from pages.parts.charts import Line
from store.compare import wording
from store.compare.tradeoff import Cost
from store.export.colours import REFERENCE, Style, style_of

QUIET = Style("rgba(128,136,150,0.45)", "solid", "circle")
MOST = 200  # mean curves that are drawn at all
MOST_ROWS = 60
NAMES_WIDE = 420  # pixels for which the marks of a trade-off are named: between a phone's and a desk's
POINTS = {"grey": 80, "others": 2000, "runs": 4500}  # at most: per grey line, of all beyond them, of all single runs
LOWER_IS_BETTER = ("test_loss", "train_loss", "test_ece_frac", "teacher_kl")


def coloured(frame: pd.DataFrame, metric: str) -> list[str]:
    """Return the names of the lines that get a colour and a name: all up to eight, else the students alone and the best.

    ``frame``: as ``queries.mean_curves`` returns it; best by the last value of ``metric``.
    """
    last = named(frame).sort_values("x").groupby("name", sort=False).tail(1)
    last = last.sort_values("mean", ascending=metric in LOWER_IS_BETTER)
    if len(last) <= charts.MAX_LABELS:
        return [str(name) for name in last["name"]]
    plain = last["method"].map(lambda key: catalogue.label_of(key).family == "plain")
    return [str(name) for name in pd.concat([last[plain], last[~plain]])["name"][: charts.MAX_LABELS]]


def named(frame: pd.DataFrame) -> pd.DataFrame:
    """Return mean curves with the column name: the name of each line."""
    return frame if "name" in frame else frame.assign(name=charts.line_names(frame))


def courses(frame: pd.DataFrame, *, metric: str, x: str = "epoch", levels: Sequence[tuple[str, float]] = (),
            printed: pd.DataFrame | None = None, runs: pd.DataFrame | None = None, weight: float = 0.0,
            epochs: int | None = None, height: int = 440) -> go.Figure:  # fmt: skip
    """Draw mean curves with their bands: those of ``coloured`` in colour and with a name, the others thin and grey.

    ``frame``, ``levels``, ``epochs``: as in ``charts.mean_curves``. ``printed``: published results with method, top1_frac and
    source, drawn as hollow marks at the right edge. ``runs``: single runs with setting, seed, x, value, drawn thin.
    ``weight``: of what came before, in an exponential moving average (0 = as measured); the measured mean stays in sight.
    """
    scale = 100.0 if words.MEASURES[metric].unit == "percent" else 1.0
    frame = named(frame)
    names, lines = coloured(frame, metric), charts.mean_lines(frame, scale, most=MOST)
    loud = [line for line in lines if line.name in names]
    under = [_faint(line) for line in loud if weight]
    if runs is not None:  # they show how far the runs are apart, so no band does
        name_of = dict(zip(frame["setting"], frame["name"], strict=True))
        under += _single(runs.assign(name=runs["setting"].map(name_of)), loud, scale, weight)
        loud = [replace(line, low=None, high=None) for line in loud]
    room = charts.MAX_LINES - len(loud) - len(under) - sum(line.low is not None for line in loud)
    quiet = _grey([_smooth(line, weight) for line in lines if line.name not in names], max(1, room))
    end = float(epochs) if x == "epoch" and epochs else max(float(line.x[-1]) for line in lines)
    marks = [] if printed is None else _marks(printed[printed["method"].isin(frame["method"].unique())], end, scale)
    return charts.draw(
        [*(_smooth(line, weight) for line in loud), *marks], y=words.MEASURES[metric], x=x, height=height, x_end=end,
        references=[charts.Reference(name, value * scale) for name, value in levels], under=[*quiet, *under],
    )  # fmt: skip


def forest(rows: pd.DataFrame, reference: str) -> go.Figure:
    """Draw how far each group is from the one called ``reference``, with its interval: filled where clear, hollow in a tie.

    ``rows``: as ``stats.versus`` returns them, with name; at most ``MOST_ROWS``, the first on top. Differences are fractions.
    """
    rows = rows.head(MOST_ROWS)
    x, low, high = (100 * rows[f"to_{part}"].to_numpy(dtype=float) for part in ("frac", "low_frac", "high_frac"))
    clear = rows["to_verdict"].isin(["better", "worse"])
    text = [_said(row) for row in rows.to_dict("records")]
    styles = [style_of(method) for method in rows["method"]]
    marker = {
        "color": [style.colour for style in styles], "size": [11 if v != "too few" else 8 for v in rows["to_verdict"]],
        "symbol": [s.symbol.removesuffix("-open") + ("" if c else "-open") for s, c in zip(styles, clear, strict=True)],
        "line": {"width": 2}, "opacity": 1,
    }  # fmt: skip
    hover = [f"{name}: {told}" for name, told in zip(rows["name"], rows["told"], strict=True)]
    trace = {
        "type": "scatter", "mode": "markers", "x": x.astype(np.float32), "y": rows["name"].tolist(), "marker": marker,
        "error_x": {"type": "data", "symmetric": False, "array": high - x, "arrayminus": x - low,
                    "thickness": 1.5, "width": 4, "color": charts.AXIS},
        "text": hover, "hovertemplate": "%{text}<extra></extra>",
    }  # fmt: skip
    layout = charts.blank(76 + 25 * max(1, len(rows)), legend=False, right=16 + charts.LETTER_PX * max(map(len, text), default=0))
    layout["annotations"] = [
        {"x": 1, "xref": "paper", "y": name, "text": told, "showarrow": False, "xanchor": "left", "xshift": 8}
        for name, told in zip(rows["name"], text, strict=True)
    ]
    layout["shapes"] = [{"yref": "paper", "y0": 0, "y1": 1, "x0": 0, "x1": 0} | charts.LEVEL]
    layout["yaxis"] |= {"showgrid": False, "range": [len(rows) - 0.4, -0.6], "tickfont": {"size": 13}, "type": "category"}
    layout["xaxis"] |= {"showgrid": True, "gridcolor": charts.GRID, "showline": False, "zeroline": False,
                        "title": {"text": f"Points above {reference} (95 % interval)", **charts.TITLE}}  # fmt: skip
    return go.Figure({"data": [trace], "layout": layout})


def tradeoff(points: pd.DataFrame, cost: Cost, counted: str, height: int = 460) -> go.Figure:
    """Draw accuracy against cost, one mark per group, and the front: nothing is both cheaper and more accurate than its points.

    ``points``: as ``tradeoff.tradeoff`` returns them, of one dataset and kind of device; ``counted``: which accuracy, in words.
    """
    points = points.sort_values("cost_mean")
    scale, unit = in_unit(points["cost_mean"], cost.unit)
    x, y = points["cost_mean"].to_numpy(dtype=float) * scale, 100 * points["mean_frac"].to_numpy(dtype=float)
    styles = [style_of(method) for method in points["method"]]
    hover = [f"{row['name']}: {words.spread(row['mean_frac'], row['std_frac'])} % (n = {row['n']}) for "
             f"{words.number(row['cost_mean'] * scale)} {unit}".strip() for row in points.to_dict("records")]  # fmt: skip
    marks: dict[str, Any] = {
        "type": "scatter", "x": x.astype(np.float32), "y": y.astype(np.float32), "error_y": _whisker(100 * points["std_frac"]),
        "error_x": _whisker(points["cost_std"] * scale),
        "marker": {"color": [s.colour for s in styles], "symbol": [s.symbol for s in styles], "size": 10, "opacity": 1},
    }  # fmt: skip
    best = points["front"].to_numpy()
    front = {"type": "scatter", "mode": "lines", "x": x[best].astype(np.float32), "y": y[best].astype(np.float32),
             "hoverinfo": "skip", "line": {"color": REFERENCE, "dash": "dot", "width": 1.5, "shape": "hv"}}  # fmt: skip
    names = points["name"].tolist()
    span = _span(x)
    at = np.log10(x) if span.get("type") == "log" else x
    told = room.places(at, y, names, first=[*np.flatnonzero(points["family"] == "plain"), *np.flatnonzero(best)], wide=NAMES_WIDE)
    marks |= {
        "mode": "markers+text", "text": [name if place else "" for name, place in zip(names, told, strict=True)],
        "textposition": [place or "top center" for place in told], "cliponaxis": False,
        "textfont": {"color": [s.colour for s in styles], "size": 12, "weight": [600 if first else 400 for first in best]},
        "customdata": hover, "hovertemplate": "%{customdata}<extra></extra>",
    }  # fmt: skip
    layout = charts.blank(height, legend=False)
    layout["yaxis"] |= {"title": {"text": f"Test accuracy, {counted}", **charts.TITLE}, "ticksuffix": " %"}
    layout["xaxis"] |= {"title": {"text": f"{cost.title}, {unit}".rstrip(", "), **charts.TITLE}} | span
    return go.Figure({"data": [front, marks], "layout": layout})


def gap(points: pd.DataFrame) -> go.Figure:
    """Draw how much of the way from the student alone (0) to its teacher (100 %) each group went, the most on top."""
    points = points.dropna(subset=["gap_closed"]).sort_values("gap_closed")
    values = 100 * points["gap_closed"].to_numpy(dtype=float)
    figure = charts.bars(
        points["name"].tolist(),
        values,
        points["method"].tolist(),
        [f"{v:.0f} %".replace("-", wording.MINUS) for v in values],
        None,
    )
    figure["layout"]["shapes"] = [{"yref": "paper", "y0": 0, "y1": 1, "x0": 100, "x1": 100} | charts.LEVEL]
    figure["layout"]["xaxis"] |= {"title": {"text": "Share of the gap to the teacher that is closed", **charts.TITLE},
                                  "ticksuffix": " %", "zeroline": True, "zerolinecolor": charts.AXIS}  # fmt: skip
    figure["data"][0]["hovertemplate"] = "%{y}: %{text}<extra></extra>"
    return go.Figure(figure)


def in_unit(values: pd.Series, unit: str) -> tuple[float, str]:
    """Return factor and unit in which costs are easy to read: milliseconds for small times, minutes and hours for long ones."""
    top = float(values.max()) if len(values) else 0.0
    if unit == "s":
        return (1000.0, "ms") if top < 0.5 else (1.0, "s") if top < 600 else (1 / 60, "min") if top < 36_000 else (1 / 3600, "h")
    return (1e-6, "millions") if not unit and top >= 1e6 else (1e-3, "thousands") if not unit and top >= 1e4 else (1.0, unit)


def _whisker(values: pd.Series) -> dict[str, Any]:
    return {
        "type": "data",
        "array": np.nan_to_num(values.to_numpy(dtype=float)),
        "thickness": 1,
        "width": 0,
        "color": charts.GRID,
    }


def _span(x: np.ndarray) -> dict[str, Any]:
    """Return range and kind of a cost axis with room for a name at the left; logarithmic from a factor of 6 on."""
    low, high = float(x.min()), float(x.max())
    if low > 0 and high > 6 * low:
        wide = np.log10(high / low)
        ticks = [n * 10.0**power for power in range(int(np.floor(np.log10(low))), int(np.log10(high)) + 1) for n in (1, 2, 3, 5)]
        return {"type": "log", "range": [np.log10(low) - 0.1 * wide, np.log10(high) + 0.05 * wide],
                "tickvals": ticks, "ticktext": [words.number(tick) for tick in ticks]}  # fmt: skip
    wide = (high - low) or max(abs(high), 1.0)
    return {"range": [max(0.0, low - 0.12 * wide), high + 0.05 * wide]}


def _said(row: dict[Hashable, Any]) -> str:
    """Say a difference in a word or two: ``+5.9``, ``+0.3 tie``, ``+2.0 n = 1``."""
    if not row["to_verdict"]:
        return "reference"
    tail = {"tie": " tie", "too few": f", n = {int(row['to_n'])}"}.get(row["to_verdict"], "")
    return wording.points(row["to_frac"], sign=True) + tail


def smoothed(values: np.ndarray, weight: float) -> np.ndarray:
    """Return the exponential moving average of ``values`` (N,): ``weight``, 0 to below 1, on what came before; the start is
    weighed by what it has seen, so that nothing is drawn towards zero."""
    out, total, seen = np.empty(len(values)), 0.0, 0.0
    for place, value in enumerate(values):
        total, seen = weight * total + (1 - weight) * value, weight * seen + (1 - weight)
        out[place] = total / seen
    return out


def _smooth(line: Line, weight: float) -> Line:
    if not weight:
        return line
    low, high = (None if band is None else smoothed(band, weight) for band in (line.low, line.high))
    return replace(line, y=smoothed(line.y, weight), low=low, high=high)


def _faint(line: Line) -> Line:
    """Return a line as measured, to lie behind its smoothed self."""
    style = Style(line.style.faint(0.35), "solid", line.style.symbol)
    return replace(line, name=f"{line.name}, as measured", style=style, low=None, high=None, weight=1.0, named=False)


def _grey(lines: list[Line], room: int) -> list[Line]:
    """Return the lines without colour; those beyond ``room`` traces become one, in which they are told apart no more."""
    grey = [replace(line, style=QUIET, weight=1.0, low=None, high=None, named=False) for line in lines]
    first, rest = (grey, []) if len(grey) <= room else (grey[: room - 1], grey[room - 1 :])
    own = [replace(line, x=_thin(line.x, POINTS["grey"]), y=_thin(line.y, POINTS["grey"])) for line in first]
    if not rest:
        return own
    most = POINTS["others"] // len(rest)
    joined = _joined([(_thin(line.x, most), _thin(line.y, most)) for line in rest])
    return [*own, Line("others", QUIET, *joined, weight=1.0, named=False)]


def _single(runs: pd.DataFrame, loud: Sequence[Line], scale: float, weight: float) -> list[Line]:
    """Return the single runs behind each coloured line, as one line with gaps per group."""
    groups = {name: [part for _, part in rows.groupby("run_id", sort=False)] for name, rows in runs.groupby("name", sort=False)}
    most = POINTS["runs"] // max(1, sum(map(len, groups.values())))
    found = []
    for line in loud:
        own = [
            (_thin(part["x"].to_numpy(dtype=float), most), _thin(smoothed(part["value"].to_numpy(dtype=float), weight), most))
            for part in groups.get(line.name, ())
        ]
        if len(own) > 1:
            x, y = _joined(own)
            style = Style(line.style.faint(0.6), "solid", line.style.symbol)
            found.append(Line(f"{line.name}, one run", style, x, y * scale, weight=0.9, named=False))
    return found


def _thin(values: np.ndarray, most: int) -> np.ndarray:
    """Return every second, third, ... of the values, the last among them, so that at most about ``most`` are left."""
    step = -(-len(values) // max(2, most))
    return values[::-1][::step][::-1]


def _joined(parts: Sequence[tuple[np.ndarray, np.ndarray]]) -> tuple[np.ndarray, np.ndarray]:
    """Return curves as one, with a gap after each."""
    x = np.concatenate([np.append(x, x[-1:]) for x, _ in parts])
    return x, np.concatenate([np.append(y, np.nan) for _, y in parts])


def _marks(printed: pd.DataFrame, end: float, scale: float) -> list[Line]:
    """Return published values as hollow stars at the right edge."""
    rows = zip(printed["method"], printed["top1_frac"], printed["source"], strict=True)
    return [
        Line(f"{method}, printed in {source}", Style(style_of(method).colour, "solid", "star-open"), np.array([end]),
             np.array([value * scale]), named=False)
        for method, value, source in list(rows)[:charts.MAX_LABELS]
    ]  # fmt: skip
