"""Figures: a DataFrame in, a plotly figure out. The same figure serves the page, an export and a talk.

Reads: the frames it is given. Writes: nothing. Never: Streamlit, the store.

Values travel as float32 arrays, epochs as ``x0``/``dx`` where they are consecutive: a third of the size of lists. Backgrounds are
transparent and text takes the page's colour, so that a figure fits light and dark.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd
import plotly.graph_objects as go

from pages.parts import words
from store.export.colours import DASHES, REFERENCE, Style, style_of

GRID = "rgba(128,136,150,0.20)"
AXIS = "rgba(128,136,150,0.55)"
MAX_LABELS = 8  # lines labelled at their end; more get a legend
MAX_LINES = 40
LABEL_PX = 17  # height of one line of label text
LETTER_PX = 7.2
EXACT = 2**24  # up to here float32 tells whole numbers apart
TITLE = {"font": {"size": 12}, "standoff": 14}
LEVEL = {"type": "line", "line": {"color": REFERENCE, "dash": "dash", "width": 1.5}}
GROUP = ("method", "student", "teacher", "dataset")
VARIANT = ("recipe", "epochs", "batch_size", "lr", "train_images", "generation", "params", "setting")


@dataclass(frozen=True, slots=True)
class Line:
    """One curve: its ``name``, how it is drawn, ``x`` and ``y`` of equal length, a band from ``low`` to ``high`` if there is one.

    ``weight`` is the width in pixels; ``note`` is the text of the hover beside name and value; a line that is not ``named`` has
    no label at its end.
    """

    name: str
    style: Style
    x: np.ndarray
    y: np.ndarray
    low: np.ndarray | None = None
    high: np.ndarray | None = None
    weight: float = 2.0
    note: str = ""
    named: bool = True


@dataclass(frozen=True, slots=True)
class Reference:
    """A level to compare with, drawn as a dashed line across: the teacher's accuracy."""

    name: str
    value: float


def mean_curves(frame: pd.DataFrame, *, metric: str, x: str = "epoch", references: Sequence[tuple[str, float]] = (),
                epochs: int | None = None, height: int = 440) -> go.Figure:  # fmt: skip
    """Draw one line per method (and pair, and dataset, where they differ): the mean over seeds, and its band.

    ``frame``: columns method, student, teacher, dataset, x, mean, low, high, n, as ``queries.mean_curves`` returns them (and
    what else tells groups apart, see ``line_names``); fractions of percent measures are 0 to 1. ``references``: (name, value) of
    levels, same unit. ``epochs``: where the axis ends, so that it stands still while runs grow. At most 40 lines are drawn.
    """
    scale = 100.0 if words.MEASURES[metric].unit == "percent" else 1.0
    levels = [Reference(name, value * scale) for name, value in references]
    lines, end = mean_lines(frame, scale), epochs if x == "epoch" else None
    return draw(lines, y=words.MEASURES[metric], x=x, references=levels, height=height, x_end=end)


def mean_lines(frame: pd.DataFrame, scale: float = 1.0, most: int = MAX_LINES) -> list[Line]:
    """Return the mean curves of a frame as lines with names and styles of their own, values times ``scale``."""
    named = frame if "name" in frame else frame.assign(name=line_names(frame))
    lines: list[Line] = []
    drawn: dict[str, int] = {}  # method -> lines so far
    for name, part in list(named.groupby("name", sort=False))[:most]:
        part, method = part.sort_values("x"), str(part["method"].iloc[0])
        style = style_of(method)
        if drawn.setdefault(method, 0):  # the same method again, on another pair: same colour, another dash
            style = Style(style.colour, DASHES[drawn[method] % len(DASHES)], style.symbol)
        drawn[method] += 1
        band: dict[str, Any] = {}
        if part["n"].max() > 1:
            band = {"low": _floats(part["low"]) * scale, "high": _floats(part["high"]) * scale}
        note = f"n = {int(part['n'].max())}"
        lines.append(Line(str(name), style, _floats(part["x"]), _floats(part["mean"]) * scale, note=note, **band))
    return lines


