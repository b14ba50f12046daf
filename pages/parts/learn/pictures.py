"""What a method compares, as pictures: plotly figures for numbers, small images for what lies on an image.

Student and teacher are drawn on one scale, the student in its method's colour, the teacher grey and hatched. Images are shown
pixel by pixel, nothing is smoothed. Text takes the page's colour, so that both themes work.
Reads: arrays it is given. Writes: nothing. Never: Streamlit, torch.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from html import escape
from typing import Any

import numpy as np
import plotly.graph_objects as go

from pages.parts import words
from pages.parts.learn import tiles
from pages.parts.learn.tiles import SIGNED
from store.export.colours import REFERENCE, style_of

GRID, AXIS = "rgba(125,130,139,0.25)", "rgba(125,130,139,0.6)"
CHANNELS = 6  # feature maps shown of the many that a stage has
MOST_BARS = 12  # classes in one figure; of more, those with the largest bars
BARS = ("probabilities", "scores", "values")  # kinds drawn as bars
PATTERNS = ("", "/", ".", "x", "-")
LABELS = "ce"  # the term of the labels, by the methods' contract
CELL = 300  # height of a table of numbers, in pixels
# told apart by people who see few colours (Okabe and Ito 2008, and two greys); the names stand beside the points as well
CLASSES = ("#e69f00", "#56b4e9", "#009e73", "#c9b400", "#0072b2", "#d55e00", "#cc79a7", "#7f7f7f", "#8c564b", "#9467bd")


@dataclass(frozen=True, slots=True)
class Picture:
    """One comparison as arrays; the fields are those of ``Compared`` in the methods' contract, which says their shapes."""

    title: str
    kind: str
    student: np.ndarray | None
    teacher: np.ndarray | None
    note: str
    sides: tuple[str, str] = ("student", "teacher")
    axes: tuple[str, str] = ("", "")
    of: np.ndarray | None = None
    joint: bool = False

    @property
    def given(self) -> list[tuple[str, np.ndarray]]:
        """The sides that there are, by name."""
        pairs = zip(self.sides, (self.student, self.teacher), strict=True)
        return [(name, x) for name, x in pairs if x is not None]


@dataclass(frozen=True, slots=True)
class Scene:
    """What the picture is about: ``images (B, H, W, 3)`` uint8, ``labels (B,)``, names of all classes, the chosen image's place.

    ``low``, ``high (3,)``: a pixel's least and greatest value after normalisation.
    """

    method: str
    images: np.ndarray
    labels: np.ndarray
    classes: tuple[str, ...]
    place: int
    low: np.ndarray = field(default_factory=lambda: np.zeros(3))
    high: np.ndarray = field(default_factory=lambda: np.ones(3))

    def name(self, place: int) -> str:
        """Return the name of an image's class."""
        return self.classes[int(self.labels[place])]


@dataclass(frozen=True, slots=True)
class Drawing:
    """A picture ready for the page: figures side by side, or one block of HTML; ``said``: what it shows, in a sentence."""

    figures: tuple[go.Figure, ...] = ()
    html: str = ""
    said: str = ""


def draw(picture: Picture, scene: Scene) -> Drawing:
    """Draw one comparison for the chosen image."""
    return DRAWN[picture.kind](picture, scene)


# ---- numbers as bars ---------------------------------------------------------------------------------------------------------


def pulls(by_place: Mapping[str, Mapping[str, float]], plain: Mapping[str, Mapping[str, float]], method: str) -> go.Figure:
    """Draw each term's share of the gradient at each place of the student; beside it the length of the whole gradient.

    ``by_place``, ``plain``: place -> term -> length of the gradient, ``total`` among them; now, and at the defaults.
    """
    places = list(by_place)[::-1]
    terms = [t for t in next(iter(by_place.values())) if t != "total"]
    whole = np.array([sum(by_place[p][t] for t in terms) or 1.0 for p in places])
    bars = []
    for n, term in enumerate(terms):
        share = 100 * np.array([by_place[p][term] for p in places]) / whole
        bars.append(
            _bar(
                term,
                places,
                share.astype(np.float32),
                *_term(term, n, method),
                "h",
                "%{y}, " + term + ": %{x:.0f} %<extra></extra>",
            )
        )
    layout = _layout(64 + 34 * len(places))
    layout |= {"barmode": "stack", "bargap": 0.35}
    layout["xaxis"] |= {"range": [0, 100], "ticksuffix": " %", "showgrid": True, "gridcolor": GRID}
    layout["margin"]["r"] = 132
    layout["annotations"] = [
        {"x": 1, "xref": "paper", "xanchor": "left", "xshift": 8, "y": place, "showarrow": False, "align": "left",
         "text": f"{by_place[place]['total']:.2g} (default {plain.get(place, {}).get('total', 0.0):.2g})"}
        for place in places
    ]  # fmt: skip
    return go.Figure(data=bars, layout=layout)


