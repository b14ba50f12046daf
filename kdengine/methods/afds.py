r"""Attentive feature distillation (AFD of the paper AFDS; called afd in Knowledge-Distillation-Zoo).

**Matched**: the maps after each stage, channel by channel; a small attention block decides from the teacher's map how much
each channel counts.

**Formula**: rho = a(mean over places of F_t), a = conv1x1 - ReLU - conv1x1 - sigmoid, divided by its sum over the channels;
d_c = mean over places of (F_s / (||F_s|| + 1e-6) - F_t / (||F_t|| + 1e-6))^2, the norms over the places of channel c;
L = CE(z_s, y) + beta * mean over stages of mean_n sum_c rho_nc d_nc.

**Source**: K. Wang, X. Gao, Y. Zhao, X. Li, D. Dou, C.-Z. Xu, "Pay Attention to Features, Transfer Learn Faster CNNs",
ICLR 2020, https://openreview.net/forum?id=ryxyCeHtPB (attentive feature distillation).

**Differs**: the attention is Knowledge-Distillation-Zoo's, whose table has weight 500: its author found the paper's (two
linear layers over the places of each channel, then a softmax) unstable and took the block of squeeze-and-excitation networks
instead. The paper also prunes channels (AFS); that is no distillation and not here. Where the channels of student and teacher
differ, a learnt 1x1 convolution with BatchNorm leads the student's map over; maps of unequal sizes meet at the smaller one.
The attention learns by making the loss small, so it favours channels that are easy to copy; that its weights sum to one keeps
it from switching all of them off.
"""

from __future__ import annotations

import functools
from typing import Any

import torch
from torch import Tensor, nn

from kdengine.methods import contract
from kdengine.methods._adapters import connector_where_needed
from kdengine.methods._math import Stages, ce, exact, match_size, over_stages, paired, placed, used
from kdengine.methods.contract import Batch, Card, Compared, DataInfo, Phase, Progress, View, knob
from kdengine.models.contract import NetInfo

CARD = Card(
    key="afds",
    title="Attentive feature distillation (AFDS)",
    family="feature",
    year=2020,
    citation="K. Wang, X. Gao, Y. Zhao, X. Li, D. Dou, C.-Z. Xu, Pay Attention to Features, Transfer Learn Faster CNNs, "
    "ICLR 2020",
    links=("https://openreview.net/forum?id=ryxyCeHtPB", "https://github.com/AberHu/Knowledge-Distillation-Zoo"),
    one_line="A small attention block decides for each image which of the teacher's channels are worth copying.",
    story=(
        "After each stage, both networks have a map of many channels, and not all of the teacher's matter for this image.",
        "An attention block looks at the teacher's map and gives every channel a share; the shares sum to one.",
        "The student copies the pattern of each channel, the more exactly the larger its share, and learns the labels.",
    ),
    analogy="Copying a master's painting, one looks closely at the face and the hands and paints the curtain as it comes.",
    formula=r"\mathcal{L} = \mathrm{CE}(z_s, y) + \frac{\beta}{L}\sum_l \frac{1}{B}\sum_n\sum_c \frac{\rho_{nc}}{HW} "
    r"\left\| \frac{F_s^{nc}}{\|F_s^{nc}\|_2} - \frac{F_t^{nc}}{\|F_t^{nc}\|_2} \right\|_2^2",
    fidelity="golden",
    needs=frozenset({"logits", "stages"}),
)


class Params(contract.Params):
    """How much the maps count, and the size of the attention block."""

    beta: float = knob(500.0, low=0, high=1e6, help="weight of the maps", source="Knowledge-Distillation-Zoo: lambda_kd 500")
    att_f: float = knob(
        1.0,
        low=0.05,
        high=4,
        help="channels inside the attention block as a share of the teacher's channels",
        source="Knowledge-Distillation-Zoo: 1",
    )
    stages: Stages = knob(
        "mean",
        help="what becomes of the stages' terms: their mean, their sum, or the last alone",
        source="Knowledge-Distillation-Zoo",
    )


