"""Places to train: how many workers run at once, and on which device each.

Reads: ``settings.json``, the environment, the list of GPUs. Writes: nothing. Never: torch, and with it CUDA in this process.
"""

from __future__ import annotations

import functools
import json
import os
from collections.abc import Iterable
from dataclasses import dataclass

import psutil
from pydantic import BaseModel, ConfigDict, Field, ValidationError

from kdengine.errors import HomeError
from kdengine.home import Home
from kdengine.spec import RunSpec, problems_of

SMALL_STEP_PIXELS = 32_768  # 32 images of 32 x 32
WORKER_BYTES = 2 << 30  # what a worker of small steps may need
CPU, CORE = "cpu", "core"  # places: a share of all cores; a single core
ALL_GPUS = "KD_GPUS"  # for workers: the GPUs of the whole installation, since CUDA_VISIBLE_DEVICES names only their own


class Settings(BaseModel):
    """The content of ``settings.json``; what is left out has its default."""

    model_config = ConfigDict(frozen=True, extra="forbid")
    slots_per_gpu: int = Field(1, ge=1, le=16, description="workers that share one GPU")
    cpu_slots: int | None = Field(
        None,
        ge=0,
        le=64,
        description="workers that train on the CPU at once; none = one, or one per core for runs of small steps",
    )
    exports_mib: int = Field(1024, ge=16, le=1 << 20, description="race charts that are kept, MiB; the least used make room")
    backups: bool = Field(True, description="the app makes a backup every night")
    backup_keep_days: int = Field(7, ge=1, le=3650, description="the newest backup of each of so many days is kept")
    backup_keep_weeks: int = Field(4, ge=0, le=520, description="and that of each of so many weeks")


def is_small(spec: RunSpec) -> bool:
    """Say whether a step has so few pixels that a second thread, or bf16, costs more than it brings.

    Measured (resnet8, batch 16, 32 x 32, two cores): 18 ms with one thread, 14 to 18 with two while nothing else runs, and
    370 with two beside other work, since each of hundreds of small parallel loops waits for the slower thread. The answer
    depends on the spec alone, so a seed gives the same numbers whatever else is queued.
    """
    return spec.batch_size * spec.image_size**2 <= SMALL_STEP_PIXELS


@dataclass(frozen=True, slots=True)
class Slots:
    """``gpus``: what CUDA_VISIBLE_DEVICES calls each; ``per_gpu`` and ``cpu``: workers at once.

    The CPU's ``cores`` are shared out among ``cpu`` workers. A run of small steps takes a single core, so that ``small`` of
    them train at once where larger ones train one after the other.
    """

    gpus: tuple[str, ...]
    per_gpu: int
    cpu: int
    cores: int = 1
    small: int = 1

    @property
    def names(self) -> list[str]:
        """All places, GPUs first: ``cuda:0``, ..., ``cpu``; one entry per worker of full size that fits."""
        return [f"cuda:{i}" for i in range(len(self.gpus)) for _ in range(self.per_gpu)] + [CPU] * self.cpu

    @property
    def share(self) -> int:
        """Threads of a worker that takes a whole place on the CPU."""
        return max(1, self.cores // max(1, self.cpu))

    def pick(self, spec: RunSpec, taken: Iterable[str]) -> str | None:
        """Return a free place for a run, None while all that fit are taken.

        ``auto`` is a GPU where there is one. A device that does not exist gets a place on the CPU, where the worker's
        own check says what is missing: better than waiting for ever.
        """
        taken = list(taken)
        if self.wants_cpu(spec):
            return (
                self._core(taken)
                if is_small(spec)
                else self._free(taken, {CPU})
                if self._cores_left(taken) >= self.share
                else None
            )
        gpus = {f"cuda:{i}" for i in range(len(self.gpus))}
        return self._free(taken, {spec.device} if spec.device in gpus else gpus)

    def wants_cpu(self, spec: RunSpec) -> bool:
        """Say whether the run will train on the CPU."""
        gpus = {f"cuda:{i}" for i in range(len(self.gpus))}
        return not (spec.device in gpus or (gpus and spec.device in ("auto", "cuda")))

    def _free(self, taken: list[str], fitting: set[str]) -> str | None:
        free = self.names
        for name in taken:
            if name in free:
                free.remove(name)
        return next((name for name in free if name in fitting), None)

    def _core(self, taken: list[str]) -> str | None:
        running = sum(name in (CPU, CORE) for name in taken)
        return CORE if running < self.small and self._cores_left(taken) >= 1 else None

    def _cores_left(self, taken: list[str]) -> int:
        return max(self.cores, self.cpu) - sum(self.share if name == CPU else name == CORE for name in taken)

    def environment(self, name: str) -> dict[str, str]:
        """Return what a worker at this place is told: its share of the cores as threads and, with GPUs, its own alone."""
        threads = 1 if name == CORE else self.share if name == CPU else max(1, self.cores // max(1, len(self.names)))
        told = {"OMP_NUM_THREADS": str(threads)}
        if not self.gpus:
            return told
        visible = self.gpus[int(name.removeprefix("cuda:"))] if name.startswith("cuda:") else ""
        return told | {ALL_GPUS: ",".join(self.gpus), "CUDA_VISIBLE_DEVICES": visible}


def slots(home: Home) -> Slots:
    """Return the places of this machine.

    Raises:
        HomeError: ``settings.json`` is wrong; one problem per field.
    """
    settings = read_settings(home)
    gpus = _visible_gpus(os.environ.get(ALL_GPUS, os.environ.get("CUDA_VISIBLE_DEVICES")))
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    wish = settings.cpu_slots
    small = max(1, min(cores, psutil.virtual_memory().total // WORKER_BYTES)) if wish is None else wish
    return Slots(
        gpus, settings.slots_per_gpu, max(1 if wish is None else wish, 0 if gpus else 1), cores, max(small, 0 if gpus else 1)
    )


def read_settings(home: Home) -> Settings:
    """Return the settings of this home; the defaults where there is no file.

    Raises:
        HomeError: the file is not what it should be.
    """
    try:
        return Settings.model_validate(json.loads(home.settings.read_bytes()))
    except FileNotFoundError:
        return Settings()
    except ValidationError as error:
        raise HomeError(*problems_of(error, Settings, "settings.json: ")) from error
    except ValueError as error:
        raise HomeError.of(
            f"{home.settings}: {error}", 'JSON such as {"slots_per_gpu": 1, "cpu_slots": 1}', "correct or remove it", "settings"
        ) from error


@functools.cache
def _visible_gpus(wanted: str | None) -> tuple[str, ...]:
    count = _gpu_count()
    if wanted is None:
        return tuple(str(i) for i in range(count))
    named = [name.strip() for name in wanted.split(",")] if count else []
    # CUDA ignores everything from the first entry on that names no device
    stop = next((i for i, name in enumerate(named) if not name or name.startswith("-")), len(named))
    return tuple(named[:stop])


def _gpu_count() -> int:
    try:
        import pynvml
    except ImportError:
        return 0
    try:
        pynvml.nvmlInit()
    except pynvml.NVMLError:
        return 0
    try:
        return int(pynvml.nvmlDeviceGetCount())
    finally:
        pynvml.nvmlShutdown()
