r"""Similarity-preserving distillation: pairs of images that look alike to the teacher shall look alike to the student.

**Matched**: the B x B matrix of similarities of the images in a batch, from flattened maps.

**Formula**: L = CE(z_s, y) + beta * over stages of 1 / B^2 * ||G_s - G_t||_F^2, where G is A A^T with each row scaled to
length one and A (B, C H W) the flattened maps.

**Source**: F. Tung, G. Mori, "Similarity-Preserving Knowledge Distillation", ICCV 2019, arXiv 1907.09682, section 3.

**Differs**: values equal RepDistiller's, which says that the first author checked it. The last stage's map, as in RepDistiller
and mdistiller (their tables); Knowledge-Distillation-Zoo's tables have the mean over three stages (stages=mean). The row
of an image whose map is all zeros stays zero without a gradient; in those codes it has one of 1e12. Each row's length depends
on the batch, so the weight suits batches of about 64.
"""

from __future__ import annotations

from typing import Any

from torch import Tensor

from kdengine.methods import contract
from kdengine.methods._math import Stages, ce, exact, mse, over_stages, paired, placed, unit, used
from kdengine.methods.contract import Batch, Card, Compared, Progress, View, knob

CARD = Card(
    key="sp",
    title="Similarity-preserving distillation",
    family="relation",
    year=2019,
    citation="F. Tung, G. Mori, Similarity-Preserving Knowledge Distillation, ICCV 2019",
    links=("https://arxiv.org/abs/1907.09682",),
    one_line="Images that resemble one another in the teacher's eyes shall do so in the student's.",
    story=(
        "Each image leaves a pattern of activity in a network. Two images with similar patterns are similar to that network.",
        "For a batch this gives a table: how much each image resembles each other one. Its size does not depend on the network.",
        "The student learns the labels and to have the teacher's table; how its own patterns look is left to it.",
    ),
    analogy="Two librarians may use different shelf marks; what counts is that the same books stand side by side.",
    formula=r"\mathcal{L} = \mathrm{CE}(z_s, y) + \frac{\beta}{B^2}\left\| G_s - G_t \right\|_F^2,\quad "
    r"G_{[i,:]} = \frac{(A A^\top)_{[i,:]}}{\left\| (A A^\top)_{[i,:]} \right\|_2}",
    fidelity="golden",
    needs=frozenset({"logits", "stages"}),
)


class Params(contract.Params):
    """How much the similarities count, and of which stages."""

    beta: float = knob(
        3000.0,
        low=0,
        high=1e6,
        help="weight of the similarities; large, because a mean over B^2 small numbers is tiny",
        source="the paper, RepDistiller, mdistiller, Knowledge-Distillation-Zoo: 3000",
    )
    stages: Stages = knob(
        "last", help="last: the last stage alone; sum or mean: over all stages", source="RepDistiller, mdistiller: last"
    )


@exact
def sp(map_s: Tensor, map_t: Tensor) -> Tensor:
    """Similarity loss: mean over all pairs of ``(G_s - G_t)^2``; G = ``A A^T``, rows scaled to length one, A flattened maps.

    map_s ``(B, Cs, Hs, Ws)``, map_t ``(B, Ct, Ht, Wt)``. Scalar, at most 4 / B.
    """
    return mse(_similarities(map_s), _similarities(map_t))


LOSSES = (sp,)


class SimilarityPreserving(contract.Method):
    """Labels and the similarities of each pair of stages."""

    def loss(self, student: View, teacher: Any, batch: Batch, progress: Progress) -> dict[str, Tensor]:
        """Return the label term and the similarity term."""
        p, maps_s = self.params, student.outputs.stages
        assert maps_s is not None
        pairs = paired(maps_s, teacher.outputs.stages)
        values = [sp(map_s, map_t) for map_s, map_t in (pairs[-1:] if p.stages == "last" else pairs)]
        return {"ce": ce(student.outputs.logits, batch.y), "sp": p.beta * over_stages(values, p.stages)}

    def compared(self, student: View, teacher: Any, batch: Batch, progress: Progress) -> tuple[Compared, ...]:
        """Return the table of similarities after each stage that counts."""
        pairs = placed(used(paired(student.outputs.stages or (), teacher.outputs.stages), self.params.stages))
        note = "Row by row: how much each image resembles each other one. Blocks on the diagonal are images of one class."
        return tuple(
            Compared.seen(f"Similarities after {where}", "matrix", _similarities, s, t, note, axes=("image", "image"))
            for where, (s, t) in pairs
        )


def _similarities(maps: Tensor) -> Tensor:
    """Return ``(B, B)``: the scalar products of all flattened maps, each row scaled to length one."""
    rows = maps.flatten(1)
    return unit(rows @ rows.T)
