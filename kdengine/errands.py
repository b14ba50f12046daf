"""Errands: commands that the app starts beside itself, with progress, a way to stop them, and a last word.

An errand outlives page, browser and server. Its lock is handed to the process that does it, so two clicks, two browsers or two
servers start it once, and nobody takes a dead one for one that runs. How it stands is derived, never stored: lock held = under
way; a problem written = failed; something written and nobody there = ended without a word; else it has nothing to say. The
first note is written by who starts it, so that a process that dies before it can speak is found out too.

Reads and writes: ``errands/<name>.json`` (progress and problems, aside and renamed), ``errands/<name>.log``,
``locks/errand-<name>.lock``. Starts and signals processes. Never: torch, the errand's own work.
"""

from __future__ import annotations

import contextlib
import fcntl
import json
import os
import signal
import subprocess
import threading
import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from types import FrameType, TracebackType
from typing import Any, Self

import psutil

from kdengine import processes
from kdengine.errors import KdError, Problem, RunBusy
from kdengine.home import Home
from kdengine.status import is_held

LOCK_FD = "KD_ERRAND_LOCK"  # tells the process which open descriptor holds its lock
MODULE = "KD_ERRAND_MODULE"  # for tests: another command line in the place of the errand's own
EVERY_S = 0.25  # between two notes of progress
PATIENCE_S = 0.2  # readers hold the lock for microseconds when they look
FOUND_S = 0.5  # who has just been started needs a moment until its process can be recognised
_started: list[subprocess.Popen[bytes]] = []
_started_guard = threading.Lock()


@dataclass(frozen=True, slots=True)
class Errand:
    """What is to be done: ``name`` of its files, ``command`` behind ``python -m <module>``.

    ``environment``: what its process is told besides; set before it loads anything.
    """

    name: str
    command: tuple[str, ...]
    module: str = "kdengine"
    environment: Mapping[str, str] = field(default_factory=dict, hash=False)

    def note(self, home: Home) -> Path:
        """Return the file that holds progress and problems."""
        return home.root / "errands" / f"{self.name}.json"

    def log(self, home: Home) -> Path:
        """Return the file that holds what the command printed."""
        return home.root / "errands" / f"{self.name}.log"

    def lock(self, home: Home) -> Path:
        """Return the lock file."""
        return home.locks / f"errand-{self.name}.lock"


@dataclass(frozen=True, slots=True)
class Standing:
    """How an errand stands. ``step``: what it is doing ("" = starting); ``done`` of ``total`` in that step's unit, 0 = not known.

    ``step_s``: seconds since the step began. ``problems``: why it failed; empty while it is under way.
    """

    going: bool
    step: str = ""
    done: float = 0.0
    total: float = 0.0
    step_s: float = 0.0
    problems: tuple[Problem, ...] = ()

    @property
    def share(self) -> float:
        """Return how much of the step is done, 0 to 1; 0 where the total is not known."""
        return min(1.0, self.done / self.total) if self.total else 0.0

    @property
    def left_s(self) -> float | None:
        """Return the seconds that the step will still take at the speed it had; None before that can be told."""
        return self.step_s * (1 - self.share) / self.share if self.share > 0.02 and self.step_s > 1 else None


# ---- seen from outside -----------------------------------------------------------------------------------------------------


def start(home: Home, errand: Errand) -> bool:
    """Start the errand in a process of its own and return at once; False where it is under way already.

    Raises:
        OSError: the disk is full or no process can be started; the latter stands as the errand's last word.
    """
    _reap()
    handle = _take(errand.lock(home))
    if handle is None:
        return False
    try:
        errand.note(home).parent.mkdir(exist_ok=True)
        _write(errand.note(home), began=_clock_s())
        try:
            process = _spawn(home, errand, handle)
        except OSError as error:
            _write(errand.note(home), began=_clock_s(), problems=(_unexpected(error),))
            raise
        with contextlib.suppress(OSError):  # it names itself too, and what a full disk refuses it, it says
            _name_holder(handle, process.pid)
    finally:
        os.close(handle)  # the process holds its own copy
    with _started_guard:
        _started.append(process)
    return True


def standing(home: Home, errand: Errand) -> Standing:
    """Return how the errand stands. Never waits."""
    _reap()
    going = is_going(home, errand)
    said = _read(errand.note(home))
    problems = tuple(Problem(**p) for p in said.get("problems", []))
    if going:
        step_s = max(0.0, _clock_s() - said["began"]) if said else 0.0
        return Standing(True, said.get("step", ""), said.get("done", 0), said.get("total", 0), step_s)
    if said and not problems:
        problems = (_without_a_word(home, errand),)
    return Standing(False, said.get("step", ""), problems=problems)


