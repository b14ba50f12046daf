"""The tab with the trade-off: accuracy against what it costs, how fast each method trains, how much of the gap it closes.

Reads: ``store.compare.tradeoff`` through ``findings``. Writes: the URL. Never: statistics.
"""

from __future__ import annotations

from collections.abc import Hashable
from typing import Any

import pandas as pd
import streamlit as st

from pages.parts import blocks, charts, state, words
from pages.parts.compare import figures, findings
from pages.parts.compare.selection import Chosen
from store.compare.groups import WHICH
from store.compare.tradeoff import COSTS


def draw(chosen: Chosen) -> None:
    """Say who is on the front, then draw it, speed and gap below."""
    controls, answer = st.container(horizontal=True, vertical_alignment="bottom"), st.container()
    with controls:
        titles = {key: cost.title for key, cost in COSTS.items()}
        cost = state.choice(st.selectbox, "Cost", titles, name="cost", default="elapsed_s", width=280)
        found = findings.of("tradeoff.tradeoff", chosen.ids, cost, chosen.which)
        points = _one(_one(found, "dataset", "On"), "kind", "Measured on a")
    if points.empty:
        st.markdown("No run has finished yet; costs are those of finished runs.")
        return
    with answer:
        st.markdown(front(points, COSTS[cost].unit))
    several = points["column"].nunique() > 1
    named = points.assign(name=points["name"] + " · " + points["column"]) if several else points
    blocks.chart(figures.tradeoff(named, COSTS[cost], WHICH[chosen.which]), "tradeoff", alt="Accuracy against cost")
    blocks.note(f"{COSTS[cost].title}: {COSTS[cost].note}. Whiskers: one standard deviation over seeds.")
    left, right = st.columns(2, gap="large")
    with left:
        st.subheader("Training speed", anchor=False)
        blocks.chart(charts.speed(named), "tradeoff-speed", alt="Training images per second, per method", zoom=False)
    if named["gap_closed"].notna().any():
        with right:
            st.subheader("Gap to the teacher closed", anchor=False)
            blocks.chart(figures.gap(named), "tradeoff-gap", alt="Share of the gap closed, per method", zoom=False)


def front(points: pd.DataFrame, unit: str) -> str:
    """Say who is on the front: ``**base** (66.0 % for 12 s) and **fitnet** (...): nothing else is cheaper and as accurate.``"""
    scale, shown = figures.in_unit(points["cost_mean"], unit)
    best = points[points["front"]].sort_values("cost_mean").to_dict("records")
    who = words.listed([_offer(row, scale, shown) for row in best])
    verb = "is" if len(best) == 1 else "are"
    return f"{who} {verb} on the front: nothing else is as accurate for less, going by the means."


def _offer(row: dict[Hashable, Any], scale: float, unit: str) -> str:
    rounded = float(f"{row['cost_mean'] * scale:.3g}")
    paid = f"{words.number(rounded)} {unit}".strip()
    return f"**{row['name']}** ({words.percent(row['mean_frac'])} for {paid})"


def _one(found: pd.DataFrame, name: str, label: str) -> pd.DataFrame:
    """Draw the choice of one value of a column, where there are several, and return its rows."""
    values = found[name].value_counts().index.tolist()
    if len(values) < 2:
        return found
    titles = {value: value for value in values}
    return found[found[name] == state.choice(st.selectbox, label, titles, name=f"of-{name}", default=values[0], width=200)]
