"""Charts of an answer that fill a plane: points, and cells whose shade is a number.

Reads: the frame it is given. Writes: nothing. Never: Streamlit, the store.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import pandas as pd
import plotly.graph_objects as go

from pages.parts import charts, room, words
from pages.parts.sql import axes as known
from pages.parts.sql import values
from pages.parts.sql.axes import Axes, Unfit, percent, title
from pages.parts.sql.values import Drawn, extremes, headed, plain, styles_of
from store.export.colours import REFERENCE, Style

MOST_POINTS = 4000
MOST_CELLS = (60, 300)  # rows and columns of a heat map
WRITTEN_CELLS = 150  # up to here each cell says its number
NAMES_WIDE = 420  # pixels for which the marks of a scatter are named: between a phone's and a desk's
COLD, WARM = "31,95,191", "180,83,9"  # of a heat map: mixed with the page's background, text stays readable on both
FAINT, STRONG = 0.06, 0.72
Parts = Sequence[tuple[str, pd.DataFrame]]


def scatter(frame: pd.DataFrame, axes: Axes, types: dict[str, str]) -> Drawn:
    """Draw one point per row; one of the axes may hold names, then its rows have colours of their own.

    Raises:
        Unfit: both axes hold names, or no row has both values.
    """
    if types[axes.x] == types[axes.y] == "text":
        raise Unfit(f"Neither {axes.x!r} nor {axes.y!r} holds numbers. Choose one that does, or a heat map.")
    rows, notes = values.rows(frame, axes, types)
    step = -(-len(rows) // MOST_POINTS)
    if step > 1:
        notes.append(f"Of {len(rows):,} points one in {step} is drawn.")
        rows = rows.iloc[::step]
    what = f"{words.count(len(rows), 'point')}: {title(axes.y)} over {title(axes.x)}."
    if axes.colour and types[axes.colour] == "number" and frame[axes.colour].nunique() > known.MOST_SIDE_BY_SIDE:
        return Drawn(_shaded(frame, rows, axes, types), f"{what} Shaded by {title(axes.colour)}.", notes)
    parts = values.by_colour(rows, axes, notes, known.MOST_COLOURS)
    side = "x" if types[axes.x] == "text" else "y" if types[axes.y] == "text" else ""
    styles = styles_of(axes.colour, [name for name, _ in parts])
    traces = [_points(name, part, styles[name], axes) for name, part in parts]
    if side and len(parts) == 1:
        own = values.colours_of(getattr(axes, side), list(dict.fromkeys(rows[side])))
        traces[0]["marker"] |= {"color": [own[name].colour for name in rows[side]], "symbol": [own[n].symbol for n in rows[side]]}
    labels = [] if side or not axes.colour else _labels(parts, styles, axes, types)
    told = {} if side == "y" else {name: float(part["y"].mean()) for name, part in parts}
    figure = _scatter_figure(traces, rows, axes, types, labels, legend=bool(side) and len(parts) > 1)
    return Drawn(figure, what + extremes(told, axes.y, "on average"), notes)


def _points(name: str, part: pd.DataFrame, style: Style, axes: Axes) -> dict[str, Any]:
    few = len(part) < 200
    said = [
        f"{headed(column)} %{{{letter}{'' if part[letter].dtype == object else ':.4g'}}}{' %' if percent(column) else ''}"
        for letter, column in (("x", axes.x), ("y", axes.y))
    ]
    marker = {"size": 9 if few else 6, "opacity": 0.85 if few else 0.6, "color": style.colour, "symbol": style.symbol}
    return {
        "type": "scatter", "mode": "markers", "name": plain(values.short(name)), "marker": marker,
        "x": values.sent(part["x"]), "y": values.sent(part["y"]),
        "hovertemplate": f"{plain(name) + ': ' if name else ''}{', '.join(said)}<extra></extra>",
    }  # fmt: skip


def _scatter_figure(traces: list[dict[str, Any]], rows: pd.DataFrame, axes: Axes, types: dict[str, str],
                    labels: list[dict[str, Any]], *, legend: bool) -> go.Figure:  # fmt: skip
    names = rows["y"].nunique() if types[axes.y] == "text" else 0
    layout = charts.blank(max(320, 80 + 26 * names) if names else 460, legend=legend)
    layout["legend"] |= {"y": 1.0, "yanchor": "bottom"}
    layout["annotations"] = labels
    for letter, name in (("x", axes.x), ("y", axes.y)):
        axis: dict[str, Any] = {"title": {"text": headed(name), **charts.TITLE}}
        if types[name] == "text":
            order = [plain(value) for value in dict.fromkeys(rows[letter])]
            ends = [-0.6, len(order) - 0.4]
            axis |= {"type": "category", "categoryarray": order, "range": ends if letter == "x" else ends[::-1]}
            axis |= values.ticks(list(dict.fromkeys(rows[letter])))
        elif types[name] == "time":
            axis |= {"type": "date"}
        elif percent(name):
            axis |= {"ticksuffix": " %"}
        layout[f"{letter}axis"] |= axis
    if names:
        layout["xaxis"] |= {"showgrid": True, "gridcolor": charts.GRID}
    return go.Figure({"data": traces, "layout": layout})


def _labels(parts: Parts, styles: dict[str, Style], axes: Axes, types: dict[str, str]) -> list[dict[str, Any]]:
    """Return each group's name beside its middle, as far as there is room; where there is none the hover says it."""
    x, y = (np.array([float(part[letter].median()) for _, part in parts]) for letter in ("x", "y"))
    (left, right), upright = (
        (float(min(part[letter].min() for _, part in parts)), float(max(part[letter].max() for _, part in parts)))
        for letter in ("x", "y")
    )
    wide = NAMES_WIDE * (float(np.ptp(x)) / (right - left) if right > left else 1.0) or NAMES_WIDE
    names = [name for name, _ in parts]
    shifts = {"top": ("bottom", 5), "bottom": ("top", -5), "middle": ("middle", 0)}
    sides = {"center": ("center", 0), "right": ("left", 7), "left": ("right", -7)}
    found = []
    for place, name, at, up in zip(room.places(x, y, names, upright=upright, wide=wide), names, x, y, strict=True):
        if place is not None:
            above, beside = place.split(" ")
            found.append({
                "x": at, "y": up, "text": plain(values.short(name)), "showarrow": False,
                "xanchor": sides[beside][0], "xshift": sides[beside][1], "yanchor": shifts[above][0], "yshift": shifts[above][1],
                "font": {"color": styles[name].colour, "size": 12, "weight": 600},
            })  # fmt: skip
    return found


