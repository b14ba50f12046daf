"""Blocks that several pages draw: heading with what is running, empty states, tables, problems.

Reads: what it is given, and through ``fetch`` what is running. Writes: nothing. Never: the store itself.
"""

from __future__ import annotations

import functools
import json
from collections.abc import Callable, Iterable
from datetime import UTC, datetime
from typing import Any

import pandas as pd
import plotly.graph_objects as go
import streamlit as st

from kdengine.errors import Problem
from kdengine.rundir import Progress
from pages.parts import actions_people, demo, fetch, frame, pulse, saved, state, tables, who, words
from pages.parts.words import escaped as escaped

WIDTH = 1280
TRAIN = "pages/train.py"
MISREAD = "Part of this link means nothing here; the rest of it is shown"
# Streamlit tints a link that has the keyboard's focus so faintly that nobody sees it
FOCUS = (
    "<style>a:focus-visible, [role=tab]:focus-visible {outline: 2px solid currentColor !important; outline-offset: 1px}</style>"
)
BAR = {"displayModeBar": False, "displaylogo": False, "responsive": True}


def say(title: str, sentence: str = "", *, needs: str = "read") -> Any:
    """Open a page: its title, one sentence, and at the right what is running now.

    Returns the place below that, at the right, for a switch of the whole page.

    Raises:
        NotAllowed: who asks may not do ``needs``, which the page is for.
    """
    frame.ensure(needs)
    st.html(FOCUS)
    left, right = st.columns([2, 1], gap="medium")
    with left:
        st.title(title, anchor=False)
        if sentence:
            st.markdown(f":gray[{sentence}]")
    with right:
        with st.container(horizontal=True, horizontal_alignment="right", vertical_alignment="center", gap="small"):
            with st.container(width="content"):
                if demo.on():
                    demo.mark()
                else:
                    state.live(_pulse_line, busy=bool(len(fetch.active())))
            with st.container(width="content"):
                saved.draw(title, problems)
        place = st.container(horizontal=True, horizontal_alignment="right")
    _troubles()
    state.begin(functools.partial(_tell, st.empty()))
    state.said()
    return place


def _tell(place: Any, misread: list[Problem], here: bool) -> None:
    if misread:
        (st if here else place).error(words.problem_list(misread, MISREAD), icon=":material/link_off:")
    elif not here:
        place.empty()


def _pulse_line() -> None:
    line = words.pulse_line(fetch.counts(), fetch.left_s())
    dot = ":blue[●]" if line else ":gray[○]"
    with st.container(horizontal=True, horizontal_alignment="right"):
        st.page_link("pages/runs.py", label=f"{dot} {line or 'nothing is running'}", help="Open the list of runs")


def _troubles() -> None:
    """Show what went wrong to whom it concerns: what somebody asked for to them, the server's own to who looks after it."""
    heart = pulse.of()
    if heart.store.notice:  # it may name a path: for who looks after the server
        others = "New results are not coming in at present. Nothing is lost; whoever looks after the server sees why."
        st.warning(heart.store.notice if who.may("server") else others, icon=":material/warning:")
    if who.may("people"):
        problems(who.troubles(), "The list of people cannot be used")
    concerned = [trouble for trouble in heart.troubles if who.may("dismiss", trouble.who)]
    for trouble in concerned[-3:]:
        problems(trouble.problems, f"While {trouble.doing} ({words.ago(trouble.at)})")
    if concerned and st.button("Dismiss", key="dismiss-troubles", type="tertiary"):
        actions_people.dismiss_troubles()
        st.rerun()


def problems(found: Iterable[Problem], title: str) -> None:
    """List problems, each with what was given, what is allowed, what to do."""
    listed = list(found)
    state.told(listed)
    if listed:
        st.error(words.problem_list(listed, title), icon=":material/error:")


