"""The exports that are there, made last first: to open, to take away, to remove.

Reads: the exports through ``fetch``. Writes: removes what its button names; the URL. Never: a file.
"""

from __future__ import annotations

import functools
from datetime import datetime

import streamlit as st

from pages.parts import actions_kept, blocks, fetch, state, who, words
from pages.parts.race import exporting
from store.export.race.exports import Export

FIRST = 6  # shown before somebody asks for all
COLUMNS = 3
NAME = "race-gallery"  # of what its buttons do, see ``state.attempt``


def draw() -> None:
    """Draw the gallery."""
    found = fetch.exports()
    if not found and not who.may("export"):
        return
    st.subheader("Earlier exports", anchor=False)
    blocks.problems(state.fault(NAME), "Nothing was removed")
    if not found:
        st.markdown(":gray[What is exported is kept here, for everybody who uses this server.]")
        return
    every = len(found) > FIRST and st.toggle(f"Show all {len(found)}", key="all-exports", bind="query-params")
    shown = found if every else found[:FIRST]
    for first in range(0, len(shown), COLUMNS):
        for place, export in zip(st.columns(COLUMNS), shown[first : first + COLUMNS], strict=False):
            with place.container(border=True):
                _card(export)


def _card(export: Export) -> None:
    order, made = export.order, export.about
    if order is None or made is None:
        return
    if export.poster:
        st.image(fetch.export_poster(export.key), width="stretch", alt=f"Last frame: {order.title}, {order.subtitle}")
    st.markdown(f"**{words.escaped(order.title or 'Race')}**  \n:gray[{words.escaped(order.subtitle)}]")
    st.caption(f"{exporting.about(made, exporting.seconds_of(order))}, {words.ago(datetime.fromisoformat(made.made_at))}")
    with st.container(horizontal=True, gap="small"):
        st.button("Open", key=f"open-{export.key}", on_click=_open, args=(export.key,), type="tertiary")
        exporting.take(export, "Download", f"take-{export.key}", type="tertiary")
        if who.may("remove-export", actions_kept.only_asker(export)):
            st.button(
                "Remove", key=f"remove-{export.key}", type="tertiary", on_click=state.attempt,
                args=(functools.partial(_remove, export.key), NAME),
            )  # fmt: skip


def _open(key: str) -> None:
    st.query_params["export"] = key


def _remove(key: str) -> None:
    actions_kept.remove_export(key)
    if state.chosen("export") == key:
        st.query_params.pop("export")
