r"""Boundary supporting samples: images are pushed just across the teacher's decision boundary, and the student learns there.

**Matched**: softened probabilities, on the images themselves and on images that an attack on the teacher has moved to the
boundary between the right class and another one.

**Formula**: KL_T = mean_n KL(softmax(z_t / T) || softmax(z_s / T)), without T^2. form="official": L = CE(z_s, y) + r KL_T(images)
+ a KL_T(moved images), r = lambda_clean (1 + 3 (1 - e / E)), a = lambda_kd max(1 - 4/3 e / E, 0), e = 1..E. form="zoo": L =
CE(z_s, y) + a KL_T(moved images), a = 0 in the first 5 % of the epochs, then lambda_kd max(1 - 5/4 (e - 1) / E, 0).
An attack takes ``attack_steps`` steps: while the teacher still says y, x <- x + step_size (s_y - s_k + 1e-4) g / ||g||_2, g the
gradient of s_k - s_y, k the target class, within the range of pixels. Scores s: logits (official), probabilities (zoo).

**Source**: B. Heo, M. Lee, S. Yun, J. Y. Choi, "Knowledge Distillation with Adversarial Samples Supporting Decision Boundary",
AAAI 2019, arXiv 1805.05532 (iterative attack, choice of base samples and target class), and the authors' code
(bhheo/BSS_distillation), whose weights, schedules and step are taken.

**Differs**: the authors write cross-entropies with soft targets; KL differs by the teacher's entropy, a constant, so gradients
are equal. Knowledge-Distillation-Zoo, and its table, has form="zoo": no soft targets on the images themselves; its 10 epochs
without boundary samples are of 200, here ``warmup_frac``. Attacked are always ``attack_size`` images, those that count and, if
there are fewer, others whose term is masked, so that shapes never change; the student's BatchNorm sees these too. Pixels stay
within the range that the dataset's normalisation gives each channel; both codes cut at -2.5 and 2.5, which fits CIFAR alone.
A gradient of zero moves nothing, there it gives NaN. All steps are done where both codes stop once every image has flipped:
flipped images do not move any more, so the result is the same.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Literal

import torch
import torch.nn.functional as F
from torch import Tensor

from kdengine.methods import contract
from kdengine.methods._math import ce, exact
from kdengine.methods.contract import Batch, Card, Compared, DataInfo, Phase, Progress, View, knob
from kdengine.models.contract import NetInfo, Outputs

CARD = Card(
    key="bss",
    title="Boundary supporting samples (BSS)",
    family="response",
    year=2019,
    citation="B. Heo, M. Lee, S. Yun, J. Y. Choi, Knowledge Distillation with Adversarial Samples Supporting Decision Boundary, "
    "AAAI 2019",
    links=("https://arxiv.org/abs/1805.05532", "https://github.com/bhheo/BSS_distillation"),
    one_line="Images are nudged until the teacher wavers between two classes; there the student learns where the border runs.",
    story=(
        "Images that both networks get right say little about where one class ends and the next begins.",
        "So each is changed a little, step by step in the direction in which the teacher doubts most, until its answer flips.",
        "On these border cases, and on the images themselves, the student learns the teacher's softened probabilities.",
    ),
    analogy="To learn where a neighbour's land begins, one does not ask in the middle of the field but walks along the fence.",
    formula=r"\mathcal{L} = \mathrm{CE}(z_s, y) + r(e)\,\mathrm{KL}_T(x) + a(e)\,\mathrm{KL}_T(\tilde{x}),\quad "
    r"\tilde{x} \gets \tilde{x} + \eta\,(s_y - s_k)\,\frac{g}{\|g\|_2},\quad g = \nabla_{\tilde{x}}(s_k - s_y)",
    fidelity="golden",
    teacher_mode="graph",
    batch_order_matters=True,
)


class Params(contract.Params):
    """The two weights and their course, the temperature, and the attack."""

    form: Literal["official", "zoo"] = knob(
        "official",
        help="official: soft targets on images and boundary samples; zoo: on boundary samples only, attack by probabilities",
        source="the authors' code; zoo: Knowledge-Distillation-Zoo",
    )
    lambda_kd: float = knob(
        2.0, low=0, high=1000, help="weight of the boundary samples at the start; it falls to 0", source="both codes: 2"
    )
    lambda_clean: float = knob(
        1.0,
        low=0,
        high=1000,
        help="official: weight of the soft targets on the images at the end; it starts four times as large",
        source="the authors' code: 4 to 1",
    )
    T: float = knob(3.0, low=0.5, high=100, help="temperature of the soft targets", source="both codes: 3")
    attack_size: int = knob(
        0,
        low=0,
        high=4096,
        help="images of a batch that are moved to the boundary, at most the whole batch; 0: a quarter of the batch",
        source="a quarter of the batch in both codes: 32 of 128, 64 of 256",
    )
    attack_steps: int = knob(10, low=1, high=100, help="steps of the attack", source="both codes: 10")
    step_size: float = knob(
        0.3, low=0, high=100, help="length of a step, in normalised pixel values, for a lead of 1", source="both codes: 0.3"
    )
    warmup_frac: float = knob(
        0.05,
        low=0,
        high=1,
        help="zoo: share of the epochs before boundary samples",
        source="Knowledge-Distillation-Zoo: 10 of 200",
    )


@exact
def bss(logits_s: Tensor, logits_t: Tensor, T: float = 3.0, counts: Tensor | None = None) -> Tensor:
    """Divergence from softened probabilities: ``1 / B * sum_n KL(softmax(z_t / T) || softmax(z_s / T))``, without ``T^2``.

    logits_s, logits_t ``(B, K)``; T > 0; counts ``(B,)`` bool: the rows that count (all if None), 0 where none does. Scalar,
    nats.
    """
    log_s, log_t = F.log_softmax(logits_s / T, dim=1), F.log_softmax(logits_t / T, dim=1)
    rows = F.kl_div(log_s, log_t, reduction="none", log_target=True).sum(1)
    return rows.mean() if counts is None else (rows * counts).sum() / counts.sum().clamp(min=1)


LOSSES = (bss,)


class BoundarySamples(contract.Method):
    """Labels, soft targets on the images, soft targets on images at the teacher's boundary."""

    low: Tensor
    high: Tensor

    def __init__(self, params: Any, student: NetInfo, teacher: NetInfo | None, peers: dict[str, NetInfo], data: DataInfo) -> None:
        super().__init__(params, student, teacher, peers, data)
        self.register_buffer("low", torch.tensor(data.low)[:, None, None])
        self.register_buffer("high", torch.tensor(data.high)[:, None, None])

    @classmethod
    def phases(cls, params: Any) -> tuple[Phase, ...]:
        """One phase; student and teacher run, the student learns."""
        return (Phase(trains=("student",), runs=("student", "teacher")),)

    def loss(self, student: View, teacher: Any, batch: Batch, progress: Progress) -> dict[str, Tensor]:
        """Return the label term, the soft targets on the images (official form), and the term of the boundary samples.

        The attack is left out in epochs in which it has no weight.
        """
        p, logits, logits_t = self.params, student.outputs.logits, teacher.outputs.logits.detach()
        clean, boundary = weights(p, progress.epoch + 1, progress.epochs)
        terms = {"ce": ce(logits, batch.y)}
        if p.form == "official":
            terms["kd"] = clean * bss(logits, logits_t, p.T)
        if boundary == 0:
            return terms | {"bss": torch.zeros((), device=logits.device)}
        x, _, counts = self._attacked(student, teacher, batch, progress)
        with torch.no_grad():
            moved_t = teacher(x).logits
        return terms | {"bss": boundary * bss(student(x).logits, moved_t, p.T, counts)}

    def compared(self, student: View, teacher: Any, batch: Batch, progress: Progress) -> tuple[Compared, ...]:
        """Return the images at the teacher's border, and both networks' answers there; else the answers on the images."""
        p, logits_t = self.params, teacher.outputs.logits
        if weights(p, progress.epoch + 1, progress.epochs)[1] == 0:
            return (Compared.answers(student.outputs.logits, logits_t, p.T),)
        moved, chosen, counts = self._attacked(student, teacher, batch, progress)
        kept = counts if counts.any() else ~counts
        x, of = moved[kept], chosen[kept]
        shift = "Each image is pushed, step by step, towards where the teacher changes its mind; a small change does."
        turn = "What the teacher says of the image as it is, and of the image at the border."
        return (
            Compared("Images moved to the border", "images", batch.x[of], x, shift, ("image", "moved"), of=of),
            Compared.answers(student(x).logits, teacher(x).logits, p.T, title="Answers on the moved images", of=of),
            Compared.answers(logits_t[of], teacher(x).logits, p.T, title="The teacher before and after", note=turn,
                             sides=("teacher, image", "teacher, moved"), of=of),
        )  # fmt: skip

    def _attacked(self, student: View, teacher: Any, batch: Batch, progress: Progress) -> tuple[Tensor, Tensor, Tensor]:
        """Return images at the teacher's boundary ``(n, C, H, W)``, their places in the batch, and which of them count."""
        logits, logits_t = student.outputs.logits.detach(), teacher.outputs.logits.detach()
        chosen, counts = candidates(logits, logits_t, batch.y, self.params.attack_size or max(2, len(batch.y) // 4))
        target = draw_targets(logits_t[chosen], progress.generator)
        x = to_boundary(teacher, batch.x.detach()[chosen], batch.y[chosen], target, self.low, self.high, self.params)
        return x, chosen, counts


def weights(params: Any, epoch: int, epochs: int) -> tuple[float, float]:
    """Return the weights of the soft targets on the images and on the boundary samples in ``epoch``, 1 to ``epochs``."""
    if params.form == "official":
        clean, boundary = 1 + 3 * (1 - epoch / epochs), 1 - 4 * epoch / (3 * epochs)
    else:
        clean, boundary = 0.0, 1 - 1.25 * (epoch - 1) / epochs
        if epoch <= round(params.warmup_frac * epochs):
            boundary = 0.0
    return params.lambda_clean * clean, params.lambda_kd * max(boundary, 0.0)


@torch.no_grad()
def candidates(logits_s: Tensor, logits_t: Tensor, labels: Tensor, size: int) -> tuple[Tensor, Tensor]:
    """Return indices ``(n,)`` of the images to attack, and which of them count ``(n,)`` bool; n = size, at most the batch.

    Images count that both networks get right; the first are those on whose other classes they disagree most.
    """
    apart = (logits_t.float().softmax(1) - logits_s.float().softmax(1)).square()
    score = apart.sum(1) - apart.gather(1, labels[:, None]).squeeze(1)
    both_right = (logits_s.argmax(1) == labels) & (logits_t.argmax(1) == labels)
    found, chosen = score.masked_fill(~both_right, -1.0).topk(min(size, len(labels)))
    return chosen, found > -1.0


@torch.no_grad()
def draw_targets(logits_t: Tensor, generator: torch.Generator) -> Tensor:
    """Return for each row ``(n, K)`` a class other than its top one, drawn in proportion to the teacher's probabilities."""
    log_p = logits_t.float().log_softmax(1)
    # the least of exponential times at these rates is such a draw, also where all rates but the top class's are nearly 0
    uniform = torch.rand(log_p.shape, generator=generator, device=log_p.device)
    race = log_p - (-uniform.log()).log()
    return race.scatter(1, log_p.argmax(1, keepdim=True), -torch.inf).argmax(1)


def to_boundary(
    teacher: Callable[[Tensor], Outputs], x: Tensor, labels: Tensor, target: Tensor, low: Tensor, high: Tensor, params: Any
) -> Tensor:
    """Return images ``x (n, C, H, W)`` moved until the teacher no longer says ``labels (n,)``, towards ``target (n,)``.

    ``low``, ``high``: bounds of the pixels, ``(C, 1, 1)``. Gradients are taken by the images alone; no parameter gets one.
    """
    for _ in range(params.attack_steps):
        x = x.detach().requires_grad_()
        logits = teacher(x).logits
        lead = _lead(logits, labels, target, params.form)
        (gradient,) = torch.autograd.grad(-lead.sum(), x)
        length = torch.linalg.vector_norm(gradient, dim=(1, 2, 3)).clamp(min=1e-20)
        step = params.step_size * (lead.detach() + 1e-4) * (logits.argmax(1) == labels) / length
        x = (x.detach() + step[:, None, None, None] * gradient).clamp(low, high)
    return x.detach()


@exact
def _lead(logits: Tensor, labels: Tensor, target: Tensor, form: str) -> Tensor:
    """Return ``(n,)`` by how much the label's score exceeds the target's: logits, or probabilities in the form of the zoo."""
    scores = logits if form == "official" else logits.softmax(1)
    return (scores.gather(1, labels[:, None]) - scores.gather(1, target[:, None])).squeeze(1)
