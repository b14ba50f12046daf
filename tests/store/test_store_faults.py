"""Faults around the store: killed writers, a full disk, two at once, spoilt files. Never: a real training."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import threading
from collections import namedtuple
from pathlib import Path

import duckdb
import pytest

from kdengine.errors import StoreBusy
from kdengine.home import Home
from store import db, queries
from store.db import Store
from tests.store.conftest import MakeRun
from tests.store.killing import ROOT, epoch, kill_intake


@pytest.mark.slow
def test_kill_minus_nine_loses_and_doubles_nothing(home: Home) -> None:
    outcome = kill_intake(home, times=5, seed=1)
    assert outcome.is_clean and outcome.acknowledged > 20, outcome


def test_a_full_disk_stops_cleanly_says_so_and_recovers(home: Home, make_run: MakeRun, monkeypatch: pytest.MonkeyPatch) -> None:
    make_run(seed=1)
    with Store.open(home) as store:
        store.take_in()
        make_run(seed=2)
        usage = namedtuple("usage", "total used free")
        with monkeypatch.context() as full:
            full.setattr(shutil, "disk_usage", lambda _: usage(1, 1, 2**20))
            store.take_in()
            assert "free disk space" in store.notice and "Nothing is lost" in store.notice
            assert len(queries.runs(store)) == 1
        store.take_in()
        assert store.notice == "" and len(queries.runs(store)) == 2


def test_a_disk_too_full_for_the_name_of_the_holder_keeps_nobody_from_the_results(
    home: Home, make_run: MakeRun, monkeypatch: pytest.MonkeyPatch
) -> None:
    make_run(seed=1)

    def full(*_: object, **__: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(db, "write_aside", full)
    with Store.open(home) as store:
        store.take_in()
        assert store.role == "writer" and len(queries.runs(store)) == 1


# the limit on file size makes DuckDB's writes fail for real, as a full disk does, without needing one
FULL = """
import resource, time
from kdengine.events import to_line
from kdengine.home import Home
from kdengine.rundir import RunDir, run_dirs
from store.db import Store
from killing import epoch
home = Home.find()
store = Store.open(home, publish_every_s=0)
store.take_in()
run = run_dirs(home)[0]
before = home.results.stat().st_size
resource.setrlimit(resource.RLIMIT_FSIZE, (before, resource.RLIM_INFINITY))
with run.events_jsonl.open("ab") as file:
    for n in range(2, 2500):
        file.write(to_line(epoch(n, epochs=5000)))
