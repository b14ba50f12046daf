"""Where exports of race charts lie: a folder for each order, how it stands, and what is thrown away when the shelf is full.

How an export stands is derived from files and locks, never stored: file and ``about.json`` there = done; its errand under way =
drawing; a problem noted = failed; an order alone = waiting. Who changes something holds ``queue``.

Reads and writes: ``exports/race/<key>/`` (``order.json``; ``race.mp4|gif|png``, ``last.png``, ``about.json``), aside and renamed;
``locks/race.lock``; removes the files of its errands. Never: pixels, processes.
"""

from __future__ import annotations

import contextlib
import functools
import json
import os
import re
import shutil
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, ValidationError

from kdengine import errands, runner, slots
from kdengine.durable import write_aside
from kdengine.errands import Errand, Standing
from kdengine.errors import KdError
from kdengine.home import Home
from store.export.race.options import FORMATS
from store.export.race.order import Order

State = Literal["absent", "waiting", "drawing", "done", "failed"]
ORDER, ABOUT, POSTER = "order.json", "about.json", "last.png"
FILES = frozenset(f"race.{name}" for name in FORMATS)
FAILED_DAYS = 7.0  # how long the word of a failure is kept
# the address space of a drawing is bounded, and every thread of a pool and every arena reserves some of it; Arrow's own pool,
# which the first frame of pandas wakes, a whole GiB
LEAN = {
    "OMP_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1", "MKL_NUM_THREADS": "1", "MALLOC_ARENA_MAX": "2",
    "ARROW_DEFAULT_MEMORY_POOL": "system",
}  # fmt: skip


@dataclass(frozen=True, slots=True)
class Asked:
    """What ``order.json`` holds: the order, who wants it (it counts for the first of them), and since when (UTC)."""

    order: Order
    who: tuple[str, ...]
    at: str


class About(BaseModel):
    """What was made, and from what: ``frames`` in the file, ``seconds`` it took to draw, ``bytes``, when (UTC)."""

    model_config = ConfigDict(frozen=True)
    frames: int
    seconds: float
    bytes: int
    made_at: str
    kind: str
    format: str
    width: int
    height: int
    bars: int


@contextlib.contextmanager
def queue(home: Home) -> Iterator[None]:
    """Hold the lock under which orders are placed, started and thrown away.

    Raises:
        RunBusy: another process keeps it.
    """
    with runner.moving(home, "race", "the queue of exports"):
        yield


def errand(home: Home, key: str) -> Errand:
    """Return the errand that draws the order ``key``."""
    # a server's own folder for matplotlib may be read-only: each drawing would look through all fonts anew
    cache = os.environ.get("MPLCONFIGDIR") or str(home.root / "cache" / "matplotlib")
    return Errand(f"race-{key}", ("race", "--order", key), "store", LEAN | {"MPLCONFIGDIR": cache})


def look(home: Home, key: str) -> tuple[State, Standing]:
    """Return how the export stands, and its errand. Never waits; any text may be asked for."""
    folder = folder_of(home, key)
    if not re.fullmatch(r"[0-9a-f]{20}", key):
        return "absent", Standing(False)
    if is_done(folder):
        return "done", Standing(False)
    standing = errands.standing(home, errand(home, key))
    if standing.going:
        return "drawing", standing
    if is_done(folder):  # it may have ended between the two looks; now that nobody draws, nothing more follows
        return "done", standing
    if asked(folder) is None:
        return "absent", standing
    return ("failed" if standing.problems else "waiting"), standing


# ---- what lies in a folder -----------------------------------------------------------------------------------------------------


def folder_of(home: Home, key: str) -> Path:
    """Return the folder of the order ``key``."""
    return home.exports / "race" / key


def folders(home: Home) -> list[Path]:
    """Return the folders of all orders, in no order."""
    return [path for path in _entries(home.exports / "race") if not path.name.startswith(".")]


def is_done(folder: Path) -> bool:
    """Say whether the folder holds a whole export."""
    return (folder / ABOUT).exists() and (folder / ORDER).exists() and file_of(folder) is not None


def file_of(folder: Path) -> Path | None:
    """Return the file that was made."""
    return next((file for name in FORMATS if (file := folder / f"race.{name}").exists()), None)