def line_names(frame: pd.DataFrame) -> list[str]:
    """Return a short name per row: the method's key, then only what differs between rows: pair, dataset, recipe, images, knobs.

    Rows of the same group (method, student, teacher, dataset and those of recipe, train_images, generation, params, setting
    that ``frame`` has) get the same name, different groups different names.
    """
    columns = [*GROUP, *(name for name in VARIANT if name in frame)]
    places = frame.groupby(columns, sort=False, dropna=False).ngroup()
    rows = frame.loc[~places.duplicated(), columns].itertuples(index=False, name=None)
    groups = [dict(zip(columns, _plain(row), strict=True)) for row in rows]
    names = [_base_name(group, groups) for group in groups]
    for name in {n for n in names if names.count(n) > 1}:
        same = [i for i, n in enumerate(names) if n == name]
        for i, tail in zip(same, _variants([groups[i] for i in same]), strict=True):
            names[i] = f"{name} {tail}".strip()
    unique = [name if names.count(name) == 1 else f"{name} #{names[: i + 1].count(name)}" for i, name in enumerate(names)]
    return [unique[place] for place in places]


def _base_name(group: dict[str, Any], groups: list[dict[str, Any]]) -> str:
    pairs = {(g["teacher"], g["student"]) for g in groups if g["teacher"] and g["teacher"] != g["student"]}
    several = len(pairs) > 1 or len({g["student"] for g in groups}) > 1
    parts = [str(group["method"])] + ([words.pair_of(group["teacher"], group["student"])] if several else [])
    return " · ".join(parts + ([str(group["dataset"])] if len({g["dataset"] for g in groups}) > 1 else []))


def _variants(groups: list[dict[str, Any]]) -> list[str]:
    """Say of each group what sets it apart from the others: ``T=8``, ``paper``, ``200 images``."""
    flat = [
        {k: v for k, v in g.items() if k not in ("params", "setting", *GROUP)}
        | (json.loads(g["params"]) if g.get("params") else {})
        for g in groups
    ]
    differing = [k for k in dict.fromkeys(k for f in flat for k in f) if len({repr(f.get(k)) for f in flat}) > 1]
    if len(differing) > 1:  # then the recipe is called <name>+ because of the others
        differing = [k for k in differing if k != "recipe"]
    words_of = {"train_images": "{} images", "recipe": "{}", "generation": "generation {}", "epochs": "{} epochs"}
    return [" ".join(words_of.get(k, k + "={}").format(f.get(k)) for k in differing) for f in flat]


def run_curves(frame: pd.DataFrame, measures: Sequence[str], *, method: str, references: Sequence[tuple[str, float]] = (),
               epochs: int | None = None, height: int = 300) -> go.Figure:  # fmt: skip
    """Draw ``measures`` of one run over its epochs, one line per measure and network; the first measure is the strong one.

    ``frame``: rows of ``epochs`` (epoch, network, and the measures). ``epochs``: length of the whole training, so that the
    axis stands still while the run grows.
    """
    first = words.MEASURES[measures[0]]
    first = words.Measure("Accuracy" if first.unit == "percent" else "Loss", first.unit, first.note)
    scale = 100.0 if first.unit == "percent" else 1.0
    networks = list(dict.fromkeys(frame["network"])) if len(frame) else []
    base = style_of(method)
    lines = []
    for place, network in enumerate(networks):
        part = frame[frame["network"] == network].sort_values("epoch")
        for rank, measure in enumerate(measures):
            values = part.dropna(subset=[measure]) if measure in part else part.iloc[:0]
            if len(values):
                colour = base.colour if rank == 0 else REFERENCE
                style = Style(colour, "dot" if rank else "solid" if place == 0 else "dash", base.symbol)
                short = measure.split("_")[0].replace("train", "training")
                name = short if len(networks) == 1 else f"{network}, {short}"
                lines.append(
                    Line(name, style, _floats(values["epoch"]), _floats(values[measure]) * scale, weight=2.2 - 0.8 * rank)
                )
    levels = [Reference(name, value * scale) for name, value in references]
    return draw(lines, y=first, x="epoch", references=levels, height=height, x_end=epochs)


