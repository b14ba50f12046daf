r"""FitNet hints: the student's map in the middle, translated by a small convolution, becomes the teacher's.

**Matched**: the map after one stage (``stage``, counted from 1; 2 of 3 by default), after its last ReLU.

**Formula**: hint = mean over all elements of (r(F_s) - F_t)^2. form="two_stage": first beta * hint alone for ``hint_epochs``
epochs, then L = CE(z_s, y) + lambda * mean_n KL(softmax(z_t / T) || softmax(z_s / T)), lambda falling linearly from
lambda_kd_start to lambda_kd_end over the main phase. form="joint": L = CE(z_s, y) + beta * hint.

**Source**: A. Romero, N. Ballas, S. E. Kahou, A. Chassang, C. Gatta, Y. Bengio, "FitNets: Hints for Thin Deep Nets",
ICLR 2015, arXiv 1412.6550, section 2.2 (hint loss, equation 3, with a convolutional regressor) and 2.3 (two stages); lambda
from 4 to 1 and T = 3 without T^2 as in the authors' code.

**Differs**: the joint form is RepDistiller's and mdistiller's (-b 100), whose tables are the ones people compare with; it needs
form="joint". The paper has half the squared distance, summed over the map: beta scales it here. The authors lower lambda from
epoch 5 to epoch 400; here over the whole main phase. Regressor: 1x1 where the sizes agree, 3x3 with stride 2 or 4x4 transposed
where they differ by 2, otherwise as large as the surplus, as in the paper ("valid"); a student map too small for that meets
the teacher's map averaged down. The paper gives r the non-linearity of the teacher's layer, here a ReLU, because maps after a
ReLU are matched; the BatchNorm before it is RepDistiller's and mdistiller's, and weight 100 rests on it: with regressor="linear",
which has neither, a student of 100 digits gets no further than 20 to 60 % at weight 100, against 88 % at 10, its default.
Knowledge-Distillation-Zoo has no regressor, the last map and weight 0.1 (form="joint", regressor="none", stage=0).
Pre-activation networks (WRN): a stage's map is taken here after the next BatchNorm and ReLU; RepDistiller takes the raw sums,
which bn_relu cannot meet where they are negative.
"""

from __future__ import annotations

from typing import Any, Literal

from torch import Tensor, nn

from kdengine.methods import contract
from kdengine.methods._adapters import resizing_conv
from kdengine.methods._math import ce, match_size, mse, soft_kl
from kdengine.methods.contract import Batch, Card, Compared, DataInfo, Phase, Progress, View, knob
from kdengine.models.contract import NetInfo, Shape

CARD = Card(
    key="fitnet",
    title="FitNet hints",
    family="feature",
    year=2015,
    citation="A. Romero, N. Ballas, S. E. Kahou, A. Chassang, C. Gatta, Y. Bengio, FitNets: Hints for Thin Deep Nets, ICLR 2015",
    links=("https://arxiv.org/abs/1412.6550",),
    one_line="A small convolution translates the student's map in the middle; the result must equal the teacher's map.",
    story=(
        "Half-way through both networks stands a map: for each place of the image, what has been recognised there so far.",
        "The student's map has other channels, so a learnt convolution, the regressor, translates it into the teacher's.",
        "The squared difference is the hint: it tells the student's lower half what to see, not only what to say at the end.",
    ),
    analogy="A cook's apprentice is not only given the finished dish to taste, but also the sauce half-way through.",
    formula=r"\mathcal{L}_{\mathrm{hint}} = \frac{\beta}{|F_t|}\left\| r(F_s) - F_t \right\|_2^2,\qquad "
    r"\mathcal{L}_{\mathrm{main}} = \mathrm{CE}(z_s, y) + \lambda\,\frac{1}{B}\sum_n "
    r"\mathrm{KL}\!\left(\mathrm{softmax}(z_t/T)\,\|\,\mathrm{softmax}(z_s/T)\right)",
    fidelity="golden",
    needs=frozenset({"logits", "stages"}),
    phases=("hint", "main"),
)


class Params(contract.Params):
    """Where the hint is given, how much it counts, and in which form."""

    beta: float = knob(
        100.0,
        low=0,
        high=1e6,
        per={"regressor=linear": 10.0, "regressor=none": 0.1},
        help="weight of the hint",
        source="RepDistiller -b 100, mdistiller FEAT_WEIGHT 100; none: Knowledge-Distillation-Zoo's 0.1; linear: ours, measured",
    )
    stage: int = knob(
        2,
        low=0,
        high=8,
        help="the stage, counted from 1, whose map is matched; 0: the last one of either network",
        source="RepDistiller hint_layer 2",
    )
    regressor: Literal["linear", "bn_relu", "none"] = knob(
        "bn_relu",
        help="bn_relu: a convolution with BatchNorm and ReLU; linear: the convolution alone; none: maps must have equal shapes",
        source="RepDistiller, mdistiller; the paper has a ReLU too, and the weight 100 needs the BatchNorm",
    )
    form: Literal["two_stage", "joint"] = knob(
        "two_stage",
        help="two_stage: the hint first, then labels and soft targets; joint: hint and labels together, as RepDistiller has it",
        source="the paper",
    )
    hint_epochs: int = knob(
        10, low=1, high=1000, help="two_stage: epochs of the hint alone", source="ours; the paper stops by validation"
    )
    T: float = knob(3.0, low=0.5, high=100, help="two_stage: temperature of the soft targets", source="the authors' code: 3")
    lambda_kd_start: float = knob(
        4.0, low=0, high=1000, help="two_stage: weight of the soft targets at the start", source="the authors' code: 4"
    )
    lambda_kd_end: float = knob(1.0, low=0, high=1000, help="two_stage: their weight at the end", source="the authors' code: 1")


