"""The run folder: never half a file, torn lines cost nothing but themselves, names are safe."""

from __future__ import annotations

import json
import os
import re
from collections.abc import Callable

import pytest

from kdengine.durable import write_aside
from kdengine.errors import SpecError, UnknownKey
from kdengine.eventlog import TAIL_BYTES
from kdengine.events import Ended, EpochEnded, Notice
from kdengine.home import Home
from kdengine.rundir import Attempt, Progress, RunDir, find_run, new_run_id, run_dirs
from kdengine.spec import RunSpec

Spec = Callable[..., RunSpec]


def epoch(n: int) -> EpochEnded:
    return EpochEnded(epoch=n, epochs=9, images_seen=n, elapsed_s=n, epoch_s=1, images_per_s=1, lr=0.1)


@pytest.fixture
def run(home: Home, spec: Spec) -> RunDir:
    return RunDir.create(home, spec())


@pytest.mark.parametrize("method", ["kd", "A.b:c-D", "x" * 64, "..", "a/../b"])
def test_run_ids_are_safe_as_folder_and_url(method: str) -> None:
    run_id = new_run_id(RunSpec.model_construct(method=method))
    assert re.fullmatch(r"\d{8}-\d{6}-[a-z0-9_-]{1,24}-[0-9a-f]{6}", run_id)


def test_created_run_says_what_was_asked(home: Home, spec: Spec) -> None:
    asked = spec(method="kd", params={"T": 4.0}, teacher="resnet20")
    run = RunDir.create(home, asked, teacher_run="t", retry_of="r", owner="ada")
    request = run.read_request()
    assert (request.spec, request.teacher_run, request.retry_of, request.owner) == (asked, "t", "r", "ada")
    assert request.run_id == run.run_id and request.identity == asked.identity()
    assert run_dirs(home) == [run]


@pytest.mark.parametrize("said", [None, 7, ["ada"], {"name": "ada"}])
def test_an_owner_is_a_name_or_nobody(home: Home, spec: Spec, said: object) -> None:
    run = RunDir.create(home, spec())
    assert run.read_request().owner is None
    run.spec_json.write_text(json.dumps(json.loads(run.spec_json.read_text()) | {"owner": said}))
    assert run.read_request().owner is None


