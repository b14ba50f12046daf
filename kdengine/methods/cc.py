r"""Correlation congruence: how the images of a batch correlate shall be the same for student and teacher.

**Matched**: the B x B matrix of a Gaussian kernel between embeddings of length one, as a Taylor series of order P_order.

**Formula**: L = CE(z_s, y) + beta / B^2 * ||K_s - K_t||_F^2, K_ij = exp(-2 gamma) * sum_{p=0..P} (2 gamma)^p / p! <e_i, e_j>^p.
form="adjacent": L = CE(z_s, y) + beta * mean_i <delta_i, delta_{i+1}>, delta = |W_s e_s - W_t e_t|.

**Source**: B. Peng, X. Jin, J. Liu, S. Zhou, Y. Wu, Y. Liu, D. Li, Z. Zhang, "Correlation Congruence for Knowledge
Distillation", ICCV 2019, arXiv 1904.01802, section 3.

**Differs**: the paper adds soft targets and draws batches of a few classes each; here labels and the correlation term stand
alone and batches are random, as in Knowledge-Distillation-Zoo, whose tables used form="kernel" with weight 100 and whose
values these are. form="adjacent" is another loss under the same name, in RepDistiller (received from an author) and its
tables, with beta 0.02: both embeddings go through learnt linear layers to 128 numbers, and neighbours in the batch are
multiplied. It depends on the order within the batch. Both layers learn, as there, so mapping everything to 0 would minimise it.
"""

from __future__ import annotations

import math
from typing import Any, Literal

import torch
from torch import Tensor, nn

from kdengine.methods import contract
from kdengine.methods._math import ce, exact, mse, unit
from kdengine.methods.contract import Batch, Card, Compared, DataInfo, Progress, View, knob
from kdengine.models.contract import NetInfo

CARD = Card(
    key="cc",
    title="Correlation congruence",
    family="relation",
    year=2019,
    citation="B. Peng, X. Jin, J. Liu, S. Zhou, Y. Wu, Y. Liu, D. Li, Z. Zhang, Correlation Congruence for Knowledge "
    "Distillation, ICCV 2019",
    links=("https://arxiv.org/abs/1904.01802",),
    one_line="A table of how strongly each two images of a batch belong together is copied from teacher to student.",
    story=(
        "Each image becomes an embedding, scaled to length one, so that only its direction counts.",
        "A kernel turns the angle between two embeddings into a number: near 1 for alike, small for unlike. It bends, so that "
        "close pairs count more than a plain scalar product would let them.",
        "The student learns the labels and to have the teacher's numbers for all pairs of images in the batch.",
    ),
    analogy="Two critics write about wine in different words, yet agree on which bottles go together: that agreement is copied.",
    formula=r"\mathcal{L} = \mathrm{CE}(z_s, y) + \frac{\beta}{B^2}\left\| K_s - K_t \right\|_F^2,\quad "
    r"K_{ij} = e^{-2\gamma}\sum_{p=0}^{P}\frac{(2\gamma)^p}{p!}\,\langle e_i, e_j\rangle^p",
    fidelity="golden",
    needs=frozenset({"logits", "embedding"}),
    batch_order_matters="form=adjacent",
)
WIDTH = 128  # numbers per image in the adjacent form; RepDistiller's feat_dim


class Params(contract.Params):
    """Which of the two losses, its weight, and the kernel."""

    form: Literal["kernel", "adjacent"] = knob(
        "kernel",
        help="kernel: all pairs, by a Gaussian kernel; adjacent: RepDistiller's loss of neighbours in the batch",
        source="the paper",
    )
    beta: float = knob(
        100.0,
        low=0,
        high=1e6,
        per={"form=adjacent": 0.02},
        help="weight of the correlations",
        source="Knowledge-Distillation-Zoo's example: 100; RepDistiller -b 0.02 for its form",
    )
    gamma: float = knob(
        0.4, low=0.01, high=10, help="kernel: how fast it falls with distance", source="Knowledge-Distillation-Zoo: 0.4"
    )
    P_order: int = knob(
        2, low=1, high=10, help="kernel: order of its Taylor series", source="the paper, Knowledge-Distillation-Zoo: 2"
    )


