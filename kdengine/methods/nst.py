r"""Neuron selectivity transfer: the student's channels, as a crowd, become selective for the same places as the teacher's.

**Matched**: the distribution of the channels of the last map (after its last ReLU): each channel is one sample, namely where
in the image it reacts, scaled to length one. Which channel is which does not matter, and their numbers may differ.

**Formula**: L = CE(z_s, y) + beta * MMD^2, MMD^2 = mean_n [ mean_{c,c'} k(t_c, t_c') + mean_{c,c'} k(s_c, s_c') -
2 mean_{c,c'} k(s_c, t_c') ] with the polynomial kernel k(a, b) = <a, b>^2.

**Source**: Z. Huang, N. Wang, "Like What You Like: Knowledge Distill via Neuron Selectivity Transfer", arXiv 1707.01219
(2017), section 4 (squared maximum mean discrepancy; polynomial kernel of degree 2, offset 0); weight 50 and the last map
alone as in the authors' code (TuSimple).

**Differs**: the authors' code and Knowledge-Distillation-Zoo match the last map alone, so stages="last" is the default;
RepDistiller and mdistiller sum over all stages with the same weight 50 (stages="sum"), and their tables rest on that;
Knowledge-Distillation-Zoo's tables have weight 10. The authors' code, written for ImageNet, takes the map before its ReLU and
leaves out the teacher's own term, which has no gradient; here, as in the other codes, the map after the ReLU and the whole
discrepancy. The paper's linear and Gaussian kernels are not here. Pre-activation networks (WRN): a stage's map is taken here
after the next BatchNorm and ReLU; RepDistiller takes the raw sums. The other codes multiply every pair of channels pixel by
pixel (gigabytes); here matrix products give the same value. Maps of unequal size: the larger is averaged down.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from kdengine.methods import contract
from kdengine.methods._math import Stages, ce, exact, match_size, over_stages, paired, unit, used
from kdengine.methods.contract import Batch, Card, Compared, Progress, View, knob

CARD = Card(
    key="nst",
    title="Neuron selectivity transfer",
    family="feature",
    year=2017,
    citation="Z. Huang, N. Wang, Like What You Like: Knowledge Distill via Neuron Selectivity Transfer, arXiv 2017",
    links=("https://arxiv.org/abs/1707.01219", "https://github.com/TuSimple/neuron-selectivity-transfer"),
    one_line="Each channel likes certain places of an image; the student's likings, taken together, become the teacher's.",
    story=(
        "Every channel of a map is a neuron that reacts at some places and not at others: that is its taste.",
        "The tastes of all channels form a cloud; how far apart the two networks' clouds are can be measured.",
        "The student learns the labels, and to bring its cloud onto the teacher's; no channel has to copy a certain other one.",
    ),
    analogy="A new jury need not copy the old one member by member, but between them its members should like the same things.",
    formula=r"\mathcal{L} = \mathrm{CE}(z_s, y) + \beta\left(\overline{k(t_c, t_{c'})} + \overline{k(s_c, s_{c'})} "
    r"- 2\,\overline{k(s_c, t_{c'})}\right),\quad k(a, b) = \langle a, b\rangle^2",
    fidelity="golden",
    needs=frozenset({"logits", "stages"}),
)


class Params(contract.Params):
    """Weight, and which stages count."""

    beta: float = knob(
        50.0, low=0, high=1e6, help="weight of the discrepancy", source="the authors' code, RepDistiller, mdistiller: 50"
    )
    stages: Stages = knob("last", help="which stages count: the last one, or all of them", source="the authors' code: last")


@exact
def nst(map_s: Tensor, map_t: Tensor) -> Tensor:
    """Squared maximum mean discrepancy of the channels, each of length one, with ``k(a, b) = <a, b>^2``, mean over the batch.

    map_s ``(B, Cs, Hs, Ws)``, map_t ``(B, Ct, Ht, Wt)``; the larger is averaged down to H x W. Scalar in [0, 2].
    """
    s, t = (unit(x.flatten(2), dim=2) for x in match_size(map_s, map_t))
    if s.shape[2] <= max(s.shape[1], t.shape[1]):
        # sum_{c,c'} <s_c, t_c'>^2 = <S^T S, T^T T>, so H W x H W does where that is smaller than C x C
        return (_gram(s) - _gram(t)).square().sum((1, 2)).mean()
    return _kernel(t, t) + _kernel(s, s) - 2 * _kernel(s, t)


LOSSES = (nst,)


class Nst(contract.Method):
    """Labels and the discrepancy of the channels."""

    def loss(self, student: View, teacher: Any, batch: Batch, progress: Progress) -> dict[str, Tensor]:
        """Return the label term and the discrepancy."""
        p, out = self.params, student.outputs
        assert out.stages is not None
        pairs = used(paired(out.stages, teacher.outputs.stages), p.stages)
        return {"ce": ce(out.logits, batch.y), "nst": p.beta * over_stages([nst(s, t) for s, t in pairs], p.stages)}

    def compared(self, student: View, teacher: Any, batch: Batch, progress: Progress) -> tuple[Compared, ...]:
        """Return which places of the last map are active in the same channels."""
        assert student.outputs.stages is not None
        s, t = match_size(student.outputs.stages[-1], teacher.outputs.stages[-1])
        note = "Bright: two places of the image at which the same channels are active. The loss is the squared gap of the tables."
        return (Compared.seen("Places that belong together", "matrix", lambda x: _gram(unit(x.flatten(2), dim=2)), s, t, note,
                              axes=("place", "place")),)  # fmt: skip


def _gram(x: Tensor) -> Tensor:
    """Return the products of all places ``(B, H W, H W)`` of channels ``(B, C, H W)``, mean over the channels."""
    return torch.bmm(x.mT, x) / x.shape[1]


def _kernel(a: Tensor, b: Tensor) -> Tensor:
    """Return the mean of the kernel over all pairs of channels and the batch."""
    return torch.bmm(a, b.mT).square().mean()
