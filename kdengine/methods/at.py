r"""Attention transfer: the student looks where the teacher looks.

**Matched**: attention maps, that is for each place of a stage's map the mean over the channels of |F|^p, scaled to length
one; for every stage, after its last ReLU.

**Formula**: L = CE(z_s, y) + beta * sum_l mean (Q_s / ||Q_s||_2 - Q_t / ||Q_t||_2)^2, Q = mean_c |F_c|^p flattened per image, the
mean over all N * H * W elements.

**Source**: S. Zagoruyko, N. Komodakis, "Paying More Attention to Attention: Improving the Performance of Convolutional
Neural Networks via Attention Transfer", ICLR 2017, arXiv 1612.03928, section 3.1 (activation-based attention, sum of powers,
p = 2); mean of squares, sum over the stages and beta 1000 as in the authors' code.

**Differs**: the paper writes the length of the difference, its authors' code the mean of its squares; all well-known codes
follow the code. RepDistiller and mdistiller sum over the stages, as here; Knowledge-Distillation-Zoo averages them
(stages="mean"), so its tables at weight 1000 have a third of this strength, and adds 1e-6 to every length. The authors can
add soft targets: combine this method with kd. Pre-activation networks (WRN): a stage's map is taken here after the next
BatchNorm and ReLU; the authors and RepDistiller take the raw sums. The paper's second kind of attention, from gradients, is
not here. Maps of unequal size: the larger is averaged down, as in RepDistiller; channels may differ.
"""

from __future__ import annotations

from typing import Any

from torch import Tensor

from kdengine.methods import contract
from kdengine.methods._math import Stages, ce, exact, match_size, mse, over_stages, paired, placed, unit, used
from kdengine.methods.contract import Batch, Card, Compared, Progress, View, knob

CARD = Card(
    key="at",
    title="Attention transfer",
    family="feature",
    year=2017,
    citation="S. Zagoruyko, N. Komodakis, Paying More Attention to Attention: Improving the Performance of Convolutional "
    "Neural Networks via Attention Transfer, ICLR 2017",
    links=("https://arxiv.org/abs/1612.03928", "https://github.com/szagoruyko/attention-transfer"),
    one_line="Where in the image does the teacher react most? The student learns to look at the same places.",
    story=(
        "After each stage a network has a map with many channels; their mean strength tells how much each place matters.",
        "This one-channel picture, the attention, is made of both networks and scaled to the same length.",
        "The student learns the labels, and to make its attention equal the teacher's at every stage.",
    ),
    analogy="Watching where an experienced driver looks teaches more than hearing where she drove.",
    formula=r"\mathcal{L} = \mathrm{CE}(z_s, y) + \beta\sum_l \frac{1}{B\,H_l W_l}\sum_n "
    r"\left\| \frac{Q_s^{l}}{\|Q_s^{l}\|_2} - \frac{Q_t^{l}}{\|Q_t^{l}\|_2} \right\|_2^2,\quad Q = \frac{1}{C}\sum_c |F_c|^p",
    fidelity="golden",
    needs=frozenset({"logits", "stages"}),
)


class Params(contract.Params):
    """Weight, power and how the stages are put together."""

    beta: float = knob(
        1000.0,
        low=0,
        high=1e6,
        help="weight of the attention; large, because it is a mean over normalised maps",
        source="the authors' code, RepDistiller, mdistiller: 1000",
    )
    p: float = knob(
        2.0, low=1, high=8, help="power: the higher, the more the strongest channels count", source="the authors' code: 2"
    )
    stages: Stages = knob("sum", help="how the stages' terms are put together", source="the authors' code: sum")


@exact
def at(map_s: Tensor, map_t: Tensor, p: float = 2.0) -> Tensor:
    """Attention loss: mean over all elements of ``(Q_s / ||Q_s|| - Q_t / ||Q_t||)^2``, ``Q = mean_c |F_c|^p`` per image.

    map_s ``(B, Cs, Hs, Ws)``, map_t ``(B, Ct, Ht, Wt)``; the larger is averaged down to H x W. Scalar, at most 2 / (H W).
    """
    map_s, map_t = match_size(map_s, map_t)
    return mse(_attention(map_s, p), _attention(map_t, p))


LOSSES = (at,)


class At(contract.Method):
    """Labels and attention."""

    def loss(self, student: View, teacher: Any, batch: Batch, progress: Progress) -> dict[str, Tensor]:
        """Return the label term and the attention term."""
        p, out = self.params, student.outputs
        assert out.stages is not None
        pairs = used(paired(out.stages, teacher.outputs.stages), p.stages)
        return {"ce": ce(out.logits, batch.y), "at": p.beta * over_stages([at(s, t, p.p) for s, t in pairs], p.stages)}

    def compared(self, student: View, teacher: Any, batch: Batch, progress: Progress) -> tuple[Compared, ...]:
        """Return the attention of both networks after each stage that counts."""
        p = self.params
        note = "Bright: where many channels are strongly active. The loss compares the brightness, place by place."
        pairs = placed(used(paired(student.outputs.stages or (), teacher.outputs.stages), p.stages))
        return tuple(
            Compared.seen(f"Attention after {where}", "maps", lambda x: _picture(x, p.p), *match_size(s, t), note)
            for where, (s, t) in pairs
        )


def _attention(x: Tensor, p: float) -> Tensor:
    """Return ``(B, H * W)``, of length one per image."""
    return unit(x.abs().pow(p).mean(1).flatten(1))


def _picture(x: Tensor, p: float) -> Tensor:
    """Return the attention as ``(B, H, W)``."""
    return _attention(x, p).unflatten(1, x.shape[2:])
