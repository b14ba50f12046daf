r"""Variational information distillation: the student's map must tell as much about the teacher's as possible.

**Matched**: the map after every stage, after its last ReLU. A regressor predicts the teacher's map from the student's, and each
channel has a learnt variance: where the teacher cannot be predicted, it costs less.

**Formula**: L = CE(z_s, y) + beta * sum_l mean 1/2 [ log v_c + (F_t - r(F_s))^2 / v_c ], v_c = softplus(a_c) + eps, the mean over
all N * C * H * W elements; the constant of the Gaussian is left out, so the term may be negative.

**Source**: S. Ahn, S. X. Hu, A. Damianou, N. D. Lawrence, Z. Dai, "Variational Information Distillation for Knowledge
Transfer", CVPR 2019, arXiv 1904.05835, section 3 (variational lower bound of the mutual information, Gaussian with a mean
from the student and a variance per channel).

**Differs**: as in RepDistiller, which has the code from an author: three 1x1 convolutions without BatchNorm, sum over the
stages, initial variance 5, eps 1e-5. mdistiller has the same but does not train the variances. The paper's regressors have
BatchNorm. Knowledge-Distillation-Zoo averages the stages (stages="mean"), has eps 1e-6 and other initial weights; its tables
have weight 1. Weight decay acts on the variances' parameters too, as in both codes. Pre-activation networks (WRN): a stage's
map is taken here after the next BatchNorm and ReLU; RepDistiller takes the raw sums. Maps of unequal size: the larger is
averaged down; channels may differ.
"""

from __future__ import annotations

import math
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from kdengine.methods import contract
from kdengine.methods._math import Stages, ce, exact, match_size, over_stages, paired, placed, used
from kdengine.methods.contract import Batch, Card, Compared, DataInfo, Progress, View, knob
from kdengine.models.contract import NetInfo

CARD = Card(
    key="vid",
    title="Variational information distillation",
    family="feature",
    year=2019,
    citation="S. Ahn, S. X. Hu, A. Damianou, N. D. Lawrence, Z. Dai, Variational Information Distillation for Knowledge "
    "Transfer, CVPR 2019",
    links=("https://arxiv.org/abs/1904.05835",),
    one_line="From the student's map one must be able to guess the teacher's; what cannot be guessed counts less.",
    story=(
        "After each stage a small network, the regressor, guesses the teacher's map from the student's.",
        "For every channel it also learns how far off it usually is; a channel that is hopeless to guess gets a small weight.",
        "The student learns the labels, and to carry in its maps whatever makes the guesses good.",
    ),
    analogy="Good notes are those from which somebody else could retell the lecture; the lecturer's coughs need not be in them.",
    formula=r"\mathcal{L} = \mathrm{CE}(z_s, y) + \beta\sum_l \frac{1}{B\,C H W}\sum \frac{1}{2}\left(\log\sigma_c^2 "
    r"+ \frac{(F_t - r(F_s))^2}{\sigma_c^2}\right),\quad \sigma_c^2 = \mathrm{softplus}(a_c) + \epsilon",
    fidelity="golden",
    needs=frozenset({"logits", "stages"}),
)


class Params(contract.Params):
    """Weight, stages, and the build of the regressors."""

    beta: float = knob(1.0, low=0, high=1e6, help="weight of the guesses", source="RepDistiller, mdistiller: 1")
    stages: Stages = knob("sum", help="how the stages' terms are put together", source="RepDistiller, mdistiller: sum")
    sf: float = knob(
        1.0,
        low=0.05,
        high=8,
        help="channels inside a regressor as a multiple of the teacher's",
        source="RepDistiller and Knowledge-Distillation-Zoo: 1",
    )
    init_var: float = knob(5.0, low=0.1, high=1000, help="variance of every channel at the start", source="RepDistiller: 5")
    eps: float = knob(1e-5, low=1e-8, high=1e-2, help="least variance", source="RepDistiller: 1e-5")