def _shaded(frame: pd.DataFrame, rows: pd.DataFrame, axes: Axes, types: dict[str, str]) -> go.Figure:
    """Draw points whose shade is a number."""
    shade = values.numbers(frame[axes.colour]).reindex(rows.index)
    known_ = shade.notna()
    trace = _points("", rows[known_], Style(REFERENCE, "solid", "circle"), axes)
    trace["marker"] |= {
        "color": shade[known_].to_numpy(dtype=np.float32),
        "colorbar": _key(axes.colour),
        **_scale(shade, "cmin", "cmax"),
    }
    return _scatter_figure([trace], rows, axes, types, [], legend=False)


def heat(frame: pd.DataFrame, axes: Axes, types: dict[str, str]) -> Drawn:
    """Draw a grid of cells; rows and columns as they come, or by size where they are numbers or times.

    Raises:
        Unfit: the cells have no numbers.
    """
    if not axes.colour:
        raise Unfit("The cells of a heat map need a column of numbers. Choose one as colour.")
    values.demand(types, axes.colour, ("number",), "The cells of a heat map are numbers")
    cells = pd.DataFrame({"x": frame[axes.x], "y": frame[axes.y], "value": values.numbers(frame[axes.colour])}).dropna()
    if cells.empty:
        raise Unfit(f"No row has values in all of {axes.x!r}, {axes.y!r} and {axes.colour!r}. Choose other columns.")
    notes = []
    if cells.duplicated(["x", "y"]).any():
        notes.append(f"Several rows share a cell: their mean of {axes.colour} is drawn.")
    columns, lines = values.in_order(cells["x"], types[axes.x]), values.in_order(cells["y"], types[axes.y])
    grid = cells.groupby(["y", "x"])["value"].mean().unstack().reindex(index=lines, columns=columns)
    if grid.shape[0] > MOST_CELLS[0] or grid.shape[1] > MOST_CELLS[1]:
        notes.append(f"Of {grid.shape[0]} by {grid.shape[1]} cells the first {MOST_CELLS[0]} by {MOST_CELLS[1]} are drawn.")
        grid = grid.iloc[: MOST_CELLS[0], : MOST_CELLS[1]]
    what = f"Heat map of {title(axes.colour)}: {title(axes.y)} by {title(axes.x)}, {grid.shape[0]} by {grid.shape[1]}."
    told = {str(name): float(value) for name, value in grid.mean(axis=1).items()}
    return Drawn(_heat_figure(grid, axes), what + extremes(told, axes.colour, "on average"), notes)


