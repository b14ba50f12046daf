r"""Learning without memorizing: the student looks at the same places of the image as the teacher (Grad-CAM maps).

**Matched**: Grad-CAM maps of the label, made from the map after one stage (``from_end``, counted from the last; the last but
one by default).

**Formula**: w_k = mean over the places of d z[y] / d F_k; M = ReLU(sum_k w_k F_k); L = CE(z_s, y) + beta * mean
|M_s / ||M_s||_2 - M_t / ||M_t||_2|, the norm over the places of an image, the mean over images and places.

**Source**: P. Dhar, R. V. Singh, K.-C. Peng, Z. Wu, R. Chellappa, "Learning without Memorizing", CVPR 2019, arXiv
1811.08051 (attention distillation loss; there it keeps a network that learns new classes from forgetting the old ones);
Grad-CAM: R. R. Selvaraju et al., ICCV 2017, arXiv 1610.02391.

**Differs**: of the paper only this term is here, as in Knowledge-Distillation-Zoo: the class is the label (the paper: the old
class that the teacher finds most likely), and the paper's softened outputs come by combining it with kd. The mean over the
places and weight 0.4 are that code's; for a sum, multiply beta by the number of places. That code multiplies w_k by the
gradient map instead of the map F_k itself (its issue 16), so its table was made with another loss: form="gradient". Where
only an average follows the last stage, as in ResNets, its gradient is the same everywhere, so form="gradient" has nothing to
match there: take an earlier stage. Maps of unequal sizes: the larger is averaged down.
"""

from __future__ import annotations

from typing import Any, Literal

import torch.nn.functional as F
from torch import Tensor

from kdengine.methods import contract
from kdengine.methods._math import ce, exact, label_gradient, match_size, unit
from kdengine.methods.contract import Batch, Card, Compared, Phase, Progress, View, knob
from kdengine.models.contract import NetInfo

CARD = Card(
    key="lwm",
    title="Attention by Grad-CAM (LwM)",
    family="feature",
    year=2019,
    citation="P. Dhar, R. V. Singh, K.-C. Peng, Z. Wu, R. Chellappa, Learning without Memorizing, CVPR 2019",
    links=("https://arxiv.org/abs/1811.08051", "https://arxiv.org/abs/1610.02391"),
    one_line="A heat map shows where a network finds evidence for the label; the student's must look like the teacher's.",
    story=(
        "Every channel of a map responds to something; its gradient tells how much that something speaks for the right class.",
        "The channels, added with these weights, give a heat map of the image: bright where the evidence for the class lies.",
        "Both heat maps are scaled to length one; the student learns the labels and to be convinced by the same places.",
    ),
    analogy="An expert does not only name the bird but points at the stripe on its wing that gives it away.",
    formula=r"\mathcal{L} = \mathrm{CE}(z_s, y) + \frac{\beta}{B\,H\,W}\sum_n \left\| \frac{M_s^{(n)}}{\|M_s^{(n)}\|_2} - "
    r"\frac{M_t^{(n)}}{\|M_t^{(n)}\|_2} \right\|_1,\quad M = \mathrm{ReLU}\Big(\sum_k w_k F_k\Big),\quad "
    r"w_k = \frac{1}{HW}\sum_{hw}\frac{\partial z_y}{\partial F_{khw}}",
    fidelity="paper",
    needs=frozenset({"logits", "stages", "input_gradients"}),
    teacher_mode="graph",
)


class Params(contract.Params):
    """Which map, in which form, and how much it counts."""

    beta: float = knob(0.4, low=0, high=1e6, help="weight of the heat maps", source="Knowledge-Distillation-Zoo: lambda_kd 0.4")
    from_end: int = knob(
        2,
        low=1,
        high=8,
        help="the stage whose map is used, counted from the last: 1 is the last, 2 the one before it",
        source="Knowledge-Distillation-Zoo: stage 2 of 3",
    )
    form: Literal["grad_cam", "gradient"] = knob(
        "grad_cam",
        help="grad_cam: weights times the map, as in the paper; gradient: weights times the gradient, as a known code has it",
        source="the paper; gradient: Knowledge-Distillation-Zoo as published",
    )


@exact
def lwm(cam_s: Tensor, cam_t: Tensor) -> Tensor:
    """Distance of heat maps: mean over images and places of ``|M_s / ||M_s|| - M_t / ||M_t|||``, normalised per image.

    cam_s, cam_t: Grad-CAM maps after their ReLU, ``(B, H, W)`` or ``(B, 1, H, W)``; of unequal sizes the larger is averaged
    down. Scalar, at most 2 / sqrt(H W). A map of zeros counts as zeros.
    """
    if cam_s.shape[1:] != cam_t.shape[1:]:
        cam_s, cam_t = match_size(*(c.unsqueeze(1) if c.dim() == 3 else c for c in (cam_s, cam_t)))
    return (unit(cam_s.flatten(1)) - unit(cam_t.flatten(1))).abs().mean()


LOSSES = (lwm,)


class LwM(contract.Method):
    """Labels, and where the evidence for them lies."""

    @classmethod
    def problems(cls, params: Any, student: NetInfo, teacher: NetInfo | None) -> list[tuple[str, str, str]]:
        """Refuse a stage that one of the networks does not have."""
        last = min(len(n.stages) for n in (student, teacher) if n is not None)
        if params.from_end > last:
            return [(f"from_end {params.from_end}", f"1 to {last}: both networks must have that stage", "choose a smaller one")]
        return []

    @classmethod
    def phases(cls, params: Any) -> tuple[Phase, ...]:
        """One phase; student and teacher run, the student learns."""
        return (Phase(trains=("student",), runs=("student", "teacher")),)

    def loss(self, student: View, teacher: Any, batch: Batch, progress: Progress) -> dict[str, Tensor]:
        """Return the label term and the term of the heat maps."""
        cam_s = self._cam(student, batch.y, create_graph=True)
        cam_t = self._cam(teacher, batch.y, create_graph=False).detach()
        return {"ce": ce(student.outputs.logits, batch.y), "lwm": self.params.beta * lwm(cam_s, cam_t)}

    def compared(self, student: View, teacher: Any, batch: Batch, progress: Progress) -> tuple[Compared, ...]:
        """Return the heat maps of the labels, as the loss normalises them."""
        cams = (self._cam(view, batch.y, create_graph=False) for view in (student, teacher))
        own, theirs = match_size(*cams)
        note = "Bright: the places whose activity speaks for the right class."
        return (
            Compared.seen(
                "Evidence for the right class", "maps", lambda x: unit(x.flatten(1)).view_as(x)[:, 0], own, theirs, note
            ),
        )

    def _cam(self, view: View, labels: Tensor, *, create_graph: bool) -> Tensor:
        """Return a network's heat maps ``(B, 1, H, W)`` of the labels."""
        assert view.outputs.stages is not None
        maps = view.outputs.stages[-self.params.from_end]
        gradient = label_gradient(view.outputs.logits, labels, maps, create_graph=create_graph)
        return _weighted(gradient, maps if self.params.form == "grad_cam" else gradient)


@exact
def _weighted(gradient: Tensor, maps: Tensor) -> Tensor:
    """Return ``ReLU(sum_k w_k F_k)``, the weight of a channel being the mean of its gradient; both ``(B, C, H, W)``."""
    weights = gradient.mean(dim=(2, 3), keepdim=True)
    return F.relu((weights * maps).sum(dim=1, keepdim=True))
