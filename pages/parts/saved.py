"""Saved views: keep what is chosen on a page under a name, open what somebody kept, copy the exact link.

Reads: the page's URL, the home's views. Writes: the home's views, when asked, through ``actions_kept``. Never: what a view shows.
"""

from __future__ import annotations

import functools
import html
from collections.abc import Callable, Iterable
from urllib.parse import urlencode

import streamlit as st

from kdengine import views
from kdengine.errors import KdError, Problem
from kdengine.views import View
from pages.parts import actions_kept, pulse, state, who

RENAMING = "-renaming"  # after the name of a place in the session: the view whose new name is being typed there
LONGEST = 6000  # characters after the "?" that browsers and proxies take; a longer view is opened by its name
PACKED = 200  # characters without a blank from which a value was not written by a person
NAMED = 60  # characters of a name, see kdengine.views
Show = Callable[[Iterable[Problem], str], None]


@st.fragment
def draw(title: str, show: Show) -> None:
    """Draw the button of the page's views; what it opens is drawn, and asked of the disk, only while it is open.

    ``title``: of the page, the beginning of the name that is offered; ``show(problems, title)`` shows what went wrong.
    """
    box = st.popover(
        "Views", icon=":material/bookmark:", type="tertiary", key="views", on_change="rerun",
        help="Save what is chosen on this page, open a saved view, copy the link",
    )  # fmt: skip
    if not box.open:
        return
    with box:
        chosen = {name: st.query_params.get_all(name) for name in st.query_params}
        show(state.fault("views"), "Nothing was changed")
        try:
            held = views.load(pulse.of().home)
        except KdError as error:
            show(error.problems, "Saved views cannot be shown")
        else:
            save(name_for(title, chosen), urlencode(chosen, doseq=True), "views", "Save this view")
            st.markdown("**Saved views**" if held else ":gray[Views that are saved are listed here, for everybody.]")
            listed(held, "views")
        st.markdown("**Link to this view**")
        st.code(link(state.page(), urlencode(chosen, doseq=True)), language=None, wrap_lines=True)


def link(page: str, query: str) -> str:
    """Return the address of a page with what is chosen on it, at the host the browser sees."""
    base = (st.context.url or "").removesuffix(state.page()).removesuffix("/")
    return f"{base}/{page}" + (f"?{query}" if query else "")


def name_for(title: str, chosen: dict[str, list[str]]) -> str:
    """Return a name to begin with: the page and what is chosen on it, ``Compare: demo, test_loss``."""
    legible = (value for values in chosen.values() for value in values if value and (len(value) < PACKED or " " in value))
    said = ", ".join(legible)
    name = _tidy("".join(c for c in f"{title}: {said}" if c.isprintable())) if said else title
    return name if len(name) <= NAMED else name[: NAMED - 1].rstrip() + "…"


def _tidy(name: str) -> str:
    return " ".join(name.split())


def save(name: str, query: str, place: str, label: str, act: Callable[[str], None] | None = None) -> None:
    """Draw the form that keeps ``query`` of this page, ``name`` to begin with, for who may save; a fault is left for
    ``state.fault(place)``.

    ``place``: a name of this form and of the list beside it, one per page; ``label``: of its button; ``act``: is given the name
    and does something else than to keep ``query``.
    """
    if not who.may("save-view"):
        return
    key = f"{place}-name-{query}"
    with st.form(f"save-{key}", border=False):
        st.text_input("Name", name, max_chars=NAMED, key=key)
        usual = functools.partial(keep, state.page(), query)
        st.form_submit_button(
            label, icon=":material/bookmark_add:", width="stretch", on_click=state.attempt,
            args=(functools.partial(_named, key, act or usual), place),
        )  # fmt: skip


def listed(held: Iterable[View], place: str) -> None:
    """Draw saved views, one line each: its link, and what renames or deletes it. ``place``: as in ``save``."""
    for view in held:
        with st.container(horizontal=True, vertical_alignment="center", gap="small"):
            # a link of the browser, not of Streamlit: inside the session a page would keep what the view does not name
            href, name = html.escape(address(view)), html.escape(view.name)
            st.html(f'<a href="{href}" target="_self" style="color: inherit">{name}</a>', width="stretch")
            key, changes = f"{place}-edit-{view.name}", who.may("change-view", view.owner)
            if changes:
                st.menu_button(
                    "Edit", ["Rename", "Delete"], type="tertiary", key=key, help=f"Rename or delete {view.name}",
                    on_click=state.attempt, args=(functools.partial(_edited, view.name, place, key), place),
                )  # fmt: skip
        if changes and st.session_state.get(place + RENAMING) == view.name:
            with st.form(f"{place}-rename-{view.name}", border=False):
                st.text_input("New name", view.name, max_chars=NAMED, key=f"{place}-new-name-{view.name}")
                act = functools.partial(_renamed, view.name, place)
                st.form_submit_button("Rename", on_click=state.attempt, args=(act, place))


def address(view: View) -> str:
    """Return the address of a saved view."""
    return link(view.page, view.query if len(view.query) <= LONGEST else urlencode({"saved": view.name}))


def keep(page: str, query: str, name: str) -> None:
    """Keep a view under a name.

    Raises:
        KdError: see ``actions_kept.save_view``.
    """
    actions_kept.save_view(name, page, query)


def _named(key: str, act: Callable[[str], None]) -> None:
    act(_tidy(st.session_state[key]))


def _edited(name: str, place: str, key: str) -> None:
    if st.session_state[key] == "Delete":
        actions_kept.delete_view(name)
    else:
        st.session_state[place + RENAMING] = name


def _renamed(name: str, place: str) -> None:
    actions_kept.rename_view(name, _tidy(st.session_state[f"{place}-new-name-{name}"]))
    del st.session_state[place + RENAMING]
