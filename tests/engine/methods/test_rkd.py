"""Relations of images against NumPy loops, published values, and embeddings that are equal. Reads / writes: nothing."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from kdengine import losses
from tests.engine.scene import BATCH, Scene
from tests.engine.test_losses import inputs


def _huber(a: np.ndarray) -> np.ndarray:
    return np.where(np.abs(a) < 1, 0.5 * a**2, np.abs(a) - 0.5)


def _np_distances(e: np.ndarray) -> np.ndarray:
    d = np.array([[np.linalg.norm(a - b) for b in e] for a in e])
    return d / d[d > 0].mean()


def _np_cosine(e: np.ndarray, i: int, j: int, k: int) -> float:
    if j in (i, k):
        return 0.0
    a, b = e[i] - e[j], e[k] - e[j]
    return float(a @ b / (np.linalg.norm(a) * np.linalg.norm(b)))


def _np_angles(e: np.ndarray) -> np.ndarray:
    n = range(len(e))
    return np.array([_np_cosine(e, i, j, k) for i in n for j in n for k in n])


def _random() -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(7)
    return 3 * rng.standard_normal((6, 5)) ** 3, rng.standard_normal((6, 9)) + 40  # far from 0, and of unequal widths


@pytest.mark.parametrize(("name", "relation"), [("rkd_distance", _np_distances), ("rkd_angle", _np_angles)])
def test_rkd_against_numpy(name: str, relation: object) -> None:
    s, t = _random()
    expected = _huber(relation(s) - relation(t)).mean()
    loss = losses.by_name()[name]
    assert loss(torch.tensor(s), torch.tensor(t)).item() == pytest.approx(expected, rel=1e-12)
    in_fp32 = loss(torch.tensor(s).float(), torch.tensor(t).float()).item()
    assert in_fp32 == pytest.approx(expected, rel=1e-5), "what embeddings have in common must not cost digits"


@pytest.mark.parametrize("name", ["rkd_distance", "rkd_angle"])
def test_relations_do_not_see_scale_or_place(name: str) -> None:
    s, t = (torch.tensor(e) for e in _random())
    loss = losses.by_name()[name]
    torch.testing.assert_close(loss(5 * s - 3, 0.1 * t + 2), loss(s, t))
    assert loss(5 * s - 3, s).item() == pytest.approx(0, abs=1e-12)


def test_published_weights_give_the_published_sum() -> None:
    scene, known = Scene("rkd", {}), inputs()
    p, e = scene.method.params, (known["es"], known["et"])
    total = p.beta * (p.w_dist * losses.rkd_distance(*e) + p.w_angle * losses.rkd_angle(*e))
    assert total.item() == pytest.approx(10.22760932, abs=6e-9)
    terms, doubled = scene.terms(), Scene("rkd", {"beta": 2, "w_angle": 5}).terms()
    assert doubled["distance"].item() == pytest.approx(2 * terms["distance"].item(), rel=1e-6)
    assert doubled["angle"].item() == pytest.approx(terms["angle"].item() / 5, rel=1e-6)


@pytest.mark.parametrize("name", ["rkd_distance", "rkd_angle"])
@pytest.mark.parametrize("equal", [2, BATCH])
@pytest.mark.parametrize("scale", [0.0, 1e-6, 1.0, 1e4])
def test_equal_embeddings_give_small_gradients(name: str, equal: int, scale: float) -> None:
    torch.manual_seed(1)
    s, t = scale * torch.rand(BATCH, 16), torch.rand(BATCH, 16)
    s[:equal] = s[0].clone()
    s.requires_grad_()
    value = losses.by_name()[name](s, t)
    value.backward()
    assert torch.isfinite(value) and torch.isfinite(s.grad).all()
    assert s.grad.abs().max() * scale < 10, "the loss does not see the scale, so this product has no business being large"


@pytest.mark.parametrize("name", ["rkd_distance", "rkd_angle"])
def test_rounding_between_equal_embeddings_is_not_followed(name: str) -> None:
    torch.manual_seed(1)
    s, t = torch.rand(BATCH, 16, dtype=torch.float64), torch.rand(BATCH, 16, dtype=torch.float64)
    s[1] = s[0] + 1e-9 * torch.rand(16)
    s.requires_grad_()
    losses.by_name()[name](s, t).backward()
    assert s.grad.abs().max() < 10


@pytest.mark.parametrize("images", [1, 2])
def test_too_few_images_have_no_relations(images: int) -> None:
    s, t = torch.rand(images, 4), torch.rand(images, 4)
    assert losses.rkd_distance(s, t).item() == pytest.approx(0, abs=1e-12)
    assert losses.rkd_angle(s, t).item() == pytest.approx(0, abs=1e-12)
