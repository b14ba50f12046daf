"""Tags and notes on the pages: shown and changed on a run's page, given to many runs at once, found by their tag."""

from __future__ import annotations

from streamlit.testing.v1 import AppTest

from kdengine import labels
from kdengine.home import Home
from kdengine.labels import Labels
from kdengine.rundir import RunDir
from tests.pages.conftest import Visit
from tests.pages.seed import Seeded


def of(home: Home, run_id: str) -> Labels:
    return labels.read(RunDir(home.runs / run_id))


def opened(app: AppTest, box: str) -> AppTest:
    app.session_state[box] = True
    return app.run()


def press(app: AppTest, label: str) -> AppTest:
    return [button for button in app.button if button.label == label][-1].click().run()


def select(app: AppTest, *places: int) -> AppTest:
    app.session_state["runs-table"] = {"selection": {"rows": list(places), "columns": [], "cells": []}}
    return app.run()


def test_a_runs_tags_and_note_are_shown_and_changed(visit: Visit, home: Home, seeded: Seeded) -> None:
    run_id = seeded.finished[0]
    labels.write(RunDir(home.runs / run_id), tags=["first"], note="*as typed*\nsecond line")
    app = opened(visit("run", run=run_id), "labels")
    shown = "\n".join(e.value for e in app.markdown)
    assert "first" in shown and "\\*as typed\\*  \nsecond line" in shown
    assert app.multiselect[0].value == ["first"] and app.text_area[0].value == "*as typed*\nsecond line"
    app.multiselect[0].set_value(["first", "new.one"])
    app.text_area[0].input("better")
    app = press(app, "Save")
    assert not app.exception and not app.error
    assert of(home, run_id) == Labels(("first", "new.one"), "better")
    assert "new.one" in "\n".join(e.value for e in app.markdown), "the store has taken it in at once"


def test_what_is_wrong_is_said_and_nothing_written(visit: Visit, home: Home, seeded: Seeded) -> None:
    run_id = seeded.finished[0]
    app = opened(visit("run", run=run_id), "labels")
    app.multiselect[0].set_value(["two words", "-dash"])
    app = press(app, "Save")
    assert not app.exception and len(app.error) == 1
    assert "tags.0" in app.error[0].value and "tags.1" in app.error[0].value
    assert of(home, run_id) == Labels()


def test_many_runs_are_tagged_at_once(visit: Visit, home: Home, seeded: Seeded) -> None:
    labels.write(RunDir(home.runs / seeded.finished[-1]), tags=["old"], note="stays")
    app = opened(select(visit("runs"), 0, 1), "tag-runs")
    picked = app.dataframe[0].value["Run"].tolist()[:2]
    assert seeded.finished[-1] in picked
    by_label = {m.label: m for m in app.multiselect}
    assert by_label["Take away"].options == ["old"]
    by_label["Add"].set_value(["good"])
    by_label["Take away"].set_value(["old"])
    app = press(app, "Tag 2 runs")
    assert not app.exception and not app.error
    assert [of(home, run_id).tags for run_id in picked] == [("good",), ("good",)]
    assert of(home, seeded.finished[-1]).note == "stays"
    assert sum(list(tags) == ["good"] for tags in app.dataframe[0].value["Tags"]) == 2


def test_a_bad_tag_touches_no_run(visit: Visit, home: Home, seeded: Seeded) -> None:
    app = opened(select(visit("runs"), 0, 1), "tag-runs")
    next(m for m in app.multiselect if m.label == "Add").set_value(["fine", "not fine"])
    app = press(app, "Tag 2 runs")
    assert "not fine" in app.error[0].value
    assert all(of(home, run_id) == Labels() for run_id in seeded.finished)


def test_runs_are_found_by_their_tag_in_the_url(visit: Visit, home: Home, seeded: Seeded) -> None:
    labels.write(RunDir(home.runs / seeded.finished[2]), tags=["mine"], note="a note")
    app = visit("runs", tag="mine")
    assert app.dataframe[0].value["Run"].tolist() == [seeded.finished[2]]
    assert app.dataframe[0].value["Note"].tolist() == ["a note"]
    app = visit("runs", tag="mien")
    assert len(app.dataframe[0].value) == 13 and "did you mean mine?" in app.error[0].value
