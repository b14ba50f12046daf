"""The tab with the curves: mean and band over seeds, one panel per dataset.

Reads: the store through ``fetch``. Writes: the URL. Never: arithmetic (``figures`` does it).
"""

from __future__ import annotations

import streamlit as st

from pages.parts import blocks, charts, fetch, state, words
from pages.parts.compare import selection


def draw(chosen: selection.Chosen) -> None:
    """Draw mean and band per method."""
    selection.name_unknown({"metric": list(words.MEASURES), "x": list(words.AXES)})
    left, right = st.columns([2, 3])
    with left:
        titles = {key: measure.title for key, measure in words.MEASURES.items()}
        metric = state.choice(st.selectbox, "Measure", titles, name="metric", default="test_top1_frac")
    with right:
        x = state.choice(st.segmented_control, "Against", words.AXES, name="x", default="epoch", required=True, wrap=True)
    data = fetch.mean_curves(chosen.ids, metric, x)
    if data.empty:
        st.markdown("No epoch has ended yet, or none of these runs has this measure.")
        return
    levels = fetch.teacher_levels(chosen.rows) if metric == "test_top1_frac" else ()
    blocks.chart(
        charts.mean_curves(data, metric=metric, x=x, references=levels, epochs=int(chosen.students["epochs"].max())),
        "compare-curves",
        alt="One line per method",
    )
    blocks.note(
        f"{words.MEASURES[metric].note[0].upper()}{words.MEASURES[metric].note[1:]}.",
        f"Line: mean over {words.count(int(data['n'].max()), 'seed')}; band: from the lowest to the highest run.",
    )
