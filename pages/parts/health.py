"""Is the server well? What ``GET /healthz`` answers to whoever asks, signed in or not.

Reads: the pulse, the store, the free space of the disk. Writes: nothing. Never: a name, a path, a run, the text of a fault.
"""

from __future__ import annotations

import shutil
import threading
import time
from dataclasses import dataclass
from typing import Any

from pages.parts import pulse
from pages.parts.pulse import Pulse
from store import queries

BEAT_LATE_S = 120.0  # a beat may wait 30 s for each of two queues, and takes in up to 20,000 events at a time
UNPUBLISHED_LATE_S = 60.0  # a change is published after 3 s, unless the disk is full or a question keeps the database busy
DISK_LOW_MIB = 512.0
FRESH_S = 1.0  # however many ask, it is looked once a second
PATIENCE_S = 5.0

Check = dict[str, Any]


@dataclass(frozen=True, slots=True)
class Health:
    """``checks``: name -> what was found, with ``ok`` in each."""

    checks: dict[str, Check]

    @property
    def sound(self) -> bool:
        """Whether every check is ok."""
        return all(check["ok"] for check in self.checks.values())

    def as_dict(self) -> dict[str, Any]:
        """Plain values for JSON."""
        return {"status": "ok" if self.sound else "degraded", "checks": self.checks}


def look() -> Health:
    """Return how the server of this process is, as found within the last second.

    Where a look takes long, as on a disk that does not answer, others do not pile up behind it for ever.
    """
    global _kept
    if not _looking.acquire(timeout=PATIENCE_S):
        return Health({"disk": {"ok": False, "state": "does not answer"}})
    try:
        at, found = _kept
        if found is None or time.monotonic() - at > FRESH_S:
            found = of(pulse.running())
            _kept = (time.monotonic(), found)
        return found
    finally:
        _looking.release()


def of(heart: Pulse | None) -> Health:
    """Return how the server with this pulse is; None: it has not started yet."""
    if heart is None:
        return Health({"pulse": {"ok": False, "state": "starting", "last_beat_s": None}})
    looks = {"pulse": _pulse, "store": _store, "snapshot": _snapshot, "disk": _disk, "queue": _queue}
    return Health({name: _seen(check, heart) for name, check in looks.items()})


def _seen(check: Any, heart: Pulse) -> Check:
    try:
        found: Check = check(heart)
    except Exception:  # the page and the log say what it is; a stranger learns that it is not well
        return {"ok": False}
    return found


def _pulse(heart: Pulse) -> Check:
    if heart.beaten_at is None:
        return {"ok": False, "state": "starting", "last_beat_s": None}
    since_s = time.monotonic() - heart.beaten_at
    state = "stopped" if not heart.is_beating else "late" if since_s > BEAT_LATE_S else "beating"
    return {"ok": state == "beating", "state": state, "last_beat_s": round(since_s, 1)}


def _store(heart: Pulse) -> Check:
    return {"ok": not heart.store.notice, "role": heart.store.role, "takes_in": not heart.store.notice}


def _snapshot(heart: Pulse) -> Check:
    late_s = heart.store.unpublished_s()
    try:
        age_s = round(max(0.0, time.time() - heart.home.snapshot.stat().st_mtime), 1)
    except FileNotFoundError:
        return {"ok": False, "age_s": None, "unpublished_s": round(late_s, 1)}
    return {"ok": late_s <= UNPUBLISHED_LATE_S, "age_s": age_s, "unpublished_s": round(late_s, 1)}


def _disk(heart: Pulse) -> Check:
    free_mib = shutil.disk_usage(heart.home.root).free / 2**20
    return {"ok": heart.still or free_mib >= DISK_LOW_MIB, "free_mib": round(free_mib)}


def _queue(heart: Pulse) -> Check:
    counts = queries.counts(heart.store)
    return {"ok": True} | {status: counts.get(status, 0) for status in ("queued", "waiting", "running", "lost")}


_looking = threading.Lock()
_kept: tuple[float, Health | None] = (0.0, None)
