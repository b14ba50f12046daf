"""Who races: one column of a comparison, a measure, and how runs become racers; all of it kept in the URL.

Reads: the store through ``fetch``. Writes: the URL. Never: arithmetic (``store.export.race.gather`` does it).
"""

from __future__ import annotations

from dataclasses import dataclass

import pandas as pd
import streamlit as st

from kdengine.errors import KdError
from pages.parts import blocks, fetch, state, words
from pages.parts.compare import selection
from pages.parts.compare.selection import Chosen
from store.export.race import gather
from store.export.race.options import Options
from store.export.race.order import Order

FIRST = "test_top1_frac"
SEEDS = {"mean": "Mean of seeds", "best": "Best of seeds"}
PLAIN = Options(format="png")  # nothing of how it will look is chosen yet; a single epoch is no fault of the data


@dataclass(frozen=True)
class View:
    """What of the runs is shown: the ``column`` (dataset and pair), the ``metric``, its ``mode``, the ``seeds``."""

    column: str
    metric: str
    mode: str
    seeds: str


def choose() -> Order | None:
    """Draw the choice and return the race it selects; None where there is none, after a sentence that says why."""
    chosen = selection.choose(counts=False)
    if not chosen.ids:
        return None
    groups = _groups(fetch.moment(), chosen.ids)
    if groups.empty:
        _none_finished(chosen)
        return None
    view = _view(groups)
    if going := _going(chosen):
        st.caption(f"{words.count(going, 'run')} under way; finished runs race here.")
    try:
        return _order(fetch.moment(), chosen.ids, view)
    except KdError as error:
        blocks.problems(error.problems, "These runs cannot race like this")
        return None


def reset(suite: str) -> None:
    """Choose all of ``suite`` and nothing else: for a button's ``on_click``."""
    for name in ("on", "metric", "mode", "seeds", "export"):
        st.query_params.pop(name, None)
    selection.reset(suite=suite)


def query() -> dict[str, list[str]]:
    """Return what a link from the comparison to its race carries: the selection as the URL has it, and the measure."""
    names = ("suite", *selection.FILTERS, "on", "metric")
    return {name: values for name in names if (values := state.chosen_all(name))}


def _view(groups: pd.DataFrame) -> View:
    with st.container(horizontal=True, vertical_alignment="bottom"):
        column = selection.focus(groups, width=250)
        metrics = {key: metric.title for key, metric in gather.METRICS.items()}
        metric = state.choice(st.selectbox, "Measure", metrics, name="metric", default=FIRST, width=190)
        own = groups[groups["column"] == column]
        known = sorted({int(seed) for seeds in own["seeds"] for seed in seeds})
        titles = SEEDS | {str(seed): f"Seed {seed}" for seed in known}
        seeds = state.choice(st.selectbox, "Seeds", titles, name="seeds", default="mean", width=150)
        mode = state.choice(
            st.segmented_control, "Values", gather.MODES, name="mode", default="best", required=True,
            help="Best so far: what a run has reached by then, so that bars never shrink. Smoothed: a moving average",
        )  # fmt: skip
    return View(column, metric, mode, seeds)


@st.cache_resource(max_entries=30, show_spinner=False)
def _groups(moment: tuple[str, int], ids: tuple[str, ...]) -> pd.DataFrame:
    return gather.columns(fetch.ask("results", ids))


@st.cache_resource(max_entries=60, show_spinner=False)
def _order(moment: tuple[str, int], ids: tuple[str, ...], view: View) -> Order:
    groups = _groups(moment, ids)
    groups = groups[groups["column"] == view.column]
    own = tuple(run_id for ids in groups["ids"] for run_id in ids)
    runs = fetch.ask("provenance", own)
    curves = fetch.ask("curves", own, view.metric)
    return gather.order_of(groups, curves, metric=view.metric, mode=view.mode, seeds=view.seeds, options=PLAIN, runs=runs)


def _none_finished(chosen: Chosen) -> None:
    going = _going(chosen)
    under_way = f" {words.count(going, 'run')} of these are under way." if going else ""
    with st.container(border=True):
        st.markdown(f"No run of this selection has finished yet; finished runs race here.{under_way}")
        st.page_link("pages/runs.py", label="Watch the runs", icon=":material/list:")


def _going(chosen: Chosen) -> int:
    return int(chosen.students["status"].isin(words.ACTIVE).sum())
