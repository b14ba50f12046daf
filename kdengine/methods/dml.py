r"""Deep mutual learning: networks that learn together and from one another, without a trained teacher.

**Matched**: the class probabilities of the peers, at temperature 1, as they are at this step.

**Formula**: for network i of n: L_i = CE(z_i, y) + lambda_kd / (n - 1) * sum_{j != i} mean_n KL(p_j || p_i), p = softmax(z).

**Source**: Y. Zhang, T. Xiang, T. M. Hospedales, H. Lu, "Deep Mutual Learning", CVPR 2018, arXiv 1706.00384, section 3
(KL of two networks; mean over the peers in a cohort).

**Differs**: the paper updates the networks in turn and predicts anew after each update; here, as in Knowledge-Distillation-Zoo
and chxy95's code, all predict once and are then updated together, which saves forward passes. One optimiser over all
networks equals one for each, because no term's gradient reaches a peer. The paper has no weight; lambda_kd = 1 is its form.
Networks of one kind may be peers: they differ by their initial weights.
"""

from __future__ import annotations

from typing import Any

from torch import Tensor

from kdengine.methods import contract
from kdengine.methods._math import ce, soft_kl
from kdengine.methods.contract import Batch, Card, Compared, Phase, Progress, View, knob

CARD = Card(
    key="dml",
    title="Deep mutual learning",
    family="online",
    year=2018,
    citation="Y. Zhang, T. Xiang, T. M. Hospedales, H. Lu, Deep Mutual Learning, CVPR 2018",
    links=("https://arxiv.org/abs/1706.00384",),
    one_line="Untrained networks learn side by side, each also from what the others currently believe.",
    story=(
        "Two or more networks start from different random weights and see the same images.",
        "Each learns the labels; their mistakes differ, because their starts differ.",
        "Each is also pulled towards the others' current probabilities, so a hint that one has found spreads to all.",
    ),
    analogy="A study group without a tutor: all solve the sheet alone, then compare how sure they were of each answer.",
    formula=r"\mathcal{L}_i = \mathrm{CE}(z_i, y) + \frac{\lambda_{kd}}{n-1}\sum_{j\neq i}\frac{1}{B}\sum_b "
    r"\mathrm{KL}\!\left(p_j\,\|\,p_i\right)",
    fidelity="golden",
    teacher_mode="none",
    peers=True,
)


class Params(contract.Params):
    """How much the peers count."""

    lambda_kd: float = knob(
        1.0,
        low=0,
        high=1000,
        help="weight of the peers' opinions against the labels",
        source="the paper has no weight, that is 1",
    )


def dml(logits_own: Tensor, logits_peer: Tensor) -> Tensor:
    """Divergence of one's own probabilities from a peer's: ``1 / B * sum_n KL(softmax(z_peer) || softmax(z_own))``.

    logits_own, logits_peer ``(B, K)``. Scalar, nats. No gradient reaches the peer.
    """
    return soft_kl(logits_own, logits_peer.detach(), 1.0)


LOSSES = (dml,)


class Dml(contract.Method):
    """Labels and the mean divergence from the other networks, for each network."""

    @classmethod
    def phases(cls, params: Any) -> tuple[Phase, ...]:
        """One phase; student and peers run and learn."""
        return (Phase(trains=("student", "peers"), runs=("student", "peers")),)

    def loss(self, student: View, teacher: Any, batch: Batch, progress: Progress) -> dict[str, Tensor]:
        """Return ``ce`` and ``kl`` of the student and, with its name in front, of every peer."""
        logits = {"": student.outputs.logits} | {f"{name}/": peer.outputs.logits for name, peer in student.peers.items()}
        terms = {}
        for own, z in logits.items():
            others = [dml(z, z_other) for other, z_other in logits.items() if other != own]
            terms[f"{own}ce"] = ce(z, batch.y)
            terms[f"{own}kl"] = self.params.lambda_kd * sum(others[1:], others[0]) / len(others)
        return terms

    def compared(self, student: View, teacher: Any, batch: Batch, progress: Progress) -> tuple[Compared, ...]:
        """Return the student's probabilities beside those of every peer."""
        own = student.outputs.logits
        return tuple(Compared.answers(own, p.outputs.logits, sides=("student", name)) for name, p in student.peers.items())
