r"""Overhaul of feature distillation: maps before the ReLU, with the teacher's irrelevant negatives cut off.

**Matched**: for every stage the map before its last ReLU. The teacher's goes through a margin ReLU: what is below a margin of
its channel becomes the margin. Where both are negative and the student is low enough, nothing is asked.

**Formula**: t' = max(F_t, m_c); s' = connector(F_s); d = (s' - t')^2 where s' > t' or t' > 0, else 0. form="sum": L =
CE(z_s, y) + beta * sum_l 1 / 2^(L - l) * 1 / N * sum d over all elements of stage l, the last of L stages counting whole. Its
margin is m_c = E[x | x < 0] of a normal x whose mean and deviation are the BatchNorm's bias b and weight |g|: m = b - |g|
phi(b / |g|) / Phi(-b / |g|), or -3 |g| where Phi <= 0.001. form="mean": the mean over the stages of the mean of d, with m_c the
mean of the negatives of this batch.

**Source**: B. Heo, J. Kim, S. Yun, H. Park, N. Kwak, J. Y. Choi, "A Comprehensive Overhaul of Feature Distillation", ICCV 2019,
arXiv 1904.01866, section 3 (margin ReLU, position before the ReLU, partial L2 distance); sums, stage weights, weight 1/1000,
margins and connectors as in the authors' code.

**Differs**: form="sum" is the authors' and mdistiller's. form="mean" is Knowledge-Distillation-Zoo's and has the weight of its
tables, 0.5. The margin rests on the BatchNorm before the ReLU; in residual networks a shortcut is added between the two, which
the authors ignore as well. A teacher without such BatchNorms needs form="mean". The authors' script leaves the teacher in
training mode; here it is frozen. Maps of unequal size: the larger is averaged down, before the connector (1x1 convolution,
BatchNorm; always there); mdistiller brings the teacher's map to the student's size. Pre-activation networks (WRN): the map
before a ReLU is the one after the next BatchNorm, and that BatchNorm gives the margin, as in the authors' code.
"""

from __future__ import annotations

from typing import Any, Literal

import torch
from torch import Tensor, nn

from kdengine.methods import contract
from kdengine.methods._adapters import connector
from kdengine.methods._math import ce, exact, halving_sums, match_size, over_stages, paired, placed
from kdengine.methods.contract import Batch, Card, Compared, DataInfo, Progress, View, knob
from kdengine.models.contract import NetInfo

CARD = Card(
    key="ofd",
    title="Overhaul of feature distillation",
    family="feature",
    year=2019,
    citation="B. Heo, J. Kim, S. Yun, H. Park, N. Kwak, J. Y. Choi, A Comprehensive Overhaul of Feature Distillation, ICCV 2019",
    links=("https://arxiv.org/abs/1904.01866", "https://github.com/clovaai/overhaul-distillation"),
    one_line="The student copies the teacher's maps before the ReLU, except for how exactly the teacher says no.",
    story=(
        "Before its ReLU a map still has negative values; all of them become zero, so how negative they are hardly matters.",
        "The teacher's very negative values are therefore raised to a margin, the mean negative value of their channel.",
        "The student learns the labels and to meet this map; where the teacher is negative, being lower is good enough.",
    ),
    analogy="From a list of what someone loves and hates, copy the loves exactly; for the hates it is enough not to like them.",
    formula=r"\mathcal{L} = \mathrm{CE}(z_s, y) + \beta\sum_l \frac{1}{2^{L-l}B}\sum_{s' > t'\,\vee\,t' > 0}(s' - t')^2,"
    r"\quad t' = \max(F_t, m_c),\quad s' = r(F_s)",
    fidelity="golden",
    needs=frozenset({"logits", "preacts", "norms"}),
)


class Params(contract.Params):
    """Form and weight of the maps' term."""

    form: Literal["sum", "mean"] = knob(
        "sum",
        help="sum: over all neurons, margins from the teacher's BatchNorm; mean: Knowledge-Distillation-Zoo's, from the batch",
        source="the authors' code, mdistiller",
    )
    beta: float = knob(
        0.001,
        low=0,
        high=1e6,
        per={"form=mean": 0.5},
        help="weight of the maps",
        source="the authors' code, mdistiller: 1/1000; Knowledge-Distillation-Zoo: 0.5",
    )


