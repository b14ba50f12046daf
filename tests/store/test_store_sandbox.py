"""Free SQL: answers, limits, refusals, faults in three parts, and never in the caller's process."""

from __future__ import annotations

import hashlib
import os
import subprocess
import threading
from pathlib import Path
from typing import Any

import pytest

from kdengine.home import Home
from store import sandbox
from store.db import Store
from tests.store.conftest import MakeRun

pytestmark = pytest.mark.slow


@pytest.fixture
def published(home: Home, make_run: MakeRun) -> Home:
    """A home with one run, published."""
    make_run(method="kd", teacher="resnet20")
    with Store.open(home) as store:
        store.take_in()
    return home


def test_answers_keep_their_types(published: Home) -> None:
    frame = sandbox.run(
        "select run_id, epoch, test_top1_frac, ended_at, null::int as nothing, 'nan'::double as nan, [1, 2] as list,"
        " {'a': 1} as struct, true as yes, 1.5::decimal(3, 1) as tenth, sum(epoch) over () as total, 'x'::blob as raw"
        " from epochs order by epoch"
    )
    assert list(frame.epoch) == [1, 2, 3] and str(frame.epoch.dtype) == "int64" and str(frame.total.dtype) == "int64"
    assert str(frame.ended_at.dtype).startswith("datetime64") and frame.nothing.isna().all() and frame.nan.isna().all()
    assert frame.list[0] == [1, 2] and frame.struct[0] == {"a": 1} and frame.tenth[0] == 1.5 and bool(frame.yes[0])
    assert frame.attrs["cut"] is False and frame.raw[0] == "78"


def test_what_is_new_is_taken_in_first_when_nobody_writes(published: Home, make_run: MakeRun) -> None:
    make_run(seed=9)
    assert sandbox.run("select count(*) as n from runs").n[0] == 2


def test_while_another_writes_the_snapshot_is_read(published: Home, make_run: MakeRun) -> None:
    with Store.open(published):
        make_run(seed=9)
        assert sandbox.run("select count(*) as n from runs", home=published).n[0] == 1


@pytest.mark.parametrize(
    ("sql", "given", "do"),
    [
        ("select test_top1 from epochs", "column 'test_top1'", "did you mean 'test_top1_frac'?"),
        ("select e.metod from runs e", "column 'metod'", "did you mean 'method'?"),
        ("select * from runz", "table 'runz'", "did you mean 'runs'?"),
        (
            "select method, tset_top1_frac from epochs join runs using (run_id)",
            "tset_top1_frac",
            "did you mean 'test_top1_frac'?",
        ),
        ("select 1; select 2", "2 statements", "one after the other"),
        ("selec 1", "line 1, column 1: the statement makes no sense", "did you mean 'select'?"),
        ("  ", "0 characters", "leaderboard"),
        ("select " + "1," * 20_000 + "1", "40008 characters", "shorter"),
        ("select method from runs where method = 4", "where a whole number is needed", "try_cast"),
    ],
)
def test_faults_have_three_parts(published: Home, sql: str, given: str, do: str) -> None:
    with pytest.raises(sandbox.QueryError) as caught:
        sandbox.run(sql)
    problem = caught.value.problems[0]
    assert given in problem.given and do in problem.do and problem.allowed


@pytest.mark.slow
def test_out_of_reach(published: Home, tmp_path: Path) -> None:
    target, secret = tmp_path / "out.csv", tmp_path / "secret.txt"
    secret.write_text("secret")
    before = hashlib.sha256(published.snapshot.read_bytes()).digest()
    attempts = [
        f"copy runs to '{target}'",
        f"with x as (copy (select 1) to '{published.snapshot}' (format csv, use_tmp_file false)) select 1",
        f"select * from read_text('{secret}')",
        f"select * from read_blob('{published.snapshot}')",
        f"select * from glob('{tmp_path}/*')",
        f"attach '{target}' as other",
        f"export database '{tmp_path}/all'",
        "delete from runs",
        "create table mine as select 1",
        "update runs set status = 'finished'",
        "set threads = 1",
        "install httpfs",
        "load httpfs",
        "select * from intake.offsets",
        "select getenv('HOME')",
    ]
    with Store.open(published):  # the app runs meanwhile
        for sql in attempts:
            with pytest.raises(sandbox.QueryError):
                sandbox.run(sql)
    assert not target.exists() and hashlib.sha256(published.snapshot.read_bytes()).digest() == before


@pytest.mark.slow
def test_limits(published: Home) -> None:
    with pytest.raises(sandbox.QueryError, match="longer than 1 s"):
        sandbox.run("select count(*) from range(100000000000) a, range(10000000) b", timeout_s=1)
    with pytest.raises(sandbox.QueryError, match="512 MB of memory"):
        sandbox.run("select count(*) from range(100000000) a, range(100000000) b where a.range + b.range = 7")
    frame = sandbox.run("select * from range(5000)", max_rows=100)
    assert len(frame) == 100 and frame.attrs["cut"] is True
    with pytest.raises(sandbox.QueryError):
        sandbox.run("select repeat('x', 4000000000)", timeout_s=1)


def test_a_statement_that_kills_its_process_is_only_a_fault(published: Home) -> None:
    with pytest.raises(sandbox.QueryError, match="broke down|killed"):
        sandbox.run("select json_transform('1', repeat('[', 100000) || '\"INT\"' || repeat(']', 100000))")
    assert sandbox.run("select 1 as one").one[0] == 1


def test_it_runs_in_another_process_without_our_environment(published: Home, monkeypatch: pytest.MonkeyPatch) -> None:
    started: list[tuple[list[str], dict[str, Any]]] = []
    real = subprocess.Popen

    class Spy(real):  # type: ignore[type-arg, misc, valid-type]
        def __init__(self, command: list[str], **more: Any) -> None:
            started.append((command, more))
            super().__init__(command, **more)

    monkeypatch.setattr(subprocess, "Popen", Spy)
    os.environ["KD_SECRET"] = "word"
    try:
        sandbox.run("select 1")
    finally:
        del os.environ["KD_SECRET"]
    (command, more), = started  # fmt: skip
    assert "-I" in command and more["env"] == {} and more["start_new_session"] is True


def test_several_at_once(published: Home) -> None:
    results: list[int] = []
    threads = [threading.Thread(target=lambda: results.append(int(sandbox.run("select 1 as one").one[0]))) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert results == [1, 1, 1, 1]
