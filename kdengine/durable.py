"""Files that are whole after a crash: written beside their place, flushed, renamed.

Reads / writes: the files that it is told of. Never: what stands in them.
"""

from __future__ import annotations

import os
import secrets
from pathlib import Path


def write_aside(path: Path, data: bytes, *, durable: bool = True, private: bool = False) -> None:
    """Replace ``path`` by ``data`` in one step: written beside it, flushed to disk if ``durable``, renamed.

    ``private``: no other account of the machine may read it.

    Raises:
        OSError: the disk is full or cannot be written; the old content stands and nothing is left beside it.
    """
    aside = path.with_name(f".{path.name}.{os.getpid()}.{secrets.token_hex(3)}")
    try:
        with open(aside, "wb", opener=for_us_alone if private else None) as file:
            file.write(data)
            if durable:
                file.flush()
                os.fsync(file.fileno())
        aside.replace(path)
    except BaseException:
        aside.unlink(missing_ok=True)
        raise
    if durable:
        flush_folder(path.parent)


def for_us_alone(path: str, flags: int) -> int:
    """Open a file, as the ``opener`` of ``open``; one that is made no other account may read."""
    return os.open(path, flags, 0o600)


def flush_folder(folder: Path) -> None:
    """Write the names of a folder to the disk, so that what was renamed stays renamed after a power cut."""
    handle = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)
