"""The queue of runs and the life of their workers, without a daemon: whoever calls ``tick`` moves it on.

Reads: run folders, the environment. Writes: new run folders, ``attempt-N.json``, ``resume-N.json``, the last word of a run
that has no worker. Starts and signals workers. Never: torch; tensors; the results database.
"""

from __future__ import annotations

import contextlib
import os
import platform
import signal
import subprocess
import threading
import time
from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path

import psutil
from filelock import FileLock, Timeout

from kdengine import processes
from kdengine.errors import Problem, RunBusy, SpecError
from kdengine.events import Ended, EpochEnded, Event, now
from kdengine.home import Home
from kdengine.rundir import Attempt, RunDir, find_run, run_dirs
from kdengine.slots import CPU, Slots, slots
from kdengine.spec import MAX_CHAIN, RunSpec
from kdengine.status import (
    LOCK_FD,
    RunStatus,
    boot_id,
    holder,
    is_locked,
    is_over,
    last_word,
    status_of,
    take_lock,
    teacher_status,
)

__all__ = ["Slots", "cancel", "follow", "launch", "launch_suite", "resume", "retry", "run_of", "slots", "teacher_of", "tick"]

QUEUE_PATIENCE_S = 30.0
KILL_PATIENCE_S = 10.0
TICK_S = 0.5  # how often a follower moves the queue on
WORKER_MODULE = "KD_WORKER_MODULE"  # for tests: another module in the place of kdengine.worker
_started: list[subprocess.Popen[bytes]] = []
_started_guard = threading.Lock()


# -- into the queue ------------------------------------------------------------------------------------------------------


def launch(home: Home, spec: RunSpec, *, start: bool = True, retry_of: str | None = None, owner: str | None = None) -> str:
    """Put one run into the queue and return its name; with ``start`` the queue is moved on at once.

    The teacher is a finished run of the same training, else an active one, else it is launched first. ``spec`` is
    complete (``check.resolve``). ``owner``: short name of who launches it and its teacher, None without sign-in.

    Raises:
        SpecError: the chain of teachers is too long. UnknownKey: ``teacher_run`` names no run.
        OSError: the folder cannot be written; the queue is as before.
    """
    with moving(home, "queue", "the queue"):
        run_id = _place(home, spec, owner, retry_of)
    if start:
        tick(home)
    return run_id


def launch_suite(home: Home, specs: Sequence[RunSpec], *, reuse: bool = False, owner: str | None = None) -> list[str]:
    """Put all runs of a suite into the queue, in this order, and move it on. A teacher they share is launched once.

    With ``reuse`` a run of the same training, finished or on its way, takes the place of a new one. ``owner`` as in ``launch``.
    """
    with moving(home, "queue", "the queue"):
        run_ids = [(run_of(home, spec) if reuse else None) or _place(home, spec, owner) for spec in specs]
    tick(home)
    return run_ids


def teacher_of(home: Home, spec: RunSpec) -> str | None:
    """Return the run that serves as teacher, or will: pinned, finished (the newest) or active (the oldest); else None."""
    if spec.teacher_run:
        return find_run(home, spec.teacher_run).run_id
    training = _training_of_teacher(spec)
    return run_of(home, training) if training else None


def retry(home: Home, run_id: str, *, owner: str | None = None) -> str:
    """Launch the spec of an earlier run as a new run of ``owner`` and return its name.

    Raises:
        RunBusy: the run is still on its way. UnknownKey: no such run.
    """
    run = find_run(home, run_id)
    status = status_of(run, home)
    if not is_over(status):
        raise RunBusy.of(f"run {run.run_id}, {status}", "a run that is over", "wait for it, or cancel it first", "run")
    return launch(home, run.read_request().spec, retry_of=run.run_id, owner=owner)


