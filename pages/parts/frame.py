"""The pages of the app in their groups, for each role its own; and the care that none is ever shown outside the frame.

Reads: the URL, two pictures, who asks. Writes: nothing. Never: results, run folders, torch.
"""

from __future__ import annotations

from pathlib import Path

import streamlit as st
from streamlit.navigation.page import StreamlitPage

from pages.parts import entrance, who

HERE = Path(__file__).parent
FILES = {
    "Learn": (
        ("home", "Home", ":material/home:", "read"),
        ("methods", "Methods", ":material/school:", "read"),
        ("about_networks_data", "Networks and data", ":material/account_tree:", "read"),
    ),
    "Run": (
        ("train", "Train", ":material/play_arrow:", "launch"),
        ("runs", "Runs", ":material/list:", "read"),
        ("run", "Run", ":material/monitoring:", "read"),
        ("server", "Server", ":material/dns:", "server"),
    ),
    "Compare": (
        ("compare", "Compare", ":material/stacked_line_chart:", "read"),
        ("race", "Race", ":material/flag:", "read"),
    ),
    "Query": (("sql", "SQL", ":material/database:", "ask"),),
}  # group -> file, title, icon, the action that the page is for
HIDDEN = ("run",)  # reached from others
_up = False  # whether this process has called st.navigation


def navigation() -> StreamlitPage:
    """Draw title, logo, navigation and who is signed in, and return the page that the URL asks for.

    Pages for which who asks lacks the role are not in the list; at their address stands whom they are for. Whoever may not read
    finds one page at every address.
    """
    global _up
    # a picture of our own: for a page's icon as the tab's picture Streamlit would ask a foreign host
    st.set_page_config(page_title="KD Explorer", page_icon=HERE / "icon.svg", layout="wide")
    st.logo(HERE / "logo.svg", size="large", icon_image=HERE / "icon.svg")
    closed = entrance.closed()
    if closed:
        addresses = [name for group in FILES.values() for name, *_ in group if name != "home"]
        others = [st.Page(closed, title="KD Explorer", url_path=name, visibility="hidden") for name in addresses]
        page = st.navigation([st.Page(closed, title="KD Explorer", default=True), *others], position="hidden")
    else:
        page = st.navigation({title: _pages(group) for title, group in FILES.items()}, expanded=True)
    _up = True
    if not closed:
        entrance.card()
    return page


def _pages(group: tuple[tuple[str, str, str, str], ...]) -> list[StreamlitPage]:
    return [
        st.Page(
            f"pages/{name}.py", title=title, icon=icon, default=name == "home",
            visibility="hidden" if name in HIDDEN else "visible",
        ) if who.may(action) else st.Page(entrance.refused(title, action), title=title, url_path=name, visibility="hidden")
        for name, title, icon, action in group
    ]  # fmt: skip


def ensure(needs: str = "read") -> None:
    """Start over inside the frame if this page was run by itself, or is not for who asks; ``needs``: the action it is for.

    Until st.navigation was called once in a process, Streamlit takes a folder ``pages`` for an app of the old kind and runs
    the file that the URL names without app.py: a link would be the first thing that a fresh server shows, bare.
    """
    if not _up or entrance.closed():
        navigation()
        st.rerun()
    who.demand(needs)