def pushes(push: Mapping[str, np.ndarray], scene: Scene) -> go.Figure:
    """Draw where each term pushes the class scores of the chosen image; ``push``: term -> ``(B, K)``."""
    own = {term: values[scene.place] for term, values in push.items()}
    return _classes(own, scene, scene.place, [_term(term, n, scene.method) for n, term in enumerate(own)], "")


def _bars(picture: Picture, scene: Scene) -> Drawing:
    row, place = _row(picture, scene)
    percent = picture.kind == "probabilities"
    values = {name: np.asarray(x[row], dtype=np.float64) * (100 if percent else 1) for name, x in picture.given}
    if len(values) == 1 and percent:
        values["label"] = 100.0 * (np.arange(len(next(iter(values.values())))) == scene.labels[place])
    figure = _classes(values, scene, place, _styles(values, scene), " %" if percent else "")
    if len(values) == 1:
        return Drawing((figure,), said=_about(picture, scene, place))
    (first, own), (second, other) = values.items()
    far = int(np.abs(own - other).argmax())
    unit = " %" if percent else ""
    gap = f"{scene.classes[far]} ({first} {own[far]:.3g}{unit}, {second} {other[far]:.3g}{unit})"
    return Drawing((figure,), said=f"{_about(picture, scene, place)}Largest gap: {gap}.")


def _styles(names: Iterable[str], scene: Scene) -> list[tuple[str | None, int]]:
    """Return the style of each side: the student's in its method's colour, what is the teacher's or the label's in grey."""
    return [(None if n or name.startswith("teacher") else scene.method, n) for n, name in enumerate(names)]


def _values(picture: Picture, scene: Scene) -> Drawing:
    """Bars of numbers that belong to no class: one per image, per channel."""
    row, _ = _row(picture, scene)
    bars = []
    for n, (name, x) in enumerate(picture.given):
        y = x[row] if x.ndim == 2 else x
        names = [f"{i + 1} ({scene.name(i)})" if picture.axes[1] == "image" else str(i + 1) for i in range(len(y))]
        teacher = name == picture.sides[1]
        bars.append(_bar(name, names, y.astype(np.float32), None if teacher else scene.method, n, "v",
                         f"{picture.axes[1]} %{{x}}: %{{y:.3g}}<extra>{name}</extra>"))  # fmt: skip
    layout = _layout(240)
    layout["xaxis"] |= {"title": {"text": picture.axes[1]}, "type": "category", "nticks": 12}
    return Drawing((go.Figure(data=bars, layout=layout),))


def _classes(
    values: Mapping[str, np.ndarray], scene: Scene, place: int, styles: Sequence[tuple[str | None, int]], unit: str
) -> go.Figure:  # fmt: skip
    """Draw grouped bars over the classes, the label's class in bold; of many classes those with the largest bars."""
    every = np.stack(list(values.values()))
    kept = np.arange(every.shape[1])
    if len(kept) > MOST_BARS:
        largest = np.abs(every).max(0)
        largest[scene.labels[place]] = np.inf
        kept = np.sort(np.argsort(-largest, kind="stable")[:MOST_BARS])
    label = int(scene.labels[place])
    names = [f"<b>{escape(scene.classes[k])}, label</b>" if k == label else escape(scene.classes[k]) for k in kept]
    bars = [
        _bar(name, names, x[kept].astype(np.float32), *style, "v", f"%{{x}}: %{{y:.3g}}{unit}<extra>{name}</extra>")
        for (name, x), style in zip(values.items(), styles, strict=False)
    ]
    layout = _layout(280)
    layout["yaxis"] |= {"ticksuffix": unit, "showgrid": True, "gridcolor": GRID, "zeroline": True, "zerolinecolor": AXIS}
    layout["xaxis"] |= {"type": "category"}
    return go.Figure(data=bars, layout=layout)


