"""The buttons that act on runs: each is there for whom it works.

Reads: rows of the store, who asks. Writes: what the buttons ask for, through ``actions``. Never: a training's files themselves.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any

import pandas as pd
import streamlit as st

from kdengine import access
from kdengine.errors import KdError
from pages.parts import actions, blocks, fetch, labelling, state, tables, who, words

FILES = ("teacher_weights", "student_init")  # columns that name a file of the server


def one(row: dict[str, Any]) -> None:
    """Draw the buttons for one run (all its columns); each says what it will do."""
    status, run_id, owner = row["status"], row["run_id"], owner_of(row)
    repeats = who.may("use-files") if any(not words.missing(row[name]) for name in FILES) else who.may("retry")
    for key, label, icon, fits, action in (
        ("stop", "Stop", ":material/stop:", status in words.ACTIVE and who.may("stop", owner), actions.stop),
        ("resume", "Resume", ":material/resume:", status in words.RESUMABLE and who.may("resume", owner), actions.resume),
        ("retry", "Repeat as a new run", ":material/replay:", status not in words.ACTIVE and repeats, actions.retry),
    ):
        wait = actions.pending(f"{key}-{run_id}")
        if fits and st.button(f"{label} …" if wait else label, icon=icon, key=f"{key}-run", disabled=wait):
            _act(action, [run_id])
            st.rerun()
    if status in words.OVER and who.may("remove-run", owner):
        _remove(run_id)


def several(picked: pd.DataFrame) -> None:
    """Draw the buttons for the selected rows; each counts the runs that it is for."""
    over = picked[picked["status"].isin(words.OVER)]
    with st.container(horizontal=True, vertical_alignment="center"):
        todo = "Select rows to act on them" if who.may("retry") else "Select a row to open it, several to compare them"
        st.markdown(f"**{words.count(len(picked), 'run')} selected**" if len(picked) else f":gray[{todo}]")
        for rows, verb, icon, action in (
            (own(picked[picked["status"].isin(words.ACTIVE)], "stop"), "Stop", ":material/stop:", actions.stop),
            (own(picked[picked["status"].isin(words.RESUMABLE)], "resume"), "Resume", ":material/resume:", actions.resume),
            (over if who.may("retry") else over.iloc[:0], "Repeat", ":material/replay:", actions.retry),
        ):
            pressed = len(rows) and st.button(f"{verb} {words.count(len(rows), 'run')}", icon=icon, key=verb)
            if pressed and _act(action, rows["run_id"]):
                st.toast(f"{verb}: {words.count(len(rows), 'run')}")
        if len(mine := own(picked, "label")):
            labelling.tag_all(mine)
        if len(picked) == 1 and st.button("Open", icon=":material/open_in_full:", key="open"):
            st.switch_page("pages/run.py", query_params={"run": picked["run_id"].iloc[0]})
        if len(picked) > 1 and st.button(f"Compare {len(picked)} runs", icon=":material/stacked_line_chart:", key="compare"):
            st.switch_page("pages/compare.py", query_params={"ids": list(picked["run_id"])})
    refused()


def refused() -> None:
    """Say, once, why what a button asked for was not done."""
    blocks.problems(state.fault("runs"), "Nothing was changed")


def own(rows: pd.DataFrame, action: str) -> pd.DataFrame:
    """Return the rows of runs that who asks may do something to."""
    person = who.person()
    return rows[[access.may(person, action, owner_of(row)) for row in tables.rows(rows[["owner"]])]]


def owner_of(row: dict[str, Any]) -> str | None:
    """Return whose the run of a row is; None where it has no owner."""
    return None if words.missing(row["owner"]) else str(row["owner"])


def _act(action: Callable[[str], Any], run_ids: Iterable[str]) -> bool:
    def every() -> None:
        for run_id in run_ids:
            action(run_id)

    return state.attempt(every, "runs")


def _remove(run_id: str) -> None:
    box = st.popover("Remove", icon=":material/delete:", key="remove-run", on_change="rerun")
    if box.open:
        with box:
            size = sum(file.bytes for file in fetch.artifacts(run_id)) / 2**20
            st.markdown(f"Its curves, weights and log are deleted ({words.size(size)}). This cannot be taken back.")
            if st.button("Remove this run", icon=":material/delete:", key="remove-run-now", width="stretch"):
                try:
                    actions.remove_run(run_id)
                except KdError as error:
                    blocks.problems(error.problems, "Nothing was removed")
                else:
                    state.say_later(f"{run_id} is removed")
                    st.switch_page("pages/runs.py")