def terms(frame: pd.DataFrame, *, method: str, height: int = 260) -> go.Figure:
    """Draw the loss terms of one phase over its epochs; ``frame``: columns epoch, network, term, value (already weighted)."""
    lines = []
    keys = list(dict.fromkeys(zip(frame["network"], frame["term"], strict=True)))
    colour = style_of(method).colour
    for place, (network, term) in enumerate(keys[:MAX_LINES]):
        part = frame[(frame["network"] == network) & (frame["term"] == term)].sort_values("epoch")
        own = REFERENCE if term == "ce" else colour
        dash = "solid" if network == "student" and term == "ce" else ("solid", "dash", "dot", "dashdot")[place % 4]
        name = term if network == "student" else f"{network} {term}"
        lines.append(Line(name, Style(own, dash, "circle"), _floats(part["epoch"]), _floats(part["value"])))
    return draw(lines, y=words.Measure("Loss term", "loss", ""), x="epoch", height=height, from_zero=True)


def load(frame: pd.DataFrame, column: str, title: str, unit: str, height: int = 200) -> go.Figure:
    """Draw one quantity of the machine over the epochs (``images_per_s``, ``peak_mib``), from zero."""
    part = frame[frame["network"] == "student"].dropna(subset=[column]).sort_values("epoch")
    line = Line("", Style(REFERENCE, "solid", "circle"), _floats(part["epoch"]), _floats(part[column]))
    return draw([line], y=words.Measure(title, unit, ""), x="epoch", height=height, from_zero=True)


def draw(lines: Sequence[Line], *, y: words.Measure, x: str, references: Sequence[Reference] = (), height: int = 320,
         from_zero: bool = False, x_end: float | None = None, under: Sequence[Line] = (),
         x_axis: dict[str, Any] | None = None) -> go.Figure:  # fmt: skip
    """Draw lines with their names at their ends, above those of ``under``. Accuracy begins where the data is, counts at zero.
    ``x``: a key of ``words.AXES``; another axis is described by ``x_axis``, as plotly takes it, its range included."""
    named = [line for line in lines if line.named]
    labelled = len(named) <= MAX_LABELS
    low, high = _range([*under, *lines], references, y.unit, from_zero)
    x_axis = x_axis or _x_axis(x, [*under, *lines], x_end)
    end = x_axis["range"][1]
    reaching = [line.name for line in named if labelled and len(line.x) and line.x[-1] >= 0.9 * end]
    longest = max((len(name) for name in [*reaching, *(r.name for r in references)]), default=0)
    layout = blank(height, legend=not labelled, right=min(260, 12 + LETTER_PX * longest))
    layout["xaxis"] |= x_axis
    layout["yaxis"] |= {"range": [low, high], "title": {"text": _axis_title(y, low), **TITLE}}
    layout["yaxis"]["ticksuffix"] = " %" if y.unit == "percent" else ""
    layout["shapes"] = [{"xref": "paper", "x0": 0, "x1": 1, "y0": r.value, "y1": r.value} | LEVEL for r in references]
    layout["annotations"] = _labels(named if labelled else [], references, (low, high), height, end)
    bands = [_band(line) for line in lines if line.low is not None and line.high is not None]
    above, below = ([_curve(line, y.unit) for line in some] for some in (lines, under))
    return go.Figure(data=[*below, *bands, *above], layout=layout)


