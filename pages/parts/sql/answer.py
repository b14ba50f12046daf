"""The answer to a question: how it stands, its table, and how to take it away.

Reads: the question it is given. Writes: nothing. Never: changes the frame, which all who look share; the store.
"""

from __future__ import annotations

import functools
import re
from collections.abc import Callable
from datetime import UTC, datetime
from typing import Any
from urllib.parse import urlencode

import pandas as pd
import streamlit as st

from pages.parts import saved, words
from pages.parts.sql import asking, links
from pages.parts.sql.axes import percent
from store.columns import COLUMNS
from store.export import tables as export
from store.questions import Question

RUN_ID = re.compile(r"\d{8}-\d{6}-[\w-]+")
MANY, HEAVY = 50_000, 2 << 20  # cells, bytes: a larger table is sent to the browser piece by piece, as it is looked at
LONGEST_CELL = 2_000  # characters: a browser stands still over one text of megabytes
ROW_PX, HEAD_PX, MOST_ROWS_SHOWN = 35, 38, 12
FILES: dict[str, tuple[str, str, Callable[[pd.DataFrame], bytes]]] = {
    "csv": ("CSV", "text/csv", export.csv),
    "parquet": ("Parquet", "application/vnd.apache.parquet", export.parquet),
    "json": ("JSON", "application/json", export.json),
}
ABOUT_CSV = "In CSV a text that a spreadsheet would take for a formula gets a ' in front; Parquet and JSON keep it as it is."
TIME = "YYYY-MM-DD HH:mm:ss"
# column name ends with -> how its numbers are written
FORMATS = {"_frac": "%.2f %%", "_s": "%.2f s", "_mib": "%.0f MiB"}


def stand(found: Question) -> str:
    """Say how a question stands: ``24 rows in 0.11 s, results as of 3 s ago``."""
    if found.state == "waiting":
        before = found.position - 1
        return "Next in the queue" if before < 1 else f"Waiting: {words.count(before, 'question')} before this one"
    if found.state == "running":
        return f"Running: {found.took_s:.1f} s of {found.limit_s:g} s"
    if found.frame is None:
        return ""
    rows = f"The first {len(found.frame):,} rows" if found.cut else words.count(len(found.frame), "row")
    age = f", results as of {since(found.snapshot_at)}" if found.snapshot_at else ""
    return f"**{rows}** in {found.took_s:.2f} s{age}"


def since(moment: datetime, now: datetime | None = None) -> str:
    """Write how long ago a moment was, in seconds where it was less than a minute."""
    seconds = ((now or datetime.now(UTC)) - moment).total_seconds()
    return f"{max(0, round(seconds))} s ago" if seconds < 60 else words.ago(moment, now)


def table(found: Question) -> None:
    """Draw the rows; where some numbers are written in percent or with a unit, a switch shows them as they are stored."""
    frame = found.frame
    assert frame is not None
    names = [str(name) for name in frame]
    about = "Fractions from 0 to 1 instead of percent, all digits, no units"
    raw = len(frame) > 0 and any(map(form_of, names)) and st.toggle("Numbers as stored", key="sql-raw", help=about)
    shown, config, cut = _prepared(found.key, raw, saved.link("run", "run="), frame)
    large = frame.size > MANY or int(shown.memory_usage().sum()) > HEAVY
    st.dataframe(
        shown, column_config=config, hide_index=True, key="sql-table", placeholder="–", lazy=large or None,
        height=HEAD_PX + ROW_PX * min(MOST_ROWS_SHOWN, max(1, len(frame))) + 2,
        alt=f"The answer: {words.count(len(frame), 'row')} with {', '.join(names)}",
    )  # fmt: skip
    if cut:
        st.caption(f"{words.listed(cut)}: texts end here after {LONGEST_CELL:,} characters. Files have them whole.")


@st.cache_resource(max_entries=20, show_spinner=False)
def _prepared(key: str, raw: bool, base: str, _frame: pd.DataFrame) -> tuple[pd.DataFrame, dict[str, Any], list[str]]:
    """Return the rows as they are shown, how each column is written, and the columns whose long texts are cut."""
    shown, config, cut = _frame.copy(deep=False), {}, []
    for name in _frame:
        values, config[str(name)] = _column(_frame[name], raw, base)
        shown[name] = _short(values)
        if not shown[name].equals(values):
            cut.append(words.verbatim(str(name)))
    return shown, config, cut


