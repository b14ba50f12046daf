r"""Contrastive representation distillation: of one image, both networks' embeddings must match; of two, they must not.

**Matched**: the embeddings (inputs of the last linear layers), each sent through a learnt linear head to ``feat_dim`` numbers
and scaled to length one: v_s, v_t. A bank keeps the newest v_s and v_t of every training image.

**Formula**: score of the image i against an entry j of the other network's bank: h(i, j) = exp(<v_i, bank_j> / nce_t) / Z, Z
fixed on the first batch so that the mean score is 1 / M. With n negatives of other classes and M training images, per side:
nce = -1/B * sum_i { log [h(i, i) / (h(i, i) + n/M)] + sum_j log [(n/M) / (h(i, j) + n/M)] }; L = CE(z_s, y) + beta * (nce_s +
nce_t). After each step bank_i <- normalise(nce_mom * bank_i + (1 - nce_mom) * v_i). mode="relax": the positive is a random
image of the same class instead of i itself.

**Source**: Y. Tian, D. Krishnan, P. Isola, "Contrastive Representation Distillation", ICLR 2020, arXiv 1910.10699, section 3
(objective, memory buffer), and the authors' code, RepDistiller.

**Differs**: nothing in the loss, temperature 0.07 as in RepDistiller and mdistiller; Knowledge-Distillation-Zoo has 0.1 and beta
0.2 on CIFAR-10, 0.8 on CIFAR-100. The authors draw negatives for every image on its own, in the data loader. Here one random
order of the training images is drawn per step, on the device, and each image takes the first n of it that are of another
class: for one image the same distribution, without replacement, but the images of a batch share candidates. So scoring is one
dense product instead of a gathered copy of n rows per image. Where fewer than n images of other classes exist, all are used and
weighted to count as n, which is what drawing with replacement gives on average. mode="relax" is Knowledge-Distillation-Zoo's.
"""

from __future__ import annotations

from typing import Any, Literal

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from kdengine.methods import contract
from kdengine.methods._math import ce, exact
from kdengine.methods.contract import Batch, Card, Compared, DataInfo, Progress, View, knob
from kdengine.models.contract import NetInfo

EPS = 1e-7

CARD = Card(
    key="crd",
    title="Contrastive representation distillation",
    family="relation",
    year=2020,
    citation="Y. Tian, D. Krishnan, P. Isola, Contrastive Representation Distillation, ICLR 2020",
    links=("https://arxiv.org/abs/1910.10699", "https://github.com/HobbitLong/RepDistiller"),
    one_line="Student and teacher must place the same image alike, and images of other classes far from it.",
    story=(
        "Both networks describe an image by one list of numbers; two small learnt layers bring both lists to one length.",
        "A bank remembers the newest description of every training image by either network.",
        "For each image the other network's entry must be found among thousands of entries of images of other classes.",
    ),
    analogy="A line-up: you have understood a face when you pick its photo out of thousands, not when you redraw each pixel.",
    formula=r"\mathcal{L} = \mathrm{CE}(z_s, y) - \frac{\beta}{B}\sum_{v\in\{s,t\}}\sum_i \left[ "
    r"\log\frac{h_v(i,i)}{h_v(i,i)+n/M} + \sum_{j=1}^{n} \log\frac{n/M}{h_v(i,j)+n/M} \right]",
    fidelity="golden",
    needs=frozenset({"logits", "embedding", "index"}),
    batch_order_matters="mode=relax",
)