def fitnet(map_s: Tensor, map_t: Tensor) -> Tensor:
    """Hint loss: mean over all elements of ``(map_s - map_t)^2``.

    map_s (already translated by the regressor), map_t: both ``(B, C, H, W)``. Scalar.
    """
    return mse(map_s, map_t)


LOSSES = (fitnet,)


class FitNet(contract.Method):
    """The hint, then labels and soft targets; or labels and the hint together."""

    def __init__(self, params: Any, student: NetInfo, teacher: NetInfo | None, peers: dict[str, NetInfo], data: DataInfo) -> None:
        super().__init__(params, student, teacher, peers, data)
        assert teacher is not None
        self.stage = params.stage - 1  # -1, the last one, for 0
        self.regressor = _regressor(student.stages[self.stage], teacher.stages[self.stage], params.regressor)

    @classmethod
    def problems(cls, params: Any, student: NetInfo, teacher: NetInfo | None) -> list[tuple[str, str, str]]:
        """Refuse a stage that one of the networks does not have, and unequal maps without a regressor."""
        if teacher is None:
            return []
        last = min(len(student.stages), len(teacher.stages))
        if params.stage > last:
            return [(f"stage {params.stage}", f"0 to {last}, the stages that both networks have", "choose an earlier stage")]
        shapes = student.stages[params.stage - 1], teacher.stages[params.stage - 1]
        if params.regressor == "none" and shapes[0] != shapes[1]:
            given = f"regressor none with maps {shapes[0]} and {shapes[1]} (channels, height, width)"
            return [(given, "equal shapes, or a regressor", "set regressor=bn_relu, or choose networks of one family")]
        return []

    @classmethod
    def phases(cls, params: Any) -> tuple[Phase, ...]:
        """The hint alone and then soft targets, or one phase."""
        sides = ("student", "teacher")
        if params.form == "joint":
            return (Phase(trains=("student", "method"), runs=sides),)
        return (
            Phase("hint", epochs=params.hint_epochs, trains=("student", "method"), runs=sides),
            Phase(trains=("student",), runs=sides),
        )

    def loss(self, student: View, teacher: Any, batch: Batch, progress: Progress) -> dict[str, Tensor]:
        """Return the hint, later labels and soft targets; in the joint form labels and the hint."""
        p = self.params
        if progress.phase == "hint":
            return {"hint": self._hint(student, teacher)}
        logits = student.outputs.logits
        terms = {"ce": ce(logits, batch.y)}
        if p.form == "joint":
            return terms | {"hint": self._hint(student, teacher)}
        weight = p.lambda_kd_start + (p.lambda_kd_end - p.lambda_kd_start) * progress.fraction
        # the authors' soft targets carry no T^2
        return terms | {"kd": weight / p.T**2 * soft_kl(logits, teacher.outputs.logits, p.T)}

    def compared(self, student: View, teacher: Any, batch: Batch, progress: Progress) -> tuple[Compared, ...]:
        """Return the student's map before and behind the regressor; where labels and soft targets count, the answers."""
        p, out, theirs = self.params, student.outputs, teacher.outputs
        if progress.phase == "main" and p.form == "two_stage":
            return (Compared.answers(out.logits, theirs.logits, p.T),)
        assert out.stages is not None
        map_s, map_t = out.stages[self.stage], theirs.stages[self.stage]
        own, hint = match_size(self.regressor(map_s), map_t)
        note = "The loss is the squared gap between the student's channel, as the regressor translates it, and the teacher's."
        return (
            Compared("The hint, channel by channel", "channels", own, hint, note, sides=("student, translated", "teacher")),
            Compared("The student's own channels", "channels", map_s, None, "What the regressor is given."),
        )

    def _hint(self, student: View, teacher: View) -> Tensor:
        map_s, map_t = student.outputs.stages, teacher.outputs.stages
        assert map_s is not None and map_t is not None
        return self.params.beta * fitnet(*match_size(self.regressor(map_s[self.stage]), map_t[self.stage]))


def _regressor(shape_s: Shape, shape_t: Shape, kind: str) -> nn.Module:
    """Return the layer that gives a student's map the teacher's channels and, where a convolution can, its size."""
    if kind == "none":
        return nn.Identity()
    layer = resizing_conv(shape_s, shape_t)
    return layer if kind == "linear" else nn.Sequential(layer, nn.BatchNorm2d(shape_t[0]), nn.ReLU())
