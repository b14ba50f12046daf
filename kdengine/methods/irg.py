r"""Instance relationship graph: images as points, their distances as edges, and how far each one moves between two stages.

**Matched**: the logits (vertices); the distances of all pairs of images in the last two stages' maps and in the embedding
(edges); for each image the distance between its maps of the last two stages (transformation).

**Formula**: L = CE(z_s, y) + beta * (w_vert * L_V + w_edge * L_E + w_tran * L_T). L_V = mean (z_s - z_t)^2; L_E = mean over
the three places of mean_{i,j} (E_s - E_t)^2, E_ij = ||x_i - x_j||^2 / max of the batch; L_T = mean_n (T_s - T_t)^2,
T_n = ||F1_n - F2_n||^2 / max of the batch, F1 and F2 brought to one size.

**Source**: Y. Liu, J. Cao, B. Li, C. Yuan, W. Hu, Y. Li, Y. Duan, "Knowledge Distillation via Instance Relationship Graph",
CVPR 2019, pages 7096 to 7104.

**Differs**: the authors' code is for Caffe; values equal Knowledge-Distillation-Zoo's (its one-to-one mode and tables), which
works for exactly twice the channels in the second stage. Here the wider map's channels are averaged in equal groups, for any
ratio (adaptive average), which is the same for twice. Student and teacher are never compared element by element except in
their logits, so they need no common width, size or number of stages.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch.nn.functional as F
from torch import Tensor

from kdengine.methods import contract
from kdengine.methods._math import ce, distances, exact, match_size, mse
from kdengine.methods.contract import Batch, Card, Compared, Progress, View, knob
from kdengine.models.contract import NetInfo

CARD = Card(
    key="irg",
    title="Instance relationship graph",
    family="relation",
    year=2019,
    citation="Y. Liu, J. Cao, B. Li, C. Yuan, W. Hu, Y. Li, Y. Duan, Knowledge Distillation via Instance Relationship Graph, "
    "CVPR 2019",
    links=("https://github.com/yufanLIU/IRG",),
    one_line="A graph of the batch, with distances as edges, and its change from stage to stage are copied.",
    story=(
        "Draw each image of the batch as a point and write the distance between their maps at the line between two points.",
        "Each stage has such a graph. From one stage to the next every image moves; how far it moves tells what the stage does.",
        "The student learns the labels, the teacher's scores, its graphs, and how far each image moves relative to the others.",
    ),
    analogy="A dance is not learnt from the dancers' height but from who stands how far from whom, and who moves how far next.",
    formula=r"\mathcal{L} = \mathrm{CE}(z_s, y) + \beta\left(w_v\,\overline{(z_s - z_t)^2} + "
    r"\frac{w_e}{3}\sum_{l=1}^{3}\overline{(E^s_l - E^t_l)^2} + w_t\,\overline{(T^s - T^t)^2}\right)",
    fidelity="golden",
    needs=frozenset({"logits", "embedding", "stages"}),
)


class Params(contract.Params):
    """Weights of the graph's three parts and of all together."""

    beta: float = knob(
        1.0, low=0, high=1e6, help="weight of all three parts together", source="Knowledge-Distillation-Zoo's example: 1"
    )
    w_vert: float = knob(
        0.1, low=0, high=1e6, help="weight of the vertices: the teacher's scores", source="Knowledge-Distillation-Zoo: 0.1"
    )
    w_edge: float = knob(
        5.0, low=0, high=1e6, help="weight of the edges: distances between images", source="Knowledge-Distillation-Zoo: 5"
    )
    w_tran: float = knob(
        5.0,
        low=0,
        high=1e6,
        help="weight of the transformation: how far each image moves between two stages",
        source="Knowledge-Distillation-Zoo: 5",
    )


@exact
def irg_edge(rows_s: Tensor, rows_t: Tensor) -> Tensor:
    """Edge loss at one place: mean over all pairs of ``(E_s - E_t)^2``, E = ``||x_i - x_j||^2`` over the batch's greatest.

    rows_s, rows_t ``(B, ...)``: maps or embeddings, flattened here; only B must agree. Scalar in [0, 1].
    """
    return mse(_edges(rows_s), _edges(rows_t))


@exact
def irg_transformation(fm1_s: Tensor, fm2_s: Tensor, fm1_t: Tensor, fm2_t: Tensor) -> Tensor:
    """Transformation loss: mean over the images of ``(T_s - T_t)^2``, T = ``||F1 - F2||^2`` over the batch's greatest.

    All ``(B, C, H, W)``; F1 and F2 of one network may differ in C, H and W: the larger is averaged down. Scalar in [0, 1].
    """
    return mse(_moves(fm1_s, fm2_s), _moves(fm1_t, fm2_t))


