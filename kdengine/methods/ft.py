r"""Factor transfer: the student imitates a digest of the teacher's last map, made by a small auto-encoder.

**Matched**: factors, that is the teacher's last map (after its ReLU) as the paraphraser's encoder condenses it, and the
student's last map as the translator renders it.

**Formula**: phase ``paraphraser``: L = mean (P(F_t) - F_t)^2, without labels. Phase ``main``: L = CE(z_s, y) + beta *
mean |f_t / ||f_t||_2 - f_s / ||f_s||_2|, f flattened and normalised per image, the mean over all N * C * H * W elements.

**Source**: J. Kim, S. Park, N. Kwak, "Paraphrasing Complex Network: Network Compression via Factor Transfer", NeurIPS 2018,
arXiv 1802.04977, section 3 (reconstruction loss of the paraphraser, factor transfer loss of the translator, p = 1).

**Differs**: no BatchNorm in either module, as in the authors' code; Knowledge-Distillation-Zoo has it in both on CIFAR-10
(batchnorm=true), not on CIFAR-100, and RepDistiller in the translator alone. The paraphraser's 30 epochs at a tenth of the
learning rate are Knowledge-Distillation-Zoo's and RepDistiller's; the authors' script makes 6 passes at the full rate.
form="attention" is RepDistiller's loss, which squares the factors, averages them over the channels and compares those H x W
maps: another loss under the same name, so its published weight 200 belongs to that form. Weight 200 of
Knowledge-Distillation-Zoo belongs to form="factor". Pre-activation networks (WRN): the last map is taken here after the last
BatchNorm and ReLU; RepDistiller takes the raw sum. Factors of unequal size: the larger is averaged down.
"""

from __future__ import annotations

from typing import Any, Literal

import torch
from torch import Tensor, nn

from kdengine.methods import contract
from kdengine.methods._math import ce, exact, match_size, mse, unit
from kdengine.methods.contract import Batch, Card, Compared, DataInfo, Phase, Progress, View, knob
from kdengine.models.contract import NetInfo

CARD = Card(
    key="ft",
    title="Factor transfer",
    family="feature",
    year=2018,
    citation="J. Kim, S. Park, N. Kwak, Paraphrasing Complex Network: Network Compression via Factor Transfer, NeurIPS 2018",
    links=("https://arxiv.org/abs/1802.04977", "https://github.com/Jangho-Kim/Factor-Transfer-pytorch"),
    one_line="An auto-encoder digests what the teacher saw; the student learns to produce the same digest.",
    story=(
        "First only the paraphraser learns: it squeezes the teacher's last map into fewer channels, the factors, and back again.",
        "Then it is frozen. A translator of the same build turns the student's last map into factors of its own.",
        "Both factors are scaled to length one; the student learns the labels and to make its factors equal the teacher's.",
    ),
    analogy="Lecture notes are hard to copy; an editor first writes a summary, and the student learns to write that summary.",
    formula=r"\mathcal{L} = \mathrm{CE}(z_s, y) + \frac{\beta}{B\,C\,H\,W}\sum_n "
    r"\left\| \frac{f_t^{(n)}}{\|f_t^{(n)}\|_2} - \frac{f_s^{(n)}}{\|f_s^{(n)}\|_2} \right\|_1",
    fidelity="golden",
    needs=frozenset({"logits", "stages"}),
    phases=("paraphraser", "main"),
)


class Params(contract.Params):
    """Weight of the factors, their number, and how long the paraphraser learns."""

    beta: float = knob(
        500.0,
        low=0,
        high=1e6,
        per={"form=attention": 200.0},
        help="weight of the factors; large, because the mean over normalised elements is tiny",
        source="the authors' script: 500 (ResNet-56 to 20, CIFAR-10); RepDistiller -b 200 for its form",
    )
    k: float = knob(
        0.5, low=0.05, high=4, help="channels of the factors as a share of the teacher's channels", source="the paper: 0.5"
    )
    paraphraser_epochs: int = knob(
        30,
        low=1,
        high=1000,
        help="epochs in which the paraphraser learns, before the student starts",
        source="Knowledge-Distillation-Zoo and RepDistiller: 30",
    )
    form: Literal["factor", "attention"] = knob(
        "factor", help="factor: whole normalised factors; attention: RepDistiller's maps of mean squares", source="the paper"
    )
    batchnorm: bool = knob(
        False,
        help="BatchNorm behind every convolution of both modules, as the zoo has it on CIFAR-10",
        source="the authors' code",
    )


@exact
def ft(factor_s: Tensor, factor_t: Tensor) -> Tensor:
    """Factor loss: mean over all elements of ``|f_t / ||f_t|| - f_s / ||f_s|||``, normalised per image.

    factor_s, factor_t: both ``(B, C, H, W)``. Scalar, at most 2 / sqrt(C H W).
    """
    return (unit(factor_s.flatten(1)) - unit(factor_t.flatten(1))).abs().mean()


