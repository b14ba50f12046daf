"""Stages and learning rates."""

from __future__ import annotations

from types import SimpleNamespace

import pytest

from kdengine.methods.contract import Phase
from kdengine.schedule import Stage, learning_rate, plan
from kdengine.spec import RunSpec


def stage(epochs=10, scale=1.0):
    return Stage(Phase(lr_scale=scale), epochs, (0,))


def rates(spec, of, steps=7):
    return [learning_rate(spec, of, e, s, steps) for e in range(of.epochs) for s in range(steps)]


def test_cosine_rises_over_the_warm_up_and_falls_towards_zero():
    spec = RunSpec(lr=0.4, schedule="cosine", warmup_frac=0.1)
    course = rates(spec, stage())
    assert course[:7] == sorted(course[:7]) and course[0] == pytest.approx(0.4 / 8)
    assert course[7] == pytest.approx(0.4) == max(course)
    assert course[7:] == sorted(course[7:], reverse=True) and 0 < course[-1] < 0.001


def test_multistep_drops_at_the_scaled_milestones():
    spec = RunSpec(recipe="crd", epochs=24)
    course = [learning_rate(spec, stage(24), e, 0, 5) for e in range(24)]
    assert course[14] == pytest.approx(0.05) and course[15] == pytest.approx(0.005)
    assert course[17] == pytest.approx(0.005) and course[18] == pytest.approx(0.0005) and course[21] == pytest.approx(0.00005)


def test_the_published_recipe_drops_after_the_published_epochs():
    spec = RunSpec(recipe="paper")
    course = [learning_rate(spec, stage(200), e, 0, 390) for e in (0, 99, 100, 149, 150, 199)]
    assert course == pytest.approx([0.1, 0.1, 0.01, 0.01, 0.001, 0.001])


def test_a_phase_scales_the_rate():
    spec = RunSpec(schedule="constant", warmup_frac=0, lr=0.2)
    assert rates(spec, stage(2, 0.1)) == pytest.approx([0.02] * 14)


@pytest.mark.parametrize("recipe", ["quick", "paper"])
def test_a_phase_may_drop_at_places_of_its_own(recipe):
    spec = RunSpec(recipe=recipe, lr=0.1, warmup_frac=0)
    early = Stage(Phase("init", 50, lr_scale=0.1, milestones=(0.6, 0.8)), 50, (0,))
    course = [learning_rate(spec, early, e, 0, 9) for e in (0, 29, 30, 39, 40, 49)]
    assert course == pytest.approx([0.01, 0.01, 0.001, 0.001, 0.0001, 0.0001])


def test_every_method_has_its_own_phases_and_all_share_main():
    def method(*phases):
        return SimpleNamespace(params=None, phases=lambda params: phases)

    main = Phase("main", None, ("student", "method.y"), ("student", "teacher"))
    first = method(Phase("a", 3, trains=("method.x",), runs=("teacher",)), main)
    second = method(Phase())
    stages = plan(RunSpec(epochs=9), [first, second])
    assert [(s.phase.name, s.epochs, s.owners, s.is_main) for s in stages] == [("a", 3, (0,), False), ("main", 9, (0, 1), True)]
    assert stages[1].phase.trains == ("student", "method.y", "peers", "method")
