"""The SQL page: what a link asks, what an answer shows, how faults are mended, and what is kept for later."""

from __future__ import annotations

import io
import json
import random
import time
from collections.abc import Callable
from types import SimpleNamespace
from typing import Any
from urllib.parse import parse_qs, urlencode

import pandas as pd
import pytest
from streamlit.testing.v1 import AppTest

from kdengine import access, views
from kdengine.errors import KdError, Problem
from kdengine.home import Home
from pages.parts import pulse, who
from pages.parts.sql import answer, asking, editor, gallery, links, mending
from store.columns import COLUMNS
from store.db import Store
from store.examples import EXAMPLES
from store.export import tables as export
from store.questions import Question
from tests.pages.conftest import Visit
from tests.pages.seed import Seeded

WORST = "SELECT count(*) FROM range(1000000) a, range(1000000) b"
LONG = "SELECT 1 AS n -- " + " ".join(f"{i * 7919 % 99991:x}" for i in range(3000))  # does not pack well


def data_of(app: AppTest, name: str) -> dict[str, Any]:
    """What a component of the page was given."""
    found = next(e.proto for e in app.get("bidi_component") if e.proto.component_name == f"sql_{name}")
    return dict(json.loads(found.json))


def said(app: AppTest) -> str:
    """What the page says in words."""
    return "\n".join(e.value for kind in (app.markdown, app.caption, app.error, app.info) for e in kind)


def press(app: AppTest, label: str) -> AppTest:
    return next(b for b in app.button if b.label == label).click().run()


def in_link(app: AppTest, name: str) -> str | None:
    """What the URL says: a list where a test put it there, a text where the page did."""
    if name not in app.query_params:
        return None
    value = app.query_params[name]
    return value[0] if isinstance(value, list) else value


def until(app: AppTest, done: Callable[[], bool]) -> None:
    """Look at the page again until it shows something; the browser would."""
    end = time.monotonic() + 20
    while not done():
        assert time.monotonic() < end, said(app)
        time.sleep(0.1)
        app.run()


def asked(visit: Visit, sql: str, **more: str) -> AppTest:
    """The page as a link opens it, answered."""
    app = visit("sql", **(links.packed(sql) | more))
    until(app, lambda: not any(b.key == "cancel-question" for b in app.button))
    return app


# ---- nothing asked ---------------------------------------------------------------------------------------------------------


def test_an_empty_home_can_be_asked_about_the_literature(visit: Visit) -> None:
    app = visit("sql")
    assert not app.exception and "`published` has results of the literature" in said(app)
    sizes = {table["name"]: table["rows"] for table in data_of(app, "schema")["tables"]}
    assert sizes["runs"] == 0 and sizes["published"] > 700
    app = asked(visit, "SELECT count(*) AS n FROM published")
    assert app.dataframe[0].value["n"].tolist() == [sizes["published"]]


def test_nothing_is_asked_before_somebody_asks(visit: Visit, seeded: Seeded) -> None:
    app = visit("sql")
    assert not app.dataframe and data_of(app, "desk")["text"] == EXAMPLES[0].sql
    assert len(app.get("page_link")) >= len(EXAMPLES)


def test_every_column_is_explained_in_browser_and_editor() -> None:
    for tables in (editor.schema({}), editor.vocabulary()["tables"]):
        found = {t["name"]: {c["name"]: (c["unit"], c["meaning"]) for c in t["columns"]} for t in tables}
        assert found == COLUMNS and all(t["meaning"] for t in tables)


def test_the_bundle_is_made_of_its_sources_and_small() -> None:
    import hashlib

    folder = editor.HERE / "editor"
    names = ["package-lock.json", *sorted(f"src/{path.name}" for path in (folder / "src").iterdir())]
    told = hashlib.sha256(b"".join((folder / name).read_bytes() for name in names)).hexdigest()
    bundle = (folder / "codemirror.js").read_bytes()
    assert told.encode() in bundle[:300], "npm run build in pages/parts/sql/editor"
    assert len(bundle) < 450_000 and b"http://" not in bundle.replace(b"http://www.w3.org/", b"")
    assert "Permission is hereby granted" in (folder / "LICENCES.txt").read_text()


# ---- an answer -------------------------------------------------------------------------------------------------------------


