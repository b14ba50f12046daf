"""The graph against NumPy loops, networks of any widths, equal images, and what is refused. Reads / writes: nothing."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest
import torch
from torch import Tensor

from kdengine import losses, methods
from tests.engine.scene import BATCH, Scene


def _np_edges(x: np.ndarray) -> np.ndarray:
    d = np.array([[((a - b) ** 2).sum() for b in x] for a in x])
    return d / d.max()


def _np_averaged(x: np.ndarray, axis: int, size: int) -> np.ndarray:
    """Average an axis down to ``size`` pieces, each from floor(i n / size) to ceil((i + 1) n / size)."""
    n = x.shape[axis]
    pieces = [np.arange(i * n // size, -((-(i + 1) * n) // size)) for i in range(size)]
    return np.stack([x.take(piece, axis).mean(axis) for piece in pieces], axis)


def _np_moves(first: np.ndarray, second: np.ndarray) -> np.ndarray:
    for axis in (1, 2, 3):
        size = min(first.shape[axis], second.shape[axis])
        first, second = _np_averaged(first, axis, size), _np_averaged(second, axis, size)
    d = np.array([((a - b) ** 2).sum() for a, b in zip(first, second, strict=True)])
    return d / d.max()


def _mean_square(a: np.ndarray, b: np.ndarray) -> float:
    return float(((a - b) ** 2).mean())


SHAPES = [  # first and second map of the student, of the teacher
    ((6, 8, 8), (12, 4, 4), (16, 8, 8), (32, 4, 4)),
    ((4, 6, 6), (12, 3, 3), (5, 4, 4), (7, 4, 4)),
    ((9, 4, 4), (6, 2, 2), (8, 2, 2), (8, 2, 2)),
]


def _sides(shapes: tuple[tuple[int, ...], ...]) -> tuple[list[np.ndarray], list[np.ndarray]]:
    rng = np.random.default_rng(7)
    first_s, second_s, first_t, second_t = (rng.standard_normal((5, *shape)) for shape in shapes)
    student = [first_s, second_s, rng.standard_normal((5, 11)), rng.standard_normal((5, 4))]
    return student, [first_t, second_t, rng.standard_normal((5, 3)), rng.standard_normal((5, 4))]


def _np_parts(s: list[np.ndarray], t: list[np.ndarray]) -> list[float]:
    edges = [_mean_square(_np_edges(a), _np_edges(b)) for a, b in zip(s[:3], t[:3], strict=True)]
    return [_mean_square(s[3], t[3]), sum(edges) / 3, _mean_square(_np_moves(*s[:2]), _np_moves(*t[:2]))]


@pytest.mark.parametrize("shapes", SHAPES)
def test_irg_against_numpy(shapes: tuple[tuple[int, ...], ...]) -> None:
    s, t = _sides(shapes)
    expected = float(np.dot((0.3, 2, 7), _np_parts(s, t)))
    for layout in (torch.contiguous_format, torch.channels_last):
        tensors = [torch.tensor(a) for a in (*s, *t)]
        given = [x.contiguous(memory_format=layout) if x.ndim == 4 else x for x in tensors]
        assert losses.irg(*given, weights=(0.3, 2, 7)).item() == pytest.approx(expected, rel=1e-12)


def test_parts_against_numpy() -> None:
    s, t = _sides(SHAPES[0])
    edge = losses.irg_edge(torch.tensor(s[2]), torch.tensor(t[2])).item()
    assert edge == pytest.approx(_mean_square(_np_edges(s[2]), _np_edges(t[2])), rel=1e-12)
    moved = losses.irg_transformation(*(torch.tensor(a) for a in (*s[:2], *t[:2]))).item()
    assert moved == pytest.approx(_np_parts(s, t)[2], rel=1e-12)


def test_terms_are_the_weighted_parts() -> None:
    scene = Scene("irg", {"beta": 2, "w_tran": 3})
    taps = frozenset({"stages", "embedding"})
    with torch.no_grad():
        outputs = [net(scene.x, taps) for net in (scene.student, scene.teacher)]
    given: list[Tensor] = [x for o in outputs for x in (*o.stages[-2:], o.embedding, o.logits)]
    terms = {name: value.detach() for name, value in scene.terms().items()}
    for name, weights in {"vertices": (0.2, 0, 0), "edges": (0, 10, 0), "transformation": (0, 0, 6)}.items():
        torch.testing.assert_close(terms[name], losses.irg(*given, weights=weights))


@pytest.mark.parametrize(("student", "teacher"), [("resnet8", "resnet8x4"), ("resnet8x4", "resnet8")])
def test_graphs_of_unequal_networks_meet(student: str, teacher: str) -> None:
    terms = Scene("irg", {}, student=student, teacher=teacher).terms()
    assert all(torch.isfinite(value) for value in terms.values())


def test_a_network_with_one_stage_is_refused() -> None:
    entry, info = methods.get("irg"), Scene("irg", {}).student.info
    short = dataclasses.replace(info, stages=info.stages[-1:])
    two = dataclasses.replace(info, stages=info.stages[-2:])
    assert not entry.method.problems(entry.params(), two, info)
    assert [p[0] for p in entry.method.problems(entry.params(), info, short)] == ["teacher resnet8 with 1 stage"]
    assert len(entry.method.problems(entry.params(), short, short)) == 2


def test_a_single_image_has_no_graph() -> None:
    s, t = _sides(SHAPES[0])
    assert losses.irg(*(torch.tensor(a[:1]) for a in (*s, *t)), weights=(0, 5, 5)) == 0


@pytest.mark.parametrize("equal", [2, BATCH])
@pytest.mark.parametrize("value", [0.0, 3.0])
def test_equal_images_give_small_gradients(equal: int, value: float) -> None:
    torch.manual_seed(1)
    s = [torch.rand(BATCH, 4, 4, 4), torch.rand(BATCH, 8, 2, 2), torch.rand(BATCH, 12), torch.rand(BATCH, 10)]
    t = [torch.rand_like(x) for x in s]
    for x in s:
        x[:equal] = value
        x.requires_grad_()
    losses.irg(*s, *t).backward()
    for x in s:
        assert torch.isfinite(x.grad).all() and x.grad.abs().max() < 10