def empty(sentence: str, page: str, button: str, icon: str = ":material/arrow_forward:") -> None:
    """Fill an empty page: one sentence on what will be here, one button that leads on, where it may be pressed."""
    with st.container(border=True, horizontal_alignment="center", gap="medium"):
        st.markdown(sentence, text_alignment="center")
        if page == TRAIN and not who.may("launch"):
            st.caption("Nothing has been trained here yet.")
        elif st.button(button, type="primary", icon=icon, key="empty-state"):
            st.switch_page(page)


def first_steps(button: Callable[[str], None]) -> None:
    """Fill the first page of an empty home: what will be here, and the one button."""
    with st.container(border=True, gap="small"):
        st.subheader("Nothing has been trained here yet", anchor=False)
        if not who.may("launch"):
            st.markdown("Results appear here when a member of the lab has launched the first runs.")
            return
        st.markdown(
            "The demo trains one teacher and twelve students, with six ways of teaching and two random starts each, on real "
            "scans of handwritten digits. You can watch the ways of teaching overtake one another while it runs."
        )
        button("primary")


def run_line(row: dict[str, Any]) -> None:
    """Draw one run in a line: status, what it is, how far, linked to its page."""
    known = words.STATUSES[row["status"]]
    what = f"{row['method']} · {words.pair_of(row['teacher'], row['student'])} · {words.seed_of(row)}"
    with st.container(gap=None):
        st.page_link("pages/run.py", label=f":{known.colour}[{known.mark}]&ensp;{what}", query_params={"run": row["run_id"]})
        done = 0 if words.missing(row["epoch"]) else int(row["epoch"])
        best = "" if words.missing(row["best_top1_frac"]) else f", best {words.percent(row['best_top1_frac'])}"
        st.caption(f"&ensp;&ensp;&ensp;&ensp;{known.word}, epoch {done} of {row['epochs']}{best}")


def chart(figure: go.Figure, key: str, *, alt: str, zoom: bool = True) -> None:
    """Draw a figure at the width of its column. ``alt`` says what it shows, for those who cannot see it."""
    bar: dict[str, Any] = {
        **BAR,
        "modeBarButtonsToRemove": ["select2d", "lasso2d", "autoScale2d"],
        "displayModeBar": "hover" if zoom else False,
    }
    bar |= {"scrollZoom": False, "toImageButtonOptions": {"format": "svg", "filename": key}}
    if not zoom:
        figure.update_layout(dragmode=False)
    st.plotly_chart(figure, key=key, config=bar, alt=alt)


KINDS: dict[str, Any] = {
    "text": lambda c: st.column_config.TextColumn(help=c.meaning, width=c.width),
    "list": lambda c: st.column_config.ListColumn(help=c.meaning, width=140),
    "wide": lambda c: st.column_config.TextColumn(help=c.meaning, alignment="right"),
    "number": lambda c: st.column_config.NumberColumn(help=c.meaning, width="small"),
    "percent": lambda c: st.column_config.NumberColumn(help=c.meaning, format="%.1f %%", width="small"),
    "progress": lambda c: st.column_config.ProgressColumn(
        help=c.meaning, min_value=0, max_value=100, format="%d %%", width="small"
    ),
    "sparkline": lambda c: st.column_config.LineChartColumn(help=c.meaning, y_min=0, y_max=100, width="small"),
}


def table(shown: tables.Table, key: str, *, choose: bool = False, height: int | str = "auto") -> list[int]:
    """Draw a table; return the places of the rows that are selected, where ``choose`` allows it."""
    config = {name: KINDS[column.kind](column) for name, column in shown.columns.items()}
    more: dict[str, Any] = {"on_select": "rerun", "selection_mode": "multi-row"} if choose else {}
    answer = st.dataframe(shown.frame, column_config=config, hide_index=True, key=key, height=height, placeholder="–", **more)
    return list(answer["selection"]["rows"]) if choose else []


def short_title(row: dict[str, Any]) -> str:
    """Return a run's title: method and networks."""
    return f"{row['method']}: {words.pair_of(row['teacher'], row['student'])}"


