"""Networks and datasets in figures and frames: what is measured here beside what is printed in the literature.

Reads: the frames it is given. Writes: nothing. Never: Streamlit, the store, torch.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd
import plotly.graph_objects as go

from pages.parts import room, words
from pages.parts.charts import AXIS, GRID, TITLE
from pages.parts.tables import Column, Table
from store.compare.groups import newest_per_seed

# at least 3:1 against both backgrounds, in the order of the families' files; the symbol says the same again
FAMILY_STYLES = (
    ("#9a6a12", "triangle-up"), ("#2f6fd6", "circle"), ("#7a4fc4", "square"), ("#c2468d", "diamond"), ("#b5532a", "pentagon"),
    ("#1c8a5f", "cross"), ("#68727f", "hexagon"),
)  # fmt: skip
FAMILY_TITLES = {
    "resnet": "ResNet for small images", "resnet_imagenet": "ResNet, ImageNet shape", "wrn": "Wide ResNet", "vgg": "VGG",
    "mobilenetv2": "MobileNetV2", "shufflenetv1": "ShuffleNet", "shufflenetv2": "ShuffleNetV2",
}  # fmt: skip
AXES: dict[str, tuple[str, str, float]] = {  # key -> (title, unit on the axis, divisor)
    "depth": ("Depth", "layers with weights", 1.0),
    "params": ("Parameters", "million", 1e6),
    "macs": ("Multiply-adds", "million per image", 1e6),
    "latency": ("Latency", "ms for one image", 1.0),
}
OWN, PRINTED = "measured here", "published"
LABELLED = 3  # networks on one line whose names are all written; of more, the first and the last


@dataclass(frozen=True, slots=True)
class Shape:
    """A network as its blocks: ``title``, ``channels`` of each block's map in order, ``colour``."""

    title: str
    channels: tuple[int, ...]
    colour: str


# ---- frames ----------------------------------------------------------------------------------------------------------------


def own_results(results: pd.DataFrame) -> pd.DataFrame:
    """Return what a network reached alone: of each dataset and network the best setting, mean over its seeds.

    ``results``: rows of ``queries.results``, of finished runs without a teacher. Of one seed the newest run counts.

    Columns: dataset, student, mean_frac, std_frac (n - 1, NaN for one run), n, epochs, train_images (None = all).
    """
    newest = newest_per_seed(results.dropna(subset=["best_frac"]))
    if newest.empty:
        return pd.DataFrame(columns=["dataset", "student", "mean_frac", "std_frac", "n", "epochs", "train_images"])
    grouped = newest.groupby(["dataset", "student", "setting"], sort=False)
    found = grouped.agg(
        mean_frac=("best_frac", "mean"), std_frac=("best_frac", "std"), n=("best_frac", "size"),
        epochs=("epochs", "first"), train_images=("train_images", "first"),
    ).reset_index()  # fmt: skip
    best = found.sort_values("mean_frac", ascending=False).drop_duplicates(["dataset", "student"])
    return best.drop(columns="setting").sort_values(["dataset", "student"]).reset_index(drop=True)


def printed_results(published: pd.DataFrame) -> pd.DataFrame:
    """Return what the literature says of a network alone: per dataset and network the mean of its sources, and their range.

    ``published``: rows of ``queries.published``, of the method without a teacher. A number that several sources copied from
    one another counts once.

    Columns: dataset, student, mean_frac, low_frac, high_frac, sources (names, joined).
    """
    grouped = published.groupby(["dataset", "student"], sort=True)
    rows = [
        {"dataset": dataset, "student": student, "mean_frac": (values := part["top1_frac"].drop_duplicates()).mean(),
         "low_frac": values.min(), "high_frac": values.max(), "sources": ", ".join(dict.fromkeys(part["source"]))}
        for (dataset, student), part in grouped
    ]  # fmt: skip
    return pd.DataFrame(rows, columns=["dataset", "student", "mean_frac", "low_frac", "high_frac", "sources"])


def joined(networks: pd.DataFrame, own: pd.DataFrame, printed: pd.DataFrame, dataset: str) -> pd.DataFrame:
    """Return the networks with what they reach on ``dataset``.

    Columns: those of ``networks``, then own_frac, std_frac, n, epochs, train_images, printed_frac, low_frac, high_frac,
    sources; NaN where there is nothing.
    """
    mine = own[own["dataset"] == dataset].drop(columns="dataset").rename(columns={"mean_frac": "own_frac"})
    theirs = printed[printed["dataset"] == dataset].drop(columns="dataset").rename(columns={"mean_frac": "printed_frac"})
    merged = networks.merge(mine, how="left", left_on="key", right_on="student").drop(columns="student")
    return merged.merge(theirs, how="left", left_on="key", right_on="student").drop(columns="student")


