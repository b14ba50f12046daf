"""The page of one method: idea, story, picture and formula first; then results, knobs, source and citation, each when opened.

Reads: the light catalogue; the method's own file (which loads torch) where knobs or source are asked for; the store through
``fetch``. Writes: nothing. Never: a run.
"""

from __future__ import annotations

import inspect
from pathlib import Path
from typing import Any

import streamlit as st

from kdengine.catalogue import Label
from pages.parts import blocks, charts, fetch, tables, words
from pages.parts.learn import diagram, evidence, reading, wall

SECTIONS = ("Results", "Knobs", "Source", "Cite")
ROOT = Path(__file__).resolve().parents[3]


def head(label: Label) -> None:
    """Draw what the method is in a line, and what can be done with it."""
    known = wall.measured()
    plain, meaning = words.FIDELITY.get(label.fidelity, (label.fidelity, ""))
    with st.container(horizontal=True, vertical_alignment="center"):
        if st.button("Train with this method", type="primary", icon=":material/play_arrow:", key="train-this"):
            st.switch_page("pages/train.py", query_params={"method": label.key})
        if st.button("Compare it with others", icon=":material/stacked_line_chart:", key="compare-this"):
            keys = [label.key, *evidence.plain_methods()]
            st.switch_page("pages/compare.py", query_params={"suite": "*", "method": list(dict.fromkeys(keys))})
    st.html(wall.summary(label, known))
    if label.fidelity == "abstract":
        st.info(f"{plain[0].upper()}{plain[1:]}: {meaning}.", icon=":material/info:")


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
    """Draw the sections below; only the open one is filled."""
    drawn = {"Results": results, "Knobs": knobs, "Source": source, "Cite": cite}
    for tab, name in zip(st.tabs(list(SECTIONS), on_change="rerun", key="tab", bind="query-params"), SECTIONS, strict=True):
        if tab.open:
            with tab:
                drawn[name](label)


def results(label: Label) -> None:
    """Draw what was measured here, then what was published, then the newest runs."""
    rows = fetch.runs(method=(label.key,), limit=10)
    compared = fetch.runs(method=tuple({label.key, *evidence.plain_methods()}), status="finished")
    mine = evidence.own(fetch.ask("results", tuple(compared["run_id"])), label.key)
    st.subheader("Measured here", anchor=False)
    if mine.empty:
        st.markdown("Nothing has been measured here yet. Train a student this way, and its accuracy will stand here.")
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


def knobs(label: Label) -> None:
    """Draw the table of knobs."""
    from kdengine import methods

    shown = evidence.knobs_table(methods.get(label.key).params.model_json_schema())
    if len(shown):
        st.table(shown)
        blocks.note("Set them on the train page, or with --set NAME=VALUE on the command line.")
    else:
        st.markdown("This method has nothing to set.")


def source(label: Label) -> None:
    """Draw the code that computes the loss, as it runs here, and where it differs from others'."""
    from kdengine import methods

    entry = methods.get(label.key)
    st.subheader("Where it differs from the paper and from other codes", anchor=False)
    st.markdown(reading.prose(label.said.get("Differs", "Nothing is said.")))
    st.subheader("The code of its loss", anchor=False)
    for part in (*entry.losses, entry.method.loss):
        code, where = reading.code_of(part, ROOT)
        st.caption(where)
        st.code(code, language="python")
    whole = blocks.drawer(f"The whole file, {label.file}", "whole-file")
    if whole:
        with whole:
            st.code(inspect.getsource(inspect.getmodule(entry.method)), language="python", line_numbers=True)  # type: ignore[arg-type]


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
