"""What a session has chosen and seen: ids in the URL, messages over a change of page, and how live parts live.

Reads / writes: the session's state and URL. Never: the store (``fetch`` does), run folders.
"""

from __future__ import annotations

import functools
import time
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

import streamlit as st
from streamlit.runtime.scriptrunner import get_script_run_ctx
from streamlit.runtime.scriptrunner_utils.script_run_context import ThreadState

from kdengine import errors
from kdengine.errors import KdError, Problem
from pages.parts import pulse, who

Tell = Callable[[list[Problem], bool], None]
DRIFT = 1.6  # a live part that should be redrawn so many times more or less often gets a new period
SHOWN = 8  # of what a choice offers, in a message
ANSWER_S = 2.0  # within this time a browser has put into its URL what the server told it
CLEARED = [""]  # in the URL (``?ids=``): nothing is chosen, where the default would choose something


@dataclass(frozen=True, slots=True)
class _Written:
    """What a choice put into the URL last: the values ``before`` and ``now``, and when (monotonic, s)."""

    before: list[str] = field(default_factory=list)
    now: list[str] = field(default_factory=list)
    at: float = float("-inf")


@dataclass(slots=True)
class _Link:
    """What a page's link asks for in vain, who shows it, and what the page has said about its link by itself."""

    tell: Tell
    misread: list[Problem] = field(default_factory=list)
    told: set[tuple[str, str]] = field(default_factory=set)

    def untold(self, problems: Iterable[Problem]) -> list[Problem]:
        """Return what the page has not said by itself."""
        return [p for p in problems if not self.told & {(p.field, p.given), (p.field, f"{p.field} {p.given!r}")}]


def page() -> str:
    """Return the page that is open as the URL has it; "" for the first."""
    context = get_script_run_ctx()
    manager = context.pages_manager if context else None
    known = manager.get_pages().get(manager.current_page_script_hash) if manager else None
    return known.get("url_pathname", "") if known else ""


def chosen(name: str) -> str | None:
    """Return the id that the URL names (``?run=...``), None where it names none."""
    value = st.query_params.get(name)
    return value or None


def chosen_all(name: str) -> list[str]:
    """Return all values of a repeated URL parameter."""
    return st.query_params.get_all(name)


def choice(widget: Callable[..., Any], label: str, titles: Mapping[str, str], *, name: str, default: Any,
           clears: tuple[str, ...] = (), **more: Any) -> Any:  # fmt: skip
    """Draw a choice whose options have titles, its value kept in the URL under ``name`` by key, not by title.

    Streamlit's own binding would write the titles. ``widget``: st.pills, st.selectbox, st.segmented_control or st.multiselect;
    ``titles``: key -> title; ``default``: a key, or a list of keys where several may be chosen. ``clears``: parameters that mean
    nothing any more when another is chosen.

    The URL alone decides, so a link followed inside a session shows what the link says, whatever was chosen here before. What
    it asks for and is not offered is told at the head of the page.
    """
    place = f"{name}-choice"
    value = _wanted(name, titles, default)
    # a widget of the same key on the page before is another one for Streamlit: what that one holds does not count here
    if place not in st.session_state or st.session_state[place] != value or st.session_state.get(f"{name}-page") != page():
        st.session_state[place] = value
        st.session_state[f"{name}-page"] = page()
    return widget(
        label, list(titles), format_func=titles.__getitem__, key=place, on_change=_to_url, args=(name, default, clears), **more
    )


def put_back(name: str, default: Any) -> None:
    """Give a choice its default again; for what a button does when it is pressed."""
    st.session_state[f"{name}-choice"] = default
    _to_url(name, default)


def _wanted(name: str, titles: Mapping[str, str], default: Any) -> Any:
    """Return what the URL asks for as the widget holds it; the default where it asks for nothing that is offered."""
    given = _given(name)
    known = [key for key in given if key in titles]
    unknown = [key for key in given if key and key not in titles]
    if unknown and given == _written(name).now:  # chosen here, and no longer offered: nobody's mistake
        _put(name, known)
    elif unknown:
        _misread([_not_offered(name, key, list(titles)) for key in unknown])
    if isinstance(default, list):
        return known if known or given == CLEARED else [key for key in default if key in titles]
    return known[0] if known else default


def _given(name: str) -> list[str]:
    return given(name) if f"{name}-choice" in st.session_state else st.query_params.get_all(name)


def given(name: str) -> list[str]:
    """Return the values in the URL; but what was put there a moment ago where the browser has not put that into its URL yet."""
    found, wrote = st.query_params.get_all(name), _written(name)
    fresh = time.monotonic() - wrote.at < ANSWER_S
    if fresh and found == wrote.before and found != wrote.now and not went_back():
        _put(name, wrote.now)
        return wrote.now
    return found


