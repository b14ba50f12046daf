"""Pictures of teacher and student: the gap, what became of the images, calibration, classes, likeness of layers, thumbnails.

Reads: the frames and pixels it is given. Writes: nothing. Never: Streamlit, the store.

Every figure has a transparent background and takes the page's text colour, so that it fits light, dark and a talk.
"""

from __future__ import annotations

import base64
import html
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd
import plotly.graph_objects as go

from kdengine import pictures
from pages.parts.charts import AXIS, GRID, LETTER_PX, TITLE
from store.compare.pair import Gap
from store.export.colours import REFERENCE, Style, style_of

CLASSES_SHOWN = 20  # of more, the most telling ones are shown
FEW = 5
THUMB_PX = 96
FATE_WORDS = {
    "only teacher": "only {partner} is right",
    "only student": "only {name} is right",
    "same mistake": "both wrong, same answer",
    "different mistakes": "both wrong, other answers",
}


@dataclass(frozen=True, slots=True)
class Way:
    """One row of the gap: ``name``, how it is drawn, its gap, and the student's accuracy (0 to 1) seed by seed."""

    name: str
    style: Style
    gap: Gap
    seeds: tuple[float, ...] = ()


@dataclass(frozen=True, slots=True)
class Saying:
    """What one network says of one image: ``who``, class name, probability, whether it is right."""

    who: str
    said: str
    sure: float
    right: bool


@dataclass(frozen=True, slots=True)
class Picture:
    """One test image: ``pixels (H, W, 3)`` uint8 or None where they are not here, its place, its class, what was said of it."""

    pixels: np.ndarray | None
    place: int
    label: str
    sayings: tuple[Saying, ...]


def styles(first: str, second: str) -> tuple[Style, Style]:
    """Return how two sides are drawn; two settings of one method get different dashes and markers."""
    one, other = style_of(first), style_of(second)
    return one, Style(other.colour, "dot" if one.dash != "dot" else "dash", "diamond-open") if first == second else other


def gap(ways: Sequence[Way], *, which: str) -> go.Figure:
    """Draw the way from the student alone to its teacher, and how far each student came, one row per student."""
    data: list[dict[str, Any]] = []
    notes: list[dict[str, Any]] = []
    for row, way in enumerate(ways):
        alone, student, teacher = (100 * v for v in (way.gap.alone_frac, way.gap.student_frac, way.gap.teacher_frac))
        ticks = [100 * v for v in way.seeds] if len(way.seeds) > 1 else []
        data += [
            _line([alone, teacher], row, color=REFERENCE, width=2, dash="dot"),
            _line([alone, student], row, color=way.style.colour, width=7),
            _dots([alone], row, REFERENCE, "circle-open", 11, "alone"),
            _dots([teacher], row, REFERENCE, "line-ns-open", 24, "teacher"),
            _dots(ticks, row, way.style.colour, "line-ns-open", 20, f"{way.name}, one seed"),
            _dots([student], row, way.style.colour, way.style.symbol, 15, way.name),
        ]
        inwards = ("left", "right") if alone < teacher else ("right", "left")  # at the ends of a narrow screen
        closed = "no gap" if way.gap.frac is None else f"{_signed(100 * way.gap.frac, '.0f')} %"
        notes += [
            _note(student, row, f"<b>{html.escape(way.name)}</b> {student:.1f}", shift=-23, color=way.style.colour),
            _note(alone, row, f"alone {alone:.1f}", shift=25, color=REFERENCE, anchor=inwards[0]),
            _note(teacher, row, f"teacher {teacher:.1f}", shift=25, color=REFERENCE, anchor=inwards[1]),
            {"x": 1, "xref": "paper", "y": row, "text": f"<b>{closed}</b>", "showarrow": False, "xanchor": "left", "xshift": 8,
             "font": {"size": 22, "color": way.style.colour}},
        ]  # fmt: skip
    values = [100 * v for way in ways for v in (way.gap.alone_frac, way.gap.teacher_frac, way.gap.student_frac, *way.seeds)]
    room = max(0.1 * (max(values) - min(values)), 0.8)
    layout = _layout(66 + 92 * len(ways), right=96)
    layout["xaxis"] |= {"range": [min(values) - room, max(values) + room], "ticksuffix": " %", "showgrid": True,
                        "gridcolor": GRID, "title": {"text": f"Test accuracy, {which}", **TITLE}}  # fmt: skip
    layout["yaxis"] |= {"range": [len(ways) - 0.45, -0.55], "visible": False}
    layout["annotations"] = notes
    return go.Figure(data=data, layout=layout)


