"""Both correlation losses against NumPy, the kernel it approximates, the linear layers. Reads / writes: nothing."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch

from kdengine import losses
from tests.engine.scene import Scene


def _np_kernel(e: np.ndarray, gamma: float, order: int) -> np.ndarray:
    unit = np.array([a / np.sqrt((a**2).sum()) for a in e])
    terms = [(2 * gamma) ** p / math.factorial(p) * (unit @ unit.T) ** p for p in range(order + 1)]
    return np.exp(-2 * gamma) * sum(terms)


@pytest.mark.parametrize(("gamma", "order"), [(0.4, 2), (0.4, 1), (1.5, 5)])
def test_kernel_form_against_numpy(gamma: float, order: int) -> None:
    rng = np.random.default_rng(7)
    s, t = 9 * rng.standard_normal((6, 5)), rng.standard_normal((6, 9))
    expected = ((_np_kernel(s, gamma, order) - _np_kernel(t, gamma, order)) ** 2).mean()
    assert losses.cc(torch.tensor(s), torch.tensor(t), gamma, order).item() == pytest.approx(expected, rel=1e-12)


def test_a_long_series_is_the_gaussian_kernel() -> None:
    rng = np.random.default_rng(7)
    s, t = rng.standard_normal((6, 5)), rng.standard_normal((6, 9))
    kernels = []
    for e in (s, t):
        unit = e / np.linalg.norm(e, axis=1, keepdims=True)
        kernels.append(np.exp(-0.4 * ((unit[:, None] - unit[None]) ** 2).sum(2)))
    expected = ((kernels[0] - kernels[1]) ** 2).mean()
    assert losses.cc(torch.tensor(s), torch.tensor(t), 0.4, 10).item() == pytest.approx(expected, rel=1e-6)


def test_adjacent_form_against_numpy() -> None:
    rng = np.random.default_rng(7)
    s, t = rng.standard_normal((6, 5)), rng.standard_normal((6, 5))
    expected = np.mean([(np.abs(s[i] - t[i]) * np.abs(s[i + 1] - t[i + 1])).sum() for i in range(5)])
    assert losses.cc_adjacent(torch.tensor(s), torch.tensor(t)).item() == pytest.approx(expected, rel=1e-12)
    assert losses.cc_adjacent(torch.tensor(s[:1]), torch.tensor(t[:1])) == 0


@pytest.mark.parametrize(("student", "teacher"), [("resnet8", "resnet8x4"), ("resnet8x4", "resnet8")])
def test_adjacent_form_brings_unequal_widths_together(student: str, teacher: str) -> None:
    scene = Scene("cc", {"form": "adjacent", "beta": 0.02}, student=student, teacher=teacher)
    layers = scene.method.embed_s, scene.method.embed_t
    assert [layer.in_features for layer in layers] == [scene.student.info.embedding, scene.teacher.info.embedding]
    with torch.no_grad():
        taps = frozenset({"embedding"})
        s, t = scene.student(scene.x, taps).embedding, scene.teacher(scene.x, taps).embedding
        expected = 0.02 * losses.cc_adjacent(layers[0](s), layers[1](t))
    torch.testing.assert_close(scene.terms()["cc"].detach(), expected)


def test_the_kernel_is_the_knobs() -> None:
    scene, taps = Scene("cc", {"gamma": 1.5, "P_order": 3}), frozenset({"embedding"})
    with torch.no_grad():
        expected = 100 * losses.cc(scene.student(scene.x, taps).embedding, scene.teacher(scene.x, taps).embedding, 1.5, 3)
    torch.testing.assert_close(scene.terms()["cc"].detach(), expected)


def test_kernel_form_learns_nothing_beside_the_student() -> None:
    assert not list(Scene("cc", {}).method.parameters())


@pytest.mark.parametrize("dead", [1, 8])
def test_zero_embeddings_give_no_gradient(dead: int) -> None:
    torch.manual_seed(1)
    s, t = torch.rand(8, 16), torch.rand(8, 16)
    s[:dead] = 0
    s.requires_grad_()
    losses.cc(s, t).backward()
    assert torch.isfinite(s.grad).all() and s.grad.abs().max() < 1 and s.grad[:dead].abs().sum() == 0
