"""Who did what: one line for each launch, stop, export, label and change of people, for whoever looks after the server.

Reads / writes: ``audit.jsonl`` in the home, appended to under a lock, never changed. Never: secrets; the results.
"""

from __future__ import annotations

import json
import os
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from pathlib import Path

from filelock import FileLock

from kdengine.durable import for_us_alone
from kdengine.events import now
from kdengine.home import Home

LONGEST = 500  # characters of what was done
BLOCK = 1 << 16


@dataclass(frozen=True, slots=True)
class Line:
    """One thing done: ``at`` UTC text; ``who``: identity, "local" without sign-in; ``action``; ``what``: to which thing."""

    at: str
    who: str
    action: str
    what: str


def note(home: Home, who: str, action: str, what: str = "") -> None:
    """Append one line; it is on disk when this returns.

    Raises:
        OSError: the disk is full or cannot be written.
    """
    line = json.dumps(asdict(Line(now(), who or "local", action, what[:LONGEST])), ensure_ascii=True) + "\n"
    with FileLock(home.locks / "audit.lock"), open(file_of(home), "ab", opener=for_us_alone) as file:
        if _is_torn(file_of(home)):  # a crash or a full disk left half a line: it must not swallow this one
            line = "\n" + line
        file.write(line.encode())
        file.flush()
        os.fsync(file.fileno())


def read(home: Home, most: int = 200, *, who: str = "", action: str = "") -> list[Line]:
    """Return the newest lines, newest first, of one person or one action where those are given; a torn line is passed over."""
    found: list[Line] = []
    for line in lines(home):
        if (not who or line.who == who) and (not action or line.action == action):
            found.append(line)
        if len(found) >= most:
            break
    return found


def lines(home: Home) -> Iterator[Line]:
    """Yield all lines, newest first; reads the file from its end, and no more of it than is asked for."""
    for text in _backwards(file_of(home)):
        try:
            yield Line(**json.loads(text))
        except (ValueError, TypeError):  # torn, or written by another hand
            continue


def file_of(home: Home) -> Path:
    """Return where the lines are kept."""
    return home.root / "audit.jsonl"


def _is_torn(path: Path) -> bool:
    with path.open("rb") as file:
        if file.seek(0, os.SEEK_END) == 0:
            return False
        file.seek(-1, os.SEEK_END)
        return file.read(1) != b"\n"


def _backwards(path: Path) -> Iterator[bytes]:
    try:
        with path.open("rb") as file:
            position, rest = file.seek(0, os.SEEK_END), b""
            while position:
                size = min(BLOCK, position)
                position -= size
                file.seek(position)
                rest, *whole = (file.read(size) + rest).split(b"\n")
                yield from (line for line in reversed(whole) if line)
            if rest:
                yield rest
    except FileNotFoundError:
        return