def fates(sides: Mapping[str, tuple[Style, Mapping[str, float]]], *, partner: str) -> go.Figure:
    """Draw what became of the images that not both get right: bars from zero, a colour and a pattern per student.

    ``sides``: name -> (style, fate -> images, mean over seeds); ``partner``: what the network they are held against is called.
    """
    name = next(iter(sides)) if len(sides) == 1 else "the student"
    titles = [title.format(partner=partner, name=name) for title in FATE_WORDS.values()]
    data = []
    for place, (who, (style, counted)) in enumerate(sides.items()):
        n = np.array([counted[fate] for fate in FATE_WORDS], dtype=np.float32)
        pattern = {"shape": "/" if place else "", "fillmode": "overlay", "fgcolor": "rgba(255,255,255,0.6)", "size": 6}
        data.append({
            "type": "bar", "orientation": "h", "y": titles, "x": n, "name": who, "text": [f"{v:.4g}" for v in n],
            "textposition": "outside", "cliponaxis": False, "marker": {"color": style.colour, "pattern": pattern},
            "hovertemplate": f"{html.escape(who)}, %{{y}}: %{{text}} images<extra></extra>",
        })  # fmt: skip
    layout = _layout(80 + 66 * len(titles), right=34)
    layout |= {"showlegend": len(sides) > 1, "barmode": "group", "bargap": 0.3, "bargroupgap": 0.1}
    layout["legend"] = {"orientation": "h", "y": 1.0, "yanchor": "bottom", "x": 0, "traceorder": "normal"}
    layout["xaxis"] |= {"title": {"text": "Test images", **TITLE}, "rangemode": "tozero", "showgrid": True, "gridcolor": GRID}
    layout["yaxis"] |= {"autorange": "reversed", "showgrid": False}
    return go.Figure(data=data, layout=layout)


def calibration(sides: Mapping[str, tuple[Style, pd.DataFrame]]) -> go.Figure:
    """Draw reliability diagrams over one another, and below them how many images each confidence has.

    ``sides``: name -> (style, frame of ``pair.reliability``). On the diagonal a network is as often right as it says. Bins with
    fewer than ``FEW`` images stand in the counts only.
    """
    data: list[dict[str, Any]] = [_diagonal()]
    for name, (style, frame) in sides.items():
        filled = frame[frame["n"] >= FEW]
        share = 100 * frame["n"] / frame["n"].sum()
        data.append({
            "type": "scatter", "mode": "lines+markers", "name": name, "x": _pct(filled["confidence_frac"]),
            "y": _pct(filled["accuracy_frac"]), "customdata": filled["n"].to_numpy(np.float32),
            "line": {"color": style.colour, "dash": style.dash, "width": 2},
            "marker": {"symbol": style.symbol, "size": _sizes(filled["n"]), "color": style.colour},
            "hovertemplate": f"{html.escape(name)}: %{{x:.1f}} % sure, %{{y:.1f}} % right (%{{customdata:,}})<extra></extra>",
        })  # fmt: skip
        data.append({
            "type": "scatter", "mode": "lines", "yaxis": "y2", "x": _pct((frame["low"] + frame["high"]) / 2), "showlegend": False,
            "y": share.to_numpy(np.float32), "customdata": frame["n"].to_numpy(np.float32), "name": name,
            "line": {"color": style.colour, "dash": style.dash, "width": 1.5, "shape": "hvh"}, "fill": "tozeroy",
            "fillcolor": style.faint(0.12), "hovertemplate": f"{html.escape(name)}: %{{customdata:,}} images<extra></extra>",
        })  # fmt: skip
    layout = _layout(400)
    layout |= {"showlegend": True, "legend": {"orientation": "h", "y": 1.0, "yanchor": "bottom", "x": 0}}
    layout["xaxis"] |= {"range": [0, 100], "ticksuffix": " %", "title": {"text": "How sure it is", **TITLE}, "anchor": "y2"}
    layout["yaxis"] |= {"range": [0, 102], "domain": [0.32, 1], "ticksuffix": " %", "title": {"text": "How often right", **TITLE}}
    layout["yaxis2"] = layout["yaxis"] | {"range": None, "rangemode": "tozero", "domain": [0, 0.22], "nticks": 3,
                                          "title": {"text": "Share", **TITLE}, "ticksuffix": " %", "anchor": "x"}  # fmt: skip
    return go.Figure(data=data, layout=layout)