def _bar(
    name: str, places: Sequence[str], values: np.ndarray, method: str | None, n: int, way: str, hover: str
) -> dict[str, Any]:
    """Return one group of bars: of the method's colour, grey where ``method`` is None, hatched from the second group on."""
    colour = REFERENCE if method is None else style_of(method).colour
    pattern = {"shape": PATTERNS[n % len(PATTERNS)], "fillmode": "overlay", "fgcolor": "rgba(255,255,255,0.7)", "size": 7}
    marker = {"color": colour, "pattern": pattern, "line": {"width": 0}}
    x, y = (values, list(places)) if way == "h" else (list(places), values)
    return {"type": "bar", "name": name, "x": x, "y": y, "orientation": way, "marker": marker, "hovertemplate": hover}


def _term(term: str, n: int, method: str) -> tuple[str | None, int]:
    """Return the style of a term: that of the labels grey, the others in the method's colour."""
    return (None, 0) if term == LABELS else (method, n)


# ---- tables and points -------------------------------------------------------------------------------------------------------


def _matrices(picture: Picture, scene: Scene) -> Drawing:
    row, _ = _row(picture, scene)
    found = [(name, (x[row] if x.ndim == 3 else x).astype(np.float32)) for name, x in picture.given]
    low, high = min(float(x.min()) for _, x in found), max(float(x.max()) for _, x in found)
    signed = low < -0.02 * max(high, 1e-12)
    bounds = (-max(-low, high), max(-low, high)) if signed else (low, high)
    figures = [_matrix(name, x, picture, scene, bounds, SIGNED if signed else "Cividis") for name, x in found]
    said = ""
    if len(found) == 2:
        gap = found[0][1] - found[1][1]
        far = float(np.abs(gap).max()) or 1.0
        figures.append(_matrix(f"{found[0][0]} − {found[1][0]}", gap, picture, scene, (-far, far), SIGNED))
        said = f"Mean gap between two cells: {np.abs(gap).mean():.3g}, of values from {low:.3g} to {high:.3g}."
    return Drawing(tuple(figures), said=said)


def _matrix(
    name: str, cells: np.ndarray, picture: Picture, scene: Scene, bounds: tuple[float, float], scale: str
) -> go.Figure:  # fmt: skip
    heat = {
        "type": "heatmap", "z": cells, "zmin": bounds[0], "zmax": bounds[1], "colorscale": scale, "xgap": 0, "ygap": 0,
        "colorbar": {"thickness": 8, "len": 1, "outlinewidth": 0, "tickfont": {"size": 11}, "nticks": 5,
                     "exponentformat": "e"},
        "hovertemplate": "row %{y}, column %{x}: %{z:.3g}<extra></extra>",
    }  # fmt: skip
    layout = _layout(CELL)
    layout["title"] = {"text": name, "font": {"size": 13}, "x": 0, "xref": "paper", "y": 1, "yanchor": "top", "pad": {"t": 4}}
    layout["margin"]["t"] = 26
    for axis, what, count in (("yaxis", picture.axes[0], cells.shape[0]), ("xaxis", picture.axes[1], cells.shape[1])):
        layout[axis] |= {"title": {"text": what, "font": {"size": 12}}, "showline": False, "ticks": "", "tickfont": {"size": 11}}
        layout[axis] |= _ticks(scene, count) if what == "image" else {"nticks": 6}
    layout["yaxis"] |= {"autorange": "reversed"}
    return go.Figure(data=[heat], layout=layout)


def _ticks(scene: Scene, count: int) -> dict[str, Any]:
    """Name each class once, in the middle of its images, which follow one another."""
    labels = scene.labels[:count]
    known = list(dict.fromkeys(labels.tolist()))
    return {"tickvals": [float(np.flatnonzero(labels == k).mean()) for k in known], "ticktext": [scene.classes[k] for k in known]}


