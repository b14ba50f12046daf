r"""Relational knowledge distillation: distances between images, and angles in triangles of images, as the teacher sees them.

**Matched**: two relations of the embeddings in a batch: all pairwise distances, in units of their mean, and the cosines of all
angles between three images.

**Formula**: L = CE(z_s, y) + beta * (w_dist * L_D + w_angle * L_A). L_D = mean_{i,j} h(d_ij^s, d_ij^t) with d_ij =
||e_i - e_j|| / mu, mu the mean over i != j, d_ii = 0; L_A = mean_{i,j,k} h(c_ijk^s, c_ijk^t) with c_ijk = <v_ij, v_kj>,
v_ij = (e_i - e_j) / ||e_i - e_j||; h is the Huber loss with delta 1 (smooth L1).

**Source**: W. Park, D. Kim, Y. Lu, M. Cho, "Relational Knowledge Distillation", CVPR 2019, arXiv 1904.05068, section 3
(distance-wise and angle-wise losses).

**Differs**: values equal the authors' code (means over all B^2 pairs and B^3 triples, i = j included). Images whose embeddings
are less than 1e-6 apart give no gradient here; there an angle at two equal images has one of 1e12. Weights 25 and 50 keep the
paper's ratio 1:2 and stand in RepDistiller, mdistiller and Knowledge-Distillation-Zoo, whose tables used them with labels at
weight 1. Time and memory grow with B^3: 64 images have 262,144 angles, 256 have 16.8 million.
"""

from __future__ import annotations

from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from kdengine.methods import contract
from kdengine.methods._math import ce, distances, exact, unit
from kdengine.methods.contract import Batch, Card, Compared, Progress, View, knob

CARD = Card(
    key="rkd",
    title="Relational knowledge distillation",
    family="relation",
    year=2019,
    citation="W. Park, D. Kim, Y. Lu, M. Cho, Relational Knowledge Distillation, CVPR 2019",
    links=("https://arxiv.org/abs/1904.05068", "https://github.com/lenscloth/RKD"),
    one_line="Among the images of a batch the student keeps the teacher's relative distances and angles.",
    story=(
        "Each network turns an image into a list of numbers, its embedding: a point in space. Similar images lie close together.",
        "Take the images of a batch. Any two have a distance, any three form a triangle with angles, in either network's space.",
        "The student is not told where to put its points, only to reproduce the teacher's distances and angles among them.",
    ),
    analogy="A city map may be drawn larger or turned by any angle; it is right as long as distances keep their proportions "
    "and streets meet at their true angles.",
    formula=r"\mathcal{L} = \mathrm{CE}(z_s, y) + \beta\left(w_d\,\frac{1}{B^2}\sum_{i,j} h\!\left(d^s_{ij}, d^t_{ij}\right) + "
    r"w_a\,\frac{1}{B^3}\sum_{i,j,k} h\!\left(\cos\angle^s_{ijk}, \cos\angle^t_{ijk}\right)\right)",
    fidelity="golden",
    needs=frozenset({"logits", "embedding"}),
    min_batch=3,
)


class Params(contract.Params):
    """Weights of the two relations and of both together."""

    beta: float = knob(1.0, low=0, high=1e6, help="weight of distances and angles together", source="RepDistiller -b 1")
    w_dist: float = knob(
        25.0, low=0, high=1e6, help="weight of the distances", source="RepDistiller, mdistiller, Knowledge-Distillation-Zoo: 25"
    )
    w_angle: float = knob(
        50.0, low=0, high=1e6, help="weight of the angles", source="RepDistiller, mdistiller, Knowledge-Distillation-Zoo: 50"
    )


@exact
def rkd_distance(emb_s: Tensor, emb_t: Tensor) -> Tensor:
    """Distance loss: mean over all pairs of ``h(d_s, d_t)``, h = smooth L1, d = ``||e_i - e_j||`` over its mean for i != j.

    emb_s ``(B, Ds)``, emb_t ``(B, Dt)``. Scalar; 0 below three images, where all relative distances are equal.
    """
    return F.smooth_l1_loss(_relative(emb_s), _relative(emb_t))


@exact
def rkd_angle(emb_s: Tensor, emb_t: Tensor) -> Tensor:
    """Angle loss: mean over all triples of ``h(c_s, c_t)``, h = smooth L1, c = cosine of the angle at j between i and k.

    emb_s ``(B, Ds)``, emb_t ``(B, Dt)``. Scalar in [0, 1.5].
    """
    return F.smooth_l1_loss(_cosines(emb_s), _cosines(emb_t))


LOSSES = (rkd_distance, rkd_angle)


class Rkd(contract.Method):
    """Labels, distances and angles, weighted."""

    def loss(self, student: View, teacher: Any, batch: Batch, progress: Progress) -> dict[str, Tensor]:
        """Return the label term, the distance term and the angle term."""
        p, emb_s, emb_t = self.params, student.outputs.embedding, teacher.outputs.embedding
        assert emb_s is not None
        return {
            "ce": ce(student.outputs.logits, batch.y),
            "distance": p.beta * p.w_dist * rkd_distance(emb_s, emb_t),
            "angle": p.beta * p.w_angle * rkd_angle(emb_s, emb_t),
        }

    def compared(self, student: View, teacher: Any, batch: Batch, progress: Progress) -> tuple[Compared, ...]:
        """Return the distances of all pairs of images, and the angles at each image."""
        emb_s, emb_t = student.outputs.embedding, teacher.outputs.embedding
        assert emb_s is not None
        axes = ("image", "image")
        far = "Distances in units of their mean, so that the two networks may have different scales."
        turn = "Cosine of the angle at the chosen image between two others: 1 in one direction, -1 in opposite ones."
        return (
            Compared.seen("Relative distances", "matrix", _relative, emb_s, emb_t, far, axes=axes),
            Compared.seen("Angles at the chosen image", "matrix", _cosines, emb_s, emb_t, turn, axes=axes),
        )


def _relative(emb: Tensor) -> Tensor:
    """Return all distances ``(B, B)`` divided by the mean of those between two different images."""
    found = distances(emb)
    pairs = len(emb) * (len(emb) - 1)
    return found * (pairs / found.sum().clamp(min=1e-12))  # the sum is 0 for a single image only


def _cosines(emb: Tensor) -> Tensor:
    """Return ``(B, B, B)``: at [j, i, k] the cosine of the angle at j between i and k, 0 where one of them is j itself."""
    direction = unit(emb[None] - emb[:, None], dim=2, eps=1e-6)
    return torch.bmm(direction, direction.mT)
