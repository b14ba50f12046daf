"""Specs side by side: only what differs, seeds and labels hidden unless wanted."""

from __future__ import annotations

import pytest

from kdengine.spec import RunSpec
from store.compare.specdiff import diff, flat, parsed

KD = {"method": "kd", "teacher": "resnet20", "params": {"T": 4.0, "lambda_kd": 0.9}}


def dumped(**values: object) -> dict[str, object]:
    return RunSpec(**values).model_dump(mode="json")  # type: ignore[arg-type]


def test_only_what_differs_is_shown_and_nested_knobs_are_flat() -> None:
    found = diff([dumped(**KD), dumped(**KD | {"params": {"T": 8.0, "lambda_kd": 0.9}}, lr=0.1)], ["cool", "warm"])
    assert found.frame.index.tolist() == ["params.T", "recipe", "lr"]
    assert found.frame["cool"].tolist() == ["4", "quick", "0.03"] and found.frame["warm"].tolist() == ["8", "quick+", "0.1"]
    assert found.groups == {"cool": (0,), "warm": (1,)} and not found.same


def test_runs_that_differ_in_seed_and_labels_only_share_a_column() -> None:
    specs = [dumped(**KD, seed=3), dumped(**KD, seed=1, suite="mine", tags=("a",), note="hot", device="cpu"), dumped(seed=1)]
    found = diff(specs, ["kd", "kd", "base"])
    assert found.groups == {"kd": (0, 1), "base": (2,)} and found.seeds == (1, 3)
    assert "suite" not in found.frame.index and "seed" not in found.frame.index
    same = diff(specs[:2], ["kd", "kd"])
    assert same.same and same.frame.empty and same.equal > 30


def test_seed_and_labels_count_where_that_is_wanted() -> None:
    specs = [dumped(seed=3), dumped(seed=1, suite="mine")]
    found = diff(specs, ["base", "base"], seeds=True, labels=True)
    assert list(found.frame.columns) == ["base", "base (2)"]
    assert found.frame.loc["seed"].tolist() == ["3", "1"] and found.frame.loc["suite"].tolist() == ["–", "mine"]


def test_everything_shows_equal_fields_too() -> None:
    specs = [dumped(**KD), dumped()]
    few, all_ = diff(specs, ["kd", "base"]), diff(specs, ["kd", "base"], everything=True)
    assert all_.equal == 0 and len(all_.frame) == len(few.frame) + few.equal
    assert all_.frame.loc["batch_size"].tolist() == ["16", "16"]
    assert few.frame.loc["params.T"].tolist() == ["4", "–"]  # a knob that the other method does not have
    assert few.frame.index[0] == "method"


def test_values_as_people_write_them() -> None:
    given = {"a": None, "b": True, "c": 1e-4, "d": [0.5, 0.75], "e": [], "f": "", "g": {"h": {"i": 2}}, "j": 0.123456789}
    expected = {"a": "–", "b": "yes", "c": "0.0001", "d": "0.5, 0.75", "e": "–", "f": "–", "g.h.i": "2", "j": "0.123456789"}
    assert flat(given) == expected
    assert parsed(['{"a": 1}']) == [{"a": 1}]


def test_one_spec_and_none() -> None:
    assert diff([dumped()], ["base"]).same
    with pytest.raises(ValueError, match="0 specs"):
        diff([], [])