def _points(picture: Picture, scene: Scene) -> Drawing:
    groups = [[(name, x)] for name, x in picture.given] if not picture.joint else [picture.given]
    return Drawing(tuple(_cloud(group, scene) for group in groups))


def _cloud(sides: Sequence[tuple[str, np.ndarray]], scene: Scene) -> go.Figure:
    """Draw points ``(n, 2)``, named and coloured by class; of two sides, the second is hollow and each pair is joined."""
    traces: list[dict[str, Any]] = []
    colours = [CLASSES[int(k) % len(CLASSES)] for k in scene.labels]
    if len(sides) == 2:
        gaps = np.full((len(colours), 3, 2), np.nan, dtype=np.float32)
        gaps[:, 0], gaps[:, 1] = sides[0][1], sides[1][1]
        x, y = gaps.reshape(-1, 2).T
        traces.append({"type": "scatter", "x": x, "y": y, "mode": "lines", "line": {"color": AXIS, "width": 1},
                       "hoverinfo": "skip", "showlegend": False})  # fmt: skip
    sizes = [15 if i == scene.place else 9 for i in range(len(colours))]
    for n, (name, points) in enumerate(sides):
        text = [scene.name(i) for i in range(len(points))]
        marker = {"color": colours, "size": sizes, "symbol": "circle-open" if n else "circle", "line": {"width": 2 if n else 0}}
        traces.append({
            "type": "scatter", "x": points[:, 0].astype(np.float32), "y": points[:, 1].astype(np.float32), "name": name,
            "mode": "markers" if n else "markers+text", "text": text, "textposition": "top center", "textfont": {"size": 11},
            "marker": marker, "hovertemplate": "%{text}<extra>" + name + "</extra>", "cliponaxis": False,
        })  # fmt: skip
    layout = _layout(360)
    if len(sides) == 1:
        layout |= {"title": {"text": sides[0][0], "font": {"size": 13}, "x": 0, "xref": "paper"}, "showlegend": False}
    layout["margin"]["t"] = 34
    for axis, name in (("xaxis", "first direction"), ("yaxis", "second direction")):
        layout[axis] |= {"title": {"text": name, "font": {"size": 12}}, "showgrid": True, "gridcolor": GRID, "zeroline": False}
    layout["yaxis"] |= {"scaleanchor": "x"}
    return go.Figure(data=traces, layout=layout)


# ---- images ------------------------------------------------------------------------------------------------------------------


def _maps(picture: Picture, scene: Scene) -> Drawing:
    row, place = _row(picture, scene)
    found = [(name, x[row]) for name, x in picture.given]
    top = max(float(np.abs(x).max()) for _, x in found) or 1.0
    image = scene.images[place]
    shown = [("image", image), *((name, tiles.over(image, x, top)) for name, x in found)]
    said = ""
    if len(found) == 2:
        (_, own), (_, theirs) = found
        gap = own - theirs
        shown.append((f"{found[0][0]} − {found[1][0]}", tiles.painted(gap, float(np.abs(gap).max()) or 1.0, signed=True)))
        alike = float((own * theirs).sum() / (np.linalg.norm(own) * np.linalg.norm(theirs) + 1e-12))
        said = f"On this image the two are alike to {100 * max(alike, 0):.0f} % (cosine of the two maps)."
    return Drawing(html=tiles.grid({"": shown}, 150), said=said)


def _channels(picture: Picture, scene: Scene) -> Drawing:
    """Show the channels in which the teacher is most active on the chosen image, one column each."""
    row, place = _row(picture, scene)
    found = [(name, x[row]) for name, x in picture.given]
    lead = found[-1][1]
    chosen = np.sort(np.argsort(-np.square(lead).sum((1, 2)), kind="stable")[:CHANNELS])
    top = max(float(np.abs(x[chosen]).max()) for _, x in found) or 1.0
    signed = any(float(x[chosen].min()) < -0.02 * top for _, x in found)
    rows = {name: [("", tiles.painted(x[c], top, signed=signed)) for c in chosen] for name, x in found}
    said = ""
    if len(found) == 2:
        gap = found[0][1] - found[1][1]
        far = float(np.abs(gap[chosen]).max()) or 1.0
        rows["difference"] = [(f"channel {c + 1}", tiles.painted(gap[c], far, signed=True)) for c in chosen]
        said = f"Mean squared gap on this image: {np.square(gap).mean():.3g}."
    said += f" Shown: the {len(chosen)} most active of {len(lead)} channels on the image of class {scene.name(place)}."
    return Drawing(html=tiles.grid(rows, 92), said=said.strip())


