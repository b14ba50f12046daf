"""Questions to begin with: examples, and queries that somebody saved.

Reads: the examples, the saved views of this page. Writes: saved views, when asked. Never: runs a statement.
"""

from __future__ import annotations

from html import escape
from urllib.parse import urlencode

import streamlit as st

from kdengine.errors import KdError
from pages.parts import blocks, saved, state, who, words
from pages.parts.sql import asking, links
from store.examples import EXAMPLES, Example

HERE = "pages/sql.py"
PLACE = "sql-saved"
STYLE = """<style>
[class*="st-key-example-"] {position: relative;}
[class*="st-key-example-"] > div:has(a) {position: static;}
[class*="st-key-example-"] a {background: none; padding: 0; margin: 0;}
[class*="st-key-example-"] a span {white-space: normal;}
[class*="st-key-example-"] a::after {content: ""; position: absolute; inset: 0; border-radius: 6px;}
[class*="st-key-example-"] a:hover::after {background: rgba(128, 136, 150, 0.08);}
[class*="st-key-example-"] a:focus-visible::after {outline: 2px solid currentColor;}
</style>"""
SENTENCE = '<div style="font-size:0.85rem;line-height:1.4;opacity:0.75">{}</div>'


def draw(*, opened: bool) -> None:
    """Draw the examples and the saved queries, below their heads; the examples only where ``opened``, else behind a drawer."""
    if opened:
        st.subheader("Examples", anchor=False)
        examples()
    elif (box := blocks.drawer("Examples", "sql-examples")) is not None:
        with box:
            examples()
    keep()


def examples() -> None:
    """Draw the examples as cards, each a link."""
    st.html(STYLE)
    with st.grid(min_column_width=240, gap="small", key="sql-examples"):
        for example in EXAMPLES:
            with st.container(border=True, height="stretch", gap="xsmall", key=f"example-{example.key}"):
                st.page_link(HERE, label=f"**{example.title}**", query_params=query(example))
                st.html(SENTENCE.format(escape(example.sentence)))


def query(example: Example) -> dict[str, str]:
    """Return the link of an example: its statement and its chart."""
    chart = {name: value for name in asking.CHART if (value := getattr(example, name))}
    return links.packed(example.sql) | chart


@st.fragment
def keep() -> None:
    """Draw the saved queries, and the form that saves the one on the desk; nothing where there are none and nobody may save."""
    now = asking.desk()
    if now.keeping is not None:
        state.attempt(_keep, PLACE)
    blocks.problems(state.fault(PLACE), "Nothing was changed")
    try:
        held = asking.kept()
    except KdError as error:
        blocks.problems(error.problems, "Saved queries cannot be shown")
        return
    if not held and not who.may("save-view"):
        return
    st.subheader("Saved queries", anchor=False)
    left, right = st.columns([2, 1], gap="large")
    with left:
        if not held:
            st.markdown(":gray[Queries that you or others save are listed here.]")
        saved.listed(held, PLACE)
    with right:
        saved.save(name_for(now.text), now.asked or "", PLACE, "Save this query", act=_want)
        if who.may("save-view") and not links.fits(now.text):
            blocks.note(
                f"It is too long for a link of its own ({words.count(len(now.text), 'character')}): saved, it has one by name."
            )


def _want(name: str) -> None:
    asking.desk().keeping = name  # not at once: what is in the editor may be told after this


def _keep() -> None:
    """Keep what is on the desk, with its chart."""
    now = asking.desk()
    name, now.keeping = now.keeping or "", None
    chart = {parameter: values for parameter in asking.CHART if (values := st.query_params.get_all(parameter))}
    saved.keep(links.PAGE, urlencode(links.packed(now.text) | chart, doseq=True), name)


def name_for(sql: str) -> str:
    """Return a name to begin with: the example's, what the first line says where it is a comment, or the first words."""
    known = next((example.title for example in EXAMPLES if example.sql.strip() == sql.strip()), "")
    first = sql.strip().split("\n")[0].removeprefix("--") if sql.strip().startswith("--") else sql
    name = known or " ".join("".join(c if c.isprintable() else " " for c in first).split()) or "Query"
    return name if len(name) <= saved.NAMED else name[: saved.NAMED - 1].rstrip() + "…"
