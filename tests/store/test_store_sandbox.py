"""Free SQL: answers, limits, refusals, faults in three parts, and never in the caller's process."""

from __future__ import annotations

import hashlib
import json
import os
import subprocess
import sys
import threading
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest

from kdengine.home import Home
from store import sandbox, sandbox_process
from store.db import Store
from store.sandbox_process import Order, Process
from tests.store.conftest import MakeRun
from tests.store.killing import ROOT

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
    assert datetime.fromisoformat(frame.attrs["snapshot_at"]) <= datetime.now(UTC)


def test_answers_of_strange_types(published: Home) -> None:
    frame = sandbox.run(
        "select 2::hugeint ** 100 as huge, hash(1) as hash, [1.5::decimal(3, 1)] as tenths, [now()] as moments, now() as moment,"
        " timestamp '290000-01-01' as far, date '2026-11-21' as day, interval 1 day as span, 'a'::enum('a', 'b') as enum,"
        " '{\"a\": 1}'::json as json, map {1: 'x'} as map, uuid() as id, 'infinity'::timestamp as late, null as nothing,"
        " union_value(a := 1) as one_of, '101'::bit as bits, time '10:00' as time, timetz '10:00:00+02' as zoned"
    )
    row = frame.iloc[0]
    assert str(frame.huge.dtype) == "float64" and row.huge == 2.0**100 and str(frame.hash.dtype) == "uint64" and row.hash > 2**60
    assert row.tenths == [1.5] and len(row.moments) == 1 and str(frame.moment.dtype).startswith("datetime64")
    assert row.far == "290000-01-01 00:00:00" and row.day == "2026-11-21" and row.span == "1 day, 0:00:00" and row.enum == "a"
    assert (
        row["json"] == '{"a": 1}'
        and row["map"] == {"1": "x"}
        and len(row.id) == 36
        and row.late.year == 9999
        and row.nothing is None
    )
    assert row.one_of == 1 and row.bits == "101" and row["time"] == "10:00:00" and row.zoned == "10:00:00+02:00"
    twice = sandbox.run("select 1 as a, 2 as a, * from (values (3)) as t(a_2)")
    assert list(twice.columns) == ["a", "a_3", "a_2"] and list(twice.iloc[0]) == [1, 2, 3]
    many = sandbox.run("select case when range < 3000 then range end as n, range || '' as t from range(6000)")
    assert str(many.n.dtype) == "Int64" and many.n.sum() == 2999 * 1500 and list(many.t) == [str(n) for n in range(6000)]


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
        sandbox.run("select count(*) from range(100000000) a, range(100000000) b where a.range + b.range = 7", timeout_s=60)
    for rows, most, cut in (
        (5000, 100, True),
        (100, 100, False),
        (16, 16, False),
        (17, 16, True),
        (3000, 2999, True),
        (0, 5, False),
    ):
        frame = sandbox.run(f"select * from range({rows})", max_rows=most)
        assert (len(frame), frame.attrs["cut"]) == (min(rows, most), cut)
    with pytest.raises(sandbox.QueryError):
        sandbox.run("select repeat('x', 4000000000)", timeout_s=1)


def test_an_answer_is_bounded_by_what_it_costs(published: Home) -> None:
    def ask(sql: str) -> sandbox.Answered:
        return sandbox.answer(Process(), Order(sql, 20, 1_000_000, 1 << 20), published.snapshot)

    for sql, least in (
        ("select repeat('x', 1000) as t from range(100000)", 500),
        ("select range as a, range as b from range(1000000)", 15_000),
        ("select [[], [], [], []] as nested from range(1000000)", 1_000),
    ):
        found = ask(sql)
        assert found.frame.attrs["cut"] is True and least < len(found.frame) and (1 << 19) < found.cost <= (1 << 20)
    whole = ask("select range as a from range(1000)")
    assert whole.frame.attrs["cut"] is False and len(whole.frame) == 1000 and whole.cost < 40_000
    with pytest.raises(sandbox.QueryError, match="one row alone is too large"):
        ask("select repeat('x', 2000000)")
    with pytest.raises(sandbox.QueryError, match="an answer of 1001 columns"):
        ask("select " + ", ".join("1" for _ in range(1001)))


def test_a_process_that_sends_without_end_is_killed(published: Home, monkeypatch: pytest.MonkeyPatch) -> None:
    lines = ("{}", '{"columns": [["a", "INTEGER"]]}')
    endless = (
        f"import sys; sys.stdin.read(); print({lines[0]!r}); print({lines[1]!r})\nwhile True: print('[[' + '1, ' * 999 + '1]]')"
    )
    monkeypatch.setattr(sandbox_process, "PROGRAM", endless)
    with pytest.raises(sandbox.QueryError, match="process was killed"):
        sandbox.answer(Process(), Order("select 1", 20, 10, 1 << 20), published.snapshot)


def test_a_statement_that_kills_its_process_is_only_a_fault(published: Home) -> None:
    with pytest.raises(sandbox.QueryError, match="broke down|killed"):
        sandbox.run("select json_transform('1', repeat('[', 100000) || '\"INT\"' || repeat(']', 100000))")
    assert sandbox.run("select 1 as one").one[0] == 1


def test_the_process_has_the_settings_of_the_design(published: Home) -> None:
    wanted = {
        "access_mode": "read_only", "memory_limit": "488.2 MiB", "threads": "2", "max_temp_directory_size": "0 bytes",
        "temp_directory": "", "enable_external_access": "false", "autoload_known_extensions": "false",
        "autoinstall_known_extensions": "false", "allow_community_extensions": "false", "max_expression_depth": "250",
        "python_enable_replacements": "false", "lock_configuration": "true",
        "max_execution_time": "5000", "TimeZone": "UTC", "pivot_limit": "1000", "allow_persistent_secrets": "false",
    }  # fmt: skip
    found = sandbox.run("select name, value from duckdb_settings()", home=published).set_index("name")["value"].to_dict()
    assert {name: found.get(name) for name in wanted} == wanted


def test_the_process_has_the_limits_of_the_design() -> None:
    code = (
        "import os, sys; sys.path[:0] = sys.argv[1:]; from store import sandbox_child as child; import json, resource as r;"
        "child._limit(3.0, os.getppid()); child._close_off();"
        "names = ('AS', 'CPU', 'FSIZE', 'CORE', 'NPROC', 'NOFILE');"
        "limits = {name: r.getrlimit(getattr(r, 'RLIMIT_' + name)) for name in names};"
        "print(json.dumps(limits | {'nice': os.nice(0), 'root': os.geteuid() == 0, 'environment': len(os.environ)}))"
    )
    done = subprocess.run([sys.executable, "-c", code, str(ROOT)], capture_output=True, text=True, timeout=30, check=True)
    none = [0, 0]
    assert json.loads(done.stdout) == {
        "AS": [2 << 30, 2 << 30], "CPU": [11, 11], "FSIZE": none, "CORE": none, "NPROC": none, "NOFILE": none,
        "nice": 5 + os.nice(0), "root": False, "environment": 0,
    }  # fmt: skip


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
    assert command[1:3] == ["-I", "-S"] and more["env"] == {} and more["start_new_session"] is True and more["cwd"] == "/"
    assert not {"shell", "preexec_fn", "close_fds"} & set(more) and len(more["pass_fds"]) == 1


def test_several_at_once(published: Home) -> None:
    results: list[int] = []
    threads = [threading.Thread(target=lambda: results.append(int(sandbox.run("select 1 as one").one[0]))) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert results == [1, 1, 1, 1]
