"""The queue of free SQL in the app: asked by many, two run at a time, everybody in turn, answers kept for a while.

Reads: the published snapshot, through processes of their own (``sandbox``). Writes: nothing. Never: runs a statement in
this process; takes anything in (the pulse keeps the snapshot fresh).
"""

from __future__ import annotations

import logging
import secrets
import threading
import time
from collections import deque
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Literal

import pandas as pd

from kdengine.errors import Problem
from kdengine.home import Home
from store import sandbox
from store.sandbox import QueryError
from store.sandbox_process import AT_ONCE, Order, Process, turns

State = Literal["waiting", "running", "done", "failed", "cancelled", "gone"]
OPEN_PER_PERSON = 4  # one that runs and three that wait
MOST_WAITING = 40
KEPT_S = 15 * 60.0
KEPT = 40
KEPT_BYTES = 128 << 20
MOST_BYTES = 32 << 20  # of one answer: it takes the server no more than 75 MiB while it is read
log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Question:
    """How a question stands.

    ``position`` 1 is the next to run, 0 does not wait. ``took_s`` seconds it has run, or ran. ``began_at`` UTC. ``frame`` is
    shared by all who look: not to be changed. ``cut``: rows were left out. ``snapshot_at`` (UTC): when the results that
    answered were published. ``problems`` in three parts where it failed. ``gone``: over for so long that it is not kept,
    or never asked.
    """

    key: str
    state: State
    sql: str = ""
    position: int = 0
    began_at: datetime | None = None
    took_s: float = 0.0
    limit_s: float = 0.0
    frame: pd.DataFrame | None = None
    cut: bool = False
    problems: tuple[Problem, ...] = ()
    snapshot_at: datetime | None = None

    @property
    def over(self) -> bool:
        """Whether nothing more will happen to it."""
        return self.state not in ("waiting", "running")


@dataclass(eq=False, slots=True)
class _Asked:
    """A question as the queue keeps it; times are monotonic, s."""

    key: str
    who: str
    order: Order
    state: State = "waiting"
    process: Process = field(default_factory=Process)
    began_at: datetime | None = None
    began: float = 0.0
    ended: float = 0.0
    looked: float = 0.0
    found: sandbox.Answered | None = None
    problems: tuple[Problem, ...] = ()

    @property
    def size(self) -> int:
        """Bytes of its answer."""
        return self.found.cost if self.found else 0


