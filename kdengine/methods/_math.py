"""What many methods' losses are made of: exact precision, softened distributions, label loss, matching of sizes and stages.

Reads / writes: nothing. Never: a method, a network, randomness.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Sequence
from typing import Any, Literal, ParamSpec, TypeVar

import torch
import torch.nn.functional as F
from torch import Tensor

P = ParamSpec("P")
S = TypeVar("S")
V = TypeVar("V")
Stages = Literal["sum", "mean", "last"]


def exact(loss: Callable[P, Tensor]) -> Callable[P, Tensor]:
    """Compute ``loss`` outside autocast, tensors below fp32 raised to fp32; float64 stays float64.

    A softmax or a squared difference in bf16 has two or three digits; the gradient of a distillation term needs more.
    Only tensors given directly or in a tuple or list are raised; integer tensors are left alone.
    """

    @functools.wraps(loss)
    def wrapped(*args: P.args, **kwargs: P.kwargs) -> Tensor:
        device = _device([*args, *kwargs.values()])
        with torch.autocast(device, enabled=False):
            return loss(*(_raised(a) for a in args), **{k: _raised(v) for k, v in kwargs.items()})

    return wrapped


def _raised(value: Any) -> Any:
    if isinstance(value, Tensor):
        return value.float() if value.is_floating_point() and value.element_size() < 4 else value
    if isinstance(value, tuple | list):
        return type(value)(_raised(v) for v in value)
    return value


def _device(values: list[Any]) -> str:
    """Return the kind of device of the first tensor; cpu when there is none."""
    for value in values:
        if isinstance(value, Tensor):
            return value.device.type
        if isinstance(value, tuple | list) and value:
            return _device(list(value))
    return "cpu"


@exact
def ce(logits: Tensor, labels: Tensor) -> Tensor:
    """Cross-entropy with the labels: mean over the batch of ``-log softmax(logits)[y]``.

    logits ``(B, K)``, labels ``(B,)`` int64. Scalar, nats.
    """
    return F.cross_entropy(logits, labels)


def log_softened(logits: Tensor, T: float) -> Tensor:
    """Return ``log softmax(logits / T)`` over the classes, ``(B, K)``."""
    return F.log_softmax(logits / T, dim=1)


@exact
def soft_kl(logits_s: Tensor, logits_t: Tensor, T: float) -> Tensor:
    """Softened divergence: ``T^2 / B * sum_n KL(softmax(z_t / T) || softmax(z_s / T))``.

    Both ``(B, K)``. The sum runs over the classes and only the batch is averaged; averaging over the classes too, as
    ``kl_div``'s default does, makes the loss K times too small. ``T^2`` keeps the gradient's size when T changes.
    """
    log_s, log_t = log_softened(logits_s, T), log_softened(logits_t, T)
    return F.kl_div(log_s, log_t, reduction="batchmean", log_target=True) * (T * T)


@exact
def mse(a: Tensor, b: Tensor) -> Tensor:
    """Mean over all elements of the squared difference of two tensors of one shape."""
    return F.mse_loss(a, b)


def unit(x: Tensor, dim: int = 1, eps: float = 1e-12) -> Tensor:
    """Return ``x / ||x||_2`` along ``dim``; what is shorter than ``eps`` becomes 0 and gets no gradient.

    ``F.normalize`` divides such a vector by ``eps``, so a single map of zeros would have a gradient of 1 / eps.
    """
    length = torch.linalg.vector_norm(x, dim=dim, keepdim=True)
    short = length < eps
    return x.masked_fill(short, 0.0) / length.masked_fill(short, 1.0)


def distances(rows: Tensor, *, squared: bool = False) -> Tensor:
    """Return the Euclidean distances of all pairs of rows ``(B, D)`` as ``(B, B)``: 0 on the diagonal, elsewhere >= 1e-6.

    The bound (1e-12 where ``squared``) keeps the root's gradient finite; two equal rows get none. Rows are centred first:
    distances stay, and what all rows have in common costs no digits.
    """
    x = rows - rows.mean(0)
    square = x.square().sum(1)
    found = (square[:, None] + square - 2 * (x @ x.T)).clamp(min=1e-12)
    found = found if squared else found.sqrt()
    return found.masked_fill(torch.eye(len(x), dtype=torch.bool, device=x.device), 0.0)


def label_gradient(logits: Tensor, labels: Tensor, by: Tensor, *, create_graph: bool = False) -> Tensor:
    """Return ``d sum_n z[n, y_n] / d by``, of the shape of ``by``: how each label's logit depends on images or on a map.

    logits ``(B, K)``, computed from ``by``; labels ``(B,)`` int64. ``create_graph``: the result has gradients of its own.
    """
    chosen = logits.gather(1, labels[:, None]).sum()
    with torch.autocast(logits.device.type, enabled=False):  # a backward pass runs in the types of its forward pass
        (gradient,) = torch.autograd.grad(chosen, by, create_graph=create_graph, retain_graph=True)
    return gradient


def match_size(a: Tensor, b: Tensor) -> tuple[Tensor, Tensor]:
    """Return both maps ``(B, C, H, W)`` at one resolution: the larger one is averaged down (adaptive average pooling).

    Each axis has the smaller of the two sizes, so maps of different proportions meet as well.
    """
    size = (min(a.shape[2], b.shape[2]), min(a.shape[3], b.shape[3]))
    return _pooled(a, size), _pooled(b, size)


def _pooled(x: Tensor, size: tuple[int, int]) -> Tensor:
    return x if tuple(x.shape[2:]) == size else F.adaptive_avg_pool2d(x, size)


def paired(student: Sequence[S], teacher: Sequence[V]) -> list[tuple[S, V]]:
    """Pair the stages of two networks from the last one backwards; the longer one's first stages stay alone."""
    count = min(len(student), len(teacher))
    return list(zip(student[len(student) - count :], teacher[len(teacher) - count :], strict=True))


def used(pairs: list[V], how: Stages) -> list[V]:
    """Return the pairs of stages that ``over_stages`` looks at, so that nothing is computed for the others."""
    return pairs[-1:] if how == "last" else pairs


def placed(pairs: Sequence[V]) -> list[tuple[str, V]]:
    """Return the pairs of stages, each with its place in words."""
    last = len(pairs)
    return [("the last stage" if k == last else f"stage {k} of {last}", pair) for k, pair in enumerate(pairs, 1)]


def over_stages(values: Sequence[Tensor], how: Stages) -> Tensor:
    """Return one term of the terms of all stages, first to last: their sum, their mean, or the last one alone."""
    if how == "last":
        return values[-1]
    total = torch.stack(list(values)).sum()
    return total / len(values) if how == "mean" else total


def halving_sums(means: Sequence[Tensor], maps: Sequence[Tensor]) -> Tensor:
    """Return ``sum_l C_l H_l W_l * mean_l / 2^(L - l)``: sums over a map instead of means, the last of L stages counts whole.

    means: per stage the mean over all elements; maps: the maps ``(B, C, H, W)`` that they are of. So ab and ofd weigh stages.
    """
    sums = [mean * m[0].numel() for mean, m in zip(means, maps, strict=True)]
    return torch.stack([value / 2**back for back, value in enumerate(reversed(sums))]).sum()