def both_datasets(own: pd.DataFrame, printed: pd.DataFrame, easy: str, hard: str) -> pd.DataFrame:
    """Return the networks that have a number on both datasets, both measured here or both published; the smallest loss first.

    Columns: student, kind (measured here or published), easy_frac, hard_frac, loss_frac, note.
    """
    parts = []
    for kind, frame in ((OWN, own), (PRINTED, printed)):
        sides = [frame[frame["dataset"] == name].set_index("student")["mean_frac"] for name in (easy, hard)]
        pair = pd.concat(sides, axis=1, keys=["easy_frac", "hard_frac"]).dropna().reset_index()
        parts.append(pair.assign(kind=kind))
    both = pd.concat(parts, ignore_index=True)
    return both.assign(loss_frac=both["easy_frac"] - both["hard_frac"]).sort_values("loss_frac", ignore_index=True)


def what_it_costs(both: pd.DataFrame, easy: Any, hard: Any) -> str:
    """Say what the step from the dataset ``easy`` to ``hard`` (cards) costs the same network; ``both`` as ``both_datasets``."""
    fewer = (easy.train_images / easy.classes) / (hard.train_images / hard.classes)
    more = f"{hard.classes // easy.classes} times as many classes, {fewer:.0f} times fewer images of each"
    if both.empty:
        return f"{hard.title} asks more of a network: {more}."
    low, high = 100 * both["loss_frac"].min(), 100 * both["loss_frac"].max()
    names = words.count(both["student"].nunique(), "network")
    return (
        f"The same network loses **{low:.0f} to {high:.0f} points** on {hard.title} ({names}). It has {more}, "
        "and many classes lie close together: a maple and an oak are told apart by details that a small image hardly holds."
    )


TABLE: dict[str, Column] = {
    "Network": Column("text", "its name here, in files and in the URL"),
    "Measured here": Column("wide", "best on test in %, mean ± standard deviation over n seeds, best setting in the store"),
    "Published": Column("wide", "in %; a range where sources differ"),
    "Depth": Column("number", "layers with weights from image to answer"),
    "Parameters": Column("number", "numbers that are learnt, in millions, for 10 classes"),
    "Multiply-adds": Column("number", "multiply-adds for one image of 32 x 32, in millions"),
    "One image": Column("number", "ms for one image alone, measured on this machine with one thread"),
    "In batches": Column("number", "images per second, 128 at once, measured on this machine with one thread"),
    "Family": Column("text", "networks of one construction"),
}
FORMATS = {"Parameters": "{:.2f}", "Multiply-adds": "{:,.1f}", "One image": "{:.1f}", "In batches": "{:,.0f}"}
SORTS: dict[str, tuple[str, str, bool]] = {  # key -> (title, column of the joined frame, whether the greatest comes first)
    "name": ("Name", "key", False), "depth": ("Depth", "depth", False), "params": ("Parameters", "params", False),
    "macs": ("Multiply-adds", "macs", False), "latency": ("Latency", "latency", False),
    "own": ("Accuracy here", "own_frac", True), "printed": ("Accuracy published", "printed_frac", True),
}  # fmt: skip


def table(frame: pd.DataFrame, sort: str) -> Table:
    """Return the table of networks; ``frame`` as ``joined`` returns it, with latency and speed; ``sort``: a key of SORTS."""
    _, column, falling = SORTS[sort]
    frame = frame.sort_values(column, ascending=not falling, na_position="last", kind="stable")
    shown = pd.DataFrame(
        {
            "Network": frame["key"].to_list(),
            "Measured here": [own_text(row) for row in frame.to_dict("records")],
            "Published": [printed_text(row) for row in frame.to_dict("records")],
            "Depth": frame["depth"].to_list(),
            "Parameters": (frame["params"] / 1e6).to_list(),
            "Multiply-adds": (frame["macs"] / 1e6).to_list(),
            "One image": frame["latency"].to_list(),
            "In batches": frame["speed"].to_list(),
            "Family": [FAMILY_TITLES.get(f, f) for f in frame["family"]],
        }
    )
    empty = [name for name in shown if (shown[name].isna() | (shown[name] == "")).all()]
    shown = shown.drop(columns=empty)
    styled = shown.style.format({name: text for name, text in FORMATS.items() if name in shown}, na_rep="")
    return Table(styled, {name: column for name, column in TABLE.items() if name in shown})