def _short(values: pd.Series) -> pd.Series:
    """Return a column with its long texts cut."""
    if pd.api.types.is_numeric_dtype(values) or pd.api.types.is_datetime64_any_dtype(values):
        return values
    long = values.str.len().fillna(0) > LONGEST_CELL
    return values.where(~long, values.str.slice(0, LONGEST_CELL) + "…") if long.any() else values


def _column(values: pd.Series, raw: bool, base: str) -> tuple[pd.Series, Any]:
    name = str(values.name)
    about = meaning(name)
    if pd.api.types.is_datetime64_any_dtype(values):
        return values, st.column_config.DatetimeColumn(help=f"{about} UTC".strip(), format=TIME)
    if pd.api.types.is_bool_dtype(values):
        return values, st.column_config.CheckboxColumn(help=about)
    if pd.api.types.is_numeric_dtype(values):
        usual = "plain" if raw or pd.api.types.is_integer_dtype(values) else "%.5g"
        own = "" if raw else form_of(name)
        return values * 100 if own and percent(name) else values, st.column_config.NumberColumn(help=about, format=own or usual)
    if is_run(values):
        links = values.map(lambda run_id: base + run_id, na_action="ignore")
        return links, st.column_config.LinkColumn(help=f"{about} Opens the run.".strip(), display_text=r"run=([^&]+)$")
    if not isinstance(values.dtype, pd.StringDtype):  # lists, structs, values of several kinds
        values = pd.Series([_told(v) for v in values], index=values.index, dtype=object)
    return values, st.column_config.TextColumn(help=about)


def _told(value: Any) -> str | None:
    """Return a value without a column type of its own as text: lists joined by commas, structs as JSON."""
    if isinstance(value, list) and not any(isinstance(item, (list, dict)) for item in value):
        return ", ".join(map(str, value))
    return None if words.missing(value) else export.text_of(value)


def form_of(name: str) -> str:
    """Return how the numbers of a column are written, after its name; "" = as numbers are."""
    return next((form for ending, form in FORMATS.items() if name.endswith(ending) and not name.endswith("_per_s")), "")


def meaning(name: str) -> str:
    """Return what a column of ours means; "" for a name that the statement made."""
    unit, text = next((columns[name] for columns in COLUMNS.values() if name in columns), ("", ""))
    return f"{text[:1].upper()}{text[1:]}{f' ({unit})' if unit else ''}." if text else ""


def is_run(values: pd.Series) -> bool:
    """Say whether a column holds names of runs."""
    known = values.dropna()
    return len(known) > 0 and all(isinstance(value, str) and RUN_ID.fullmatch(value) for value in known)


def take_away(found: Question) -> None:
    """Draw the button with the files of the answer and its link."""
    frame = found.frame
    assert frame is not None
    with st.popover("Take away", icon=":material/download:"):
        for ending, (title, mime, write) in FILES.items():
            st.download_button(
                f"{title}, {words.count(len(frame), 'row')}", data=functools.partial(write, frame), file_name=f"answer.{ending}",
                mime=mime, on_click="ignore", key=f"take-{ending}", width="stretch",
            )  # fmt: skip
        st.caption(ABOUT_CSV)
        st.markdown("**Link to this question**")
        chosen = {name: values for name in asking.PARAMETERS if (values := st.query_params.get_all(name))}
        if set(chosen) & set(links.NAMES):
            st.code(saved.link(links.PAGE, urlencode(chosen, doseq=True)), language=None, wrap_lines=True)
        else:
            st.caption("It is too long for a link. Saved under a name, below, it has one.")


def waiting(found: Question) -> None:
    """Draw how a question stands that is not answered yet, and the way to give it up."""
    with st.container(horizontal=True, vertical_alignment="center"):
        st.markdown(f":material/hourglass_top: {stand(found)}", width="content")
        st.button("Cancel", key="cancel-question", icon=":material/stop:", on_click=asking.give_up)
