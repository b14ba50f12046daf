"""Places to train: how many workers run at once, and on which device each.

Reads: ``settings.json``, the environment, the list of GPUs. Writes: nothing. Never: torch, and with it CUDA in this process.
"""

from __future__ import annotations

import functools
import json
import os
from collections.abc import Iterable
from dataclasses import dataclass

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from kdengine.errors import HomeError
from kdengine.home import Home
from kdengine.spec import problems_of

ALL_GPUS = "KD_GPUS"  # for workers: the GPUs of the whole installation, since CUDA_VISIBLE_DEVICES names only their own


class Settings(BaseModel):
    """The content of ``settings.json``; what is left out has its default."""

    model_config = ConfigDict(frozen=True, extra="forbid")
    slots_per_gpu: int = Field(1, ge=1, le=16, description="workers that share one GPU")
    cpu_slots: int = Field(1, ge=0, le=64, description="workers that train on the CPU at once")


@dataclass(frozen=True, slots=True)
class Slots:
    """``gpus``: what CUDA_VISIBLE_DEVICES calls each; ``per_gpu`` and ``cpu``: workers at once."""

    gpus: tuple[str, ...]
    per_gpu: int
    cpu: int

    @property
    def names(self) -> list[str]:
        """All places, GPUs first: ``cuda:0``, ..., ``cpu``; one entry per worker that fits."""
        return [f"cuda:{i}" for i in range(len(self.gpus)) for _ in range(self.per_gpu)] + ["cpu"] * self.cpu

    def pick(self, device: str, taken: Iterable[str]) -> str | None:
        """Return a free place for a run that asks for ``device``, None while all that fit are taken.

        ``auto`` is a GPU where there is one. A device that does not exist gets a place on the CPU, where the worker's
        own check says what is missing: better than waiting for ever.
        """
        free = self.names
        for name in taken:
            if name in free:
                free.remove(name)
        return next((name for name in free if name in self._fitting(device)), None)

    def _fitting(self, device: str) -> set[str]:
        gpus = {f"cuda:{i}" for i in range(len(self.gpus))}
        if device in gpus:
            return {device}
        return gpus if gpus and device in ("auto", "cuda") else {"cpu"}

    def environment(self, name: str) -> dict[str, str]:
        """Return what a worker at this place is told: its share of the cores as threads and, with GPUs, its own alone."""
        cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
        told = {"OMP_NUM_THREADS": str(max(1, cores // max(1, len(self.names))))}
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
    return Slots(gpus, settings.slots_per_gpu, max(settings.cpu_slots, 0 if gpus else 1))


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
