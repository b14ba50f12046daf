"""The tab with the curves: mean and band over seeds, one panel per dataset, levels to compare with.

Reads: the store through ``fetch``. Writes: the URL. Never: arithmetic (``figures`` does it).
"""

from __future__ import annotations

from dataclasses import dataclass

import pandas as pd
import plotly.graph_objects as go
import streamlit as st

from kdengine import catalogue
from pages.parts import blocks, fetch, state, words
from pages.parts.compare import figures, selection
from pages.parts.compare.selection import Chosen

PANELS = 4
Levels = tuple[tuple[str, float], ...]
ACCURACY = "test_top1_frac"
LEVELS = {"teacher": "Teacher", "alone": "Student alone", "printed": "Published values", "runs": "Single runs"}
HELP = {
    "teacher": "What the teacher reached: a dashed line, where the teacher is not compared itself",
    "alone": "What the student reaches from the labels alone: a dashed line, where that is not compared itself",
    "printed": "What the literature reports for the same method, networks and data: hollow stars at the right edge",
    "runs": "Every run as a thin line, not their mean alone",
}


@dataclass(frozen=True)
class View:
    """How the curves are drawn: ``metric`` against ``x``, smoothed by ``weight``, with what is ``shown`` besides."""

    metric: str
    x: str
    weight: float
    shown: tuple[str, ...]


def draw(chosen: Chosen) -> None:
    """Draw mean and band per method, a panel for each dataset."""
    view = _choose()
    data = fetch.mean_curves(chosen.ids, view.metric, view.x)
    if data.empty:
        st.markdown("No epoch has ended yet, or none of these runs has this measure.")
        return
    datasets = chosen.students["dataset"].value_counts().index
    panels = [name for name in datasets if name in set(data["dataset"])]
    places = st.columns(2, gap="medium") if len(panels) > 1 else [st.container()]
    for number, name in enumerate(panels[:PANELS]):
        with places[number % len(places)]:
            _panel(chosen, data[data["dataset"] == name], name, view, alone=len(panels) == 1)
    measure = words.MEASURES[view.metric].note
    blocks.note(
        f"{measure[0].upper()}{measure[1:]}.",
        f"Line: mean over at most {words.count(int(data['n'].max()), 'seed')}; band: from the lowest to the highest run.",
        f"Smoothed: each point is {100 * view.weight:.0f} % what came before; the measured mean lies behind it."
        if view.weight
        else "",
        f"Not drawn: {words.listed(panels[PANELS:])}; choose datasets above." if panels[PANELS:] else "",
    )


def _choose() -> View:
    selection.name_unknown({"metric": list(words.MEASURES), "x": list(words.AXES)})
    with st.container(horizontal=True, vertical_alignment="bottom"):
        titles = {key: measure.title for key, measure in words.MEASURES.items()}
        metric = state.choice(st.selectbox, "Measure", titles, name="metric", default=ACCURACY, width=240)
        x = state.choice(st.segmented_control, "Against", words.AXES, name="x", default="epoch", required=True, wrap=True)
        with st.popover("Display", icon=":material/visibility:"):
            weight = st.slider(
                "Smoothing", 0.0, 0.95, 0.0, 0.05, key="smooth", bind="query-params",
                help="Weight of what came before in a moving average; 0 shows what was measured",
            )  # fmt: skip
            shown = [
                name
                for name, title in LEVELS.items()
                if st.toggle(title, name != "runs", key=f"show-{name}", bind="query-params", help=HELP[name])
            ]
    return View(metric, x, float(weight), tuple(shown))


def _panel(chosen: Chosen, data: pd.DataFrame, dataset: str, view: View, *, alone: bool) -> None:
    own = chosen.students[chosen.students["dataset"] == dataset]
    levels = _levels(chosen, own, view) if view.metric == ACCURACY else ()
    height = 460 if alone else 400
    figure, others = _drawn(fetch.moment(chosen.ids), chosen.ids, dataset, view, levels, height, _chosen=chosen, _data=data)
    if not alone:
        st.subheader(dataset, anchor=False)
    blocks.chart(figure, f"curves-{dataset}", alt=f"{words.MEASURES[view.metric].title} on {dataset}, one line per method")
    if others > 0:
        st.caption(f"In colour the student alone and the best; the other {others} in grey. Choose methods above to colour them.")


@st.cache_resource(max_entries=60, show_spinner=False)
def _drawn(moment: tuple[str, int], ids: tuple[str, ...], dataset: str, view: View, levels: Levels, height: int,
           _chosen: Chosen, _data: pd.DataFrame) -> tuple[go.Figure, int]:  # fmt: skip
    """Return the figure of one dataset and how many of its lines are grey; kept by all but what begins with a bar."""
    own = _chosen.students[_chosen.students["dataset"] == dataset]
    data = figures.named(_data)
    names = figures.coloured(data, view.metric)
    figure = figures.courses(
        data, metric=view.metric, x=view.x, weight=view.weight, epochs=int(own["epochs"].max()), height=height, levels=levels,
        printed=_printed(own, dataset) if view.metric == ACCURACY and "printed" in view.shown else None,
        runs=_runs(_chosen, data[data["name"].isin(names)], view) if "runs" in view.shown else None,
    )  # fmt: skip
    return figure, data["name"].nunique() - len(names)


def _levels(chosen: Chosen, own: pd.DataFrame, view: View) -> Levels:
    levels: Levels = ()
    if "teacher" in view.shown:
        levels += fetch.teacher_levels(chosen.rows[chosen.rows["dataset"].isin(own["dataset"])])
    plain = [key for key, label in catalogue.labels().items() if label.family == "plain"]
    if "alone" in view.shown and not own["method"].isin(plain).any():
        same = ["dataset", "student", "recipe", "epochs"]
        known = fetch.runs(suite=chosen.suite, method=tuple(plain)).merge(own[same].drop_duplicates())
        levels += tuple((f"{name} alone", float(v)) for name, v in known.groupby("student")["last_top1_frac"].mean().items())
    return levels


def _printed(own: pd.DataFrame, dataset: str) -> pd.DataFrame:
    found = fetch.ask("published", dataset=dataset).dropna(subset=["top1_frac"]).fillna({"teacher": ""})
    return found.merge(own[["method", "student", "teacher"]].fillna({"teacher": ""}).drop_duplicates())


def _runs(chosen: Chosen, data: pd.DataFrame, view: View) -> pd.DataFrame:
    results = chosen.results[chosen.results["setting"].isin(data["setting"].unique())]
    values = fetch.ask("curves", tuple(results["run_id"]), view.metric, view.x)
    return values.merge(results[["run_id", "setting"]], on="run_id")
