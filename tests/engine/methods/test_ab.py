"""Activation boundaries against NumPy, the scales of both forms, connectors and phases. Reads / writes: nothing."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import nn

from kdengine.losses import ab
from tests.engine.scene import Maps, Scene, gradients
from tests.engine.test_losses import inputs


def _np_ab(s: np.ndarray, t: np.ndarray, margin: float) -> float:
    def one(a: float, b: float) -> float:
        if b <= 0:
            return (a + margin) ** 2 if a > -margin else 0.0
        return (a - margin) ** 2 if a <= margin else 0.0

    return float(np.mean([one(a, b) for a, b in zip(s.ravel(), t.ravel(), strict=True)]))


@pytest.mark.parametrize("margin", [0.3, 1.0, 2.0])
def test_against_numpy(margin: float) -> None:
    rng = np.random.default_rng(6)
    s, t = (2 * rng.standard_normal((4, 3, 5, 6)) for _ in range(2))
    t[:, :, 0] = 0  # on the border counts as off
    assert ab(torch.tensor(s), torch.tensor(t), margin).item() == pytest.approx(_np_ab(s, t, margin), rel=1e-12)


def test_only_the_sign_of_the_teacher_counts() -> None:
    x = inputs()
    assert ab(x["fs"], x["ft"]).item() == ab(x["fs"], x["ft"].sign()).item() == ab(x["fs"], 100 * x["ft"]).item()
    assert ab(5 * x["ft"].sign(), x["ft"]).item() == 0, "far enough on the right side"


def test_the_sum_is_that_of_the_authors() -> None:
    x = inputs()
    one = Maps("ab", {}, [x["fs"]], [x["ft"]]).terms("init")
    assert set(one) == {"ab"} and one["ab"].item() == pytest.approx(0.15326696, abs=6e-9)  # RepDistiller, one layer
    two = Maps("ab", {}, [x["fs"], x["fs2"]], [x["ft"], x["ft2"]]).terms("init")
    assert two["ab"].item() == pytest.approx(0.207332721376, rel=1e-10)  # RepDistiller, two layers weighing 1/2 and 1


def test_the_mean_is_that_of_the_zoo() -> None:
    x, knobs = inputs(), {"form": "mean"}
    assert Maps("ab", knobs, [x["fs"]], [x["ft"]]).terms("init")["ab"].item() == pytest.approx(10 * 3.09348953, rel=1e-8)
    two = Maps("ab", knobs, [x["fs"], x["fs2"]], [x["ft"], x["ft2"]]).terms("init")["ab"].item()
    assert two == pytest.approx(5 * (3.09348952627 + _np_ab(x["fs2"].numpy(), x["ft2"].numpy(), 2.0)), rel=1e-10)


def test_after_the_start_come_labels_and_on_request_soft_targets() -> None:
    scene = Scene("ab", {"main": "soft_targets"})
    terms = scene.terms()
    s, t = scene.student(scene.x).logits, scene.teacher(scene.x).logits
    p = (t / 3).softmax(1)
    expected = (p * (p.log() - (s / 3).log_softmax(1))).sum(1).mean()  # no T^2
    torch.testing.assert_close(terms["kd"], expected)
    assert set(Scene("ab", {}).terms()) == {"ce"} and set(terms) == {"ce", "kd"}


def test_connectors_only_where_channels_differ() -> None:
    assert all(isinstance(c, nn.Identity) for c in Scene("ab", {}, "init").method.connectors)
    scene = Scene("ab", {}, "init", student="resnet8", teacher="resnet8x4")
    scene.terms()["ab"].backward()
    for connector, channels in zip(scene.method.connectors, (64, 128, 256), strict=True):
        assert connector[0].out_channels == channels and connector[0].bias is None and gradients(connector) > 0
    spread = scene.method.connectors[2][0].weight.std().item()
    assert spread == pytest.approx((2 / 256) ** 0.5, rel=0.05), "the authors' initial weights"


def test_the_larger_map_is_averaged_down() -> None:
    x = inputs()
    wide = torch.rand(8, 4, 8, 8, dtype=torch.float64) - 0.5
    term = Maps("ab", {"form": "mean"}, [wide], [x["ft"]]).terms("init")["ab"].item()
    small = wide.reshape(8, 4, 4, 2, 4, 2).mean((3, 5))
    assert term == pytest.approx(10 * _np_ab(small.numpy(), x["ft"].numpy(), 2.0), rel=1e-10)


def test_phases() -> None:
    init, main = Scene("ab", {"init_epochs": 7}).phases
    assert (init.name, init.epochs, init.lr_scale, init.milestones) == ("init", 7, 1.0, ())
    assert init.trains == ("student", "method.connectors") and main.trains == main.runs == ("student",)
    zoo = Scene("ab", {"form": "mean"}).phases[0]
    assert (zoo.epochs, zoo.lr_scale, zoo.milestones) == (50, 0.1, (0.6, 0.8))
    assert "teacher" in Scene("ab", {"main": "soft_targets"}).phases[1].runs
