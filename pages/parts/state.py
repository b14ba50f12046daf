"""What a session has chosen and seen: ids in the URL, messages over a change of page, and how live parts live.

Reads / writes: the session's state and URL. Never: the store (``fetch`` does), run folders.
"""

from __future__ import annotations

from collections.abc import Callable

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
