"""What workers had acknowledged, noted outside KD_HOME: the one witness that no fault of the product can touch.

An epoch is acknowledged when its line, newline included, is on disk: ``EventLog.append`` has returned after its fsync. A worker
that is killed between that and its note has acknowledged one epoch more than the ledger knows; the ledger never claims too much.

Reads / writes: one file per run in the folder that ``KD_FAULTS_LEDGER`` names. Never: KD_HOME.
"""

from __future__ import annotations

import os
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from kdengine.eventlog import EventLog
from kdengine.events import EpochEnded

FOLDER = "KD_FAULTS_LEDGER"


@dataclass(frozen=True, slots=True)
class Told:
    """One acknowledged epoch; ``at`` is when (s, of a clock that no jump reaches and that all processes share)."""

    phase: str
    epoch: int
    at: float


def witness() -> None:
    """From now on, note every epoch that this process appends to an event log."""
    append = EventLog.append

    def noting(log: EventLog, event: Any) -> None:
        append(log, event)
        if isinstance(event, EpochEnded):
            note(log.path.parent.name, event)

    EventLog.append = noting  # type: ignore[method-assign]


def note(run_id: str, event: EpochEnded) -> None:
    """Note that the epoch is on disk: one small write, which a kill does not cut in two."""
    handle = os.open(Path(os.environ[FOLDER]) / run_id, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o644)
    try:
        os.write(handle, f"{event.phase} {event.epoch} {time.monotonic():.4f}\n".encode())
    finally:
        os.close(handle)


def read(folder: Path) -> dict[str, list[Told]]:
    """Return what was acknowledged: run id -> epochs in the order of their lines."""
    found = {}
    for file in sorted(folder.iterdir()):
        lines = (line.split() for line in file.read_text().splitlines())
        found[file.name] = [Told(phase, int(epoch), float(at)) for phase, epoch, at in lines]
    return found
