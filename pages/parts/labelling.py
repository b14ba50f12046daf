"""Tags and notes of runs: shown, changed, given to many at once.

Reads: rows of the store. Writes: labels, through ``actions_kept``. Never: specs; the store's tables themselves.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import pandas as pd
import streamlit as st

from kdengine.spec import RunSpec
from pages.parts import actions_kept, blocks, fetch, state, who, words

RULE = "Letters, digits and _ - . : without blanks; type a new one or choose"
LONGEST = next(m.max_length for m in RunSpec.model_fields["note"].metadata if hasattr(m, "max_length"))


def line(row: dict[str, Any]) -> None:
    """Draw a run's tags and note, and the button that changes them."""
    tags, note = list(row["tags"]), row["note"] or ""
    with st.container(horizontal=True, vertical_alignment="center", gap="small"):
        for tag in tags:
            st.badge(tag, color="gray", icon=":material/label:")
        if who.may("label", None if words.missing(row["owner"]) else str(row["owner"])):
            _edit(str(row["run_id"]), tags, note)
    if note:
        st.markdown(words.escaped(note).replace("\n", "  \n"))
    _faults()


def tag_all(picked: pd.DataFrame) -> None:
    """Draw the button that gives the selected runs tags, and takes tags from them."""
    ids = list(picked["run_id"])
    box = st.popover(f"Tag {words.count(len(ids), 'run')}", icon=":material/label:", key="tag-runs", on_change="rerun")
    if box.open:
        held = sorted({tag for tags in picked["tags"] for tag in tags})
        with box, st.form("tag-runs-form", border=False):
            _tags("Add", fetch.ask("choices")["tag"], [], "tags-to-add")
            st.multiselect("Take away", held, key="tags-to-remove", placeholder="no tag" if held else "these runs have none")
            st.form_submit_button(f"Tag {words.count(len(ids), 'run')}", on_click=_try, args=(lambda: _tag(ids),))
    _faults()


def _edit(run_id: str, tags: list[str], note: str) -> None:
    label = "Tags and note" if tags or note else "Add tags or a note"
    box = st.popover(label, icon=":material/edit_note:", type="tertiary", key="labels", on_change="rerun")
    if box.open:
        place = f"{run_id}-{hash((*tags, note))}"  # changed elsewhere: begin from there
        with box, st.form(f"labels-{place}", border=False):
            _tags("Tags", fetch.ask("choices")["tag"], tags, f"tags-{place}")
            st.text_area("Note", note, max_chars=LONGEST, key=f"note-{place}", placeholder="What should be known about this run")
            st.form_submit_button("Save", on_click=_try, args=(lambda: _label(run_id, place),))


def _tags(label: str, known: Sequence[str], chosen: list[str], key: str) -> None:
    st.multiselect(label, sorted({*known, *chosen}), chosen, key=key, accept_new_options=True, help=RULE, placeholder="no tag")


def _label(run_id: str, place: str) -> None:
    actions_kept.label(run_id, st.session_state[f"tags-{place}"], st.session_state[f"note-{place}"])


def _tag(ids: list[str]) -> None:
    actions_kept.tag(ids, st.session_state["tags-to-add"], st.session_state["tags-to-remove"])


def _try(act: Callable[[], None]) -> None:
    state.attempt(act, "labels")


def _faults() -> None:
    blocks.problems(state.fault("labels"), "The labels are not saved")
