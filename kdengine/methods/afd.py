r"""Attention-based feature distillation: who imitates whom is learnt, for every image and every pair of blocks.

**Matched**: the maps after all blocks of both networks, each reduced to one picture: the mean of the squares over its
channels, scaled to length one.

**Formula**: alpha_ts = softmax over s of (<W_t k_s, q_t> + <p_t, p_s>) / sqrt(d), with q_t = BN(linear(GAP(F_t))), k_s =
ReLU(BN(linear(GAP(F_s)))), W_t linear with BatchNorm, p learnt; L = CE(z_s, y) + lambda_kd * T^2 * mean_n KL(softmax(z_t / T)
|| softmax(z_s / T)) + beta * sum_t mean_n sum_s alpha_nts * mean over places of (v_s - v_t)^2, v the pictures.

**Source**: M. Ji, B. Heo, S. Park, "Show, Attend and Distill: Knowledge Distillation via Attention-based Feature Matching",
AAAI 2021, arXiv 2102.02973, and the authors' code (clovaai/attention-feature-distillation).

**Differs**: nothing in the loss. Which blocks: all, as the authors choose them by hand for each of their networks. Of
ResNet-110's 54 they take every second; here the rule is that a network with more than 27 blocks gives every second (third,
...) one, counted back from its last, so that at most 27 stay. A student's picture is always brought to the teacher's size,
also where that means to repeat places. In Knowledge-Distillation-Zoo afd is the name of another method, here afds.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any, TypeVar

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from kdengine.methods import contract
from kdengine.methods._math import ce, exact, soft_kl, unit
from kdengine.methods.contract import Batch, Card, Compared, DataInfo, Phase, Progress, View, knob
from kdengine.models.contract import NetInfo

V = TypeVar("V")
MOST_BLOCKS = 27

CARD = Card(
    key="afd",
    title="Attention-based feature matching (AFD)",
    family="feature",
    year=2021,
    citation="M. Ji, B. Heo, S. Park, Show, Attend and Distill: Knowledge Distillation via Attention-based Feature Matching, "
    "AAAI 2021",
    links=("https://arxiv.org/abs/2102.02973", "https://github.com/clovaai/attention-feature-distillation"),
    one_line="Nobody picks by hand which layer copies which: a learnt attention pairs all blocks, image by image.",
    story=(
        "After each of its blocks a network has a map; squared and averaged over the channels, it shows where much happens.",
        "For each image, an attention compares every block of the teacher with all blocks of the student and gives out shares.",
        "The student's blocks imitate each picture of the teacher's by their shares, besides soft targets and labels.",
    ),
    analogy="A school without a timetable: for every lesson each teacher looks for the pupils who are ready for it.",
    formula=r"\mathcal{L} = \mathrm{CE}(z_s, y) + \lambda_{kd} T^2\,\mathrm{KL}(p_t^T\,\|\,p_s^T) "
    r"+ \frac{\beta}{B}\sum_n\sum_t\sum_s \frac{\alpha_{nts}}{H_t W_t} "
    r"\left\| \frac{v_s}{\|v_s\|_2} - \frac{v_t}{\|v_t\|_2} \right\|_2^2",
    fidelity="golden",
    needs=frozenset({"logits", "blocks"}),
)


class Params(contract.Params):
    """Weights of the three terms, the temperature, and the width of the attention."""

    beta: float = knob(200.0, low=0, high=1e6, help="weight of the pictures of the blocks", source="the authors' script: 200")
    lambda_kd: float = knob(0.9, low=0, high=1000, help="weight of the soft targets", source="the authors' script: alpha 0.9")
    lambda_ce: float = knob(1.0, low=0, high=1000, help="weight of the label term", source="the authors' script: 1")
    T: float = knob(4.0, low=0.5, high=100, help="temperature of the soft targets", source="the authors' script: 4")
    qk_dim: int = knob(
        128, low=1, high=4096, help="numbers by which the attention describes a block", source="the authors' script: 128"
    )


@exact
def afd(maps_s: Tensor, maps_t: Tensor, alpha: Tensor) -> Tensor:
    """Distance of pictures, weighted: ``sum_t mean_n sum_s alpha_nts mean_hw (v_s - v_t)^2``, v scaled to length one.

    maps_s ``(B, S, H, W)``, maps_t ``(B, T, H, W)``: one picture for each block of the student and of the teacher, the mean of
    the squares over the channels; alpha ``(B, T, S)``: shares, summing to 1 over s. Scalar, at most 4 T / (H W).
    """
    v_s, v_t = unit(maps_s.flatten(2), dim=2), unit(maps_t.flatten(2), dim=2)
    # |v_s - v_t|^2 of all pairs by one product of matrices: differences would need a tensor of size B T S H W
    squares = v_t.square().sum(2)[:, :, None] + v_s.square().sum(2)[:, None] - 2 * v_t @ v_s.mT
    return (alpha * squares).sum(dim=(1, 2)).mean() / v_s.shape[2]


LOSSES = (afd,)


class Attention(nn.Module):
    """How much each block of the student imitates each block of the teacher, from the averages of their maps."""

    def __init__(self, channels_s: Sequence[int], channels_t: Sequence[int], dim: int) -> None:
        super().__init__()
        self.place_t = nn.Parameter(nn.init.xavier_normal_(torch.empty(len(channels_t), dim)))
        self.place_s = nn.Parameter(nn.init.xavier_normal_(torch.empty(len(channels_s), dim)))
        self.keys = nn.ModuleList(_layer(c, dim) for c in channels_s)
        self.bilinear = _layer(dim, dim * len(channels_t))
        self.queries = nn.ModuleList(_layer(c, dim) for c in channels_t)

    def forward(self, blocks_s: Sequence[Tensor], blocks_t: Sequence[Tensor]) -> Tensor:
        """Map both networks' maps ``(B, C, H, W)`` to shares ``(B, T, S)`` that sum to 1 over s."""
        keys = torch.stack([F.relu(layer(x.mean(dim=(2, 3)))) for layer, x in zip(self.keys, blocks_s, strict=True)], dim=1)
        queries = torch.stack([layer(x.mean(dim=(2, 3))) for layer, x in zip(self.queries, blocks_t, strict=True)], dim=1)
        images, of_teacher, dim = queries.shape
        keys = self.bilinear(keys.flatten(0, 1)).view(images, -1, of_teacher, dim)
        logits = torch.einsum("bstd,btd->bts", keys, queries) + self.place_t @ self.place_s.T
        return (logits.float() / math.sqrt(dim)).softmax(dim=2)


