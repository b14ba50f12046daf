"""Any student learns from any teacher: every method between networks of different families, widths, depths and sizes."""

from __future__ import annotations

import pytest
import torch

from kdengine import methods
from kdengine.methods._math import paired
from tests.engine.scene import Scene, gradients

# student, teacher: fewer and more stages, narrower and wider, maps of other sizes, linear ends, pre-activation
PAIRS = [("resnet8", "vgg8"), ("vgg8", "resnet8"), ("mobilenetv2", "wrn_16_2"), ("wrn_16_1", "mobilenetv2"),
         ("shufflenetv1", "resnet18"), ("shufflenetv2", "resnet8x4")]  # fmt: skip
TAUGHT = [key for key, entry in methods.entries().items() if entry.card.teacher_mode != "none" and not entry.card.chain]
# what cannot be, and a word of the reason: there is no BatchNorm before an activation at the end of MobileNetV2's stages
REFUSED = {("ofd", "wrn_16_1", "mobilenetv2"): "margin"}


@pytest.mark.slow
@pytest.mark.parametrize(("student", "teacher"), PAIRS)
@pytest.mark.parametrize("key", TAUGHT)
def test_a_method_works_between_families(key: str, student: str, teacher: str) -> None:
    card = methods.get(key).card
    for phase in card.phases:
        scene = Scene(key, {}, phase, size=32, student=student, teacher=teacher)
        reason = REFUSED.get((key, student, teacher))
        assert bool(scene.faults) == bool(reason), scene.faults
        if reason:
            assert reason in " ".join(scene.faults[0])
            return
        if scene.phase is None:
            continue
        terms = scene.terms()
        assert all(torch.isfinite(value) for value in terms.values()), terms
        sum(terms.values()).backward()
        assert "student" not in scene.phase.trains or gradients(scene.student) > 0


def test_stages_are_paired_from_the_last_one_backwards() -> None:
    assert paired("abc", "wxyz") == [("a", "x"), ("b", "y"), ("c", "z")]
    assert paired("wxyz", "abc") == [("x", "a"), ("y", "b"), ("z", "c")]