@exact
def afds(map_s: Tensor, map_t: Tensor, rho: Tensor) -> Tensor:
    """Distance of normalised channels, weighted: ``mean_n sum_c rho_nc mean_hw (F_s - F_t)^2``.

    map_s, map_t: both ``(B, C, H, W)``, each channel of each image first divided by its length + 1e-6; rho ``(B, C)``: the
    channels' weights, rows summing to 1. Scalar, at most 4 / (H W).
    """
    distance = (_normalised(map_s) - _normalised(map_t)).square().mean(dim=(2, 3))
    return (rho * distance).sum(1).mean()


LOSSES = (afds,)


class ChannelAttention(nn.Module):
    """Weights of channels from a map's averages: two 1x1 layers with a ReLU between, a sigmoid, divided by the sum."""

    def __init__(self, channels: int, share: float) -> None:
        super().__init__()
        inner = max(1, int(share * channels))
        self.layers = nn.Sequential(nn.Conv2d(channels, inner, 1), nn.ReLU(), nn.Conv2d(inner, channels, 1))
        for layer in (self.layers[0], self.layers[2]):
            nn.init.kaiming_normal_(layer.weight, mode="fan_out", nonlinearity="relu")
            nn.init.zeros_(layer.bias)

    def forward(self, x: Tensor) -> Tensor:
        """Map ``(B, C, H, W)`` to weights ``(B, C)`` that sum to 1 for each image."""
        shares = torch.sigmoid(self.layers(x.mean(dim=(2, 3), keepdim=True)).flatten(1).float())
        return shares / shares.sum(dim=1, keepdim=True)


class AttentiveFeatures(contract.Method):
    """Labels, and the maps of all stages with learnt weights of the channels."""

    def __init__(self, params: Any, student: NetInfo, teacher: NetInfo | None, peers: dict[str, NetInfo], data: DataInfo) -> None:
        super().__init__(params, student, teacher, peers, data)
        assert teacher is not None
        shapes = used(paired(student.stages, teacher.stages), params.stages)
        self.attention = nn.ModuleList(ChannelAttention(t[0], params.att_f) for _, t in shapes)
        self.connectors = nn.ModuleList(connector_where_needed(s, t) for s, t in shapes)

    @classmethod
    def phases(cls, params: Any) -> tuple[Phase, ...]:
        """One phase; student and teacher run, the student and the attention learn."""
        return (Phase(trains=("student", "method"), runs=("student", "teacher")),)

    def loss(self, student: View, teacher: Any, batch: Batch, progress: Progress) -> dict[str, Tensor]:
        """Return the label term and the term of the maps."""
        maps_s, maps_t = student.outputs.stages, teacher.outputs.stages
        assert maps_s is not None
        parts = zip(used(paired(maps_s, maps_t), self.params.stages), self.attention, self.connectors, strict=True)
        values = [afds(*match_size(connect(s), t), attend(t)) for (s, t), attend, connect in parts]
        return {"ce": ce(student.outputs.logits, batch.y), "afds": self.params.beta * over_stages(values, self.params.stages)}

    def compared(self, student: View, teacher: Any, batch: Batch, progress: Progress) -> tuple[Compared, ...]:
        """Return where the weighted channels are active after each stage, and the channels' weights after the last."""
        maps_s, maps_t, how = student.outputs.stages, teacher.outputs.stages, self.params.stages
        assert maps_s is not None
        found: list[Compared] = []
        note = (
            "Bright: where the channels are active, each weighted by the attention block. The loss compares channel by channel."
        )
        pairs = zip(placed(used(paired(maps_s, maps_t), how)), self.attention, self.connectors, strict=True)
        for (where, (s, t)), attend, connect in pairs:
            own, theirs, rho = *match_size(connect(s), t), attend(t)
            how_seen = functools.partial(_weighted, rho=rho)
            found.append(Compared.seen(f"Weighted activity after {where}", "maps", how_seen, own, theirs, note))
        weights = "How much each channel of the teacher's last map counts in the loss."
        return (*reversed(found), Compared("Weights of the channels", "values", None, rho, weights, axes=("image", "channel")))


def _normalised(x: Tensor) -> Tensor:
    """Return every channel of every image divided by its length over the places, plus 1e-6."""
    return x / (torch.linalg.vector_norm(x, dim=(2, 3), keepdim=True) + 1e-6)


def _weighted(x: Tensor, rho: Tensor) -> Tensor:
    """Return ``(B, H, W)``: the squares of the normalised channels, weighted by ``rho (B, C)``."""
    return (rho[:, :, None, None] * _normalised(x).square()).sum(1)