class AttentionFeatures(contract.Method):
    """Labels, soft targets, and the pictures of all blocks with learnt shares."""

    def __init__(self, params: Any, student: NetInfo, teacher: NetInfo | None, peers: dict[str, NetInfo], data: DataInfo) -> None:
        super().__init__(params, student, teacher, peers, data)
        assert teacher is not None
        channels_s, channels_t = ([shape[0] for shape in spread(net.blocks)] for net in (student, teacher))
        self.attention = Attention(channels_s, channels_t, params.qk_dim)

    @classmethod
    def phases(cls, params: Any) -> tuple[Phase, ...]:
        """One phase; student and teacher run, the student and the attention learn."""
        return (Phase(trains=("student", "method"), runs=("student", "teacher")),)

    def loss(self, student: View, teacher: Any, batch: Batch, progress: Progress) -> dict[str, Tensor]:
        """Return the label term, the soft targets and the term of the blocks."""
        p, logits = self.params, student.outputs.logits
        blocks_s, blocks_t = student.outputs.blocks, teacher.outputs.blocks
        assert blocks_s is not None
        return {
            "ce": p.lambda_ce * ce(logits, batch.y),
            "kd": p.lambda_kd * soft_kl(logits, teacher.outputs.logits, p.T),
            "afd": p.beta * self.matching(spread(blocks_s), spread(blocks_t)),
        }

    def compared(self, student: View, teacher: Any, batch: Batch, progress: Progress) -> tuple[Compared, ...]:
        """Return the shares, and the last block's picture beside the student's pictures mixed by them."""
        assert student.outputs.blocks is not None
        blocks_s, blocks_t = spread(student.outputs.blocks), spread(teacher.outputs.blocks)
        alpha, theirs = self.attention(blocks_s, blocks_t), _picture(blocks_t[-1])
        own = torch.stack([F.adaptive_avg_pool2d(_picture(x), tuple(theirs.shape[1:])) for x in blocks_s], dim=1)
        mixed = torch.einsum("bs,bshw->bhw", alpha[:, -1], unit(own.flatten(2), dim=2).unflatten(2, own.shape[2:]))
        shares = "How much each block of the student imitates each block of the teacher; each row adds up to 1."
        note = "Bright: where the teacher's last block is active, and where the student's blocks are, mixed by their shares."
        return (
            Compared("Who imitates whom", "matrix", alpha, None, shares, ("shares", ""), ("teacher's block", "student's block")),
            Compared("Activity of the teacher's last block", "maps", mixed, unit(theirs.flatten(1)).view_as(theirs), note),
        )

    def matching(self, blocks_s: Sequence[Tensor], blocks_t: Sequence[Tensor]) -> Tensor:
        """Return ``afd`` over all blocks; those of the teacher that have one size are compared together."""
        alpha = self.attention(blocks_s, blocks_t)
        pictures_s, pictures_t = [_picture(x) for x in blocks_s], [_picture(x) for x in blocks_t]
        values = []
        for size in dict.fromkeys(x.shape[1:] for x in pictures_t):
            group = [t for t, x in enumerate(pictures_t) if x.shape[1:] == size]
            resized = torch.stack([F.adaptive_avg_pool2d(x, tuple(size)) for x in pictures_s], dim=1)
            theirs = torch.stack([pictures_t[t] for t in group], dim=1)
            values.append(afd(resized, theirs, torch.stack([alpha[:, t] for t in group], dim=1)))
        return torch.stack(values).sum()


def spread(blocks: Sequence[V]) -> list[V]:
    """Return at most 27 blocks: every k-th, counted back from the last, with the least k that does."""
    step = math.ceil(len(blocks) / MOST_BLOCKS)
    return list(blocks)[::-step][::-1]


def _layer(features_in: int, features_out: int) -> nn.Module:
    return nn.Sequential(nn.Linear(features_in, features_out), nn.BatchNorm1d(features_out))


@exact
def _picture(x: Tensor) -> Tensor:
    """Return the mean of the squares over the channels: ``(B, C, H, W)`` to ``(B, H, W)``."""
    return x.square().mean(dim=1)
