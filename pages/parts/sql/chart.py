"""The answer as a chart: one press for the kind, columns chosen by themselves and to be changed, all of it in the link.

Reads: the question it is given, the URL. Writes: the URL. Never: figures (``figures`` draws them).
"""

from __future__ import annotations

import pandas as pd
import streamlit as st

from pages.parts import blocks, state
from pages.parts.sql import axes, figures
from pages.parts.sql.axes import Axes, Column, Unfit
from pages.parts.sql.values import Drawn
from store.questions import Question

SHOWN = {"table": "Table", **axes.KINDS}
LABELS = {
    "line": {"x": "Along", "y": "Up", "colour": "One line each"},
    "bar": {"x": "One bar each", "y": "Length", "colour": "Side by side"},
    "scatter": {"x": "Across", "y": "Up", "colour": "Colour"},
    "heat": {"x": "Across", "y": "Down", "colour": "Shade"},
}
NONE = "(nothing)"


def choose_kind() -> str:
    """Draw the choice between the table and the charts, and return it."""
    chosen: str = state.choice(
        st.segmented_control, "Show as", SHOWN, name="chart", default="table", clears=("x", "y", "colour"), required=True,
        label_visibility="collapsed",
    )  # fmt: skip
    return chosen


def draw(found: Question, kind: str) -> None:
    """Draw the answer as a chart of ``kind``, or say why there is none."""
    frame = found.frame
    assert frame is not None
    gone = _drop_unknown(frame)
    try:
        chosen = _choose(_columns(found.key, frame), kind)
        drawn = _drawn(found.key, chosen, frame)
    except Unfit as reason:
        st.info(blocks.escaped(str(reason)), icon=":material/bar_chart_off:")
        return
    blocks.chart(drawn.figure, "sql-chart", alt=drawn.alt)
    blocks.note(*gone, *(blocks.escaped(note) for note in drawn.notes))


@st.cache_resource(max_entries=60, show_spinner=False)
def _columns(key: str, _frame: pd.DataFrame) -> list[Column]:
    return axes.columns(_frame)


@st.cache_resource(max_entries=60, show_spinner=False)
def _drawn(key: str, chosen: Axes, _frame: pd.DataFrame) -> Drawn:
    return figures.draw(_frame, chosen)


def _drop_unknown(frame: pd.DataFrame) -> list[str]:
    """Take columns out of the link that the answer does not have; say so."""
    names = {str(name) for name in frame}
    said = []
    for parameter in ("x", "y", "colour"):
        for name in state.given(parameter):
            if name and name not in names:
                state.put({parameter: []})
                said.append(f"The answer has no column {blocks.escaped(name)}, which the link names; another is drawn.")
    return said


def _choose(columns: list[Column], kind: str) -> Axes:
    """Draw the choice of columns; each that the link does not name is chosen to fit the others.

    Raises:
        Unfit: the answer has no columns for such a chart.
    """
    given = {parameter: values[0] for parameter in ("x", "y", "colour") if (values := state.given(parameter))}
    others = {parameter: {n: v for n, v in given.items() if n != parameter} for parameter in LABELS[kind]}
    usual = {parameter: axes.suggest(columns, kind, **chosen) for parameter, chosen in others.items()}
    names = {column.name: column.name for column in columns}
    found = {}
    for parameter, place in zip(LABELS[kind], st.columns(len(LABELS[kind])), strict=True):
        none = {} if parameter != "colour" or kind == "heat" else {"": NONE}
        with place:
            found[parameter] = state.choice(
                st.selectbox,
                LABELS[kind][parameter],
                {**none, **names},
                name=parameter,
                default=getattr(usual[parameter], parameter),
            )
    return Axes(kind, **found)
