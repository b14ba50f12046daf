"""What a launch will cost, guessed before it starts: time, memory, disk.

Reads: what it is given: specs, sizes of networks, speeds of earlier runs. Writes: nothing. Never: Streamlit, torch, the store.

Time comes from the measured speed of similar runs; where there are none, from multiply-adds and the speed at which this machine
got through multiply-adds before; where it never trained, from a cautious constant.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import Any

import pandas as pd

from kdengine.spec import RunSpec
from pages.parts import words

START_S = 4.0  # a worker's start: loading torch, the data, building networks
EVALUATION = 1 / 3  # a test image costs the forward third of a training image
MACS_PER_S = {"cpu": 4e10, "cuda": 2e12, "mps": 2e11}  # where nothing was measured yet
WEIGHT_BYTES = 4
PROCESS_MIB = 450.0  # a worker with torch loaded, before any image
RUN_KIB = 60.0  # request, log, events of a short run


@dataclass(frozen=True, slots=True)
class Cost:
    """One training in numbers: ``macs`` of multiply-adds per training image (all networks, forward and backward), ``params``,
    the bytes that the method keeps beside the networks, and the epochs of its phases before the main one."""

    macs: float
    params: float
    kept_bytes: float = 0.0
    early_epochs: int = 0


@dataclass(frozen=True, slots=True)
class Plan:
    """What a launch will do. ``seconds`` on ``slots`` slots; ``basis`` says where the guess comes from; ``kept_mib`` of a run's
    memory is what its method keeps beside the networks."""

    runs: int
    teachers: int
    seconds: float
    basis: str
    memory_mib: float
    disk_mib: float
    kept_mib: float = 0.0


def plan(
    specs: Iterable[RunSpec],
    teachers: Iterable[RunSpec],
    *,
    cost: Callable[[RunSpec], Cost],
    images: Mapping[str, tuple[int, int]],
    measured: pd.DataFrame,
    slots: int = 1,
    device: str = "cpu",
) -> Plan:
    """Return what training ``specs``, and first the missing ``teachers``, will take.

    ``cost`` returns a spec's cost; ``images``: dataset -> (training, test) images; ``measured``: earlier runs with method,
    student, teacher, dataset, batch_size, images_per_s, and macs (per training image; NaN = unknown).
    """
    wanted, first = list(specs), list(teachers)
    rate = macs_rate(measured) or MACS_PER_S.get(device.split(":")[0], MACS_PER_S["cpu"])
    costs = [cost(spec) for spec in [*wanted, *first]]
    seconds, known = 0.0, 0
    for spec, its in zip([*wanted, *first], costs, strict=True):
        took = speed_of(spec, measured)
        known += took is not None
        seconds += START_S + images_of(spec, images, its.early_epochs) / (took or rate / max(1.0, its.macs))
    weights = max((its.params for its in costs), default=0.0) * WEIGHT_BYTES / 2**20
    basis = "measured on similar runs here" if known == len(costs) else _basis(known, measured)
    kept = max((its.kept_bytes / 2**20 for its in costs), default=0.0)
    memory = PROCESS_MIB + kept + max((_images_mib(s, images) + 4 * weights for s in wanted), default=0.0)
    stored = [its.params * WEIGHT_BYTES * 3 + its.kept_bytes for its in costs]  # weights and a checkpoint
    disk = sum(stored) / 2**20 + len(stored) * RUN_KIB / 1024
    return Plan(len(wanted), len(first), seconds / max(1, min(slots, len(costs))), basis, memory, disk, kept)


def images_of(spec: RunSpec, images: Mapping[str, tuple[int, int]], early_epochs: int = 0) -> float:
    """Return how many training images the run's cost equals, its tests included; nothing is tested in the early epochs."""
    train, test = images.get(spec.dataset, (0, 0))
    shown = min(spec.train_images or train, train or spec.train_images or 0)
    trained = shown * (1 - spec.val_frac)
    return early_epochs * trained + spec.epochs * (trained + test * EVALUATION)


def speed_of(spec: RunSpec, measured: pd.DataFrame) -> float | None:
    """Return the median images per second of earlier runs with the same method, networks, data and batch; None without any."""
    if not len(measured):
        return None
    same = measured[(measured["method"] == spec.method) & (measured["student"] == spec.student)]
    same = same[(same["dataset"] == spec.dataset) & (same["batch_size"] == spec.batch_size)]
    same = same[same["teacher"].isna() if spec.teacher is None else same["teacher"] == spec.teacher]
    value = same["images_per_s"].median() if len(same) else None
    return None if words.missing(value) or not value else float(value)


def macs_rate(measured: pd.DataFrame) -> float | None:
    """Return the median multiply-adds per second of earlier runs; None without any."""
    if not len(measured) or "macs" not in measured:
        return None
    value = (measured["images_per_s"] * measured["macs"]).median()
    return None if words.missing(value) or not value else float(value)


def training_macs(student: float, teacher: float = 0.0, peers: float = 0.0) -> float:
    """Return multiply-adds per training image: three forward passes' worth per trained network, one for the teacher."""
    return 3.0 * (student + peers) + teacher


def left_s(
    active: list[dict[str, Any]], eta_of: Callable[[dict[str, Any]], float | None], typical_s: float | None
) -> float | None:
    """Return the seconds until nothing is left: the running runs' own guess, and a typical run for each that waits.

    None when a running run has no guess yet and there is no typical one.
    """
    running = [eta_of(row) for row in active if row["status"] == "running"]
    waiting = sum(row["status"] in ("queued", "waiting") for row in active)
    if not active or (any(v is None for v in running) or waiting) and typical_s is None:
        return None
    typical = typical_s or 0.0
    ahead = max((typical if v is None else v for v in running), default=0.0)
    return ahead + waiting * typical / max(1, len(running))


def _basis(known: int, measured: pd.DataFrame) -> str:
    if known:
        return "partly measured here, partly guessed from the size of the networks"
    if macs_rate(measured):
        return "guessed from the size of the networks and this machine's speed"
    return "a rough guess: nothing was trained here yet"


def _images_mib(spec: RunSpec, images: Mapping[str, tuple[int, int]]) -> float:
    return sum(images.get(spec.dataset, (0, 0))) * 3 * spec.image_size**2 / 2**20


def demo_s(finished: pd.DataFrame) -> float:
    """Return how long the demo will take: as long as it took here before, else two minutes (two CPU cores)."""
    newest = finished.head(13)  # twelve students and their teacher
    if len(newest) < 13 or newest["elapsed_s"].isna().any():
        return 120.0
    return float(newest["elapsed_s"].sum()) + START_S * len(newest)
