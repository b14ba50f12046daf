"""The guard names what the runs compared do not share, and keeps still about what they may differ in. Never: a store."""

from __future__ import annotations

from typing import Any

import pytest

from store.compare import guard
from store.compare.groups import PROTOCOL, TEACHER
from tests.store.comparing import results, runs

OTHER: dict[str, Any] = {
    "epochs": 30, "batch_size": 32, "train_images": 200, "image_size": 64, "val_frac": 0.1, "optimizer": "adam", "lr": 0.1,
    "momentum": 0.8, "nesterov": False, "weight_decay": 1e-4, "schedule": "multistep", "milestones": [0.5, 0.75], "gamma": 0.2,
    "warmup_frac": 0.0, "crop_pad": 4, "crop_mode": "zero", "flip": False, "bn_momentum": 0.1, "precision": "bf16",
    "teacher_recipe": "paper", "teacher_epochs": 8, "teacher_weights": "resnet20.safetensors",
}  # fmt: skip


def test_every_field_of_the_protocol_is_tried_here() -> None:
    assert set(OTHER) == {*PROTOCOL, *TEACHER}


@pytest.mark.parametrize("field", OTHER)
def test_each_field_of_the_protocol_is_named(field: str) -> None:
    frame = results(runs("kd", [0.5]), runs("at", [0.5]), runs("sp", [0.5], **{field: OTHER[field]}))
    (found,) = guard.differences(frame)
    assert (found.field, found.severity, found.dataset) == (field, guard.RESULT, "digits")
    assert found.columns == ("digits · resnet20 → resnet8",) and found.title == guard.TITLES[field]
    assert [(value.groups, value.runs) for value in found.values] == [(("kd", "at"), 2), (("sp",), 1)]
    assert found.sentence.startswith(found.title) and "sp" in found.sentence


def test_equal_runs_and_own_knobs_are_no_difference() -> None:
    frame = results(
        runs("kd", [0.5, 0.6], params='{"T": 4}'), runs("kd", [0.5, 0.6], params='{"T": 8}'), runs("base", [0.5, 0.6])
    )
    assert guard.differences(frame) == [] and guard.differences(frame[:0]) == []


def test_what_follows_the_column_is_no_fault() -> None:
    frame = results(
        runs("kd", [0.5]), runs("base", [0.5]), runs("kd", [0.5], dataset="cifar10", epochs=240),
        runs("base", [0.5], dataset="cifar10", epochs=240), runs("kd", [0.5], student="resnet14", lr=0.1),
    )  # fmt: skip
    assert guard.differences(frame) == []


def test_a_difference_names_only_the_columns_and_groups_it_concerns() -> None:
    frame = results(
        runs("kd", [0.5]), runs("at", [0.5], epochs=30),
        runs("kd", [0.5], student="resnet14"), runs("at", [0.5], student="resnet14"),
        runs("kd", [0.5], dataset="cifar10", lr=0.1), runs("at", [0.5], dataset="cifar10", lr=0.2),
    )  # fmt: skip
    digits, cifar = sorted(guard.differences(frame), key=lambda d: d.dataset != "digits")
    assert digits.columns == ("digits · resnet20 → resnet8",) and sum(value.runs for value in digits.values) == 2
    assert (cifar.field, cifar.dataset, cifar.columns) == ("lr", "cifar10", ("cifar10 · resnet20 → resnet8",))


def test_two_settings_of_one_method_are_told_apart() -> None:
    (found,) = guard.differences(results(runs("kd", [0.5]), runs("kd", [0.5], epochs=30)))
    assert found.sentence == "Epochs: 15 epochs (kd 15 epochs), 30 epochs (kd 30 epochs)"


def test_another_teacher_checkpoint_is_named_with_its_accuracy() -> None:
    frame = results(runs("kd", [0.5]), runs("at", [0.5], teacher_run="t-1", teacher_top1_frac=0.9), runs("base", [0.5]))
    (found,) = guard.differences(frame)
    assert found.field == "teacher_run" and "t-1 (90.0" in found.sentence and "base" not in found.sentence


def test_a_teacher_per_seed_shared_by_all_is_sound() -> None:
    def seeds(method: str, first: int = 0) -> list[dict[str, Any]]:
        return [row | {"teacher_run": f"t-{row['seed']}"} for row in runs(method, [0.5, 0.5, 0.5], seed=first)]

    assert guard.differences(results(seeds("kd"), seeds("at"))) == []
    fields = [found.field for found in guard.differences(results(seeds("kd"), seeds("at", first=3)))]
    assert fields == ["teacher_run", "seed"], "no teacher in common"
    crossed = [row | {"teacher_run": f"t-{2 - row['seed']}"} for row in runs("at", [0.5, 0.5, 0.5])]
    assert [found.field for found in guard.differences(results(seeds("kd"), crossed))] == ["teacher_run"], (
        "another at the same seed"
    )


def test_one_teacher_measured_twice_is_one_teacher() -> None:
    frame = results(runs("kd", [0.5]), runs("at", [0.5], teacher_top1_frac=0.989))
    assert guard.differences(frame) == []


def test_unequal_seeds_unfinished_runs_and_devices() -> None:
    frame = results(runs("kd", [0.5, 0.6]), runs("at", [0.5]), runs("sp", [0.4, 0.5], status="running", epoch=3, device="cuda:0"))
    found = {difference.field: difference for difference in guard.differences(frame)}
    assert set(found) == {"seed", "status", "device"}
    assert found["device"].severity == guard.SPEED and list(found)[-1] == "device", "what changes the result comes first"
    assert "running, 3 of 15 epochs (sp)" in found["status"].sentence
    assert "seeds 0, 1 (kd and sp), seed 0 (at)" in found["seed"].sentence


def test_validation_images_on_one_side_change_how_the_epoch_is_chosen() -> None:
    frame = results(runs("kd", [0.5]), runs("at", [0.5], val_frac=0.1, val_choice_frac=0.45))
    fields = {difference.field: difference for difference in guard.differences(frame)}
    assert set(fields) == {"val_frac", "selection"} and "on the test images" in fields["selection"].sentence
    assert "on the test images" not in {d.field: d for d in guard.differences(frame, "last")}["selection"].sentence


def test_many_groups_are_not_all_listed() -> None:
    frame = results(*(runs(m, [0.5]) for m in ("kd", "at", "sp", "rkd", "pkt", "vid")), runs("cc", [0.5], epochs=30))
    assert guard.differences(frame)[0].sentence == "Epochs: 15 epochs (kd, at, sp and 3 others), 30 epochs (cc)"
