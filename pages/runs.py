"""Every run: filter, watch, stop, resume, repeat, tag, compare. Reads: the store. Writes: what its buttons ask for."""

from __future__ import annotations

import streamlit as st

from pages.parts import blocks, buttons, demo, fetch, frame, state, tables, words

FILTERS = (("status", "Status"), ("method", "Method"), ("dataset", "Data"), ("suite", "Suite"), ("tag", "Tag"))
WIDTH = 165  # of a filter, pixels: two beside one another on a phone


def choose() -> dict[str, tuple[str, ...]]:
    """Draw the filters, their values kept in the URL, and return what is chosen."""
    offered = fetch.ask("choices")
    chosen = {}
    with st.container(horizontal=True):
        for name, title in FILTERS:
            titles = dict(zip(offered[name], offered[name], strict=True))
            picked = state.choice(st.multiselect, title, titles, name=name, default=[], placeholder="all", width=WIDTH)
            chosen[name] = tuple(picked)
    return chosen


frame.ensure()
sentence = (
    "Every recorded training, newest first." if demo.on() else "Every training, newest first. What is running updates by itself."
)
blocks.say("Runs", sentence)
if not fetch.counts():
    blocks.empty("Runs will be listed here, with their progress and accuracy.", "pages/train.py", "Train a first student")
else:
    chosen = choose()

    def body() -> None:
        """The live part."""
        state.settle(busy, bool(len(fetch.active())))
        frame = fetch.runs(**chosen)
        if frame.empty:
            st.markdown("No run fits these filters. Take one of them away.")
            return
        places = blocks.table(tables.runs(frame), "runs-table", choose=True, height=min(640, 40 + 35 * len(frame)))
        buttons.several(frame.iloc[places])
        blocks.note(f"{words.count(len(frame), 'run')}.", "Best = best test accuracy over the epochs of one run.")

    busy = bool(len(fetch.active()))
    state.live(body, busy=busy)