store.take_in()
assert "not coming in" in store.notice, store.notice
assert store.frame("select count(*) n from runs").n[0] == 1  # questions are still answered
resource.setrlimit(resource.RLIMIT_FSIZE, (resource.RLIM_INFINITY, resource.RLIM_INFINITY))
time.sleep(1.1)
store.take_in()
assert store.notice == "", store.notice
assert store.frame("select count(*) n, count(distinct epoch) d from epochs").values.tolist() == [[2499, 2499]]
assert store.frame("select count(*) n from terms").n[0] == 2 * 2499
store.close()
print("recovered")
"""


@pytest.mark.slow
def test_writes_that_fail_inside_duckdb_are_survived(home: Home, make_run: MakeRun) -> None:
    make_run(done=1, end=None, epochs=5000)
    environment = os.environ | {"PYTHONPATH": f"{ROOT}{os.pathsep}{Path(__file__).parent}"}
    done = subprocess.run([sys.executable, "-c", FULL], env=environment, capture_output=True, text=True, timeout=50, check=False)
    assert done.stdout.strip() == "recovered", done.stderr[-2000:]


def test_the_second_store_reads_and_takes_over(home: Home, make_run: MakeRun) -> None:
    run = make_run(seed=1, done=1, end=None)
    first = Store.open(home, publish_every_s=0)
    first.take_in()
    second = Store.open(home)
    assert (first.role, second.role) == ("writer", "reader")
    assert len(queries.epochs(second, run.run_id)) == 1
    run.append_event(epoch(2))
    first.take_in()
    before = second.data_version
    assert second.take_in() > before and len(queries.epochs(second, run.run_id)) == 2
    version = second.data_version
    first.close()
    run.append_event(epoch(3))
    assert second.take_in() > version
    assert second.role == "writer" and len(queries.epochs(second, run.run_id)) == 3
    second.close()


def test_a_reader_before_the_first_snapshot_finds_empty_tables(home: Home, make_run: MakeRun) -> None:
    make_run()
    first = Store.open(home)
    second = Store.open(home)
    assert second.role == "reader" and queries.runs(second).empty
    first.take_in()
    second.take_in()
    assert len(queries.runs(second)) == 1
    second.close()
    first.close()


def test_publishing_keeps_duckdbs_own_lock(home: Home, make_run: MakeRun) -> None:
    make_run()
    probe = f"import duckdb; duckdb.connect({str(home.results)!r})"
    with Store.open(home, publish_every_s=0) as store:
        store.take_in()
        assert store.publish() is False  # nothing new since
        done = subprocess.run([sys.executable, "-c", probe], capture_output=True, text=True, check=False)
        assert "Could not set lock" in done.stderr


def test_the_snapshot_is_read_only_fresh_and_without_internals(home: Home, make_run: MakeRun) -> None:
    make_run(seed=1)
    with Store.open(home, publish_every_s=60) as store:
        store.take_in()
        first = home.snapshot.stat()
        assert first.st_mode & 0o777 == 0o444
        make_run(seed=2)
        store.take_in()
        assert home.snapshot.stat().st_ino == first.st_ino  # too soon
        assert store.publish() is True
    with duckdb.connect(str(home.snapshot), read_only=True) as con:
        tables = {row[0] for row in con.execute("SELECT table_name FROM duckdb_tables() WHERE schema_name = 'intake'").fetchall()}
        assert tables == {"state"} and con.execute("SELECT count(*) FROM runs").fetchall() == [(2,)]
    assert not [path for path in home.root.iterdir() if ".new" in path.name and path.is_file()]


def test_a_spoilt_database_is_set_aside_and_made_anew(home: Home, make_run: MakeRun) -> None:
    make_run()
    home.results.write_bytes(b"this is no database" * 1000)
    logs = [home.results.with_name(home.results.name + ending) for ending in (".wal", ".wal.checkpoint", ".wal.recovery")]
    for log in logs:  # DuckDB would play them into the new database
        log.write_bytes(b"changes of another one")
    with Store.open(home) as store:
        assert not any(log.exists() and log.read_bytes().startswith(b"changes") for log in logs)
        store.take_in()
        assert len(queries.runs(store)) == 1
    assert len(list(home.root.glob("results.spoilt-*.duckdb"))) == 1


def damage(path: Path, first: int, last: int) -> None:
    """Turn bits over within the file, as a dying disk does."""
    with path.open("r+b") as file:
        for at in range(first, min(last, path.stat().st_size), 4096):
            file.seek(at)
            byte = file.read(1)
            file.seek(at)
            file.write(bytes([byte[0] ^ 0x5A]))


def test_a_database_with_a_wrong_checksum_is_set_aside_and_made_anew(home: Home, make_run: MakeRun) -> None:
    """DuckDB says so with an error of no kind of its own."""
    make_run()
    with Store.open(home) as store:
        store.take_in()
    damage(home.results, 12288 + 64, 1 << 30)
    with Store.open(home) as store:
        store.take_in()
        assert len(queries.runs(store)) == 1 and store.notice == ""
    assert len(list(home.root.glob("results.spoilt-*.duckdb"))) == 1


@pytest.mark.parametrize("finds", ["a question", "the intake"])
def test_a_database_that_is_damaged_while_it_is_open_is_made_anew(home: Home, make_run: MakeRun, finds: str) -> None:
    for seed in range(3):
        make_run(seed=seed, epochs=200)
    with Store.open(home) as store:
        store.take_in()
    with Store.open(home) as store:
        before = store.data_version
        damage(home.results, 12288 + 64, 1 << 30)
        if finds == "a question":
            store.frame("SELECT * FROM epochs")  # whatever it finds
            assert "is being made anew" in store.notice
        make_run(seed=3)
        for _ in range(3):
            store._retry_at = 0
            store.take_in()
        assert len(queries.runs(store)) == 4 and store.notice == "" and store.data_version > before
        store.publish()
    with Store.open(home) as store:
        assert len(queries.runs(store)) == 4


def test_a_fault_that_is_no_damage_moves_nothing(home: Home, make_run: MakeRun, monkeypatch: pytest.MonkeyPatch) -> None:
    make_run()
    with Store.open(home) as store:
        store.take_in()
        with pytest.raises(duckdb.CatalogException):
            store.frame("SELECT * FROM corrupt_database_file")
        assert len(queries.runs(store)) == 1
    assert not list(home.root.glob("results.spoilt-*"))


def test_a_foreign_program_on_the_file_makes_us_readers_for_a_while(home: Home, make_run: MakeRun) -> None:
    make_run()
    with Store.open(home) as store:
        store.take_in()
    holding = f"import duckdb, sys; con = duckdb.connect({str(home.results)!r}); print('held', flush=True); sys.stdin.read()"
    with subprocess.Popen([sys.executable, "-c", holding], stdin=subprocess.PIPE, stdout=subprocess.PIPE) as other:
        assert other.stdout is not None and other.stdin is not None and other.stdout.readline() == b"held\n"
        store = Store.open(home)
        assert store.role == "reader" and "lock" in store.notice and len(queries.runs(store)) == 1
        other.stdin.close()
        other.wait()
    store.take_in()
    assert (store.role, store.notice) == ("writer", "")
    store.close()


@pytest.mark.slow
def test_threads_ask_while_rows_come_in(home: Home, make_run: MakeRun) -> None:
    run = make_run(done=0, end=None, epochs=200)
    faults: list[BaseException] = []
    stop = threading.Event()

    def ask(store: Store) -> None:
        while not stop.is_set():
            try:
                found = queries.epochs(store, run.run_id)
                assert list(found.epoch) == list(range(1, len(found) + 1))
                stop.wait(0.005)
            except BaseException as error:
                faults.append(error)
                return

    with Store.open(home, publish_every_s=0) as writer, Store.open(home) as reader:
        threads = [threading.Thread(target=ask, args=(store,)) for store in (writer, writer, reader)]
        for thread in threads:
            thread.start()
        for number in range(1, 16):
            run.append_event(epoch(number, epochs=200))
            writer.take_in()
            reader.take_in()
        stop.set()
        for thread in threads:
            thread.join()
        assert not faults and not writer.notice and len(queries.epochs(reader, run.run_id)) == 15


def test_closed_means_closed(home: Home, tmp_path: Path) -> None:
    store = Store.open(home)
    store.close()
    with pytest.raises(StoreBusy, match="closed"):
        store.frame("SELECT 1")
    assert not (tmp_path / "kd" / "results.duckdb.wal").exists()
