"""What is said of a statement that is wrong: the line, the nearest name, three plain parts, no path of the server."""

from __future__ import annotations

import json
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from kdengine.home import Home
from store import sandbox, sandbox_process
from store.db import Store
from store.sandbox import QueryError
from store.sandbox_answer import Answer, Unreadable, _unique
from store.sandbox_faults import explained
from store.sandbox_process import Order, Process
from tests.store.conftest import write_run

STATEMENTS = [
    # statement, place, given, allowed, do
    ("select metod from runs", (1, 8), "column 'metod'", "columns of runs: run_id, method", "did you mean 'method'?"),
    ("select 'ä', metod\nfrom runs", (1, 13), "column 'metod'", "method", "did you mean 'method'?"),
    ("select r.run_id,\n  r.metod\nfrom runs r", (2, 3), "column 'metod'", "columns of runs", "did you mean 'method'?"),
    ("select top1 from epochs", (1, 8), "column 'top1'", "test_top1_frac", "did you mean 'train_top1_frac'?"),
    ("select * from runs where method = kd", (1, 35), "column 'kd'", "columns of runs", "write 'kd' in single quotes"),
    ("select * exclude (metod) from runs", (1, 19), "column 'metod'", "columns of runs", "did you mean 'method'?"),
    ("with b as (select seed as grain from runs) select b.grian from b", (1, 51), "column 'grian'", "grain", "mean 'grain'?"),
    ("select lrr from epochs join runs using (run_id)", (1, 8), "column 'lrr'", "columns of epochs, runs:", "mean 'lr'?"),
    ("select x from (select 1 as y)", (1, 8), "column 'x'", "y", "single quotes"),
    ("select * from runz", (1, 15), "table 'runz'", "runs, epochs, terms", "did you mean 'runs'?"),
    ("describe runz", (1, 10), "table 'runz'", "runs, epochs", "did you mean 'runs'?"),
    ("with best5 as (select 1) select * from bestt5", (1, 40), "table 'bestt5'", "best5", "did you mean 'best5'?"),
    ("select e.epoch from epochs where e.epoch = 1", (1, 34), "table 'e'", "epochs", "add it after from"),
    ("select epochs.lr from runs", (1, 8), "'epochs', which does not stand after from", "short names", "add it there"),
    ("select lenght('a')", (1, 8), "function 'lenght'", "functions", "did you mean 'length'?"),
    ("select getenv('HOME')", (1, 8), "function 'getenv'", "functions", "duckdb.org/docs"),
    ("selct 1", (1, 1), "makes no sense from 'selct' on", "select, from, with", "did you mean 'select'?"),
    ("select 1 +", (1, 10), "makes no sense from '+' on", "one statement", "a comma, a bracket"),
    ("select 'abc", (1, 8), "begins here and does not end", "'...'", "close it"),
    ("select seed from runs group by method", (1, 8), "neither grouped by", "avg()", "any_value(seed)"),
    ("select run_id from runs a, runs b", (1, 8), "column 'run_id', which several tables have", "'a.run_id'", "which one"),
    ("select 1 from runs where sum(seed) > 1", (1, 26), "a sum over rows in WHERE", "row itself", "having"),
    ("select * from runs where seed = 'one'", (1, 33), "the text 'one' where a whole number", "whole number", "try_cast"),
    ("select * from runs where started_at > 'noon'", (1, 39), "'noon', which is no date", "2026", "correct"),
    ("select sum(method) from runs", (1, 8), "sum(text): it cannot take these", "takes", "::double"),
    ("select (select 1 union all select 2)", None, "several rows where one value", "one row", "limit 1"),
    ("select 1 union select 1, 2", None, "different numbers of columns", "same columns", "name the columns"),
    ("select 5 % 0", None, "a division by zero", "not zero", "nullif"),
    ("select $1", None, "a place for a value", "complete", "write the value"),
    ("select 1; select 2", None, "2 statements", "one statement", "one after the other"),
    ("-- nothing", None, "no statement", "one statement", ""),
    ("update runs set seed = 1", None, "begins with 'update'", "select, from", "write a select"),
    ("with x as (delete from runs returning 1) from x", None, "changes the results", "reading", "write a select"),
    ("select * from read_csv('/etc/passwd')", (1, 15), "is refused: files, settings", "runs, epochs", "leave that out"),
    ("select * from enable_logging()", (1, 15), "is refused: files, settings", "runs, epochs", "leave that out"),
    ("select " + "(" * 400 + "1" + ")" * 400, None, "nested more than 250 deep", "250", "flatter"),
    ("select list_resize([1], 1000000000)", None, "needs more than 512 MB", "512 MB", "group first"),
    ("select " + "1, " * 1500 + "1", None, "an answer of 1501 columns", "1000 columns", "name the columns"),
    ("explain (format json) select 1", None, "an explain", "explain select", "write"),
    ("select error('<b>mine</b>')", None, "<b>mine</b>", "one statement", "correct it"),
]  # fmt: skip


