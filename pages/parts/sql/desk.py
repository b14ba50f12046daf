"""The upper half of the page: tables at the left, the statement, the button that runs it, and what was wrong with it.

Reads: the session, through ``asking``. Writes: the session. Never: runs a statement; figures.
"""

from __future__ import annotations

from dataclasses import asdict

import streamlit as st

from kdengine.errors import Problem
from pages.parts import blocks, fetch, who
from pages.parts.sql import asking, editor, mending
from store.questions import Question

LIMITS = f"Up to {asking.LIMIT_S} s, {asking.ROWS:,} rows and {asking.MEMORY_MB} MB of memory."
FAULT = "This cannot be answered"
STOPPED = "This question was cancelled before it was answered."
GONE = "This answer is not kept any more. Run the query again."


def tables() -> None:
    """Draw the tables and columns."""
    editor.browse(fetch.ask("sizes"), _picked)


def draw(found: Question | None, misread: tuple[Problem, ...]) -> None:
    """Draw the editor and its buttons; below them what was wrong with the link, and with the question that was asked last."""
    now = asking.desk()
    problems = now.problems or (found.problems if found else ())
    fault = mending.mark(now.text, problems) if now.text == now.asked else None
    if now.plain:
        st.session_state.setdefault("sql-plain", now.text)
        editor.write_plain(_left_plain)
    else:
        _editor({**asdict(fault), "key": now.key} if fault else None)
    with st.container(horizontal=True, vertical_alignment="center"):
        st.button(f"Run ({asking.LIMIT_S} s limit)", type="primary", icon=":material/play_arrow:", key="run-sql", on_click=_run,
                  shortcut="Ctrl+Enter" if now.plain else None)  # fmt: skip
        st.caption(LIMITS, width="stretch")
        st.toggle("Plain editor", now.plain, key="sql-plain-wanted", on_change=_change_editor,
                  help="A simple field, without completion: for browsers in which the editor does not work")  # fmt: skip
    blocks.problems(misread, "This link cannot be followed")
    _problems(now, problems)
    if found and found.state in ("cancelled", "gone"):
        st.info(STOPPED if found.state == "cancelled" else GONE, icon=":material/info:")


@st.fragment
def _editor(fault: dict[str, object] | None) -> None:
    """Draw the editor; leaving it draws nothing else anew, running does."""
    now = asking.desk()
    if now.wanted:
        st.rerun(scope="app")
    editor.write(now.text, now.stamp, fault, _left, _run_from_editor)


def _problems(now: asking.Desk, problems: tuple[Problem, ...]) -> None:
    found = mending.told(problems)
    blocks.problems(found, FAULT)
    better = mending.mended(now.text, problems) if now.text == now.asked else None
    if better:
        st.button(f"Use '{better.right}'", key="mend-sql", icon=":material/auto_fix_high:", on_click=_mend, args=(better.text,),
                  help=f"Put it in the place of {better.wrong!r} and run it")  # fmt: skip


def _left() -> None:
    said = st.session_state["sql-desk"].get("text")
    now = asking.desk()
    if said and said["stamp"] == now.stamp:
        now.text = said["text"]


def _left_plain() -> None:
    asking.desk().text = st.session_state["sql-plain"]


def _run_from_editor() -> None:
    now = asking.desk()
    now.text = st.session_state["sql-desk"]["run"]
    now.wanted = True


def _run() -> None:
    asking.desk().wanted = True


def _mend(text: str) -> None:
    asking.desk().put(text)
    asking.desk().wanted = True


def _change_editor() -> None:
    now = asking.desk()
    now.plain = st.session_state["sql-plain-wanted"]
    now.put(now.text)


def _picked() -> None:
    """Put a name behind the statement: no editor was there to put it where the cursor is."""
    now = asking.desk()
    name = st.session_state["sql-schema"]["pick"]
    now.put(f"{now.text.rstrip()} {name}" if now.text.strip() else name)


def newcomer(runs: int) -> None:
    """Say in a home without runs what there is, and what to press."""
    if runs:
        return
    with st.container(border=True, horizontal=True, vertical_alignment="center"):
        st.markdown("Nothing has been trained here yet. The table `published` has results of the literature.", width="stretch")
        if who.may("launch") and st.button("Train something to ask about", icon=":material/arrow_forward:", key="empty-state"):
            st.switch_page("pages/train.py")
