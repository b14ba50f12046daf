"""The queue and the workers: started once, lost when killed, stopped when asked, taught in order."""

from __future__ import annotations

import contextlib
import fcntl
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from kdengine import runner
from kdengine.errors import HomeError, RunBusy, SpecError, UnknownKey
from kdengine.events import Ended, EpochEnded, Started
from kdengine.home import Home
from kdengine.rundir import RunDir, find_run, run_dirs
from kdengine.spec import RunSpec
from kdengine.status import RunStatus, is_locked, status_of, take_lock, view, views

pytestmark = pytest.mark.usefixtures("fake_worker")
Spec = Callable[..., RunSpec]
Becomes = Callable[[str, str], RunDir]
Until = Callable[..., None]
LONG = {"epoch_s": 30}


def statuses(home: Home) -> list[str]:
    return [v.status.value for v in views(home)]


def test_a_run_goes_from_launch_to_finished(home: Home, spec: Spec) -> None:
    run_id = runner.launch(home, spec(epochs=3))
    events = list(runner.follow(home, run_id))
    assert [e.kind for e in events] == ["started", "epoch", "epoch", "epoch", "ended"]
    shown = view(find_run(home, run_id), home)
    assert shown.status is RunStatus.FINISHED and shown.top1_frac == pytest.approx(0.9) and shown.done_epochs == 3
    assert "hello from" in find_run(home, run_id).tail_log()


