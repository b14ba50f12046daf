"""The pages of the app in their groups, and the care that none is ever shown outside the frame.

Reads: the URL, two pictures. Writes: nothing. Never: results, run folders, torch.
"""

from __future__ import annotations

from pathlib import Path

import streamlit as st
from streamlit.navigation.page import StreamlitPage

HERE = Path(__file__).parent
_up = False  # whether this process has called st.navigation


def navigation() -> StreamlitPage:
    """Draw title, logo and navigation, and return the page that the URL asks for."""
    global _up
    # a picture of our own: for a page's icon as the tab's picture Streamlit would ask a foreign host
    st.set_page_config(page_title="KD Explorer", page_icon=HERE / "icon.svg", layout="wide")
    st.logo(HERE / "logo.svg", size="large", icon_image=HERE / "icon.svg")
    page = st.navigation(
        {
            "Learn": [
                st.Page("pages/home.py", title="Home", icon=":material/home:", default=True),
                st.Page("pages/methods.py", title="Methods", icon=":material/school:"),
                st.Page("pages/about_networks_data.py", title="Networks and data", icon=":material/account_tree:"),
            ],
            "Run": [
                st.Page("pages/train.py", title="Train", icon=":material/play_arrow:"),
                st.Page("pages/runs.py", title="Runs", icon=":material/list:"),
                st.Page("pages/run.py", title="Run", icon=":material/monitoring:", visibility="hidden"),
            ],
            "Compare": [
                st.Page("pages/compare.py", title="Compare", icon=":material/stacked_line_chart:"),
                st.Page("pages/race.py", title="Race", icon=":material/flag:"),
            ],
        },
        expanded=True,
    )
    _up = True
    return page


def ensure() -> None:
    """Start over inside the frame if this page was run by itself.

    Until st.navigation was called once in a process, Streamlit takes a folder ``pages`` for an app of the old kind and runs
    the file that the URL names without app.py: a link would be the first thing that a fresh server shows, bare.
    """
    if not _up:
        navigation()
        st.rerun()
