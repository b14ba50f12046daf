"""How long a network takes for an image on this machine: one thread of the CPU, one image alone and 128 at once.

Reads: the catalogue of networks, ``latency.json``. Writes: ``latency.json`` in KD_HOME, aside and renamed.
Never: a GPU; torch before something is measured, which ``python -m kdengine networks --measure``, an errand, does beside the app.
"""

from __future__ import annotations

import os
import statistics
import time
from collections.abc import Callable, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING

import psutil
from pydantic import BaseModel, ConfigDict, ValidationError

from kdengine.errands import Errand
from kdengine.home import Home

if TYPE_CHECKING:
    import torch

ERRAND = Errand("latency", ("networks", "--measure"))
BATCHES = (1, 128)
IMAGE_SIZE, CLASSES = 32, 10
REPEATS = 9  # at most, in ENOUGH_S; never fewer than three
LEAST, ENOUGH_S = 3, 1.0
ABOUT_S = 100.0  # what all of it takes on two old cores
BUSY_FRAC = 0.15  # from here on other work on the machine has disturbed the numbers


class Timing(BaseModel):
    """Median, least and greatest milliseconds of ``n`` passes."""

    model_config = ConfigDict(frozen=True)
    ms: float
    low_ms: float
    high_ms: float
    n: int


class Measured(BaseModel):
    """One measurement: network -> images at once -> timing; where, with what, when (UTC), and beside how much other work.

    ``foreign_frac``: share of all cores that other processes used meanwhile, 0 to 1.
    """

    model_config = ConfigDict(frozen=True)
    at: datetime
    machine: str
    cores: int
    torch: str
    threads: int
    image_size: int
    foreign_frac: float
    took_s: float
    networks: dict[str, dict[int, Timing]]

    def summary(self) -> str:
        """Say on what, when and how it was measured, in one line."""
        disturbed = f"; other work took {100 * self.foreign_frac:.0f} % of the machine" if self.foreign_frac >= BUSY_FRAC else ""
        return (
            f"{self.machine}, {self.threads} thread, torch {self.torch}, {self.image_size} x {self.image_size} pixels, "
            f"median of {self.passes()} passes, {self.at:%Y-%m-%d %H:%M} UTC{disturbed}"
        )

    def passes(self) -> str:
        """Return how many passes a number rests on: ``3 to 9``."""
        counts = [timing.n for found in self.networks.values() for timing in found.values()]
        return f"{min(counts)} to {max(counts)}" if counts else "0"


def read(home: Home) -> Measured | None:
    """Return the last measurement; None where there is none that can be read."""
    try:
        return Measured.model_validate_json(path_of(home).read_bytes())
    except (OSError, ValidationError):
        return None


def path_of(home: Home) -> Path:
    """Return where the measurement is kept."""
    return home.root / "latency.json"


def measure(home: Home, report: Callable[[str, int, int], None] | None = None, keys: Sequence[str] | None = None) -> Measured:
    """Measure the networks ``keys`` (default: all of our own) and keep the result; ``report(key, done, total)`` before each.

    Weights are random: time does not depend on them. Evaluation mode, fp32, no folding.
    """
    import torch

    from kdengine import devices, models

    wanted = list(keys or models.keys())
    threads, began, load = torch.get_num_threads(), time.monotonic(), _Load()
    torch.set_num_threads(1)
    try:
        found: dict[str, dict[int, Timing]] = {}
        for place, key in enumerate(wanted):
            if report is not None:
                report(key, place, len(wanted))
            found[key] = _network(key)
    finally:
        torch.set_num_threads(threads)
    machine = devices.device_name(torch.device("cpu"))
    measured = Measured(
        at=datetime.now(UTC), machine=machine, cores=os.cpu_count() or 1, torch=torch.__version__, threads=1,
        image_size=IMAGE_SIZE, foreign_frac=load.foreign_frac(), took_s=time.monotonic() - began, networks=found,
    )  # fmt: skip
    aside = home.root / f".latency-{os.getpid()}.json"
    aside.write_text(measured.model_dump_json(indent=1) + "\n", encoding="utf-8")
    aside.replace(path_of(home))
    return measured


def _network(key: str) -> dict[int, Timing]:
    import torch

    from kdengine import models

    with torch.random.fork_rng(devices=[]), torch.no_grad():
        network = models.build(key, CLASSES, IMAGE_SIZE).eval()
        return {batch: _time(network, torch.randn(batch, 3, IMAGE_SIZE, IMAGE_SIZE)) for batch in BATCHES}


def _time(network: torch.nn.Module, x: torch.Tensor) -> Timing:
    network(x)  # warm-up: the first pass chooses algorithms and fills caches
    spent: list[float] = []
    while len(spent) < LEAST or (len(spent) < REPEATS and sum(spent) < ENOUGH_S):
        start = time.perf_counter()
        network(x)
        spent.append(time.perf_counter() - start)
    return Timing(ms=1e3 * statistics.median(spent), low_ms=1e3 * min(spent), high_ms=1e3 * max(spent), n=len(spent))


class _Load:
    """What other processes take from the machine, from now on."""

    def __init__(self) -> None:
        self._all, self._own, self._at = self._busy_s(), time.process_time(), time.monotonic()

    def foreign_frac(self) -> float:
        cores = (time.monotonic() - self._at) * (os.cpu_count() or 1)
        foreign = (self._busy_s() - self._all) - (time.process_time() - self._own)
        return min(1.0, max(0.0, foreign / cores)) if cores > 0 else 0.0

    @staticmethod
    def _busy_s() -> float:
        times = psutil.cpu_times()
        return float(sum(times) - times.idle - getattr(times, "iowait", 0.0) - getattr(times, "guest", 0.0))
