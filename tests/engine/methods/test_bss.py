"""The attack against the authors' loop in NumPy, who is attacked, schedules, and traps. Reads / writes: nothing."""

from __future__ import annotations

import copy

import numpy as np
import pytest
import torch

from kdengine import methods
from kdengine.losses import bss
from kdengine.methods.bss import candidates, draw_targets, to_boundary, weights
from kdengine.methods.contract import Progress
from kdengine.models.contract import Outputs
from tests.engine.scene import Scene, gradients

PARAMS = methods.get("bss").params


def _softmax(z: np.ndarray) -> np.ndarray:
    e = np.exp(z - z.max(-1, keepdims=True))
    return e / e.sum(-1, keepdims=True)


def _kl_rows(s: np.ndarray, t: np.ndarray, T: float) -> np.ndarray:
    p, q = _softmax(t / T), _softmax(s / T)
    return (p * np.log(p / q)).sum(1)


@pytest.mark.parametrize("T", [1.0, 3.0])
def test_loss_against_numpy(T: float) -> None:
    rng = np.random.default_rng(7)
    s, t = 5 * rng.standard_normal((6, 13)), 5 * rng.standard_normal((6, 13))
    rows, counts = _kl_rows(s, t, T), np.array([True, False, True, True, False, False])
    assert bss(torch.tensor(s), torch.tensor(t), T).item() == pytest.approx(rows.mean(), rel=1e-12)
    some = bss(torch.tensor(s), torch.tensor(t), T, torch.tensor(counts))
    assert some.item() == pytest.approx(rows[counts].mean(), rel=1e-12)


def test_gradient_is_that_of_the_soft_cross_entropy() -> None:
    torch.manual_seed(0)
    s, t = torch.randn(4, 5, dtype=torch.float64, requires_grad=True), torch.randn(4, 5, dtype=torch.float64)
    (kl,) = torch.autograd.grad(bss(s, t, 3.0), s)
    (cross,) = torch.autograd.grad(-((t / 3).softmax(1) * (s / 3).log_softmax(1)).sum() / 4, s)
    torch.testing.assert_close(kl, cross)


# the attack


def _attacked(weight: np.ndarray, x: np.ndarray, y: int, k: int, low: np.ndarray, high: np.ndarray, form: str) -> np.ndarray:
    """One image (C, H, W) against a linear teacher, as the authors' loop does it: stop when the teacher's answer flips."""
    x = x.copy()
    for _ in range(10):
        z = weight @ x.ravel()
        if z.argmax() != y:
            break
        p = _softmax(z)
        if form == "official":
            lead, gradient = z[y] - z[k], weight[k] - weight[y]
        else:
            lead, mean = p[y] - p[k], p @ weight
            gradient = p[k] * (weight[k] - mean) - p[y] * (weight[y] - mean)
        x = x + 0.3 * (lead + 1e-4) * (gradient / np.sqrt((gradient**2).sum())).reshape(x.shape)
        x = np.minimum(np.maximum(x, low[:, None, None]), high[:, None, None])
    return x


@pytest.mark.parametrize("form", ["official", "zoo"])
@pytest.mark.parametrize("bound", [2.5, 0.8])
def test_attack_against_the_authors_loop(form: str, bound: float) -> None:
    rng = np.random.default_rng(3)
    weight = rng.standard_normal((5, 48)) / 3
    low, high = np.array([-bound, -2.0, -bound]), np.array([bound, bound, 1.7])
    x = np.clip(rng.standard_normal((12, 3, 4, 4)), low[:, None, None], high[:, None, None])
    y = (x.reshape(12, -1) @ weight.T).argmax(1)
    y[0] = (y[0] + 1) % 5  # the teacher is wrong here: stays where it is
    k = (y + 1 + np.arange(12) % 4) % 5
    expected = np.stack([_attacked(weight, *image, low, high, form) for image in zip(x, y, k, strict=True)])

    matrix = torch.tensor(weight, requires_grad=True)
    bounds = torch.tensor(low)[:, None, None], torch.tensor(high)[:, None, None]
    images = torch.tensor(x).contiguous(memory_format=torch.channels_last)
    found = to_boundary(
        lambda v: Outputs(logits=v.flatten(1) @ matrix.T), images, torch.tensor(y), torch.tensor(k), *bounds, PARAMS(form=form)
    )
    assert matrix.grad is None and not found.requires_grad
    np.testing.assert_allclose(found.numpy(), expected, rtol=0, atol=1e-12)
    assert np.abs(expected - x).max() > 0.1 and (expected[0] == x[0]).all()
    if bound == 2.5 and form == "official":
        assert ((expected.reshape(12, -1) @ weight.T).argmax(1) != y).all(), "all have crossed the boundary"