def resume(home: Home, run_id: str) -> None:
    """Queue a failed, cancelled or lost run to go on from its last checkpoint, under its own name.

    Raises:
        RunBusy: it is on its way, has finished, or its lock is held. UnknownKey: no such run.
    """
    run = find_run(home, run_id)
    with moving(home, "queue", "the queue"):
        status = status_of(run, home)
        if status not in (RunStatus.FAILED, RunStatus.CANCELLED, RunStatus.LOST):
            advice = "use retry for a new run of the same spec" if status is RunStatus.FINISHED else "wait for it"
            raise RunBusy.of(f"run {run.run_id}, {status}", "a failed, cancelled or lost run", advice, "run")
        with _locked(run, patience_s=5.0):  # a worker that has spoken its last word may need a moment to leave
            run.write_resume_ask()
    tick(home)


def _place(home: Home, spec: RunSpec, owner: str | None, retry_of: str | None = None, depth: int = 0) -> str:
    if depth > MAX_CHAIN:
        allowed = f"at most {MAX_CHAIN} runs, each taught by the one before"
        raise SpecError.of("a longer chain of teachers", allowed, "pin one of them with teacher_run", "teacher")
    teacher = teacher_of(home, spec)
    if spec.teacher_run and teacher:
        spec = spec.but(teacher_run=teacher)  # the whole name, where a part of it was given
    training = _training_of_teacher(spec)
    if training and teacher is None:
        teacher = _place(home, training, owner, depth=depth + 1)
    return RunDir.create(home, spec, teacher_run=teacher, retry_of=retry_of, owner=owner).run_id


def run_of(home: Home, spec: RunSpec) -> str | None:
    """Return the run of the same training: finished (the newest) or active (the oldest); else None."""
    identity = spec.identity()
    same = [run for run in run_dirs(home) if (request := run.request_or_none()) and request.identity == identity]
    status = {run.run_id: status_of(run, home) for run in same}
    finished = [run_id for run_id, how in status.items() if how is RunStatus.FINISHED]
    return finished[-1] if finished else next((run_id for run_id, how in status.items() if not is_over(how)), None)


def _training_of_teacher(spec: RunSpec) -> RunSpec | None:
    """Return the complete spec that makes the teacher, so that it equals that of a run launched for itself."""
    training = spec.teacher_spec()
    plain = RunSpec.model_fields["method"].default
    if training is None or spec.generation > 1 or training.method == plain:
        return training  # complete already: plain training has no knobs, and a chain inherits them
    from kdengine.check import resolve  # heavy; only a teacher that was distilled itself needs it

    return resolve(training)


# -- out of the queue ----------------------------------------------------------------------------------------------------


def tick(home: Home) -> list[str]:
    """Move the queue on and return the runs started: fail those whose teacher failed, fill free places, oldest first.

    Any process may call it at any time; two at once start nothing twice.

    Raises:
        RunBusy: another process keeps the queue. HomeError: ``settings.json`` is wrong. OSError: the disk is full.
    """
    _reap()
    with moving(home, "queue", "the queue"):
        runs = run_dirs(home)
        while sum(_failed_with_its_teacher(home, run) for run in runs):  # whole rounds: a teacher may stand behind its student
            continue
        status = {run: status_of(run, home) for run in runs}
        places = slots(home)
        taken = [_slot(run) for run in runs if status[run] is RunStatus.RUNNING and is_locked(run)]
        started, cpu_is_awaited = [], False
        for run in sorted((run for run in runs if status[run] is RunStatus.QUEUED), key=_age):
            request = run.request_or_none()
            if request is None:
                _end(run, "failed", "its spec.json cannot be read", _unreadable(run))
                continue
            cpu = places.wants_cpu(request.spec)
            slot = None if cpu and cpu_is_awaited else places.pick(request.spec, taken)
            cpu_is_awaited |= cpu and slot is None  # nothing smaller may slip past a run that waits for all cores
            if slot and _start(home, run, slot, places):
                taken.append(slot)
                started.append(run.run_id)
        return started


def _age(run: RunDir) -> tuple[str, str]:
    request = run.request_or_none()
    return request.created_at if request else "", run.run_id


