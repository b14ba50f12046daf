"""Overhaul of feature distillation against NumPy, margins, the scales of both forms, connectors. Reads / writes: nothing."""

from __future__ import annotations

import math
from statistics import NormalDist

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from kdengine import methods
from kdengine.losses import ofd
from kdengine.methods.ofd import batch_margin, norm_margin
from tests.engine.scene import Maps, Scene, gradients
from tests.engine.test_losses import inputs


def _np_ofd(s: np.ndarray, t: np.ndarray, margin: np.ndarray) -> float:
    total = 0.0
    for c, m in enumerate(margin):
        for a, b in zip(s[:, c].ravel(), t[:, c].ravel(), strict=True):
            b = max(b, m)
            total += (a - b) ** 2 if a > b or b > 0 else 0.0
    return total / s.size


@pytest.mark.parametrize("shared", [True, False])
def test_against_numpy(shared: bool) -> None:
    rng = np.random.default_rng(9)
    s, t = (2 * rng.standard_normal((3, 4, 5, 2)) for _ in range(2))
    margin = np.full(4, -0.7) if shared else -rng.uniform(0, 2, 4)
    given = -0.7 if shared else torch.tensor(margin)
    assert ofd(torch.tensor(s), torch.tensor(t), given).item() == pytest.approx(_np_ofd(s, t, margin), rel=1e-12)


def test_margin_of_a_norm_is_the_mean_of_what_is_negative() -> None:
    weight, bias = torch.tensor([1.0, 0.5, -2.0, 0.1, 1.0]), torch.tensor([0.0, 0.3, -1.0, 0.5, 3.5])
    # overhaul-distillation's get_margin_from_BN; the last two have hardly any negatives
    assert norm_margin(weight, bias).tolist() == pytest.approx([-0.7978845835, -0.3075128794, -2.018320799, -0.3, -3], rel=1e-6)
    phi, cdf = NormalDist().pdf(0.5), NormalDist().cdf(-0.5)
    assert norm_margin(torch.tensor([2.0]), torch.tensor([1.0])).item() == pytest.approx(1 - 2 * phi / cdf, rel=1e-6)
    drawn = torch.randn(1_000_000, generator=torch.Generator().manual_seed(10), dtype=torch.float64) * 2 - 1
    assert norm_margin(weight, bias)[2].item() == pytest.approx(drawn[drawn < 0].mean().item(), rel=0.01)


def test_margin_survives_switched_off_channels() -> None:
    margin = norm_margin(torch.tensor([0.0, 0.0, 0.0, 1e-30]), torch.tensor([-0.4, 0.4, 0.0, 3.0]))
    assert torch.isfinite(margin).all() and (margin <= 0).all() and margin[0].item() == pytest.approx(-0.4)


def test_margin_of_a_batch_is_the_mean_of_its_negatives() -> None:
    x = inputs()
    torch.testing.assert_close(batch_margin(x["ft"]), x["margin"])
    assert batch_margin(torch.ones(2, 3, 4, 4)).tolist() == [0, 0, 0]


def _norms(margin: float, channels: int) -> tuple[Tensor, Tensor]:
    """Return a BatchNorm without bias whose margin is this: -weight * sqrt(2 / pi)."""
    weight = torch.full((channels,), -margin / math.sqrt(2 / math.pi), dtype=torch.float64)
    return weight, torch.zeros(channels, dtype=torch.float64)


def _unconnected(maps: Maps) -> Maps:
    maps.method.connectors = nn.ModuleList(nn.Identity() for _ in maps.method.connectors)
    return maps


