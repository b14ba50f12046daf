"""Backups: what comes back is what was there; what is damaged, hostile or half is refused; old ones make room in good order."""

from __future__ import annotations

import errno
import gzip
import hashlib
import io
import json
import platform
import shutil
import sys
import tarfile
import time
from collections import namedtuple
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path
from unittest.mock import patch

import duckdb
import pandas as pd
import pyarrow.parquet as pq
import pytest

from kdengine import errands, labels
from kdengine.errors import KdError
from kdengine.home import Home
from kdengine.rundir import Attempt, RunDir, run_dirs
from kdengine.status import RunStatus, status_of
from store import __main__ as command
from store import backup, nightly, restore
from store.backup import Backup
from store.db import Store
from tests.store.conftest import write_run

NOON = datetime(2026, 11, 21, 12, tzinfo=UTC)


@pytest.fixture(scope="module")
def _lab(tmp_path_factory: pytest.TempPathFactory) -> tuple[Home, Backup]:
    """A home with two finished runs, one that failed, one under way whose last line is torn, and what people have made; and
    its backup, outside of it. Made once, copied for each test."""
    with patch("os.fsync"):
        folder = tmp_path_factory.mktemp("lab")
        home = Home(folder / "kd").made()
        for seed in (0, 1):
            write_run(home, seed=seed, suite="s", method="kd", top1=[0.5, 0.6, 0.7 + seed / 10])
        write_run(home, end="failed", done=1)
        with write_run(home, end=None, done=2).events_jsonl.open("ab") as log:
            log.write(b'{"kind": "epoch_en')
        first = run_dirs(home)[0]
        (first.path / "best-student.safetensors").write_bytes(b"w" * 1000)
        (first.path / "last.pt").write_bytes(b"c" * 1000)
        labels.write(first, tags=["kept"], note="näht")
        (home.root / "views.json").write_text('{"views": []}')
        (home.data / "datasets.json").write_text("{}")
        made = backup.make(home, folder / "backups")
    return home, made


@pytest.fixture
def lab(home: Home, _lab: tuple[Home, Backup], monkeypatch: pytest.MonkeyPatch) -> Home:
    monkeypatch.setattr("os.fsync", lambda handle: None)  # durable is what a test's folder need not be
    shutil.copytree(_lab[0].root, home.root, dirs_exist_ok=True)
    return home


@pytest.fixture
def made(lab: Home, _lab: tuple[Home, Backup]) -> Backup:
    """The backup of ``lab``, in its usual place."""
    path = backup.folder_of(lab) / _lab[1].name
    shutil.copytree(_lab[1].path, path)
    return backup.read(path)


def under_way(home: Home) -> RunDir:
    """The run whose last line is torn."""
    return next(run for run in run_dirs(home) if not run.events_jsonl.read_bytes().endswith(b"\n"))


def answers(home: Home) -> dict[str, pd.DataFrame]:
    with Store.open(home) as store:
        store.take_in()
        tables = {name: store.frame(f"SELECT * FROM {name}") for name in ("epochs", "terms", "runs", "leaderboard", "published")}
    return {name: frame.sort_values(list(frame.columns[:4]), ignore_index=True) for name, frame in tables.items()}


def record(home: Home) -> dict[str, bytes]:
    kept = {run.run_id: run.events_jsonl.read_bytes() for run in run_dirs(home)}
    return {run_id: events[: events.rfind(b"\n") + 1] for run_id, events in kept.items()}


def tree(folder: Path) -> dict[str, str]:
    files = [path for path in sorted(folder.rglob("*")) if path.is_file() and "locks" not in path.parts]
    return {str(path.relative_to(folder)): hashlib.sha256(path.read_bytes()).hexdigest() for path in files}


def wiped(home: Home, tmp_path: Path) -> Path:
    """Take the backups out of the home, empty it, and return where they are."""
    shutil.move(backup.folder_of(home), tmp_path / "elsewhere")
    shutil.rmtree(home.root)
    home.made()
    return tmp_path / "elsewhere"