@exact
def ofd(map_s: Tensor, map_t: Tensor, margin: Tensor | float) -> Tensor:
    """Partial distance: mean over all elements of ``(s - t')^2`` where ``s > t'`` or ``t' > 0``, else 0; ``t' = max(t, margin)``.

    map_s (after its connector), map_t: both ``(B, C, H, W)``, before the activation; margin <= 0, a number or ``(C,)``. Scalar.
    """
    map_t = _raised(map_t, margin)
    counts = (map_s > map_t) | (map_t > 0)
    return ((map_s - map_t).square() * counts).mean()


LOSSES = (ofd,)


def norm_margin(weight: Tensor, bias: Tensor) -> Tensor:
    """Return ``E[x | x < 0]`` per channel ``(C,)`` of normal x with mean ``bias`` and deviation ``|weight|``; -3 |weight| where
    x < 0 is rarer than 1 in 1000.
    """
    deviation = weight.abs().clamp(min=1e-12)  # a channel that is switched off has none
    ratio = bias / deviation
    below = torch.special.ndtr(-ratio)
    density = torch.exp(-0.5 * ratio.square()) / (2 * torch.pi) ** 0.5
    return torch.where(below > 0.001, bias - deviation * density / below.clamp(min=0.001), -3 * deviation)


@exact
def batch_margin(map_t: Tensor) -> Tensor:
    """Return per channel ``(C,)`` the mean of what is negative in maps ``(B, C, H, W)``; 0 where nothing is."""
    negative = map_t < 0
    return (map_t * negative).sum((0, 2, 3)) / negative.sum((0, 2, 3)).clamp(min=1)


class Ofd(contract.Method):
    """Labels and the maps before the activations."""

    def __init__(self, params: Any, student: NetInfo, teacher: NetInfo | None, peers: dict[str, NetInfo], data: DataInfo) -> None:
        super().__init__(params, student, teacher, peers, data)
        assert teacher is not None
        self.connectors = nn.ModuleList(connector(s[0], t[0]) for s, t in paired(student.stages, teacher.stages))

    @classmethod
    def problems(cls, params: Any, student: NetInfo, teacher: NetInfo | None) -> list[tuple[str, str, str]]:
        """Refuse margins from a BatchNorm that the teacher does not have."""
        if params.form == "mean" or teacher is None or teacher.norms:
            return []
        given = f"form sum with the teacher {teacher.model}, which has no BatchNorm before the last activation of every stage"
        return [(given, "a teacher with these BatchNorms, or margins from the batch", "set form=mean")]

    def loss(self, student: View, teacher: Any, batch: Batch, progress: Progress) -> dict[str, Tensor]:
        """Return the label term and the maps' term."""
        p, out = self.params, student.outputs
        connected = self._connected(student, teacher)
        maps, means = [map_t for _, map_t, _ in connected], [ofd(*each) for each in connected]
        term = halving_sums(means, maps) if p.form == "sum" else over_stages(means, "mean")
        return {"ce": ce(out.logits, batch.y), "ofd": p.beta * term}

    def compared(self, student: View, teacher: Any, batch: Batch, progress: Progress) -> tuple[Compared, ...]:
        """Return the student's maps behind their connectors beside the teacher's, negatives raised to the margin."""
        note = "Before the ReLU. The teacher's negative values all count as the margin; a student below it pays nothing."
        return tuple(
            Compared(f"Map at the end of {where}", "channels", map_s, _raised(map_t, margin), note)
            for where, (map_s, map_t, margin) in reversed(placed(self._connected(student, teacher)))
        )

    def _connected(self, student: View, teacher: View) -> list[tuple[Tensor, Tensor, Tensor]]:
        """Return per stage the student's map behind its connector, the teacher's map, and the margins ``(C,)``."""
        maps_s, maps_t = student.outputs.preacts, teacher.outputs.preacts
        assert maps_s is not None and maps_t is not None
        by_norm = self.params.form == "sum"
        margins = [norm_margin(*n) for n in teacher.norms] if by_norm else [batch_margin(m) for m in maps_t]
        found = []
        pairs = paired(maps_s, list(zip(maps_t, margins, strict=True)))
        for connect, (map_s, (map_t, margin)) in zip(self.connectors, pairs, strict=True):
            map_s, map_t = match_size(map_s, map_t)
            found.append((connect(map_s), map_t, margin))
        return found


def _raised(map_t: Tensor, margin: Tensor | float) -> Tensor:
    """Return the teacher's map with what lies below the margin raised to it."""
    return torch.maximum(map_t, margin.view(-1, 1, 1)) if isinstance(margin, Tensor) else map_t.clamp(min=margin)
