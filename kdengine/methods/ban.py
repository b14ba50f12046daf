r"""Born-again networks: a network teaches a fresh copy of itself, again and again.

**Matched**: the class probabilities of the generation before, at temperature 1 unless set otherwise.

**Formula**: generation 0: CE(z, y). Generation g >= 1: L = lambda_ce * CE(z_g, y) + lambda_kd * T^2 * mean_n
KL(softmax(z_{g-1} / T) || softmax(z_g / T)).

From generation 2 on the run also measures the ensemble: the mean of the class probabilities of generations 1 to g.

**Source**: T. Furlanello, Z. C. Lipton, M. Tschannen, L. Itti, A. Anandkumar, "Born-Again Neural Networks", ICML 2018,
arXiv 1805.04770, section 3 (sequence of teaching selves, born-again networks ensemble), with the
labels (their BAN+L).

**Differs**: the paper's soft term is a cross-entropy, ours a KL: equal gradients. Both terms have weight 1 there; 0.5 and
0.5 keep that ratio and the size of base's gradient, so that a learning rate fits both. lambda_ce=0 is the paper's form
without labels. A temperature is ours; 1 is the paper's. Permuted or confidence-weighted teachers (DKPP, CWTM), the
paper's diagnostics, are not here. The popular unofficial code (nocotan: T 20, no T^2, KL averaged over classes too)
optimises something else.
"""

from __future__ import annotations

from typing import Any

from torch import Tensor

from kdengine.methods import contract
from kdengine.methods._math import ce, soft_kl
from kdengine.methods.contract import Batch, Card, Compared, Progress, View, knob

CARD = Card(
    key="ban",
    title="Born-again networks",
    family="self",
    year=2018,
    citation="T. Furlanello, Z. C. Lipton, M. Tschannen, L. Itti, A. Anandkumar, Born-Again Neural Networks, ICML 2018",
    links=("https://arxiv.org/abs/1805.04770",),
    one_line="Train a network, then a fresh one of the same kind with the first as its teacher; repeat.",
    story=(
        "Generation 0 learns from the labels alone.",
        "A new network of the same shape starts from new random weights and learns the labels and generation 0's opinions.",
        "It then teaches the next one. Nothing gets smaller, but a copy often ends a little better, and all together more so.",
    ),
    analogy="Writing an essay a second time from a blank page with the first version on the desk: same author, better essay.",
    formula=r"\mathcal{L}_g = \lambda_{ce}\,\mathrm{CE}(z_g, y) + \lambda_{kd}\,T^2\,\frac{1}{B}\sum_n "
    r"\mathrm{KL}\!\left(\mathrm{softmax}(z_{g-1}/T)\,\|\,\mathrm{softmax}(z_g/T)\right)",
    fidelity="paper",
    chain=True,
)


class Params(contract.Params):
    """Temperature and the weights of the two terms."""

    T: float = knob(
        1.0, low=0.5, high=100, help="temperature of both networks' probabilities", source="the paper has none, that is 1"
    )
    lambda_ce: float = knob(
        0.5,
        low=0,
        high=1000,
        help="weight of the label term; 0 = the previous generation is the only teacher",
        source="the paper's equal weights, halved so that their sum is 1",
    )
    lambda_kd: float = knob(
        0.5,
        low=0,
        high=1000,
        help="weight of the previous generation's term",
        source="the paper's equal weights, halved so that their sum is 1",
    )


def ban(logits_s: Tensor, logits_t: Tensor, T: float = 1.0) -> Tensor:
    """Divergence of a generation from the one before: ``T^2 / B * sum_n KL(softmax(z_t / T) || softmax(z_s / T))``.

    logits_s, logits_t ``(B, K)``; T > 0. Scalar, nats times ``T^2``.
    """
    return soft_kl(logits_s, logits_t, T)


LOSSES = (ban,)


class Ban(contract.Method):
    """Labels and the generation before, weighted."""

    def loss(self, student: View, teacher: Any, batch: Batch, progress: Progress) -> dict[str, Tensor]:
        """Return the label term and the term of the generation before."""
        p, logits = self.params, student.outputs.logits
        return {
            "ce": p.lambda_ce * ce(logits, batch.y),
            "kd": p.lambda_kd * ban(logits, teacher.outputs.logits, p.T),
        }

    def compared(self, student: View, teacher: Any, batch: Batch, progress: Progress) -> tuple[Compared, ...]:
        """Return the probabilities of this generation and of the one before."""
        sides = ("this generation", "the one before")
        return (Compared.answers(student.outputs.logits, teacher.outputs.logits, self.params.T, sides=sides),)