# ---- there and back ----------------------------------------------------------------------------------------------------------


def test_what_comes_back_is_what_was_there(lab: Home, made: Backup, tmp_path: Path) -> None:
    before, events = answers(lab), record(lab)
    assert made.counts == {name: len(frame) for name, frame in before.items()} | {
        name: made.counts[name] for name in ("artifacts", "best")
    }
    folder = wiped(lab, tmp_path)
    done = restore.restore(folder / made.name, lab)
    assert len(done.runs) == 4 and done.rows["epochs"] == len(before["epochs"])
    assert {run.run_id: run.events_jsonl.read_bytes() for run in run_dirs(lab)} == events
    after = answers(lab)
    for name, frame in before.items():
        pd.testing.assert_frame_equal(after[name].drop(columns="bad_lines", errors="ignore"),
                                      frame.drop(columns="bad_lines", errors="ignore"))  # fmt: skip
    assert len(after["leaderboard"]) == 1 and after["leaderboard"].n[0] == 2
    assert labels.read(run_dirs(lab)[0]).note == "näht"
    assert done.files == ("views.json", "data/datasets.json") and (lab.data / "datasets.json").read_text() == "{}"


def test_the_tables_can_be_read_by_others(lab: Home, made: Backup) -> None:
    before = answers(lab)
    for name in ("runs", "epochs", "leaderboard"):
        table = pq.read_table(made.path / "parquet" / f"{name}.parquet")
        assert table.num_rows == len(before[name]) and table.column_names == list(before[name].columns)


def test_weights_come_along_only_when_asked(lab: Home, tmp_path: Path) -> None:
    def held(made: Backup) -> set[str]:
        with tarfile.open(made.path / backup.RECORD) as tar:
            return {Path(name).name for name in tar.getnames()}

    plain = {"spec.json", "events.jsonl", "labels.json", "views.json", "datasets.json"}
    assert held(backup.make(lab)) == plain
    made = backup.make(lab, tmp_path / "to", weights=True)
    assert made.weights and held(made) == plain | {"best-student.safetensors"}
    restore.restore(made.path, other := Home(tmp_path / "other").made())
    assert (run_dirs(other)[0].path / "best-student.safetensors").read_bytes() == b"w" * 1000


def test_a_second_time_changes_nothing(lab: Home, made: Backup, tmp_path: Path) -> None:
    folder = wiped(lab, tmp_path)
    restore.restore(folder / made.name, lab)
    before = tree(lab.root)
    again = restore.restore(folder / made.name, lab)
    assert again == restore.Restored(kept=4) and tree(lab.root) == before


def test_what_is_there_is_never_overwritten(lab: Home, made: Backup) -> None:
    going = under_way(lab)
    first, second, third = (run for run in run_dirs(lab) if run != going)
    with going.events_jsonl.open("ab") as log:
        log.write(b'ded"}\n')  # the one under way went on: its torn line was ended
    second.events_jsonl.write_bytes(second.events_jsonl.read_bytes()[:-20])
    third.events_jsonl.write_bytes(b'{"kind": "notice", "text": "another"}\n')
    first.spec_json.write_text(first.spec_json.read_text() + " ")
    (lab.root / "views.json").write_text('{"views": [1]}')
    before = tree(lab.runs)
    done = restore.restore(made.path, lab)
    assert tree(lab.runs) == before and done.runs == () and done.kept == 4
    said = {problem.field.removeprefix("run "): problem.given for problem in done.conflicts}
    assert said == {
        first.run_id: "a run of that name with another request", second.run_id: "its events end before those of the backup",
        third.run_id: "its events say something else",
    }  # fmt: skip
    assert (lab.root / "views.json").read_text() == '{"views": [1]}'


