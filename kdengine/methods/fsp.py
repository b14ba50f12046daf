r"""Flow of the solution procedure (FSP): what happens from one map to the next, not the maps themselves.

**Matched**: for each two consecutive maps of the stem and the stages (after their ReLUs), the products of every channel of
the first with every channel of the second, mean over the places: the flow from the one to the other.

**Formula**: G = A B^T / (H W) for consecutive maps A (C1 x HW) and B (C2 x HW), the larger one averaged down. Phase ``init``:
L = beta * sum_l mean (G_s^l - G_t^l)^2, the mean over all N * C1 * C2 elements, without labels. Phase ``main``: L = CE(z_s, y).

**Source**: J. Yim, D. Joo, J. Bae, J. Kim, "A Gift from Knowledge Distillation: Fast Optimization, Network Minimization and
Transfer Learning", CVPR 2017, section 3 (FSP matrix, loss over its pairs, training in two stages).

**Differs**: element means as in Knowledge-Distillation-Zoo and RepDistiller; the paper writes a squared length per matrix,
which is C1 * C2 times that. The sum over the pairs is the paper's and RepDistiller's; Knowledge-Distillation-Zoo averages
them (stages="mean") and its tables have weight 1. The phase of 50 epochs at a tenth of the rate, dropped after 30 and 40, is
Knowledge-Distillation-Zoo's; RepDistiller has 30 epochs at the full rate, and its published weight 50 has no effect, because
its main phase has no FSP term. All codes need equally many channels in both networks (RepDistiller raises an error, so its
table has N/A for wrn_40_2 to wrn_40_1); here a student's map with other channels goes through a learnt 1x1 convolution with
BatchNorm, and where all channels agree nothing is added. Where sizes differ the paper takes the maximum; both codes average,
as here. Pre-activation networks (WRN): a stage's map is taken here after the next BatchNorm and ReLU; RepDistiller takes the
raw sums.
"""

from __future__ import annotations

from collections.abc import Iterable
from itertools import pairwise
from typing import Any

import torch
from torch import Tensor, nn

from kdengine.methods import contract
from kdengine.methods._adapters import connector_where_needed
from kdengine.methods._math import Stages, ce, exact, match_size, mse, over_stages, paired, placed
from kdengine.methods.contract import Batch, Card, Compared, DataInfo, Phase, Progress, View, knob
from kdengine.models.contract import NetInfo, Outputs

CARD = Card(
    key="fsp",
    title="Flow of solution procedure",
    family="feature",
    year=2017,
    citation="J. Yim, D. Joo, J. Bae, J. Kim, A Gift from Knowledge Distillation: Fast Optimization, Network Minimization and "
    "Transfer Learning, CVPR 2017",
    links=("https://openaccess.thecvf.com/content_cvpr_2017/html/Yim_A_Gift_From_CVPR_2017_paper.html",),
    one_line="Not the intermediate results are copied but the way from each to the next; then the student trains on its own.",
    story=(
        "Between two maps of a network lies a piece of work: which features of the first lead to which features of the second.",
        "A table holds that flow: every channel of the first map times every channel of the second, averaged over the image.",
        "First the student only learns to have the teacher's tables; with that good start it then learns the labels alone.",
    ),
    analogy="A mathematics teacher who shows how to get from line to line of a proof, and then leaves the exercises to you.",
    formula=r"G = \frac{1}{HW} A B^{\top},\qquad \mathcal{L}_{\mathrm{init}} = \beta\sum_l \frac{1}{B\,C_l C_{l+1}}"
    r"\sum_n\left\| G_s^{l} - G_t^{l} \right\|_F^2,\qquad \mathcal{L}_{\mathrm{main}} = \mathrm{CE}(z_s, y)",
    fidelity="golden",
    needs=frozenset({"logits", "stem", "stages"}),
    phases=("init", "main"),
)


