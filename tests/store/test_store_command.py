"""``python -m store`` as a user meets it: with and without a writer, every format, rebuild. Never: a real training."""

from __future__ import annotations

import csv
import io
import json
import os
import subprocess
import sys
from pathlib import Path

import pandas as pd
import pytest

from kdengine.home import Home
from store import queries
from store.db import Store
from store.rebuild import rebuild
from tests.store.conftest import MakeRun
from tests.store.killing import INTAKE, ROOT

pytestmark = pytest.mark.slow  # every test starts processes


def call(*words: str, stdin: bytes = b"") -> subprocess.CompletedProcess[str]:
    """Run ``python -m store`` in the home of the test."""
    environment = os.environ | {"PYTHONPATH": str(ROOT)}
    command = [sys.executable, "-m", "store", *words]
    done = subprocess.run(command, input=stdin, capture_output=True, env=environment, timeout=50, check=False)
    return subprocess.CompletedProcess(command, done.returncode, done.stdout.decode(), done.stderr.decode())


def test_json_is_a_list_of_objects_and_nothing_else(home: Home, make_run: MakeRun) -> None:
    make_run(method="kd", teacher="resnet20")
    done = call(
        "sql", "select run_id, epoch, test_top1_frac, 'nan'::double as n, ended_at from epochs order by epoch", "--format", "json"
    )
    rows = json.loads(done.stdout)
    assert done.returncode == 0 and [row["epoch"] for row in rows] == [1, 2, 3]
    assert rows[0]["test_top1_frac"] == 0.51 and rows[0]["n"] is None and rows[0]["ended_at"].startswith("20")
    assert json.loads(call("sql", "select * from runs where false", "--format", "json").stdout) == []


def test_csv_and_table(home: Home, make_run: MakeRun) -> None:
    make_run()
    done = call("sql", "select method, epochs from runs", "--format", "csv")
    assert list(csv.reader(io.StringIO(done.stdout))) == [["method", "epochs"], ["base", "3"]]
    assert "base" in call("sql", "select method from runs").stdout
    cut = call("sql", "select * from epochs", "--format", "csv", "--max-rows", "2")
    assert len(cut.stdout.splitlines()) == 3 and "first 2 rows" in cut.stderr


def test_a_statement_from_a_file_or_stdin_and_an_answer_to_a_file(home: Home, make_run: MakeRun, tmp_path: Path) -> None:
    make_run()
    question, out = tmp_path / "question.sql", tmp_path / "answer.parquet"
    question.write_text("select run_id, epoch\nfrom epochs -- ä\norder by epoch\n")
    done = call("sql", "--file", str(question), "--out", str(out))
    assert done.returncode == 0 and done.stdout == "" and "3 rows, 2 columns" in done.stderr, done.stderr
    assert list(pd.read_parquet(out).epoch) == [1, 2, 3]
    for ending, text in ((".csv", "epoch\n1\n2\n3\n"), (".json", '[{"epoch": 1}, {"epoch": 2}, {"epoch": 3}]')):
        file = out.with_suffix(ending)
        assert call("sql", "select epoch from epochs order by 1", "--out", str(file)).returncode == 0 and file.read_text() == text
    assert call("sql", "--file", "-", "--format", "csv", stdin=b"select 1 as one").stdout == "one\n1\n"
    assert "no text" in call("sql", "--file", "-", stdin=b"select '\xff'").stderr


@pytest.mark.parametrize(
    ("words", "said"),
    [
        ([], "no statement"),
        (["select 1", "--file", "-"], "a statement and a file"),
        (["select 1", "--out", "answer.xlsx"], "answer.xlsx"),
        (["select 1", "--out", "nowhere/answer.csv"], "nowhere/answer.csv"),
        (["--file", "nowhere.sql"], "nowhere.sql: No such file"),
    ],
)
def test_what_cannot_be_asked_is_told(home: Home, words: list[str], said: str) -> None:
    done = call("sql", *words)
    assert done.returncode in (1, 2) and said in done.stderr and "Traceback" not in done.stderr and done.stdout == ""


def test_a_reader_that_goes_away_is_no_fault(home: Home, make_run: MakeRun) -> None:
    make_run()
    environment = os.environ | {"PYTHONPATH": str(ROOT)}
    for format, sql in (("csv", "select * from range(100000)"), ("table", "select 1"), ("json", "select 1")):
        command = [sys.executable, "-m", "store", "sql", sql, "--format", format]
        with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, env=environment) as done:
            assert done.stdout is not None and done.stderr is not None
            done.stdout.close()
            assert (done.stderr.read(), done.wait(timeout=50)) == (b"", 1)


def test_no_text_of_an_answer_steers_the_terminal(home: Home, make_run: MakeRun) -> None:
    make_run()
    done = call("sql", "select '[/red]' || chr(27) || '[31m' || chr(7) || chr(155) as \"[bold]\", 0.123456789 as x, null as y")
    assert done.returncode == 0 and "[/red]" in done.stdout and "[bold]" in done.stdout and "0.123457" in done.stdout
    assert not set("\x1b\x07\x9b") & set(done.stdout)


def test_a_fault_has_three_parts_and_no_traceback(home: Home) -> None:
    done = call("sql", "select test_top1 from epochs", "--format", "json")
    assert done.returncode == 1 and done.stdout == ""
    for part in ("test_top1", "allowed:", "did you mean 'test_top1_frac'?"):
        assert part in done.stderr
    assert "Traceback" not in done.stderr


@pytest.mark.slow
def test_beside_a_running_writer(home: Home, make_run: MakeRun) -> None:
    make_run()
    environment = os.environ | {"PYTHONPATH": str(ROOT)}
    with subprocess.Popen([sys.executable, "-c", INTAKE], stdout=subprocess.PIPE, env=environment) as app:
        try:
            assert app.stdout is not None and app.stdout.readline() == b"ready\n"
            for _ in range(20):
                done = call("sql", "select count(*) as n from epochs", "--format", "json")
                if done.stdout == '[{"n": 3}]\n':
                    break
            assert done.stdout == '[{"n": 3}]\n', done.stderr
            refused = call("rebuild")
            assert refused.returncode == 1 and f"process {app.pid}" in refused.stderr and "stop the app" in refused.stderr
        finally:
            app.kill()


def test_rebuild_makes_the_same_again(home: Home, make_run: MakeRun, capsys: pytest.CaptureFixture[str]) -> None:
    for seed in range(3):
        make_run(seed=seed)
    with Store.open(home) as store:
        store.take_in()
        before = queries.runs(store).to_json(date_format="iso")
        store.frame("SELECT 1")
    seen: list[tuple[int, int]] = []
    assert rebuild(home, lambda done, total: seen.append((done, total)))["epochs"] == 9
    assert seen[-1] == (3, 3)
    with Store.open(home) as store:
        assert queries.runs(store).to_json(date_format="iso") == before
    done = call("rebuild")
    assert done.returncode == 0 and "3 runs" in done.stderr, done.stderr


def test_the_store_loads_no_torch() -> None:
    code = (
        "import sys, store.db, store.queries, store.sandbox, store.rebuild; assert not {'torch', 'streamlit'} & set(sys.modules)"
    )
    assert subprocess.run([sys.executable, "-c", code], cwd=ROOT, check=False).returncode == 0
