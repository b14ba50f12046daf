"""Gradients by the image: the formula in NumPy, the term against Jacobians, second derivatives. Reads / writes: nothing."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from kdengine.losses import sobolev
from kdengine.models.contract import Network
from tests.engine.scene import Scene, gradients


def _oracle(s: np.ndarray, t: np.ndarray) -> float:
    rows = [np.mean((a / np.sqrt((a**2).sum()) - b / np.sqrt((b**2).sum())) ** 2) for a, b in zip(s, t, strict=True)]
    return float(np.mean(rows))


@pytest.mark.parametrize("layout", [torch.contiguous_format, torch.channels_last])
def test_loss_against_numpy(layout: torch.memory_format) -> None:
    rng = np.random.default_rng(7)
    s, t = rng.standard_normal((5, 3, 4, 6)), rng.standard_normal((5, 3, 4, 6))
    grads = [torch.tensor(a).contiguous(memory_format=layout) for a in (s, t)]
    assert sobolev(*grads).item() == pytest.approx(_oracle(s, t), rel=1e-12)
    assert sobolev(100 * grads[0], grads[1]).item() == pytest.approx(_oracle(s, t), rel=1e-12), "only directions count"


def _scene(dtype: torch.dtype = torch.float64) -> Scene:
    scene = Scene("sobolev", {})
    scene.student.eval()  # so that the images do not depend on one another
    scene.student.to(dtype), scene.teacher.to(dtype)
    scene.batch.x = scene.batch.x.to(dtype)
    return scene


def test_term_is_that_of_the_jacobians() -> None:
    scene = _scene()
    term = scene.terms()["sobolev"].item()
    images, labels = scene.batch.x.detach(), scene.batch.y
    found = [_jacobians(network, images, labels) for network in (scene.student, scene.teacher)]
    assert term == pytest.approx(20 * _oracle(*found), rel=1e-9)


def _jacobians(network: Network, images: torch.Tensor, labels: torch.Tensor) -> np.ndarray:
    """The row of the label of each image's Jacobian, image by image."""
    of = [torch.autograd.functional.jacobian(lambda x: network(x).logits[0], image[None]) for image in images]
    return np.stack([jacobian[label, 0].numpy() for jacobian, label in zip(of, labels, strict=True)])


def test_second_derivative_against_finite_differences() -> None:
    scene = _scene()
    weight = scene.student.layer2[0].conv1.weight
    scene.terms()["sobolev"].backward()
    direction = weight.grad / weight.grad.norm()
    values = []
    for shift in (1e-5, -2e-5):
        with torch.no_grad():
            weight += shift * direction
        values.append(scene.terms()["sobolev"].item())
    assert (values[0] - values[1]) / 2e-5 == pytest.approx(weight.grad.norm().item(), rel=1e-4)


def test_gradients_of_zero_are_harmless() -> None:
    scene = _scene(torch.float32)
    torch.nn.init.zeros_(scene.student.fc.weight)  # every logit is its bias: the gradient by the image is exactly zero
    terms = scene.terms()
    sum(terms.values()).backward()
    assert terms["sobolev"].item() == pytest.approx(20 / scene.x[0].numel(), rel=1e-4)
    assert 0 < gradients(scene.student) < 1e3, "a division by a tiny length would make it huge"


def test_second_derivative_in_bf16_and_channels_last() -> None:
    found = []
    for half in (False, True):
        scene = Scene("sobolev", {})
        if half:
            scene.student.to(memory_format=torch.channels_last), scene.teacher.to(memory_format=torch.channels_last)
            scene.batch.x = scene.batch.x.contiguous(memory_format=torch.channels_last)
        scene.terms(bf16=half)["sobolev"].backward()
        found.append(torch.cat([p.grad.flatten() for p in scene.student.parameters() if p.grad is not None]))
    assert torch.isfinite(found[1]).all()
    assert torch.cosine_similarity(*found, dim=0) > 0.9  # 0.97 here; a wrong derivative has 0
