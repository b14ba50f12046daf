"""What runs take, what is too much, and how a run is removed without harm to another."""

from __future__ import annotations

import os
import time

import pytest

from kdengine import storage
from kdengine.access import NO_LIMIT, Quota
from kdengine.errors import RunBusy, UnknownKey
from kdengine.events import Ended
from kdengine.home import Home
from kdengine.rundir import Attempt, RunDir, run_dirs
from kdengine.spec import RunSpec
from kdengine.status import RunStatus, boot_id, status_of, take_lock
from kdengine.storage import Taken


def made(home: Home, owner: str | None = "ada", how: str | None = "finished", **fields: object) -> RunDir:
    teacher_run = fields.pop("taught_by", None)
    run = RunDir.create(home, RunSpec(**fields), owner=owner, teacher_run=teacher_run)  # type: ignore[arg-type]
    if how:
        run.append_event(Ended(how=how, elapsed_s=3600.0))  # type: ignore[arg-type]
    return run


def trained(run: RunDir, slot: str) -> None:
    run.write_attempt(Attempt(1, None, os.uname().nodename, boot_id(), "2026-11-21T00:00:00.000000Z", slot))


def test_usage_is_told_by_owner(home: Home) -> None:
    one, two = made(home), made(home, how=None, seed=1)
    other = made(home, owner=None, seed=2)
    (other.path / "weights.bin").write_bytes(b"x" * 5_000_000)
    trained(one, "cuda:0")
    trained(two, "cuda:1")
    nobodys, ada = storage.usage(home)
    assert (nobodys.owner, nobodys.runs, nobodys.gpu_hours) == (None, 1, 0.0) and nobodys.mib > 4.7
    assert (ada.owner, ada.runs, ada.gpu_hours) == ("ada", 2, 1.0)
    assert ada == storage.taken_by(home, "ada") and ada.bytes == storage.size_of(one) + storage.size_of(two)
    assert [run_id for run_id, _ in storage.sizes(home)][0] == other.run_id


def test_waiting_runs_are_counted(home: Home) -> None:
    made(home, how=None)
    teacher = made(home, how=None, seed=1, owner="bob")
    made(home, how=None, seed=2, taught_by=teacher.run_id)
    assert storage.taken_by(home, "ada").waiting == 2 and storage.taken_by(home, "nobody") == Taken("nobody")


def test_gpu_hours_are_those_of_the_last_30_days_on_gpus(home: Home) -> None:
    new, old, cpu = made(home), made(home, seed=1), made(home, seed=2)
    for run, slot in ((new, "cuda:0"), (old, "cuda:0"), (cpu, "core")):
        trained(run, slot)
    past = time.time() - storage.WINDOW_S - 60
    os.utime(old.events_jsonl, (past, past))
    assert storage.taken_by(home, "ada").gpu_hours == 1.0


def test_a_request_that_cannot_be_read_belongs_to_nobody(home: Home) -> None:
    made(home).spec_json.write_text("{")
    assert [taken.owner for taken in storage.usage(home)] == [None]


def test_what_is_too_much_is_told_at_once() -> None:
    taken = Taken("ada", 9, waiting=40, bytes=200 << 20, gpu_hours=12.5)
    assert storage.faults(Quota(queued_runs=50, gpu_hours=13, disk_mib=201), taken, 10) == []
    assert storage.faults(NO_LIMIT, taken, 10_000) == []
    found = storage.faults(Quota(queued_runs=50, gpu_hours=12.5, disk_mib=200), taken, 12)
    assert [problem.field for problem in found] == ["queue", "GPU hours", "disk"]
    assert found[0].given == "52 runs in the queue, 40 of them there already" and found[0].allowed == "50 of one person at once"


def test_a_launch_counts_its_teachers_once(home: Home) -> None:
    students = [RunSpec(method="kd", teacher="resnet20", seed=n) for n in range(3)]
    assert storage.planned(home, students) == 4
    teacher = students[0].teacher_spec()
    assert teacher and storage.planned(home, [teacher, *students]) == 4
    RunDir.create(home, teacher)
    assert storage.planned(home, students) == 3
    RunDir.create(home, students[0])
    assert (storage.planned(home, students), storage.planned(home, students, reuse=True)) == (3, 2)


# ---- removing ---------------------------------------------------------------------------------------------------------------


def test_a_run_that_is_over_is_removed_whole(home: Home) -> None:
    keep, run = made(home), made(home, seed=1)
    size = storage.size_of(run)
    assert storage.remove_run(home, run.run_id) >= size > 0
    assert run_dirs(home) == [keep] and not list((home.root / ".removed").iterdir())
    with pytest.raises(UnknownKey):
        storage.remove_run(home, run.run_id)


@pytest.mark.parametrize("name", ["", ".", "..", "../kd", "/etc", "x\x00", "*"])
def test_only_a_whole_name_names_a_run(home: Home, name: str) -> None:
    run = made(home)
    for given in (name, run.run_id[:-1], run.run_id[-6:], f"./{run.run_id}", f"{run.run_id}/"):
        with pytest.raises(UnknownKey):
            storage.remove_run(home, given)
    assert run_dirs(home) == [run]


def test_a_run_on_its_way_stays(home: Home) -> None:
    queued, running = made(home, how=None), made(home, how=None, seed=1)
    handle = take_lock(running)
    assert handle is not None
    trained(running, "cpu")
    try:
        for run in (queued, running):
            with pytest.raises(RunBusy, match="a run that is over"):
                storage.remove_run(home, run.run_id)
    finally:
        os.close(handle)
    assert len(run_dirs(home)) == 2


@pytest.mark.parametrize("how", ["waits", "lost"])
def test_a_teacher_stays_as_long_as_it_is_needed(home: Home, how: str) -> None:
    teacher = made(home)
    pupil = made(home, how=None, seed=1, taught_by=teacher.run_id)
    if how == "lost":
        trained(pupil, "cpu")
        assert status_of(pupil, home) is RunStatus.LOST
    with pytest.raises(RunBusy, match="the teacher of"):
        storage.remove_run(home, teacher.run_id)
    pupil.append_event(Ended(how="finished"))
    assert storage.remove_run(home, teacher.run_id) > 0


def test_what_could_not_be_deleted_is_deleted_later(home: Home, monkeypatch: pytest.MonkeyPatch) -> None:
    first, second = made(home), made(home, seed=1)
    with monkeypatch.context() as patch:
        patch.setattr("shutil.rmtree", lambda path: (_ for _ in ()).throw(OSError(5, "Input/output error")))
        with pytest.raises(OSError, match="Input"):
            storage.remove_run(home, first.run_id)
    assert run_dirs(home) == [second] and len(list((home.root / ".removed").iterdir())) == 1
    storage.remove_run(home, second.run_id)
    assert not list((home.root / ".removed").iterdir())
