"""Accuracy against cost: means, the Pareto front, the gap that was closed. Never: a store."""

from __future__ import annotations

import numpy as np
import pytest

from kdengine.errors import KdError
from store.compare.tradeoff import COSTS, pareto, tradeoff
from tests.store.comparing import results, runs

RNG = np.random.default_rng(3)


def test_the_front_is_what_nobody_beats() -> None:
    gain, cost = RNG.integers(0, 8, 60).astype(float), RNG.integers(0, 8, 60).astype(float)
    slow = [
        not any((g >= gain[i]) and (c <= cost[i]) and (g > gain[i] or c < cost[i]) for g, c in zip(gain, cost, strict=True))
        for i in range(60)
    ]
    assert pareto(gain, cost).tolist() == slow and 0 < sum(slow) < 60
    assert pareto(np.array([1.0, 1.0]), np.array([2.0, 2.0])).all(), "equal points do not beat each other"


def test_means_of_cost_and_accuracy() -> None:
    frame = results(runs("kd", [0.6, 0.7]), runs("base", [0.5, 0.5], elapsed_s=10.0))
    frame.loc[:1, "elapsed_s"] = [20.0, 30.0]
    found = tradeoff(frame, "elapsed_s", "best").set_index("method")
    assert (found.cost_mean["kd"], found.cost_std["kd"]) == (25.0, pytest.approx(np.std([20, 30], ddof=1)))
    assert (found.mean_frac["kd"], found.kind["kd"], found.n["kd"]) == (pytest.approx(0.65), "CPU", 2)
    assert found.gap_closed["kd"] == pytest.approx((0.65 - 0.5) / (0.99 - 0.5)) and np.isnan(found.gap_closed["base"])
    assert found.front.all()


def test_times_of_different_devices_are_not_compared() -> None:
    frame = results(
        runs("kd", [0.6], elapsed_s=100.0), runs("at", [0.7], elapsed_s=5.0, device="cuda:0"), runs("sp", [0.5], elapsed_s=200.0)
    )
    found = tradeoff(frame, "elapsed_s", "best").set_index("method")
    assert dict(found.kind) == {"kd": "CPU", "sp": "CPU", "at": "GPU"} and dict(found.front) == {
        "kd": True,
        "sp": False,
        "at": True,
    }
    weights = tradeoff(frame, "student_params", "best").set_index("method")
    assert set(weights.kind) == {""} and dict(weights.front) == {"kd": False, "sp": False, "at": True}


def test_small_networks_are_compared_with_large_ones_of_the_same_dataset() -> None:
    frame = results(
        runs("kd", [0.6]), runs("kd", [0.8], student="resnet14", student_params=170_000),
        runs("at", [0.7], student="resnet14", student_params=170_000), runs("at", [0.1], dataset="cifar10", student_params=1),
        runs("sp", [0.6], student="resnet20", student_params=270_000),
    )  # fmt: skip
    found = tradeoff(frame, "student_params", "best").set_index(["method", "column"])
    assert dict(found.front) == {
        ("kd", "digits · resnet20 → resnet8"): True, ("kd", "digits · resnet20 → resnet14"): True,
        ("at", "digits · resnet20 → resnet14"): False, ("at", "cifar10 · resnet20 → resnet8"): True,
        ("sp", "digits · resnet20 → resnet20"): False,
    }  # fmt: skip


def test_a_gap_that_is_none_is_not_closed() -> None:
    frame = results(runs("base", [0.9]), runs("kd", [0.95], teacher_top1_frac=0.8), runs("at", [0.5], dataset="cifar10"))
    assert tradeoff(frame, "peak_mib", "last").gap_closed.isna().all()


@pytest.mark.parametrize("cost", COSTS)
def test_every_cost_has_a_value_and_the_columns_of_the_docstring(cost: str) -> None:
    frame = results(runs("kd", [0.6]), runs("base", [0.5]))
    found = tradeoff(frame, cost, "best")
    assert found.cost_mean.gt(0).all() and len(found) == 2 and COSTS[cost].title and COSTS[cost].note
    assert list(tradeoff(results(), cost, "best").columns) == list(found.columns)
    own = ("kind", "cost_mean", "cost_std", "images_per_s", "teacher_mean_frac", "gap_closed", "front")
    assert all(name in found and name in (tradeoff.__doc__ or "") for name in own)
    assert found.cost_mean[0] == pytest.approx(1 / 500) if cost == "s_per_image" else True


def test_an_unknown_cost_is_explained() -> None:
    with pytest.raises(KdError, match="cost"):
        tradeoff(results(), "price", "best")
