"""The tab on storage: whose runs take how much, and which of them can go.

Reads: run folders through the storage, exports, the store. Writes: removes runs and exports, through ``actions``.
Never: a file by its name.
"""

from __future__ import annotations

import functools
from datetime import datetime
from typing import Any

import pandas as pd
import streamlit as st

from kdengine import storage
from kdengine.errors import KdError, RunBusy
from pages.parts import actions, actions_kept, blocks, fetch, pulse, state, tables, words
from store.export.race.exports import Export

NAME = "storage"  # of what the buttons do, see ``state.attempt``
SHOWN = 200  # runs, largest first


def draw() -> None:
    """Draw the tab."""
    home = pulse.of().home
    owners, free = storage.usage(home), fetch.free_disk_mib()
    taken, exports = sum(owner.mib for owner in owners), fetch.exports()
    for column, (title, mib) in zip(
        st.columns(3), (("Free on the disk", free), ("Taken by runs", taken), ("Taken by exports", _mib(exports))), strict=True
    ):
        column.metric(title, words.size(mib) if mib else "nothing")
    blocks.problems(state.fault(NAME), "Not everything was removed")
    if not owners:
        blocks.empty("What runs take will be listed here.", "pages/train.py", "Train a first student")
    else:
        blocks.table(_owners(owners), "owners")
        st.subheader("Runs, largest first", anchor=False)
        _runs()
    if exports:
        st.subheader("Exports", anchor=False)
        _exports(exports)


def _owners(owners: list[storage.Taken]) -> tables.Table:
    frame = pd.DataFrame(
        {
            "Owner": [owner.owner or "nobody (launched without sign-in)" for owner in owners],
            "Runs": [owner.runs for owner in owners],
            "Waiting": [owner.waiting for owner in owners],
            "Disk": [words.size(owner.mib) for owner in owners],
            "GPU hours": [round(owner.gpu_hours, 1) for owner in owners],
        }
    )
    return tables.Table(
        frame,
        {
            "Owner": tables.Column("text", "who launched them"),
            "Runs": tables.Column("number", "runs of any status"),
            "Waiting": tables.Column("number", "runs in the queue"),
            "Disk": tables.Column("wide", "all files of the runs"),
            "GPU hours": tables.Column("number", "of runs that trained on a GPU within the last 30 days"),
        },
    )


def _runs() -> None:
    sizes = dict(storage.sizes(pulse.of().home)[:SHOWN])
    rows = fetch.runs(ids=tuple(sizes))
    rows = rows.assign(mib=rows["run_id"].map(sizes) / 2**20).sort_values("mib", ascending=False)
    frame = pd.DataFrame(
        {
            "Size": [words.size(mib) for mib in rows["mib"]],
            "Status": [tables.status_text(status) for status in rows["status"]],
            "Owner": [owner if not words.missing(owner) else "" for owner in rows["owner"]],
            "What": [blocks.run_title(row) for row in tables.rows(rows)],
            "Launched": [words.ago(at) for at in rows["created_at"]],
            "Run": rows["run_id"].to_list(),
        }
    )
    columns = {str(name): tables.RUNS.get(str(name), tables.Column("text")) for name in frame}
    height = min(480, 40 + 35 * len(frame))
    places = blocks.table(tables.Table(frame, columns), "storage-runs", choose=True, height=height)
    picked = rows.iloc[places]
    over = picked[picked["status"].isin(words.OVER)]
    label = f"Remove {words.count(len(over), 'run')} ({words.size(over['mib'].sum())})" if len(over) else "Remove"
    act = functools.partial(_remove, list(over["run_id"]))
    box = st.popover(label, icon=":material/delete:", key="remove-runs", disabled=over.empty)
    with box:
        st.markdown("Curves, weights and logs are deleted. This cannot be taken back.")
        st.button("Remove them", key="remove-runs-now", on_click=state.attempt, args=(act, NAME), width="stretch")
    blocks.note("Only runs that are over can be removed, and none that teaches one on its way.")


def _remove(run_ids: list[str]) -> None:
    """Remove what can be removed, newest first, so that students go before their teachers; then say what was left."""
    left: list[Any] = []
    for run_id in sorted(run_ids, reverse=True):
        try:
            actions.remove_run(run_id)
        except RunBusy as error:
            left += error.problems
    if left:
        raise KdError(*left)


def _exports(exports: list[Export]) -> None:
    for export in exports:
        if export.order and export.about:
            with st.container(border=True, horizontal=True, vertical_alignment="center"):
                made = words.ago(datetime.fromisoformat(export.about.made_at))
                title = f"**{words.escaped(export.order.title or 'Race')}**&ensp;:gray[{words.escaped(export.order.subtitle)}]"
                size = words.size(export.about.bytes / 2**20)
                st.markdown(f"{title}&ensp;:gray[{export.about.format}, {size}, {made}]", width="stretch")
                act = functools.partial(actions_kept.remove_export, export.key)
                st.button("Remove", key=f"remove-{export.key}", type="tertiary", on_click=state.attempt, args=(act, NAME))


def _mib(exports: list[Export]) -> float:
    return sum(export.about.bytes for export in exports if export.about) / 2**20
