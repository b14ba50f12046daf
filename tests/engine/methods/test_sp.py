"""Similarities of a batch against NumPy, which stages count, and maps of zeros. Reads / writes: nothing."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from kdengine import losses
from tests.engine.scene import Scene


def _np_similarities(maps: np.ndarray) -> np.ndarray:
    gram = np.array([[(a * b).sum() for b in maps] for a in maps])
    return np.array([row / np.sqrt((row**2).sum()) for row in gram])


def test_sp_against_numpy() -> None:
    rng = np.random.default_rng(7)
    s, t = rng.standard_normal((5, 6, 3, 4)), rng.standard_normal((5, 2, 7, 7))
    expected = ((_np_similarities(s) - _np_similarities(t)) ** 2).mean()
    for layout in (torch.contiguous_format, torch.channels_last):
        maps = [torch.tensor(a).contiguous(memory_format=layout) for a in (s, t)]
        assert losses.sp(*maps).item() == pytest.approx(expected, rel=1e-12)


def test_which_stages_count() -> None:
    terms = {how: Scene("sp", {"stages": how}).terms()["sp"] for how in ("last", "sum", "mean")}
    scene = Scene("sp", {})
    with torch.no_grad():
        maps = [scene.student(scene.x, frozenset({"stages"})).stages, scene.teacher(scene.x, frozenset({"stages"})).stages]
    each = [3000 * losses.sp(s, t) for s, t in zip(*maps, strict=True)]
    torch.testing.assert_close(terms["last"], each[-1])
    torch.testing.assert_close(terms["sum"], sum(each))
    torch.testing.assert_close(terms["mean"], sum(each) / 3)


@pytest.mark.parametrize("dead", [1, 8])
def test_images_whose_map_is_zero_do_not_blow_up_the_gradient(dead: int) -> None:
    torch.manual_seed(1)
    s, t = torch.rand(8, 4, 2, 2), torch.rand(8, 4, 2, 2)
    s[:dead] = 0
    s.requires_grad_()
    losses.sp(s, t).backward()
    assert torch.isfinite(s.grad).all() and s.grad.abs().max() < 1
