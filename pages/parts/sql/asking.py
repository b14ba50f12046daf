"""What this session writes and asks: the text on the desk, the question it asked last, and the link that says both.

Reads: the session, the URL, the queue of questions. Writes: the session, the URL, that queue. Never: runs a statement; passes
the door of ``actions``, because a question changes nothing.
"""

from __future__ import annotations

import time
from dataclasses import dataclass, field

import streamlit as st

from kdengine import views
from kdengine.errors import KdError, Problem
from kdengine.views import View
from pages.parts import pulse, state, who
from pages.parts.sql import links
from store.examples import EXAMPLES
from store.questions import Question

LIMIT_S, ROWS, MEMORY_MB = 5, 10_000, 512
QUICK_S = 0.8  # an answer that comes within this time is in the first picture of the page
LOOK_S = 0.02
CHART = ("chart", "x", "y", "colour")  # parameters of the link that choose the chart
PARAMETERS = (*links.NAMES, *CHART)


@dataclass(slots=True)
class Desk:
    """``text`` is in the editor, put there for the ``stamp``-th time; ``asked`` is the statement of question ``key``.

    ``wanted``: it is to be asked as soon as the page is drawn anew; ``keeping``: the name under which it is to be kept then;
    ``problems``: why it could not even be asked; ``link``: what the URL held when the page was left; ``plain``: without editor.
    """

    text: str = EXAMPLES[0].sql
    stamp: int = 0
    asked: str | None = None
    key: str = ""
    problems: tuple[Problem, ...] = ()
    link: dict[str, list[str]] = field(default_factory=dict)
    plain: bool = False
    wanted: bool = False
    keeping: str | None = None

    def put(self, text: str) -> None:
        """Put another text on the desk."""
        self.text = text
        self.stamp += 1
        if "sql-plain" in st.session_state:
            st.session_state["sql-plain"] = text


def desk() -> Desk:
    """Return the desk of this session."""
    found: Desk = st.session_state.setdefault("sql-page", Desk())
    return found


def follow() -> tuple[Problem, ...]:
    """Ask what is wanted; else do what the link says: a statement that is not asked yet is put on the desk and asked, once.

    Where the link says nothing, the page comes back as this session left it. Returns what is wrong with the link.
    """
    now = desk()
    if now.wanted:  # not in the button's callback: that of the text beside it may come after it
        now.wanted = False
        run(now.text)
        return ()
    chosen = {name: values[0] for name in links.NAMES if (values := state.given(name))}
    if not chosen:
        if state.went_back():  # to before anything was asked
            now.asked, now.key, now.problems, now.link = None, "", (), {}
        state.put(now.link)
        return ()
    try:
        wanted = _saved(chosen["saved"]) if "saved" in chosen else links.unpacked(chosen)
    except KdError as error:
        return error.problems
    if wanted is not None and wanted != now.asked:
        now.put(wanted)
        ask(wanted)
    return ()


def ask(sql: str) -> None:
    """Ask a statement; what this session asked before and is not answered yet is given up."""
    now = desk()
    give_up()
    now.asked, now.key, now.problems = sql, "", ()
    try:
        now.key = pulse.of().questions.ask(sql, who.demand("ask").asker, timeout_s=LIMIT_S, max_rows=ROWS)
    except KdError as error:
        now.problems = error.problems


def run(sql: str) -> None:
    """Ask a statement from the desk, and let the link say so where it can; the chart stays as it is chosen."""
    ask(sql)
    packed = links.packed(sql) if links.fits(sql) else {}
    state.put({name: [packed[name]] if name in packed else [] for name in links.NAMES})


def remember() -> None:
    """Keep what the link says, for when this session comes back to the page."""
    desk().link = {name: values for name in PARAMETERS if (values := st.query_params.get_all(name))}


def question(wait_s: float = 0.0) -> Question | None:
    """Return how the question of this session stands, after at most ``wait_s`` where it may soon be over; None without one."""
    now = desk()
    if not now.key:
        return None
    until = time.monotonic() + wait_s
    found = pulse.of().questions.look(now.key)
    while not found.over and time.monotonic() < until:
        time.sleep(LOOK_S)
        found = pulse.of().questions.look(now.key)
    return found


def kept() -> list[View]:
    """Return the saved queries: the saved views of this page.

    Raises:
        KdError: they cannot be read.
    """
    return [view for view in views.load(pulse.of().home) if view.page == links.PAGE]


def chosen_of(view: View) -> dict[str, str]:
    """Return what a saved query chooses: the statement's parameter and the chart."""
    return {name: values[0] for name, values in view.chosen().items() if name in PARAMETERS and values}


def _saved(name: str) -> str | None:
    """Return the statement of a saved query, and let the link choose its chart where it does not choose one itself.

    Raises:
        KdError: there is no such query.
    """
    found = next((view for view in kept() if view.name == name), None)
    if found is None:
        raise KdError.of(name, "a query that is saved here", "choose one below; it may have been renamed or deleted", "saved")
    chosen = chosen_of(found)
    if not any(state.given(parameter) for parameter in CHART):
        state.put({parameter: [chosen[parameter]] for parameter in CHART if parameter in chosen})
    return links.unpacked(chosen)


def give_up() -> None:
    """End the question of this session, whether it waits or runs."""
    if desk().key:
        pulse.of().questions.cancel(desk().key, who.person().asker)