def gains(frame: pd.DataFrame, names: Sequence[str], style: Style, *, every: bool = False) -> go.Figure:
    """Draw the gain per class in points, with the band of chance; only what leaves its band is coloured, the rest is grey.

    ``frame``: as ``pair.gains`` returns it; ``names``: of all classes; ``every``: show all classes also where they are many.
    """
    shown = _most_telling(frame.assign(order=frame["gain_frac"], weight=frame["gain_frac"].abs()), every)
    y, gain, band = np.arange(len(shown)), _pct(shown["gain_frac"]), _pct(shown["band_frac"])
    texts = [_signed(g, "+.1f") if abs(g) >= 0.05 else "0.0" for g in gain]
    more = np.stack([shown["n"], band, shown["p"]], axis=1).astype(np.float32)
    hover = "%{text} points (%{customdata[0]} images; by chance up to %{customdata[1]:.1f}, p = %{customdata[2]:.2g})"
    data = [
        _bar(y, 2 * band, 0.78, "rgba(128,136,150,0.24)") | {"hoverinfo": "skip"},
        _bar(y, gain, 0.36, [style.colour if clear else REFERENCE for clear in shown["clear"]])
        | {"text": texts, "customdata": more, "hovertemplate": hover + "<extra></extra>"},
    ]
    figure = _by_class(data, _titles(shown, names), texts, "Gain, points")
    figure.data[0].base = -band
    return figure.update_xaxes(zeroline=True, zerolinecolor=AXIS)


def agreement(frame: pd.DataFrame, names: Sequence[str], style: Style, *, every: bool = False) -> go.Figure:
    """Draw how often both say the same, by true class; ``frame``: as ``pair.agreement_by_class`` returns it."""
    shown = _most_telling(frame.assign(order=frame["agreement_frac"], weight=-frame["agreement_frac"]), every)
    values = _pct(shown["agreement_frac"])
    texts = [f"{v:.0f} %" for v in values]
    bar = _bar(np.arange(len(shown)), values, 0.62, style.colour)
    more = {"text": texts, "customdata": shown["n"].to_numpy(np.float32)}
    bar |= more | {"hovertemplate": "%{text} of %{customdata:,} images<extra></extra>"}
    figure = _by_class([bar], _titles(shown, names), texts, "Same answer")
    return figure.update_xaxes(range=[0, 100], ticksuffix=" %")


def likeness(frame: pd.DataFrame, *, rows: str, columns: str) -> go.Figure:
    """Draw a heat map of CKA values, 0 to 1, with the values in it; ``rows`` and ``columns`` name the two networks."""
    values = frame.to_numpy(dtype=np.float32)
    texts = [["–" if np.isnan(v) else f"{v:.2f}" for v in row] for row in values]
    trace = {
        "type": "heatmap", "z": values, "x": list(frame.columns), "y": list(frame.index), "zmin": 0, "zmax": 1, "text": texts,
        "texttemplate": "%{text}", "textfont": {"size": 14}, "colorscale": "Cividis", "xgap": 2, "ygap": 2, "showscale": False,
        "hovertemplate": f"{html.escape(rows)} %{{y}}, {html.escape(columns)} %{{x}}: %{{text}}<extra></extra>",
    }  # fmt: skip
    layout = _layout(96 + 50 * len(frame))
    layout["xaxis"] |= {"title": {"text": f"Layers of {columns}", **TITLE}, "showline": False, "ticks": "", "type": "category"}
    layout["yaxis"] |= {"title": {"text": f"Layers of {rows}", **TITLE}, "showgrid": False, "type": "category"}
    return go.Figure(data=[trace], layout=layout)


def sheet(pictures_: Sequence[Picture]) -> str:
    """Return test images with what was said of each, as HTML: a grid that fits phone and desk."""
    cells = "".join(_cell(picture) for picture in pictures_)
    return f'<div style="display:grid;grid-template-columns:repeat(auto-fill,minmax(150px,1fr));gap:16px 12px">{cells}</div>'


# ---- how it is drawn -----------------------------------------------------------------------------------------------------


def _cell(picture: Picture) -> str:
    label = html.escape(picture.label)
    image = f'<div style="width:{THUMB_PX}px;height:{THUMB_PX}px;border:1px dashed {AXIS};border-radius:4px"></div>'
    if picture.pixels is not None:
        data = base64.b64encode(pictures.as_png(picture.pixels)).decode()
        image = (
            f'<img alt="test image {picture.place}, {label}" width="{THUMB_PX}" height="{THUMB_PX}" '
            f'style="image-rendering:pixelated;border-radius:4px" src="data:image/png;base64,{data}">'
        )
    lines = "".join(_saying(saying) for saying in picture.sayings)
    words = f'<span style="opacity:.65">true class:</span> <b>{label}</b>{lines}'
    return f'<figure style="margin:0;font-size:13px;line-height:1.45">{image}<figcaption>{words}</figcaption></figure>'


def _saying(saying: Saying) -> str:
    mark, weight = ("✓", 600) if saying.right else ("✕", 400)
    return (
        f'<div style="font-weight:{weight}">{mark} <span style="opacity:.65">{html.escape(saying.who)}:</span> '
        f"{html.escape(saying.said)} <span style='opacity:.65'>{100 * saying.sure:.0f} %</span></div>"
    )


