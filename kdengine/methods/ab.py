r"""Activation boundaries: the student learns which neurons fire, not how strongly.

**Matched**: for every stage the sign of the map before its last ReLU, that is on which side of its boundary each neuron is.

**Formula**: d = (s + m)^2 where t <= 0 and s > -m, (s - m)^2 where t > 0 and s <= m, else 0; s, t the maps before the ReLU, m
the margin. Phase ``init``: form="sum": L = beta * sum_l 1 / 2^(L - l) * 1 / N * sum d over all elements of stage l, the last of
L stages counting whole; form="mean": L = beta * mean over the stages of the mean of d. Phase ``main``: L = CE(z_s, y), and with
main="soft_targets" + mean_n KL(softmax(z_t / T) || softmax(z_s / T)).

**Source**: B. Heo, M. Lee, S. Yun, J. Y. Choi, "Knowledge Transfer via Distillation of Activation Boundaries Formed by Hidden
Neurons", AAAI 2019, arXiv 1811.03233 (alternative loss with a margin, initialisation before training); sums, stage weights,
weight 3/1000, margin 1 and connectors as in the authors' code.

**Differs**: form="sum" is the authors' and RepDistiller's; the latter's -b has no effect, because its main phase has labels
alone. form="mean" is Knowledge-Distillation-Zoo's, with the defaults of its tables: beta 10, margin 2 and 50 epochs at a tenth
of the rate, dropped after 30 and 40. With form="sum" the rate is the run's own and constant, as in the authors' and
RepDistiller's code. The main phase is the labels, as in both codes; the authors' script trains it with soft targets alone (T 3,
no T^2), here they are added to the labels on request. The authors' script leaves the teacher in training mode during the first
phase; here it is frozen. Connectors (1x1 convolution, BatchNorm) where channels differ, as the authors have them; RepDistiller
uses larger convolutions where sizes differ, here the larger map is averaged down; Knowledge-Distillation-Zoo has none.
Pre-activation networks (WRN): the map before a ReLU is the one after the next BatchNorm, as in the authors' code.
"""

from __future__ import annotations

from typing import Any, Literal

import torch
from torch import Tensor, nn

from kdengine.methods import contract
from kdengine.methods._adapters import connector_where_needed
from kdengine.methods._math import ce, exact, halving_sums, match_size, over_stages, paired, placed, soft_kl
from kdengine.methods.contract import Batch, Card, Compared, DataInfo, Phase, Progress, View, knob
from kdengine.models.contract import NetInfo

CARD = Card(
    key="ab",
    title="Activation boundaries",
    family="feature",
    year=2019,
    citation="B. Heo, M. Lee, S. Yun, J. Y. Choi, Knowledge Transfer via Distillation of Activation Boundaries Formed by Hidden "
    "Neurons, AAAI 2019",
    links=("https://arxiv.org/abs/1811.03233", "https://github.com/bhheo/AB_distillation"),
    one_line="On or off: the student's neurons first learn to switch where the teacher's do, then it learns the labels.",
    story=(
        "A neuron with a ReLU is on or off; the border between the two divides all images into those it reacts to and the rest.",
        "The student is punished where its neuron is on the wrong side of the teacher's border, or too close to it.",
        "That is only a start: after it the student learns the labels as usual, now with well-placed borders.",
    ),
    analogy="Learning a language you first sort which sounds count as different at all; how loud each is comes later.",
    formula=r"\mathcal{L}_{\mathrm{init}} = \beta\sum_l \frac{1}{2^{L-l}B}\left(\sum_{t\le 0}\max(s+m, 0)^2 "
    r"+ \sum_{t>0}\max(m-s, 0)^2\right),\qquad \mathcal{L}_{\mathrm{main}} = \mathrm{CE}(z_s, y)",
    fidelity="golden",
    needs=frozenset({"logits", "preacts"}),
    phases=("init", "main"),
)


class Params(contract.Params):
    """Weight and margin of the boundaries, how long they are learnt, and what comes after."""

    form: Literal["sum", "mean"] = knob(
        "sum",
        help="sum: over all neurons, later stages count more; mean: Knowledge-Distillation-Zoo's, with defaults of its own",
        source="the authors' code, RepDistiller",
    )
    beta: float = knob(
        0.003,
        low=0,
        high=1e6,
        per={"form=mean": 10.0},
        help="weight of the boundaries in the init phase",
        source="the authors' code, RepDistiller: 3/1000; Knowledge-Distillation-Zoo: 10",
    )
    margin: float = knob(
        1.0,
        low=0.01,
        high=100,
        per={"form=mean": 2.0},
        help="how far on the right side of its border a neuron shall be",
        source="the authors' code, RepDistiller: 1; Knowledge-Distillation-Zoo: 2",
    )
    init_epochs: int = knob(
        30,
        low=1,
        high=1000,
        per={"form=mean": 50},
        help="epochs in which the student learns the boundaries alone, before the labels",
        source="RepDistiller: 30, Knowledge-Distillation-Zoo: 50; the authors' script has a placeholder",
    )
    main: Literal["labels", "soft_targets"] = knob(
        "labels", help="what follows: the labels, or labels and soft targets", source="RepDistiller, Knowledge-Distillation-Zoo"
    )
    T: float = knob(3.0, low=0.5, high=100, help="soft_targets: temperature", source="the authors' code: 3")


