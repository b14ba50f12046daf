"""check: every reason at once, in three parts, before anything starts."""

from __future__ import annotations

import pytest

from kdengine import check
from kdengine.errors import SpecError
from kdengine.rundir import RunDir
from kdengine.spec import RunSpec


def fields(home, **values):
    problems = check.check(check.resolve(RunSpec(**values)), home)
    assert all(p.given and p.allowed and p.do for p in problems)
    return {p.field for p in problems}


@pytest.mark.parametrize(
    ("field", "values"),
    [
        ("method", {"method": "kdd"}),
        ("params.T", {"method": "kd", "teacher": "resnet20", "params": {"T": -1.0}}),
        ("params.TT", {"method": "kd", "teacher": "resnet20", "params": {"TT": 1.0}}),
        ("combine.method", {"combine": {"method": "nothing"}}),
        ("combine.method", {"combine": {"method": "base"}}),
        ("combine.params.beta", {"teacher": "resnet20", "combine": {"method": "fitnet", "params": {"beta": -1.0}}}),
        ("generation", {"method": "base", "generation": 1}),
        ("peers", {"method": "base", "peers": ("resnet8",)}),
        ("student", {"student": "resnet9"}),
        ("student_options.shortcut", {"student_options": {"shortcut": "none"}}),
        ("peers.0", {"method": "dml", "peers": ("resnet9",)}),
        ("teacher", {"method": "kd"}),
        ("teacher", {"method": "kd", "teacher": "resnet21"}),
        ("teacher_method", {"method": "kd", "teacher": "resnet20", "teacher_method": "kd"}),
        ("teacher_recipe", {"method": "kd", "teacher": "resnet20", "teacher_recipe": "slow"}),
        ("teacher_run", {"method": "kd", "teacher": "resnet20", "teacher_run": "nobody"}),
        ("teacher_weights", {"method": "kd", "teacher": "resnet20", "teacher_weights": "nothing.safetensors"}),
        ("teacher_train_images", {"method": "kd", "teacher": "resnet20", "teacher_train_images": 5}),
        ("dataset", {"dataset": "digit"}),
        ("train_images", {"train_images": 5000}),
        ("batch_size", {"train_images": 20, "batch_size": 32}),
        ("crop_pad", {"crop_pad": 32, "image_size": 32}),
        ("student_init", {"student_init": "nothing.safetensors"}),
        ("student_init", {"student_init": __file__}),
        ("peer_inits.0", {"method": "dml", "peers": ("resnet8",), "peer_inits": ("nothing.safetensors",)}),
    ],
)
def test_what_does_not_fit_is_named(home, field, values):
    assert field in fields(home, **values)


def test_a_sound_spec_has_no_problems(home):
    for values in ({}, {"method": "kd", "teacher": "resnet20"}, {"method": "dml"}, {"method": "ban"}, {"recipe": "paper"}):
        assert fields(home, **values) == set()


def test_all_problems_come_together(home):
    found = fields(home, method="kd", student="resnet9", dataset="digit", params={"T": -1.0})
    assert {"student", "dataset", "params.T", "teacher"} <= found


def test_faults_of_both_kinds_come_in_one_error(home):
    with pytest.raises(SpecError) as caught:
        check.complete({"epochs": 0, "student": "resnet9", "dataset": "digit"}, home)
    assert {p.field for p in caught.value.problems} == {"epochs", "student", "dataset"}


def test_a_spec_is_completed(home):
    kd = check.resolve(RunSpec(method="kd", teacher="resnet20", params={"T": 2.0}))
    assert kd.params["T"] == 2.0 and len(kd.params) > 1
    assert check.resolve(RunSpec(method="dml")).peers == ("resnet8",)
    ban = check.resolve(RunSpec(method="ban", student="resnet14"))
    assert (ban.generation, ban.teacher) == (1, "resnet14")
    assert check.resolve(kd) == kd


def test_a_method_without_a_teacher_forgets_it(home):
    plain = RunSpec(method="base")
    assert check.resolve(RunSpec(method="base", teacher="resnet20", teacher_seed=3)).identity() == plain.identity()


def test_a_pinned_teacher_must_be_finished_and_fit(home):
    run = RunDir.create(home, RunSpec(student="resnet14", dataset="cifar10"), teacher_run=None)
    problems = check.check(check.resolve(RunSpec(method="kd", teacher="resnet20", teacher_run=run.run_id)), home)
    text = "\n".join(map(str, problems))
    assert "finished" in text and "resnet14" in text and "cifar10" in text


def test_what_a_method_keeps_in_memory_is_known_before_the_start(home):
    spec = check.resolve(RunSpec(method="crd", teacher="resnet20", dataset="cifar10", params={"feat_dim": 64}))
    assert check.memory_bytes(spec, home) == 2 * 50_000 * 64 * 4
    assert check.memory_bytes(spec.but(train_images=1000), home) == 2 * 1000 * 64 * 4
    both = RunSpec(method="kd", teacher="resnet20", combine={"method": "crd"})
    assert check.memory_bytes(check.resolve(both), home) == 2 * 1197 * 128 * 4
    assert check.memory_bytes(RunSpec(), home) == 0


def test_the_epochs_before_the_main_phase_are_known_before_the_start(home):
    taught = {"teacher": "resnet20"}
    assert check.early_epochs(check.resolve(RunSpec(method="ft", **taught))) == 30
    assert (
        check.early_epochs(check.resolve(RunSpec(method="kd", **taught, combine={"method": "fsp", "params": {"init_epochs": 7}})))
        == 7
    )
    assert check.early_epochs(RunSpec()) == 0
