"""Weighted channels: the formula in NumPy, the attention against published code, unequal networks. Reads / writes: nothing."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import nn

from kdengine.losses import afds
from kdengine.methods.afds import ChannelAttention
from tests.engine.scene import Scene
from tests.engine.test_losses import inputs


def _oracle(s: np.ndarray, t: np.ndarray, rho: np.ndarray) -> float:
    total = 0.0
    for n in range(s.shape[0]):
        for c in range(s.shape[1]):
            a, b = (m[n, c] / (np.sqrt((m[n, c] ** 2).sum()) + 1e-6) for m in (s, t))
            total += rho[n, c] * ((a - b) ** 2).mean()
    return total / len(s)


@pytest.mark.parametrize("layout", [torch.contiguous_format, torch.channels_last])
def test_loss_against_numpy(layout: torch.memory_format) -> None:
    rng = np.random.default_rng(7)
    s, t, rho = rng.standard_normal((5, 6, 3, 4)), rng.standard_normal((5, 6, 3, 4)), rng.random((5, 6))
    s[1, 2] = 0  # a channel that is off everywhere
    rho /= rho.sum(1, keepdims=True)
    maps = [torch.tensor(a).contiguous(memory_format=layout).requires_grad_() for a in (s, t)]
    value = afds(*maps, torch.tensor(rho))
    value.backward()
    assert value.item() == pytest.approx(_oracle(s, t, rho), rel=1e-12)
    assert torch.isfinite(maps[0].grad).all()


def _fill(module: nn.Module) -> None:
    """Give all parameters, in their order, the values sin(0.37 i + 0.2), i = 0, 1, ..."""
    start = 0
    for p in module.parameters():
        p.data = torch.sin(0.37 * torch.arange(start, start + p.numel(), dtype=torch.float64) + 0.2).reshape(p.shape)
        start += p.numel()


def test_attention_against_published_code() -> None:
    """0.06108740: Knowledge-Distillation-Zoo's AFD with these weights on these maps, run in float64.

    The block computes its last step in fp32, so that bf16 cannot harm it; hence six digits.
    """
    attention = ChannelAttention(4, 1.0)
    _fill(attention)
    rho = attention(inputs()["ft"])
    torch.testing.assert_close(rho.sum(1), torch.ones(8, dtype=rho.dtype))
    assert afds(inputs()["fs"], inputs()["ft"], rho).item() == pytest.approx(0.06108740, rel=1e-6)


def test_weight_and_stages() -> None:
    how = {name: Scene("afds", {"stages": name}) for name in ("mean", "sum", "last")}
    terms = {name: scene.terms()["afds"].item() for name, scene in how.items()}
    assert terms["sum"] == pytest.approx(3 * terms["mean"], rel=1e-5)
    scene = how["mean"]
    student, teacher = (net(scene.x, frozenset({"stages"})) for net in (scene.student, scene.teacher))
    values = [
        _oracle(s.detach().numpy(), t.detach().numpy(), attend(t).detach().numpy())
        for s, t, attend in zip(student.stages, teacher.stages, scene.method.attention, strict=True)
    ]
    assert terms["mean"] == pytest.approx(500 * np.mean(values), rel=1e-4)
    assert len(how["last"].method.attention) == 1


@pytest.mark.parametrize(("student", "teacher"), [("resnet8", "resnet8x4"), ("resnet8x4", "resnet8"), ("resnet8", "resnet20")])
def test_connectors_only_where_channels_differ(student: str, teacher: str) -> None:
    scene = Scene("afds", {"att_f": 0.5}, student=student, teacher=teacher)
    learnt = [len(list(c.parameters())) for c in scene.method.connectors]
    assert all(learnt) if "x4" in student + teacher else not any(learnt)
    assert scene.terms()["afds"] > 0
    widths = [a.layers[0].out_channels for a in scene.method.attention]
    assert widths == [shape[0] // 2 for shape in scene.teacher.info.stages]