def made_last_first(home: Home) -> list[Path]:
    """Return the folders that hold a whole export."""
    made = [(file.stat().st_mtime_ns, folder) for folder in folders(home) if is_done(folder) and (file := file_of(folder))]
    return [folder for _, folder in sorted(made, reverse=True)]


def about(folder: Path) -> About | None:
    """Return what was made; None where there is nothing that this version understands."""
    with contextlib.suppress(OSError, ValidationError):
        return About.model_validate_json((folder / ABOUT).read_bytes())
    return None


def asked(folder: Path) -> Asked | None:
    """Return what was asked for; None where there is nothing that this version understands."""
    with contextlib.suppress(OSError, ValueError, KeyError, TypeError, KdError):
        stat = (folder / ORDER).stat()
        return _read(folder / ORDER, (stat.st_mtime_ns, stat.st_ino))
    return None


@functools.lru_cache(maxsize=64)
def _read(path: Path, stamp: tuple[int, int]) -> Asked:
    said: dict[str, Any] = json.loads(path.read_bytes())
    return Asked(Order(**said["order"]), tuple(said["who"]), said["at"])


def put(folder: Path, asked: Asked) -> None:
    """Write what was asked for, aside and renamed: again where the process that draws clears the folder at that moment.

    Raises:
        OSError: the disk is full or cannot be written, or the folder has gone.
    """
    said = {"who": asked.who, "at": asked.at, "order": asked.order.model_dump(mode="json")}
    for left in (2, 1, 0):  # it clears at its start and at its end
        try:
            return write_aside(folder / ORDER, json.dumps(said, ensure_ascii=False).encode())
        except FileNotFoundError:
            if not left or not folder.is_dir():
                raise


# ---- throwing away -------------------------------------------------------------------------------------------------------------


def clear(folder: Path, keep: frozenset[str] = frozenset({ORDER})) -> None:
    """Remove everything in the folder but the files to ``keep``."""
    for path in _entries(folder):
        if path.name not in keep:
            _remove(path)


def discard(home: Home, folder: Path) -> None:
    """Remove a folder and all that its errand left; aside first, so that half of it is never taken for an export."""
    aside = folder.with_name(f".{folder.name}-{time.time_ns()}")
    with contextlib.suppress(FileNotFoundError):
        _remove(folder.rename(aside))
    errands.erase(home, errand(home, folder.name))


def tidy(home: Home) -> None:
    """Remove what dead drawings left, and then exports until the rest fits ``exports_mib`` of the settings: the one used longest
    ago first, never the last.

    One that waits, is drawn, or failed lately is not touched.
    """
    done: list[tuple[int, int, Path]] = []
    for folder in _entries(home.exports / "race"):
        state, _ = look(home, folder.name)
        if folder.name.startswith("."):
            _remove(folder)  # somebody ended while he threw it away
        elif state == "absent" or (state == "failed" and _age_days(folder / ORDER) > FAILED_DAYS):
            discard(home, folder)
        elif state == "done":
            clear(folder, FILES | {ORDER, ABOUT, POSTER})
            done.append(((folder / ABOUT).stat().st_mtime_ns, sum(file.stat().st_size for file in _entries(folder)), folder))
        elif state != "drawing":
            clear(folder)
    total, most = sum(size for _, size, _ in done), _quota_bytes(home)
    for _, size, folder in sorted(done)[:-1]:
        if total <= most:
            break
        discard(home, folder)
        total -= size


def _quota_bytes(home: Home) -> int:
    try:
        return slots.read_settings(home).exports_mib << 20
    except KdError:  # said where runs are started; here the usual size will do
        return slots.Settings().exports_mib << 20


def touch(folder: Path) -> None:
    """Note that an export was used now."""
    os.utime(folder / ABOUT)


def _entries(folder: Path) -> list[Path]:
    with contextlib.suppress(FileNotFoundError):
        return [Path(entry.path) for entry in os.scandir(folder)]
    return []


def _remove(path: Path) -> None:
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path, ignore_errors=True)
    else:
        path.unlink(missing_ok=True)


def _age_days(path: Path) -> float:
    return (time.time() - path.stat().st_mtime) / 86_400