def test_a_link_shows_the_query_and_asks_it_once(visit: Visit, home: Home, seeded: Seeded) -> None:
    sql = "SELECT run_id, method, best_top1_frac, epoch FROM best WHERE method = 'kd' ORDER BY ALL"
    app = asked(visit, sql)
    assert not app.exception and not app.error
    assert data_of(app, "desk")["text"] == sql
    with Store.open(home) as store:
        store.take_in()
        expected = store.frame(sql)
    shown = app.dataframe[0].value
    assert shown["best_top1_frac"].tolist() == pytest.approx((100 * expected["best_top1_frac"]).tolist()), "in percent"
    assert shown["run_id"].tolist() == [f"/run?run={run_id}" for run_id in expected["run_id"]]
    assert f"**{len(expected)} rows** in" in said(app) and "s ago" in said(app)
    first = app.session_state["sql-page"].key
    app.run()
    assert app.session_state["sql-page"].key == first, "asked a second time"
    app.toggle(key="sql-raw").set_value(True).run()
    assert app.dataframe[0].value["best_top1_frac"].tolist() == pytest.approx(expected["best_top1_frac"].tolist())


def test_the_examples_are_answered_and_drawn(visit: Visit, live: Seeded) -> None:
    app = visit("sql")
    for example in EXAMPLES:
        for name in ("q", "chart", "x", "y", "colour"):
            app.query_params.pop(name, None)
        for name, value in gallery.query(example).items():
            app.query_params[name] = value
        app.run()
        until(app, lambda: bool(app.dataframe))
        assert not app.exception and not app.error and not app.info, example.key
        assert len(app.dataframe[0].value), example.key
        (chart,) = app.get("plotly_chart")
        assert json.loads(chart.proto.spec)["data"], example.key
        assert app.session_state["sql-page"].text == example.sql


def test_rows_that_are_left_out_are_told(visit: Visit, seeded: Seeded) -> None:
    app = asked(visit, "SELECT a.range AS n FROM range(100000) a")
    assert "**The first 10,000 rows** in" in said(app) and "There is more" in said(app)
    assert len(app.dataframe[0].value) == 10_000


def test_odd_values_are_shown(visit: Visit, seeded: Seeded) -> None:
    sql = """SELECT 1 AS n, 2 AS n, NULL AS nothing, [1, 2] AS l, {'a': ['x']} AS s, '=1+1' AS f, 'é<b>' AS "a b", true AS t,
        170141183460469231731687303715884105727::HUGEINT AS big, TIMESTAMP '2026-01-01 10:00' AS at, 'a'::BLOB AS blob,
        INTERVAL 3 DAY AS span, 0.5::DECIMAL(4, 2) AS d, MAP {'k': 1} AS m, 'nan'::DOUBLE AS x_frac, uuid() AS u"""
    for chart in ("table", "bar", "heat"):
        app = asked(visit, sql, chart=chart)
        assert not app.exception and len(app.dataframe) == 1, chart
    shown = app.dataframe[0].value.iloc[0]
    assert shown["l"] == "1, 2" and shown["s"] == '{"a": ["x"]}' and shown["f"] == "=1+1"


def test_long_texts_are_cut_in_the_table_and_whole_in_files(visit: Visit, seeded: Seeded) -> None:
    app = asked(
        visit, "SELECT repeat('x', 3_000_000) AS long, 'y' AS short, [repeat('z', 5000)] AS listed, null AS none, true AS b"
    )
    row = app.dataframe[0].value.iloc[0]
    assert (len(row["long"]), len(row["listed"]), row["short"]) == (2001, 2001, "y") and row["long"].endswith("x…")
    assert "`long` and `listed`: texts end here after 2,000 characters" in said(app)
    frame = pulse.of().questions.look(app.session_state["sql-page"].key).frame
    assert frame is not None and len(frame.long[0]) == 3_000_000 and b"x" * 3_000_000 in export.csv(frame)


def test_a_question_that_takes_long_can_be_cancelled(visit: Visit, seeded: Seeded) -> None:
    app = visit("sql", q=WORST)
    assert "Running" in said(app) or "Waiting" in said(app) or "Next" in said(app)
    press(app, "Cancel")
    until(app, lambda: "cancelled before it was answered" in said(app))
    assert not app.exception and not app.error
    kept = pulse.of().questions.look(app.session_state["sql-page"].key)
    assert kept.state == "cancelled"


def test_a_new_question_gives_up_the_one_before(visit: Visit, seeded: Seeded) -> None:
    app = visit("sql", q=WORST)
    first = app.session_state["sql-page"].key
    app.query_params["q"] = "SELECT 1 AS one"
    app.run()
    until(app, lambda: bool(app.dataframe))
    assert pulse.of().questions.look(first).state == "cancelled"
    assert app.dataframe[0].value["one"].tolist() == [1]


