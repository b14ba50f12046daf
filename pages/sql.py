"""Any question to the results, in SQL: written with help, answered in a sandbox, drawn, shared as a link.

Reads: the published results, through the queue of questions. Writes: saved queries, when asked.
"""

from __future__ import annotations

import streamlit as st

from pages.parts import blocks, fetch, pulse, state
from pages.parts.sql import answer, asking, chart, desk, editor, gallery
from store.examples import PRIMER
from store.questions import Question


def result(found: Question) -> None:
    """Draw the answer: how it stands, its chart, its table, its files."""
    assert found.frame is not None
    with st.container(horizontal=True, vertical_alignment="center", horizontal_alignment="distribute"):
        st.markdown(answer.stand(found), width="content")
        kind = chart.choose_kind()
        answer.take_away(found)
    if found.cut:
        st.caption("There is more: count or group, or take part of it with LIMIT and OFFSET.")
    if found.frame.empty:
        st.info("No row fits this query. Loosen what stands after WHERE.", icon=":material/search_off:")
    elif kind != "table":
        chart.draw(found, kind)
    answer.table(found)
    asking.remember()


def waiting() -> None:
    """Draw how the question stands while it is not answered; the whole page is drawn anew when it is."""
    found = asking.question()
    if found is None or found.over:
        st.rerun(scope="app")
    else:
        answer.waiting(found)


def below(found: Question | None) -> None:
    """Draw what is known of the question of this session."""
    if found is not None and not found.over:
        st.fragment(waiting, run_every=max(1.0, pulse.of().period_s(state.session()) / 2))()
    elif found is not None and found.frame is not None:
        st.fragment(result)(found)


place = blocks.say("SQL", "Ask the results anything. What you write reads them and can change nothing.", needs="ask")
misread = asking.follow()
sizes = fetch.ask("sizes")
left, right = st.columns([1, 3.2], gap="medium")
with left:
    desk.tables()
question = asking.question(asking.QUICK_S)
with right:
    desk.newcomer(sizes["runs"])
    desk.draw(question, misread)
below(question)
with st.expander("What is in the tables, in five sentences"):
    st.markdown("\n".join(f"- {sentence}" for sentence in PRIMER))
gallery.draw(opened=question is None)
asking.remember()
editor.load()