def _slot(run: RunDir) -> str:
    attempts = run.attempts()
    return attempts[-1].slot if attempts else CPU  # a worker started by hand


def _failed_with_its_teacher(home: Home, run: RunDir) -> bool:
    if status_of(run, home) is not RunStatus.WAITING:
        return False
    teacher = run.read_request().teacher_run or ""
    how = teacher_status(home, teacher)
    if how not in (RunStatus.FAILED, RunStatus.CANCELLED, None):
        return False
    word = last_word(RunDir(home.runs / teacher)) if how else None
    reason = f"its teacher, run {teacher}, {f'is {how}' if how is RunStatus.CANCELLED else how or 'is gone'}"
    reason += f": {word.reason}" if word and word.reason else ""
    advice = "resume the teacher and then this run, or retry this run: that launches a new teacher"
    _end(run, "failed", reason, Problem("teacher", f"run {teacher}, {how or 'gone'}", "a teacher that finished", advice))
    return True


def _start(home: Home, run: RunDir, slot: str, places: Slots) -> bool:
    """Start the worker of ``run``. It inherits the run's lock, taken here, so no moment lies between the two."""
    known = len(run.attempts())
    handle = take_lock(run)
    if handle is None:
        return False
    try:
        ask, attempts = run.resume_ask(), run.attempts()
        if len(attempts) != known:  # started meanwhile by somebody who does not keep to the queue
            return False
        n = ask.n if ask else len(attempts) + 1
        attempt = Attempt(n, None, platform.node(), boot_id(), now(), slot, run.events_bytes())
        run.write_attempt(attempt)
        try:
            process = _spawn(home, run, handle, places.environment(slot))
        except OSError as error:
            given = f"the worker could not be started: {error.strerror or error}"
            run.append_event(Ended(how="failed", reason=given))
            return False
        run.write_attempt(replace(attempt, pid=process.pid))
    finally:
        os.close(handle)
    return True


def _spawn(home: Home, run: RunDir, handle: int, told: dict[str, str]) -> subprocess.Popen[bytes]:
    process = processes.start(_module(), [str(run.path)], home, run.log, handle, {**told, LOCK_FD: str(handle)})
    with _started_guard:
        _started.append(process)
    return process


def _module() -> str:
    return os.environ.get(WORKER_MODULE, "kdengine.worker")


def _reap() -> None:
    """Take leave of workers that this process started and that are gone, so that none stays a zombie."""
    with _started_guard:
        _started[:] = [process for process in _started if process.poll() is None]


# -- stop and watch ------------------------------------------------------------------------------------------------------


def cancel(home: Home, run_id: str, *, grace_s: float = 10.0) -> None:
    """End a run: TERM to its worker's group, after ``grace_s`` KILL; one without a worker is ended in its place.

    Returns when it is over. Runs that wait for it as their teacher fail.

    Raises:
        RunBusy: it is over already, or its worker cannot be reached from here. UnknownKey: no such run.
    """
    run = find_run(home, run_id)
    with moving(home, "queue", "the queue"):
        status = status_of(run, home)
        if is_over(status) and status is not RunStatus.LOST:
            raise RunBusy.of(f"run {run.run_id}, {status}", "a run that is not over", "nothing is left to cancel", "run")
        has_worker = is_locked(run)
        if not has_worker:
            _end(run, "cancelled", "before it started" if status is not RunStatus.LOST else "after its worker was lost")
    if has_worker:
        reason = _stop(run, grace_s)
        with moving(home, "queue", "the queue"):
            if status_of(run, home) is RunStatus.LOST:  # it left without a last word
                _end(run, "cancelled", reason)
    tick(home)