def _masks(picture: Picture, scene: Scene) -> Drawing:
    """Show the channels of the chosen image in which about half of the teacher's neurons are active."""
    row, place = _row(picture, scene)
    found = [(name, x[row]) for name, x in picture.given]
    mixed = np.abs(found[-1][1].mean((1, 2)) - 0.5)
    chosen = np.sort(np.argsort(mixed, kind="stable")[:CHANNELS])
    rows = {name: [("", tiles.grey(x[c])) for c in chosen] for name, x in found}
    said = f"Shown: {len(chosen)} of {len(mixed)} channels on the image of class {scene.name(place)}."
    if picture.student is not None and picture.teacher is not None:
        agree = float(((picture.student > 0.5) == (picture.teacher > 0.5)).mean())
        rest = float((np.abs(picture.student - picture.teacher) < 0.01).mean())
        right = f"{100 * agree:.0f} % are on the right side and {100 * rest:.0f} % far enough to cost nothing"
        said = f"Of the neurons of all images, {right}. {said}"
        gap = found[0][1] - found[1][1]
        rows["difference"] = [(f"channel {c + 1}", tiles.painted(gap[c], 1.0, signed=True)) for c in chosen]
    return Drawing(html=tiles.grid(rows, 92), said=said)


def _images(picture: Picture, scene: Scene) -> Drawing:
    row, place = _row(picture, scene)
    span = (scene.high - scene.low)[:, None, None]
    found = [(name, (x[row] - scene.low[:, None, None]) / span) for name, x in picture.given]
    shown = [(name, tiles.rgb(x)) for name, x in found]
    said = _about(picture, scene, place)
    if len(found) == 2:
        change = found[1][1] - found[0][1]
        far = float(np.abs(change).max()) or 1.0
        shown.append((f"change, drawn {1 / far:.0f} times as strong", tiles.painted(change.mean(0), far, signed=True)))
        said += f"A pixel changes by {100 * np.abs(change).mean():.1f} % of its range on average."
    return Drawing(html=tiles.grid({"": shown}, 150), said=said)


def _row(picture: Picture, scene: Scene) -> tuple[int, int]:
    """Return the row of the picture to show, and which image that is: the chosen one, or the first that there is."""
    if picture.of is None:
        return scene.place, scene.place
    rows = np.flatnonzero(picture.of == scene.place)
    row = int(rows[0]) if len(rows) else 0
    return row, int(picture.of[row])


def _about(picture: Picture, scene: Scene, place: int) -> str:
    """Say which image is shown where it is not the chosen one."""
    if place == scene.place:
        return ""
    assert picture.of is not None
    taking_part = words.count(len(picture.of), "image")
    return f"The chosen image is not among the {taking_part} that take part; shown is one of class {scene.name(place)}. "


def _layout(height: int) -> dict[str, Any]:
    clear = "rgba(0,0,0,0)"
    return {
        "height": height, "margin": {"l": 4, "r": 8, "t": 28, "b": 4}, "paper_bgcolor": clear, "plot_bgcolor": clear,
        "font": {"size": 12}, "hovermode": "closest", "dragmode": False, "bargap": 0.25, "showlegend": True,
        "legend": {"orientation": "h", "x": 0, "y": 1, "yanchor": "bottom", "font": {"size": 12}},
        "xaxis": {"showgrid": False, "zeroline": False, "automargin": True, "linecolor": AXIS},
        "yaxis": {"showgrid": False, "zeroline": False, "automargin": True, "linecolor": AXIS},
    }  # fmt: skip


DRAWN: dict[str, Callable[[Picture, Scene], Drawing]] = {
    "probabilities": _bars, "scores": _bars, "values": _values, "matrix": _matrices, "points": _points, "maps": _maps,
    "masks": _masks, "channels": _channels, "images": _images,
}  # fmt: skip
