"""Learnt pairs of blocks: the formula in NumPy, the whole against the authors' code, which blocks. Reads / writes: nothing."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import nn

from kdengine import methods, models
from kdengine.losses import afd
from kdengine.methods.afd import spread
from kdengine.methods.contract import DataInfo
from kdengine.models.contract import NetInfo
from tests.engine.scene import CLASSES, Scene
from tests.engine.test_losses import inputs


def _oracle(s: np.ndarray, t: np.ndarray, alpha: np.ndarray) -> float:
    total = 0.0
    for n in range(len(s)):
        for i in range(t.shape[1]):
            for j in range(s.shape[1]):
                a, b = s[n, j] / np.sqrt((s[n, j] ** 2).sum()), t[n, i] / np.sqrt((t[n, i] ** 2).sum())
                total += alpha[n, i, j] * ((a - b) ** 2).mean()
    return total / len(s)


def test_loss_against_numpy() -> None:
    rng = np.random.default_rng(7)
    s, t, alpha = rng.random((5, 3, 4, 6)), rng.random((5, 2, 4, 6)), rng.random((5, 2, 3))
    value = afd(*(torch.tensor(a) for a in (s, t, alpha)))
    assert value.item() == pytest.approx(_oracle(s, t, alpha), rel=1e-12)


def test_pictures_of_zeros_are_harmless() -> None:
    s = torch.zeros(2, 3, 4, 4, requires_grad=True)
    afd(s, torch.rand(2, 2, 4, 4), torch.full((2, 2, 3), 1 / 3)).backward()
    assert s.grad.abs().sum() == 0


def _info(channels: tuple[int, ...], sizes: tuple[int, ...]) -> NetInfo:
    shapes = tuple((c, s, s) for c, s in zip(channels, sizes, strict=True))
    return NetInfo("fake", CLASSES, 32, 1, 1, channels[-1], shapes, shapes[0], shapes)


def _fill(module: nn.Module) -> None:
    """Give all parameters, in their order, the values sin(0.37 i + 0.2), i = 0, 1, ..."""
    start = 0
    for p in module.parameters():
        p.data = torch.sin(0.37 * torch.arange(start, start + p.numel(), dtype=torch.float64) + 0.2).reshape(p.shape)
        start += p.numel()


def test_whole_term_against_the_authors_code() -> None:
    """0.00207865925561: AFD of clovaai/attention-feature-distillation, qk_dim 3, these weights and maps, run in float64.

    Blocks: 4 channels at 4 x 4 and 8 channels at 2 x 2, on both sides. Parameters come in the authors' order; the attention's
    softmax is fp32 here.
    """
    entry = methods.get("afd")
    net = _info((4, 8), (4, 2))
    data = DataInfo("fake", 8, CLASSES, 32, torch.arange(8), (0.0,) * 3, (1.0,) * 3)
    method = entry.method(entry.params(qk_dim=3), net, net, {}, data).double()
    _fill(method.attention)
    maps = inputs()
    value = method.matching((maps["fs"], maps["fs2"]), (maps["ft"], maps["ft2"]))
    assert value.item() == pytest.approx(0.00207865925561, rel=1e-6)


def test_shares_sum_to_one_and_weights_are_the_knobs() -> None:
    scene, other = Scene("afd", {}), Scene("afd", {"beta": 100, "lambda_kd": 0.45, "lambda_ce": 0.5})
    blocks = [net(scene.x, frozenset({"blocks"})).blocks for net in (scene.student, scene.teacher)]
    shares = scene.method.attention(*blocks)
    assert shares.shape == (8, 9, 3)
    torch.testing.assert_close(shares.sum(2), torch.ones(8, 9))
    terms, halves = scene.terms(), other.terms()
    for name, value in terms.items():
        torch.testing.assert_close(halves[name], value / 2)


@pytest.mark.parametrize(
    ("count", "expected"), [(3, [1, 2, 3]), (27, range(1, 28)), (54, range(2, 55, 2)), (28, range(2, 29, 2))]
)
def test_choice_of_blocks(count: int, expected: list[int]) -> None:
    """The authors take blocks 2, 4, ..., 54 of ResNet-110 and all blocks of the others."""
    assert spread(range(1, count + 1)) == list(expected)
    assert len(spread(range(1000))) <= 27 and spread(range(1000))[-1] == 999


@pytest.mark.parametrize(("student", "teacher"), [("resnet8", "resnet8x4"), ("resnet8x4", "resnet8"), ("resnet20", "resnet8")])
def test_networks_of_unequal_widths_and_depths(student: str, teacher: str) -> None:
    assert Scene("afd", {}, student=student, teacher=teacher).terms()["afd"] > 0


def test_a_deep_teacher_has_27_queries() -> None:
    entry = methods.get("afd")
    data = DataInfo("fake", 8, CLASSES, 16, torch.arange(8), (0.0,) * 3, (1.0,) * 3)
    method = entry.method(entry.params(), models.info("resnet8", CLASSES, 16), models.info("resnet110", CLASSES, 16), {}, data)
    assert len(method.attention.queries) == 27 and len(method.attention.keys) == 3