class Params(contract.Params):
    """Weight of the flow, its pairs, and how long it is learnt before the labels."""

    beta: float = knob(1.0, low=0, high=1e6, help="weight of the flow in the init phase", source="Knowledge-Distillation-Zoo: 1")
    stages: Stages = knob("sum", help="how the pairs' terms are put together", source="the paper, RepDistiller: sum")
    init_epochs: int = knob(
        50,
        low=1,
        high=1000,
        help="epochs in which the student learns the flow alone, before the labels",
        source="Knowledge-Distillation-Zoo: 50",
    )


@exact
def fsp(first_s: Tensor, second_s: Tensor, first_t: Tensor, second_t: Tensor) -> Tensor:
    """Flow loss: mean over all elements of ``(G_s - G_t)^2``, ``G = first second^T / (H W)`` per image ``(B, C1, C2)``.

    first_s, first_t ``(B, C1, H1, W1)``; second_s, second_t ``(B, C2, H2, W2)``; in each network the larger of the two is
    averaged down, and the two networks' sizes may differ. Scalar.
    """
    return mse(_flow(first_s, second_s), _flow(first_t, second_t))


LOSSES = (fsp,)


class Fsp(contract.Method):
    """First the flow alone, then the labels alone."""

    def __init__(self, params: Any, student: NetInfo, teacher: NetInfo | None, peers: dict[str, NetInfo], data: DataInfo) -> None:
        super().__init__(params, student, teacher, peers, data)
        assert teacher is not None
        shapes = self._used(paired((student.stem, *student.stages), (teacher.stem, *teacher.stages)))
        self.connectors = nn.ModuleList(connector_where_needed(s, t) for s, t in shapes)

    @classmethod
    def phases(cls, params: Any) -> tuple[Phase, ...]:
        """The student, with its connectors, learns the flow; then the student learns the labels."""
        trains, sides = ("student", "method.connectors"), ("student", "teacher")
        init = Phase("init", params.init_epochs, trains, sides, lr_scale=0.1, milestones=(0.6, 0.8))
        return init, Phase(trains=("student",), runs=("student",))

    def loss(self, student: View, teacher: Any, batch: Batch, progress: Progress) -> dict[str, Tensor]:
        """Return the flow term in the first phase, then the label term."""
        if progress.phase != "init":
            return {"ce": ce(student.outputs.logits, batch.y)}
        values = [fsp(s1, s2, t1, t2) for (s1, t1), (s2, t2) in self._steps(student, teacher)]
        return {"fsp": self.params.beta * over_stages(values, self.params.stages)}

    def compared(self, student: View, teacher: Any, batch: Batch, progress: Progress) -> tuple[Compared, ...]:
        """Return the flow from each map to the next; in the main phase the answers."""
        if progress.phase != "init":
            return (Compared.answers(student.outputs.logits, None),)
        note = "Each cell: how much one channel of the earlier map and one of the later map are active together."
        axes = ("channel of the earlier map", "of the later map")
        return tuple(
            Compared(f"Flow into {where}", "matrix", _flow(s1, s2), _flow(t1, t2), note, axes=axes)
            for where, ((s1, t1), (s2, t2)) in reversed(placed(list(self._steps(student, teacher))))
        )

    def _steps(self, student: View, teacher: View) -> Iterable[Any]:
        """Return each two consecutive maps, of the student (through its connectors) and of the teacher."""
        maps = self._used(paired(_maps(student.outputs), _maps(teacher.outputs)))
        return pairwise([(connector(s), t) for connector, (s, t) in zip(self.connectors, maps, strict=True)])

    def _used(self, maps: list[Any]) -> list[Any]:
        """Return the maps between which the flow is looked at."""
        return maps[-2:] if self.params.stages == "last" else maps


def _maps(out: Outputs) -> tuple[Tensor, ...]:
    assert out.stem is not None and out.stages is not None
    return (out.stem, *out.stages)


def _flow(first: Tensor, second: Tensor) -> Tensor:
    """Return ``(B, C1, C2)``: the products of the channels of two maps, mean over the places."""
    a, b = (x.flatten(2) for x in match_size(first, second))
    return torch.bmm(a, b.mT) / a.shape[2]