class Params(contract.Params):
    """Weight of the contrast, how many negatives, and how the bank follows."""

    beta: float = knob(
        0.8, low=0, high=1e4, help="weight of the contrastive term", source="RepDistiller -b 0.8 (the Zoo: 0.2 on CIFAR-10)"
    )
    feat_dim: int = knob(128, low=2, high=4096, help="length of the compared embeddings", source="RepDistiller --feat_dim 128")
    nce_n: int = knob(16384, low=1, high=10**6, help="negatives for each image", source="RepDistiller --nce_k 16384")
    nce_t: float = knob(
        0.07,
        low=0.01,
        high=10,
        help="temperature of the scores; smaller is stricter",
        source="RepDistiller --nce_t 0.07 (the Zoo: 0.1)",
    )
    nce_mom: float = knob(
        0.5, low=0, high=0.999, help="how much of its old entry the bank keeps at each update", source="RepDistiller --nce_m 0.5"
    )
    mode: Literal["exact", "relax"] = knob(
        "exact",
        help="exact: the positive is the image itself; relax: any image of its class",
        source="RepDistiller",
    )


@exact
def crd_nce(scores: Tensor, n_data: int) -> Tensor:
    """Noise-contrastive loss of one side: mean over the batch of the positive's and all negatives' log-losses.

    scores ``(B, 1 + n)``: normalised scores h >= 0, column 0 is the positive; n_data: number M of training images, so that
    1 / M is the noise distribution. Scalar, nats; 2 ln 2 for n = M = 1 and h = 1.
    """
    return _nce(scores[:, 0], scores[:, 1:], torch.ones_like(scores[:, 1:]), scores.shape[1] - 1, n_data)


LOSSES = (crd_nce,)


