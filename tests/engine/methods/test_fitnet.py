"""FitNet's regressor, and why it refuses. Reads / writes: nothing."""

from __future__ import annotations

import pytest
import torch

from kdengine import methods
from kdengine.methods.contract import DataInfo
from kdengine.models.contract import NetInfo
from tests.engine.scene import CLASSES


def _info(channels: int, size: int, model: str = "fake") -> NetInfo:
    stages = tuple((channels * 2**i, size // 2**i, size // 2**i) for i in range(3))
    return NetInfo(model, CLASSES, size, 1, 1, stages[-1][0], stages, stages[0], stages)


@pytest.mark.parametrize("sizes", [(16, 16), (32, 16), (16, 32), (24, 16), (8, 32)])
@pytest.mark.parametrize("regressor", ["linear", "bn_relu"])
def test_fitnet_meets_maps_of_any_size(sizes: tuple[int, int], regressor: str) -> None:
    entry = methods.get("fitnet")
    student, teacher = _info(4, sizes[0]), _info(6, sizes[1])
    data = DataInfo("fake", 8, CLASSES, 32, torch.arange(8), (0.0,) * 3, (1.0,) * 3)
    method = entry.method(entry.params(stage=1, regressor=regressor), student, teacher, {}, data)
    out = method.regressor(torch.randn(2, *student.stages[0]))
    assert out.shape[1] == 6 and (sizes == (8, 32) or out.shape[2] == sizes[1])


def test_fitnet_says_why_it_cannot() -> None:
    entry = methods.get("fitnet")
    assert "stage 4" in entry.method.problems(entry.params(stage=4), _info(4, 16), _info(4, 16))[0][0]
    unequal = entry.params(regressor="none")
    assert "regressor none" in entry.method.problems(unequal, _info(4, 16), _info(6, 16))[0][0]
    assert not entry.method.problems(unequal, _info(4, 16), _info(4, 16))
