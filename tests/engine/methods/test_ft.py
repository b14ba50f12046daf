"""Factor transfer between networks of unequal widths, with and without BatchNorm. Reads / writes: nothing."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from kdengine.losses import ft
from tests.engine.scene import Scene, gradients


@pytest.mark.parametrize(("student", "teacher"), [("resnet8", "resnet8x4"), ("resnet8x4", "resnet8")])
def test_factors_of_unequal_widths_meet(student: str, teacher: str) -> None:
    scene = Scene("ft", {}, student=student, teacher=teacher)
    assert torch.isfinite(scene.terms()["ft"])
    assert scene.method.translator[2].out_channels == scene.teacher.info.stages[-1][0] // 2


@pytest.mark.parametrize("batchnorm", [False, True])
@pytest.mark.parametrize("phase", ["paraphraser", "main"])
def test_batchnorm_stands_behind_every_convolution_or_nowhere(batchnorm: bool, phase: str) -> None:
    scene = Scene("ft", {"batchnorm": batchnorm}, phase)
    kinds = [type(m) for m in scene.method.modules() if not list(m.children())]
    convolutions = kinds.count(nn.Conv2d) + kinds.count(nn.ConvTranspose2d)
    assert convolutions == 9 and kinds.count(nn.BatchNorm2d) == 9 * batchnorm
    assert all((m.bias is None) == batchnorm for m in scene.method.modules() if isinstance(m, nn.Conv2d | nn.ConvTranspose2d))
    sum(scene.terms().values()).backward()
    learns = scene.method.paraphraser if phase == "paraphraser" else scene.method.translator
    assert all(p.grad is not None and p.grad.abs().sum() > 0 for p in learns.parameters())
    assert gradients(scene.student) > 0 or phase == "paraphraser"


def test_a_factor_of_zeros_gives_no_nan() -> None:
    factor = torch.zeros(3, 2, 4, 4, requires_grad=True)
    value = ft(factor, torch.rand(3, 2, 4, 4))
    value.backward()
    assert torch.isfinite(value) and factor.grad.abs().max() < 1