def leaderboard(frame: pd.DataFrame, *, which: str = "best", references: Sequence[tuple[str, float]] = ()) -> go.Figure:
    """Draw horizontal bars with whiskers (one standard deviation over seeds), the best on top.

    ``frame``: columns method, student, teacher, dataset, n and ``<which>_mean_frac``, ``<which>_std_frac``, where ``which`` is
    ``best`` or ``last``.
    """
    frame = frame.dropna(subset=[f"{which}_mean_frac"]).sort_values(f"{which}_mean_frac")
    means, stds = 100 * _floats(frame[f"{which}_mean_frac"]), 100 * _floats(frame[f"{which}_std_frac"])
    counts = frame["n"].astype(int).tolist()
    text = [f"{words.spread(m / 100, s / 100)} %" for m, s in zip(means, stds, strict=True)]
    low = _floor(means, stds, [100 * v for _, v in references])
    figure = bars(line_names(frame), means, frame["method"].tolist(), text, np.nan_to_num(stds), low=low)
    figure["data"][0] |= {"customdata": counts, "hovertemplate": "%{y}: %{text} (n = %{customdata})<extra></extra>"}
    layout = figure["layout"]
    for name, value in references:
        layout["shapes"].append({"yref": "paper", "y0": 0, "y1": 1, "x0": 100 * value, "x1": 100 * value} | LEVEL)
        layout["annotations"].append(
            {"x": 100 * value, "y": 1.0, "yref": "paper", "yanchor": "bottom", "text": name, "showarrow": False}
        )
    note = f", axis starts at {low:g} %" if low else ""
    span = [low, _top(means, stds, references, low)]
    layout["xaxis"] |= {"title": {"text": f"Test accuracy, {which} epoch{note}", **TITLE}, "ticksuffix": " %", "range": span}
    layout["margin"]["t"] = 28 if references else 10
    drawn = go.Figure(figure)
    drawn.data[0].base = low
    return drawn


def speed(frame: pd.DataFrame) -> go.Figure:
    """Draw the training speed per method as bars from zero; ``frame``: method, student, teacher, dataset, images_per_s."""
    frame = frame.dropna(subset=["images_per_s"]).sort_values("images_per_s")
    values = _floats(frame["images_per_s"])
    figure = bars(line_names(frame), values, frame["method"].tolist(), [f"{v:,.0f}" for v in values], None)
    figure["data"][0]["hovertemplate"] = "%{y}: %{text} images/s<extra></extra>"
    span = [0, float(values.max()) * 1.04 if len(values) else 1]
    figure["layout"]["xaxis"] |= {"title": {"text": "Training images per second", **TITLE}, "range": span}
    return go.Figure(figure)


# ---- how it is drawn -----------------------------------------------------------------------------------------------------


# one plain dictionary per figure, handed to plotly once: its objects check every change, which costs more than all the rest


def bars(names: list[str], values: np.ndarray, methods: list[str], text: list[str], errors: np.ndarray | None,
         low: float = 0.0) -> dict[str, Any]:  # fmt: skip
    """Return horizontal bars, the last on top, in the colours of ``methods``, each with its ``text`` at the right."""
    bar: dict[str, Any] = {
        "type": "bar", "y": names, "x": values - low, "orientation": "h", "text": text, "textposition": "none",
        "marker": {"color": [style_of(m).colour for m in methods], "line": {"width": 0}}, "width": 0.62,
    }  # fmt: skip
    if errors is not None:
        bar["error_x"] = {"type": "data", "array": errors, "thickness": 1.5, "width": 5, "color": AXIS}
    # the numbers stand in a column of their own at the right, where no whisker, no reference line and no edge cuts them
    layout = blank(84 + 34 * max(1, len(names)), legend=False, right=16 + LETTER_PX * max((len(t) for t in text), default=0))
    layout["annotations"] = [
        {"x": 1, "xref": "paper", "y": name, "text": label, "showarrow": False, "xanchor": "left", "xshift": 8}
        for name, label in zip(names, text, strict=True)
    ]
    layout["yaxis"] |= {"showgrid": False, "ticks": "", "tickfont": {"size": 13}, "showline": False}
    layout["xaxis"] |= {"showgrid": True, "gridcolor": GRID, "showline": False}
    return {"data": [bar], "layout": layout}


