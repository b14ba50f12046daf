r"""Probabilistic knowledge transfer: for each image, how probable the others are as its neighbours.

**Matched**: for each image of a batch, a distribution over the batch that grows with the cosine of the embeddings.

**Formula**: L = CE(z_s, y) + beta * mean_{i,j} P_t[i,j] * log((P_t[i,j] + eps) / (P_s[i,j] + eps)), P[i,j] = a_ij / sum_k a_ik,
a_ij = (cos(e_i, e_j) + 1) / 2.

**Source**: N. Passalis, A. Tefas, "Learning Deep Representations with Probabilistic Knowledge Transfer", ECCV 2018,
arXiv 1803.10837, section 3 (conditional probabilities, cosine kernel, Kullback-Leibler divergence).

**Differs**: values equal the authors' code: the image itself counts as its neighbour, and the sum is divided by B^2, which makes
it tiny and the weight huge. eps 1e-7 is theirs, RepDistiller's and mdistiller's (beta 30000 in those tables);
Knowledge-Distillation-Zoo's tables have eps 1e-6 and weight 10000. A zero embedding gets no gradient here; there it is NaN.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from kdengine.methods import contract
from kdengine.methods._math import ce, exact
from kdengine.methods.contract import Batch, Card, Compared, Progress, View, knob

CARD = Card(
    key="pkt",
    title="Probabilistic knowledge transfer",
    family="relation",
    year=2018,
    citation="N. Passalis, A. Tefas, Learning Deep Representations with Probabilistic Knowledge Transfer, ECCV 2018",
    links=("https://arxiv.org/abs/1803.10837", "https://github.com/passalis/probabilistic_kt"),
    one_line="For each image the student shall find the others as likely neighbours as the teacher does.",
    story=(
        "Pick one image of the batch and ask a network: which of the others would you call its neighbour?",
        "The closer two embeddings point in one direction, the likelier; all likelihoods of one image add up to one.",
        "The student learns the labels and to give the same likelihoods as the teacher, whatever its own embedding looks like.",
    ),
    analogy="Ask guests of a party whom they would sit next to: the answers say how people belong together, without any map.",
    formula=r"\mathcal{L} = \mathrm{CE}(z_s, y) + \frac{\beta}{B^2}\sum_{i,j} P^t_{j|i}\,\log\frac{P^t_{j|i} + \epsilon}"
    r"{P^s_{j|i} + \epsilon},\quad P_{j|i} \propto \tfrac{1}{2}\left(\cos(e_i, e_j) + 1\right)",
    fidelity="golden",
    needs=frozenset({"logits", "embedding"}),
)


class Params(contract.Params):
    """How much the neighbourhoods count, and the number that keeps the logarithm finite."""

    beta: float = knob(
        30000.0,
        low=0,
        high=1e7,
        help="weight of the neighbourhoods; huge, because the mean runs over B^2 small numbers",
        source="RepDistiller -b 30000, mdistiller FEAT_WEIGHT 30000",
    )
    eps: float = knob(
        1e-7, low=1e-12, high=1e-2, help="added to lengths and probabilities", source="the authors' code, RepDistiller: 1e-7"
    )


@exact
def pkt(emb_s: Tensor, emb_t: Tensor, eps: float = 1e-7) -> Tensor:
    """Divergence of neighbourhoods: mean over all pairs of ``P_t log((P_t + eps) / (P_s + eps))``.

    emb_s ``(B, Ds)``, emb_t ``(B, Dt)``; eps > 0. Each row of P is ``(cos + 1) / 2`` divided by its sum. Scalar: but for
    eps, the mean divergence of a row, divided by B.
    """
    p_s, p_t = _neighbours(emb_s, eps), _neighbours(emb_t, eps)
    # The logarithm is -log(1 + r). The sum of p_t * r over a row is -eps * (the sum of r), because both rows add up to 1; taken
    # out by hand, as here, it leaves fp32 five digits, and summed in fp32 only two. The clamp is where 1 + r has none left.
    r = ((p_s - p_t) / (p_t + eps)).clamp(min=torch.finfo(p_s.dtype).eps - 1)
    return (p_t * (r - r.log1p()) + eps * r).mean()


LOSSES = (pkt,)


class Pkt(contract.Method):
    """Labels and neighbourhoods, weighted."""

    def loss(self, student: View, teacher: Any, batch: Batch, progress: Progress) -> dict[str, Tensor]:
        """Return the label term and the neighbourhood term."""
        p, emb_s = self.params, student.outputs.embedding
        assert emb_s is not None
        return {
            "ce": ce(student.outputs.logits, batch.y),
            "pkt": p.beta * pkt(emb_s, teacher.outputs.embedding, p.eps),
        }

    def compared(self, student: View, teacher: Any, batch: Batch, progress: Progress) -> tuple[Compared, ...]:
        """Return how probable each image is as a neighbour of each other one, and the embeddings that this comes from."""
        emb_s, emb_t, eps = student.outputs.embedding, teacher.outputs.embedding, self.params.eps
        assert emb_s is not None
        near = "In each row: how probable every image is as a neighbour of this one. Rows add up to 1."
        points = "Each point is an image; images of one class should lie together."
        return (
            Compared.seen("Neighbourhoods", "matrix", lambda e: _neighbours(e, eps), emb_s, emb_t, near, axes=("image", "image")),
            Compared("Embeddings", "points", emb_s, emb_t, points),
        )


def _neighbours(emb: Tensor, eps: float) -> Tensor:
    """Return ``(B, B)``: in row i how probable each image is as a neighbour of image i; rows add up to 1."""
    length = torch.linalg.vector_norm(emb, dim=1, keepdim=True)
    direction = emb.masked_fill(length < eps, 0.0) / (length + eps)
    alike = ((direction @ direction.T + 1) / 2).clamp(min=0)  # rounding may put a cosine below -1
    return alike / alike.sum(1, keepdim=True)
