"""The diagram of a method says what its card says, in a picture that fits both themes and a phone."""

from __future__ import annotations

import re
from dataclasses import replace
from xml.etree import ElementTree

import pytest

from kdengine.catalogue import Label, labels
from pages.parts.learn import diagram
from store.export.colours import style_of

KEYS = list(labels())


def texts(label: Label) -> list[str]:
    return [element.text or "" for element in ElementTree.fromstring(diagram.draw(label)).iter("text")]


def signs(label: Label) -> int:
    return texts(label).count("≈")


@pytest.mark.parametrize("key", KEYS)
def test_every_diagram_is_one_line_of_svg_that_fits_both_themes(key: str) -> None:
    drawn = diagram.draw(labels()[key])
    root = ElementTree.fromstring(drawn)
    assert "\n" not in drawn and root.get("role") == "img" and len(root.get("aria-label", "")) > 40
    _, _, width, height = (float(v) for v in root.get("viewBox", "").split())
    assert width <= 400, "a phone would shrink its text"
    colours = set(re.findall(r"#[0-9a-f]{6}", drawn))
    assert colours <= {style_of(key).colour, "#ffffff"}, "all else takes the colour of the page's text"
    for element in root.iter():
        x, y = float(element.get("x", 0)), float(element.get("y", 0))
        assert 0 <= x <= width and 0 <= y <= height
    assert all(float(t.get("font-size", 0)) >= 12 for t in root.iter("text"))


@pytest.mark.parametrize("key", KEYS)
def test_what_is_compared_is_drawn_in_the_colour_of_the_method(key: str) -> None:
    label = labels()[key]
    boxes = [r for r in ElementTree.fromstring(diagram.draw(label)).iter("rect") if r.get("stroke") == style_of(key).colour]
    single, inner = label.matched & {"stem", "embedding", "logits", "input_gradients"}, label.matched & set(diagram.INNER)
    assert len(boxes) == 2 * (len(single) + 3 * bool(inner))
    answers = 2 if label.peers else 1
    assert signs(label) == len(label.matched) + answers


def test_teacher_peers_generations_and_none() -> None:
    assert {"teacher", "student", "trained before, frozen"} <= set(texts(Label("x", "x")))
    assert "learns along" in texts(Label("x", "x", teacher_mode="trained"))
    peers = Label("x", "x", teacher_mode="none", peers=True)
    assert {"peer", "student", "learns too"} <= set(texts(peers)) and texts(peers).count("label") == 2
    heads = diagram.draw(peers).count("<polygon") - diagram.draw(Label("x", "x")).count("<polygon")
    assert heads == 2, "one more at the comparison, one at the second label"
    chain = texts(Label("x", "x", chain=True))
    assert {"earlier generation", "next generation", "then the next generation becomes the teacher"} <= set(chain)
    alone = texts(Label("x", "x", teacher_mode="none"))
    assert "teacher" not in alone and alone.count("answer") == 1


def test_gradients_views_memory_and_phases() -> None:
    label = Label("x", "x", teacher_mode="graph")
    assert "stroke-dasharray" in diagram.draw(label) and "stroke-dasharray" not in diagram.draw(
        replace(label, teacher_mode="frozen")
    )
    gradients = replace(label, needs=frozenset({"logits", "input_gradients"}))
    assert texts(gradients).count("gradient") == 2 and diagram.draw(gradients).count("stroke-dasharray") == 2
    assert "image, two views" in texts(replace(label, needs=frozenset({"logits", "views"})))
    memory = replace(label, needs=frozenset({"logits", "embedding", "index"}))
    assert "kept for all images" in texts(memory)
    assert "phases: init → main" in texts(replace(label, phases=("init", "main")))


def test_words_for_those_who_cannot_see_it() -> None:
    assert "the student learns from the teacher's embeddings" in diagram.describe(Label("x", "x", needs=frozenset({"embedding"})))
    assert "one network" in diagram.describe(Label("x", "x", teacher_mode="none"))
