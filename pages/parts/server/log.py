"""The tab on what was done: the audit log, newest first, by person and action.

Reads: the audit log. Writes: nothing.
"""

from __future__ import annotations

import pandas as pd
import streamlit as st

from kdengine import audit
from kdengine.access import ACTIONS
from pages.parts import blocks, pulse, state, tables, words

MOST = 500
COLUMNS = {
    "When (UTC)": tables.Column("text", "when it was asked for"),
    "Who": tables.Column("text", "identity that had signed in; local = without sign-in"),
    "Action": tables.Column("text", "what was asked for"),
    "What": tables.Column("text", "to which thing"),
}


def draw() -> None:
    """Draw the tab."""
    home = pulse.of().home
    newest = audit.read(home, MOST)
    if not newest:
        sentence = "Launches, stops, exports, labels and changes of people will be listed here."
        blocks.empty(sentence, "pages/train.py", "Train a first student")
        return
    with st.container(horizontal=True):
        names = {name: name for name in sorted({line.who for line in newest})}
        who = state.choice(st.selectbox, "Who", {"": "everybody"} | names, name="by", default="", width=260)
        actions = {name: name for name in ACTIONS if name not in ("read", "ask", "server", "use-files")}
        action = state.choice(st.selectbox, "Action", {"": "all"} | actions, name="action", default="", width=200)
    lines = audit.read(home, MOST, who=who, action=action)
    if not lines:
        st.markdown("Nothing of this kind was done.")
        return
    rows = [(line.at[:19].replace("T", " "), line.who, line.action, line.what) for line in lines]
    frame = pd.DataFrame(rows, columns=list(COLUMNS))
    blocks.table(tables.Table(frame, COLUMNS), "audit", height=min(640, 40 + 35 * len(frame)))
    more = f" The newest {MOST} are shown; `python -m kdengine audit --all` prints all." if len(lines) == MOST else ""
    blocks.note(f"{words.count(len(lines), 'line')}.{more}")
