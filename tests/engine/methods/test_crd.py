"""Contrastive distillation: the authors' values over two steps, who is drawn, what the bank holds. Reads / writes: nothing."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from kdengine import methods
from kdengine.losses import crd_nce
from kdengine.methods.contract import Batch, DataInfo, Method, Progress
from kdengine.models.contract import NetInfo, Outputs

CLASSES, IMAGES = 4, 40


class GivenView:
    """A network that says what it is told."""

    def __init__(self, embedding: Tensor) -> None:
        self.peers: dict[str, Any] = {}
        self.outputs = Outputs(torch.zeros(len(embedding), CLASSES), embedding)


def made(labels: Tensor, width: int = 6, **knobs: Any) -> Method:
    entry = methods.get("crd")
    info = NetInfo("fake", CLASSES, 8, 1, 1, width, ((width, 2, 2),), (width, 2, 2), ((width, 2, 2),))
    data = DataInfo("fake", len(labels), CLASSES, 8, labels, (0.0,) * 3, (1.0,) * 3)
    torch.manual_seed(2)
    return entry.method(entry.params(**knobs), info, info, {}, data)


def progress(seed: int = 0) -> Progress:
    return Progress("main", 0, 1, 0, 1, torch.Generator().manual_seed(seed))


def test_two_steps_of_the_authors_small_setting(monkeypatch: pytest.MonkeyPatch) -> None:
    """20 items, 4 features, 5 negatives, tau 0.1: loss, both constants, and the loss after the banks have moved."""
    method = made(torch.arange(20) % CLASSES, 12, feat_dim=4, nce_n=5, nce_t=0.1, nce_mom=0.5, beta=1.0).double()
    items, q = torch.arange(8, dtype=torch.float64)[:, None], torch.arange(80, dtype=torch.float64).reshape(20, 4)
    d = torch.arange(12, dtype=torch.float64)
    with torch.no_grad():
        for head, wave in ((method.head_s, torch.sin), (method.head_t, torch.cos)):
            head.weight.copy_(wave(torch.arange(48, dtype=torch.float64)).reshape(4, 12))
            head.bias.zero_()
    method.bank_s.copy_(torch.nn.functional.normalize(torch.sin(1 + q)))
    method.bank_t.copy_(torch.nn.functional.normalize(torch.cos(2 + q)))
    weights = torch.zeros(8, 20, dtype=torch.float64)
    for item in range(8):
        weights[item, [(item + step) % 20 for step in (1, 4, 7, 10, 13)]] = 1
    monkeypatch.setattr(method, "_negatives", lambda y, generator: (torch.arange(20), weights))
    student = GivenView(torch.sin(0.3 * items**2 + 0.8 * d) + 0.1 * items)
    teacher = GivenView(torch.cos(0.2 * items**2 + 0.6 * d) - 0.05 * d)
    batch = Batch(torch.zeros(8, 3, 8, 8), torch.arange(8) % CLASSES, torch.arange(8))
    assert method.loss(student, teacher, batch, progress())["crd"].item() == pytest.approx(22.86920500, abs=6e-9)
    assert method.z_s.item() == pytest.approx(47230.92243099, abs=6e-9 * 1e4)
    assert method.z_t.item() == pytest.approx(30493.80276801, abs=6e-9 * 1e4)
    assert method.loss(student, teacher, batch, progress())["crd"].item() == pytest.approx(20.06052137, abs=6e-9)


def test_against_numpy() -> None:
    scores = np.random.default_rng(3).lognormal(size=(7, 30))
    noise = 29 / 500
    expected = -np.log(scores[:, 0] / (scores[:, 0] + noise)) - np.log(noise / (scores[:, 1:] + noise)).sum(1)
    assert crd_nce(torch.tensor(scores), 500).item() == pytest.approx(expected.mean(), rel=1e-6)


@pytest.mark.parametrize("n", [1, 255, 16384])
def test_what_theory_says_of_the_start(n: int) -> None:
    """Before anything is learnt every score is 1 / M: ln(n + 1) + n ln((n + 1) / n) per side, 21.41 for both with n = 16384."""
    data = 50_000
    start = crd_nce(torch.full((3, n + 1), 1 / data, dtype=torch.float64), data).item()
    assert start == pytest.approx(math.log(n + 1) + n * math.log((n + 1) / n), rel=1e-2)
    assert n != 16384 or 2 * start == pytest.approx(21.41, abs=0.01)


@pytest.mark.parametrize("n", [5, 28])
def test_each_image_gets_n_different_images_of_other_classes(n: int) -> None:
    labels = torch.arange(IMAGES) % CLASSES
    method, y = made(labels, nce_n=n), torch.tensor([0, 1, 1, 3])
    chosen, weights = method._negatives(y, progress().generator)
    assert len(chosen.unique()) == len(chosen) == n + 10
    assert torch.equal(weights.sum(1), torch.full((4,), float(n))) and set(weights.unique().tolist()) == {0.0, 1.0}
    assert not (weights.bool() & (labels[chosen] == y[:, None])).any()


def test_all_other_images_are_drawn_equally_often() -> None:
    labels = torch.cat([torch.zeros(20), torch.ones(5), torch.full((15,), 2.0)]).long()  # classes of unequal size
    method, often = made(labels, nce_n=6), torch.zeros(40)
    for seed in range(3000):
        chosen, weights = method._negatives(torch.tensor([0]), progress(seed).generator)
        often[chosen] += weights[0]
    assert often[:20].sum() == 0
    expected = 3000 * 6 / 20  # each of the 20 others; the spread of such a count is about 25
    assert ((often[20:] - expected).abs() < 110).all()


def test_too_few_others_count_as_n() -> None:
    labels = torch.tensor([0] * 30 + [1] * 10)
    method = made(labels, nce_n=1000)
    _, weights = method._negatives(torch.tensor([0, 1]), progress().generator)
    assert weights.sum(1).tolist() == pytest.approx([1000, 1000])
    assert (weights > 0).sum(1).tolist() == [10, 30]


def test_a_training_set_of_one_class_is_no_nan() -> None:
    method = made(torch.zeros(12, dtype=torch.long))
    view = GivenView(torch.randn(3, 6))
    batch = Batch(torch.zeros(3, 3, 8, 8), torch.zeros(3, dtype=torch.long), torch.arange(3))
    assert torch.isfinite(method.loss(view, GivenView(torch.randn(3, 6)), batch, progress())["crd"])


def test_relaxed_positives_are_of_the_same_class() -> None:
    labels = torch.randint(0, CLASSES, (200,), generator=torch.Generator().manual_seed(1))
    method = made(labels, mode="relax")
    y = labels[torch.arange(200)]
    drawn = torch.stack([method._same_class(y, progress(seed).generator) for seed in range(50)])
    assert (labels[drawn] == y).all()
    assert all(len(drawn[:, image].unique()) > 15 for image in range(200)), "many different ones, not always the same"


def test_the_bank_keeps_the_newest_of_the_batch_and_nothing_else() -> None:
    method = made(torch.arange(IMAGES) % CLASSES, nce_n=8, nce_mom=0.0)
    before, embedding = method.bank_s.clone(), torch.randn(5, 6)
    index = torch.tensor([3, 11, 0, 39, 20])
    batch = Batch(torch.zeros(5, 3, 8, 8), index % CLASSES, index)
    method.loss(GivenView(embedding), GivenView(torch.randn(5, 6)), batch, progress())
    torch.testing.assert_close(method.bank_s[index], torch.nn.functional.normalize(method.head_s(embedding)))
    others = [i for i in range(IMAGES) if i not in index.tolist()]
    assert torch.equal(method.bank_s[others], before[others])


def test_banks_and_constants_are_part_of_a_checkpoint() -> None:
    assert {"bank_s", "bank_t", "z_s", "z_t"} < set(made(torch.arange(IMAGES) % CLASSES).state_dict())


def test_the_size_of_the_banks_is_said() -> None:
    entry, method = methods.get("crd"), made(torch.arange(IMAGES) % CLASSES, feat_dim=16)
    info = NetInfo("fake", 4, 8, 1, 1, 6, (), (1, 1, 1), ())
    held = sum(b.numel() * b.element_size() for n, b in method.named_buffers() if n.startswith("bank"))
    assert entry.method.memory_bytes(method.params, info, info, IMAGES) == held
    assert entry.method.memory_bytes(entry.params(), info, info, 50_000) == 51_200_000


def test_the_first_loss_of_the_usual_setting() -> None:
    """M = 50,000, n = 16,384, batch 64; hardly told apart (tau 10) the scores are equal, and the loss is what theory says."""
    method = made(torch.arange(50_000) % CLASSES, 64, nce_n=16_384, nce_t=10.0, beta=1.0)
    index = torch.arange(64) * 7
    batch = Batch(torch.zeros(64, 3, 8, 8), index % CLASSES, index)
    first = method.loss(GivenView(torch.randn(64, 64)), GivenView(torch.randn(64, 64)), batch, progress())["crd"].item()
    assert first == pytest.approx(21.41, abs=0.01)