@exact
def ab(pre_s: Tensor, pre_t: Tensor, margin: float = 1.0) -> Tensor:
    """Boundary loss: mean over all elements of ``max(s + m, 0)^2`` where ``t <= 0`` and ``max(m - s, 0)^2`` where ``t > 0``.

    pre_s, pre_t: both ``(B, C, H, W)``, before the activation; margin m > 0. Scalar. Equal maps within the margin do not give 0.
    """
    silent, active = (pre_s + margin).clamp(min=0), (margin - pre_s).clamp(min=0)
    return torch.where(pre_t > 0, active, silent).square().mean()


LOSSES = (ab,)


class Ab(contract.Method):
    """First the boundaries alone, then the labels."""

    def __init__(self, params: Any, student: NetInfo, teacher: NetInfo | None, peers: dict[str, NetInfo], data: DataInfo) -> None:
        super().__init__(params, student, teacher, peers, data)
        assert teacher is not None
        self.connectors = nn.ModuleList(connector_where_needed(s, t) for s, t in paired(student.stages, teacher.stages))

    @classmethod
    def phases(cls, params: Any) -> tuple[Phase, ...]:
        """The student, with its connectors, learns the boundaries; then the student learns the labels."""
        p, trains, sides = params, ("student", "method.connectors"), ("student", "teacher")
        rate: dict[str, Any] = {"milestones": ()} if p.form == "sum" else {"milestones": (0.6, 0.8), "lr_scale": 0.1}
        init = Phase("init", p.init_epochs, trains, sides, **rate)
        return init, Phase(trains=("student",), runs=("student",) if p.main == "labels" else sides)

    def loss(self, student: View, teacher: Any, batch: Batch, progress: Progress) -> dict[str, Tensor]:
        """Return the boundary term in the first phase, then the label term and, on request, soft targets."""
        p = self.params
        if progress.phase == "init":
            return {"ab": p.beta * self._boundaries(student, teacher)}
        logits = student.outputs.logits
        terms = {"ce": ce(logits, batch.y)}
        if p.main == "labels":
            return terms
        return terms | {"kd": soft_kl(logits, teacher.outputs.logits, p.T) / p.T**2}  # the authors have no T^2

    def compared(self, student: View, teacher: Any, batch: Batch, progress: Progress) -> tuple[Compared, ...]:
        """Return which neurons are active; in the main phase the answers."""
        p, out = self.params, student.outputs
        if progress.phase != "init":
            soft = None if teacher is None or p.main == "labels" else teacher.outputs.logits
            return (Compared.answers(out.logits, soft, 1.0 if soft is None else p.T),)
        note = "Dark is silent, bright is active. The student's neurons between the two lie within the margin, where they cost."
        pairs = zip(self.connectors, placed(paired(out.preacts or (), teacher.outputs.preacts)), strict=True)
        return tuple(
            Compared(f"Active neurons at the end of {where}", "masks", _settled(connect(s), p.margin), (t > 0).float(), note)
            for connect, (where, (s, t)) in [(c, (w, match_size(*pair))) for c, (w, pair) in pairs]
        )

    def _boundaries(self, student: View, teacher: View) -> Tensor:
        maps_s, maps_t = student.outputs.preacts, teacher.outputs.preacts
        assert maps_s is not None and maps_t is not None
        maps, means = [], []
        for connector, pair in zip(self.connectors, paired(maps_s, maps_t), strict=True):
            map_s, map_t = match_size(*pair)
            maps.append(map_t)
            means.append(ab(connector(map_s), map_t, self.params.margin))
        return halving_sums(means, maps) if self.params.form == "sum" else over_stages(means, "mean")


def _settled(pre: Tensor, margin: float) -> Tensor:
    """Return 0 where ``ab`` costs nothing for a silent neuron, 1 where it costs nothing for an active one, between in between."""
    return ((pre / margin).clamp(-1, 1) + 1) / 2
