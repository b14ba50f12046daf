"""The processes that run free SQL: one for each statement, two at most at a time, each killed when its time is over.

Reads: what a process answers. Writes: nothing. Never: runs a statement here, lets a process outlive its answer.
"""

from __future__ import annotations

import contextlib
import json
import os
import subprocess
import sys
import threading
from collections import deque
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

START_S = 20.0  # a busy machine may take its time to start the process; this does not count against the statement
GRACE_S = 0.5
AT_ONCE = 2


@dataclass(frozen=True, slots=True)
class Order:
    """What a process is to do: ``timeout_s`` seconds at most, ``max_rows`` rows, ``most_bytes`` of JSON."""

    sql: str
    timeout_s: float
    max_rows: int
    most_bytes: int


@dataclass(frozen=True, slots=True)
class Reply:
    """What came back: the bytes after the word ``ready`` (``ready`` False: it never came), and how the process ended."""

    ready: bool
    rest: bytes
    code: int
    stopped: bool


class Process:
    """One statement's process. ``ask`` waits for the answer; ``stop`` ends it at once, from any thread, also before."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._child: subprocess.Popen[bytes] | None = None
        self._stopped = False

    def stop(self) -> None:
        """End the process now, or keep it from starting."""
        with self._lock:
            self._stopped = True
            if self._child is not None:
                self._child.kill()

    def ask(self, order: Order, snapshot: Path) -> Reply:
        """Run ``order`` on ``snapshot``; the process has gone when this returns."""
        request = {"snapshot": str(snapshot), "sql": order.sql, "max_rows": order.max_rows, "timeout_s": order.timeout_s}
        with self._lock:
            if self._stopped:
                return Reply(False, b"", 0, True)
            child = self._child = _start()
        try:
            ready, rest = _exchange(child, json.dumps(request).encode(), order)
        finally:
            with self._lock:
                self._child = None
                child.kill()
                code = child.wait()
            for pipe in (child.stdin, child.stdout):
                with contextlib.suppress(BrokenPipeError):  # what was not yet written to a process that has gone
                    if pipe is not None:
                        pipe.close()
        return Reply(ready, rest, code, self._stopped)


def _start() -> subprocess.Popen[bytes]:
    return subprocess.Popen(
        [sys.executable, "-I", str(Path(__file__).with_name("sandbox_child.py"))],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        env={},
        cwd=os.sep,
        start_new_session=True,
    )


def _exchange(child: subprocess.Popen[bytes], request: bytes, order: Order) -> tuple[bool, bytes]:
    assert child.stdin is not None and child.stdout is not None
    # the clock of the statement starts when the process says that the snapshot is open
    alarm = threading.Timer(START_S, child.kill)
    alarm.start()
    try:
        child.stdin.write(request)
        child.stdin.close()
        first = child.stdout.readline(100)
        alarm.cancel()
        alarm = threading.Timer(order.timeout_s + GRACE_S * (order.timeout_s > 1), child.kill)
        alarm.start()
        ready = first.strip() == b"ready"
        return ready, child.stdout.read() if ready else first + child.stdout.read()
    except BrokenPipeError:
        return False, b""
    finally:
        alarm.cancel()


class Turns:
    """Lets ``AT_ONCE`` callers go on at a time, in the order in which they came."""

    def __init__(self, at_once: int = AT_ONCE) -> None:
        self._free = at_once
        self._queue: deque[threading.Event] = deque()
        self._lock = threading.Lock()

    @contextmanager
    def turn(self) -> Iterator[None]:
        """Wait for a place, keep it for the block."""
        mine = threading.Event()
        with self._lock:
            self._queue.append(mine)
            self._let_in()
        mine.wait()
        try:
            yield
        finally:
            with self._lock:
                self._free += 1
                self._let_in()

    def _let_in(self) -> None:
        while self._free and self._queue:
            self._free -= 1
            self._queue.popleft().set()


turns = Turns()
