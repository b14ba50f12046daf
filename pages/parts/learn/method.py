"""The page of one method: idea, story, picture and formula first; then results, playground, knobs, source and citation, each
when opened.

Reads: the light catalogue, the text of the method's own file, the store through ``fetch``. Writes: nothing. Never: a run; torch,
but for the playground.
"""

from __future__ import annotations

from typing import Any

import pandas as pd
import streamlit as st

from kdengine import anatomy
from kdengine.catalogue import Label
from pages.parts import blocks, charts, fetch, state, tables, who, words
from pages.parts.compare import selection
from pages.parts.learn import diagram, evidence, reading, wall

SECTIONS = {"results": "Results", "play": "Play with its loss", "knobs": "Knobs", "source": "Source", "cite": "Cite"}
# links that look like buttons
ACTIONS = """<style>
.st-key-method-actions a {border: 1px solid rgba(128, 136, 150, 0.5); border-radius: 6px; padding: 0.35rem 0.9rem;}
</style>"""


def head(label: Label) -> None:
    """Draw what the method is in a line, and the ways on: links, so that the browser's way back leads here again."""
    st.html(wall.summary(label, wall.measured()) + ACTIONS)
    with st.container(horizontal=True, key="method-actions"):
        _train(label)
        keys = dict.fromkeys([label.key, *evidence.plain_methods()])
        st.page_link(
            "pages/compare.py", label="Compare it with others", icon=":material/stacked_line_chart:",
            query_params={"suite": selection.ALL, "method": list(keys)},
        )  # fmt: skip


def _train(label: Label) -> None:
    title = "**Train with this method**"
    if who.may("launch"):
        st.page_link("pages/train.py", label=title, icon=":material/play_arrow:", query_params={"method": label.key})


def story(label: Label) -> None:
    """Draw the three steps and the analogy."""
    with st.grid(3, min_column_width=230, gap="small", key="story"):
        for number, step in enumerate(label.story, 1):
            with st.container(border=True, height="stretch", gap="xsmall"):
                st.markdown(f"**{number}**")
                st.markdown(words.escaped(step))
    if label.analogy:
        st.markdown(f":material/lightbulb: *Think of it like this.* {words.escaped(label.analogy)}")


def picture_and_formula(label: Label) -> None:
    """Draw the diagram beside the formula with its symbols."""
    left, right = st.columns([5, 6], gap="large")
    with left:
        st.subheader("What flows", anchor=False)
        st.markdown(diagram.draw(label), unsafe_allow_html=True)
        st.caption("≈ is a comparison: the loss is small where both sides agree. Training changes only what learns.")
    with right:
        st.subheader("The loss", anchor=False)
        for line in reading.formula_lines(label.formula):
            st.latex(line)
        st.markdown("\n".join(f"- ${sign}$: {meaning}" for sign, meaning in reading.symbols(label.formula)))


def sections(label: Label) -> None:
    """Draw the sections below; only the chosen one is filled."""
    drawn = dict(zip(SECTIONS, (results, play, knobs, source, cite), strict=True))
    name = state.choice(
        st.segmented_control, "Section", SECTIONS, name="show", default="results", required=True, label_visibility="collapsed"
    )
    drawn[name](label)


def play(label: Label) -> None:
    """Draw the playground of its loss."""
    from pages.parts.learn import playground

    playground.draw(label.key)


def results(label: Label) -> None:
    """Draw what was measured here, then what was published, then the newest runs."""
    rows = fetch.runs(method=(label.key,), limit=10)
    mine = _own(fetch.moment(), label.key)
    st.subheader("Measured here", anchor=False)
    if mine.empty:
        st.markdown("Nothing has been measured here yet. Train a student this way, and its accuracy will stand here.")
        _train(label)
    else:
        blocks.chart(
            charts.leaderboard(evidence.board_of(mine, label.key)), "method-board", alt="Accuracy beside labels only", zoom=False
        )
        blocks.table(evidence.own_table(mine), "method-own")
        blocks.note("Test accuracy in percent, best epoch chosen on the test images, mean ± standard deviation over n seeds.",
                    "Labels only: the same student without a teacher, trained most like it.")  # fmt: skip
    _published(label, mine)
    if len(rows):
        st.subheader("Newest runs", anchor=False)
        with st.grid(2, min_column_width=300, gap="xsmall", key="newest-runs"):
            for row in tables.rows(rows):
                blocks.run_line(row)
        st.page_link("pages/runs.py", label="All of its runs", icon=":material/list:", query_params={"method": label.key})


@st.cache_data(max_entries=100, show_spinner=False)
def _own(moment: tuple[str, int], key: str) -> pd.DataFrame:
    """Return a method's own results, see ``evidence.own``; kept for the moment of the store."""
    compared = fetch.runs(method=tuple({key, *evidence.plain_methods()}), status="finished")
    return evidence.own(fetch.ask("results", tuple(compared["run_id"])), key)


def _published(label: Label, mine: Any) -> None:
    st.subheader("Published", anchor=False)
    known = fetch.ask("published")
    known = known[known["method"] == label.key]
    if known.empty:
        st.markdown("No published number of this method is on file.")
        return
    shown = evidence.published_table(known, mine)
    config: dict[str, Any] = {name: st.column_config.TextColumn(help=text) for name, text in evidence.PUBLISHED.items()}
    config["Source"] = st.column_config.LinkColumn(help=evidence.PUBLISHED["Source"], display_text=r"#(.*)$")
    st.dataframe(shown, column_config=config, hide_index=True, key="method-published", height=min(420, 40 + 35 * len(shown)))
    ours = int((shown["Here"] != "–").sum()) if "Here" in shown else 0
    blocks.note(
        f"{words.count(len(shown), 'published number')}.",
        f"{ours} of them on networks and data that were also trained here: compare the recipes before the numbers."
        if ours
        else "None of these networks and datasets was trained here with this method yet.",
    )
    st.page_link(
        "pages/compare.py", label="Replicate a table of the literature", icon=":material/table_chart:",
        query_params={"tab": "replicate"},
    )  # fmt: skip


def knobs(label: Label) -> None:
    """Draw the table of knobs."""
    shown = evidence.knobs_table(anatomy.knobs(label.key))
    if len(shown):
        st.table(shown)
        page = "on the train page, or " if who.may("launch") else ""
        blocks.note(f"They are set when a run is launched: {page}with --set NAME=VALUE on the command line.")
    else:
        st.markdown("This method has nothing to set.")


def source(label: Label) -> None:
    """Draw the code that computes the loss, as it runs here, and where it differs from others'."""
    st.subheader("Where it differs from the paper and from other codes", anchor=False)
    st.markdown(reading.prose(label.said.get("Differs", "Nothing is said.")))
    st.subheader("The code of its loss", anchor=False)
    for piece in anatomy.losses(label.key):
        st.caption(piece.where)
        st.code(piece.text, language="python")
    whole = blocks.drawer(f"The whole file, {label.file}", "whole-file")
    if whole:
        with whole:
            st.code(anatomy.whole(label.key), language="python", line_numbers=True)


def cite(label: Label) -> None:
    """Draw the citation to copy, and the links."""
    st.caption("Plain")
    st.code(label.citation, language=None, wrap_lines=True)
    st.caption("BibTeX")
    st.code(reading.bibtex(label), language="bibtex")
    st.caption("What of it is used here")
    st.markdown(reading.prose(label.said.get("Source", "")))
    for link in label.links:
        st.markdown(f"- <{link}>")
