"""Saved views on the pages: what is chosen is kept under a name, listed on every page, opened by an exact link."""

from __future__ import annotations

import pytest
from streamlit.testing.v1 import AppTest

from kdengine import views
from kdengine.home import Home
from pages.parts import saved
from tests.pages.conftest import Visit
from tests.pages.seed import Seeded


def opened(visit: Visit, page: str, **query: str | list[str]) -> AppTest:
    """A page with the box of its views open."""
    app = visit(page, **query)
    app.session_state["views"] = True
    return app.run()


def field(app: AppTest, label: str):  # type: ignore[no-untyped-def]
    return next(text for text in app.text_input if text.label == label)


def press(app: AppTest, label: str) -> AppTest:
    return next(button for button in app.button if button.label == label).click().run()


def links(app: AppTest) -> str:
    return "\n".join(element.proto.body for element in app.get("html"))


def test_the_box_costs_nothing_while_it_is_closed(visit: Visit, seeded: Seeded) -> None:
    app = visit("compare", suite="demo")
    assert not [button for button in app.button if button.label == "Save this view"]


@pytest.mark.parametrize("page", ["home", "train", "runs", "run", "compare"])
def test_every_page_saves_what_is_chosen_on_it(visit: Visit, home: Home, seeded: Seeded, page: str) -> None:
    query = {"run": seeded.finished[0]} if page == "run" else {"suite": "demo"}
    app = opened(visit, page, **query)
    assert field(app, "Name").value.endswith(": " + next(iter(query.values()))[:20]) or page == "run"
    field(app, "Name").input("mine")
    press(app, "Save this view")
    assert not app.exception and not app.error
    (view,) = views.load(home)
    assert (view.name, view.page or "home", view.chosen()) == ("mine", page, {k: [v] for k, v in query.items()})
    assert f"{view.page}?{view.query}" in links(app) and "mine" in links(app)


def test_a_view_chosen_by_hand_opens_as_it_was(visit: Visit, home: Home, live: Seeded) -> None:
    app = opened(visit, "compare")
    app.selectbox(key="suite-choice").select("demo").run()
    field(app, "Name").input("the demo")
    press(app, "Save this view")
    (view,) = views.load(home)
    again = visit(view.page, **view.chosen())
    assert again.selectbox(key="suite-choice").value == "demo"


def test_faults_are_said_in_the_box(visit: Visit, home: Home, seeded: Seeded) -> None:
    views.save(home, "taken", "runs")
    app = opened(visit, "runs")
    field(app, "Name").input("TAKEN")
    press(app, "Save this view")
    assert not app.exception and "a name that no other view has" in app.error[0].value
    (home.root / "views.json").write_text("{")
    app = opened(visit, "runs")
    assert not app.exception and "cannot be read" in app.error[0].value
    assert app.code, "the link is there all the same"


def test_a_name_is_no_markup(visit: Visit, home: Home, seeded: Seeded) -> None:
    views.save(home, '<img src=x onerror="x()"> & "co"', "compare", "suite=%22%3E%3Cb%3E&x=1")
    body = links(opened(visit, "runs"))
    assert "<img" not in body and '"><b' not in body and "&lt;img" in body and "suite=%22%3E%3Cb%3E&amp;x=1" in body


def test_rename_and_delete(visit: Visit, home: Home, seeded: Seeded) -> None:
    views.save(home, "old", "runs")
    app = opened(visit, "runs")
    app.session_state["views-renaming"] = "old"
    app.run()
    field(app, "New name").input("new")
    press(app, "Rename")
    assert [view.name for view in views.load(home)] == ["new"] and "new" in links(app)


def test_names_to_begin_with_are_allowed(home: Home) -> None:
    for number, chosen in enumerate(({}, {"ids": ["x" * 50, "y"]}, {"q": ["a\nb\u202e"], "e": [""]}, {"t": ["→ "]})):
        name = saved.name_for("A title", chosen)
        assert views.save(home, name, f"p{number}").name == name
    assert saved.name_for("SQL", {"z": ["eNo" * 100], "chart": ["bar"]}) == "SQL: bar"
    assert saved.name_for("Compare", {"suite": ["demo"], "x": ["epoch"]}) == "Compare: demo, epoch"