def _heat_figure(grid: pd.DataFrame, axes: Axes) -> go.Figure:
    cells = grid.to_numpy(dtype=np.float32)
    columns, rows = (values.named(pd.Series(list(side))).tolist() for side in (grid.columns, grid.index))
    suffix = " %" if percent(axes.colour) else ""
    trace: dict[str, Any] = {
        "type": "heatmap", "z": cells, "x": [plain(name) for name in columns], "y": [plain(name) for name in rows],
        "xgap": 1, "ygap": 1, "colorbar": _key(axes.colour),
        "hovertemplate": f"{headed(axes.y)} %{{y}}, {headed(axes.x)} %{{x}}: %{{z:.4g}}{suffix}<extra></extra>",
        **_scale(pd.Series(cells.ravel()), "zmin", "zmax"),
    }  # fmt: skip
    if cells.size <= WRITTEN_CELLS:
        trace |= {"texttemplate": "%{z:.1f}" if suffix else "%{z:.3g}", "textfont": {"size": 11}}
    layout = charts.blank(max(260, 100 + 24 * grid.shape[0]), legend=False)
    layout["xaxis"] |= {"title": {"text": headed(axes.x), **charts.TITLE}, "type": "category", "showline": False, "nticks": 16}
    layout["xaxis"] |= values.ticks(columns)
    layout["yaxis"] |= {"showgrid": False, "type": "category", "autorange": "reversed", **values.ticks(rows)}
    return go.Figure({"data": [trace], "layout": layout})


def _scale(shades: pd.Series, low: str, high: str) -> dict[str, Any]:
    """Return the shades of numbers: one colour from faint to strong, two where there are numbers on both sides of zero.

    ``low``, ``high``: what plotly calls the ends of the scale there.
    """
    if float(shades.min()) < 0 < float(shades.max()):
        reach = float(shades.abs().max())
        ends = [[0.0, f"rgba({WARM},{STRONG})"], [0.5, f"rgba({COLD},{FAINT})"], [1.0, f"rgba({COLD},{STRONG})"]]
        return {"colorscale": ends, low: -reach, high: reach}
    return {"colorscale": [[0.0, f"rgba({COLD},{FAINT})"], [1.0, f"rgba({COLD},{STRONG})"]]}


def _key(name: str) -> dict[str, Any]:
    return {"title": {"text": headed(name), "side": "right", "font": {"size": 12}}, "thickness": 12, "outlinewidth": 0,
            "ticksuffix": " %" if percent(name) else ""}  # fmt: skip
