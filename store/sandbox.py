"""Free SQL, run in a throw-away process on the published snapshot: it can read the results and nothing else.

Reads: the snapshot, through the child process. Writes: the snapshot, when nobody else keeps it fresh. Never: runs a
statement in its own process.
"""

from __future__ import annotations

import sys
from collections.abc import Callable
from datetime import datetime
from pathlib import Path
from typing import NamedTuple

import pandas as pd

from kdengine.errors import Problem
from kdengine.home import Home
from store.db import Store, hold
from store.sandbox_answer import Answer, Unreadable
from store.sandbox_faults import Place, QueryError, explained, place_of
from store.sandbox_process import Order, Process, Reply, turns

MOST_CHARACTERS = 20_000
MOST_BYTES = 512 << 20


def run(sql: str, *, timeout_s: float = 5, max_rows: int = 10_000, home: Home | None = None) -> pd.DataFrame:
    """Run one statement on the snapshot and return its answer; ``frame.attrs["cut"]`` says whether rows were left out.

    Where no process holds the writer's lock, what is new is taken in and published first. Whole numbers stay whole
    (nullable where values are missing; beyond 64 bits they become floats), decimals become floats, moments become UTC
    datetimes, lists and structs stay Python values, times and intervals become text. ``attrs["snapshot_at"]``: when the
    results that answered were published (UTC, ISO 8601).

    Args:
        timeout_s: seconds the statement may run.
        max_rows: rows returned at most; the whole answer is cut at 512 MiB.
        home: where the results are; None = the home that ``KD_HOME`` names.

    Raises:
        QueryError: the statement is wrong, refused, too slow or too large.
    """
    order = Order(checked(sql), timeout_s, max_rows, MOST_BYTES)
    home = home or Home.find()
    make_fresh(home)
    with turns.turn():
        found = answer(Process(), order, home.snapshot)
    found.frame.attrs["snapshot_at"] = found.snapshot_at.isoformat()
    return found.frame


def make_fresh(home: Home) -> None:
    """Take in and publish where nobody else does; leave the snapshot to the running app where one is.

    Raises:
        QueryError: nobody has published yet, and it is not possible now.
    """
    notice = ""
    lock = hold(home)
    if lock is not None:
        lock.release()
        with Store.open(home) as store:
            store.take_in()
            notice = store.notice
    if not home.snapshot.exists():
        raise _error(
            f"no published results in {home.root} ({notice or 'their writer has just started'})",
            "a home where the results could be published once",
            "try again in a few seconds",
        )


def checked(sql: str) -> str:
    """Return the statement as it can be sent.

    Raises:
        QueryError: it is empty, too long, or holds what is no text.
    """
    text = sql.strip()
    if not text or len(text) > MOST_CHARACTERS:
        do = "write a shorter statement" if text else "write a statement, for example: select * from leaderboard"
        raise _error(f"a statement of {len(text)} characters", f"1 to {MOST_CHARACTERS} characters", do)
    strange = next((place for place, char in enumerate(text, 1) if char == "\0" or "\ud800" <= char <= "\udfff"), None)
    if strange is not None:
        raise _error(f"character {strange} of the statement, which is no text", "letters, digits, signs", "delete it")
    return text


class Answered(NamedTuple):
    """An answer: its rows, when the results that answered were published (UTC), and about how many bytes it takes."""

    frame: pd.DataFrame
    snapshot_at: datetime
    cost: int


def answer(process: Process, order: Order, snapshot: Path) -> Answered:
    """Run ``order`` in ``process`` on ``snapshot`` and return the answer; for callers that keep their own queue.

    Raises:
        QueryError: as ``run``; also when the process was stopped.
    """
    found = Answer()
    try:
        reply = _asked(process, order, snapshot, found.take)
        if found.ended and not reply.stopped:
            return Answered(found.frame(), reply.published_at, found.cost)
    except Unreadable:
        raise _broken("sent what is no answer") from None
    if found.fault and found.fault["fault"] != "InterruptException":
        raise explained(order.sql, found.fault, _paths(snapshot))
    raise _ended_early(reply, order, bool(found.fault))


def isolation(home: Home | None = None) -> dict[str, bool]:
    """Return what keeps a statement in on this machine, and whether it holds here: a statement is run to find out.

    Raises:
        QueryError: not even that can be run.
    """
    order = Order("select 1", 5, 1, 1 << 20)
    reply = _asked(Process(), order, (home or Home.find()).snapshot, lambda line: None)
    if reply.walls is None:
        raise _ended_early(reply, order)
    return reply.walls


def _asked(process: Process, order: Order, snapshot: Path, take: Callable[[bytes], None]) -> Reply:
    try:
        return process.ask(order, snapshot, take)
    except OSError as error:
        given = f"a statement that could not be started ({error.strerror or type(error).__name__})"
        allowed = "published results, and a machine with room for another process"
        raise _error(given, allowed, "try again in a few seconds") from error


def _ended_early(reply: Reply, order: Order, interrupted: bool = False) -> QueryError:
    if reply.stopped:
        return _error("a statement that was stopped", "statements that run to their end", "run it again")
    limit = f"{order.timeout_s:g} s"
    if interrupted or (reply.late and reply.walls is not None):
        do = "ask for fewer rows or runs, or group before joining"
        return _error(f"a statement that ran longer than {limit}", f"statements of at most {limit}", do)
    if reply.late:
        return _error("a statement whose process did not start in time", "a machine with time to spare", "run it again")
    return _broken("was killed" if reply.code == -9 else f"broke down (code {reply.code})")


def _broken(how: str) -> QueryError:
    allowed = "statements that stay within 512 MB of memory"
    return _error(f"a statement whose process {how}", allowed, "make it simpler; the results themselves are untouched")


def _paths(snapshot: Path) -> tuple[str, ...]:
    """Return what no text may show."""
    return str(snapshot), str(snapshot.parent), sys.prefix, sys.base_prefix


def _error(given: str, allowed: str, do: str) -> QueryError:
    return QueryError(Problem("sql", given, allowed, do))


__all__ = ["Answered", "Place", "QueryError", "answer", "checked", "isolation", "make_fresh", "place_of", "run"]
