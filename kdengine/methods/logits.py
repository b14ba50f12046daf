r"""Logit regression: the student learns the teacher's raw class scores, before any softmax.

**Matched**: the logits, class by class.

**Formula**: L = lambda_ce * CE(z_s, y) + lambda_kd * mean_{n,k} (z_s - z_t)^2.

**Source**: L. J. Ba, R. Caruana, "Do Deep Nets Really Need to be Deep?", NIPS 2014, arXiv 1312.6184, the section on
learning by regression on logits with an L2 loss.

**Differs**: the paper sums over the classes, halves, and gives no labels (that is lambda_ce = 0 and lambda_kd = K / 2 for K
classes); labels with weight 1 and the mean over all elements with weight 0.1 are Knowledge-Distillation-Zoo's, whose tables
call this method Logits. A constant added to all of a teacher's logits changes this loss, though no probability.
"""

from __future__ import annotations

from typing import Any

from torch import Tensor

from kdengine.methods import contract
from kdengine.methods._math import ce, mse
from kdengine.methods.contract import Batch, Card, Compared, Progress, View, knob

CARD = Card(
    key="logits",
    title="Logit regression",
    family="response",
    year=2014,
    citation="L. J. Ba, R. Caruana, Do Deep Nets Really Need to be Deep?, NIPS 2014",
    links=("https://arxiv.org/abs/1312.6184",),
    one_line="The student's raw class scores are pulled towards the teacher's, as in fitting a curve through points.",
    story=(
        "Before they become probabilities, a network's answers are plain scores, one per class: the logits.",
        "A softmax hides how low the low scores are; the logits still tell a class that is unlikely from one that is absurd.",
        "The student learns the labels and, by squared differences, to give every class the teacher's score.",
    ),
    analogy="Copying the points that a juror gave to every contestant teaches more than knowing who won.",
    formula=r"\mathcal{L} = \lambda_{ce}\,\mathrm{CE}(z_s, y) + \lambda_{kd}\,\frac{1}{B K}\sum_{n,k}"
    r"\left(z_s^{(n,k)} - z_t^{(n,k)}\right)^2",
    fidelity="golden",
)


class Params(contract.Params):
    """Weights of the two terms."""

    lambda_kd: float = knob(
        0.1, low=0, high=1000, help="weight of the teacher's term", source="Knowledge-Distillation-Zoo's example: 0.1"
    )
    lambda_ce: float = knob(
        1.0,
        low=0,
        high=1000,
        help="weight of the label term; 0: the teacher's scores alone, as in the paper",
        source="Knowledge-Distillation-Zoo: 1",
    )


def logits(logits_s: Tensor, logits_t: Tensor) -> Tensor:
    """Squared difference of scores: mean over all elements of ``(z_s - z_t)^2``.

    logits_s, logits_t ``(B, K)``. Scalar.
    """
    return mse(logits_s, logits_t)


LOSSES = (logits,)


class Logits(contract.Method):
    """Labels and the teacher's scores, weighted."""

    def loss(self, student: View, teacher: Any, batch: Batch, progress: Progress) -> dict[str, Tensor]:
        """Return the label term and the teacher's term."""
        p, logits_s = self.params, student.outputs.logits
        return {
            "ce": p.lambda_ce * ce(logits_s, batch.y),
            "logits": p.lambda_kd * logits(logits_s, teacher.outputs.logits),
        }

    def compared(self, student: View, teacher: Any, batch: Batch, progress: Progress) -> tuple[Compared, ...]:
        """Return the scores of both networks."""
        note = "The loss grows with the square of the gap between two bars of a class; probabilities do not come into it."
        return (Compared("Class scores (logits)", "scores", student.outputs.logits, teacher.outputs.logits, note),)
