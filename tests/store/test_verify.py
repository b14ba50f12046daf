"""``python -m store verify`` finds every kind of damage, says what mends it, and takes nothing sound for damage."""

from __future__ import annotations

import json
import os
import shutil
import sys
import time
from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from pathlib import Path
from unittest.mock import patch

import duckdb
import pytest

from kdengine.home import Home
from kdengine.rundir import RunDir, run_dirs
from kdengine.status import take_lock
from store import __main__ as command
from store import backup, verify
from store.db import Store
from store.verify import Verified
from tests.store.conftest import write_run
from tests.store.killing import epoch

LONG_AGO = time.time() - 7200


@pytest.fixture(scope="module")
def _lab(tmp_path_factory: pytest.TempPathFactory) -> Home:
    """Three runs that finished, one of them with a line that cannot be read, one under way; all taken in and published."""
    with patch("os.fsync"):
        home = Home(tmp_path_factory.mktemp("lab") / "kd").made()
        for seed in range(2):
            write_run(home, seed=seed)
        torn = write_run(home, end=None, networks=("student", "peer1"))
        with torn.events_jsonl.open("ab") as log:
            log.write(b'{"kind": "epoch_en')
        torn.append_event(epoch(3, epochs=3, networks=("student", "peer1")))
        write_run(home, end=None, done=2)
        with Store.open(home) as store:
            store.take_in()
    return home


@pytest.fixture
def lab(home: Home, _lab: Home, monkeypatch: pytest.MonkeyPatch) -> Home:
    monkeypatch.setattr("os.fsync", lambda handle: None)
    monkeypatch.setattr(verify, "FRESH_S", 0.0)
    shutil.copytree(_lab.root, home.root, dirs_exist_ok=True)
    return home


def kinds(found: Verified) -> list[str]:
    """The kinds of what was found; each finding is complete."""
    for problem in found.findings:
        assert problem.given and problem.allowed and len(problem.do) > 10
    return sorted({problem.field.split()[0] for problem in found.findings})


def change(home: Home, sql: str) -> None:
    with duckdb.connect(str(home.results)) as con:
        assert con.execute(sql).fetchall() != [(0,)], "nothing was damaged"


def finished(home: Home) -> RunDir:
    return next(run for run in run_dirs(home) if b'"finished"' in run.events_jsonl.read_bytes())


def with_a_bad_line(home: Home) -> RunDir:
    return next(run for run in run_dirs(home) if b"epoch_en\n" in run.events_jsonl.read_bytes())


def test_what_is_sound_is_sound(lab: Home) -> None:
    before = {path: path.stat().st_mtime_ns for path in lab.root.rglob("*") if path.is_file() and path.parent != lab.locks}
    found = verify.verify(lab)
    assert found.findings == () and (found.source, found.runs, found.epochs) == ("database", 4, 3 + 3 + 6 + 2)
    assert found.notes == (
        f"{with_a_bad_line(lab).run_id}: 1 lines cannot be read, as after a worker was killed; they are left out",
    )
    after = {path: path.stat().st_mtime_ns for path in lab.root.rglob("*") if path.is_file() and path.parent != lab.locks}
    assert after == before, "it writes nothing"


def test_an_empty_home_is_sound(home: Home) -> None:
    assert verify.verify(home).findings == ()


def test_what_was_not_taken_in_yet_is_no_damage(lab: Home) -> None:
    run = finished(lab)
    with run.events_jsonl.open("rb+") as log:
        log.seek(0, os.SEEK_END)
    run.append_event(epoch(4, epochs=4))
    found = verify.verify(lab)
    assert found.findings == () and any(note.startswith("1 runs have more") for note in found.notes)