def test_a_run_that_was_under_way_elsewhere_does_not_run_for_ever(lab: Home, tmp_path: Path) -> None:
    run = under_way(lab)
    run.write_attempt(Attempt(1, 4711, "another-machine", "another-boot", "2026-11-21T10:00:00Z", "cpu"))
    assert status_of(run, lab) is RunStatus.RUNNING
    made = backup.make(lab)
    folder = wiped(lab, tmp_path)
    done = restore.restore(folder / made.name, lab)
    assert done.cut_off == (run.run_id,) and status_of(RunDir(lab.runs / run.run_id), lab) is RunStatus.CANCELLED
    assert restore.restore(folder / made.name, lab).conflicts == ()
    with Store.open(lab) as store:
        assert store.frame("SELECT status FROM runs WHERE reason LIKE '%another machine%'").status.tolist() == ["cancelled"]


def test_a_run_that_was_under_way_here_is_lost(lab: Home, tmp_path: Path) -> None:
    run = under_way(lab)
    run.write_attempt(Attempt(1, 4711, platform.node(), "this-boot", "2026-11-21T10:00:00Z", "cpu"))
    made = backup.make(lab)
    folder = wiped(lab, tmp_path)
    assert restore.restore(folder / made.name, lab).cut_off == ()
    assert status_of(RunDir(lab.runs / run.run_id), lab) is RunStatus.LOST


def test_the_running_app_takes_in_what_came_back(lab: Home, made: Backup, tmp_path: Path) -> None:
    folder = wiped(lab, tmp_path)
    with Store.open(lab) as store:
        done = restore.restore(folder / made.name, lab)
        assert len(done.runs) == 4 and done.rows == {}
        store.take_in()
        assert len(store.frame("SELECT run_id FROM runs")) == 4


# ---- damaged, hostile --------------------------------------------------------------------------------------------------------


def cut(path: Path) -> None:
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])


def flip(path: Path) -> None:
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 1
    path.write_bytes(data)


@pytest.mark.parametrize("name", [backup.RECORD, "parquet/epochs.parquet"])
@pytest.mark.parametrize("damage", [cut, flip, Path.unlink])
def test_a_damaged_backup_is_refused(lab: Home, made: Backup, tmp_path: Path, name: str, damage: Callable[[Path], None]) -> None:
    assert backup.faults(made) == ()
    damage(made.path / name)
    other = Home(tmp_path / "other").made()
    before = tree(other.root)
    with pytest.raises(KdError) as fault:
        restore.restore(made.path, other)
    assert [problem.field for problem in fault.value.problems] == [f"{made.name}/{name}"]
    assert tree(other.root) == before


OUTSIDE = json.dumps(
    {"release": "1", "schema": 1, "at": NOON.isoformat(), "weights": False, "counts": {},
     "files": {backup.RECORD: {"sha256": "", "bytes": 0}, "../../elsewhere": {"sha256": "", "bytes": 0}}}
)  # fmt: skip


@pytest.mark.parametrize("said", ["", "[]", '{"files": {}}', '{"release": 1}', "\x00", OUTSIDE])
def test_what_is_no_backup_is_refused(lab: Home, made: Backup, said: str) -> None:
    (made.path / backup.ABOUT).write_text(said)
    with pytest.raises(KdError, match="no backup"):
        restore.restore(made.path, lab)
    assert backup.listed(backup.folder_of(lab)) == []


def signed(made: Backup) -> None:
    """Write the checksums anew, as somebody would who has forged the archive."""
    about = json.loads((made.path / backup.ABOUT).read_text())
    data = (made.path / backup.RECORD).read_bytes()
    about["files"][backup.RECORD] = {"sha256": hashlib.sha256(data).hexdigest(), "bytes": len(data)}
    (made.path / backup.ABOUT).write_text(json.dumps(about))


def entry(name: str, kind: bytes = tarfile.REGTYPE, link: str = "") -> tarfile.TarInfo:
    info = tarfile.TarInfo(name)
    info.type, info.linkname, info.size = kind, link, 4 if kind == tarfile.REGTYPE else 0
    return info


