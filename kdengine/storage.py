"""What people's runs take: room on the disk, places in the queue, hours on GPUs; what of it is too much; and making room.

Reads: run folders. Writes: removes a run's folder, renamed aside first so that nobody meets half of it. Never: the results
database (it notices that a folder is gone); torch.
"""

from __future__ import annotations

import os
import secrets
import shutil
import time
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from kdengine import runner
from kdengine.access import Quota
from kdengine.errors import Problem, RunBusy, UnknownKey, unknown
from kdengine.events import Ended
from kdengine.home import Home
from kdengine.rundir import RunDir, find_run, run_dirs
from kdengine.spec import RunSpec
from kdengine.status import RunStatus, holder, is_over, status_of, take_lock

WINDOW_S = 30 * 86_400.0  # hours on GPUs count for so long
ASK = "wait until some of it is over, or ask an admin for more"


@dataclass(frozen=True, slots=True)
class Taken:
    """What the runs of ``owner`` take (None = launched without sign-in): ``waiting`` in the queue, ``gpu_hours`` of those that
    trained within the last 30 days, each counted whole."""

    owner: str | None
    runs: int = 0
    waiting: int = 0
    bytes: int = 0
    gpu_hours: float = 0.0

    @property
    def mib(self) -> float:
        """Return what they take on the disk, MiB."""
        return self.bytes / 2**20


def usage(home: Home) -> list[Taken]:
    """Return what the runs of each owner take, most bytes first. What cannot be read counts for nobody in particular."""
    groups: dict[str | None, list[RunDir]] = {}
    for run in run_dirs(home):
        groups.setdefault(owner_of(run), []).append(run)
    return sorted((_taken(home, owner, runs) for owner, runs in groups.items()), key=lambda taken: -taken.bytes)


def taken_by(home: Home, owner: str) -> Taken:
    """Return what the runs of one owner take."""
    return _taken(home, owner, [run for run in run_dirs(home) if owner_of(run) == owner])


def owner_of(run: RunDir) -> str | None:
    """Return whose a run is; None for one without an owner, or whose request cannot be read."""
    request = run.request_or_none()
    return request.owner if request else None


def size_of(run: RunDir) -> int:
    """Return the bytes that a run's files take."""
    try:
        with os.scandir(run.path) as entries:
            return sum(entry.stat(follow_symlinks=False).st_size for entry in entries)
    except FileNotFoundError:  # somebody removes it
        return 0


def sizes(home: Home) -> list[tuple[str, int]]:
    """Return each run with the bytes that it takes, most bytes first."""
    return sorted(((run.run_id, size_of(run)) for run in run_dirs(home)), key=lambda found: -found[1])


def planned(home: Home, specs: Iterable[RunSpec], *, reuse: bool = False) -> int:
    """Return how many runs a launch of ``specs`` would make, missing teachers included; see ``runner.launch_suite``."""
    waiting = [spec for spec in specs if not (reuse and runner.run_of(home, spec))]
    found, teachers = len(waiting), {spec.identity() for spec in waiting}
    while waiting:
        spec = waiting.pop()
        training = spec.teacher_spec()
        if training and training.identity() not in teachers and runner.teacher_of(home, spec) is None:
            teachers.add(training.identity())
            waiting.append(training)
            found += 1
    return found


def faults(quota: Quota, taken: Taken, more: int) -> list[Problem]:
    """Return why ``more`` further runs are too much for somebody with this quota; nothing where they may be launched."""
    found = []
    if quota.queued_runs is not None and taken.waiting + more > quota.queued_runs:
        given = f"{taken.waiting + more} runs in the queue, {taken.waiting} of them there already"
        found.append(Problem("queue", given, f"{quota.queued_runs} of one person at once", ASK))
    if quota.gpu_hours is not None and taken.gpu_hours >= quota.gpu_hours:
        given = f"{taken.gpu_hours:.1f} hours on GPUs within the last 30 days"
        found.append(Problem("GPU hours", given, f"{quota.gpu_hours:g} hours", ASK))
    if quota.disk_mib is not None and taken.mib >= quota.disk_mib:
        given = f"{taken.mib:.0f} MiB taken by your runs"
        found.append(Problem("disk", given, f"{quota.disk_mib:g} MiB", "remove runs that nobody needs, or ask an admin for more"))
    return found


def remove_run(home: Home, run_id: str) -> int:
    """Remove a run that is over, with all its files, and return the bytes that were freed.

    Raises:
        UnknownKey: no run has exactly this name. RunBusy: it is on its way, or teaches one that is or that can be resumed.
        OSError: its folder cannot be moved; then it is whole. Or its files cannot be deleted: the next removal tries again.
    """
    run = exact_run(home, run_id)
    aside = home.root / ".removed"
    with runner.moving(home, "queue", "the queue"):
        status = status_of(run, home)
        if not is_over(status):
            raise RunBusy.of(f"run {run_id}, {status}", "a run that is over", "wait for it, or stop it first", "run")
        if pupils := _pupils(home, run_id):
            allowed = "a run that teaches none that is on its way"
            raise RunBusy.of(f"run {run_id}, the teacher of {pupils[0]}", allowed, "wait for it, or remove it first", "run")
        handle = take_lock(run)
        if handle is None:
            raise RunBusy.of(f"run {run_id}, held by {holder(run)}", "a run without a worker", "try again", "run")
        try:
            freed = size_of(run)
            aside.mkdir(exist_ok=True)
            run.path.rename(aside / f"{run_id}.{secrets.token_hex(3)}")
        finally:
            os.close(handle)
    for left in aside.iterdir():  # also what an earlier removal could not finish
        shutil.rmtree(left)
    return freed


def exact_run(home: Home, run_id: str) -> RunDir:
    """Return the run of exactly this name.

    Raises:
        UnknownKey: there is none; a piece of a name, or a path, names none.
    """
    run = find_run(home, run_id)
    if run.run_id != run_id:
        raise UnknownKey(unknown("run", run_id, [run.run_id]))
    return run


def _pupils(home: Home, run_id: str) -> Sequence[str]:
    asked = [request for run in run_dirs(home) if (request := run.request_or_none()) and request.teacher_run == run_id]
    status = {request.run_id: status_of(RunDir(home.runs / request.run_id), home) for request in asked}
    return [name for name, how in status.items() if not is_over(how) or how is RunStatus.LOST]


def _taken(home: Home, owner: str | None, runs: Sequence[RunDir]) -> Taken:
    waiting = sum(status_of(run, home) in (RunStatus.QUEUED, RunStatus.WAITING) for run in runs)
    return Taken(owner, len(runs), waiting, sum(map(size_of, runs)), sum(map(_gpu_s, runs)) / 3600)


def _gpu_s(run: RunDir) -> float:
    try:
        recent = time.time() - run.events_jsonl.stat().st_mtime < WINDOW_S
    except FileNotFoundError:
        return 0.0
    if not recent or not any(attempt.slot.startswith("cuda") for attempt in run.attempts()):
        return 0.0
    last, epoch = run.last_event(), run.last_epoch()
    return last.elapsed_s if isinstance(last, Ended) else epoch.elapsed_s if epoch else 0.0
