"""RunSpec: recipes fill it, every fault is listed at once, a teacher follows from it."""

from __future__ import annotations

import pytest

from kdengine.errors import SpecError
from kdengine.spec import MAX_CHAIN, RECIPES, Recipe, RunSpec

BAD = {
    "epochs": 0, "batch_size": 1, "optimizer": "sdg", "lr": -1.0, "momentum": 1.0, "nesterov": "maybe", "weight_decay": -1.0,
    "schedule": "step", "milestones": (0.5, 0.2), "gamma": 0.0, "warmup_frac": 0.9, "crop_pad": -1, "crop_mode": "wrap",
    "flip": "x", "bn_momentum": 0.0, "method": "k d", "params": {"T": [1]}, "combine": {"method": "kd", "weight": 0.0},
    "dataset": "../x", "image_size": 4, "train_images": 1, "val_frac": 0.9, "student": "", "student_options": {"a": None},
    "student_init": 3, "peers": ("a b",), "peer_inits": (1,), "generation": MAX_CHAIN + 1, "teacher": "x/y",
    "teacher_options": {"a": None}, "teacher_method": "", "teacher_recipe": "a/b", "teacher_epochs": 0,
    "teacher_train_images": 0, "teacher_seed": -1, "teacher_run": "a/b", "teacher_weights": 1, "recipe": "qick",
    "precision": "fp64", "device": "gpu", "seed": -1, "suite": "a/b", "tags": ("a b",), "note": "\x00",
}  # fmt: skip


def test_every_field_has_a_bad_value_here():
    assert set(BAD) == set(RunSpec.model_fields)


@pytest.mark.parametrize("field", BAD)
def test_a_bad_value_is_reported_in_three_parts(field):
    with pytest.raises(SpecError) as caught:
        RunSpec(**{field: BAD[field]})
    problems = caught.value.problems
    assert {p.field.split(".")[0] for p in problems} == {field}
    for problem in problems:
        assert problem.given and problem.allowed and problem.do


def test_all_faults_come_at_once():
    with pytest.raises(SpecError) as caught:
        RunSpec(**BAD)
    assert {p.field.split(".")[0] for p in caught.value.problems} == set(BAD)


def test_an_unknown_field_names_the_nearest():
    with pytest.raises(SpecError, match="did you mean 'student'"):
        RunSpec(studnt="resnet8")


def test_nan_and_infinity_are_refused():
    for value in (float("nan"), float("inf")):
        with pytest.raises(SpecError, match="lr"):
            RunSpec(lr=value)


@pytest.mark.parametrize("name", RECIPES)
def test_a_recipe_fills_what_is_left_out_and_a_plus_says_that_something_was_changed(name):
    spec = RunSpec(recipe=name)
    assert {f: getattr(spec, f) for f in Recipe.model_fields} == RECIPES[name].model_dump()
    assert spec.recipe == name
    assert RunSpec(recipe=name, lr=0.123).recipe == f"{name}+"
    assert RunSpec(recipe=name, lr=RECIPES[name].lr).recipe == name
    assert RunSpec(recipe=name, seed=3).recipe == name


def test_the_published_recipes_have_the_published_numbers():
    paper, crd = RunSpec(recipe="paper"), RunSpec(recipe="crd")
    assert (paper.epochs, paper.batch_size, paper.lr, paper.weight_decay, paper.nesterov) == (200, 128, 0.1, 1e-4, True)
    assert [round(m * paper.epochs) for m in paper.milestones] == [100, 150]
    assert (crd.epochs, crd.batch_size, crd.lr, crd.weight_decay, crd.nesterov) == (240, 64, 0.05, 5e-4, False)
    assert [round(m * crd.epochs) for m in crd.milestones] == [150, 180, 210]


def test_a_spec_survives_json():
    spec = RunSpec(method="kd", params={"T": 4.0}, teacher="resnet20", combine={"method": "fitnet"}, tags=("a", "b"), epochs=3)
    assert RunSpec.model_validate_json(spec.model_dump_json()) == spec
    assert spec.but() == spec
    assert spec.but(recipe="paper").epochs == 200


def test_labels_and_device_do_not_change_what_is_learnt():
    spec = RunSpec(seed=1)
    assert spec.but(suite="s", tags=("t",), note="n", device="cpu").identity() == spec.identity()
    for change in ({"seed": 2}, {"epochs": 3}, {"student": "resnet14"}, {"precision": "fp32"}, {"train_images": 100}):
        assert spec.but(**change).identity() != spec.identity()


def test_the_teacher_takes_the_recipe_but_not_the_subset():
    spec = RunSpec(method="kd", student="resnet8", teacher="resnet20", epochs=10, train_images=200, seed=7)
    teacher = spec.teacher_spec()
    assert teacher is not None
    assert (teacher.student, teacher.method, teacher.epochs) == ("resnet20", "base", 10)
    assert (teacher.train_images, teacher.seed) == (None, 0)
    assert teacher.teacher is None and teacher.teacher_spec() is None
    other = spec.but(teacher_recipe="paper", teacher_epochs=3, teacher_seed=5, teacher_train_images=100).teacher_spec()
    assert other is not None
    assert (other.recipe, other.batch_size, other.epochs, other.seed, other.train_images) == ("paper+", 128, 3, 5, 100)
    assert spec.but(teacher_run="abc").teacher_spec() is None


def test_students_of_all_seeds_and_methods_share_one_teacher():
    specs = [RunSpec(method=m, teacher="resnet20", seed=s, suite="x") for m in ("kd", "ft") for s in (0, 1)]
    assert len({s.teacher_spec().identity() for s in specs}) == 1


def test_a_chain_begins_with_the_very_run_that_is_the_baseline():
    base = RunSpec(student="resnet8", seed=4, train_images=200)
    third = base.but(method="ban", generation=3, teacher="resnet8", params={"T": 1.0})
    second = third.teacher_spec()
    first = second.teacher_spec()
    zero = first.teacher_spec()
    assert [s.generation for s in (third, second, first, zero)] == [3, 2, 1, 0]
    assert zero.identity() == base.identity()
    assert zero.teacher_spec() is None


def test_fields_of_a_teacher_that_a_chain_has_not_do_not_count():
    spec = RunSpec(method="ban", generation=1, student="resnet8", teacher="resnet8", seed=4)
    unused = {"teacher_epochs": 3, "teacher_seed": 5, "teacher_recipe": "paper", "teacher_train_images": 100}
    assert spec.but(**unused).identity() == spec.identity()
    assert spec.but(**unused).teacher_spec().identity() == spec.teacher_spec().identity()
    assert spec.but(teacher_method="kd").identity() != spec.identity(), "by it generation 0 is trained"
    taught = RunSpec(method="kd", teacher="resnet20")
    assert taught.but(teacher_epochs=3).identity() != taught.identity()