def test_two_ticks_at_once_start_a_run_once(home: Home, spec: Spec, becomes: Becomes) -> None:
    home.settings.write_text('{"cpu_slots": 8}')
    run_ids = [runner.launch(home, spec(LONG, seed=n), start=False) for n in range(3)]
    code = "from kdengine.home import Home; from kdengine.runner import tick; print(*tick(Home.find()))"
    env = os.environ | {"PYTHONPATH": f"{Path(runner.__file__).parents[1]}:{os.environ['PYTHONPATH']}"}
    others = [subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE, env=env) for _ in range(2)]
    started: list[str] = []
    threads = [threading.Thread(target=lambda: started.extend(runner.tick(home))) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    said = [other.communicate()[0].decode().split() for other in others]
    assert sorted([*started, *(run_id for line in said for run_id in line)]) == sorted(run_ids)
    assert [len(becomes(run_id, "running").attempts()) for run_id in run_ids] == [1, 1, 1]


def test_the_lock_alone_keeps_a_run_from_starting_twice(home: Home, spec: Spec) -> None:
    run_id = runner.launch(home, spec(), start=False)
    held = take_lock(RunDir(home.runs / run_id))
    assert held is not None
    assert runner.tick(home) == [] and RunDir(home.runs / run_id).attempts() == []
    os.close(held)
    assert runner.tick(home) == [run_id]


def test_readers_that_probe_never_block_a_start(home: Home, spec: Spec) -> None:
    run = find_run(home, runner.launch(home, spec(LONG), start=False))
    run.lock.touch()
    stop = threading.Event()

    def probe() -> None:
        while not stop.is_set():
            with run.lock.open() as file, contextlib.suppress(BlockingIOError):
                fcntl.flock(file, fcntl.LOCK_SH | fcntl.LOCK_NB)
                time.sleep(0.003)
            time.sleep(0.001)

    reader = threading.Thread(target=probe)
    reader.start()
    try:
        assert runner.tick(home) == [run.run_id]
    finally:
        stop.set()
        reader.join()


def test_one_place_on_a_cpu_machine_oldest_first(home: Home, spec: Spec, becomes: Becomes) -> None:
    run_ids = runner.launch_suite(home, [spec(seed=n, method=m) for n, m in enumerate(("zz", "mm", "aa"))])
    assert [v.position for v in views(home)][1:] == [1, 2]
    for run_id in run_ids:
        list(runner.follow(home, run_id))
    began = [next(e.at for e in find_run(home, r).read_events()[0] if isinstance(e, Started)) for r in run_ids]
    ended = [find_run(home, r).attempts()[0].started_at for r in run_ids]
    assert began == sorted(began) and ended == sorted(ended)


def test_an_ending_worker_moves_the_queue_on(home: Home, spec: Spec, becomes: Becomes) -> None:
    first, second = runner.launch_suite(home, [spec({"tick": True}), spec(LONG, seed=1)])
    becomes(first, "finished")
    assert becomes(second, "running").attempts()[0].slot == "core"


def test_places_are_settable_and_a_wrong_setting_is_explained(home: Home, spec: Spec) -> None:
    home.settings.write_text('{"cpu_slots": 2}')
    runner.launch_suite(home, [spec(LONG, seed=n) for n in range(3)])
    assert statuses(home) == ["running", "running", "queued"]
    home.settings.write_text('{"cpu_slots": "many", "gpu": 1}')
    with pytest.raises(HomeError) as caught:
        runner.tick(home)
    assert len(caught.value.problems) == 2
    home.settings.write_text("{")
    with pytest.raises(HomeError, match="correct or remove"):
        runner.tick(home)


def test_killed_worker_is_lost_and_resumes_under_its_own_name(home: Home, spec: Spec, becomes: Becomes, until: Until) -> None:
    run = becomes(runner.launch(home, spec({"epoch_s": 0.3}, epochs=3)), "running")
    until(lambda: run.last_epoch())
    os.kill(run.attempts()[0].pid or 0, signal.SIGKILL)
    becomes(run.run_id, "lost")
    assert runner.tick(home) == [], "a lost run waits for a person"
    runner.resume(home, run.run_id)
    list(runner.follow(home, run.run_id))
    epochs = [e.epoch for e in run.read_events()[0] if isinstance(e, EpochEnded)]
    assert status_of(run, home) is RunStatus.FINISHED and epochs == [1, 2, 3] and len(run.attempts()) == 2


def test_worker_that_dies_before_its_first_line_is_lost(home: Home, spec: Spec, becomes: Becomes) -> None:
    run = becomes(runner.launch(home, spec({"die": "start"})), "lost")
    assert run.read_events() == ([], 0) and view(run, home).attempts == 1
    runner.resume(home, run.run_id)
    becomes(run.run_id, "finished")


def test_torn_last_line_of_a_killed_worker_spoils_nothing(home: Home, spec: Spec, becomes: Becomes) -> None:
    run = becomes(runner.launch(home, spec({"die": "torn"})), "lost")
    runner.cancel(home, run.run_id)
    events, _, rejects = run.scan_events()
    assert status_of(run, home) is RunStatus.CANCELLED
    assert isinstance(events[-1], Ended) and "lost" in events[-1].reason and len(rejects) == 1


def test_cancel_of_a_queued_run_is_its_last_word(home: Home, spec: Spec) -> None:
    _, queued = runner.launch_suite(home, [spec(LONG), spec(seed=1)])
    runner.cancel(home, queued)
    shown = view(find_run(home, queued), home)
    assert (shown.status, shown.reason, shown.attempts) == (RunStatus.CANCELLED, "before it started", 0)
    with pytest.raises(RunBusy, match="not over"):
        runner.cancel(home, queued)


def test_cancelled_before_its_start_can_still_be_resumed(home: Home, spec: Spec, becomes: Becomes) -> None:
    blocker, queued = runner.launch_suite(home, [spec(LONG), spec(seed=1)])
    for _ in range(2):
        runner.cancel(home, queued)
        runner.resume(home, queued)
        assert status_of(find_run(home, queued), home) is RunStatus.QUEUED
    runner.cancel(home, blocker)
    becomes(queued, "finished")


def test_cancel_asks_a_running_worker_politely(home: Home, spec: Spec, becomes: Becomes, until: Until) -> None:
    run = becomes(runner.launch(home, spec({"epoch_s": 5})), "running")
    until(lambda: run.last_event())
    began = time.monotonic()
    runner.cancel(home, run.run_id)
    assert time.monotonic() - began < 3 and not is_locked(run)
    assert (view(run, home).status, view(run, home).reason) == (RunStatus.CANCELLED, "stopped on request")


def test_stubborn_worker_is_killed_with_its_group(home: Home, spec: Spec, becomes: Becomes, until: Until) -> None:
    run = becomes(runner.launch(home, spec({"deaf": True, "epoch_s": 30})), "running")
    until(lambda: run.last_event())
    runner.cancel(home, run.run_id, grace_s=0.2)
    shown = view(run, home)
    assert shown.status is RunStatus.CANCELLED and "did not stop within 0.2 s" in shown.reason
    with pytest.raises(ProcessLookupError):
        os.killpg(run.attempts()[0].pid or 0, 0)


def test_worker_that_lingers_after_its_last_word_is_over_and_its_place_is_free(home: Home, spec: Spec, becomes: Becomes) -> None:
    first, second = runner.launch_suite(home, [spec({"linger_s": 30}), spec(seed=1)])
    assert is_locked(becomes(first, "finished"))
    assert runner.tick(home) == [second]


def test_no_zombie_stays_behind(home: Home, spec: Spec, becomes: Becomes, until: Until) -> None:
    run = becomes(runner.launch(home, spec()), "finished")
    pid = run.attempts()[0].pid or 0
    until(lambda: runner.tick(home) == [] and not Path(f"/proc/{pid}").exists())


def test_a_reused_process_number_is_not_signalled(home: Home, spec: Spec, becomes: Becomes) -> None:
    run = becomes(runner.launch(home, spec(LONG)), "running")
    worker = run.attempts()[0]
    bystander = subprocess.Popen(["sleep", "30"], start_new_session=True)
    try:
        (run.path / "attempt-1.json").write_text(
            (run.path / "attempt-1.json").read_text().replace(str(worker.pid), str(bystander.pid))
        )
        runner.cancel(home, run.run_id, grace_s=1)
        assert bystander.poll() is None and status_of(run, home) is RunStatus.CANCELLED
    finally:
        bystander.kill()
        bystander.wait()


def test_run_of_another_host_is_never_called_lost(home: Home, spec: Spec, becomes: Becomes) -> None:
    run = becomes(runner.launch(home, spec({"die": "start"})), "lost")
    record = run.path / "attempt-1.json"
    attempt = run.attempts()[0]
    record.write_text(record.read_text().replace(attempt.boot, "otherboot"))
    assert status_of(run, home) is RunStatus.LOST, "the same host after a reboot"
    record.write_text(record.read_text().replace(attempt.host, "elsewhere"))
    assert status_of(run, home) is RunStatus.RUNNING
    assert runner.launch(home, spec(seed=1)) and statuses(home)[-1] == "running", "and it takes no place here"


def test_retry_is_a_new_run_of_the_same_spec(home: Home, spec: Spec, becomes: Becomes) -> None:
    run = becomes(runner.launch(home, spec({"fail": "loss is nan"})), "failed")
    assert view(run, home).reason == "loss is nan"
    again = find_run(home, runner.retry(home, run.run_id))
    assert again != run and again.read_request().spec == run.read_request().spec
    assert again.read_request().retry_of == run.run_id
    with pytest.raises(RunBusy):
        runner.retry(home, runner.launch(home, spec(LONG, seed=9)))


def test_resume_refuses_what_cannot_be_resumed(home: Home, spec: Spec, becomes: Becomes) -> None:
    finished = becomes(runner.launch(home, spec()), "finished")
    with pytest.raises(RunBusy, match="retry"):
        runner.resume(home, finished.run_id)
    with pytest.raises(RunBusy, match="wait"):
        runner.resume(home, runner.launch(home, spec(LONG, seed=1)))
    with pytest.raises(UnknownKey):
        runner.resume(home, "nothing")


def test_teacher_is_trained_first_and_shared(home: Home, spec: Spec, becomes: Becomes) -> None:
    students = [spec(method="kd", teacher="resnet20", seed=n, suite="s") for n in range(3)]
    run_ids = runner.launch_suite(home, students)
    teachers = {find_run(home, r).read_request().teacher_run for r in run_ids}
    assert len(run_dirs(home)) == 4 and len(teachers) == 1
    for run_id in run_ids:
        list(runner.follow(home, run_id))
    assert statuses(home) == ["finished"] * 4
    ended = view(find_run(home, str(*teachers)), home).last
    assert ended and all(find_run(home, r).attempts()[0].started_at > ended.at for r in run_ids), "no student before its teacher"
    later = runner.launch(home, spec(method="kd", teacher="resnet20", seed=7))
    assert {find_run(home, later).read_request().teacher_run} == teachers == {runner.teacher_of(home, students[0])}


def test_failed_teacher_fails_its_dependents_with_the_reason(home: Home, spec: Spec, becomes: Becomes) -> None:
    teacher = runner.launch(home, spec({"fail": "the loss exploded"}, student="resnet20", epochs=2))
    pinned = runner.launch(home, spec(method="kd", teacher="resnet20", teacher_run=teacher))
    pupil = runner.launch(home, spec(method="kd", teacher="resnet8", teacher_run=pinned))
    list(runner.follow(home, pupil))
    for run_id, blamed in ((pinned, teacher), (pupil, pinned)):
        shown = view(find_run(home, run_id), home)
        assert shown.status is RunStatus.FAILED and blamed in shown.reason and "the loss exploded" in shown.reason
        assert isinstance(shown.last, Ended) and {*shown.last.problems[0]} == {"field", "given", "allowed", "do"}


def test_cancelled_or_vanished_teacher_fails_its_dependents(home: Home, spec: Spec) -> None:
    student = runner.launch(home, spec(LONG, method="kd", teacher="resnet20"), start=False)
    runner.cancel(home, find_run(home, student).read_request().teacher_run or "")
    assert "is cancelled" in view(find_run(home, student), home).reason
    orphan = RunDir.create(home, spec(method="kd"), teacher_run="20000101-000000-base-000000")
    runner.tick(home)
    assert "is gone" in view(orphan, home).reason


def test_generations_queue_in_order_each_taught_by_the_one_before(home: Home, spec: Spec) -> None:
    last = runner.launch(home, spec(method="ban", generation=3, teacher="resnet8"), start=False)
    asked = [v.request for v in views(home)]
    assert [r.spec.generation for r in asked if r] == [0, 1, 2, 3]
    assert [r.teacher_run for r in asked if r] == [None, *(r.run_id for r in asked[:-1] if r)]
    list(runner.follow(home, last))
    assert statuses(home) == ["finished"] * 4
    began = [find_run(home, r.run_id).attempts()[0].started_at for r in asked if r]
    assert began == sorted(began)


def test_the_baseline_serves_as_generation_zero(home: Home, spec: Spec) -> None:
    base = runner.launch(home, spec(), start=False)
    ban = runner.launch(home, spec(method="ban", generation=1), start=False)
    assert find_run(home, ban).read_request().teacher_run == base and len(run_dirs(home)) == 2


def test_pinned_teacher_is_stored_by_its_whole_name(home: Home, spec: Spec) -> None:
    teacher = runner.launch(home, spec(student="resnet20"), start=False)
    student = runner.launch(home, spec(method="kd", teacher="resnet20", teacher_run=teacher[-6:]), start=False)
    request = find_run(home, student).read_request()
    assert request.teacher_run == request.spec.teacher_run == teacher
    with pytest.raises(UnknownKey):
        runner.launch(home, spec(teacher_run="nothing"))


def test_endless_chain_is_refused(home: Home, spec: Spec, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(RunSpec, "teacher_spec", lambda self: self.but(seed=self.seed + 1))
    with pytest.raises(SpecError, match="chain"):
        runner.launch(home, spec())
    assert run_dirs(home) == []


def test_worker_that_cannot_be_started_fails_with_the_reason(home: Home, spec: Spec, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "executable", "/nowhere/python")
    run_id = runner.launch(home, spec())
    assert "could not be started" in view(find_run(home, run_id), home).reason


def test_unreadable_request_fails_instead_of_blocking_the_queue(home: Home, spec: Spec) -> None:
    bad = find_run(home, runner.launch(home, spec(), start=False))
    bad.spec_json.write_text("{")
    good = runner.launch(home, spec(seed=1))
    assert status_of(bad, home) is RunStatus.FAILED and find_run(home, good).attempts()


def test_worker_hears_of_its_home_its_threads_and_nothing_of_ours(
    home: Home, spec: Spec, until: Until, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("KD_PROXY_SECRET", "canary" * 8)
    monkeypatch.setenv("KD_ADMINS", "ada@example.org")
    run = find_run(home, runner.launch(home, spec(LONG)))
    until(lambda: run.last_event())
    pid = run.attempts()[0].pid or 0
    assert b"canary" not in Path(f"/proc/{pid}/environ").read_bytes(), "its log may be read by whoever reads results"
    told = dict(line.split("=", 1) for line in Path(f"/proc/{pid}/environ").read_text().split("\0") if "=" in line)
    assert "KD_ADMINS" not in told and told["KD_HOME"] == str(home.root) and int(told["OMP_NUM_THREADS"]) >= 1
    assert os.getsid(pid) == os.getpgid(pid) == pid != os.getsid(0)
    inherited = {str(link.readlink()) for link in Path(f"/proc/{pid}/fd").iterdir() if link.exists()}
    assert inherited >= {"/dev/null", str(run.log), str(run.lock)} and len(inherited) == 3


def test_the_queue_says_who_keeps_it_too_long(home: Home, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(runner, "QUEUE_PATIENCE_S", 0.05)
    (home.locks / "queue.lock").touch()
    with (home.locks / "queue.lock").open() as kept:
        fcntl.flock(kept, fcntl.LOCK_EX)
        with pytest.raises(RunBusy, match="another process"):
            runner.tick(home)


def test_a_run_and_its_teacher_belong_to_who_launched_them(home: Home, spec: Spec, becomes: Becomes) -> None:
    student = spec(LONG, method="kd", teacher="resnet20")
    run_id = runner.launch(home, student, owner="ada")
    owners = {run.read_request().spec.method: run.read_request().owner for run in run_dirs(home)}
    assert owners == {"kd": "ada", "base": "ada"}
    runner.cancel(home, run_id)
    runner.resume(home, run_id)
    assert find_run(home, run_id).read_request().owner == "ada"
    runner.cancel(home, run_id)
    assert find_run(home, runner.retry(home, run_id, owner="bob")).read_request().owner == "bob"
    (suite,) = runner.launch_suite(home, [spec(LONG, seed=5)], owner="bob")
    assert view(find_run(home, suite), home).as_dict()["owner"] == "bob"
    assert find_run(home, runner.launch(home, spec(LONG, seed=6))).read_request().owner is None
    assert student.identity() == find_run(home, run_id).read_request().identity
