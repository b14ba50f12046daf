"""The real worker around a training that is a formula: ``KD_WORKER_MODULE=benchmarks.faults.swift_worker``.

Lock, signals, event log, last word and queue are those of ``kdengine.worker``; only ``kdengine.train`` and ``kdengine.check`` are
replaced, so a worker starts in a quarter of a second and 200 of them can be killed in some minutes. It keeps the order that the
real training keeps: the checkpoint, which holds the epoch's event, is on disk before the event is.

The run's note is its plan, JSON: ``epoch_s``, the seconds of an epoch.

Reads / writes: its run folder, the ledger. Never: torch.
"""

from __future__ import annotations

import json
import sys
import time
import types
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import kdengine
from benchmarks.faults import ledger
from benchmarks.invented import epoch_of, started_of
from kdengine import worker
from kdengine.durable import write_aside
from kdengine.errors import Problem, RunFailed
from kdengine.events import EpochEnded, Notice, Started
from kdengine.home import Home
from kdengine.rundir import RunDir
from kdengine.spec import RunSpec


class Stopped(Exception):
    """Somebody asked the run to stop."""


@dataclass(slots=True)
class Setting:
    """What the worker hands over, as ``kdengine.train.Setting``."""

    home: Home
    run: RunDir
    spec: RunSpec
    teacher_run: str | None
    attempt: int
    stop: Callable[[], bool]
    report: Callable[[dict[str, Any]], None]


def train(setting: Setting) -> Iterator[Started | Notice | EpochEnded]:
    """Yield the epochs of the formula, from the beginning or from the checkpoint, with their pace."""
    spec, run = setting.spec, setting.run
    epoch_s = float(json.loads(spec.note or "{}").get("epoch_s", 0.02))
    yield started_of(spec.epochs, spec).model_copy(update={"attempt": setting.attempt})
    done = 0
    if (last := checkpoint(run)) is not None:
        done = last.epoch
        if done not in [e.epoch for e in run.read_events()[0] if isinstance(e, EpochEnded)]:
            yield last
    for epoch in range(done + 1, spec.epochs + 1):
        time.sleep(epoch_s)
        if setting.stop():
            raise Stopped
        event = formula(spec, epoch)
        try:
            write_aside(run.last_pt, event.model_dump_json().encode())
        except OSError as error:
            yield Notice(text=f"checkpoint not written: {error}")
        yield event
        setting.report({"phase": "main", "epoch": epoch, "epochs": spec.epochs, "step": 1, "steps": 1})


def formula(spec: RunSpec, epoch: int) -> EpochEnded:
    """Return the epoch as every attempt must tell it, the moment aside. ``epoch_s`` is what the plan says."""
    epoch_s = float(json.loads(spec.note or "{}").get("epoch_s", 0.02))
    event = epoch_of(spec.method, spec.seed or 0, epoch, spec.epochs)
    return event.model_copy(update={"epoch_s": epoch_s, "elapsed_s": epoch_s * epoch})


def checkpoint(run: RunDir) -> EpochEnded | None:
    """Return the event in the checkpoint; None where there is none.

    Raises:
        RunFailed: it cannot be read.
    """
    try:
        return EpochEnded.model_validate_json(run.last_pt.read_bytes())
    except FileNotFoundError:
        return None
    except ValueError as error:
        raise RunFailed(Problem("checkpoint", "a file that cannot be read", "an intact checkpoint", "retry the run")) from error


def stand_in() -> None:
    """Put the formula in the place of the training, and of the check that would load torch."""
    stand_ins: dict[str, dict[str, Any]] = {
        "train": {"Stopped": Stopped, "Setting": Setting, "train": train},
        "check": {"check": lambda spec, home: []},
    }
    for name, content in stand_ins.items():
        module = types.ModuleType(f"kdengine.{name}")
        module.__dict__.update(content)
        sys.modules[module.__name__] = module
        setattr(kdengine, name, module)


if __name__ == "__main__":
    ledger.witness()
    stand_in()
    sys.exit(worker.main(Path(sys.argv[1])))
