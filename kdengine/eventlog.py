"""The record of a run, ``events.jsonl``: one event per line, written by one process, read by many while it grows.

Reads / writes: that file; it is only ever appended to. Never: torch, locks.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from kdengine.events import Ended, EpochEnded, Event, Notice, Started, parse, to_line

TAIL_BYTES = 1 << 16


@dataclass(frozen=True, slots=True)
class Reject:
    """A complete line that is no event: the byte where it begins and what it says (first 200 characters)."""

    position: int
    text: str


class EventLog:
    """The events of one run. Making the object touches nothing."""

    __slots__ = ("path",)

    def __init__(self, path: Path) -> None:
        self.path = path

    def size(self) -> int:
        """Return the length in bytes; 0 where there is no file yet."""
        try:
            return self.path.stat().st_size
        except FileNotFoundError:
            return 0

    def scan(self, start: int = 0) -> tuple[list[Event], int, list[Reject]]:
        """Return the events of all complete lines from byte ``start`` on, the position to go on from, and bad lines."""
        try:
            with self.path.open("rb") as file:
                file.seek(start)
                data = file.read()
        except FileNotFoundError:
            return [], start, []
        events: list[Event] = []
        rejects: list[Reject] = []
        position = start
        for line in data.split(b"\n")[:-1]:  # what follows the last newline is not complete yet
            event = _event(line)
            if event is not None:
                events.append(event)
            elif line.strip():
                rejects.append(Reject(position, line[:200].decode(errors="replace")))
            position += len(line) + 1
        return events, position, rejects

    def backwards(self, since: int = 0) -> Iterator[Event]:
        """Yield the events that begin at byte ``since`` or later, newest first, reading only as far up as is asked for."""
        size = self.size()
        end, window = size, TAIL_BYTES
        while end > since:
            start = max(since, end - window)
            with self.path.open("rb") as file:
                file.seek(start)
                lines = file.read(end - start).split(b"\n")
            if end == size:
                lines[-1] = b""  # not complete yet
            cut = start > since  # then the first line begins further up, and belongs to the next round
            yield from (event for line in reversed(lines[cut:]) if (event := _event(line)) is not None)
            if not cut:
                return
            if len(lines) > 1:
                end = start + len(lines[0])
            window *= 8  # also for a line that is longer than the window

    def append(self, event: Started | Notice | EpochEnded | Ended) -> None:
        """Append one event in a single write and flush it to disk.

        A torn last line (left by a worker that was killed while writing) is closed first, so that it spoils only itself.

        Raises:
            OSError: the disk is full or failing; the event may be given again.
        """
        handle = os.open(self.path, os.O_RDWR | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC, 0o644)
        try:
            size = os.fstat(handle).st_size
            torn = size > 0 and os.pread(handle, 1, size - 1) != b"\n"
            data = (b"\n" if torn else b"") + to_line(event)
            while data:  # one write, unless the disk fills up in between: then the next one says so
                data = data[os.write(handle, data) :]
            os.fsync(handle)
        finally:
            os.close(handle)


def _event(line: bytes) -> Event | None:
    if not line:
        return None
    try:
        return parse(line)
    except ValueError:
        return None