@exact
def irg(
    fm1_s: Tensor, fm2_s: Tensor, emb_s: Tensor, logits_s: Tensor, fm1_t: Tensor, fm2_t: Tensor, emb_t: Tensor, logits_t: Tensor,
    weights: Sequence[float] = (0.1, 5.0, 5.0),
) -> Tensor:  # fmt: skip
    """Whole graph: ``weights`` times (vertices, edges, transformation).

    fm1, fm2: maps of the last two stages ``(B, C, H, W)``; emb ``(B, D)``; logits ``(B, K)``. Only B and K must agree between
    student and teacher. Scalar.
    """
    parts = _parts((fm1_s, fm2_s, emb_s, logits_s), (fm1_t, fm2_t, emb_t, logits_t))
    vertices, edges, transformation = (w * part for w, part in zip(weights, parts, strict=True))
    return vertices + edges + transformation


LOSSES = (irg, irg_edge, irg_transformation)


class Irg(contract.Method):
    """Labels and the three parts of the graph."""

    @classmethod
    def problems(cls, params: Any, student: NetInfo, teacher: NetInfo | None) -> list[tuple[str, str, str]]:
        """Refuse a network with a single stage: nothing moves between two of them."""
        nets = [("student", student), *([("teacher", teacher)] if teacher is not None else [])]
        return [
            (f"{side} {net.model} with {len(net.stages)} stage", "two stages or more", f"choose another {side} or another method")
            for side, net in nets
            if len(net.stages) < 2
        ]

    def loss(self, student: View, teacher: Any, batch: Batch, progress: Progress) -> dict[str, Tensor]:
        """Return the label term and the terms of vertices, edges and transformation."""
        p = self.params
        parts = _parts(_graph(student), _graph(teacher))
        names = ("vertices", "edges", "transformation")
        weighted = (p.beta * w * part for w, part in zip((p.w_vert, p.w_edge, p.w_tran), parts, strict=True))
        return {"ce": ce(student.outputs.logits, batch.y)} | dict(zip(names, weighted, strict=True))

    def compared(self, student: View, teacher: Any, batch: Batch, progress: Progress) -> tuple[Compared, ...]:
        """Return the edges at the three places, how far each image moves, and the scores at the vertices."""
        s, t = _graph(student), _graph(teacher)
        far = "Squared distances of all pairs of images, in units of the greatest."
        moves = "How far each image moves between the last two stages, in units of the farthest."
        names = ("after the stage before the last", "after the last stage", "of the embeddings")
        edges = [Compared.seen(f"Edges {name}", "matrix", _edges, a, b, far, axes=("image", "image"))
                 for name, a, b in zip(names, s, t, strict=False)]  # fmt: skip
        moved = Compared("Transformation", "values", _moves(s[0], s[1]), _moves(t[0], t[1]), moves, axes=("", "image"))
        scores = Compared("Vertices: class scores", "scores", s[3], t[3], "The loss is the squared gap between two bars.")
        return (edges[2], *edges[:2], moved, scores)


def _graph(view: View) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Return what the graph is made of: the last two stages' maps, embedding, logits."""
    out = view.outputs
    assert out.stages is not None and out.embedding is not None
    return out.stages[-2], out.stages[-1], out.embedding, out.logits


def _parts(student: tuple[Tensor, ...], teacher: tuple[Tensor, ...]) -> tuple[Tensor, Tensor, Tensor]:
    """Return the losses of vertices, edges (mean of the three places) and transformation, unweighted."""
    (fm1_s, fm2_s, emb_s, logits_s), (fm1_t, fm2_t, emb_t, logits_t) = student, teacher
    edges = irg_edge(emb_s, emb_t) + irg_edge(fm1_s, fm1_t) + irg_edge(fm2_s, fm2_t)
    return mse(logits_s, logits_t), edges / 3, irg_transformation(fm1_s, fm2_s, fm1_t, fm2_t)


def _edges(rows: Tensor) -> Tensor:
    """Return ``(B, B)``: squared distances of all pairs, in units of the greatest."""
    found = distances(rows.flatten(1), squared=True)
    return found / found.amax().clamp(min=1e-12)  # 0 for a single image only


def _moves(first: Tensor, second: Tensor) -> Tensor:
    """Return ``(B,)``: squared distance of an image's two maps, in units of the batch's greatest."""
    first, second = match_size(first, second)
    channels = min(first.shape[1], second.shape[1])
    gap = _averaged_channels(first, channels) - _averaged_channels(second, channels)
    found = gap.square().flatten(1).sum(1).clamp(min=1e-12)
    return found / found.amax()


def _averaged_channels(maps: Tensor, channels: int) -> Tensor:
    """Return ``(B, channels, H, W)``: neighbouring channels averaged, in equal groups where their number is a multiple."""
    if maps.shape[1] == channels:
        return maps
    per_place = F.adaptive_avg_pool1d(maps.flatten(2).mT, channels)  # (B, H W, channels)
    return per_place.mT.unflatten(2, maps.shape[2:])