class Questions:
    """The questions of all people of one app. Every method may be called from any thread and returns at once."""

    def __init__(self, home: Home) -> None:
        self._home = home
        self._changed = threading.Condition()
        self._known: dict[str, _Asked] = {}
        self._waiting: dict[str, deque[_Asked]] = {}  # person -> questions; the persons stand in the order of their turns
        self._running: dict[str, _Asked] = {}
        self._threads: list[threading.Thread] = []
        self._closed = False

    def ask(self, sql: str, who: str, *, timeout_s: float = 5, max_rows: int = 10_000) -> str:
        """Queue a statement for ``who`` and return its key.

        Raises:
            QueryError: it is empty or too long, this person or all together have too many waiting, or the app is closing.
        """
        order = Order(sandbox.checked(sql), timeout_s, max_rows, MOST_BYTES)
        with self._changed:
            self._forget()
            self._demand_room(who)
            asked = _Asked(secrets.token_urlsafe(12), who, order)
            self._known[asked.key] = asked
            self._waiting.setdefault(who, deque()).append(asked)
            if not self._threads:
                self._threads = [threading.Thread(target=self._work, name="question", daemon=True) for _ in range(AT_ONCE)]
                for thread in self._threads:
                    thread.start()
            self._changed.notify_all()
        return asked.key

    def look(self, key: str) -> Question:
        """Return how the question stands."""
        with self._changed:
            self._forget()
            asked = self._known.get(key)
            if asked is None:
                return Question(key, "gone")
            asked.looked = time.monotonic()
            took = (asked.ended or time.monotonic()) - asked.began if asked.began else 0.0
            frame, snapshot_at, _ = asked.found or (None, None, 0)
            cut = frame is not None and bool(frame.attrs["cut"])
            return Question(
                key, asked.state, asked.order.sql, self._position(asked), asked.began_at, took, asked.order.timeout_s,
                frame, cut, asked.problems, snapshot_at,
            )  # fmt: skip

    def cancel(self, key: str, who: str) -> bool:
        """End the question now, whether it waits or runs; False where it is over already or somebody else's."""
        with self._changed:
            asked = self._known.get(key)
            if asked is None or asked.who != who or asked.state not in ("waiting", "running"):
                return False
            if asked.state == "waiting":
                self._take_out(asked)
            asked.state, asked.ended = "cancelled", time.monotonic()
            asked.process.stop()
            self._changed.notify_all()
            return True

    def close(self) -> None:
        """End what runs, drop what waits and all answers. A second time does nothing."""
        with self._changed:
            self._closed = True
            for asked in self._running.values():
                asked.process.stop()
            self._waiting.clear()
            self._known.clear()
            self._changed.notify_all()
        for thread in self._threads:
            thread.join(timeout=10)

    # -- all below: with the lock held, but for _work, _answer ------------------------------------------------------------

    def _demand_room(self, who: str) -> None:
        if self._closed:
            raise QueryError.of("a question to an app that is closing", "an app that runs", "ask again when it is back", "sql")
        open_now = len(self._waiting.get(who, ())) + (who in self._running)
        if open_now >= OPEN_PER_PERSON:
            raise QueryError.of(
                f"a fifth question while {open_now} of yours are not answered yet",
                "one that runs and three that wait",
                "wait for an answer, or stop one of them",
                "sql",
            )
        waiting = sum(map(len, self._waiting.values()))
        if waiting >= MOST_WAITING:
            raise QueryError.of(
                f"a question while {waiting} wait", f"at most {MOST_WAITING} that wait", "ask again in a minute", "sql"
            )

    def _position(self, asked: _Asked) -> int:
        """Return the place in the queue: at worst, since whoever has one running lets the others go first."""
        if asked.state != "waiting":
            return 0
        mine, depth = list(self._waiting).index(asked.who), self._waiting[asked.who].index(asked)
        return 1 + sum(min(len(queue), depth + (place < mine)) for place, queue in enumerate(self._waiting.values()))

    def _take_out(self, asked: _Asked) -> None:
        queue = self._waiting[asked.who]
        queue.remove(asked)
        if not queue:
            del self._waiting[asked.who]

    def _next(self) -> _Asked | None:
        """Take the first question of the first person who has none running; that person then stands last."""
        for who, queue in self._waiting.items():
            if who not in self._running:
                asked = queue.popleft()
                del self._waiting[who]
                if queue:
                    self._waiting[who] = queue
                return asked
        return None

    def _forget(self) -> None:
        """Drop answers that are too old, then those not looked at for the longest until the rest is small enough."""
        now = time.monotonic()
        over = sorted((a for a in self._known.values() if a.ended), key=lambda asked: max(asked.looked, asked.ended))
        size = sum(asked.size for asked in over)
        for place, asked in enumerate(over):
            if now - asked.ended > KEPT_S or len(over) - place > KEPT or size > KEPT_BYTES:
                size -= asked.size
                del self._known[asked.key]

    def _work(self) -> None:
        while True:
            with self._changed:
                while not self._closed and not any(who not in self._running for who in self._waiting):
                    self._changed.wait(KEPT_S / 10)
                    self._forget()
                if self._closed:
                    return
            with turns.turn():
                with self._changed:
                    asked = None if self._closed else self._next()
                    if asked is None:
                        continue
                    asked.state, asked.began, asked.began_at = "running", time.monotonic(), datetime.now(UTC)
                    self._running[asked.who] = asked
                self._answer(asked)

    def _answer(self, asked: _Asked) -> None:
        found: sandbox.Answered | None = None
        problems: tuple[Problem, ...] = ()
        try:
            found = sandbox.answer(asked.process, asked.order, self._home.snapshot)
        except QueryError as error:
            problems = error.problems
        except Exception as error:  # whatever it is, the thread must go on, and the page must say it
            log.exception("while answering a question")
            problems = (
                Problem("sql", f"a fault of the app ({type(error).__name__})", "no fault", "tell whoever runs this server"),
            )
        with self._changed:
            del self._running[asked.who]
            if asked.state == "running":
                asked.state, asked.ended = "failed" if problems else "done", time.monotonic()
                asked.found, asked.problems = found, problems
                self._forget()
            self._changed.notify_all()
