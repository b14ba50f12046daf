"""FitNet's regressor, its two forms, and why it refuses. Reads / writes: nothing."""

from __future__ import annotations

import pytest
import torch

from kdengine import methods
from kdengine.methods.contract import DataInfo
from kdengine.models.contract import NetInfo
from tests.engine.scene import CLASSES, Maps, Scene, gradients
from tests.engine.test_losses import inputs


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
    assert not entry.method.problems(entry.params(stage=0), _info(4, 16), _info(6, 16))


def test_the_default_is_the_papers_two_stages() -> None:
    hint, main = Scene("fitnet", {"hint_epochs": 7}).phases
    assert (hint.name, hint.epochs, main.trains) == ("hint", 7, ("student",))
    scene = Scene("fitnet", {}, "hint")
    terms = scene.terms()
    terms["hint"].backward()
    assert set(terms) == {"hint"} and gradients(scene.method.regressor) > 0
    assert gradients(scene.student.layer2) > 0 == gradients(scene.student.layer3), "nothing above the guided stage learns"


def test_soft_targets_lose_weight_from_4_to_1() -> None:
    x = inputs()
    maps = Maps("fitnet", {}, [x["fs"], x["fs2"]], [x["ft"], x["ft2"]])
    maps.student.outputs.logits, maps.teacher.outputs.logits = x["ls"], x["lt"]
    values = [maps.terms(epoch=epoch, epochs=300)["kd"].item() for epoch in (0, 100, 200)]
    unweighted = 0.23924397  # soft targets at T 3 without T^2: the fact that bss rests on as well
    assert values == pytest.approx([4 * unweighted, 3 * unweighted, 2 * unweighted], rel=1e-7)
    assert set(maps.terms()) == {"ce", "kd"}


def test_the_joint_form_is_that_of_the_tables() -> None:
    x, knobs = inputs(), {"form": "joint", "stage": 1, "regressor": "none", "beta": 100.0}
    terms = Maps("fitnet", knobs, [x["fs"], x["fs2"]], [x["ft"], x["ft2"]]).terms()
    assert set(terms) == {"ce", "hint"} and terms["hint"].item() == pytest.approx(100 * 0.45476846, rel=1e-7)
    assert [p.name for p in Scene("fitnet", {"form": "joint"}).phases] == ["main"]


def test_stage_0_is_the_last_one_of_either_network() -> None:
    x, knobs = inputs(), {"form": "joint", "stage": 0, "regressor": "none"}  # Knowledge-Distillation-Zoo's
    terms = Maps("fitnet", knobs, [x["fs2"], x["fs"]], [x["ft"]]).terms()
    assert terms["hint"].item() == pytest.approx(0.1 * 0.45476846, rel=1e-7)
