"""How a run stands: always derived from its folder, never stored.

Reads: run folders, the kernel's lock on ``<run>/lock``. Writes: the name of the holder into a lock it has just taken.
Never: torch, processes, the results database.
"""

from __future__ import annotations

import contextlib
import fcntl
import functools
import json
import os
import platform
import time
from collections.abc import Mapping
from dataclasses import dataclass, replace
from enum import StrEnum
from pathlib import Path
from typing import Any

import psutil

from kdengine.events import Ended, EpochEnded, Event, now
from kdengine.home import Home
from kdengine.rundir import Attempt, Progress, Request, RunDir, run_dirs

LOCK_FD = "KD_LOCK_FD"  # environment variable by which a worker learns the number of the open lock it inherits
_SETTLED_NS = 1_000_000_000
_over: dict[Path, tuple[int, int, RunStatus]] = {}


class RunStatus(StrEnum):
    """The states of a run."""

    QUEUED = "queued"  # ready, waits for a free slot
    WAITING = "waiting"  # waits for its teacher
    RUNNING = "running"  # a worker holds its lock
    FINISHED = "finished"
    FAILED = "failed"
    CANCELLED = "cancelled"
    LOST = "lost"  # its worker died without a last word; can be resumed


def is_over(status: RunStatus) -> bool:
    """Say whether nothing more happens by itself: finished, failed, cancelled or lost. The last three can be resumed."""
    return status not in (RunStatus.QUEUED, RunStatus.WAITING, RunStatus.RUNNING)


def status_of(run: RunDir, home: Home) -> RunStatus:
    """Derive how ``run`` stands. Takes some 10 us for a run that is over, 0.2 ms otherwise.

    The last line of the events decides, unless an attempt or a wish to be resumed is newer. Then: a wish = queued or
    waiting; a lock that is held = running; a free lock without a last word = lost, on the host of that attempt only.
    """
    stamp = _stamp(run)
    known = _over.get(run.path)
    if known and known[:2] == stamp:
        return known[2]
    status = _derive(run, home)
    # a file made within the same tick of the disk's clock would not change the stamp: remember only what has settled
    # (after the clock was set back, files lie in the future, and what is written now has another stamp all the same)
    if is_over(status) and abs(time.time_ns() - stamp[0]) > _SETTLED_NS:
        _over[run.path] = (*stamp, status)
    return status


def _derive(run: RunDir, home: Home) -> RunStatus:
    ask, attempts = run.resume_ask(), run.attempts()
    claim = ask or (attempts[-1] if attempts else None)
    since = claim.events_bytes if claim else 0
    if ended := last_word(run, since):
        return RunStatus(ended.how)
    if ask or (claim is None and run.last_event() is None):
        return RunStatus.QUEUED if _teacher_is_ready(run, home) else RunStatus.WAITING
    if is_locked(run) or (isinstance(claim, Attempt) and not is_here(claim)):
        return RunStatus.RUNNING
    # the worker may have spoken its last word between the two looks; now that the lock is free, nothing more follows
    ended = last_word(run, since)
    return RunStatus(ended.how) if ended else RunStatus.LOST


def last_word(run: RunDir, since: int = 0) -> Ended | None:
    """Return the end that the newest event (from byte ``since`` on) announces; None where it is something else."""
    event = run.last_event(since)
    return event if isinstance(event, Ended) else None


def is_here(attempt: Attempt) -> bool:
    """Say whether that worker was started on this host. Containers change their name but not the boot of their host."""
    return attempt.host == platform.node() or attempt.boot == boot_id()


@functools.cache
def boot_id() -> str:
    """Return a text that names this boot of this host."""
    try:
        return Path("/proc/sys/kernel/random/boot_id").read_text().strip()
    except OSError:
        return f"boot-{psutil.boot_time():.0f}"


def _stamp(run: RunDir) -> tuple[int, int]:
    return run.path.stat().st_mtime_ns, run.events_bytes()


def _teacher_is_ready(run: RunDir, home: Home) -> bool:
    request = run.request_or_none()
    if request is None or request.teacher_run is None:
        return True  # a request that cannot be read is found by the runner when its turn comes, and said in the events
    return teacher_status(home, request.teacher_run) is RunStatus.FINISHED


def teacher_status(home: Home, teacher_run: str) -> RunStatus | None:
    """Return how the run of that exact name stands; None where it is gone."""
    folder = home.runs / teacher_run
    return status_of(RunDir(folder), home) if (folder / "spec.json").is_file() else None


# -- the lock: an flock belongs to the open file, so the worker that inherits the descriptor holds it until it dies ------


def is_locked(run: RunDir) -> bool:
    """Say whether somebody holds the run's lock."""
    return is_held(run.lock)


