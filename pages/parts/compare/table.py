"""The tab with the table: methods by dataset and pair, gains in signs and colour, the literature, what is missing, exports.

Reads: ``store.compare.pivot`` through ``findings``; requests of runs. Writes: the URL; runs, when the button asks for them.
Never: statistics.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

import pandas as pd
import streamlit as st

from pages.parts import actions, blocks, fetch, state, tables, who, words
from pages.parts.compare import findings, grid, missing
from pages.parts.compare.selection import Chosen
from store.compare.pivot import Pivot
from store.export import tables as export

ROW_PX, HEAD_PX, MOST_PX = 35, 38, 1000
FILES = {"csv": ("CSV", "text/csv"), "parquet": ("Parquet", "application/vnd.apache.parquet"),
         "tex": ("LaTeX", "application/x-tex"), "md": ("Markdown", "text/markdown")}  # fmt: skip


def draw(chosen: Chosen) -> None:
    """Draw the table, what it means, what is missing, and how to take it away."""
    with st.container(horizontal=True, vertical_alignment="bottom"):
        delta = state.choice(st.segmented_control, "Difference to", grid.DELTAS, name="delta", default="to_base", required=True)
        pivot = _pivot(chosen, delta)
        if pivot.cells.empty:
            st.markdown("No run has finished yet; the table holds finished runs.")
            return
        _take_away(pivot, delta)
    wide = tables.fitting(pivot.rows["name"])
    _grid(grid.grid(pivot, delta), len(pivot.rows), wide, "pivot")
    blocks.note(export.about(pivot, "to_published" if delta == "to_published" else "mean"), _legend(pivot, delta))
    _missing(chosen, pivot)
    box = blocks.drawer("Every number of every cell, published ones with source and link", "cells")
    if box is not None:
        with box:
            _grid(grid.details(pivot), int((~pivot.cells["missing"]).sum()), wide, "cells")


def _pivot(chosen: Chosen, delta: str) -> Pivot:
    published = fetch.ask("published")
    found: Pivot = findings.of("pivot.pivot", chosen.ids, chosen.which, published=published)
    if delta != "to_published" or len(found.sources) < 2:
        return found
    titles = {source: f"{source} ({words.count(n, 'cell')})" for source, n in found.sources}
    source = state.choice(st.selectbox, "Published by", titles, name="source", default=found.source, width=280)
    found = findings.of("pivot.pivot", chosen.ids, chosen.which, published=published, source=source)
    return found


def _grid(shown: grid.Table, rows: int, width: int, key: str) -> None:
    """Draw a table of ``rows`` rows as wide as what is in it; the methods, ``width`` pixels, stay in view."""
    config = {name: blocks.KINDS[column.kind](column) for name, column in shown.columns.items()}
    config["Method"] = st.column_config.TextColumn(pinned=True, width=width, help=shown.columns["Method"].meaning)
    if "Link" in shown.columns:
        config["Link"] = st.column_config.LinkColumn(display_text="open")
    height = min(MOST_PX, HEAD_PX + ROW_PX * rows)
    st.dataframe(
        shown.frame, column_config=config, hide_index=True, key=key, height=height, width="content", placeholder=grid.NOTHING
    )  # fmt: skip


def _legend(pivot: Pivot, delta: str) -> str:
    if delta == "to_published":
        return "" if pivot.source else "Nothing is published here for these methods, networks and data."
    behind = "Behind it: points of percent above the student alone." if delta == "to_base" else ""
    return (
        behind if pivot.cells["coloured"].any() else f"{behind} No cell differs from the student alone by more than seed noise."
    )


def _take_away(pivot: Pivot, delta: str) -> None:
    with st.popover("Take away", icon=":material/download:"):
        for ending, (title, mime) in FILES.items():
            _button(f"{title}, accuracies", f"table.{ending}", mime, partial(_file, pivot, ending, "mean"))
            if ending in ("tex", "md") and delta != "none":
                text = f"{title}, differences to {grid.DELTAS[delta].lower()}"
                _button(text, f"differences.{ending}", mime, partial(_file, pivot, ending, delta))


def _button(label: str, name: str, mime: str, data: Callable[[], bytes]) -> None:
    st.download_button(label, data=data, file_name=name, mime=mime, on_click="ignore", key=f"take-{name}", width="stretch")


def _file(pivot: Pivot, ending: str, show: str) -> bytes:
    if ending in ("csv", "parquet"):
        return {"csv": export.csv, "parquet": export.parquet}[ending](pivot)
    return {"tex": export.latex, "md": export.markdown}[ending](pivot, show).encode()


def _missing(chosen: Chosen, pivot: Pivot) -> None:
    free, under_way = grid.gaps(pivot)
    if len(under_way):
        st.caption(f"…: {words.count(len(under_way), 'cell')} whose runs are under way or broke off.")
    if free.empty:
        return
    where = [f"{name} on {column}" for name, column in zip(free["name"], free["column"], strict=True)]
    shown = where[:5] + ([f"{len(where) - 5} more"] if len(where) > 5 else [])
    st.markdown(f"**Missing:** {words.listed(shown)}.")
    runs = sum(len(missing.seeds_of(pivot.cells, column)) for column in free["column"])
    label = f"Train what is missing ({words.count(runs, 'run')}, {_time(chosen, runs)})"
    if actions.pending(missing.KEY):
        st.button("Queueing runs …", key="train-missing", disabled=True, icon=":material/hourglass_top:")
    elif who.may("launch") and st.button(label, key="train-missing", icon=":material/play_arrow:"):
        missing.launch(missing.specs(free, pivot.cells, lambda run_id: fetch.folder(run_id).read_request().spec, chosen.suite))
        st.rerun()


def _time(chosen: Chosen, runs: int) -> str:
    """Guess how long runs like these take on the free slots."""
    typical = pd.to_numeric(chosen.results["elapsed_s"]).median()
    return words.roughly(runs * (float(typical) + fetch.plan.START_S) / fetch.slots())