def test_what_was_asked_is_still_there_after_another_page(visit: Visit, seeded: Seeded) -> None:
    app = asked(visit, "SELECT 42 AS n", chart="bar")
    key = app.session_state["sql-page"].key
    for name in ("q", "chart"):
        del app.query_params[name]
    app.switch_page("pages/runs.py").run()
    app.switch_page("pages/sql.py").run()
    assert app.dataframe[0].value["n"].tolist() == [42] and app.session_state["sql-page"].key == key
    assert in_link(app, "q") == "SELECT 42 AS n" and in_link(app, "chart") == "bar"


@pytest.mark.parametrize(
    ("state", "more", "words"),
    [
        ("waiting", {"position": 1}, "Next in the queue"),
        ("waiting", {"position": 3}, "Waiting: 2 questions before this one"),
        ("running", {"took_s": 1.25, "limit_s": 5}, "Running: 1.2 s of 5 s"),
        ("failed", {}, ""),
    ],
)
def test_how_a_question_stands(state: Any, more: dict[str, Any], words: str) -> None:
    assert answer.stand(Question("k", state, **more)) == words


# ---- charts ----------------------------------------------------------------------------------------------------------------


def test_one_press_draws_a_chart_and_the_link_says_so(visit: Visit, seeded: Seeded) -> None:
    app = asked(visit, "SELECT method, best_mean_frac, best_std_frac FROM leaderboard")
    assert not app.get("plotly_chart")
    app.segmented_control(key="chart-choice").set_value("bar").run()
    assert len(app.get("plotly_chart")) == 1 and in_link(app, "chart") == "bar"
    assert {s.label: s.value for s in app.selectbox} == {"One bar each": "method", "Length": "best_mean_frac", "Side by side": ""}
    app.selectbox(key="y-choice").set_value("best_std_frac").run()
    assert in_link(app, "y") == "best_std_frac"
    app.segmented_control(key="chart-choice").set_value("scatter").run()
    assert "y" not in app.query_params and not app.exception, "columns are chosen anew for another kind"


def test_a_chart_that_does_not_fit_says_why(visit: Visit, seeded: Seeded) -> None:
    app = asked(visit, "SELECT method FROM best", chart="line")
    assert not app.exception and "need a column of numbers or times" in said(app) and len(app.dataframe) == 1


def test_a_column_that_the_answer_does_not_have_is_told(visit: Visit, seeded: Seeded) -> None:
    app = asked(visit, "SELECT method, best_epoch FROM best", chart="bar", x="metod", y="best_epoch")
    assert "no column metod, which the link names" in said(app).replace("\\", "")
    assert len(app.get("plotly_chart")) == 1 and "x" not in app.query_params


def test_a_chart_kind_that_is_not_offered_is_told(visit: Visit, seeded: Seeded) -> None:
    app = asked(visit, "SELECT 1 AS n", chart="pie")
    assert not app.exception and "pie" in said(app) and len(app.dataframe) == 1


# ---- faults ----------------------------------------------------------------------------------------------------------------


def test_a_misspelt_name_is_marked_and_mended(visit: Visit, seeded: Seeded) -> None:
    app = asked(visit, "\n\nSELECT method,\n    tset_top1_frac\nFROM epochs JOIN runs USING (run_id)")
    assert "column 'tset\\_top1\\_frac'" in said(app) and "did you mean 'test\\_top1\\_frac'" in said(app)
    fault = data_of(app, "desk")["fault"]
    assert (fault["line"], fault["start"], fault["end"]) == (4, 4, 18)
    press(app, "Use 'test_top1_frac'")
    until(app, lambda: bool(app.dataframe))
    assert not app.error and data_of(app, "desk")["fault"] is None
    assert "test_top1_frac" in data_of(app, "desk")["text"] and "test_top1_frac" in str(in_link(app, "q"))


@pytest.mark.parametrize(
    ("sql", "words"),
    [
        ("SELEC 1", "SELEC"),
        ("SELECT * FROM rnus", "table 'rnus'"),
        ("DROP TABLE runs", "allowed"),
        ("SELECT 1; SELECT 2", "one statement"),
        ("SELECT read_text('/etc/passwd')", "allowed"),
        ("   ", "a statement of 0 characters"),
    ],
)
def test_what_cannot_be_asked_says_so_in_three_parts(visit: Visit, seeded: Seeded, sql: str, words: str) -> None:
    app = asked(visit, sql)
    assert not app.exception and len(app.error) == 1 and words in said(app).replace("\\", "") and not app.dataframe


