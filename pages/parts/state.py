"""What a session has chosen and seen: ids in the URL, messages over a change of page, and how live parts live.

Reads / writes: the session's state and URL. Never: the store (``fetch`` does), run folders.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import streamlit as st
from streamlit.runtime.scriptrunner import get_script_run_ctx

from pages.parts import pulse

IDLE_S = 10.0


def chosen(name: str) -> str | None:
    """Return the id that the URL names (``?run=...``), None where it names none."""
    value = st.query_params.get(name)
    return value or None


def chosen_all(name: str) -> list[str]:
    """Return all values of a repeated URL parameter."""
    return st.query_params.get_all(name)


def choice(widget: Callable[..., Any], label: str, titles: Mapping[str, str], *, name: str, default: Any, **more: Any) -> Any:
    """Draw a choice whose options have titles, its value kept in the URL under ``name`` by key, not by title.

    Streamlit's own binding would write the titles. ``widget``: st.pills, st.selectbox, st.segmented_control or st.multiselect;
    ``titles``: key -> title; ``default``: a key, or a list of keys where several may be chosen.
    """
    place = f"{name}-choice"
    if place not in st.session_state:
        st.session_state[place] = _from_url(name, titles, default)
    elif isinstance(default, list):  # what is no longer offered is no longer chosen
        st.session_state[place] = [key for key in st.session_state[place] if key in titles]
    elif st.session_state[place] not in titles:
        st.session_state[place] = default
    return widget(label, list(titles), format_func=titles.__getitem__, key=place, on_change=_to_url, args=(name, default), **more)


def _from_url(name: str, titles: Mapping[str, str], default: Any) -> Any:
    given = [key for key in st.query_params.get_all(name) if key in titles]
    if isinstance(default, list):
        return given or [key for key in default if key in titles]
    return given[0] if given else default


def _to_url(name: str, default: Any) -> None:
    value = st.session_state[f"{name}-choice"]
    if value == default or not value:
        st.query_params.pop(name, None)
    else:
        st.query_params[name] = value


def say_later(text: str, icon: str = ":material/check:") -> None:
    """Show a short message on the page that comes next."""
    st.session_state["_said"] = (text, icon)


def said() -> None:
    """Show the message left for this page, once."""
    if "_said" in st.session_state:
        text, icon = st.session_state.pop("_said")
        st.toast(text, icon=icon)


def session() -> str:
    """Return the name of this browser session."""
    context = get_script_run_ctx()
    return context.session_id if context else "none"


def live(body: Callable[[], None], *, busy: bool, paused: bool = False) -> None:
    """Draw ``body`` and redraw it by itself: every 2 s while something runs (slower with many readers), else every 10 s.

    When ``busy`` may have changed, ``body`` calls ``settle`` first.
    """
    every = None if paused else pulse.of().period_s(session()) if busy else IDLE_S
    st.fragment(body, run_every=every)()


def settle(was: object, now: object) -> None:
    """Run the whole page anew when what it was drawn for has changed: a run ended, another began."""
    if was != now:
        st.rerun(scope="app")
