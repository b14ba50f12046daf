"""The stages of a training and the learning rate within them.

Reads / writes: nothing. Never: tensors, a method by name.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

from kdengine.methods.contract import Method, Phase
from kdengine.spec import RunSpec

MAIN = "main"


@dataclass(frozen=True, slots=True)
class Stage:
    """One phase in the order of the whole training. ``owners``: positions of the methods whose loss it uses."""

    phase: Phase
    epochs: int
    owners: tuple[int, ...]

    @property
    def is_main(self) -> bool:
        """Whether this is the phase whose epochs the table ``epochs`` shows."""
        return self.phase.name == MAIN


def plan(spec: RunSpec, methods: Sequence[Method]) -> list[Stage]:
    """Return all stages: every method's own phases first, then one ``main`` for all of them together."""
    early, mains = [], []
    for position, method in enumerate(methods):
        *before, main = method.phases(method.params)
        early += [Stage(p, p.epochs or spec.epochs, (position,)) for p in before]
        mains.append(main)
    together = Phase(MAIN, None, _union([m.trains for m in mains]), _union([m.runs for m in mains]), mains[0].lr_scale)
    return [*early, Stage(together, spec.epochs, tuple(range(len(methods))))]


def learning_rate(spec: RunSpec, stage: Stage, epoch: int, step: int, steps: int) -> float:
    """Return the rate of one step; ``epoch`` and ``step`` count from 0 within the stage.

    Linear rise over ``warmup_frac`` of the stage, then constant, cosine to 0, or drops by ``gamma`` at the milestones; a phase
    with milestones of its own drops there, whatever the recipe does.
    """
    peak, total = spec.lr * stage.phase.lr_scale, stage.epochs * steps
    now, rise = epoch * steps + step, round(spec.warmup_frac * total)
    if now < rise:
        return peak * (now + 1) / (rise + 1)
    milestones = spec.milestones if spec.schedule == "multistep" else None
    if stage.phase.milestones is not None:
        milestones = stage.phase.milestones
    if milestones is not None:
        return peak * spec.gamma ** sum(epoch >= round(m * stage.epochs) for m in milestones)
    if spec.schedule == "cosine":
        return peak * 0.5 * (1 + math.cos(math.pi * (now - rise) / max(1, total - rise)))
    return peak


def _union(groups: Sequence[tuple[str, ...]]) -> tuple[str, ...]:
    return tuple(dict.fromkeys(name for group in groups for name in group))
