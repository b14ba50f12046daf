"""Looking after the server: who may do what, what takes the room on its disk, how it is, and what was done.

Reads: the home. Writes: nothing itself.
"""

from __future__ import annotations

import streamlit as st

from pages.parts import blocks, state
from pages.parts.compare import selection
from pages.parts.server import health, log, people, storage

TABS = {
    "people": ("People", people.draw),
    "storage": ("Storage", storage.draw),
    "health": ("Health", health.draw),
    "log": ("What was done", log.draw),
}
TITLES = {title: name for name, (title, _) in TABS.items()}


def opened() -> str:
    """Return the tab that is open: the one last pressed, else the one that the URL names."""
    if st.session_state.get("server-tab") not in TITLES:
        given = state.chosen("tab")
        st.session_state["server-tab"] = TABS[given if given in TABS else next(iter(TABS))][0]
    return TITLES[st.session_state["server-tab"]]


def to_url() -> None:
    """Keep the open tab in the URL."""
    st.query_params["tab"] = opened()


blocks.say("Server", "Who may do what, what takes the room on its disk, how it is, and what was done.", needs="server")
selection.name_unknown({"tab": list(TABS)})
name = opened()  # before the tabs are drawn, so that the URL decides which is open
places = st.tabs(list(TITLES), key="server-tab", on_change=to_url)
with places[list(TABS).index(name)]:
    TABS[name][1]()