def test_a_gradient_of_zero_moves_nothing() -> None:
    x = torch.randn(2, 3, 4, 4)
    bounds = torch.full((3, 1, 1), -9.0), torch.full((3, 1, 1), 9.0)
    flat = Outputs(logits=torch.tensor([[1.0, 0.0]]).expand(2, 2))
    moved = to_boundary(
        lambda v: Outputs(logits=flat.logits + 0 * v.sum()), x, torch.tensor([0, 0]), torch.tensor([1, 1]), *bounds, PARAMS()
    )
    assert torch.equal(moved, x)


# who is attacked, and towards what


def test_candidates_against_a_plain_loop() -> None:
    rng = np.random.default_rng(5)
    s, t = 2 * rng.standard_normal((40, 4)), 2 * rng.standard_normal((40, 4))
    y = np.where(rng.random(40) < 0.8, t.argmax(1), rng.integers(0, 4, 40))
    p_s, p_t = _softmax(s), _softmax(t)
    apart = {
        n: sum((p_t[n, k] - p_s[n, k]) ** 2 for k in range(4) if k != y[n])
        for n in range(40)
        if s[n].argmax() == y[n] == t[n].argmax()
    }
    best = sorted(apart, key=apart.__getitem__, reverse=True)
    assert 5 < len(best) < 30
    for size in (5, 30, 100):
        chosen, counts = candidates(torch.tensor(s), torch.tensor(t), torch.tensor(y), size)
        assert chosen.shape == counts.shape == (min(size, 40),)
        assert chosen[counts].tolist() == best[:size]


def test_targets_are_drawn_by_the_teachers_probabilities() -> None:
    logits = torch.tensor([0.0, 2.0, 1.0, -1.0]).expand(20_000, 4)
    drawn = draw_targets(logits, torch.Generator().manual_seed(1))
    assert torch.equal(drawn, draw_targets(logits, torch.Generator().manual_seed(1)))
    assert not torch.equal(drawn, draw_targets(logits, torch.Generator().manual_seed(2)))
    others = _softmax(np.array([0.0, 1.0, -1.0]))
    found = [(drawn == k).double().mean().item() for k in (0, 2, 3)]
    assert (drawn != 1).all() and found == pytest.approx(others.tolist(), abs=0.015)  # four standard deviations


def test_targets_of_a_teacher_that_is_quite_sure() -> None:
    sure = torch.tensor([[1e4, 0.0, -1e4], [0.0, 0.0, 1e4]])
    drawn = draw_targets(sure.bfloat16(), torch.Generator().manual_seed(1))
    assert drawn[0] == 1 and drawn[1] in (0, 1)


# weights


def test_schedule_of_the_authors() -> None:
    params = PARAMS(lambda_clean=1, lambda_kd=2)
    for epoch in (1, 20, 59, 60, 61, 80):  # of 80, as in the authors' script
        expected = max(3 * (1 - epoch / 80), 0) + 1, max(2 * (1 - 4 / 3 * epoch / 80), 0)
        assert weights(params, epoch, 80) == pytest.approx(expected, abs=1e-12)
    assert weights(params, 60, 80)[1] == 0


def test_schedule_of_the_zoo() -> None:
    params = PARAMS(form="zoo")
    for epoch in (1, 10, 11, 100, 160, 161, 200):  # of 200, as in its script
        expected = 0 if epoch <= 10 else max(2 * (1 - 5 / 4 * (epoch - 1) / 200), 0)
        assert weights(params, epoch, 200) == (0, pytest.approx(expected, abs=1e-12))
    assert [weights(params, epoch, 15)[1] > 0 for epoch in (1, 2, 12, 13)] == [False, True, True, False]