def own_text(row: Mapping[Any, Any]) -> str:
    """Write what a network reached here: ``94.4 ± 0.3 (n = 2)``; "" where it has not been trained."""
    if words.missing(row["own_frac"]):
        return ""
    return f"{words.spread(row['own_frac'], row['std_frac'])} (n = {int(row['n'])})"


def printed_text(row: Mapping[Any, Any]) -> str:
    """Write what the literature says: ``72.3``, or ``72.3 to 72.6`` where sources differ; "" where it is silent."""
    if words.missing(row["printed_frac"]):
        return ""
    low, high = (f"{100 * row[name]:.1f}" for name in ("low_frac", "high_frac"))
    return low if low == high else f"{low} to {high}"


def side_by_side(big: Mapping[Any, Any], small: Mapping[Any, Any], printed: pd.DataFrame) -> pd.DataFrame:
    """Return two networks (rows of the catalogue, with latency) in words, one column each, and how far apart they are."""
    lines: list[tuple[str, str, str, str]] = []
    for title, name, digits, divisor, unit in (
        ("Layers", "depth", 0, 1, ""), ("Parameters", "params", 2, 1e6, " M"), ("Multiply-adds", "macs", 0, 1e6, " M"),
        ("One image", "latency", 1, 1, " ms"),
    ):  # fmt: skip
        if not (words.missing(big[name]) or words.missing(small[name])):
            left, right = (f"{row[name] / divisor:,.{digits}f}{unit}" for row in (big, small))
            lines.append((title, left, right, f"{big[name] / small[name]:.1f} times"))
    means = printed.set_index(["dataset", "student"])["mean_frac"]
    for dataset in dict.fromkeys(printed["dataset"]):
        if (dataset, big["key"]) in means.index and (dataset, small["key"]) in means.index:
            high, low = means[dataset, big["key"]], means[dataset, small["key"]]
            lines.append((f"On {dataset}", words.percent(high), words.percent(low), f"{100 * (high - low):+.1f} points"))
    frame = pd.DataFrame(lines, columns=["", big["title"], small["title"], "Apart"])
    return frame.set_index("")


def legend_of(frame: pd.DataFrame) -> str:
    """Say what the markers of ``accuracy_against`` are, of those that ``frame`` fills."""
    own, printed = frame["own_frac"].notna(), frame["printed_frac"].notna()
    said = []
    if own.any():
        most = int(frame.loc[own, "n"].max())
        said.append(f"Filled: measured here, best on test, mean ± standard deviation over at most {words.count(most, 'seed')}")
    if printed.any():
        said.append(
            "hollow: published, with the range of the sources" if said else "Hollow: published, with the range of the sources"
        )
    return "; ".join(said) + "."


# ---- figures ---------------------------------------------------------------------------------------------------------------


def family_style(family: str, families: Sequence[str]) -> tuple[str, str]:
    """Return colour and symbol of a family by its place among all."""
    place = list(families).index(family) if family in families else len(families)
    return FAMILY_STYLES[place % len(FAMILY_STYLES)]


def accuracy_against(frame: pd.DataFrame, x: str, families: Sequence[str]) -> go.Figure:
    """Draw accuracy over a cost: filled markers measured here (bar: one standard deviation), hollow ones published (bar: range).

    ``frame``: as ``joined`` returns it; ``x``: a key of AXES, a column of the frame; ``families``: all families, in the order
    that gives them their colours. The axis of a cost is logarithmic, that of depth linear.
    """
    title, unit, divisor = AXES[x]
    frame = frame.assign(x=frame[x] / divisor).dropna(subset=["x"]).sort_values("x")
    data: list[dict[str, Any]] = []
    frame = frame.assign(width=[channels[0] for channels in frame["blocks"]])
    for (family, _), part in frame.groupby(["family", "width"], sort=False):  # a line joins networks that differ in depth alone
        for kind, column in ((PRINTED, "printed_frac"), (OWN, "own_frac")):
            rows = part.dropna(subset=[column])
            if len(rows):
                data.append(_cloud(rows, column, kind, family_style(str(family), families)))
    low, high = _span(frame)
    _arrange(data, (low, high), x != "depth")
    layout = _layout(430)
    layout["xaxis"] |= {"title": {"text": f"{title}, {unit}", **TITLE}, "type": "linear" if x == "depth" else "log"}
    if x != "depth":
        layout["xaxis"] |= _decades(frame["x"])
    title = "Test accuracy" + (f" (axis starts at {low:g} %)" if low else "")
    layout["yaxis"] |= {"title": {"text": title, **TITLE}, "ticksuffix": " %", "nticks": 8, "range": [low, high]}
    return go.Figure(data=data, layout=layout)