@exact
def ft_attention(factor_s: Tensor, factor_t: Tensor) -> Tensor:
    """Factor loss in RepDistiller's form: ``ft`` of the maps ``mean_c f^2``, which have one channel.

    factor_s ``(B, Cs, H, W)``, factor_t ``(B, Ct, H, W)``. Scalar, at most 2 / sqrt(H W).
    """
    return ft(factor_s.pow(2).mean(1, keepdim=True), factor_t.pow(2).mean(1, keepdim=True))


LOSSES = (ft, ft_attention)


class Paraphraser(nn.Module):
    """Auto-encoder of three 3x3 convolutions and three transposed ones, LeakyReLU(0.1) after each; sizes stay."""

    def __init__(self, channels: int, factors: int, norm: bool) -> None:
        super().__init__()
        self.encoder = _encoder(channels, factors, norm)
        self.decoder = nn.Sequential(
            *_layer(nn.ConvTranspose2d, factors, factors, norm),
            *_layer(nn.ConvTranspose2d, factors, channels, norm),
            *_layer(nn.ConvTranspose2d, channels, channels, norm),
        )

    def forward(self, x: Tensor) -> Tensor:
        """Map ``(B, C, H, W)`` to its reconstruction of the same shape."""
        reconstruction: Tensor = self.decoder(self.encoder(x))
        return reconstruction


class FactorTransfer(contract.Method):
    """First the paraphraser alone, then labels and factors."""

    def __init__(self, params: Any, student: NetInfo, teacher: NetInfo | None, peers: dict[str, NetInfo], data: DataInfo) -> None:
        super().__init__(params, student, teacher, peers, data)
        assert teacher is not None
        channels_s, channels_t = student.stages[-1][0], teacher.stages[-1][0]
        factors = max(1, int(params.k * channels_t))
        self.paraphraser = Paraphraser(channels_t, factors, params.batchnorm)
        self.translator = _encoder(channels_s, factors, params.batchnorm)

    @classmethod
    def phases(cls, params: Any) -> tuple[Phase, ...]:
        """The paraphraser learns from the teacher alone; then student and translator learn from both."""
        epochs = params.paraphraser_epochs
        return (
            Phase("paraphraser", epochs=epochs, trains=("method.paraphraser",), runs=("teacher",), lr_scale=0.1),
            Phase(trains=("student", "method.translator"), runs=("student", "teacher")),
        )

    def loss(self, student: View, teacher: Any, batch: Batch, progress: Progress) -> dict[str, Tensor]:
        """Return the reconstruction term in the first phase, then the label term and the factor term."""
        map_t = teacher.outputs.stages[-1]
        if progress.phase == "paraphraser":
            return {"rec": mse(self.paraphraser(map_t), map_t)}
        maps_s = student.outputs.stages
        assert maps_s is not None
        with torch.no_grad():
            factor_t = self.paraphraser.encoder(map_t)
        factors = match_size(self.translator(maps_s[-1]), factor_t)
        distance = ft(*factors) if self.params.form == "factor" else ft_attention(*factors)
        return {"ce": ce(student.outputs.logits, batch.y), "ft": self.params.beta * distance}

    def compared(self, student: View, teacher: Any, batch: Batch, progress: Progress) -> tuple[Compared, ...]:
        """Return the factors as the loss normalises them; in the first phase the teacher's map and its reconstruction."""
        map_t = teacher.outputs.stages[-1]
        if progress.phase == "paraphraser":
            note = "The paraphraser squeezes the teacher's map into few factors and must get the map back from them."
            sides = ("reconstruction", "teacher")
            return (
                Compared("The teacher's map and its reconstruction", "channels", self.paraphraser(map_t), map_t, note, sides),
            )
        assert student.outputs.stages is not None
        own, theirs = match_size(self.translator(student.outputs.stages[-1]), self.paraphraser.encoder(map_t))
        if self.params.form == "attention":
            own, theirs = (x.pow(2).mean(1, keepdim=True) for x in (own, theirs))
        note = "Each channel is one factor; the loss is the gap between the two, each image scaled to length one."
        return (Compared.seen("Factors", "channels", lambda x: unit(x.flatten(1)).view_as(x), own, theirs, note),)


def _encoder(channels: int, factors: int, norm: bool) -> nn.Sequential:
    return nn.Sequential(
        *_layer(nn.Conv2d, channels, channels, norm),
        *_layer(nn.Conv2d, channels, factors, norm),
        *_layer(nn.Conv2d, factors, factors, norm),
    )


def _layer(kind: type[nn.Conv2d] | type[nn.ConvTranspose2d], channels_in: int, channels_out: int, norm: bool) -> list[nn.Module]:
    norms = [nn.BatchNorm2d(channels_out)] if norm else []
    return [kind(channels_in, channels_out, 3, stride=1, padding=1, bias=not norm), *norms, nn.LeakyReLU(0.1)]
