r"""Training on the labels alone: what every distillation is compared with, and how teachers are made.

**Matched**: nothing; the labels are the only signal.

**Formula**: L = CE(z_s, y).

**Source**: the common baseline; cross-entropy is the label term of every method here.

**Differs**: nothing to differ from. No label smoothing, no mixup.
"""

from __future__ import annotations

from typing import Any

from torch import Tensor

from kdengine.methods import contract
from kdengine.methods._math import ce
from kdengine.methods.contract import Batch, Card, Phase, Progress, View

CARD = Card(
    key="base",
    title="Labels only",
    family="plain",
    year=1986,
    citation="D. E. Rumelhart, G. E. Hinton, R. J. Williams, Learning representations by back-propagating errors, Nature, 1986",
    links=("https://doi.org/10.1038/323533a0",),
    one_line="Learn from the labels alone, without a teacher: the baseline and the way teachers are trained.",
    story=(
        "The network looks at an image and says how likely it finds each class.",
        "The label says which class is right, and nothing about how close the others were.",
        "The loss is small when the right class got nearly all of the probability; every weight moves a little that way.",
    ),
    analogy="Learning from an answer key: for every exercise you see which answer is right, never why, nor how near you were.",
    formula=r"\mathcal{L} = -\frac{1}{B}\sum_{n=1}^{B} \log \mathrm{softmax}(z_n)_{y_n}",
    fidelity="paper",
    teacher_mode="none",
)


class Params(contract.Params):
    """Nothing to set."""


LOSSES = (ce,)


class Base(contract.Method):
    """Cross-entropy with the labels."""

    @classmethod
    def phases(cls, params: Any) -> tuple[Phase, ...]:
        """One phase; no teacher runs."""
        return (Phase(trains=("student",), runs=("student",)),)

    def loss(self, student: View, teacher: Any, batch: Batch, progress: Progress) -> dict[str, Tensor]:
        """Return the label term."""
        return {"ce": ce(student.outputs.logits, batch.y)}