DATABASE = {
    "epochs: missing": ("DELETE FROM epochs WHERE epoch = 2 AND run_id = '{run}'", "epochs"),
    "epochs: too many": ("INSERT INTO epochs (run_id, epoch, network) VALUES ('{run}', 9, 'student')", "epochs"),
    "epochs: another network": ("UPDATE epochs SET network = 'peer9' WHERE epoch = 1 AND run_id = '{run}'", "epochs"),
    "epochs: another number": ("UPDATE epochs SET test_top1_frac = 0.99 WHERE epoch = 1 AND run_id = '{run}'", "epochs"),
    "epochs: a number gone": ("UPDATE epochs SET train_loss = NULL WHERE epoch = 1 AND run_id = '{run}'", "epochs"),
    "terms: missing": ("DELETE FROM terms WHERE epoch = 1 AND run_id = '{run}'", "terms"),
    "terms: twice": ("INSERT INTO terms SELECT * FROM terms WHERE run_id = '{run}'", "terms"),
    "terms: another number": ("UPDATE terms SET value = 7 WHERE epoch = 1 AND run_id = '{run}'", "terms"),
    "position beyond the end": ("UPDATE intake.offsets SET position = 10000000 WHERE run_id = '{run}'", "position"),
    "status": ("UPDATE runs SET status = 'failed' WHERE run_id = '{run}'", "status"),
    "lines: counted": ("UPDATE runs SET bad_lines = 5 WHERE run_id = '{run}'", "lines"),
    "lines: noted": ("DELETE FROM intake.rejects WHERE run_id = '{torn}'", "lines"),
    "run: not there": ("DELETE FROM runs WHERE run_id = '{run}'", "run"),
    "snapshot: old": ("UPDATE intake.state SET value = '999' WHERE key = 'data_version'", "snapshot"),
    "database: newer": ("UPDATE intake.state SET value = '99' WHERE key = 'schema'", "database"),
    "database: older": ("UPDATE intake.state SET value = '0' WHERE key = 'schema'", "database"),
}


@pytest.mark.parametrize(("sql", "kind"), DATABASE.values(), ids=list(DATABASE))
def test_damage_in_the_database_is_found(lab: Home, sql: str, kind: str) -> None:
    change(lab, sql.format(run=finished(lab).run_id, torn=with_a_bad_line(lab).run_id))
    found = verify.verify(lab)
    assert kinds(found) == [kind]
    if kind not in ("snapshot", "database"):
        named = with_a_bad_line(lab) if sql.endswith("'{torn}'") else finished(lab)
        assert [problem.field for problem in found.findings] == [f"{kind} {named.run_id}"]


def aged(path: Path) -> None:
    os.utime(path, (LONG_AGO, LONG_AGO))


def no_folder(home: Home) -> None:
    shutil.rmtree(finished(home).path)


def no_request(home: Home) -> None:
    finished(home).spec_json.write_text("{")


def broken_labels(home: Home) -> None:
    (finished(home).path / "labels.json").write_text("{")


def cut_events(home: Home) -> None:
    path = finished(home).events_jsonl
    path.write_bytes(path.read_bytes()[:-200])


def strange_folder(home: Home) -> None:
    (home.runs / "strange").mkdir()
    aged(home.runs / "strange")


def half_a_run(home: Home) -> None:
    (home.root / ".new" / "x").mkdir(parents=True, exist_ok=True)
    aged(home.root / ".new" / "x")


def spoilt_database(home: Home) -> None:
    path = home.root / "results.spoilt-20261121-000000.duckdb"
    path.touch()
    aged(path)


def cut_snapshot(home: Home) -> None:
    home.snapshot.chmod(0o644)
    home.snapshot.write_bytes(home.snapshot.read_bytes()[:5000])


def no_snapshot(home: Home) -> None:
    home.snapshot.unlink()


def cut_database(home: Home) -> None:
    home.results.write_bytes(home.results.read_bytes()[:5000])


def no_database(home: Home) -> None:
    home.results.unlink()


def damaged_backup(home: Home) -> None:
    made = backup.make(home)
    (made.path / backup.RECORD).write_bytes(b"")


def strange_backup(home: Home) -> None:
    (backup.folder_of(home) / "20261121T000000Z").mkdir(parents=True)


@pytest.mark.parametrize(
    ("damage", "expected"),
    [
        (no_folder, ["run"]), (no_request, ["request"]), (broken_labels, ["labels"]), (cut_events, ["position"]),
        (strange_folder, ["leftover"]), (half_a_run, ["leftover"]), (spoilt_database, ["leftover"]), (cut_snapshot, ["snapshot"]),
        (no_snapshot, ["snapshot"]), (cut_database, ["database"]), (no_database, ["database"]),
        (strange_backup, ["backup"]),
    ],
)  # fmt: skip
def test_damage_to_files_is_found(lab: Home, damage: Callable[[Home], None], expected: list[str]) -> None:
    damage(lab)
    assert kinds(verify.verify(lab)) == expected


