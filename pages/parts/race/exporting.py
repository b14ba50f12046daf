"""The button that makes a file of a race, how far that is, and the file when it is there: played, with buttons to take it away.

Reads: the exports through ``fetch``, the URL (``?export=``). Writes: orders, when the button asks for them. Never: a file.
"""

from __future__ import annotations

import functools
import re
from typing import Any

import streamlit as st

from kdengine.errors import Problem
from pages.parts import actions_kept, blocks, fetch, state, who, words
from pages.parts.race.looks import FORMATS
from store.export.race import bounds
from store.export.race.exports import About, Export
from store.export.race.order import Order

MIMES = {"mp4": "video/mp4", "gif": "image/gif", "png": "image/png"}
ACTIVE = ("waiting", "drawing")
STEPS = {"start": "Starting", "draw": "Drawing", "finish": "Finishing the file"}
NAME = "race-export"  # of what the button does, see ``state.attempt``
NO_FFMPEG = (
    "An MP4 needs ffmpeg, which is not on this machine. GIF and PNG work without. To add it: `pip install imageio-ffmpeg`."
)


def draw(order: Order) -> None:
    """Draw the button, beside it how far the export is that the URL names, and below it what became of that."""
    row = st.container(horizontal=True, vertical_alignment="center")
    with row:
        _button(order)
    blocks.problems(state.fault(NAME), "Nothing was exported")
    key = state.chosen("export")
    if key is None:
        return
    was = fetch.export(key)

    def body() -> None:
        """The live part."""
        now = fetch.export(key)
        state.settle(was.state, now.state)
        _on_its_way(now)

    if was.state in ACTIVE:
        with row:
            state.live(body, busy=True)
    else:
        _over(was)


def take(export: Export, label: str, key: str, **more: Any) -> None:
    """Draw the button that takes the file of a finished export away."""
    if export.order and export.about:
        ending = export.about.format
        st.download_button(
            label, data=functools.partial(fetch.export_bytes, export.key), file_name=f"{file_name(export.order)}.{ending}",
            mime=MIMES[ending], key=key, on_click="ignore", **more,
        )  # fmt: skip


def about(made: About, seconds: float) -> str:
    """Say what a file is: ``MP4, 1280 × 720, 12 s, 340 KiB``. ``seconds``: how long it plays."""
    parts = [FORMATS[made.format], f"{made.width} × {made.height}"]
    parts += [] if made.format == "png" else [f"{seconds:.0f} s"]
    return ", ".join([*parts, words.size(made.bytes / 2**20)])


def seconds_of(order: Order) -> float:
    """Return how long the file of an order plays, seconds."""
    return order.options.seconds(len(order.epochs))


def file_name(order: Order) -> str:
    """Return a name for the file on the reader's disk, without its ending: of plain letters, whatever the title is."""
    plain = re.sub(r"[^a-z0-9]+", "-", f"{order.title} {order.subtitle}".lower()).strip("-")
    return f"race-{plain}"[:80].rstrip("-") if plain else "race"


# ---- the button ---------------------------------------------------------------------------------------------------------------


def _button(order: Order) -> None:
    format_ = order.options.format
    if not who.may("export"):
        st.caption("Files cannot be exported on this server. On a machine of your own they can.")
        return
    if format_ == "mp4" and not fetch.has_ffmpeg():
        st.info(NO_FFMPEG, icon=":material/info:")
        return
    faults = bounds.faults(order)
    blocks.problems(faults, "This cannot be exported")
    expected = fetch.export_estimate(order)
    label = f"Export {FORMATS[format_]} (about {words.duration(max(1.0, expected.seconds))}, {_roughly(expected.mib)})"
    act = functools.partial(_ask, order)
    st.button(
        label, type="primary", icon=":material/movie:", key="export-race", on_click=state.attempt, args=(act, NAME),
        disabled=bool(faults),
    )  # fmt: skip


def _roughly(mib: float) -> str:
    return f"{mib:.{0 if mib > 1.95 else 1}f} MiB" if mib >= 0.1 else words.size(mib)


def _ask(order: Order) -> None:
    st.query_params["export"] = actions_kept.export_race(order)


# ---- what became of it --------------------------------------------------------------------------------------------------------


def _over(export: Export) -> None:
    if export.state == "failed":
        blocks.problems(export.problems, "The export failed")
    elif export.state == "done":
        _made(export)
    else:
        blocks.problems([Problem("export", export.key, "an export listed below", "open one of them, or export again")],
                        "This export is not here (any more)")  # fmt: skip


def _on_its_way(export: Export) -> None:
    with st.container(horizontal=True, vertical_alignment="center"):
        st.progress(export.share if export.step == "draw" else float(export.step == "finish"), text=_sentence(export))
        if not who.may("stop-export", actions_kept.asker_of(export)):
            return
        if st.button("Stop", icon=":material/stop:", key="stop-export", width="content"):
            actions_kept.stop_export(export.key)
            st.query_params.pop("export", None)
            st.rerun(scope="app")


def _sentence(export: Export) -> str:
    if export.state == "waiting":
        ahead = (export.position or 1) - 1
        return "Waiting for its turn" + (f", {words.count(ahead, 'export')} before it" if ahead else ", the next one")
    share = f", {100 * export.share:.0f} %" if export.step == "draw" else ""
    left = "" if export.left_s is None else f", about {words.duration(max(1.0, export.left_s))} left"
    return f"{STEPS.get(export.step, 'Drawing')}{share}{left}"


def _made(export: Export) -> None:
    made, order = export.about, export.order
    if made is None or order is None:
        return
    content = fetch.export_bytes(export.key)
    alt = f"{order.title}, {order.subtitle}"
    with st.container(border=True):
        if made.format == "mp4":
            own = export.asked_by(who.person().asker)  # moves by itself where it was asked for, not where a link leads to it
            st.video(content, format=MIMES["mp4"], loop=True, muted=True, autoplay=own, alt=alt)
        else:
            st.image(content, alt=alt, width="stretch")
        with st.container(horizontal=True, vertical_alignment="center"):
            take(export, f"Download {FORMATS[made.format]}", "take-export", icon=":material/download:")
            if export.poster and made.format != "png":
                st.download_button(
                    "Last frame (PNG)", data=functools.partial(fetch.export_poster, export.key), mime=MIMES["png"],
                    file_name=f"{file_name(order)}-last.png", key="take-last", on_click="ignore", icon=":material/image:",
                )  # fmt: skip
        frames = "" if made.format == "png" else f", {words.count(made.frames, 'frame')}"
        blocks.note(f"{about(made, seconds_of(order))}{frames}, drawn in {words.duration(max(1.0, made.seconds))}.")
