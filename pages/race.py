"""A comparison that moves: who leads when, played in the page and taken away as MP4, GIF or PNG.

Reads: the store. Writes: exports, when asked for.
"""

from __future__ import annotations

from typing import Any

import streamlit as st

from kdengine import literature
from kdengine.errors import KdError
from pages.parts import blocks, fetch, frame, who
from pages.parts.race import choosing, exporting, gallery, looks, player

PAPER = literature.FIG7
ICON = ":material/article:"


def figure(place: Any) -> None:
    """Lead to the race of the paper: to its runs where some have finished, else to the button that trains them."""
    suites = fetch.ask("suites")
    own = suites[suites["suite"].str.startswith(f"{PAPER.key}-")]
    done = own.loc[own["finished"] > 0, "suite"].tolist()
    what = f"The race chart of {PAPER.source}"
    with place:
        if done:
            st.button(
                "Race of figure 7", icon=ICON, type="tertiary", key="figure-7", on_click=choosing.reset, args=(done[0],),
                help=f"{what}, of the runs of suite {done[0]}",
            )  # fmt: skip
        else:
            stand = "being trained" if own["active"].sum() else "not trained yet"
            st.page_link(
                "pages/compare.py", label=f"Race of figure 7 ({stand})", icon=ICON,
                query_params={"tab": "replicate", "table": PAPER.key}, help=f"{what}. One button behind this link trains it",
            )  # fmt: skip


frame.ensure()
film = ", then take it away as a film" if who.may("export") else ""
figure(blocks.say("Race", f"Who is ahead when? Watch it here{film}."))
if not fetch.counts():
    blocks.empty("Bars of different methods will race here, epoch by epoch.", "pages/train.py", "Train something to compare")
else:
    order = choosing.choose()
    if order is not None:
        stage = st.container()
        try:
            order = looks.choose(order)
        except KdError as error:
            blocks.problems(error.problems, "This race cannot be drawn like this")
        else:
            with stage:
                player.draw(player.numbers(order, follows=order.options.theme == looks.page_theme()))
            exporting.draw(order)
    gallery.draw()
