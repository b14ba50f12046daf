"""What this is, how a suite stands, what is running, where to go. Reads: the store. Writes: the demo, when asked."""

from __future__ import annotations

import streamlit as st

from kdengine import catalogue, suites
from pages.parts import actions, blocks, charts, demo, fetch, frame, plan, state, tables, ways, who, words

DEMO = "demo"


def demo_button(kind: str) -> None:
    """Offer the demo, or the way to watch it while it runs."""
    if actions.pending("demo"):
        st.button("Launching the demo", icon=":material/hourglass_top:", key="launching", disabled=True)
        return
    if len(fetch.runs(suite=DEMO, status=words.ACTIVE)):
        if st.button("Watch the demo", type="primary", icon=":material/monitoring:", key="watch-demo"):
            st.switch_page("pages/compare.py", query_params={"suite": DEMO})
        return
    if not trains:
        return
    finished = fetch.runs(suite=DEMO, status="finished")
    if len(finished) >= len(suites.demo_suite()):  # a seed gives the same numbers again: nothing to run twice
        return
    minutes = words.roughly(plan.demo_s(finished))
    if st.button(f"Run the demo ({minutes}, CPU is enough)", type=kind, icon=":material/play_arrow:", key="run-demo"):
        actions.run_demo()
        st.rerun()


def standings(suite: str) -> None:
    """Draw how the methods of a suite stand, on the dataset that most of its runs learn from."""
    every = fetch.runs(suite=suite)
    dataset = every["dataset"].mode().iloc[0]
    rows = every[every["dataset"] == dataset]
    compared = fetch.students(rows)
    board = fetch.ask("leaderboard", ids=tuple(compared["run_id"]), over=False)
    title = f"Suite {suite}" if len(rows) == len(every) else f"Suite {suite}, {dataset}"
    st.subheader(f"{title}: {words.leads(board)}" if len(board) else title, anchor=False)
    if board.empty:
        st.markdown("Bars appear when the first student has ended an epoch.")
        return
    levels = fetch.teacher_levels(rows)
    blocks.chart(charts.leaderboard(board, references=levels), "home-board", alt="Test accuracy per method", zoom=False)
    over = int((compared["status"] == "finished").sum())
    blocks.note(
        f"Best test accuracy, mean and standard deviation over {words.count(int(board['n'].max()), 'seed')}.",
        f"{over} of {words.count(len(compared), 'run')} finished.",
    )
    with st.container(horizontal=True):
        st.page_link(
            "pages/compare.py", label="Compare their curves", icon=":material/stacked_line_chart:", query_params={"suite": suite}
        )
        st.page_link("pages/race.py", label="Watch them race", icon=":material/flag:", query_params={"suite": suite})


def freshest() -> None:
    """Draw what runs, then the five newest runs."""
    going = fetch.active()
    busy = len(going) > 0
    st.subheader("Running now" if busy else "Newest runs", anchor=False)
    rows = tables.most_pressing(going).head(5) if busy else fetch.ask("newest", 5)
    for row in tables.rows(rows):
        blocks.run_line(row)
    st.page_link("pages/runs.py", label="All runs", icon=":material/list:")


def here() -> str:
    """Say what one does here."""
    if demo.on():
        n, methods = fetch.counts().get("finished", 0), len(catalogue.labels())
        return f"Here are {n} trainings of such pairs, by {methods} ways of teaching: see how each works, and which works best."
    return f"Here you {'train such pairs, watch them' if trains else 'watch such pairs'} learn and see which way works best."


frame.ensure()
trains = who.may("launch")
blocks.say(
    "Small networks that learn from big ones" if demo.on() else "Train small networks with the help of big ones",
    f"A big network (the teacher) shows a small one (the student) more than the right answers. {here()}",
)
if demo.on():
    demo.welcome()
suite = fetch.first_suite()
busy = bool(len(fetch.active())) or actions.pending("demo")


def body() -> None:
    """The live part."""
    state.settle((suite, busy), (fetch.first_suite(), bool(len(fetch.active())) or actions.pending("demo")))
    if suite is None:
        blocks.first_steps(demo_button)
        return
    demo_button("secondary")
    wide, narrow = st.columns([5, 3], gap="large")
    with wide:
        standings(suite)
    with narrow:
        freshest()


state.live(body, busy=busy)
st.space("small")
ways.draw()
