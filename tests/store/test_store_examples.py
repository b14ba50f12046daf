"""The examples of free SQL on a finished demo suite, and whether DuckDB knows every word that the editor offers."""

from __future__ import annotations

from collections.abc import Iterator
from unittest.mock import patch

import duckdb
import pytest

from kdengine.home import Home
from store import sandbox
from store.columns import COLUMNS, TABLES
from store.db import Store
from store.dialect import FUNCTIONS, KEYWORDS, TYPES
from store.examples import EXAMPLES, Example
from tests.pages.seed import seed

# what the hints of functions call their arguments -> a value to try them with
NUMBERS = {"x": "1.5", "y": "2", "condition": "true", "text": "'a_b'", "part": "'a'", "pattern": "'(a)'", "list": "[1, 2]"}
OTHERS = {"tags": "['x']", "params": "'{\"T\": 4}'::JSON", "from": "'a'", "to": "'b'"}
MOMENTS = dict.fromkeys(("x", "from", "to"), "TIMESTAMP '2026-01-01'")
OF_MOMENTS = {"date_trunc", "date_diff", "epoch", "strftime"}


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Store]:
    home = Home(tmp_path_factory.mktemp("examples") / "kd").made()
    with patch("os.fsync"):
        seed(home)
    with Store.open(home) as store:
        store.take_in()
        yield store


def test_there_are_enough_of_them_and_each_has_its_own_name() -> None:
    assert len(EXAMPLES) >= 12
    for part in ("key", "title", "sentence", "sql"):
        assert len({getattr(example, part) for example in EXAMPLES}) == len(EXAMPLES)


@pytest.mark.parametrize("example", EXAMPLES, ids=lambda example: example.key)
def test_each_gives_rows_and_the_columns_of_its_chart(finished: Store, example: Example) -> None:
    frame = finished.frame(example.sql)
    assert len(frame)
    assert {example.x, example.y, example.colour} - {""} <= set(frame.columns)
    assert not [name for name in (example.x, example.y) if frame[name].isna().any()]


@pytest.mark.parametrize("example", EXAMPLES, ids=lambda example: example.key)
def test_each_is_formatted_to_be_read(example: Example) -> None:
    lines = example.sql.split("\n")
    assert example.sql.endswith("\n") and max(map(len, lines)) <= 76 and not any(line != line.rstrip() for line in lines)
    assert "SELECT" in example.sql and example.sentence.endswith((".", "?")) and len(example.sentence) < 110


def test_gains_are_those_counted_by_hand(finished: Store) -> None:
    sql = next(example.sql for example in EXAMPLES if example.key == "gain")
    answer = finished.frame(sql).set_index("method")
    best = finished.frame("FROM best").set_index(["method", "seed"])["best_top1_frac"]
    gains = [best["kd", n].max() - best["base", n].min() for n in (0, 1)]  # of seed 0 there is the teacher besides
    assert answer.loc["kd", "gain_mean_frac"] == pytest.approx(sum(gains) / 2) and answer.loc["kd", "n"] == 2


def test_the_sandbox_takes_an_example(finished: Store) -> None:
    finished.publish()
    frame = sandbox.run(EXAMPLES[0].sql, home=finished.home)
    assert frame["method"].tolist()[0] == "kd"


def test_every_table_has_a_line() -> None:
    assert list(TABLES) == list(COLUMNS)


def test_the_database_knows_every_word_that_is_offered() -> None:
    con = duckdb.connect()
    known = {name for (name,) in con.execute("SELECT function_name FROM duckdb_functions()").fetchall()}
    grammar = {name.upper() for (name,) in con.execute("SELECT keyword_name FROM duckdb_keywords()").fetchall()}
    forms = {"coalesce", "nullif", "unnest"}  # written like functions, and part of the grammar
    assert set(FUNCTIONS) - known - forms == set()
    assert {word for words in KEYWORDS for word in words.split()} - grammar == set()
    for name in TYPES:
        con.execute(
            f"SELECT NULL::{'STRUCT(a INTEGER)' if name == 'STRUCT' else 'MAP(INTEGER, INTEGER)' if name == 'MAP' else name}"
        )


def test_every_function_is_called_as_its_hint_says() -> None:
    con = duckdb.connect()
    for name, (call, _) in FUNCTIONS.items():
        given = NUMBERS | OTHERS | (MOMENTS if name in OF_MOMENTS else {})
        columns = ", ".join(f'{value} AS "{column}"' for column, value in given.items())
        call_ = call.replace("from,", '"from",').replace(", to)", ', "to")').replace("(...)", "(ORDER BY x)")
        assert call.startswith(f"{name}(")
        assert con.execute(f"SELECT {call_} FROM (SELECT {columns})").fetchall(), call