def test_who_may_not_ask_is_told(visit: Visit, seeded: Seeded, monkeypatch: pytest.MonkeyPatch) -> None:
    refused = SimpleNamespace(demand=lambda action: access.demand(who.NOBODY, action))
    monkeypatch.setattr(asking, "who", refused)  # the page itself is not there for them; a question asks again
    app = asked(visit, "SELECT 1")
    assert not app.exception and "asking in SQL, as a visitor" in said(app) and not app.dataframe


@pytest.mark.parametrize(
    ("text", "problem", "marked", "better"),
    [
        (
            "select a\nfrom rnus",
            Problem("sql", "line 2, column 6: table 'rnus'", "runs", "did you mean 'runs'?"),
            (2, 5, 9),
            "select a\nfrom runs",
        ),
        (
            " \n select x",
            Problem("sql", "line 1, column 8: column 'x'\n  select x", "y", "did you mean 'y'?"),
            (2, 8, 9),
            " \n select y",
        ),
        ("select é, bb", Problem("sql", "line 1, column 11: column 'bb'", "b", "did you mean 'b'?"), (1, 10, 12), "select é, b"),
        ('select "a b"', Problem("sql", "line 1, column 8: column 'a b'", "ab", "did you mean 'ab'?"), (1, 7, 12), 'select "ab"'),
        ("select (", Problem("sql", "line 1, column 9: the end", "more", "close it"), (1, 8, 9), None),
        ("select 1", Problem("sql", "a statement that was stopped", "x", "run it again"), None, None),
        ("", Problem("sql", "line 9, column 9: column 'x'", "y", "did you mean 'y'?"), (1, 0, 1), None),
    ],
)
def test_places_of_faults(text: str, problem: Problem, marked: tuple[int, int, int] | None, better: str | None) -> None:
    found = mending.mark(text, [problem])
    assert (None if found is None else (found.line, found.start, found.end)) == marked
    mended = mending.mended(text, [problem])
    assert (mended.text if mended else None) == better


# ---- the link --------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("sql", ["SELECT 1", "é" * 5000, "word " * 1000, EXAMPLES[0].sql * 30, LONG])
def test_a_link_holds_the_statement_whole(sql: str) -> None:
    packed = links.packed(sql)
    again = {name: values[0] for name, values in parse_qs(urlencode(packed)).items()}
    assert links.unpacked(again) == sql
    assert ("q" in packed) == (len(urlencode({"q": sql})) < 4100)
    assert links.fits(sql) == (len(urlencode(packed)) < 6100)


@pytest.mark.parametrize("text", ["x", "eJwrTs1JTS5RMFQAABMZA", "!!!", "e" * 70_000, links.packed("x" * 200_000)["z"], "=="])
def test_a_packed_statement_that_is_none_is_refused(text: str) -> None:
    with pytest.raises(KdError, match="packed by this page"):
        links.unpacked({"z": text})


def test_a_long_statement_is_packed_in_the_link(visit: Visit, seeded: Seeded) -> None:
    sql = "SELECT 7 AS n -- " + "word " * 900
    app = asked(visit, sql)
    assert app.dataframe[0].value["n"].tolist() == [7] and "z" in app.query_params and data_of(app, "desk")["text"] == sql


def test_a_broken_link_is_told_and_the_page_works(visit: Visit, seeded: Seeded) -> None:
    app = visit("sql", z="nonsense")
    assert not app.exception and "a statement packed by this page" in said(app) and not app.dataframe
    press(app, "Run (5 s limit)")
    until(app, lambda: bool(app.dataframe))
    assert not app.error and "z" not in app.query_params and in_link(app, "q") == EXAMPLES[0].sql


# ---- the plain editor ------------------------------------------------------------------------------------------------------


