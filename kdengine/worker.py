"""The process that trains one run: ``python -m kdengine.worker FOLDER``.

Reads: its run folder, datasets, the teacher's weights. Writes: its run folder only.
Never: Streamlit, DuckDB, another run's folder; it outlives the browser and the server that asked for it.
"""

from __future__ import annotations

import contextlib
import fcntl
import json
import os
import signal
import sys
import time
import traceback
from collections import deque
from pathlib import Path
from typing import Any

from kdengine.durable import write_aside
from kdengine.errors import KdError, Problem
from kdengine.events import Ended, now
from kdengine.home import Home
from kdengine.rundir import RunDir
from kdengine.runner import tick
from kdengine.slots import ALL_GPUS

LAST_WORD_TRIES = 600  # seconds to wait for space on a full disk before the last word is given up


class Log:
    """The run's event log. What a full disk refuses is kept and written with the next event, in order."""

    def __init__(self, run: RunDir) -> None:
        self._run = run
        self._waiting: deque[Any] = deque()

    def say(self, event: Any) -> None:
        """Append the event, or keep it for later if the disk refuses."""
        self._waiting.append(event)
        self.flush()

    def flush(self) -> bool:
        """Write what waits; return whether all of it is on disk."""
        while self._waiting:
            try:
                self._run.append_event(self._waiting[0])
            except OSError as error:
                print(f"{now()} event kept back: {error}", file=sys.stderr, flush=True)
                return False
            self._waiting.popleft()
        return True

    def last_word(self, event: Ended) -> None:
        """Append the end of the run; on a full disk wait for space."""
        self.say(event)
        for _ in range(LAST_WORD_TRIES):
            if self.flush():
                return
            time.sleep(1)


def main(folder: Path) -> int:
    """Train the run in ``folder``; return the exit code: 0 finished, 1 failed, 3 cancelled, 4 somebody else has it."""
    run, home = RunDir(folder.resolve()), Home(folder.resolve().parent.parent)
    lock = own_lock(run)
    if lock is None:
        print(f"{run.run_id} is already being trained", file=sys.stderr)
        return 4
    asked = stop_on_signals()
    log, began = Log(run), time.monotonic()
    ended = run_to_end(run, home, log, asked)
    log.last_word(ended.model_copy(update={"elapsed_s": time.monotonic() - began}))
    os.close(lock)
    tick(home)
    return {"finished": 0, "failed": 1, "cancelled": 3}[ended.how]


def own_lock(run: RunDir) -> int | None:
    """Return the descriptor that holds the run's lock: the one handed over, or a fresh one; None if it is taken."""
    handed = os.environ.pop("KD_LOCK_FD", None)
    if handed is not None:
        os.set_inheritable(int(handed), False)
        return int(handed)
    descriptor = os.open(run.lock, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o644)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        os.close(descriptor)
        return None
    return descriptor


def stop_on_signals() -> list[int]:
    """Turn SIGTERM and SIGINT into a wish that the loop reads between two steps; return where the wish is noted."""
    asked: list[int] = []
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda n, _: asked.append(n))
    return asked


def run_to_end(run: RunDir, home: Home, log: Log, asked: list[int]) -> Ended:
    """Check and train; whatever happens becomes the run's last word."""
    from kdengine.train import Stopped  # torch loads after the lock is held and signals are caught

    try:
        train_run(run, home, log, asked)
    except Stopped:
        return Ended(how="cancelled", reason="stopped on request")
    except KdError as error:
        print(error, file=sys.stderr, flush=True)
        return Ended(how="failed", reason=str(error.problems[0]) if error.problems else str(error),
                     problems=[p.as_dict() for p in error.problems])  # fmt: skip
    except Exception as error:
        traceback.print_exc()
        problem = Problem("", f"an unexpected {type(error).__name__}: {error}", "a training without faults",
                          "see the end of the run's log; retry, or report it with the log")  # fmt: skip
        return Ended(how="failed", reason=str(problem), problems=[problem.as_dict()])
    return Ended(how="finished")


def train_run(run: RunDir, home: Home, log: Log, asked: list[int]) -> None:
    """Train the run, passing every event to the log.

    Raises:
        KdError: the spec does not fit what is here, or the training cannot go on.
    """
    from kdengine import check, train
    from kdengine.versions import versions

    request = run.read_request()
    problems = check.check(request.spec, home)
    if problems:
        raise KdError(*problems)
    attempt = max((a.n for a in run.attempts()), default=1)
    environment = {"versions": versions(), "threads": os.environ.get("OMP_NUM_THREADS"), "attempt": attempt,
                   "visible_gpus": os.environ.get("CUDA_VISIBLE_DEVICES"), "python": sys.version}  # fmt: skip
    with contextlib.suppress(OSError):  # a full disk must not keep a run from training: the log says so with the next event
        write_aside(run.environment_json, json.dumps(environment, indent=1).encode())

    def report(progress: dict[str, Any]) -> None:
        with contextlib.suppress(OSError):
            run.write_progress(progress)
        log.flush()

    # a worker sees one GPU only, the one of its place; that it is called cuda:3 is known outside
    spec = request.spec.but(device="cuda") if request.spec.device.startswith("cuda:") and ALL_GPUS in os.environ else request.spec
    setting = train.Setting(home, run, spec, request.teacher_run, attempt, stop=lambda: bool(asked), report=report)
    for event in train.train(setting):
        log.say(event)
        print(f"{now()} {event.kind} {getattr(event, 'phase', '')} {getattr(event, 'epoch', '')}", flush=True)


if __name__ == "__main__":
    sys.exit(main(Path(sys.argv[1])))