def blank(height: int, *, legend: bool, right: float = 12) -> dict[str, Any]:
    """Return the layout of a figure with nothing in it: ``right`` is the room beside the plot, in pixels."""
    clear = "rgba(0,0,0,0)"
    return {
        "height": height, "margin": {"l": 4, "r": right, "t": 10, "b": 4}, "showlegend": legend, "hovermode": "closest",
        "paper_bgcolor": clear, "plot_bgcolor": clear, "bargap": 0.3, "font": {"size": 13}, "dragmode": "zoom", "shapes": [],
        "legend": {"orientation": "h", "y": -0.22, "x": 0, "font": {"size": 12}}, "hoverlabel": {"font": {"size": 13}},
        "modebar": {"bgcolor": clear, "color": AXIS, "activecolor": REFERENCE},
        "xaxis": {"showgrid": False, "zeroline": False, "ticks": "outside", "ticklen": 4, "tickcolor": AXIS, "linecolor": AXIS,
                  "showline": True, "automargin": True},
        "yaxis": {"showgrid": True, "gridcolor": GRID, "zeroline": False, "automargin": True},
    }  # fmt: skip


def _curve(line: Line, unit: str) -> dict[str, Any]:
    suffix = {"percent": " %", "mib": " MiB", "speed": " images/s", "seconds": " s"}.get(unit, "")
    shape = ".1f" if unit == "percent" else ".4g"
    note = f" ({line.note})" if line.note else ""
    return {
        "type": "scatter", **_xs(line.x), "y": line.y.astype(np.float32), "name": line.name,
        "mode": "lines+markers" if len(line.x) <= 2 else "lines",
        "line": {"color": line.style.colour, "dash": line.style.dash, "width": line.weight},
        "marker": {"symbol": line.style.symbol, "size": 7, "color": line.style.colour},
        "hovertemplate": f"{line.name or 'value'}: %{{y:{shape}}}{suffix} at %{{x}}{note}<extra></extra>",
    }  # fmt: skip


