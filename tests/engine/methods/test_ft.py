"""Factor transfer between networks of unequal widths. Reads / writes: nothing."""

from __future__ import annotations

import pytest
import torch

from tests.engine.scene import Scene


@pytest.mark.parametrize(("student", "teacher"), [("resnet8", "resnet8x4"), ("resnet8x4", "resnet8")])
def test_factors_of_unequal_widths_meet(student: str, teacher: str) -> None:
    scene = Scene("ft", {}, student=student, teacher=teacher)
    assert torch.isfinite(scene.terms()["ft"])
    assert scene.method.translator[2].out_channels == scene.teacher.info.stages[-1][0] // 2