def is_held(lock: Path) -> bool:
    """Say whether somebody holds a lock file. Never blocks; asks for a shared lock for a few microseconds."""
    try:
        handle = os.open(lock, os.O_RDONLY)
    except FileNotFoundError:
        return False
    try:
        fcntl.flock(handle, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except BlockingIOError:
        return True
    finally:
        os.close(handle)
    return False


def take_lock(run: RunDir, patience_s: float = 0.5) -> int | None:
    """Return an open descriptor that holds the run's lock, None where somebody keeps it. Closing it frees the lock.

    Readers hold it for microseconds when they look, hence the patience.
    """
    handle = os.open(run.lock, os.O_RDWR | os.O_CREAT, 0o644)
    until = time.monotonic() + patience_s
    while True:
        try:
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            if time.monotonic() > until:
                os.close(handle)
                return None
            time.sleep(0.002)
            continue
        with contextlib.suppress(OSError):  # words for people: a disk that is full now must not leave a lock that nobody frees
            _name_holder(handle)
        return handle


def holder(run: RunDir) -> str:
    """Return where and when the run's lock was last taken, for people: ``a worker on HOST since ...``."""
    try:
        said = json.loads(run.lock.read_bytes())
        return f"a worker on {said['host']} since {said['at']}"
    except (OSError, ValueError, KeyError, TypeError):
        return "a worker that did not say where it is"


def _name_holder(handle: int) -> None:
    os.ftruncate(handle, 0)
    said = {"host": platform.node(), "boot": boot_id(), "at": now()}
    os.pwrite(handle, json.dumps(said).encode(), 0)


# -- what people and programs are shown ----------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class RunView:
    """A run as it stands now. ``request`` is None where ``spec.json`` cannot be read.

    ``eta_s``: seconds left, for a running one that has shown its speed. ``position``: place in the queue from 1, for a
    queued or waiting one. ``reason``: why it failed or was cancelled.
    """

    run_id: str
    status: RunStatus
    request: Request | None
    last: Event | None
    epoch: EpochEnded | None
    progress: Progress | None
    attempts: int
    eta_s: float | None = None
    position: int | None = None

    @property
    def reason(self) -> str:
        """Why it failed or was cancelled; "" otherwise."""
        return self.last.reason if isinstance(self.last, Ended) and is_over(self.status) else ""

    @property
    def top1_frac(self) -> float | None:
        """Test accuracy of the student after the last ended epoch, 0 to 1."""
        student = self.epoch.measures.get("student") if self.epoch else None
        return student.test_top1_frac if student else None

    @property
    def done_epochs(self) -> float:
        """Epochs of the main phase that are done, the one under way as a share."""
        ended = self.epoch.epoch if self.epoch and self.epoch.phase == "main" else 0
        under_way = self.progress
        if self.status is not RunStatus.RUNNING or under_way is None or (under_way.phase, under_way.epoch) != ("main", ended + 1):
            return float(ended)
        return ended + min(1.0, under_way.step / max(1, under_way.steps))

    def as_dict(self) -> dict[str, Any]:
        """Return plain values for JSON: what ``status --json`` prints."""
        spec = self.request.spec if self.request else None
        return {
            "run_id": self.run_id,
            "status": self.status.value,
            "summary": spec.summary() if spec else "",
            "reason": self.reason,
            "created_at": self.request.created_at if self.request else None,
            "phase": self.epoch.phase if self.epoch else None,
            "epoch": self.epoch.epoch if self.epoch else 0,
            "epochs": spec.epochs if spec else None,
            "test_top1_frac": self.top1_frac,
            "elapsed_s": self.epoch.elapsed_s if self.epoch else 0.0,
            "eta_s": self.eta_s,
            "position": self.position,
            "attempts": self.attempts,
            "teacher_run": self.request.teacher_run if self.request else None,
            "retry_of": self.request.retry_of if self.request else None,
            "owner": self.request.owner if self.request else None,
            "spec": spec.model_dump(mode="json") if spec else None,
        }


def view(run: RunDir, home: Home, places: Mapping[str, int] | None = None) -> RunView:
    """Return one run as it stands. ``places`` (``queue_places``) saves a look at all others when many are shown."""
    shown = _view(run, home)
    if shown.status not in (RunStatus.QUEUED, RunStatus.WAITING):
        return shown
    return replace(shown, position=(queue_places(home) if places is None else places).get(run.run_id))


def views(home: Home) -> list[RunView]:
    """Return all runs as they stand, oldest first, with their places in the queue."""
    places = queue_places(home)
    shown = [view(run, home, places) for run in run_dirs(home)]
    return sorted(shown, key=lambda v: (v.request.created_at if v.request else "", v.run_id))


def queue_places(home: Home) -> dict[str, int]:
    """Return the place of each queued or waiting run, from 1, in the order in which they were asked for."""
    in_queue = [run for run in run_dirs(home) if status_of(run, home) in (RunStatus.QUEUED, RunStatus.WAITING)]
    asked = sorted((request.created_at if (request := run.request_or_none()) else "", run.run_id) for run in in_queue)
    return {run_id: place for place, (_, run_id) in enumerate(asked, 1)}


def _view(run: RunDir, home: Home) -> RunView:
    status, request = status_of(run, home), run.request_or_none()
    epoch, running = run.last_epoch(), status is RunStatus.RUNNING
    progress = run.read_progress() if running else None
    left_s = _seconds_left(request, epoch, progress) if running else None
    return RunView(run.run_id, status, request, run.last_event(), epoch, progress, len(run.attempts()), left_s)


def _seconds_left(request: Request | None, epoch: EpochEnded | None, progress: Progress | None) -> float | None:
    """Return the seconds left, judged by the last epoch, or by the steps of the first one."""
    if request is None:
        return None
    spec = request.spec
    if epoch is None:
        if progress is None or not progress.images_per_s:
            return None
        epoch_s = progress.steps * spec.batch_size / progress.images_per_s
        phase, done, epochs = progress.phase, progress.epoch - 1, progress.epochs
    else:
        phase, done, epochs, epoch_s = epoch.phase, epoch.epoch, epoch.epochs, epoch.epoch_s
    later = 0 if phase == "main" else spec.epochs  # epochs of the phases that follow, taken to be as long as these
    under_way = 0.0
    if progress and (progress.phase, progress.epoch) == (phase, done + 1):
        under_way = min(1.0, progress.step / max(1, progress.steps))
    return max(0.0, (epochs - done - under_way + later) * epoch_s)