def _band(line: Line) -> dict[str, Any]:
    assert line.low is not None and line.high is not None
    back = slice(None, None, -max(1, len(line.x) // 100))  # from the end, of long courses every second or third point
    x = np.concatenate([line.x[back][::-1], line.x[back]]).astype(np.float32)
    y = np.concatenate([line.high[back][::-1], line.low[back]]).astype(np.float32)
    return {
        "type": "scatter", "x": x, "y": y, "fill": "toself", "fillcolor": line.style.faint(), "line": {"width": 0},
        "mode": "lines", "hoverinfo": "skip", "showlegend": False, "name": f"{line.name}, band",
    }  # fmt: skip


def _xs(x: np.ndarray) -> dict[str, Any]:
    if len(x) > 1 and x[0] == round(x[0]) and np.all(np.diff(x) == (step := round(x[1] - x[0]))) and step:
        return {"x0": int(x[0]), "dx": step}
    return {"x": x.astype(np.float32 if np.abs(x).max(initial=0.0) < EXACT else np.float64)}


def _x_axis(x: str, lines: Sequence[Line], end: float | None) -> dict[str, Any]:
    last = max([float(line.x.max()) for line in lines if len(line.x)] + ([float(end)] if end else []), default=1.0)
    first = 1.0 if x == "epoch" else 0.0
    text = words.AXES[x] + (", seconds" if x == "elapsed_s" else "")
    axis: dict[str, Any] = {"title": {"text": text, **TITLE}, "range": [first, max(last, first + 1)]}
    if x == "epoch":
        axis |= {"tickformat": "d"} | ({"dtick": 1, "tick0": 1} if last <= 12 else {"nticks": 9})
    return axis


def _axis_title(y: words.Measure, low: float) -> str:
    if y.unit == "percent":
        return f"{y.title} (axis starts at {low:g} %)" if low > 0 else y.title
    return y.title + {"speed": ", images/s", "mib": ", MiB", "seconds": ", s"}.get(y.unit, "")


def _range(lines: Sequence[Line], references: Sequence[Reference], unit: str, from_zero: bool) -> tuple[float, float]:
    parts = [line.y for line in lines] + [b for line in lines for b in (line.low, line.high) if b is not None]
    values = np.concatenate([*parts, np.array([r.value for r in references], dtype=float)])
    values = values[np.isfinite(values)]
    if not len(values):
        return 0.0, 100.0 if unit == "percent" else 1.0
    low, high = float(values.min()), float(values.max())
    room = 0.06 * (high - low) or max(0.5, 0.05 * abs(high))
    if unit == "percent" and low >= 0 and high <= 100:  # shares; differences of them may be below or beyond
        step = 10.0 if high - low > 30 else 5.0 if high - low > 8 else 1.0
        return max(0.0, np.floor((low - room / 2) / step) * step), min(high + room, 101.0)
    return (0.0 if from_zero or low >= 0 and low < 0.3 * high else low - room), high + room


def _labels(
    lines: Sequence[Line], references: Sequence[Reference], span: tuple[float, float], height: int, end: float
) -> list[dict[str, Any]]:
    """Return each line's name where it ends, moved apart where they would overlap."""
    ends = [(line.name, float(line.y[-1]), line.style.colour, float(line.x[-1])) for line in lines if line.name and len(line.y)]
    ends += [(r.name, r.value, REFERENCE, end) for r in references]
    ends.sort(key=lambda e: e[1])
    gap = (span[1] - span[0]) * LABEL_PX / max(60, height - 70)
    places = _apart([e[1] for e in ends], gap, span)
    return [
        {"x": x, "y": place, "text": name, "showarrow": False, "xanchor": "left", "xshift": 6,
         "font": {"color": colour, "size": 13, "weight": 600}}
        for (name, _, colour, x), place in zip(ends, places, strict=True)
    ]  # fmt: skip


def _apart(values: list[float], gap: float, span: tuple[float, float]) -> list[float]:
    """Return rising ``values`` moved as little as needed to lie ``gap`` apart, within ``span`` where that is possible."""
    places: list[float] = []
    for value in values:
        places.append(max(value, places[-1] + gap) if places else value)
    over = places[-1] - (span[1] - gap / 2) if places else 0.0
    if over > 0:  # push back down from the top
        ceiling = span[1] - gap / 2
        for i in range(len(places) - 1, -1, -1):
            places[i] = min(places[i], ceiling)
            ceiling = places[i] - gap
    return places


def _floor(means: np.ndarray, stds: np.ndarray, levels: list[float]) -> float:
    """Return where an accuracy axis begins: a round number with room below the lowest bar, 0 when that is near."""
    if not len(means):
        return 0.0
    low = float(np.min(means - np.nan_to_num(stds)))
    high = max([float(np.max(means)), *levels])
    floor = float(np.floor((low - 0.5 * max(high - low, 2.0)) / 5) * 5)
    return max(0.0, floor)


def _top(means: np.ndarray, stds: np.ndarray, references: Sequence[tuple[str, float]], low: float) -> float:
    high = max([float(np.max(means + np.nan_to_num(stds), initial=low + 1)), *(100 * v for _, v in references)])
    return high + 0.04 * (high - low)


def _floats(column: Any) -> np.ndarray:
    return pd.to_numeric(pd.Series(column)).to_numpy(dtype=float, na_value=np.nan)


def _plain(key: tuple[Any, ...]) -> tuple[Any, ...]:
    return tuple(None if words.missing(k) else k for k in key)