def _stop(run: RunDir, grace_s: float) -> str:
    pid = _worker_of(run)
    if pid is None:
        raise RunBusy.of(f"run {run.run_id}, held by {holder(run)}", "a worker of this host", "cancel it there", "run")
    _signal(run, pid, signal.SIGTERM)
    if _is_free_within(run, grace_s):
        return "stopped on request"
    _signal(run, pid, signal.SIGKILL)
    if not _is_free_within(run, KILL_PATIENCE_S):
        raise RunBusy.of(f"run {run.run_id}, held by {holder(run)}", "a worker that dies when killed", "see its log", "run")
    return f"killed: its worker did not stop within {grace_s:g} s"


def _worker_of(run: RunDir) -> int | None:
    """Return the process that trains ``run``, recognised by its command line: a process number alone may be reused."""
    attempts = run.attempts()
    known = [attempts[-1].pid] if attempts and attempts[-1].pid else []
    for pid in (*known, *psutil.pids()):
        with contextlib.suppress(psutil.Error):
            command = psutil.Process(pid).cmdline()
            if _module() in command and Path(command[-1]).parts[-2:] == ("runs", run.run_id):
                return pid
    return None


def _signal(run: RunDir, pid: int, number: signal.Signals) -> None:
    try:
        os.killpg(pid, number)
    except ProcessLookupError:  # gone, or started by hand in somebody else's group
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, number)
    except PermissionError as error:
        raise RunBusy.of(f"run {run.run_id}, of another user", "your own runs", "ask its owner to cancel it", "run") from error


def _is_free_within(run: RunDir, patience_s: float) -> bool:
    until = time.monotonic() + patience_s
    while is_locked(run):
        if time.monotonic() > until:
            return False
        time.sleep(0.02)
        _reap()
    return True


def follow(home: Home, run_id: str, start: int = 0, every_s: float = 0.1) -> Iterator[Event]:
    """Yield the events of a run, from byte ``start`` of its record on, until it is over; moves the queue on meanwhile."""
    run, position, next_tick = find_run(home, run_id), start, 0.0
    while True:
        if time.monotonic() >= next_tick:
            tick(home)
            next_tick = time.monotonic() + TICK_S
        status = status_of(run, home)  # before reading: what is over has nothing more to say
        events, position = run.read_events(position)
        yield from events
        if is_over(status):
            return
        time.sleep(every_s)


# -- locks ---------------------------------------------------------------------------------------------------------------


def _end(run: RunDir, how: str, reason: str, problem: Problem | None = None) -> None:
    """Speak the last word for a run that has no worker."""
    epoch = run.last_epoch()
    problems = [problem.as_dict()] if problem else []
    with _locked(run):
        elapsed_s = epoch.elapsed_s if isinstance(epoch, EpochEnded) else 0.0
        run.append_event(Ended.model_validate({"how": how, "reason": reason, "problems": problems, "elapsed_s": elapsed_s}))


def _unreadable(run: RunDir) -> Problem:
    return Problem("spec", str(run.spec_json), "a request as this version writes it", "remove the folder and launch again")


@contextlib.contextmanager
def _locked(run: RunDir, patience_s: float = 0.5) -> Iterator[None]:
    handle = take_lock(run, patience_s)
    if handle is None:
        raise RunBusy.of(f"run {run.run_id}, held by {holder(run)}", "a run without a worker", "try again", "run")
    try:
        yield
    finally:
        os.close(handle)


@contextlib.contextmanager
def moving(home: Home, name: str, queue: str) -> Iterator[None]:
    """Hold ``locks/<name>.lock``, under which a queue is changed and moved on; ``queue``: what it is called in words.

    Raises:
        RunBusy: another process keeps it.
    """
    lock = FileLock(str(home.locks / f"{name}.lock"))
    try:
        lock.acquire(timeout=QUEUE_PATIENCE_S, poll_interval=0.01)
    except Timeout:
        given = f"{queue}, kept by another process for {QUEUE_PATIENCE_S:g} s"
        raise RunBusy.of(given, "one that moves the queue at a time", "try again, or end that process", "queue") from None
    try:
        yield
    finally:
        lock.release()