@exact
def vid(mean: Tensor, map_t: Tensor, var: Tensor) -> Tensor:
    """Negative Gaussian log-likelihood without its constant: mean of ``(log var + (map_t - mean)^2 / var) / 2``.

    mean (what the regressor makes of the student's map), map_t: both ``(B, C, H, W)``; var ``(C,)`` > 0. Scalar, may be negative.
    """
    var = var.view(1, -1, 1, 1)
    return 0.5 * (var.log() + (map_t - mean).square() / var).mean()


LOSSES = (vid,)


class Guess(nn.Module):
    """Three 1x1 convolutions that guess the teacher's map, and a variance ``(C,)`` for each of its channels."""

    def __init__(self, channels_s: int, channels_t: int, params: Params) -> None:
        super().__init__()
        middle = max(1, int(params.sf * channels_t))
        self.mean = nn.Sequential(
            nn.Conv2d(channels_s, middle, 1, bias=False), nn.ReLU(),
            nn.Conv2d(middle, middle, 1, bias=False), nn.ReLU(),
            nn.Conv2d(middle, channels_t, 1, bias=False),
        )  # fmt: skip
        start = params.init_var - params.eps
        self.raw = nn.Parameter(torch.full((channels_t,), start + math.log(-math.expm1(-start))))  # softplus of it is start
        self.eps = params.eps

    def forward(self, map_s: Tensor) -> tuple[Tensor, Tensor]:
        """Return the mean ``(B, C, H, W)`` and the variances ``(C,)``."""
        return self.mean(map_s), F.softplus(self.raw) + self.eps


class Vid(contract.Method):
    """Labels and the guesses of the teacher's maps."""

    def __init__(self, params: Any, student: NetInfo, teacher: NetInfo | None, peers: dict[str, NetInfo], data: DataInfo) -> None:
        super().__init__(params, student, teacher, peers, data)
        assert teacher is not None
        shapes = used(paired(student.stages, teacher.stages), params.stages)
        self.guesses = nn.ModuleList(Guess(s[0], t[0], params) for s, t in shapes)

    def loss(self, student: View, teacher: Any, batch: Batch, progress: Progress) -> dict[str, Tensor]:
        """Return the label term and the guesses' term."""
        p, out = self.params, student.outputs
        assert out.stages is not None
        values = [vid(mean, map_t, var) for mean, map_t, var in self._guessed(student, teacher)]
        return {"ce": ce(out.logits, batch.y), "vid": p.beta * over_stages(values, p.stages)}

    def compared(self, student: View, teacher: Any, batch: Batch, progress: Progress) -> tuple[Compared, ...]:
        """Return the guessed maps beside the teacher's, the last stage first, and how far off the guess is held to be."""
        *_, (_, _, var) = guessed = self._guessed(student, teacher)
        note = "What the regressor guesses of the teacher's channels from the student's map; a wrong guess costs."
        maps = [Compared(f"The guess of {where}", "channels", mean, map_t, note, sides=("guess from the student", "teacher"))
                for where, (mean, map_t, _) in placed(guessed)]  # fmt: skip
        spread = "A channel with a large variance is held to be hopeless: a wrong guess of it costs less."
        return (
            *reversed(maps),
            Compared("Variance of each channel, last stage", "values", var, None, spread, axes=("", "channel")),
        )

    def _guessed(self, student: View, teacher: View) -> list[tuple[Tensor, Tensor, Tensor]]:
        """Return per stage the guess, the teacher's map, both ``(B, C, H, W)``, and the variances ``(C,)``."""
        assert student.outputs.stages is not None and teacher.outputs.stages is not None
        pairs = used(paired(student.outputs.stages, teacher.outputs.stages), self.params.stages)
        matched = [match_size(*pair) for pair in pairs]
        found = [(*guess(s), t) for guess, (s, t) in zip(self.guesses, matched, strict=True)]
        return [(mean, map_t, var) for mean, var, map_t in found]