def test_the_sum_is_that_of_the_authors() -> None:
    x = inputs()
    one = _unconnected(Maps("ofd", {}, [x["fs"]], [x["ft"]], norms=[_norms(-0.5, 4)])).terms()
    assert set(one) == {"ce", "ofd"} and one["ofd"].item() == pytest.approx(0.001 * 18.64392291, rel=1e-9)  # mdistiller
    norms = [_norms(-0.2, 4), _norms(-0.5, 8)]
    two = _unconnected(Maps("ofd", {}, [x["fs"], x["fs2"]], [x["ft"], x["ft2"]], norms=norms)).terms()
    means = [
        _np_ofd(x["fs"].numpy(), x["ft"].numpy(), np.full(4, -0.2)),
        _np_ofd(x["fs2"].numpy(), x["ft2"].numpy(), np.full(8, -0.5)),
    ]
    assert two["ofd"].item() == pytest.approx(0.001 * (means[0] * 64 / 2 + means[1] * 32), rel=1e-9)


def test_the_mean_is_that_of_the_zoo() -> None:
    x, knobs = inputs(), {"form": "mean"}
    one = _unconnected(Maps("ofd", knobs, [x["fs"]], [x["ft"]])).terms()["ofd"].item()
    assert one == pytest.approx(0.5 * 0.33778520, rel=3e-8)
    two = _unconnected(Maps("ofd", knobs, [x["fs"], x["fs2"]], [x["ft"], x["ft2"]])).terms()["ofd"].item()
    second = _np_ofd(x["fs2"].numpy(), x["ft2"].numpy(), batch_margin(x["ft2"]).numpy())
    assert two == pytest.approx(0.25 * (0.337785197801 + second), rel=1e-7)


def test_norms_belong_to_the_teachers_last_stages() -> None:
    x, first = inputs(), torch.rand(8, 4, 8, 8, dtype=torch.float64)
    short = _unconnected(Maps("ofd", {}, [x["fs"]], [x["ft"]], norms=[_norms(-0.5, 4)])).terms()
    longer = _unconnected(Maps("ofd", {}, [x["fs"]], [first, x["ft"]], norms=[_norms(-0.1, 4), _norms(-0.5, 4)])).terms()
    assert longer["ofd"].item() == pytest.approx(short["ofd"].item(), rel=1e-12)


def test_a_teacher_without_norms_needs_the_other_form() -> None:
    entry, x = methods.get("ofd"), inputs()
    bare = Maps("ofd", {"form": "mean"}, [x["fs"]], [x["ft"]]).teacher.info
    problems = entry.method.problems(entry.params(), bare, bare)
    assert len(problems) == 1 and "form sum" in problems[0][0] and "form=mean" in problems[0][2]
    assert not entry.method.problems(entry.params(form="mean"), bare, bare)
    assert not entry.method.problems(entry.params(), bare, Scene("ofd", {}).teacher.info)
    assert not entry.method.problems(entry.params(), bare, None)


@pytest.mark.parametrize(("student", "teacher"), [("resnet8", "resnet20"), ("resnet8", "resnet8x4"), ("resnet8x4", "resnet8")])
def test_connectors_are_always_there_and_learn(student: str, teacher: str) -> None:
    scene = Scene("ofd", {}, student=student, teacher=teacher)
    scene.terms()["ofd"].backward()
    for connector, shape in zip(scene.method.connectors, scene.teacher.info.stages, strict=True):
        assert connector[0].out_channels == shape[0] and all(p.grad is not None for p in connector.parameters())
    assert gradients(scene.student) > 0 and gradients(scene.teacher) == 0


def test_the_larger_map_is_averaged_down() -> None:
    x = inputs()
    wide = torch.rand(8, 4, 8, 8, dtype=torch.float64) - 0.5
    term = _unconnected(Maps("ofd", {}, [wide], [x["ft"]], norms=[_norms(-0.5, 4)])).terms()["ofd"].item()
    small = wide.reshape(8, 4, 4, 2, 4, 2).mean((3, 5)).numpy()
    assert term == pytest.approx(0.001 * 64 * _np_ofd(small, x["ft"].numpy(), np.full(4, -0.5)), rel=1e-9)
