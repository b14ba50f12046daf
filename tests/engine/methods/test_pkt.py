"""Neighbourhoods against NumPy, their precision in fp32, zero and opposite embeddings. Reads / writes: nothing."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from kdengine import losses
from tests.engine.scene import Scene


def _np_neighbours(e: np.ndarray, eps: float) -> np.ndarray:
    unit = [a / (np.sqrt((a**2).sum()) + eps) for a in e]
    alike = np.array([[(a @ b + 1) / 2 for b in unit] for a in unit])
    return alike / alike.sum(1, keepdims=True)


def _np_pkt(s: np.ndarray, t: np.ndarray, eps: float) -> float:
    p, q = _np_neighbours(s, eps), _np_neighbours(t, eps)
    return float((q * np.log((q + eps) / (p + eps))).mean())


@pytest.mark.parametrize("eps", [1e-2, 1e-6, 1e-7])
def test_pkt_against_numpy(eps: float) -> None:
    rng = np.random.default_rng(7)
    s, t = rng.standard_normal((6, 5)), rng.standard_normal((6, 9))
    assert losses.pkt(torch.tensor(s), torch.tensor(t), eps).item() == pytest.approx(_np_pkt(s, t, eps), rel=1e-12)


def test_near_neighbourhoods_keep_their_digits_in_fp32() -> None:
    rng = np.random.default_rng(7)
    base = rng.random((64, 64)).astype(np.float32)  # all positive, as behind a ReLU: cosines near one another
    s, t = (base + 0.05 * rng.random((64, 64)).astype(np.float32) for _ in "st")
    expected = _np_pkt(s.astype(float), t.astype(float), 1e-7)
    assert losses.pkt(torch.tensor(s), torch.tensor(t)).item() == pytest.approx(expected, rel=1e-4)


def test_eps_reaches_the_loss() -> None:
    small, large = (Scene("pkt", {"eps": eps}).terms()["pkt"].item() for eps in (1e-7, 1e-2))
    assert small > 0 and large != pytest.approx(small, rel=1e-3)


@pytest.mark.parametrize("dead", [1, 8])
def test_zero_embeddings_give_no_gradient(dead: int) -> None:
    torch.manual_seed(1)
    s, t = torch.rand(8, 16), torch.rand(8, 16)
    s[:dead] = 0
    s.requires_grad_()
    losses.pkt(s, t).backward()
    assert torch.isfinite(s.grad).all() and s.grad.abs().max() < 1 and s.grad[:dead].abs().sum() == 0


@pytest.mark.parametrize("eps", [1e-7, 1e-12])
def test_opposite_embeddings_stay_finite(eps: float) -> None:
    e = torch.tensor([[0.1, 0.7, -0.3], [-0.1, -0.7, 0.3]])
    for s, t in ((e, e.abs()), (e.abs(), e)):
        s = s.clone().requires_grad_()
        value = losses.pkt(s, t, eps)
        value.backward()
        assert torch.isfinite(value) and value >= 0 and torch.isfinite(s.grad).all()


def test_a_cosine_rounded_below_minus_one_changes_nothing() -> None:
    rng = np.random.default_rng(7)
    for _ in range(50):
        s, e = rng.random((2, 3)).astype(np.float32), rng.random((1, 3)).astype(np.float32)
        t = np.concatenate([e, -e])
        expected = _np_pkt(s.astype(float), t.astype(float), 1e-12)
        assert losses.pkt(torch.tensor(s), torch.tensor(t), 1e-12).item() == pytest.approx(expected, rel=1e-4)