HOSTILE = [
    [entry("/etc/kd")], [entry("../kd")], [entry("runs/../../kd")], [entry("home/../kd")], [entry("runs/a/../../../kd")],
    [entry("runs/x/spec.json"), entry("runs/x/events.jsonl", tarfile.SYMTYPE, "/etc/passwd")],
    [entry("runs/x/spec.json"), entry("runs/x/labels.json", tarfile.LNKTYPE, "runs/x/spec.json")],
    [entry("runs/x/spec.json"), entry("runs/x/labels.json", tarfile.SYMTYPE, "spec.json")],
    [entry("runs/x/spec.json"), entry("runs/x/events.jsonl", tarfile.CHRTYPE)],
    [entry("runs/x/spec.json"), entry("runs/x/events.jsonl", tarfile.FIFOTYPE)],
    [entry("runs/x", tarfile.DIRTYPE)], [entry("runs/x/spec.json"), entry("runs/x/spec.json")],
    [entry("runs/x/events.jsonl")], [entry("runs/x/spec.json"), entry("runs/x/last.pt")],
    [entry("runs/x/spec.json"), entry("runs/x/evil.py")], [entry("runs/x/spec.json"), entry("runs/x/sub/spec.json")],
    [entry("runs/.hidden/spec.json")], [entry("runs/x\n/spec.json")], [entry("home/results.duckdb")],
    [entry("home/locks/store.lock")],
    [entry("home/data/../people.json")], [entry("app.py")], [entry("")],
]  # fmt: skip


@pytest.mark.parametrize("entries", HOSTILE, ids=lambda entries: repr(entries[-1].name)[:40])
def test_an_archive_that_no_backup_made_is_refused(
    lab: Home, made: Backup, tmp_path: Path, entries: list[tarfile.TarInfo]
) -> None:
    with tarfile.open(made.path / backup.RECORD, "w:gz") as tar:
        for info in entries:
            tar.addfile(info, io.BytesIO(b"evil") if info.size else None)
    signed(made)
    other = Home(tmp_path / "deep" / "other").made()
    before = tree(tmp_path)
    with pytest.raises(KdError, match="which holds"):
        restore.restore(made.path, other)
    assert tree(tmp_path) == before


def text(path: Path) -> None:
    path.write_bytes(b"no archive")


def other_content(path: Path) -> None:
    path.write_bytes(gzip.compress(b"x"))


@pytest.mark.parametrize("spoil", [cut, text, other_content])
def test_an_archive_that_cannot_be_read_is_refused(
    lab: Home, made: Backup, tmp_path: Path, spoil: Callable[[Path], None]
) -> None:
    spoil(made.path / backup.RECORD)
    signed(made)
    other = Home(tmp_path / "other").made()
    before = tree(other.root)
    with pytest.raises(KdError, match="no whole archive"):
        restore.restore(made.path, other)
    assert tree(other.root) == before


def test_a_backup_of_a_newer_release_is_refused(lab: Home, made: Backup) -> None:
    about = json.loads((made.path / backup.ABOUT).read_text())
    (made.path / backup.ABOUT).write_text(json.dumps(about | {"schema": 99}))
    with pytest.raises(KdError, match="schema 99"):
        restore.restore(made.path, lab)


# ---- a disk that is full -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("where", ["_write_tables", "_write_record", "_put_in_place"])
def test_a_full_disk_leaves_nothing_half(lab: Home, made: Backup, monkeypatch: pytest.MonkeyPatch, where: str) -> None:

    def full(*given: object) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(backup, where, full)
    with pytest.raises(KdError, match="No space left"):
        backup.make(lab)
    assert [path.name for path in backup.folder_of(lab).iterdir()] == [made.name] and backup.faults(made) == ()