def is_going(home: Home, errand: Errand) -> bool:
    """Say whether somebody does the errand now."""
    return is_held(errand.lock(home))


def cancel(home: Home, errand: Errand, *, grace_s: float = 5.0) -> None:
    """Stop the errand: TERM, and it clears what it has begun; after ``grace_s`` KILL, to all that it has started as well.

    Returns when its process is gone.

    Raises:
        RunBusy: its process cannot be reached from here.
    """
    if process := _process_at_work(home, errand):
        for send, patience_s in ((psutil.Process.terminate, grace_s), (_kill_with_children, 5.0)):
            with contextlib.suppress(psutil.Error, ProcessLookupError):
                send(process)
            if _over_within(home, errand, process, patience_s):
                break
    forget(home, errand)


def forget(home: Home, errand: Errand) -> None:
    """Remove the last word of an errand that is over."""
    if not is_going(home, errand):
        errand.note(home).unlink(missing_ok=True)


def erase(home: Home, errand: Errand) -> None:
    """Remove every file of an errand that is over and will not be asked for again."""
    handle = _take(errand.lock(home))
    if handle is None:
        return
    try:
        for path in (errand.note(home), errand.log(home), errand.lock(home)):
            path.unlink(missing_ok=True)
    finally:
        os.close(handle)


# ---- seen from the process that does it --------------------------------------------------------------------------------------


class Stopped(SystemExit):
    """Somebody asked the errand to stop: what it has begun is cleared on the way out."""


class Recorder:
    """Holds the errand's lock while it is done, and notes how far it is; a context for the command's whole work.

    ``recorder(done, total)`` is a report; ``recorder.step("decode")`` begins the next step. A fault is noted in three parts and
    goes on its way; TERM ends the work like an exception does.

    Raises:
        RunBusy: somebody else does this errand now.
    """

    def __init__(self, home: Home, errand: Errand) -> None:
        self._home, self._errand = home, errand
        self._step, self._began, self._written = "", _clock_s(), 0.0
        self._handle = -1

    def __enter__(self) -> Self:
        given = os.environ.pop(LOCK_FD, "")
        handle = int(given) if given else _take(self._errand.lock(self._home))
        if handle is None:
            raise RunBusy.of(
                f"{self._errand.name}, under way in another process", "one at a time", "wait for it; the page shows how far it is"
            )
        self._handle = handle
        os.set_inheritable(handle, False)
        _name_holder(handle, os.getpid())
        self._errand.note(self._home).parent.mkdir(exist_ok=True)
        if threading.current_thread() is threading.main_thread():
            self._before = signal.signal(signal.SIGTERM, _stop)
        self._note(0, 0)
        return self

    def step(self, name: str, total: float = 0) -> None:
        """Begin a step, such as ``download``."""
        self._step, self._began = name, _clock_s()
        self._note(0, total)

    def __call__(self, done: float, total: float) -> None:
        """Note how far the step is; most calls cost nothing."""
        if time.monotonic() - self._written >= EVERY_S:
            self._note(done, total)

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        if error is None or isinstance(error, Stopped | KeyboardInterrupt):
            self._errand.note(self._home).unlink(missing_ok=True)
        else:
            self._note(0, 0, error.problems if isinstance(error, KdError) else (_unexpected(error),))
        if threading.current_thread() is threading.main_thread():
            signal.signal(signal.SIGTERM, self._before)
        os.close(self._handle)

    def _note(self, done: float, total: float, problems: tuple[Problem, ...] = ()) -> None:
        note = self._errand.note(self._home)
        with contextlib.suppress(OSError):  # a full disk must not hide why the work itself failed
            _write(note, began=self._began, step=self._step, done=done, total=total, problems=problems)
        self._written = time.monotonic()


def _stop(number: int, frame: FrameType | None) -> None:
    signal.signal(signal.SIGTERM, signal.SIG_IGN)  # once is enough: the clearing is not to be interrupted
    raise Stopped(143)


def _unexpected(error: BaseException) -> Problem:
    if isinstance(error, OSError):
        return Problem("", f"{error.strerror or type(error).__name__}", "a disk that can be written", "make room and try again")
    return Problem(
        "", f"{type(error).__name__}: {error}"[:300], "no fault", "try again; the log in errands/ of KD_HOME says more"
    )