def test_a_plain_field_does_as_well(visit: Visit, seeded: Seeded) -> None:
    app = visit("sql")
    app.toggle(key="sql-plain-wanted").set_value(True).run()
    assert app.text_area(key="sql-plain").value == EXAMPLES[0].sql
    app.text_area(key="sql-plain").input("SELECT count(*) AS n FROM runs")
    press(app, "Run (5 s limit)")
    until(app, lambda: bool(app.dataframe))
    assert app.dataframe[0].value["n"].tolist() == [13]
    app.text_area(key="sql-plain").input("SELECT metod FROM runs")
    press(app, "Run (5 s limit)")
    until(app, lambda: bool(app.error))
    press(app, "Use 'method'")
    until(app, lambda: bool(app.dataframe))
    assert app.text_area(key="sql-plain").value == "SELECT method FROM runs"
    app.toggle(key="sql-plain-wanted").set_value(False).run()
    assert data_of(app, "desk")["text"] == "SELECT method FROM runs"


# ---- saved queries ---------------------------------------------------------------------------------------------------------


def name_field(app: AppTest) -> Any:
    return next(t for t in app.text_input if t.label == "Name")


def test_a_query_is_saved_with_its_chart_and_opened(visit: Visit, home: Home, seeded: Seeded) -> None:
    app = asked(visit, EXAMPLES[0].sql, chart="bar")
    assert name_field(app).value == EXAMPLES[0].title
    name_field(app).input("")
    press(app, "Save this query")
    assert len(app.error) == 1 and not views.load(home), "a query needs a name"
    name_field(app).input("the best")
    press(app, "Save this query")
    assert not app.exception and not app.error
    (view,) = views.load(home)
    assert (view.name, view.page, view.chosen()) == ("the best", "sql", {"q": [EXAMPLES[0].sql], "chart": ["bar"]})
    again = visit("sql", **{name: values[0] for name, values in view.chosen().items()})
    until(again, lambda: bool(again.dataframe))
    assert again.get("plotly_chart") and any("the best" in e.proto.body for e in again.get("html"))


def test_a_query_too_long_for_a_link_is_opened_by_its_name(visit: Visit, home: Home, seeded: Seeded) -> None:
    app = visit("sql")
    app.toggle(key="sql-plain-wanted").set_value(True).run()
    app.text_area(key="sql-plain").input(LONG)
    press(app, "Run (5 s limit)")
    until(app, lambda: bool(app.dataframe))
    assert not {"q", "z", "saved"} & set(app.query_params), "no link can hold it"
    assert "too long for a link of its own" in said(app)
    name_field(app).input("long one")
    press(app, "Save this query")
    (view,) = views.load(home)
    assert any("?saved=long+one" in e.proto.body for e in app.get("html"))
    again = visit("sql", saved="long one", chart="bar")
    until(again, lambda: bool(again.dataframe))
    assert data_of(again, "desk")["text"] == LONG and len(view.query) > 6000


def test_a_query_of_the_greatest_length_can_be_saved(home: Home) -> None:
    sql = "".join(random.Random(1).choices([chr(i) for i in range(33, 127)], k=20_000))
    assert views.save(home, "x", "sql", urlencode(links.packed(sql))).chosen()["z"]


def test_an_unknown_saved_query_is_told(visit: Visit, seeded: Seeded) -> None:
    app = visit("sql", saved="gone")
    assert not app.exception and "a query that is saved here" in said(app)


@pytest.mark.parametrize(
    ("sql", "name"),
    [("-- Who leads?\nSELECT 1", "Who leads?"), ("SELECT\n  1", "SELECT 1"), ("", "Query"), ("x" * 80, "x" * 59 + "…"),
     (EXAMPLES[2].sql, EXAMPLES[2].title)],
)  # fmt: skip
def test_names_to_begin_with(home: Home, sql: str, name: str) -> None:
    assert gallery.name_for(sql) == name and views.save(home, name, "sql").name == name


# ---- what is taken away ----------------------------------------------------------------------------------------------------


def test_the_answer_is_taken_away_as_it_is(visit: Visit, seeded: Seeded) -> None:
    app = asked(visit, "SELECT method, best_top1_frac, '=1+1' AS note FROM best ORDER BY run_id")
    labels = [b.proto.label for b in app.get("download_button")]
    assert labels == ["CSV, 15 rows", "Parquet, 15 rows", "JSON, 15 rows"]
    frame = pulse.of().questions.look(app.session_state["sql-page"].key).frame
    assert frame is not None and frame["best_top1_frac"].max() <= 1
    assert pd.read_parquet(io.BytesIO(export.parquet(frame)))["note"].unique().tolist() == ["=1+1"]
    assert pd.read_csv(io.BytesIO(export.csv(frame)))["note"].unique().tolist() == ["'=1+1"]
    assert json.loads(export.json(frame))[0]["note"] == "=1+1"
