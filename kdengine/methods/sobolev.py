r"""Sobolev training: the student's output shall change with the image in the same direction as the teacher's.

**Matched**: the gradient of the label's logit by the pixels of the image, scaled to length one for each image.

**Formula**: g = d z[y] / d x; L = CE(z_s, y) + beta * mean (g_s / ||g_s||_2 - g_t / ||g_t||_2)^2, the norm over all pixels and
channels of an image, the mean over all N * C * H * W elements.

**Source**: W. M. Czarnecki, S. Osindero, M. Jaderberg, G. Swirszcz, R. Pascanu, "Sobolev Training for Neural Networks",
NeurIPS 2017, arXiv 1706.04859 (derivatives of the target function as further targets); S. Srinivas, F. Fleuret, "Knowledge
Transfer with Jacobian Matching", ICML 2018, arXiv 1803.00443 (gradients by the input in distillation).

**Differs**: which gradient, its scaling and weight 20 are those of Knowledge-Distillation-Zoo, and of its table: of the
Jacobian only the row of the true label, and no term on the outputs themselves; combine it with kd for that. An image whose
gradient is zero counts as a vector of zeros and passes no gradient on; dividing it by a tiny number, as that code does, would
multiply its gradient by 1e12. In train mode BatchNorm couples the images of a batch, so the student's gradient by one image
contains its influence on the others, there as here.
"""

from __future__ import annotations

from typing import Any

from torch import Tensor

from kdengine.methods import contract
from kdengine.methods._math import ce, exact, label_gradient, mse, unit
from kdengine.methods.contract import Batch, Card, Compared, Phase, Progress, View, knob

CARD = Card(
    key="sobolev",
    title="Sobolev training (Jacobian matching)",
    family="response",
    year=2017,
    citation="W. M. Czarnecki, S. Osindero, M. Jaderberg, G. Swirszcz, R. Pascanu, Sobolev Training for Neural Networks, "
    "NeurIPS 2017",
    links=("https://arxiv.org/abs/1706.04859", "https://arxiv.org/abs/1803.00443"),
    one_line="The student must react to every pixel as the teacher does, not only give similar answers.",
    story=(
        "For every pixel one can ask: if it became a little brighter, would the network believe more or less in the right class?",
        "All these answers together are a picture of the image's size: the gradient. Teacher and student each have one.",
        "Both pictures are scaled to the same strength; the student learns the labels and to match the teacher's picture.",
    ),
    analogy="Two drivers can be on the same spot of the road; to drive alike, their hands must also answer every bend alike.",
    formula=r"\mathcal{L} = \mathrm{CE}(z_s, y) + \frac{\beta}{B\,|x|}\sum_n \left\| \frac{g_s^{(n)}}{\|g_s^{(n)}\|_2} - "
    r"\frac{g_t^{(n)}}{\|g_t^{(n)}\|_2} \right\|_2^2,\quad g = \frac{\partial z_y}{\partial x}",
    fidelity="golden",
    needs=frozenset({"logits", "input_gradients"}),
    teacher_mode="graph",
)


class Params(contract.Params):
    """How much the gradients count."""

    beta: float = knob(
        20.0,
        low=0,
        high=1e6,
        help="weight of the gradients by the pixels",
        source="Knowledge-Distillation-Zoo: lambda_kd 20",
    )


@exact
def sobolev(grad_s: Tensor, grad_t: Tensor) -> Tensor:
    """Distance of input gradients: mean over all elements of ``(g_s / ||g_s|| - g_t / ||g_t||)^2``, normalised per image.

    grad_s, grad_t: both ``(B, C, H, W)`` (or any shape that begins with B). Scalar, at most 4 / (C H W).
    """
    return mse(unit(grad_s.flatten(1)), unit(grad_t.flatten(1)))


LOSSES = (sobolev,)


class Sobolev(contract.Method):
    """Labels, and the direction of the gradients by the image."""

    @classmethod
    def phases(cls, params: Any) -> tuple[Phase, ...]:
        """One phase; student and teacher run, the student learns."""
        return (Phase(trains=("student",), runs=("student", "teacher")),)

    def loss(self, student: View, teacher: Any, batch: Batch, progress: Progress) -> dict[str, Tensor]:
        """Return the label term and the term of the gradients."""
        logits = student.outputs.logits
        grad_s = label_gradient(logits, batch.y, batch.x, create_graph=True)
        grad_t = label_gradient(teacher.outputs.logits, batch.y, batch.x)
        return {"ce": ce(logits, batch.y), "sobolev": self.params.beta * sobolev(grad_s, grad_t)}

    def compared(self, student: View, teacher: Any, batch: Batch, progress: Progress) -> tuple[Compared, ...]:
        """Return how the right class's score depends on every pixel, as the loss normalises it, added up over the colours."""
        grads = (label_gradient(v.outputs.logits, batch.y, batch.x) for v in (student, teacher))
        own, theirs = (unit(g.flatten(1)).view_as(g).sum(1) for g in grads)
        note = "Where a brighter pixel would raise the score of the right class (positive), and where it would lower it."
        return (Compared("What each pixel does for the right class", "maps", own, theirs, note),)