@exact
def cc(emb_s: Tensor, emb_t: Tensor, gamma: float = 0.4, P_order: int = 2) -> Tensor:
    """Correlation loss: mean over all pairs of ``(K_s - K_t)^2``; K = Taylor series of ``exp(-gamma ||e_i - e_j||^2)``.

    emb_s ``(B, Ds)``, emb_t ``(B, Dt)``, scaled to length one here; gamma > 0; P_order >= 1. Scalar.
    """
    return mse(_kernel(emb_s, gamma, P_order), _kernel(emb_t, gamma, P_order))


@exact
def cc_adjacent(emb_s: Tensor, emb_t: Tensor) -> Tensor:
    """RepDistiller's correlation loss: mean over i < B of ``<delta_i, delta_{i+1}>``, delta = ``|e_s - e_t|`` element by element.

    emb_s, emb_t: both ``(B, D)``, in the batch's order. Scalar; 0 for a single image.
    """
    delta = (emb_s - emb_t).abs()
    return (delta[:-1] * delta[1:]).sum() / max(1, len(delta) - 1)


LOSSES = (cc, cc_adjacent)


class CorrelationCongruence(contract.Method):
    """Labels and correlations; in the adjacent form with a learnt linear layer behind each network."""

    def __init__(self, params: Any, student: NetInfo, teacher: NetInfo | None, peers: dict[str, NetInfo], data: DataInfo) -> None:
        super().__init__(params, student, teacher, peers, data)
        assert teacher is not None
        if params.form == "adjacent":
            self.embed_s = nn.Linear(student.embedding, WIDTH)
            self.embed_t = nn.Linear(teacher.embedding, WIDTH)

    def loss(self, student: View, teacher: Any, batch: Batch, progress: Progress) -> dict[str, Tensor]:
        """Return the label term and the correlation term."""
        p, emb_s, emb_t = self.params, student.outputs.embedding, teacher.outputs.embedding
        assert emb_s is not None
        if p.form == "adjacent":
            value = cc_adjacent(self.embed_s(emb_s), self.embed_t(emb_t))
        else:
            value = cc(emb_s, emb_t, p.gamma, p.P_order)
        return {"ce": ce(student.outputs.logits, batch.y), "cc": p.beta * value}

    def compared(self, student: View, teacher: Any, batch: Batch, progress: Progress) -> tuple[Compared, ...]:
        """Return the kernel of all pairs of images; in the adjacent form what the learnt layers make of each image."""
        p, emb_s, emb_t = self.params, student.outputs.embedding, teacher.outputs.embedding
        assert emb_s is not None
        if p.form == "adjacent":
            note = "The loss multiplies the gaps of neighbouring rows: two images that follow one another in the batch."
            own, theirs = self.embed_s(emb_s), self.embed_t(emb_t)
            return (Compared("Learnt numbers of each image", "matrix", own, theirs, note, axes=("image", "learnt number")),)
        note = "High: the two images belong together in the eyes of the network."
        kernel = Compared.seen("How much two images belong together", "matrix", lambda e: _kernel(e, p.gamma, p.P_order),
                               emb_s, emb_t, note, axes=("image", "image"))  # fmt: skip
        return (kernel,)


def _kernel(emb: Tensor, gamma: float, order: int) -> Tensor:
    """Return ``(B, B)``: the kernel of all pairs; its exponent is ``-2 gamma + 2 gamma <e_i, e_j>`` for vectors of length one."""
    direction = unit(emb)
    cosine = direction @ direction.T
    factors = [math.exp(-2 * gamma) * (2 * gamma) ** p / math.factorial(p) for p in range(order + 1)]
    return torch.stack([factor * cosine**p for p, factor in enumerate(factors)]).sum(0)
