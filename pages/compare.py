"""Which way of teaching works best, by how much, at what cost: one selection, six views. Reads: the store. Writes: nothing."""

from __future__ import annotations

import streamlit as st

from pages.parts import blocks, fetch, state, words
from pages.parts.compare import curves, pair, protocol, ranking, replicate, selection, table, tradeoff
from pages.parts.race import choosing

TABS = {
    "curves": "Curves",
    "table": "Table",
    "ranking": "Ranking",
    "tradeoff": "Trade-off",
    "pair": "Teacher and student",
    "replicate": "Replicate",
}
TITLES = {title: name for name, title in TABS.items()}
DRAWN = {"curves": curves.draw, "table": table.draw, "ranking": ranking.draw, "tradeoff": tradeoff.draw, "pair": pair.draw}


def opened() -> str:
    """Return the tab that is open: the one last pressed, else the one that the URL names."""
    if "tab-choice" not in st.session_state:
        given = state.chosen("tab")
        st.session_state["tab-choice"] = TABS[given if given in TABS else "curves"]
    return TITLES[st.session_state["tab-choice"]]


def to_url() -> None:
    """Keep the open tab in the URL."""
    st.query_params["tab"] = opened()


def views(chosen: selection.Chosen | None = None) -> None:
    """Draw the tabs; only the open one is filled. ``chosen`` is None where that one has runs of its own."""
    places = st.tabs(list(TITLES), key="tab-choice", on_change=to_url)
    with places[list(TABS).index(opened())]:
        if chosen is None:
            replicate.draw()
        elif chosen.ids:
            view(opened(), chosen)


def view(name: str, chosen: selection.Chosen) -> None:
    """Fill a tab; it lives while something trains."""

    def body() -> None:
        """The live part."""
        now = selection.refreshed(chosen)
        state.settle(chosen.busy, now.busy)
        DRAWN[name](now)

    with place:
        paused = chosen.busy and not st.toggle("Live", value=True, key="live", help=words.PAUSE)
    state.live(body, busy=chosen.busy, paused=paused)


place = blocks.say("Compare", "Is one way of teaching better than another, by how much, and at what cost?")
selection.name_unknown({"tab": list(TABS)})
if opened() == "replicate":
    views()
elif not fetch.counts():
    blocks.empty("Curves of different methods will lie over one another here.", "pages/train.py", "Train something to compare")
    st.button(
        "Or replicate a table of the literature", on_click=selection.reset, kwargs={"tab": "replicate"}, type="tertiary",
        icon=":material/table_chart:", key="go-replicate",
    )  # fmt: skip
else:
    chosen = selection.choose(counts=opened() != "curves")  # there best or last makes no difference
    if chosen.ids:
        with st.container(horizontal=True, vertical_alignment="center"):
            st.markdown(f":gray[{selection.summary(chosen.students)}]", width="content")
            st.page_link(
                "pages/race.py", label="Race", icon=":material/flag:", query_params=choosing.query(),
                help="The same runs as bars that overtake one another, to play and to take away as a film",
            )  # fmt: skip
        protocol.draw(chosen)
    views(chosen)