@pytest.fixture(scope="module")
def published() -> Iterator[Home]:
    """A home with one run, published, whose writer goes on; in a folder that everybody may look into."""
    with tempfile.TemporaryDirectory(prefix="kd-told-") as folder:
        Path(folder).chmod(0o755)
        home = Home(Path(folder) / "kd").made()
        write_run(home)
        with Store.open(home) as store:
            store.take_in()
            yield home


def ask(home: Home, sql: str, timeout_s: float = 20.0) -> sandbox.Answered:
    """Ask as the queue does."""
    return sandbox.answer(Process(), Order(sandbox.checked(sql), timeout_s, 1000, 1 << 20), home.snapshot)


@pytest.mark.slow
@pytest.mark.parametrize(("sql", "place", "given", "allowed", "do"), STATEMENTS)
def test_a_fault_says_where_what_and_what_next(
    published: Home, sql: str, place: tuple[int, int] | None, given: str, allowed: str, do: str
) -> None:
    with pytest.raises(QueryError) as caught:
        ask(published, sql)
    (problem,) = caught.value.problems
    assert given in problem.given and allowed in problem.allowed and do in problem.do, problem
    assert sandbox.place_of(caught.value) == place
    if place is not None:
        _, line, caret = problem.given.split("\n")
        assert line.strip() == sql.split("\n")[place[0] - 1].strip() and caret.index("^") == place[1] + 1


def test_a_long_line_is_cut_around_the_place() -> None:
    sql = "select " + "1, " * 60 + "metod, " + "2, " * 60 + "3"
    error = explained(sql, {"fault": "ParserException", "message": 'syntax error at or near "metod"', "position": "187"})
    _, line, caret = error.problems[0].given.split("\n")
    assert len(line) < 90 and line[caret.index("^") :].startswith("metod") and line.count("…") == 2


def test_no_path_of_the_server_in_what_is_said() -> None:
    message = 'Cannot open file "/srv/kd/snapshot.duckdb": see /srv/kd, /srv/kdx and /usr/lib/python'
    error = explained(
        "select 1", {"fault": "IOException", "message": message}, ("/srv/kd", "/srv/kd/snapshot.duckdb", "/usr", "/")
    )
    assert error.problems[0].given == 'Cannot open file "(the server)": see (the server), /srv/kdx and (the server)/lib/python'


@pytest.mark.slow
def test_no_path_of_the_server_in_what_its_process_says(published: Home, monkeypatch: pytest.MonkeyPatch) -> None:
    line = json.dumps({"fault": "IOException", "message": f"Cannot open {published.snapshot} in {sys.prefix}/lib"})
    monkeypatch.setattr(sandbox_process, "PROGRAM", f"import sys; sys.stdin.read(); print({line!r})")
    with pytest.raises(QueryError) as caught:
        ask(published, "select 1")
    assert caught.value.problems[0].given == "Cannot open (the server) in (the server)/lib"


@pytest.mark.slow
def test_nothing_of_the_server_shows_in_what_duckdb_knows_of_itself(published: Home) -> None:
    if not sandbox.isolation(published)["calls"]:
        pytest.skip("this kernel does not hide where the snapshot lies")
    for sql in ("from duckdb_databases()", "from duckdb_settings()", "from pragma_database_size()", "show all tables",
                "select * from information_schema.schemata", "select current_setting('allowed_paths')"):  # fmt: skip
        text = ask(published, sql).frame.to_csv()
        assert len(text) > 10 and not [
            word for word in (str(published.root), str(Path.home()) + "/", "kd-told") if word in text
        ], sql


@pytest.mark.slow
def test_a_snapshot_that_is_none_is_told(tmp_path: Path) -> None:
    home = Home(tmp_path / "kd").made()
    home.snapshot.write_bytes(b"no database" * 1000)
    home.snapshot.chmod(0o444)
    with pytest.raises(QueryError) as caught:
        ask(home, "select 1")
    assert "not a valid DuckDB database" in caught.value.problems[0].given and str(tmp_path) not in str(caught.value)


@pytest.mark.parametrize(
    "lines",
    [
        [b"nonsense\n"],
        [b'{"columns": 5}\n'],
        [b'{"columns": [["a", "INTEGER"]]}\n', b"[[1], [2]]\n"],
        [b'{"columns": [["a", "INTEGER"]]}\n', b'[["x"]]\n', b'{"cut": false, "cost": 1}\n'],
        [b'{"columns": [["a", "INTEGER"], ["b", "INTEGER"]]}\n', b"[[1], [1, 2]]\n", b'{"cut": false, "cost": 1}\n'],
        [b"[" * 100_000 + b"\n"],
        [b'{"cut": false, "cost": ' + b"9" * 5000 + b"}\n"],
        [b"\xff\xfe\n"],
        [b"5\n"],
    ],
)
def test_an_answer_is_not_trusted(lines: list[bytes]) -> None:
    answer = Answer()
    with pytest.raises(Unreadable):
        for line in lines:
            answer.take(line)
        answer.frame()


def test_names_of_columns_are_unique() -> None:
    assert _unique(["a", "a", "a_2", "", "A", "a", ""]) == ["a", "a_3", "a_2", "column_4", "A", "a_4", "column_7"]
    assert len(set(_unique(["column_2", "", "column_2", ""]))) == 4
