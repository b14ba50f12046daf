"""The flow between maps against NumPy, its pairs, its connectors and its phases. Reads / writes: nothing."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import nn

from kdengine.losses import fsp
from tests.engine.scene import Maps, Scene, gradients
from tests.engine.test_losses import inputs


def _np_flow(first: np.ndarray, second: np.ndarray) -> np.ndarray:
    factor = first.shape[2] // second.shape[2]
    b, c, h, w = first.shape
    pooled = first.reshape(b, c, h // factor, factor, w // factor, factor).mean((3, 5))
    return np.array([[[np.mean(x * y) for y in two] for x in one] for one, two in zip(pooled, second, strict=True)])


def _np_fsp(s1: np.ndarray, s2: np.ndarray, t1: np.ndarray, t2: np.ndarray) -> float:
    return float(((_np_flow(s1, s2) - _np_flow(t1, t2)) ** 2).mean())


@pytest.mark.parametrize("factor", [1, 2, 4])
def test_against_numpy(factor: int) -> None:
    rng = np.random.default_rng(3)
    s1, t1 = (rng.standard_normal((4, 3, 2 * factor, 3 * factor)) for _ in range(2))
    s2, t2 = (rng.standard_normal((4, 5, 2, 3)) for _ in range(2))
    maps = [torch.tensor(m) for m in (s1, s2, t1, t2)]
    assert fsp(*maps).item() == pytest.approx(_np_fsp(s1, s2, t1, t2), rel=1e-12)
    s1, s2, t1, t2 = maps
    assert fsp(s2, s1, t2, t1).item() == pytest.approx(fsp(*maps).item(), rel=1e-12)  # the transposed tables


def test_networks_of_unequal_sizes_have_tables_of_one_size() -> None:
    rng = np.random.default_rng(4)
    s1, s2, t1, t2 = (rng.standard_normal((2, 3, n, n)) for n in (8, 4, 4, 2))
    expected = _np_fsp(s1, s2, t1, t2)
    assert fsp(*(torch.tensor(m) for m in (s1, s2, t1, t2))).item() == pytest.approx(expected, rel=1e-12)


@pytest.mark.parametrize(("stages", "weights"), [("sum", (1, 1)), ("mean", (0.5, 0.5)), ("last", (0, 1))])
def test_pairs_are_put_together_as_said(stages: str, weights: tuple[float, float]) -> None:
    x, rng = inputs(), np.random.default_rng(5)
    stems = tuple(torch.tensor(rng.standard_normal((8, 3, 4, 4))) for _ in range(2))
    maps = Maps("fsp", {"stages": stages, "beta": 2.0}, [x["fs"], x["fs2"]], [x["ft"], x["ft2"]], stems=stems)
    stem_s, stem_t = (s.numpy() for s in stems)
    first = _np_fsp(stem_s, x["fs"].numpy(), stem_t, x["ft"].numpy())
    terms = maps.terms("init")
    assert terms["fsp"].item() == pytest.approx(2 * (weights[0] * first + weights[1] * 0.23895010393), rel=1e-9)
    assert set(terms) == {"fsp"} and set(maps.terms()) == {"ce"}


def test_connectors_only_where_channels_differ() -> None:
    equal = Scene("fsp", {}, "init").method.connectors
    assert len(equal) == 4 and all(isinstance(c, nn.Identity) for c in equal)
    scene = Scene("fsp", {}, "init", student="resnet8", teacher="resnet8x4")
    assert [c[0].out_channels for c in scene.method.connectors] == [32, 64, 128, 256]
    scene.terms()["fsp"].backward()
    assert all(gradients(c) > 0 for c in scene.method.connectors)


def test_the_last_pair_alone_has_two_connectors() -> None:
    scene = Scene("fsp", {"stages": "last"}, "init", student="resnet8x4", teacher="resnet8")
    scene.terms()["fsp"].backward()
    assert len(scene.method.connectors) == 2 and all(gradients(c) > 0 for c in scene.method.connectors)


def test_phases() -> None:
    init, main = Scene("fsp", {"init_epochs": 7}).phases
    assert (init.name, init.epochs, init.lr_scale, init.milestones) == ("init", 7, 0.1, (0.6, 0.8))
    assert init.trains == ("student", "method.connectors") and main.trains == main.runs == ("student",)
