"""Frame and router of KD Explorer: ``streamlit run app.py``.

Reads: the URL. Writes: nothing. Never: results, run folders, torch.
"""

from __future__ import annotations

from pathlib import Path

import streamlit as st

from kdengine.errors import KdError
from pages.parts import blocks, pulse

PARTS = Path(__file__).parent / "pages/parts"
st.set_page_config(page_title="KD Explorer", page_icon=PARTS / "icon.svg", layout="wide")
st.logo(PARTS / "logo.svg", size="large", icon_image=PARTS / "icon.svg")

PAGES = {
    "Learn": [st.Page("pages/home.py", title="Home", icon=":material/home:", default=True)],
    "Run": [
        st.Page("pages/train.py", title="Train", icon=":material/play_arrow:"),
        st.Page("pages/runs.py", title="Runs", icon=":material/list:"),
        st.Page("pages/run.py", title="Run", icon=":material/monitoring:", visibility="hidden"),
    ],
    "Compare": [st.Page("pages/compare.py", title="Compare", icon=":material/stacked_line_chart:")],
}

page = st.navigation(PAGES, expanded=True)
with st.container(width=blocks.WIDTH):
    try:
        pulse.of()
        pulse.warm_up()
        page.run()
    except KdError as error:
        blocks.problems(error.problems, "This page cannot be shown")