def test_half_a_run_is_never_visible(home: Home, spec: Spec, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*_: object, **__: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("kdengine.rundir.write_aside", full)
    with pytest.raises(OSError, match="space"):
        RunDir.create(home, spec())
    assert list(home.runs.iterdir()) == []


def test_what_is_no_run_is_ignored(home: Home, run: RunDir) -> None:
    (home.runs / "empty").mkdir()
    (home.runs / ".hidden").mkdir()
    (home.runs / "file").write_text("")
    assert run_dirs(home) == [run]


def test_find_run_takes_a_unique_part_and_nothing_else(home: Home, run: RunDir, spec: Spec) -> None:
    assert find_run(home, run.run_id[-6:]) == find_run(home, run.run_id[:20]) == run
    RunDir.create(home, spec())
    for wrong in ("", "nothing", "../runs/" + run.run_id, run.run_id[:6]):
        with pytest.raises(UnknownKey) as caught:
            find_run(home, wrong)
        assert caught.value.problems[0].do


def test_torn_spec_is_an_error_not_a_crash(run: RunDir) -> None:
    run.spec_json.write_text('{"run_id": "x", ')
    with pytest.raises(ValueError):
        run.read_request()
    run.spec_json.write_text('{"created_at": "", "spec": {"epochs": 0}}')
    with pytest.raises(SpecError):
        run.read_request()
    assert run.request_or_none() is None


def test_events_come_back_and_positions_go_on(run: RunDir) -> None:
    assert run.read_events() == ([], 0) and run.last_event() is None
    run.append_event(epoch(1))
    first, position = run.read_events()
    run.append_event(epoch(2))
    rest, end = run.read_events(position)
    assert [e.epoch for e in (*first, *rest)] == [1, 2] and end == run.events_bytes()
    assert run.read_events(end) == ([], end)


def test_half_a_line_is_left_for_later(run: RunDir) -> None:
    run.append_event(epoch(1))
    whole = run.events_jsonl.read_bytes()
    with run.events_jsonl.open("ab") as file:
        file.write(whole[:20])
    events, position = run.read_events()
    assert len(events) == 1 and position == len(whole)
    with run.events_jsonl.open("ab") as file:
        file.write(whole[20:])
    assert len(run.read_events(position)[0]) == 1


def test_torn_line_is_sealed_and_the_next_event_is_fine(run: RunDir) -> None:
    run.append_event(epoch(1))
    size = run.events_bytes()
    with run.events_jsonl.open("ab") as file:
        file.write(b'{"kind":"epoch","epo\rch":')
    run.append_event(epoch(2))
    events, end, rejects = run.scan_events()
    assert [e.epoch for e in events] == [1, 2] and end == run.events_bytes()
    assert [(r.position, r.text[:15]) for r in rejects] == [(size, '{"kind":"epoch"')]


def test_last_event_reads_past_bad_and_endless_lines(run: RunDir) -> None:
    run.append_event(epoch(1))
    run.append_event(Notice(text="x" * (3 * TAIL_BYTES)))
    assert isinstance(run.last_event(), Notice)
    with run.events_jsonl.open("ab") as file:
        file.write(b"y" * (2 * TAIL_BYTES) + b"\n" + b"half")
    last = run.last_epoch()
    assert isinstance(run.last_event(), Notice) and last is not None and last.epoch == 1


@pytest.mark.parametrize("pad", range(-60, 60, 7))
def test_the_cut_of_the_tail_may_fall_anywhere(run: RunDir, pad: int) -> None:
    for n in range(1, 4):
        run.append_event(epoch(n))
    run.append_event(Notice(text="z" * (TAIL_BYTES - 500 + pad)))
    last = run.last_epoch()
    assert last is not None and last.epoch == 3


def test_last_event_since_ignores_earlier_words(run: RunDir) -> None:
    run.append_event(Ended(how="failed"))
    since = run.events_bytes()
    assert run.last_event(since) is None
    run.append_event(epoch(1))
    assert run.last_event(since) == run.last_event()


def test_a_full_disk_is_an_oserror_and_leaves_the_old_file(run: RunDir, monkeypatch: pytest.MonkeyPatch) -> None:
    run.write_progress({"phase": "main", "epoch": 1, "epochs": 2, "step": 3, "steps": 4})
    monkeypatch.setattr(os, "fsync", lambda _: (_ for _ in ()).throw(OSError(28, "No space left on device")))
    with pytest.raises(OSError, match="space"):
        write_aside(run.progress_json, b"half")
    with pytest.raises(OSError, match="space"):
        run.append_event(epoch(1))
    monkeypatch.undo()
    assert isinstance(run.read_progress(), Progress)
    assert [p.name for p in run.path.iterdir() if p.name.startswith(".")] == []


def test_short_writes_are_completed(run: RunDir, monkeypatch: pytest.MonkeyPatch) -> None:
    write = os.write
    monkeypatch.setattr(os, "write", lambda handle, data: write(handle, data[:7]))
    run.append_event(epoch(5))
    assert [e.epoch for e in run.read_events()[0]] == [5]


def test_attempts_and_asks_are_ordered_by_number(run: RunDir) -> None:
    for n in (1, 2, 10):
        run.write_attempt(Attempt(n, 1, "h", "b", "t", "cpu"))
    assert [a.n for a in run.attempts()] == [1, 2, 10]
    assert run.resume_ask() is None
    assert run.write_resume_ask().n == 11
    asked = run.resume_ask()
    assert asked is not None and asked.n == 11
    run.write_attempt(Attempt(11, 1, "h", "b", "t", "cpu"))
    assert run.resume_ask() is None


def test_fields_of_a_newer_version_are_passed_over(run: RunDir) -> None:
    (run.path / "attempt-1.json").write_text('{"n":1,"pid":2,"host":"h","boot":"b","started_at":"t","slot":"cpu","later":1}')
    run.progress_json.write_text('{"phase": "main"}')
    assert run.attempts()[0].pid == 2 and run.read_progress() is None


def test_log_tail_and_artifacts(run: RunDir) -> None:
    assert run.tail_log() == ""
    run.log.write_bytes(b"\n".join(b"line %d" % n for n in range(100)) + b"\n\xff")
    assert run.tail_log(2).startswith("line 99\n")
    run.write_progress({"phase": "main"})
    run.write_attempt(Attempt(1, None, "h", "b", "t", "cpu"))
    run.best_weights("peer1").write_bytes(b"123")
    assert [(a.name, a.bytes) for a in run.artifacts() if a.name.startswith("best")] == [("best-peer1.safetensors", 3)]
    assert {a.name for a in run.artifacts()} == {"best-peer1.safetensors", "spec.json", "worker.log"}
