"""Which way of teaching works best: curves over seeds, a table of results, training speed. Reads: the store. Writes: nothing."""

from __future__ import annotations

import pandas as pd
import streamlit as st

from pages.parts import blocks, charts, fetch, state, tables, words


def choose() -> tuple[pd.DataFrame, str, str]:
    """Draw the choice of runs, measure and axis, kept in the URL; return the runs, the measure, the axis."""
    suites = fetch.ask("suites")["suite"].tolist()
    given = state.chosen_all("ids")
    what, of, axis = st.columns([3, 2, 3])
    with what:
        if given or not suites:
            frame = blocks.pick_runs(fetch.runs())
        else:
            suite = state.choice(st.selectbox, "Suite", dict(zip(suites, suites, strict=True)), name="suite", default=suites[0])
            frame = fetch.runs(suite=suite)
    with of:
        titles = {key: measure.title for key, measure in words.MEASURES.items()}
        metric = state.choice(st.selectbox, "Measure", titles, name="metric", default="test_top1_frac")
    with axis:
        x = state.choice(st.segmented_control, "Against", words.AXES, name="x", default="epoch", required=True, wrap=True)
    return frame, metric, x


def curves(frame: pd.DataFrame, metric: str, x: str) -> None:
    """Draw mean and band per method."""
    compared = fetch.students(frame)
    data = fetch.mean_curves(tuple(compared["run_id"]), metric, x)
    st.subheader(f"{words.MEASURES[metric].title} while training", anchor=False)
    if data.empty:
        st.markdown("No epoch has ended yet, or none of these runs has this measure.")
        return
    levels = fetch.teacher_levels(frame) if metric == "test_top1_frac" else ()
    blocks.chart(
        charts.mean_curves(data, metric=metric, x=x, references=levels, epochs=int(compared["epochs"].max())),
        "compare-curves",
        alt="One line per method",
    )
    blocks.note(
        f"{words.MEASURES[metric].note[0].upper()}{words.MEASURES[metric].note[1:]}.",
        f"Line: mean over {words.count(int(data['n'].max()), 'seed')}; band: from the lowest to the highest run.",
    )


def results(frame: pd.DataFrame) -> None:
    """Draw the table of best and last accuracy, and how fast each method trains."""
    board = fetch.ask("leaderboard", ids=tuple(fetch.students(frame)["run_id"]), over=False)
    if board.empty:
        return
    left, right = st.columns([5, 3], gap="large")
    with left:
        st.subheader("Results", anchor=False)
        blocks.plain_table(tables.best_of(board))
        blocks.note(
            "Test accuracy in percent, mean ± standard deviation over seeds; best = best epoch, chosen on the test images.",
            "Bold: highest mean. Italic: within the noise of it.",
        )
    with right:
        st.subheader("Training speed", anchor=False)
        blocks.chart(charts.speed(board), "compare-speed", alt="Training images per second, per method", zoom=False)


place = blocks.say("Compare", "Each line is one way of teaching; its band shows how much chance plays a part.")
if not fetch.counts():
    blocks.empty("Curves of different methods will lie over one another here.", "pages/train.py", "Train something to compare")
else:
    frame, metric, x = choose()
    ids = tuple(frame["run_id"])

    def body() -> None:
        """The live part."""
        now = fetch.runs(ids=ids)
        state.settle(busy, bool(now["status"].isin(words.ACTIVE).any()))
        going = int(now["status"].isin(words.ACTIVE).sum())
        if going:
            st.caption(f"{going} of {words.count(len(now), 'run')} still to finish; what they have reached counts.")
        curves(now, metric, x)
        results(now)

    busy = bool(frame["status"].isin(words.ACTIVE).any())
    if ids:
        with place:
            paused = busy and not st.toggle("Live", value=True, key="live", help=words.PAUSE)
        state.live(body, busy=busy, paused=paused)
    else:
        st.markdown("Choose at least one run above.")
