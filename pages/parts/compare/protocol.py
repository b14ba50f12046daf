"""The guard above the tabs: a line that counts what the runs compared do not have in common, and opens to name it.

Reads: ``store.compare.guard`` through ``findings``. Writes: nothing. Never: hides a difference.
"""

from __future__ import annotations

from typing import Any

import streamlit as st

from pages.parts import blocks, words
from pages.parts.compare import findings
from pages.parts.compare.selection import Chosen


def draw(chosen: Chosen) -> None:
    """Draw the line; what differs is listed while it is open."""
    found = findings.of("guard.differences", chosen.ids, chosen.which)
    if not found:
        st.caption("All these runs were trained alike but for their method and seed.")
        return
    strong = sum(difference.severity.endswith("result") for difference in found)
    mark = ":material/warning:" if strong else ":material/info:"
    box = blocks.drawer(f"{mark} {words.count(len(found), 'protocol difference')} among these runs", "protocol")
    if box is None:
        return
    with box:
        for severity in dict.fromkeys(difference.severity for difference in found):
            lines = [line(difference) for difference in found if difference.severity == severity]
            st.markdown(f"**{severity[0].upper()}{severity[1:]}**\n" + "\n".join(lines))
        blocks.note("A method's own knobs are what is compared; they are no difference of protocol.")


def line(difference: Any) -> str:
    """Return one difference as a line of a list: what differs, then each value, who has it, how many runs."""
    values = [f"{value.text}: {shortened(value.groups)} ({words.count(value.runs, 'run')})" for value in difference.values]
    return f"- {difference.title}, {difference.dataset}. {'; '.join(values)}"


def shortened(names: tuple[str, ...], most: int = 6) -> str:
    """Join names, at most ``most`` of them."""
    return words.listed([*names[:most], f"{len(names) - most} more"] if len(names) > most else list(names))
