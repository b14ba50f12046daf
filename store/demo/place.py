"""The home of one demo server: a fresh folder in the temporary files, which goes when the server does.

Reads: its neighbours' locks. Writes: the folder; removes folders that killed servers left behind. Never: a home in which
somebody trains; the folder of a server that is there.
"""

from __future__ import annotations

import atexit
import contextlib
import fcntl
import os
import shutil
import tempfile
import threading
from pathlib import Path

from kdengine.errors import HomeError, KdError
from kdengine.home import Home
from store.demo.unpack import unpack

PREFIX = "kd-explorer-demo-"
LOCK = "server.lock"  # held as long as the server of this folder lives
ROOM_MIB = 64  # what runs, pixels, database and snapshot take, twice over
_homes: dict[Path, tuple[Home, int]] = {}
_guard = threading.Lock()


def home(base: Path | None = None, *, allow_network: bool = False) -> Home:
    """Return the home of this process in the folder ``base`` (default: that of temporary files), made when it is asked first.

    Raises:
        HomeError: ``base`` holds runs of somebody, lies on a network disk, or has no room.
    """
    root = base or Path(tempfile.gettempdir())
    with _guard:
        if root not in _homes:
            _refuse(root)
            clear(root)
            _homes[root] = _made(root, allow_network)
        return _homes[root][0]


@atexit.register
def remove() -> None:
    """Remove the homes that this process made. A server calls it when it ends; a signal may end it without."""
    with _guard:
        while _homes:
            found, lock = _homes.popitem()[1]
            shutil.rmtree(found.root, ignore_errors=True)
            os.close(lock)


def clear(base: Path) -> None:
    """Remove what demo servers of this user that were killed have left in ``base``."""
    with contextlib.suppress(OSError):
        for folder in base.glob(f"{PREFIX}*"):
            with contextlib.suppress(OSError):
                _clear(folder)


def _clear(folder: Path) -> None:
    if folder.lstat().st_uid != os.getuid():
        return
    lock = os.open(folder / LOCK, os.O_RDWR | os.O_NOFOLLOW)  # none: a server is just making it, or it is not ours
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        shutil.rmtree(folder, ignore_errors=True)
    finally:
        os.close(lock)


def _made(base: Path, allow_network: bool) -> tuple[Home, int]:
    try:
        base.mkdir(parents=True, exist_ok=True)
        while True:
            found = Home(Path(tempfile.mkdtemp(prefix=PREFIX, dir=base)))
            lock = os.open(found.root / LOCK, os.O_RDWR | os.O_CREAT, 0o600)
            fcntl.flock(lock, fcntl.LOCK_EX)
            if (found.root / LOCK).exists():  # else somebody cleared it in the moment before it was locked
                break
            os.close(lock)
    except OSError as error:
        raise _no_room(base, error) from error
    try:
        unpack(found.made(allow_network))
    except BaseException as error:
        shutil.rmtree(found.root, ignore_errors=True)
        os.close(lock)
        if isinstance(error, OSError):
            raise _no_room(base, error) from error
        raise
    return found, lock


def _refuse(base: Path) -> None:
    with contextlib.suppress(OSError):
        if any((base / "runs").iterdir()):
            raise HomeError.of(
                f"{base}, which holds runs of its own, for a demo",
                "an empty folder, or none: a demo shows recorded runs and keeps its home in the temporary files",
                "leave KD_HOME out, or leave KD_MODE out to see these runs", "KD_HOME",
            )  # fmt: skip


def _no_room(base: Path, error: OSError) -> KdError:
    return HomeError.of(
        f"{base} ({error.strerror or error})", f"a folder that this user may write, with {ROOM_MIB} MiB of room",
        "set KD_HOME to an empty folder on another disk", "KD_HOME",
    )  # fmt: skip
