"""One run: how it learns, live; what it was asked, where it ran, what it left. Reads: the store, its folder. Writes: nothing."""

from __future__ import annotations

from typing import Any

import streamlit as st

from pages.parts import blocks, buttons, charts, fetch, frame, labelling, state, tables, words

NUMBERS: tuple[tuple[str, str, Any, str], ...] = (
    ("Best test accuracy", "best_top1_frac", words.percent, "Over the epochs of this run, chosen on the test images"),
    ("Last epoch", "last_top1_frac", words.percent, "Test accuracy after the last epoch"),
    ("Its teacher", "teacher_top1_frac", words.percent, "Test accuracy of the network that teaches, if any"),
    ("Training time", "elapsed_s", words.duration, "Pauses not counted"),
)
LOAD = (("images_per_s", "Training speed", "speed"), ("peak_mib", "Peak memory", "mib"))


def head(row: dict[str, Any]) -> None:
    """Draw status, progress, time left and the buttons that fit."""
    status, run_id = row["status"], row["run_id"]
    with st.container(horizontal=True, vertical_alignment="center", gap="small"):
        blocks.status(status)
        st.markdown(blocks.where_it_stands(row, fetch.progress(run_id)))
        buttons.one(row)
    buttons.refused()
    if status == "running":
        st.progress(blocks.share_done(row, fetch.progress(run_id)))
    if status == "failed":
        blocks.failure(row)


def numbers(row: dict[str, Any]) -> None:
    """Draw the four numbers that matter."""
    for column, (title, name, written, meaning) in zip(st.columns(len(NUMBERS)), NUMBERS, strict=True):
        column.metric(title, written(row[name]), help=meaning)


def learning(row: dict[str, Any]) -> None:
    """Draw accuracy and loss over the epochs, side by side."""
    frame = fetch.ask("epochs", row["run_id"])
    if frame.empty:
        st.markdown("Curves appear here when the first epoch has ended.")
        return
    method, epochs = row["method"], int(row["epochs"])
    level = [] if words.missing(row["teacher_top1_frac"]) else [("teacher", row["teacher_top1_frac"])]
    left, right = st.columns(2, gap="medium")
    with left:
        st.subheader("Accuracy", anchor=False)
        figure = charts.run_curves(frame, ("test_top1_frac", "train_top1_frac"), method=method, references=level, epochs=epochs)
        blocks.chart(figure, "run-accuracy", alt="Test and training accuracy per epoch")
    with right:
        st.subheader("Loss", anchor=False)
        figure = charts.run_curves(frame, ("test_loss", "train_loss"), method=method, epochs=epochs)
        blocks.chart(figure, "run-loss", alt="Test and training loss per epoch")


def more(row: dict[str, Any]) -> None:
    """Draw what lies below, each part when it is opened: loss terms, the machine's load, the log."""
    run_id, method = row["run_id"], row["method"]
    if box := blocks.drawer("Loss terms: what the student is told, and how much it counts", "terms"):
        terms = fetch.ask("terms", run_id)
        for phase, part in terms.groupby("phase", sort=False):
            box.markdown(f"Phase **{phase}**")
            with box:
                blocks.chart(charts.terms(part, method=method), f"run-terms-{phase}", alt="Loss terms per epoch")
    if box := blocks.drawer("Load: speed and memory", "load"):
        frame = fetch.ask("epochs", run_id)
        for column, (name, title, unit) in zip(box.columns(2), LOAD, strict=True):
            with column:
                st.markdown(f"**{title}**")
                blocks.chart(charts.load(frame, name, title, unit), f"run-{name}", alt=f"{title} per epoch", zoom=False)
    if box := blocks.drawer("Log: the last lines the worker printed", "log", opened=row["status"] in ("failed", "lost")):
        box.code(fetch.log_tail(run_id) or "nothing yet", language=None)


def record(row: dict[str, Any]) -> None:
    """Draw what stands still: the request, the machine, the files."""
    left, right = st.columns(2, gap="medium")
    with left.expander("What was asked for"):
        blocks.pairs(tables.facts(row, tables.ASKED))
    with right.expander("Where it ran"):
        blocks.pairs(tables.facts(row, tables.MACHINE))
    with st.expander("Files to take away"):
        blocks.files(row["run_id"])


frame.ensure()
run_id = state.chosen("run")
row = fetch.run(run_id) if run_id else None
if row is None:
    blocks.say("Run")
    sentence = f"No run is called {run_id}." if run_id else "A single run is shown here, live."
    blocks.empty(sentence, "pages/runs.py", "Choose a run")
else:
    status, busy = row["status"], row["status"] in words.ACTIVE
    subtitle = f"{words.title_of(row['method'])} · {row['dataset']} · {words.seed_of(row)} · {row['run_id']}"
    with blocks.say(blocks.short_title(row), subtitle):
        paused = busy and not st.toggle("Live", value=True, key="live", help=words.PAUSE)
    labelling.line(row)

    def body() -> None:
        """The live part."""
        now = fetch.run(str(run_id)) or {"status": None}  # None: the folder was removed by hand
        state.settle(status, now["status"])
        head(now)
        numbers(now)
        learning(now)
        more(now)

    state.live(body, busy=busy, paused=paused)
    record(row)
    blocks.note(words.ABOUT_CURVES, words.notices(row["notices"]))