def _cloud(rows: pd.DataFrame, column: str, kind: str, style: tuple[str, str]) -> dict[str, Any]:
    colour, symbol = style
    y = 100 * rows[column].to_numpy(float)
    own = kind == OWN
    error: dict[str, Any]
    if own:
        notes = [f"mean of n = {int(n)}, {int(e)} epochs" for n, e in zip(rows["n"], rows["epochs"], strict=True)]
        error = {"type": "data", "array": _f32(np.nan_to_num(100 * rows["std_frac"].to_numpy(float)))}
    else:
        notes = rows["sources"].tolist()
        above, below = (100 * (rows[edge].to_numpy(float)) - y for edge in ("high_frac", "low_frac"))
        error = {"type": "data", "symmetric": False, "array": _f32(above), "arrayminus": _f32(-below)}
    labels = rows["key"].tolist()
    if len(labels) > LABELLED:  # the line between them says that the others lie on it
        labels = [name if place in (0, len(labels) - 1) else "" for place, name in enumerate(labels)]
    return {
        "type": "scatter", "x": _f32(rows["x"]), "y": _f32(y), "name": kind, "mode": "lines+markers+text", "text": labels,
        "textfont": {"color": colour, "size": 12}, "cliponaxis": False,
        "line": {"color": colour, "width": 1.2, "dash": "solid" if own else "dot"},
        "marker": {"symbol": symbol if own else f"{symbol}-open", "size": 10, "color": colour, "line": {"width": 1.8}},
        "error_y": error | {"thickness": 1.2, "width": 3, "color": colour},
        "customdata": list(zip(rows["key"].tolist(), notes, strict=True)),
        "hovertemplate": f"%{{customdata[0]}}: %{{y:.1f}} % ({kind}; %{{customdata[1]}})<extra></extra>",
    }  # fmt: skip


def _arrange(data: list[dict[str, Any]], span: tuple[float, float], logarithmic: bool) -> None:
    """Put each name where it covers no marker and no other name; one that finds no place is left to the hover."""
    x = np.concatenate([np.log10(trace["x"]) if logarithmic else trace["x"] for trace in data])
    names = [name for trace in data for name in trace["text"]]
    found = room.places(x, np.concatenate([trace["y"] for trace in data]), names, upright=span)
    for trace in data:
        own, found = found[: len(trace["text"])], found[len(trace["text"]) :]
        trace["text"] = [name if place else "" for name, place in zip(trace["text"], own, strict=True)]
        trace["textposition"] = [place or "top center" for place in own]


def blocks_of(shapes: Sequence[Shape]) -> go.Figure:
    """Draw networks as rows of blocks, one bar per block as high as it has channels, all on one scale."""
    widest = max(max(shape.channels) for shape in shapes)
    longest = max(len(shape.channels) for shape in shapes)
    step = 1.55 * widest
    data, notes = [], []
    for place, shape in enumerate(shapes):
        base = (len(shapes) - 1 - place) * step
        data.append(
            {"type": "bar", "x0": 0, "dx": 1, "y": np.array(shape.channels, dtype=np.int16), "width": 0.72,
             "marker": {"color": shape.colour, "line": {"width": 0}}, "name": shape.title,
             "hovertemplate": f"{shape.title}, block %{{x}}: %{{customdata}} channels<extra></extra>",
             "customdata": np.array(shape.channels, dtype=np.int16)}
        )  # fmt: skip
        notes.append({"x": -0.6, "y": base + widest, "text": f"<b>{shape.title}</b>: {words.count(len(shape.channels), 'block')}",
                      "showarrow": False, "xanchor": "left", "yanchor": "bottom", "font": {"size": 13}})  # fmt: skip
    layout = _layout(105 * len(shapes)) | {"annotations": notes, "barmode": "overlay", "dragmode": False}
    layout["xaxis"] = {"visible": False, "range": [-1, longest], "fixedrange": True}
    layout["yaxis"] = {"visible": False, "range": [0, len(shapes) * step], "fixedrange": True}
    figure = go.Figure(data=data, layout=layout)
    for place, bars in enumerate(figure.data):
        bars.base = (len(shapes) - 1 - place) * step
    return figure


