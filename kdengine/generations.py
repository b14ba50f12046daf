"""The ensemble of a chain of generations: the mean of their class probabilities, this run's network among them.

Reads: run folders and best weights of the earlier generations. Writes: nothing. Never: trains, the event log.
"""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AbstractContextManager
from dataclasses import dataclass

import torch
from torch import Tensor

from kdengine import networks, teachers
from kdengine.data.contract import Dataset
from kdengine.evaluate import collect, measures_on_test
from kdengine.events import Measures
from kdengine.home import Home
from kdengine.networks import NetworkView
from kdengine.rundir import find_run
from kdengine.spec import RunSpec

BATCH = 256
NAME = "ensemble"


@dataclass(frozen=True, slots=True)
class Ensemble:
    """The summed probabilities ``(N, K)`` float64 of ``members`` earlier generations on the test images."""

    probabilities: Tensor
    members: int

    def measures(self, logits: Tensor, labels: Tensor, logits_t: Tensor | None) -> Measures:
        """Return what the mean of all generations' probabilities shows, that of ``logits (N, K)`` included."""
        mean = (self.probabilities + logits.double().softmax(dim=1)) / (self.members + 1)
        return measures_on_test(mean.clamp_min(torch.finfo(torch.float64).tiny).log(), labels, logits_t)


def earlier(home: Home, spec: RunSpec, teacher_run: str | None) -> list[str]:
    """Return the run ids of the generations between 0 and this one, the newest first; none outside such a chain.

    Generation 0 learnt from the labels alone and is no member (Furlanello et al. 2018, section 3).

    Raises:
        KdError: the folder of one of them is gone.
    """
    found: list[str] = []
    run_id, generation = spec.teacher_run or teacher_run, spec.generation - 1
    while run_id is not None and generation >= 1:
        found.append(run_id)
        request = find_run(home, run_id).read_request()
        run_id, generation = request.spec.teacher_run or request.teacher_run, generation - 1
    return found


def ensemble(
    home: Home, spec: RunSpec, teacher_run: str | None, data: Dataset, device: torch.device,
    autocast: Callable[[], AbstractContextManager[object]],
) -> Ensemble | None:  # fmt: skip
    """Return the ensemble of the earlier generations, each with its best weights; None where there is none.

    Raises:
        KdError: the folder or the weights of one of them are gone.
    """
    total: Tensor | None = None
    ids = earlier(home, spec, teacher_run)
    for run_id in ids:
        network = networks.build(spec.student, data.classes, spec.image_size, spec.student_options, 0, spec.bn_momentum)
        networks.load_weights(network, find_run(home, run_id).best_weights("student"), f"generation {run_id}")
        frozen = teachers.freeze(network, "frozen", "fp32", device)
        with autocast():
            logits = collect(NetworkView(frozen.network, frozenset(), no_grad=True), data.test, data, BATCH, device)
        probabilities = logits.double().softmax(dim=1)
        total = probabilities if total is None else total + probabilities
    return None if total is None else Ensemble(total, len(ids))
