"""Attention transfer against NumPy, its scale, and maps that have nothing to show. Reads / writes: nothing."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from kdengine.losses import at
from tests.engine.scene import Maps, Scene, gradients
from tests.engine.test_losses import inputs


def _pooled(x: np.ndarray, factor: int) -> np.ndarray:
    b, c, h, w = x.shape
    return x.reshape(b, c, h // factor, factor, w // factor, factor).mean((3, 5))


def _np_at(s: np.ndarray, t: np.ndarray, p: float) -> float:
    total, count = 0.0, 0
    for image_s, image_t in zip(s, t, strict=True):
        q_s, q_t = ((np.abs(i) ** p).sum(0).ravel() for i in (image_s, image_t))  # a sum or a mean: the length is divided out
        total += ((q_s / np.sqrt((q_s**2).sum()) - q_t / np.sqrt((q_t**2).sum())) ** 2).sum()
        count += q_s.size
    return total / count


@pytest.mark.parametrize("p", [1.0, 2.0, 3.5])
def test_against_numpy(p: float) -> None:
    rng = np.random.default_rng(1)
    s, t = rng.standard_normal((5, 3, 4, 6)), rng.standard_normal((5, 7, 4, 6))
    assert at(torch.tensor(s), torch.tensor(t), p).item() == pytest.approx(_np_at(s, t, p), rel=1e-12)
    large = rng.standard_normal((5, 2, 8, 12))
    expected = _np_at(_pooled(large, 2), t, p)
    assert at(torch.tensor(large), torch.tensor(t), p).item() == pytest.approx(expected, rel=1e-12)
    assert at(torch.tensor(t), torch.tensor(large), p).item() == pytest.approx(expected, rel=1e-12)


@pytest.mark.parametrize(("stages", "weights"), [("sum", (1, 1)), ("mean", (0.5, 0.5)), ("last", (0, 1))])
def test_stages_are_put_together_as_said(stages: str, weights: tuple[float, float]) -> None:
    x = inputs()
    terms = Maps("at", {"stages": stages}, [x["fs"], x["fs2"]], [x["ft"], x["ft2"]]).terms()
    expected = 1000 * (weights[0] * 0.000718776859429 + weights[1] * _np_at(x["fs2"].numpy(), x["ft2"].numpy(), 2.0))
    assert set(terms) == {"ce", "at"} and terms["at"].item() == pytest.approx(expected, rel=1e-9)
    assert terms["ce"].item() == pytest.approx(np.log(10))


def test_a_longer_network_leaves_its_first_stages_alone() -> None:
    x = inputs()
    longer = Maps("at", {}, [x["fs"], x["fs2"]], [torch.rand(8, 4, 8, 8, dtype=torch.float64), x["ft"], x["ft2"]]).terms()
    same = Maps("at", {}, [x["fs"], x["fs2"]], [x["ft"], x["ft2"]]).terms()
    assert longer["at"].item() == pytest.approx(same["at"].item(), rel=1e-12)


@pytest.mark.parametrize("p", [1.0, 2.0, 4.0])
def test_maps_of_zeros_give_no_nan(p: float) -> None:
    student = torch.zeros(3, 4, 5, 5, requires_grad=True)
    value = at(student, torch.rand(3, 4, 5, 5), p)
    value.backward()
    assert torch.isfinite(value) and torch.isfinite(student.grad).all()


@pytest.mark.parametrize(("student", "teacher"), [("resnet8", "resnet8x4"), ("resnet8x4", "resnet8")])
def test_unequal_widths_meet(student: str, teacher: str) -> None:
    scene = Scene("at", {}, student=student, teacher=teacher)
    scene.terms()["at"].backward()
    assert gradients(scene.student) > 0 and gradients(scene.teacher) == 0
