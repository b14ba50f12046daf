"""Every run: filter, watch, stop, resume, repeat, tag, compare. Reads: the store. Writes: what its buttons ask for."""

from __future__ import annotations

import pandas as pd
import streamlit as st

from pages.parts import actions, blocks, fetch, labelling, state, tables, words

FILTERS = (("status", "Status"), ("method", "Method"), ("dataset", "Data"), ("suite", "Suite"), ("tag", "Tag"))
WIDTH = 165  # of a filter, pixels: two beside one another on a phone


def choose() -> dict[str, tuple[str, ...]]:
    """Draw the filters, their values kept in the URL, and return what is chosen."""
    offered = fetch.ask("choices")
    chosen = {}
    with st.container(horizontal=True):
        for name, title in FILTERS:
            titles = dict(zip(offered[name], offered[name], strict=True))
            picked = state.choice(st.multiselect, title, titles, name=name, default=[], placeholder="all", width=WIDTH)
            chosen[name] = tuple(picked)
    return chosen


def act(picked: pd.DataFrame) -> None:
    """Draw the buttons for the selected rows; each says what it will do."""
    stoppable = picked[picked["status"].isin(words.ACTIVE)]
    resumable = picked[picked["status"].isin(words.RESUMABLE)]
    over = picked[picked["status"].isin(words.OVER)]
    with st.container(horizontal=True, vertical_alignment="center"):
        st.markdown(f"**{words.count(len(picked), 'run')} selected**" if len(picked) else ":gray[Select rows to act on them]")
        for rows, verb, icon, action in (
            (stoppable, "Stop", ":material/stop:", actions.stop),
            (resumable, "Resume", ":material/resume:", actions.resume),
            (over, "Repeat", ":material/replay:", actions.retry),
        ):
            if len(rows) and st.button(f"{verb} {words.count(len(rows), 'run')}", icon=icon, key=verb):
                for run_id in rows["run_id"]:
                    action(run_id)
                st.toast(f"{verb}: {words.count(len(rows), 'run')}")
        if len(picked):
            labelling.tag_all(picked)
        if len(picked) == 1 and st.button("Open", icon=":material/open_in_full:", key="open"):
            st.switch_page("pages/run.py", query_params={"run": picked["run_id"].iloc[0]})
        if len(picked) > 1 and st.button(f"Compare {len(picked)} runs", icon=":material/stacked_line_chart:", key="compare"):
            st.switch_page("pages/compare.py", query_params={"ids": list(picked["run_id"])})


blocks.say("Runs", "Every training, newest first. What is running updates by itself.")
if not fetch.counts():
    blocks.empty("Runs will be listed here, with their progress and accuracy.", "pages/train.py", "Train a first student")
else:
    chosen = choose()

    def body() -> None:
        """The live part."""
        state.settle(busy, bool(len(fetch.active())))
        frame = fetch.runs(**chosen)
        if frame.empty:
            st.markdown("No run fits these filters. Take one of them away.")
            return
        places = blocks.table(tables.runs(frame), "runs-table", choose=True, height=min(640, 40 + 35 * len(frame)))
        act(frame.iloc[places])
        blocks.note(f"{words.count(len(frame), 'run')}.", "Best = best test accuracy over the epochs of one run.")

    busy = bool(len(fetch.active()))
    state.live(body, busy=busy)