class Crd(contract.Method):
    """Labels, and the contrast of both embeddings against both banks."""

    labels: Tensor
    by_label: Tensor
    first: Tensor
    count: Tensor
    bank_s: Tensor
    bank_t: Tensor
    z_s: Tensor
    z_t: Tensor

    def __init__(self, params: Any, student: NetInfo, teacher: NetInfo | None, peers: dict[str, NetInfo], data: DataInfo) -> None:
        super().__init__(params, student, teacher, peers, data)
        assert teacher is not None
        self.head_s = nn.Linear(student.embedding, params.feat_dim)
        self.head_t = nn.Linear(teacher.embedding, params.feat_dim)
        count = torch.bincount(data.labels, minlength=data.classes)
        # how many images must be drawn so that n of them are of another class, whichever class that is
        self.drawn = min(data.train_images, params.nce_n + int(count.max()))
        self.register_buffer("labels", data.labels.clone(), persistent=False)
        self.register_buffer("by_label", data.labels.argsort(), persistent=False)
        self.register_buffer("first", count.cumsum(0) - count, persistent=False)
        self.register_buffer("count", count, persistent=False)
        bound = (3 / params.feat_dim) ** 0.5  # entries of length one on average, as the authors start them
        for side in ("s", "t"):
            bank = torch.empty(data.train_images, params.feat_dim).uniform_(-bound, bound)
            self.register_buffer(f"bank_{side}", bank)
            self.register_buffer(f"z_{side}", torch.zeros(()))  # 0 = not yet fixed

    @classmethod
    def memory_bytes(cls, params: Any, student: NetInfo, teacher: NetInfo | None, train_images: int) -> int:
        """Return the size of the two banks: one fp32 entry per training image and network."""
        return 2 * train_images * params.feat_dim * 4

    def loss(self, student: View, teacher: Any, batch: Batch, progress: Progress) -> dict[str, Tensor]:
        """Return the label term and the contrastive term; then renew the banks' entries of this batch."""
        p, outputs = self.params, student.outputs
        assert outputs.embedding is not None
        own_s = _embedded(self.head_s, outputs.embedding)
        own_t = _embedded(self.head_t, teacher.outputs.embedding)
        chosen, weights = self._negatives(batch.y, progress.generator)
        positive = batch.index if p.mode == "exact" else self._same_class(batch.y, progress.generator)
        contrast = self._contrast(own_s, self.bank_t, self.z_s, positive, chosen, weights) + self._contrast(
            own_t, self.bank_s, self.z_t, positive, chosen, weights
        )
        self._remember(self.bank_s, batch.index, own_s)
        self._remember(self.bank_t, batch.index, own_t)
        return {"ce": ce(outputs.logits, batch.y), "crd": p.beta * contrast}

    def compared(self, student: View, teacher: Any, batch: Batch, progress: Progress) -> tuple[Compared, ...]:
        """Return both embeddings on their common sphere, and which entries of the banks are taken for an image's own."""
        p, out = self.params, student.outputs
        assert out.embedding is not None
        own_s, own_t = _embedded(self.head_s, out.embedding), _embedded(self.head_t, teacher.outputs.embedding)
        near_s, near_t = own_s @ self.bank_t[batch.index].T, own_t @ self.bank_s[batch.index].T
        noise = p.nce_n / len(self.bank_s)
        known_s, known_t = (
            _known((near / p.nce_t).exp() / z.clamp(min=EPS), noise) for near, z in ((near_s, self.z_s), (near_t, self.z_t))
        )
        points = "Each image is a point for either network. The loss pulls the two together and other classes away."
        table = "How surely each entry of the other network's bank is taken for the image's own: in the end, the diagonal."
        return (
            Compared("Embeddings behind the learnt layers", "points", own_s, own_t, points, joint=True),
            Compared("Recognised as its own", "matrix", known_s, known_t, table, axes=("image", "entry of the bank")),
        )

    def _negatives(self, y: Tensor, generator: torch.Generator) -> tuple[Tensor, Tensor]:
        """Draw candidates ``(L,)`` for the whole batch and say how much each counts for each image, ``(B, L)``.

        The first n candidates of another class count 1, or a little more where there are fewer than n; the rest count 0.
        """
        n = self.params.nce_n
        chosen = torch.randperm(len(self.labels), generator=generator, device=self.labels.device)[: self.drawn]
        foreign = self.labels[chosen] != y[:, None]
        so_far = foreign.cumsum(1, dtype=torch.int32)
        used = foreign & (so_far <= n)
        return chosen, used * (n / so_far[:, -1:].clamp(1, n))

    def _same_class(self, y: Tensor, generator: torch.Generator) -> Tensor:
        """Draw one training image of the class of each image, ``(B,)``."""
        drawn = torch.rand(y.shape, generator=generator, device=y.device)
        return self.by_label[self.first[y] + (drawn * self.count[y]).long().clamp(max=self.count[y] - 1)]

    def _contrast(self, own: Tensor, bank: Tensor, z: Tensor, positive: Tensor, chosen: Tensor, weights: Tensor) -> Tensor:
        """Score embeddings ``(B, D)`` of one network against the other's bank; fix ``z`` on the first batch."""
        n, n_data = self.params.nce_n, len(bank)
        with torch.autocast(own.device.type, enabled=False):
            near = ((own * bank[positive]).sum(1) / self.params.nce_t).exp()
            far = (own @ bank[chosen].T / self.params.nce_t).exp()
        with torch.no_grad():
            mean = (near.sum() + (weights * far).sum()) / (len(own) * (1 + n))
            z.copy_(torch.where(z > 0, z, n_data * mean))
        return _nce(near / z, far / z, weights, n, n_data)

    @torch.no_grad()
    def _remember(self, bank: Tensor, index: Tensor, own: Tensor) -> None:
        kept = self.params.nce_mom
        bank[index] = F.normalize(kept * bank[index] + (1 - kept) * own)


@exact
def _embedded(head: nn.Module, embedding: Tensor) -> Tensor:
    """Return embeddings ``(B, feat_dim)`` of length one, in fp32."""
    return F.normalize(head(embedding))


def _known(scores: Tensor, noise: float) -> Tensor:
    """Return the probability that scores come from the image itself and not from noise of density ``noise``."""
    return scores / (scores + noise + EPS)


@exact
def _nce(near: Tensor, far: Tensor, weights: Tensor, n: int, n_data: int) -> Tensor:
    """Return one side's loss: near ``(B,)`` scores of positives, far ``(B, L)`` of candidates that count ``weights (B, L)``."""
    noise = n / n_data
    positive = _known(near, noise).log()
    negative = (weights * (noise / (far + noise + EPS)).log()).sum(1)
    return -(positive + negative).mean()
