"""Where a statement is written: the editor with its completion, a plain field in its place, and the tables beside it.

Reads: the scripts, styles and the bundle beside this file; what columns mean. Writes: nothing. Never: the results, SQL text.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import cache
from pathlib import Path
from typing import Any

import streamlit as st

from store import dialect
from store.columns import COLUMNS, TABLES

HERE = Path(__file__).parent
LABEL = "SQL statement"
LINES = (6, 24)  # of text: the least and the greatest height of the editor
LINE_PX = 24


def _component(name: str) -> Any:
    parts = {kind: (HERE / f"{name}.{kind}").read_text(encoding="utf-8") for kind in ("html", "css", "js")}
    return st.components.v2.component(f"sql_{name}", **parts)


_desk = _component("desk")
_schema = _component("schema")
# 390 KB in a component of its own, whose message never changes: it is sent once to a browser, not with each change of the text
_bundle = st.components.v2.component("sql_bundle", js=(HERE / "editor/codemirror.js").read_text(encoding="utf-8"))


def load() -> None:
    """Send the browser what the editor is made of."""
    _bundle(key="sql-bundle", data=vocabulary(), height=1)


def write(text: str, stamp: int, fault: dict[str, Any] | None, changed: Callable[[], None], run: Callable[[], None]) -> None:
    """Draw the editor with ``text``; a text with the same ``stamp`` is not put again over what somebody writes.

    ``fault``: line (from 1), start and end (characters, from 0) of what to mark; ``key``: which fault it is. ``changed`` is
    called when the text was left, ``run`` when it is to be run; what the editor said is in the session under ``sql-desk``.
    """
    data = {"text": text, "stamp": stamp, "fault": fault, "label": LABEL}
    _desk(key="sql-desk", data=data, on_text_change=changed, on_run_change=run)


def write_plain(changed: Callable[[], None]) -> None:
    """Draw a plain field in place of the editor; its text is in the session under ``sql-plain``."""
    lines = st.session_state["sql-plain"].count("\n") + 2
    height = LINE_PX * max(LINES[0], min(LINES[1], lines))
    st.html("<style>.st-key-sql-plain textarea {font-family: ui-monospace, 'DejaVu Sans Mono', monospace}</style>")
    st.text_area(LABEL, key="sql-plain", height=height, on_change=changed, label_visibility="collapsed")


def browse(rows: Mapping[str, int], pick: Callable[[], None]) -> None:
    """Draw the tables with their columns; ``rows``: table -> rows. A name that is pressed goes into the editor by itself, else
    ``pick`` is called and finds it in the session under ``sql-schema``."""
    _schema(key="sql-schema", data={"tables": schema(rows)}, on_pick_change=pick)


def schema(rows: Mapping[str, int]) -> list[dict[str, Any]]:
    """Return the tables as the browser takes them: name, meaning, rows (None where unknown), columns with unit and meaning."""
    return [
        {"name": name, "meaning": TABLES[name], "rows": rows.get(name), "columns": [
            {"name": column, "unit": unit, "meaning": meaning} for column, (unit, meaning) in columns.items()
        ]}
        for name, columns in COLUMNS.items()
    ]  # fmt: skip


@cache
def vocabulary() -> dict[str, Any]:
    """Return what the editor completes: tables with columns, keywords, types, functions."""
    functions = [{"name": name, "call": call, "meaning": meaning} for name, (call, meaning) in dialect.FUNCTIONS.items()]
    return {"tables": schema({}), "keywords": dialect.KEYWORDS, "types": dialect.TYPES, "functions": functions}