def two_datasets(frame: pd.DataFrame, easy: str, hard: str) -> go.Figure:
    """Draw what the same network reaches on two datasets, a line between both; ``frame`` as ``both_datasets`` returns it."""
    names = [f"{name} ({OWN})" if kind == OWN else str(name) for name, kind in zip(frame["student"], frame["kind"], strict=True)]
    data: list[dict[str, Any]] = []
    gaps_x, gaps_y = [], []
    for name, low, high in zip(names, frame["hard_frac"], frame["easy_frac"], strict=True):
        gaps_x += [100 * low, 100 * high, None]
        gaps_y += [name, name, None]
    data.append({"type": "scatter", "x": gaps_x, "y": gaps_y, "mode": "lines", "line": {"color": AXIS, "width": 2},
                 "hoverinfo": "skip", "showlegend": False})  # fmt: skip
    for title, column, symbol, colour in ((hard, "hard_frac", "square", "#b5532a"), (easy, "easy_frac", "circle", "#2f6fd6")):
        marks = [symbol if kind == OWN else f"{symbol}-open" for kind in frame["kind"]]
        data.append(
            {"type": "scatter", "x": _f32(100 * frame[column]), "y": names, "mode": "markers", "name": title,
             "marker": {"symbol": marks, "size": 10, "color": colour, "line": {"width": 1.8}},
             "hovertemplate": f"%{{y}} on {title}: %{{x:.1f}} %<extra></extra>"}
        )  # fmt: skip
    layout = _layout(96 + 30 * len(names))
    layout["xaxis"] |= {"title": {"text": "Test accuracy", **TITLE}, "ticksuffix": " %", "showgrid": True, "gridcolor": GRID}
    layout["yaxis"] |= {"showgrid": False, "type": "category", "autorange": "reversed"}
    layout["annotations"] = [
        {"x": 100 * (low + high) / 2, "y": name, "text": f"−{100 * (high - low):.1f}", "showarrow": False, "yshift": 9,
         "font": {"size": 12}}
        for name, low, high in zip(names, frame["hard_frac"], frame["easy_frac"], strict=True)
    ]  # fmt: skip
    layout |= {"showlegend": True, "legend": {"orientation": "h", "y": 1.02, "x": 0, "yanchor": "bottom", "traceorder": "normal"}}
    return go.Figure(data=data, layout=layout)


def _layout(height: int) -> dict[str, Any]:
    clear = "rgba(0,0,0,0)"
    return {
        "height": height, "margin": {"l": 4, "r": 12, "t": 10, "b": 4}, "showlegend": False, "hovermode": "closest",
        "paper_bgcolor": clear, "plot_bgcolor": clear, "font": {"size": 13}, "hoverlabel": {"font": {"size": 13}},
        "xaxis": {"showgrid": False, "zeroline": False, "ticks": "outside", "ticklen": 4, "tickcolor": AXIS, "linecolor": AXIS,
                  "showline": True, "automargin": True},
        "yaxis": {"showgrid": True, "gridcolor": GRID, "zeroline": False, "automargin": True},
    }  # fmt: skip


def _decades(values: pd.Series) -> dict[str, Any]:
    """Return ticks of a logarithmic axis in plain numbers: 1, 2, 5 of each decade that the values touch."""
    values = values[values > 0]
    if values.empty:
        return {}
    low, high = float(np.floor(np.log10(values.min()))), float(np.ceil(np.log10(values.max())))
    ticks = [m * 10.0**e for e in range(int(low), int(high) + 1) for m in (1, 2, 5)]
    kept = [t for t in ticks if values.min() / 1.6 <= t <= values.max() * 1.6]
    return {"tickvals": kept, "ticktext": [f"{t:,.4g}" if t < 1000 else f"{t:,.0f}" for t in kept]}


def _span(frame: pd.DataFrame) -> tuple[float, float]:
    """Return where an accuracy axis begins, an even number below all that is drawn, and where it ends; in percent."""
    drawn = pd.concat([frame["own_frac"] - frame["std_frac"].fillna(0), frame["low_frac"], frame["own_frac"]])
    top = pd.concat([frame["own_frac"] + frame["std_frac"].fillna(0), frame["high_frac"]])
    low, high = 100 * float(drawn.min()), 100 * float(top.max())
    low = max(0.0, 2 * float(np.floor((low - 0.5) / 2)))
    return low, high + 0.09 * (high - low)  # room for the names above the markers


def _f32(values: Any) -> np.ndarray:
    return np.asarray(values, dtype=np.float32)
