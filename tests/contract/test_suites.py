"""Suites: a grid in the order that lets methods advance together, the demo, the leaderboard."""

from __future__ import annotations

import pytest

from kdengine.errors import SpecError
from kdengine.events import EpochEnded, Measures
from kdengine.home import Home
from kdengine.rundir import RunDir
from kdengine.spec import RunSpec
from kdengine.suites import demo_suite, grid, leaderboard


def test_grid_goes_seed_by_seed() -> None:
    specs = grid("g", {"epochs": 3}, ["base", "kd"], [("resnet20", "resnet8")], [5, 6], {"base": {"teacher": None}})
    assert [(s.seed, s.method, s.teacher) for s in specs] == [
        (5, "base", None), (5, "kd", "resnet20"), (6, "base", None), (6, "kd", "resnet20"),
    ]  # fmt: skip
    assert {(s.suite, s.epochs, s.recipe) for s in specs} == {("g", 3, "quick+")}


def test_grid_explains_a_wrong_field() -> None:
    with pytest.raises(SpecError, match="epochs"):
        grid("g", {"epochs": 0}, ["base"], [(None, "resnet8")], [0])


def test_demo_is_the_measured_setting() -> None:
    specs = demo_suite()
    assert len(specs) == 12 and specs[0].method == "base" and {s.suite for s in specs} == {"demo"}
    assert {(s.student, s.train_images, s.epochs, s.recipe) for s in specs} == {("resnet8", 100, 15, "quick")}
    taught = [s.teacher_spec() for s in specs]
    teachers = {t.identity(): t for t in taught if t}
    kinds = {(t.student, t.epochs, t.train_images, t.seed) for t in teachers.values()}
    assert kinds == {("resnet20", 8, None, 0), ("resnet8", 15, 100, 0), ("resnet8", 15, 100, 1)}
    bases = {s.identity() for s in specs if s.method == "base"}
    assert bases < set(teachers), "the base runs are the teachers of the born-again ones"


def test_leaderboard_tells_best_from_last_and_counts_seeds(home: Home) -> None:
    def trained(method: str, *curve: float, phase: str = "main") -> str:
        run = RunDir.create(home, RunSpec(method=method))
        for n, top1 in enumerate(curve, 1):
            run.append_event(
                EpochEnded(
                    phase=phase,
                    epoch=n,
                    epochs=9,
                    images_seen=n,
                    elapsed_s=n,
                    epoch_s=1,
                    images_per_s=1,
                    lr=0.1,
                    measures={"student": Measures(test_top1_frac=top1)},
                )  # fmt: skip
            )
        return run.run_id

    ids = [trained("kd", 0.5, 0.9, 0.8), trained("kd", 0.7, 0.6), trained("base", 0.85), trained("ft", 0.99, phase="before")]
    first, second = leaderboard(home, ids)
    assert (first.method, first.n, first.best_std_frac) == ("base", 1, None)
    assert second.best_mean_frac == pytest.approx(0.8) and second.last_mean_frac == pytest.approx(0.7)
    assert second.best_std_frac == pytest.approx(0.2 / 2**0.5) and second.n == 2
