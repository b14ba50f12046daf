"""What is trained and on what: networks (teacher, student, depth against speed) and datasets (what they are, what is here).

Reads: the catalogues, the store. Writes: nothing; starts downloads and the measurement of latency beside the app.
"""

from __future__ import annotations

import streamlit as st

from pages.parts import blocks, state
from pages.parts.compare import selection
from pages.parts.learn import datasets, networks

TABS = {"networks": ("Networks", networks.draw), "data": ("Data", datasets.draw)}
TITLES = {title: name for name, (title, _) in TABS.items()}


def opened() -> str:
    """Return the tab that is open: the one last pressed, else the one that the URL names."""
    if st.session_state.get("about-tab") not in TITLES:
        given = state.chosen("tab")
        st.session_state["about-tab"] = TABS[given if given in TABS else "networks"][0]
    return TITLES[st.session_state["about-tab"]]


def to_url() -> None:
    """Keep the open tab in the URL."""
    st.query_params["tab"] = opened()


blocks.say(
    "Networks and data",
    "What a network costs and what it can do, and what the images it learns from are like.",
)
selection.name_unknown({"tab": list(TABS)})
name = opened()  # before the tabs are drawn, so that the URL decides which is open
places = st.tabs(list(TITLES), key="about-tab", on_change=to_url)
with places[list(TABS).index(name)]:
    TABS[name][1]()
