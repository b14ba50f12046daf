"""The tab with the teacher and student.

Reads: what was chosen. Writes: nothing. Never: the store itself.
"""

from __future__ import annotations

import streamlit as st

from pages.parts.compare.selection import Chosen


def draw(chosen: Chosen) -> None:
    """Say what will be here."""
    st.markdown("Nothing to show here yet.")
