r"""Knowledge distillation with soft targets (key kd; called st in other codes).

**Matched**: the class probabilities, softened by a temperature T.

**Formula**: L = lambda_ce * CE(z_s, y) + lambda_kd * T^2 * mean_n KL(softmax(z_t / T) || softmax(z_s / T)).

**Source**: G. Hinton, O. Vinyals, J. Dean, "Distilling the Knowledge in a Neural Network", NIPS 2014 Deep Learning
Workshop, arXiv 1503.02531, section 2 (softened softmax, equation 1; weighted sum with the labels; factor T^2).

**Differs**: the paper writes a cross-entropy with soft targets; the KL used here differs from it by the teacher's entropy, a
constant, so gradients are equal. Weights follow RepDistiller and mdistiller (0.1 and 0.9); Knowledge-Distillation-Zoo has
CE 1 and lambda 0.1 at T 4 (set lambda_ce=1, lambda_kd=0.1), which its tables used. Codes that call KLDivLoss with its
default reduction have a loss K times smaller; their weights do not carry over.
"""

from __future__ import annotations

from typing import Any

from torch import Tensor

from kdengine.methods import contract
from kdengine.methods._math import ce, soft_kl
from kdengine.methods.contract import Batch, Card, Compared, Progress, View, knob

CARD = Card(
    key="kd",
    title="Soft targets (KD)",
    family="response",
    year=2014,
    citation="G. Hinton, O. Vinyals, J. Dean, Distilling the Knowledge in a Neural Network, NIPS 2014 Deep Learning Workshop",
    links=("https://arxiv.org/abs/1503.02531",),
    one_line="The student copies the teacher's whole opinion on an image, softened so that small probabilities count too.",
    story=(
        "The teacher looks at an image and gives every class a probability: mostly a 3, a little like an 8, hardly a 1.",
        "A temperature T above 1 flattens these numbers, so that the small ones, which tell what resembles what, become visible.",
        "The student learns to give the same flattened probabilities, and at the same time the right label.",
    ),
    analogy="A wine taster does not only say 'Riesling' but 'Riesling, though it could pass for a Silvaner, never for a Port': "
    "the doubts teach more than the verdict.",
    formula=r"\mathcal{L} = \lambda_{ce}\,\mathrm{CE}(z_s, y) + \lambda_{kd}\,T^2\,\frac{1}{B}\sum_n "
    r"\mathrm{KL}\!\left(\mathrm{softmax}(z_t/T)\,\|\,\mathrm{softmax}(z_s/T)\right)",
    fidelity="golden",
)


class Params(contract.Params):
    """Temperature and the weights of the two terms."""

    T: float = knob(
        4.0,
        low=0.5,
        high=100,
        help="temperature: higher makes the teacher's small probabilities count more",
        source="RepDistiller and mdistiller: 4",
    )
    lambda_ce: float = knob(
        0.1, low=0, high=1000, help="weight of the label term", source="RepDistiller -r 0.1, mdistiller CE_WEIGHT 0.1"
    )
    lambda_kd: float = knob(
        0.9, low=0, high=1000, help="weight of the teacher's term", source="RepDistiller -a 0.9, mdistiller KD_WEIGHT 0.9"
    )


def kd(logits_s: Tensor, logits_t: Tensor, T: float = 4.0) -> Tensor:
    """Softened divergence of the student from the teacher: ``T^2 / B * sum_n KL(softmax(z_t / T) || softmax(z_s / T))``.

    logits_s, logits_t ``(B, K)``; T > 0. Scalar, nats times ``T^2``.
    """
    return soft_kl(logits_s, logits_t, T)


LOSSES = (kd,)


class Kd(contract.Method):
    """Labels and softened teacher, weighted."""

    def loss(self, student: View, teacher: Any, batch: Batch, progress: Progress) -> dict[str, Tensor]:
        """Return the label term and the teacher's term."""
        p, logits = self.params, student.outputs.logits
        return {
            "ce": p.lambda_ce * ce(logits, batch.y),
            "kd": p.lambda_kd * kd(logits, teacher.outputs.logits, p.T),
        }

    def compared(self, student: View, teacher: Any, batch: Batch, progress: Progress) -> tuple[Compared, ...]:
        """Return the softened probabilities of both networks."""
        return (Compared.answers(student.outputs.logits, teacher.outputs.logits, self.params.T),)
