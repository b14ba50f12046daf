"""Neuron selectivity transfer against NumPy, whichever way it is computed, and dead channels. Reads / writes: nothing."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from kdengine.losses import nst
from tests.engine.scene import Maps, Scene
from tests.engine.test_losses import inputs


def _np_nst(s: np.ndarray, t: np.ndarray) -> float:
    def kernel(a: np.ndarray, b: np.ndarray) -> float:
        return float(np.mean([np.dot(x, y) ** 2 for x in a for y in b]))

    values = []
    for image_s, image_t in zip(s, t, strict=True):
        a, b = (np.array([c.ravel() / np.sqrt((c**2).sum()) for c in image]) for image in (image_s, image_t))
        values.append(kernel(b, b) + kernel(a, a) - 2 * kernel(a, b))
    return float(np.mean(values))


# few places: products of places; many places: products of channels
@pytest.mark.parametrize("size", [(2, 2), (1, 5), (3, 3), (6, 4)])
@pytest.mark.parametrize("channels", [(3, 5), (5, 3), (9, 9)])
def test_against_numpy(size: tuple[int, int], channels: tuple[int, int]) -> None:
    rng = np.random.default_rng(2)
    s, t = (rng.standard_normal((4, c, *size)) for c in channels)
    assert nst(torch.tensor(s), torch.tensor(t)).item() == pytest.approx(_np_nst(s, t), rel=1e-10, abs=1e-14)


@pytest.mark.parametrize(("stages", "weights"), [("last", (0, 1)), ("sum", (1, 1)), ("mean", (0.5, 0.5))])
def test_stages_are_put_together_as_said(stages: str, weights: tuple[float, float]) -> None:
    x = inputs()
    terms = Maps("nst", {"stages": stages}, [x["fs"], x["fs2"]], [x["ft"], x["ft2"]]).terms()
    expected = 50 * (weights[0] * 0.109166571342 + weights[1] * 0.120377068749)
    assert set(terms) == {"ce", "nst"} and terms["nst"].item() == pytest.approx(expected, rel=1e-10)


@pytest.mark.parametrize("shape", [(2, 6, 8, 8), (2, 6, 2, 2)])
def test_a_dead_channel_gives_no_gradient_and_no_nan(shape: tuple[int, ...]) -> None:
    student = torch.rand(shape)
    student[:, 1] = 0
    student.requires_grad_()
    value = nst(student, torch.rand(shape))
    value.backward()
    assert torch.isfinite(value) and torch.isfinite(student.grad).all()
    assert student.grad[:, 1].abs().max() == 0 and student.grad[:, 0].abs().max() > 0


def test_two_thousand_channels_need_no_table_of_all_pairs() -> None:
    maps = [torch.rand(16, 2048, 2, 2) for _ in range(2)]  # a table of all pairs of channels would have 256 MiB
    with torch.profiler.profile(profile_memory=True) as profile:
        nst(*maps)
    assert max(e.cpu_memory_usage for e in profile.events()) < 8 << 20


def test_unequal_widths_meet() -> None:
    assert torch.isfinite(Scene("nst", {"stages": "sum"}, student="resnet8", teacher="resnet8x4").terms()["nst"])