# the whole


def _alike(form: str = "official", **knobs: object) -> Scene:
    """A scene in which both networks get all images right: labels are the teacher's, the student is the same, but surer."""
    scene = Scene("bss", {"form": form, **knobs}, teacher="resnet8")
    scene.student = copy.deepcopy(scene.teacher).requires_grad_(True)
    for p in scene.student.fc.parameters():
        p.data *= 3
    scene.batch.y = scene.teacher(scene.x).logits.argmax(1)
    return scene


@pytest.mark.parametrize("form", ["official", "zoo"])
def test_terms_of_networks_that_are_right(form: str) -> None:
    scene = _alike(form)
    seen: list[torch.Tensor] = []
    scene.student.register_forward_hook(lambda module, args, out: seen.append(args[0].detach()))
    terms = scene.terms()
    assert torch.equal(seen[0], scene.x) and len(seen) == 2
    clean, boundary = weights(PARAMS(form=form), 2, 4)  # the scene is in the second of four epochs
    moved = seen[1]
    assert not torch.equal(moved.sort(0).values, scene.x.sort(0).values) and moved.abs().max() <= 2, "within the dataset's range"
    with torch.no_grad():
        logits = [[net(x).logits.double().numpy() for net in (scene.student, scene.teacher)] for x in (scene.x, moved)]
    assert terms["bss"].item() == pytest.approx(boundary * _kl_rows(*logits[1], 3).mean(), rel=1e-4)
    assert ("kd" in terms) == (form == "official")
    if form == "official":
        assert terms["kd"].item() == pytest.approx(clean * _kl_rows(*logits[0], 3).mean(), rel=1e-4)


def test_gradients_reach_the_student_only() -> None:
    scene = _alike()
    term = scene.terms()["bss"]
    assert gradients(scene.student) == 0, "the attack itself leaves none"
    term.backward()
    assert gradients(scene.student) > 0
    assert scene.x.grad is None and all(p.grad is None for p in scene.teacher.parameters())


@pytest.mark.parametrize("attack_size", [0, 3, 8, 100])
def test_the_attacked_are_at_most_the_batch(attack_size: int) -> None:
    scene = _alike(attack_size=attack_size)
    sizes: list[int] = []
    scene.student.register_forward_hook(lambda module, args, out: sizes.append(len(args[0])))
    assert torch.isfinite(scene.terms()["bss"]) and sizes == [8, min(attack_size or 8 // 4, 8)]


def test_no_candidates_no_term() -> None:
    scene = _alike()
    scene.batch.y = (scene.batch.y + 1) % 10
    term = scene.terms()["bss"]
    term.backward()
    assert term.item() == 0 and gradients(scene.student) == 0
    assert all(p.grad is None or torch.isfinite(p.grad).all() for p in scene.student.parameters())


def test_without_weight_nothing_is_attacked() -> None:
    scene = _alike("zoo", warmup_frac=0.5)
    calls: list[int] = []
    scene.teacher.register_forward_hook(lambda module, args, out: calls.append(1))
    terms = scene.terms()
    assert terms["bss"].item() == 0 and terms["bss"].dtype == torch.float32 and len(calls) == 1


def test_bf16_and_channels_last() -> None:
    scene = _alike()
    for network in (scene.student, scene.teacher):
        network.to(memory_format=torch.channels_last)
    scene.batch.x = scene.batch.x.contiguous(memory_format=torch.channels_last)
    term = scene.terms(bf16=True)["bss"]
    term.backward()
    assert term > 0 and gradients(scene.student) > 0


def test_the_draw_of_targets_comes_from_the_generator() -> None:
    scene = _alike()
    view = scene._view(scene.teacher, "teacher", scene.x)
    student = scene._view(scene.student, "student", scene.x)
    seeds = (3, 3, 4)
    terms = [
        scene.method.loss(student, view, scene.batch, Progress("main", 1, 4, 2, 5, torch.Generator().manual_seed(seed)))["bss"]
        for seed in seeds
    ]
    assert terms[0].item() == terms[1].item() != terms[2].item()
