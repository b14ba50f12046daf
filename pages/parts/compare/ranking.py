"""The tab with the ranking: who leads and whether that is more than luck, differences with intervals, one question in words.

Reads: ``store.compare.stats`` through ``findings``. Writes: the URL. Never: statistics.
"""

from __future__ import annotations

from collections.abc import Hashable
from typing import Any

import pandas as pd
import streamlit as st

from pages.parts import blocks, state
from pages.parts.compare import figures, findings, selection
from pages.parts.compare.selection import Chosen
from store.compare import stats, wording

ANSWERS = {
    "better": "Yes.",
    "worse": "No, it is worse.",
    "tie": "It cannot be told: a tie.",
    "too few": "It cannot be told: too few seeds.",
}


def draw(chosen: Chosen) -> None:
    """Answer first, then every difference to a reference, then the question of any two."""
    ranked = findings.of("stats.ranking", chosen.ids, chosen.which)
    if ranked.empty:
        st.markdown("No run has finished yet; a ranking counts finished runs only.")
        return
    controls, answer = st.container(horizontal=True, vertical_alignment="bottom"), st.container()
    with controls:
        column = selection.focus(ranked, width=320)
        ranked = ranked[ranked["column"] == column]
        reference = _reference(ranked)
    with answer:
        lead, _, rest = stats.sentence(ranked, chosen.which).partition(". ")
        st.markdown(f"**{lead.removesuffix('.')}.** {rest}")
    setting = ranked.set_index("name").at[reference, "setting"]
    rows = findings.of("stats.versus", chosen.ids, chosen.which, column, setting)
    left, right = st.columns([5, 3], gap="large")
    with left:
        _forest(rows, reference, chosen.which)
    with right:
        _question(chosen, ranked)


def _reference(ranked: pd.DataFrame) -> str:
    names = ranked["name"].tolist()
    plain = ranked.loc[ranked["family"] == "plain", "name"].tolist()
    first = (plain or ranked.loc[ranked["leads"], "name"].tolist())[0]
    titles = {name: name for name in names}
    return str(state.choice(st.selectbox, "Compared with", titles, name="reference", default=first, width=240))


def _forest(rows: pd.DataFrame, reference: str, which: str) -> None:
    told = [_told(row, reference) for row in rows.to_dict("records")]
    figure = figures.forest(rows.assign(told=told), reference)
    blocks.chart(figure, "ranking", alt=f"Differences to {reference}, with intervals", zoom=False)
    blocks.note(
        f"Test accuracy, {stats.WHICH[which]}. Filled: clearly above or below. Hollow: a tie, the 95 % interval holds zero.",
        f"Small, without an interval: fewer than {stats.SEEDS_NEEDED} shared seeds."
        if "too few" in set(rows["to_verdict"])
        else "",
        f"The first {figures.MOST_ROWS} of {len(rows)}." if len(rows) > figures.MOST_ROWS else "",
    )


def _told(row: dict[Hashable, Any], reference: str) -> str:
    if not row["to_verdict"]:
        return f"{row['name']} is what the others are compared with."
    return wording.difference({name: row[f"to_{name}"] for name in stats.DIFFERENCE}, str(row["name"]), reference)


def _question(chosen: Chosen, ranked: pd.DataFrame) -> None:
    told = ranked.sort_values(["enough", "mean_frac"], ascending=False, kind="stable")  # what can be judged comes first
    titles = {name: name for name in told["name"]}
    if len(titles) < 2:
        st.markdown("With one method there is nothing to compare. Choose more above, or train another.")
        return
    with st.container(border=True):
        st.markdown("**Is one better than the other?**")
        leader = ranked.loc[ranked["leads"], "name"].iloc[0]
        a = state.choice(st.selectbox, "Is", titles, name="a", default=leader)
        others = {name: name for name in titles if name != a}
        b = state.choice(st.selectbox, "better than", others, name="b", default=next(iter(others)))
        setting = ranked.set_index("name")["setting"]
        found = findings.of("stats.paired", chosen.ids, setting[a], setting[b], chosen.which)
        st.markdown(f"**{ANSWERS[found.verdict]}** {found.sentence}")
        blocks.note(wording.sweep(found.n))