def where_it_stands(row: dict[str, Any], progress: Progress | None) -> str:
    """Return in words how far a run is and how long it will still take."""
    status, phase = row["status"], row["phase"]
    if status == "running":
        epoch, epochs = (progress.epoch, progress.epochs) if progress else (row["epoch"] or 0, row["epochs"])
        phase = progress.phase if progress else phase
        stage = "" if words.missing(phase) or phase == "main" else f" of {phase}"
        left = tables.eta_s(row, datetime.now(UTC))
        return f"epoch {int(epoch)} of {int(epochs)}{stage}" + ("" if left is None else f", {words.roughly(left)} left")
    if status in ("queued", "waiting"):
        place = "" if words.missing(row["position"]) else f", number {int(row['position'])} in the queue"
        return words.STATUSES[status].meaning + place
    done = f"{int(row['epoch'] or 0)} of {row['epochs']} epochs"
    return done + ("" if words.missing(row["ended_at"]) else f", ended {words.ago(row['ended_at'])}")


def share_done(row: dict[str, Any], progress: Progress | None) -> float:
    """Return the share of the main phase that is done, the epoch under way included, 0 to 1."""
    done = float(row["epoch"] or 0)
    if progress and progress.phase == "main" and progress.epoch == done + 1:
        done += progress.step / max(1, progress.steps)
    return min(1.0, done / max(1, int(row["epochs"])))


def failure(row: dict[str, Any]) -> None:
    """Say why a run failed, in three parts where the worker knew them."""
    reason = "" if words.missing(row["reason"]) else str(row["reason"])
    found = [] if words.missing(row["problems"]) else [Problem(**p) for p in json.loads(row["problems"])]
    if found:
        problems(found, reason or "This run failed")
    else:
        st.error(escaped(reason or "This run failed; the log below may say why."), icon=":material/error:")


def pairs(lines: dict[str, str]) -> None:
    """Draw a few facts, one line each: what it is in grey, then its value."""
    for what, value in lines.items():
        left, right = st.columns([1, 2], gap="small", wrap=False)
        left.markdown(f":gray[{what}]")
        right.markdown(escaped(value))


def drawer(title: str, key: str, *, opened: bool = False) -> Any:
    """Draw a box that is filled only while it is open; return it then, else None."""
    box = st.expander(title, expanded=opened, key=f"drawer-{key}", on_change="rerun")
    return box if box.open else None


def files(run_id: str) -> None:
    """List the run's files, each with a button that reads it when it is pressed."""
    found = fetch.artifacts(run_id)
    if not found:
        st.markdown("Weights, predictions and features are left here when the run has ended.")
    with st.container(horizontal=True):
        for file in found:
            st.download_button(
                f"{file.name} ({words.size(file.bytes / 2**20)})",
                data=functools.partial(fetch.artifact_bytes, run_id, file.name), file_name=f"{run_id}-{file.name}",
                key=f"take-{file.name}", on_click="ignore", icon=":material/download:",
            )  # fmt: skip


def plain_table(shown: tables.Table) -> None:
    """Draw a short table whose cells have marks of their own (bold, italic)."""
    st.table(shown.frame)


def pick_runs(frame: pd.DataFrame) -> pd.DataFrame:
    """Draw the choice of single runs, kept in the URL (``?ids=``), and return the chosen rows."""
    titles = {row["run_id"]: run_title(row) for row in tables.rows(frame)}
    chosen = state.choice(st.multiselect, "Runs", titles, name="ids", default=[])
    return frame[frame["run_id"].isin(chosen)]


def run_title(row: dict[str, Any]) -> str:
    """Return a run in words: method, networks, data, seed."""
    return f"{row['method']} · {words.pair_of(row['teacher'], row['student'])} · {row['dataset']} · {words.seed_of(row)}"


def status(name: str) -> None:
    """Draw a status as a badge with its word."""
    known = words.STATUSES[name]
    st.badge(f"{known.mark} {known.word}", color=known.colour, help=known.meaning)


def note(*sentences: str) -> None:
    """Close a page: what was selected, n, where it comes from."""
    st.caption(" ".join(s for s in sentences if s))
