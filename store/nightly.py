"""The nightly backup: when it is due, and the process of its own that makes it.

Reads: ``settings.json``, the names of backups. Writes: nothing itself; starts ``python -m store backup`` as an errand.
Never: a backup in the process that somebody looks at pages of.
"""

from __future__ import annotations

import time
from datetime import UTC, datetime, timedelta

from kdengine import errands
from kdengine.errands import Errand, Standing
from kdengine.errors import KdError
from kdengine.home import Home
from kdengine.rundir import run_dirs
from kdengine.slots import read_settings
from store import backup

ERRAND = Errand("backup", ("backup",), module="store")
NIGHT = range(1, 6)  # hours, UTC
ENOUGH, LATEST = timedelta(hours=24), timedelta(hours=26)  # by night after the first; at any hour after the second
AHEAD = timedelta(hours=1)  # a backup from further in the future was stamped by a wrong clock and puts nothing off
AGAIN_S = 3600.0  # after one that failed


def is_due(newest: datetime | None, now: datetime) -> bool:
    """Say whether a backup should be made: by night one a day; by day too where the last night had none."""
    if newest is None:
        return True
    age = now - newest
    return age >= (ENOUGH if now.hour in NIGHT else LATEST)


def tick(home: Home) -> bool:
    """Start the backup if it is due; say whether one was started. Cheap; any process may call it at any time.

    Raises:
        KdError: the last one failed, with its problems (the next is tried an hour after it); ``settings.json`` is wrong.
        OSError: no process can be started, or the disk is full.
    """
    if not read_settings(home).backups:
        return False
    stands = standing(home)
    if stands.going or not is_due(newest(home), datetime.now(UTC)) or not run_dirs(home):
        return False
    if stands.problems and _failed_s(home) < AGAIN_S:
        raise KdError(*stands.problems)
    return errands.start(home, ERRAND)


def start(home: Home) -> bool:
    """Start a backup now; False where one is under way already. Raises ``OSError`` as ``tick`` does."""
    return errands.start(home, ERRAND)


def standing(home: Home) -> Standing:
    """Return how the backup stands that is under way, or why the last one failed."""
    return errands.standing(home, ERRAND)


def newest(home: Home) -> datetime | None:
    """Return when the newest backup was made (UTC); None without one."""
    until = datetime.now(UTC) + AHEAD
    return max((at for made in backup.listed(backup.folder_of(home)) if (at := made.at) <= until), default=None)


def _failed_s(home: Home) -> float:
    try:
        return max(0.0, time.time() - ERRAND.note(home).stat().st_mtime)
    except FileNotFoundError:
        return float("inf")
