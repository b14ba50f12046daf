"""Which way of teaching works best, by how much, at what cost: one selection, six views. Reads: the store. Writes: nothing."""

from __future__ import annotations

import streamlit as st

from pages.parts import blocks, fetch, state, words
from pages.parts.compare import curves, pair, protocol, ranking, replicate, selection, table, tradeoff

TABS = {
    "curves": ("Curves", curves.draw),
    "table": ("Table", table.draw),
    "ranking": ("Ranking", ranking.draw),
    "tradeoff": ("Trade-off", tradeoff.draw),
    "pair": ("Teacher and student", pair.draw),
    "replicate": ("Replicate", replicate.draw),
}
WITHOUT_COUNT = ("curves", "replicate")  # where best or last makes no difference
TITLES = {title: name for name, (title, _) in TABS.items()}


def opened() -> str:
    """Return the tab that is open: the one last pressed, else the one that the URL names."""
    if "tab-choice" not in st.session_state:
        given = state.chosen("tab")
        st.session_state["tab-choice"] = TABS[given if given in TABS else "curves"][0]
    return TITLES[st.session_state["tab-choice"]]


def to_url() -> None:
    """Keep the open tab in the URL."""
    st.query_params["tab"] = opened()


def views(chosen: selection.Chosen) -> None:
    """Draw the tabs; only the open one is filled, and it lives while something trains."""
    places = st.tabs(list(TITLES), key="tab-choice", on_change=to_url)
    name = opened()

    def body() -> None:
        """The live part."""
        now = selection.refreshed(chosen)
        state.settle(chosen.busy, now.busy)
        TABS[name][1](now)

    with places[list(TABS).index(name)]:
        if not chosen.ids and name != "replicate":
            return
        with place:
            paused = chosen.busy and not st.toggle("Live", value=True, key="live", help=words.PAUSE)
        state.live(body, busy=chosen.busy, paused=paused)


place = blocks.say("Compare", "Is one way of teaching better than another, by how much, and at what cost?")
if not fetch.counts():
    blocks.empty("Curves of different methods will lie over one another here.", "pages/train.py", "Train something to compare")
else:
    selection.name_unknown({"tab": list(TABS)})
    chosen = selection.choose(counts=opened() not in WITHOUT_COUNT)
    if chosen.ids:
        st.markdown(f":gray[{selection.summary(chosen.students)}]")
        protocol.draw(chosen)
    views(chosen)
