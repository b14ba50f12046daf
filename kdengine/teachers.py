"""The teacher of a run: found, loaded, frozen, folded.

Reads: the run folder of the teacher, or a weight file. Writes: nothing. Never: trains it (that is a run of its own).
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import torch

from kdengine import networks
from kdengine.errors import Problem, RunFailed
from kdengine.home import Home
from kdengine.models.contract import Network
from kdengine.rundir import find_run
from kdengine.spec import RunSpec


@dataclass(slots=True)
class Teacher:
    """A loaded teacher. ``half``: its weights are bf16 and it wants bf16 images."""

    network: Network
    half: bool


def load(home: Home, spec: RunSpec, teacher_run: str | None, classes: int) -> Network:
    """Return the teacher's network with its weights, on the CPU, in fp32.

    A teacher that is a run of ours comes with its best weights.

    Raises:
        RunFailed: no weights to be found, or those of another network.
    """
    if spec.teacher is None:
        raise RunFailed(Problem("teacher", "none", "a network that teaches", "name one with teacher"))
    network = networks.build(spec.teacher, classes, spec.image_size, teacher_options(spec), 0, spec.bn_momentum)
    networks.load_weights(network, _weights(home, spec, teacher_run), "teacher")
    return network


def teacher_options(spec: RunSpec) -> dict[str, bool | int | float | str]:
    """Return the options of the teacher's model; in a chain the teacher is the student's own network."""
    return spec.student_options if spec.generation > 0 else spec.teacher_options


def _weights(home: Home, spec: RunSpec, teacher_run: str | None) -> Path:
    if spec.teacher_weights:
        return Path(spec.teacher_weights).expanduser()
    run = spec.teacher_run or teacher_run
    if run is None:
        raise RunFailed(Problem("teacher", f"{spec.teacher}, without a run or a file that holds its weights",
                                "teacher_run or teacher_weights", "launch it with the runner, which trains it"))  # fmt: skip
    return find_run(home, run).best_weights("student")


def freeze(network: Network, mode: str, precision: str, device: torch.device) -> Teacher:
    """Prepare a loaded teacher for ``mode``: ``frozen`` is folded (and bf16 throughout, if that is the precision),
    ``graph`` keeps its layers and autograd, ``trained`` is left as it is."""
    network.to(device)
    if mode == "trained":
        return Teacher(network, half=False)
    network.eval().requires_grad_(False)
    if mode == "frozen":
        networks.fold(network)
        network.requires_grad_(False)
        if precision == "bf16":
            return Teacher(network.bfloat16(), half=True)
    return Teacher(network, half=False)