def test_a_backup_leaves_room_for_trainings(lab: Home, made: Backup, monkeypatch: pytest.MonkeyPatch) -> None:
    usage = namedtuple("usage", "free")
    monkeypatch.setattr(backup.shutil, "disk_usage", lambda path: usage(backup.ROOM_BYTES))
    with pytest.raises(KdError, match="64 MiB free"):
        backup.make(lab)
    monkeypatch.setattr(restore.shutil, "disk_usage", lambda path: usage(backup.ROOM_BYTES))
    with pytest.raises(KdError, match="64 MiB free"):
        restore.restore(made.path, lab)


def test_a_disk_that_fills_while_restoring_keeps_whole_runs(
    lab: Home, made: Backup, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = wiped(lab, tmp_path)
    written: list[object] = []

    def copy(source: object, target: object) -> None:
        written.append(target)
        if len(written) == 4:
            raise OSError(errno.ENOSPC, "No space left on device")
        original(source, target)

    original = shutil.copyfileobj
    monkeypatch.setattr(restore.shutil, "copyfileobj", copy)
    with pytest.raises(KdError, match="No space left"):
        restore.restore(folder / made.name, lab)
    assert len(run_dirs(lab)) == 1 and list((lab.root / ".new").iterdir()) == []
    monkeypatch.undo()
    assert len(restore.restore(folder / made.name, lab).runs) == 3


def test_runs_are_back_even_if_the_database_cannot_be_made(
    lab: Home, made: Backup, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(home: Home) -> dict[str, int]:
        raise duckdb.IOException("Could not write file: No space left on device")

    folder = wiped(lab, tmp_path)
    monkeypatch.setattr(restore, "rebuild", full)
    with pytest.raises(KdError, match="python -m store rebuild"):
        restore.restore(folder / made.name, lab)
    assert len(run_dirs(lab)) == 4


def test_what_a_killed_one_left_is_cleared(lab: Home) -> None:
    left = backup.folder_of(lab) / ".new-1-abc"
    left.mkdir(parents=True)
    (left / "record.tar.gz").write_bytes(b"half")
    made = backup.make(lab)
    assert [path.name for path in backup.folder_of(lab).iterdir()] == [made.name]


# ---- which stay, and when the next is due ------------------------------------------------------------------------------------


def invented(folder: Path, at: datetime) -> str:
    path = folder / at.strftime(backup.STAMP)
    path.mkdir(parents=True)
    about = {"release": "1", "schema": 1, "at": at.isoformat(), "weights": False, "counts": {},
             "files": {backup.RECORD: {"sha256": "", "bytes": 0}}}  # fmt: skip
    (path / backup.ABOUT).write_text(json.dumps(about))
    return path.name


def test_the_newest_of_each_day_and_week_stay(home: Home) -> None:
    folder = backup.folder_of(home)
    names = {
        (day, hour): invented(folder, NOON - timedelta(days=day, hours=hour)) for day in range(40) for hour in (0, 5)
    }  # two a day for forty days, up to Saturday noon
    gone = backup.rotate(home)
    left = [made.name for made in backup.listed(folder)]
    days = [names[day, 0] for day in range(7)]
    weeks = [names[day, 0] for day in (0, 6, 13, 20)]  # Saturday, and the three Sundays before
    assert sorted(left) == sorted({*days, *weeks}) and len(gone) == 80 - len(left)
    assert {path.name for path in folder.iterdir()} == set(left)
    home.settings.write_text('{"backup_keep_days": 2, "backup_keep_weeks": 0}')
    backup.rotate(home)
    assert [made.name for made in backup.listed(folder)] == [names[1, 0], names[0, 0]]
    assert backup.rotate(home, keep=1) == [names[1, 0]]
    assert backup.rotate(home, keep=1) == [] and len(backup.listed(folder)) == 1


def test_a_backup_of_a_wrong_clock_pushes_no_other_out(home: Home) -> None:
    folder = backup.folder_of(home)
    for at in (NOON, NOON + timedelta(days=4000)):
        invented(folder, at)
    assert backup.rotate(home) == []


@pytest.mark.parametrize(
    ("age_h", "hour", "due"),
    [
        (None, 12, True), (1, 3, False), (23.9, 3, False), (24, 3, True), (24, 12, False), (25.9, 0, False), (26, 12, True),
        (500, 6, True),
    ],
)  # fmt: skip
def test_when_a_backup_is_due(age_h: float | None, hour: int, due: bool) -> None:
    now = NOON.replace(hour=hour)
    assert nightly.is_due(None if age_h is None else now - timedelta(hours=age_h), now) is due


def test_the_nightly_one_is_started_once_and_tried_again_later(lab: Home, monkeypatch: pytest.MonkeyPatch) -> None:
    started: list[str] = []
    monkeypatch.setattr(errands, "start", lambda home, errand: started.append(errand.name) or True)
    assert nightly.tick(lab) and started == ["backup"]
    lab.settings.write_text('{"backups": false}')
    assert not nightly.tick(lab)
    lab.settings.unlink()
    invented(backup.folder_of(lab), datetime.now(UTC) + timedelta(days=3))
    assert nightly.tick(lab), "a backup from the future puts nothing off"
    nightly.ERRAND.note(lab).parent.mkdir(exist_ok=True)
    errands._write(nightly.ERRAND.note(lab), began=0, problems=(KdError.of("a full disk", "room", "make room").problems[0],))
    with pytest.raises(KdError, match="a full disk"):
        nightly.tick(lab)
    monkeypatch.setattr(nightly, "AGAIN_S", 0)
    assert nightly.tick(lab)
    invented(backup.folder_of(lab), datetime.now(UTC))
    assert not nightly.tick(lab) and len(started) == 3


def test_an_empty_home_needs_no_backup(home: Home, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(errands, "start", lambda home, errand: pytest.fail("nothing is there"))
    assert not nightly.tick(home)


@pytest.mark.slow
def test_the_nightly_one_is_made_in_a_process_of_its_own(lab: Home) -> None:
    assert nightly.tick(lab) and not nightly.tick(lab)
    until = time.monotonic() + 40
    while nightly.standing(lab).going and time.monotonic() < until:
        time.sleep(0.05)
    assert nightly.standing(lab).problems == ()
    while errands._started and time.monotonic() < until:
        errands._reap()
    [made] = backup.listed(backup.folder_of(lab))
    assert made.counts["runs"] == 4 and backup.faults(made) == () and not nightly.tick(lab)


# ---- the command line --------------------------------------------------------------------------------------------------------


def run(monkeypatch: pytest.MonkeyPatch, *words: str) -> int:
    monkeypatch.setattr(sys, "argv", ["store", *words])
    with pytest.raises(SystemExit) as end:
        command.main()
    return int(end.value.code or 0)


def test_the_commands(lab: Home, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(monkeypatch, "backup") == 0
    assert run(monkeypatch, "backup", "--to", str(tmp_path / "out"), "--weights") == 0
    assert run(monkeypatch, "backup", "--to", str(tmp_path / "out"), "--keep", "1") == 0
    assert len(backup.listed(tmp_path / "out")) == 1 and "4 runs" in capsys.readouterr().err
    assert run(monkeypatch, "restore", "newest", "--to", str(tmp_path / "other")) == 0
    assert len(run_dirs(Home(tmp_path / "other"))) == 4 and "4 runs are back" in capsys.readouterr().err
    assert run(monkeypatch, "restore", "20200101T000000Z") == 1
    assert "allowed" in capsys.readouterr().err
    (tmp_path / "file").touch()
    assert run(monkeypatch, "backup", "--to", str(tmp_path / "file")) == 1
    assert nightly.standing(lab).problems == (), "a fault elsewhere is none of the nightly ones"
    capsys.readouterr()
    first = run_dirs(lab)[0]
    first.spec_json.write_text(first.spec_json.read_text() + " ")
    assert run(monkeypatch, "restore", backup.listed(backup.folder_of(lab))[0].name) == 1
    said = capsys.readouterr().err
    assert "0 runs are back, 4 were there" in said and "another request" in said