def put(changed: Mapping[str, list[str]]) -> None:
    """Put values into the URL, [] = take the parameter out, all as one step of the way back; ``given`` knows them before the
    browser does."""
    before = {name: st.query_params.get_all(name) for name in st.query_params}
    for name, values in changed.items():
        st.session_state[f"{name}-written"] = _Written(before.get(name, []), values, time.monotonic())
    if len(changed) == 1:  # the others may belong to widgets that are bound to them, which nobody else may write
        _put(*next(iter(changed.items())))
    elif (after := {name: values for name, values in {**before, **changed}.items() if values}) != before:
        st.query_params.from_dict(after)


def _to_url(name: str, default: Any, clears: tuple[str, ...] = ()) -> None:
    value = st.session_state[f"{name}-choice"]
    several = isinstance(default, list)
    now = [] if value == default or value is None else (list(value) or CLEARED) if several else [value]
    put({name: now, **{other: [] for other in clears}})


def _put(name: str, values: list[str]) -> None:
    if values:
        st.query_params[name] = values
    else:
        st.query_params.pop(name, None)


def _written(name: str) -> _Written:
    found: _Written = st.session_state.get(f"{name}-written", _Written())
    return found


def begin(tell: Tell) -> None:
    """Begin a page: ``tell(problems, here)`` shows what its link asks for in vain, at its head, or ``here`` in a live part.

    The browser is told its URL: a link to the page that is open changes what is shown and not, in Streamlit 1.67, the address,
    and the next click would bring the old selection back.
    """
    st.session_state["_link"] = _Link(tell)
    st.query_params.update({})  # sends what is there; the browser does nothing where it has that already


def told(problems: Iterable[Problem]) -> None:
    """Take note of what a page itself says about its link, so that it is not said twice."""
    link = st.session_state.get("_link")
    if link is not None:
        link.told |= {(problem.field, problem.given) for problem in problems}
        if link.misread and not _in_a_part():
            link.tell(link.untold(link.misread), False)


def _misread(problems: list[Problem]) -> None:
    link = st.session_state.get("_link")
    if link is None:
        return
    if _in_a_part():  # it is drawn again by itself, and may not write outside then
        link.tell(link.untold(problems), True)
    else:
        link.misread = list(dict.fromkeys([*link.misread, *problems]))
        link.tell(link.untold(link.misread), False)


def _in_a_part() -> bool:
    return ThreadState.get().fragment_id is not None


def _by_itself() -> bool:
    context = get_script_run_ctx()
    return bool(context and context.fragment_ids_this_run)


def _not_offered(name: str, given: str, offered: list[str]) -> Problem:
    close = errors.nearest(given, offered)
    shown = ", ".join(offered[:SHOWN]) + (f" and {len(offered) - SHOWN} more" if len(offered) > SHOWN else "")
    return Problem(
        name, given, shown or "nothing: there is none yet", f"did you mean {close}?" if close else "choose one of them"
    )


def went_back() -> bool:
    """Say whether the browser's Back or Forward led here."""
    context = get_script_run_ctx()
    return bool(context and context.is_history_navigation)


def attempt(act: Callable[[], None], name: str) -> bool:
    """Do what a button asks for, in its callback: before the page is drawn again; ``fault(name)`` knows what was wrong then.

    Returns whether it was done.
    """
    try:
        act()
        return True
    except KdError as error:
        st.session_state[f"{name}-fault"] = error.problems
    except OSError as error:
        given = f"{error.filename or 'the disk'}: {error.strerror or error}"
        st.session_state[f"{name}-fault"] = (Problem("", given, "a home that can be written", "make room on its disk"),)
    return False


def fault(name: str) -> tuple[Problem, ...]:
    """Return, once, what was wrong with the last ``attempt`` of that name."""
    found: tuple[Problem, ...] = st.session_state.pop(f"{name}-fault", ())
    return found


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
    """Draw ``body`` and redraw it by itself: every 2 s while something runs, else every 10 s, both slower with many readers.

    When ``busy`` may have changed, ``body`` calls ``settle`` first. What it costs is measured, and the page begins anew when it
    should be redrawn much more or much less often than it is.
    """
    heart, reader = pulse.of(), session()
    least = 0.0 if busy else pulse.IDLE_S
    every = None if paused else max(least, heart.period_s(reader))

    @functools.wraps(body)
    def part() -> None:
        if _by_itself() and not who.may("read"):
            st.rerun(scope="app")
        began = time.thread_time()
        body()
        if every and _by_itself():
            heart.spent(reader, page(), body.__qualname__, time.thread_time() - began, least)
            if not every / DRIFT <= max(least, heart.period_s(reader)) <= every * DRIFT:
                st.rerun(scope="app")

    st.fragment(part, run_every=every)()


def settle(was: object, now: object) -> None:
    """Run the whole page anew when what it was drawn for has changed: a run ended, another began."""
    if was != now:
        st.rerun(scope="app")