# ---- processes and locks -----------------------------------------------------------------------------------------------------


def _spawn(home: Home, errand: Errand, handle: int) -> subprocess.Popen[bytes]:
    errand.log(home).write_bytes(b"")
    module, told = os.environ.get(MODULE, errand.module), {**errand.environment, LOCK_FD: str(handle)}
    return processes.start(module, errand.command, home, errand.log(home), handle, told)


def _reap() -> None:
    """Take leave of processes that this one started and that are gone, so that none stays a zombie."""
    with _started_guard:
        _started[:] = [process for process in _started if process.poll() is None]


def _take(lock: Path) -> int | None:
    """Return an open descriptor that holds the lock, None where somebody keeps it."""
    until = time.monotonic() + PATIENCE_S
    while True:
        handle = os.open(lock, os.O_RDWR | os.O_CREAT, 0o644)
        with contextlib.suppress(BlockingIOError):
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
            with contextlib.suppress(FileNotFoundError):  # the file may have been erased since it was opened
                if os.path.samestat(os.fstat(handle), lock.stat()):
                    return handle
        os.close(handle)
        if time.monotonic() > until:
            return None
        time.sleep(0.002)


def _clock_s() -> float:
    """Return seconds of a clock that all processes of this boot share and that nobody sets, unlike the time of day."""
    return time.clock_gettime(getattr(time, "CLOCK_BOOTTIME", time.CLOCK_MONOTONIC))


def _name_holder(handle: int, pid: int) -> None:
    os.ftruncate(handle, 0)
    os.pwrite(handle, str(pid).encode(), 0)


def _process_at_work(home: Home, errand: Errand) -> psutil.Process | None:
    """Return the process that does the errand, None where it is over."""
    until = time.monotonic() + FOUND_S
    while is_going(home, errand):
        if process := _process(home, errand):
            return process
        if time.monotonic() > until:
            raise RunBusy.of(f"{errand.name}, done by a process of another machine or user", "one of your own", "stop it there")
        time.sleep(0.02)
    return None


def _process(home: Home, errand: Errand) -> psutil.Process | None:
    """Return the process that holds the lock, recognised by its command line: a process number alone may be reused."""
    with contextlib.suppress(OSError, ValueError, psutil.Error):
        process = psutil.Process(int(errand.lock(home).read_text()))
        if tuple(process.cmdline()[-len(errand.command) :]) == errand.command:
            return process
    return None


def _kill_with_children(process: psutil.Process) -> None:
    if os.getpgid(process.pid) == process.pid:  # it leads the group that ``start`` has given it
        os.killpg(process.pid, signal.SIGKILL)
    else:
        process.kill()


def _over_within(home: Home, errand: Errand, process: psutil.Process, patience_s: float) -> bool:
    until = time.monotonic() + patience_s
    while is_going(home, errand) or _is_there(process):
        if time.monotonic() > until:
            return False
        time.sleep(0.02)
        _reap()
    return True


def _is_there(process: psutil.Process) -> bool:
    with contextlib.suppress(psutil.Error):
        return process.is_running() and process.status() != psutil.STATUS_ZOMBIE
    return False


def _write(
    path: Path, *, began: float, step: str = "", done: float = 0, total: float = 0, problems: tuple[Problem, ...] = ()
) -> None:
    said = {"step": step, "done": done, "total": total, "began": began, "problems": [p.as_dict() for p in problems]}
    aside = path.with_name(f".{path.name}-{os.getpid()}-{threading.get_ident()}")
    try:
        aside.write_text(json.dumps(said), encoding="utf-8")
        aside.replace(path)
    except OSError:
        aside.unlink(missing_ok=True)
        raise


def _read(path: Path) -> dict[str, Any]:
    try:
        said = json.loads(path.read_bytes())
    except (OSError, ValueError):
        return {}
    return said if isinstance(said, dict) and "began" in said else {}


def _without_a_word(home: Home, errand: Errand) -> Problem:
    with contextlib.suppress(OSError):
        lines = errand.log(home).read_text(encoding="utf-8", errors="replace").split("\n")
        last = next((line.strip() for line in reversed(lines) if line.strip()), "")
        return Problem("", f"its process ended without a word; the log ends with: {last or 'nothing'}"[:300],
                       "a process that is left running", "try again")  # fmt: skip
    return Problem("", "its process ended without a word", "a process that is left running", "try again")