def test_a_damaged_backup_is_found(lab: Home) -> None:
    damaged_backup(lab)
    [problem] = verify.verify(lab).findings
    assert problem.field.startswith("backup ") and problem.field.endswith(f"/{backup.RECORD}")


def test_what_is_being_written_is_no_leftover(lab: Home) -> None:
    (lab.root / ".new" / "x").mkdir(parents=True, exist_ok=True)
    (lab.runs / "just-made").mkdir()
    assert verify.verify(lab).findings == ()


@pytest.fixture
def going(lab: Home) -> Iterator[list[RunDir]]:
    """The two runs that are not over, their locks held as their workers would."""
    runs = [run for run in run_dirs(lab) if b'"ended"' not in run.events_jsonl.read_bytes()]
    locks = [take_lock(run) for run in runs]
    yield runs
    for lock in locks:
        assert lock is not None
        os.close(lock)


def test_beside_the_app_the_snapshot_is_compared(lab: Home, going: list[RunDir]) -> None:
    with Store.open(lab, publish_every_s=3600) as store:
        store.take_in()
        store.publish()
        going[0].append_event(epoch(3, epochs=3))
        store.take_in()
        found = verify.verify(lab)
        assert found.findings == () and found.source == "snapshot" and "ahead" in found.notes[0]
        assert any(note.startswith("2 runs have more") for note in found.notes), "the two that are not over"


def test_an_epoch_that_is_said_again_is_no_damage(lab: Home, going: list[RunDir]) -> None:
    """A resumed worker may say one again, with other numbers: the later word counts, once it has been taken in."""
    for run in going:
        networks = ("student", "peer1") if b"peer1" in run.events_jsonl.read_bytes() else ("student",)
        run.append_event(epoch(2, epochs=3, top1=0.123, networks=networks))
    assert verify.verify(lab).findings == (), "not taken in yet"
    with Store.open(lab, publish_every_s=3600) as store:
        assert verify.verify(lab).findings == (), "beside the app, not published yet"
        store.take_in()
        store.publish()
        assert verify.verify(lab).findings == ()
    assert verify.verify(lab).findings == () and verify.verify(lab).source == "database"


def test_damage_to_the_snapshot_is_found_beside_the_app(lab: Home, going: list[RunDir]) -> None:
    with Store.open(lab) as store:
        store.take_in()
        store.publish()
        lab.snapshot.chmod(0o644)
        with duckdb.connect(str(lab.snapshot)) as con:
            con.execute("DELETE FROM epochs WHERE epoch = 2")
        found = verify.verify(lab)
        assert kinds(found) == ["epochs"] and len(found.findings) == 2, "the two that are over"


def test_of_many_alike_the_first_are_listed(lab: Home, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(verify, "MOST", 1)
    change(lab, "DELETE FROM terms WHERE epoch = 1")
    found = verify.verify(lab)
    assert [problem.given for problem in found.findings][1:] == ["3 more like these"]


def test_the_result_is_kept_for_the_page(lab: Home) -> None:
    assert verify.last(lab) is None
    no_folder(lab)
    found = verify.verify(lab)
    verify.keep(lab, found)
    assert verify.last(lab) == found and found.findings
    (lab.root / "verify.json").write_text("{")
    assert verify.last(lab) is None


def run_command(monkeypatch: pytest.MonkeyPatch, *words: str) -> int:
    monkeypatch.setattr(sys, "argv", ["store", *words])
    with pytest.raises(SystemExit) as end:
        command.main()
    return int(end.value.code or 0)


def test_the_command(lab: Home, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    assert run_command(monkeypatch, "verify") == 0
    assert "4 runs and 14 epochs of the database compared with the run folders: sound" in capsys.readouterr().out
    no_folder(lab)
    assert run_command(monkeypatch, "verify") == 1
    said = capsys.readouterr().out
    assert "rows without a folder" in said and "next: " in said and "1 finding\n" in said
    assert run_command(monkeypatch, "verify", "--json") == 1
    found = json.loads(capsys.readouterr().out)
    assert not found["sound"] and found["findings"][0]["do"] and datetime.fromisoformat(found["at"]).tzinfo == UTC
