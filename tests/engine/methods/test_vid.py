"""Variational information distillation against NumPy, its variances and its regressors. Reads / writes: nothing."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import nn

from kdengine.losses import vid
from tests.engine.scene import Maps, Scene, gradients
from tests.engine.test_losses import inputs


def _np_vid(mean: np.ndarray, t: np.ndarray, var: np.ndarray) -> float:
    values = [0.5 * (np.log(v) + (t[:, c] - mean[:, c]) ** 2 / v) for c, v in enumerate(var)]
    return float(np.mean(values))


def test_against_numpy() -> None:
    rng = np.random.default_rng(7)
    mean, t = (rng.standard_normal((4, 5, 3, 2)) for _ in range(2))
    var = rng.uniform(0.01, 9, 5)
    assert vid(*(torch.tensor(a) for a in (mean, t, var))).item() == pytest.approx(_np_vid(mean, t, var), rel=1e-12)


def test_it_is_least_where_mean_and_variance_are_right() -> None:
    rng = torch.Generator().manual_seed(8)
    t = 2 * torch.randn(64, 3, 4, 4, generator=rng, dtype=torch.float64)
    mean = torch.zeros_like(t)
    true = t.square().mean((0, 2, 3))
    assert all(vid(mean, t, true) < vid(mean, t, factor * true) for factor in (0.5, 0.9, 1.1, 2.0))
    assert vid(t, t, torch.full((3,), 0.1, dtype=torch.float64)) < 0, "a good guess may be below zero"


@pytest.mark.parametrize("init_var", [0.1, 5.0, 1000.0])
def test_variances_start_as_said(init_var: float) -> None:
    x = inputs()
    _, var = Maps("vid", {"init_var": init_var}, [x["fs"]], [x["ft"]]).method.guesses[0](x["fs"])
    assert var.shape == (4,) and var.tolist() == pytest.approx([init_var] * 4, rel=1e-5)


@pytest.mark.parametrize(("stages", "weights"), [("sum", (1, 1)), ("mean", (0.5, 0.5)), ("last", (0, 1))])
def test_stages_are_put_together_as_said(stages: str, weights: tuple[float, float]) -> None:
    x = inputs()
    maps = Maps("vid", {"stages": stages}, [x["fs"], x["fs2"]], [x["ft"], x["ft2"]])
    assert len(maps.method.guesses) == (1 if stages == "last" else 2)
    for guess in maps.method.guesses:
        guess.mean = nn.Identity()
    second = _np_vid(x["fs2"].numpy(), x["ft2"].numpy(), np.full(8, 5.0))
    terms = maps.terms()
    assert terms["vid"].item() == pytest.approx(weights[0] * 0.850195802375 + weights[1] * second, rel=1e-6)
    assert set(terms) == {"ce", "vid"}


@pytest.mark.parametrize(("student", "teacher"), [("resnet8", "resnet8x4"), ("resnet8x4", "resnet8")])
def test_regressors_fit_and_learn(student: str, teacher: str) -> None:
    scene = Scene("vid", {"sf": 0.5}, student=student, teacher=teacher)
    scene.terms()["vid"].backward()
    for guess, shape_s, shape_t in zip(scene.method.guesses, scene.student.info.stages, scene.teacher.info.stages, strict=True):
        sizes = [tuple(layer.weight.shape[:2]) for layer in guess.mean[::2]]
        middle = shape_t[0] // 2
        assert sizes == [(middle, shape_s[0]), (middle, middle), (shape_t[0], middle)]
        assert all(p.grad is not None and p.grad.abs().sum() > 0 for p in guess.parameters())
    assert gradients(scene.student) > 0 and gradients(scene.teacher) == 0


def test_the_larger_map_is_averaged_down() -> None:
    x = inputs()
    wide = torch.rand(8, 4, 8, 8, dtype=torch.float64)
    maps = Maps("vid", {}, [wide], [x["ft"]])
    maps.method.guesses[0].mean = nn.Identity()
    small = wide.reshape(8, 4, 4, 2, 4, 2).mean((3, 5))
    expected = _np_vid(small.numpy(), x["ft"].numpy(), np.full(4, 5.0))
    assert maps.terms()["vid"].item() == pytest.approx(expected, rel=1e-6)
