"""The methods: a wall of cards, and a page for each that explains it, shows what it reached and launches it.

Reads: the catalogue, the store. Writes: nothing.
"""

from __future__ import annotations

import streamlit as st

from kdengine import catalogue, errors
from kdengine.catalogue import Label
from pages.parts import blocks, frame, state, words
from pages.parts.learn import method, wall


def every() -> None:
    """Draw the wall."""
    n = words.count(len(catalogue.labels()), "way")
    blocks.say("Methods", f"{n} to train a student. A card says what is copied from whom; open it to see how.")


def one(label: Label) -> None:
    """Draw the page of one method."""
    st.page_link(wall.HERE, label="All methods", icon=":material/arrow_back:", query_params=wall.kept())
    blocks.say(label.title, label.one_line)
    method.head(label)
    st.space("small")
    method.story(label)
    st.space("small")
    method.picture_and_formula(label)
    st.space("small")
    method.sections(label)


frame.ensure()
asked = state.chosen("method")
if asked in catalogue.labels():
    one(catalogue.label_of(asked))
else:
    every()
    if asked:
        blocks.problems([errors.unknown("method", asked, list(catalogue.labels()), field="method")], "There is no such method")
    wall.draw()
