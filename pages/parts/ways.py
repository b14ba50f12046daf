"""The ways on from the first page: three or four doors, for who trains, who reads, and who looks at a demo.

Reads: who asks. Writes: nothing. Never: results.
"""

from __future__ import annotations

from dataclasses import dataclass, field

import streamlit as st

from pages.parts import demo, who


@dataclass(frozen=True, slots=True)
class Way:
    """A page to go to: what it is called there, what one does there, and with what it opens."""

    page: str
    label: str
    icon: str
    sentence: str
    query: dict[str, str] = field(default_factory=dict)


RUNS = Way("pages/runs.py", "Watch the runs", ":material/list:", "See what is running and queued; stop, resume or repeat it.")
COMPARE = Way(
    "pages/compare.py", "Compare methods", ":material/stacked_line_chart:",
    "Lay curves over one another, with their spread over seeds.",
)  # fmt: skip
METHODS = Way(
    "pages/methods.py", "Learn the methods", ":material/school:", "What is copied from whom, in words, pictures and formulas."
)
TRAINING = (
    Way("pages/train.py", "Train a student", ":material/play_arrow:",
        "Choose how it learns, from whom and on which images, and launch it."),
    RUNS,
    COMPARE,
)  # fmt: skip
READING = (
    METHODS,
    Way(RUNS.page, RUNS.label, RUNS.icon, "See what is running and queued, and how each run learns."),
    COMPARE,
)
LOOKING = (
    METHODS,
    Way(COMPARE.page, COMPARE.label, COMPARE.icon, "Which is better, by how much, and is it more than luck?", {"tab": "ranking"}),
    Way("pages/race.py", "Watch them race", ":material/flag:", "Bars that overtake one another, epoch by epoch."),
    Way("pages/sql.py", "Ask in SQL", ":material/database:", "Any question to the results, with examples to begin from."),
)


def draw() -> None:
    """Draw the doors that fit who asks."""
    ways = LOOKING if demo.on() else TRAINING if who.may("launch") else READING
    for column, way in zip(st.columns(len(ways)), ways, strict=True):
        with column.container(border=True, height="stretch"):
            st.page_link(way.page, label=f"**{way.label}**", icon=way.icon, query_params=way.query)
            st.markdown(f":gray[{way.sentence}]")