def _layout(height: int, *, right: float = 12) -> dict[str, Any]:
    clear = "rgba(0,0,0,0)"
    return {
        "height": height, "margin": {"l": 4, "r": right, "t": 10, "b": 4}, "showlegend": False, "hovermode": "closest",
        "paper_bgcolor": clear, "plot_bgcolor": clear, "font": {"size": 13}, "hoverlabel": {"font": {"size": 13}},
        "xaxis": {"showgrid": False, "zeroline": False, "ticks": "outside", "ticklen": 4, "tickcolor": AXIS, "linecolor": AXIS,
                  "showline": True, "automargin": True},
        "yaxis": {"showgrid": True, "gridcolor": GRID, "zeroline": False, "automargin": True},
    }  # fmt: skip


def _by_class(data: list[dict[str, Any]], titles: list[str], texts: list[str], title: str) -> go.Figure:
    layout = _layout(70 + 26 * max(1, len(titles)), right=16 + LETTER_PX * max((len(t) for t in texts), default=0))
    layout |= {"barmode": "overlay", "annotations": [
        {"x": 1, "xref": "paper", "y": place, "text": text, "showarrow": False, "xanchor": "left", "xshift": 8}
        for place, text in enumerate(texts)
    ]}  # fmt: skip
    layout["xaxis"] |= {"title": {"text": title, **TITLE}, "showgrid": True, "gridcolor": GRID, "showline": False}
    layout["yaxis"] |= {"showgrid": False, "ticks": "", "tickvals": list(range(len(titles))), "ticktext": titles,
                        "range": [-0.6, len(titles) - 0.4]}  # fmt: skip
    return go.Figure(data=data, layout=layout)


def _bar(y: np.ndarray, x: np.ndarray, width: float, color: str | list[str]) -> dict[str, Any]:
    # places instead of names: digits are names of classes, and plotly would take them for places
    return {"type": "bar", "orientation": "h", "y": y.astype(np.float32), "x": x, "width": width, "textposition": "none",
            "marker": {"color": color}}  # fmt: skip


def _most_telling(frame: pd.DataFrame, every: bool) -> pd.DataFrame:
    """Return the classes to show, greatest ``order`` on top (drawn last): all of few, those of greatest ``weight`` of many."""
    return (frame if every else frame.nlargest(CLASSES_SHOWN, "weight", keep="first")).sort_values(
        ["order", "class"], kind="stable"
    )


def _titles(frame: pd.DataFrame, names: Sequence[str]) -> list[str]:
    return [names[k] if k < len(names) else f"class {k}" for k in frame["class"]]


def _line(x: list[float], row: int, *, color: str, width: float, dash: str = "solid") -> dict[str, Any]:
    return {"type": "scatter", "mode": "lines", "x": np.array(x, np.float32), "y": np.full(len(x), row, np.float32),
            "hoverinfo": "skip", "line": {"color": color, "width": width, "dash": dash}}  # fmt: skip


def _diagonal() -> dict[str, Any]:
    ends = np.array([0, 100], np.float32)
    return {"type": "scatter", "mode": "lines", "x": ends, "y": ends, "hoverinfo": "skip", "showlegend": False,
            "line": {"color": AXIS, "width": 1.5, "dash": "dot"}}  # fmt: skip


def _dots(x: list[float], row: int, color: str, symbol: str, size: int, name: str) -> dict[str, Any]:
    marker = {"symbol": symbol, "size": size, "color": color, "line": {"width": 2, "color": color}}
    return {"type": "scatter", "mode": "markers", "x": np.array(x, np.float32), "y": np.full(len(x), row, np.float32),
            "marker": marker, "hovertemplate": f"{html.escape(name)}: %{{x:.1f}} %<extra></extra>"}  # fmt: skip


def _note(x: float, row: int, text: str, *, shift: int, color: str, anchor: str = "center") -> dict[str, Any]:
    font = {"size": 14, "color": color}
    return {"x": x, "y": row, "text": text, "showarrow": False, "yshift": -shift, "xanchor": anchor, "font": font}


def _sizes(n: pd.Series) -> np.ndarray:
    """Return marker sizes whose area goes with the number of images, never too small to see."""
    return np.asarray(np.clip(18 * np.sqrt(n / n.max()), 5, 18), dtype=np.float32)


def _signed(value: float, form: str) -> str:
    return format(value, form).replace("-", "\N{MINUS SIGN}")


def _pct(column: pd.Series) -> np.ndarray:
    return np.asarray(100 * column.to_numpy(dtype=float), dtype=np.float32)
