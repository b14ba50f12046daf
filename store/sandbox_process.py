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
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import cache
from importlib.util import find_spec
from pathlib import Path
from typing import Any

START_S = 20.0  # a busy machine may take its time to start the process; this does not count against the statement
GRACE_S = 0.5
AT_ONCE = 2
LONGEST_FIRST = 20_000
# sys.path has the standard library alone until then: no folder of the user's, no hook of an installed package
PROGRAM = "import sys; sys.path += sys.argv[1:]; from store.sandbox_child import main; main()"


@dataclass(frozen=True, slots=True)
class Order:
    """What a process is to do: ``timeout_s`` seconds at most, ``max_rows`` rows, ``most_bytes`` of an answer once read."""

    sql: str
    timeout_s: float
    max_rows: int
    most_bytes: int


@dataclass(frozen=True, slots=True)
class Reply:
    """How a process ended: ``walls`` (what held) is None where it never got ready, ``code`` of its end, whether it was
    stopped, or killed because its time was over. ``published_at``: when the snapshot it read was written."""

    walls: dict[str, bool] | None
    code: int
    stopped: bool
    late: bool
    published_at: datetime


class Process:
    """One statement's process. ``ask`` waits for the answer; ``stop`` ends it at once, from any thread, also before."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._child: subprocess.Popen[bytes] | None = None
        self._stopped = self._late = False

    def stop(self) -> None:
        """End the process now, or keep it from starting."""
        with self._lock:
            self._stopped = True
            self._kill()

    def ask(self, order: Order, snapshot: Path, take: Callable[[bytes], None]) -> Reply:
        """Run ``order`` on ``snapshot``, give each line of the answer to ``take``; the process has gone when this returns.

        Raises:
            OSError: there is no snapshot, or no process can be started.
        """
        # O_PATH: closing it does not drop the locks that this process has on the file
        handle = os.open(snapshot, getattr(os, "O_PATH", os.O_RDONLY) | os.O_CLOEXEC)
        try:
            published_at = datetime.fromtimestamp(os.fstat(handle).st_mtime, UTC)
            with self._lock:
                if self._stopped:
                    return Reply(None, 0, True, False, published_at)
                child = self._child = _start(handle)
            walls, code = self._follow(child, _request(order, snapshot, handle), order, take)
        finally:
            os.close(handle)
        return Reply(walls, code, self._stopped, self._late, published_at)

    def _follow(
        self, child: subprocess.Popen[bytes], request: bytes, order: Order, take: Callable[[bytes], None]
    ) -> tuple[dict[str, bool] | None, int]:
        walls = None
        try:
            with self._alarm(START_S), contextlib.suppress(BrokenPipeError):
                assert child.stdin is not None and child.stdout is not None
                child.stdin.write(request)
                child.stdin.close()
                first = child.stdout.readline(LONGEST_FIRST)
                walls = _walls(first)
                if walls is None and first:
                    take(first)  # what kept the process from opening the snapshot
            if walls is not None:  # the clock of the statement starts when the snapshot is open
                with self._alarm(order.timeout_s + GRACE_S):
                    for line in _lines(child.stdout, order.most_bytes):
                        take(line)
        finally:
            with self._lock:
                self._kill()
                self._child = None
            code = child.wait()
            for pipe in (child.stdin, child.stdout):
                with contextlib.suppress(BrokenPipeError):  # what was not yet written to a process that has gone
                    if pipe is not None:
                        pipe.close()
        return walls, code

    @contextmanager
    def _alarm(self, after_s: float) -> Iterator[None]:
        alarm = threading.Timer(after_s, self._end_late)
        alarm.daemon = True
        alarm.start()
        try:
            yield
        finally:
            alarm.cancel()

    def _end_late(self) -> None:
        with self._lock:
            self._late = self._child is not None
            self._kill()

    def _kill(self) -> None:
        if self._child is not None:
            self._child.kill()


def _start(handle: int) -> subprocess.Popen[bytes]:
    return subprocess.Popen(
        [sys.executable, "-I", "-S", "-c", PROGRAM, *_libraries()],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        env={},
        cwd=os.sep,
        start_new_session=True,
        pass_fds=(handle,),
    )


@cache
def _libraries() -> tuple[str, ...]:
    """Return the folders that the process imports from: ours, and DuckDB's."""
    found = find_spec("_duckdb")
    assert found is not None and found.origin is not None
    return str(Path(__file__).resolve().parent.parent), str(Path(found.origin).parent)


def _request(order: Order, snapshot: Path, handle: int) -> bytes:
    by_handle = Path(f"/proc/self/fd/{handle}").exists()
    request = {
        "app": os.getpid(),
        "sql": order.sql,
        "timeout_s": order.timeout_s,
        "max_rows": order.max_rows,
        "most_bytes": order.most_bytes,
        "snapshot": f"/proc/self/fd/{handle}" if by_handle else str(snapshot),
        "handle": handle if by_handle else None,
    }
    return json.dumps(request).encode()


def _walls(line: bytes) -> dict[str, bool] | None:
    try:
        found: Any = json.loads(line)
    except ValueError:
        return None
    return found if isinstance(found, dict) and "fault" not in found else None


def _lines(stream: Any, most_bytes: int) -> Iterator[bytes]:
    """Yield the whole lines, of which a sound process sends no more than a little over ``most_bytes``."""
    left = most_bytes + (1 << 20)
    while left > 0 and (line := stream.readline(left)).endswith(b"\n"):
        left -= len(line)
        yield line


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
