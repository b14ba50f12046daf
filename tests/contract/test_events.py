"""Events: one JSON line each, read back as they were."""

from __future__ import annotations

import pytest

from kdengine.events import Ended, EpochEnded, Measures, Notice, parse, to_line


def epoch(**changes):
    values = {"epoch": 1, "epochs": 2, "images_seen": 10, "elapsed_s": 1.0, "epoch_s": 1.0, "images_per_s": 10.0, "lr": 0.1}
    return EpochEnded(**(values | changes))


@pytest.mark.parametrize(
    "event",
    [Notice(text="two\nlines and \u2028"), Ended(how="failed", reason="r", problems=[{"field": "lr"}]),
     epoch(measures={"student": Measures(test_top1_frac=0.5)}, terms={"student": {"ce": 1.5}})],
)  # fmt: skip
def test_an_event_is_one_line_and_comes_back(event):
    line = to_line(event)
    assert line.count(b"\n") == 1 and line.endswith(b"\n")
    assert parse(line) == event


def test_a_value_that_is_not_a_number_becomes_null():
    line = to_line(epoch(terms={"student": {"ce": float("nan"), "kl": float("inf")}}))
    assert b"NaN" not in line and b"Infinity" not in line
    assert parse(line).terms == {"student": {"ce": None, "kl": None}}


@pytest.mark.parametrize("line", [b"", b"{", b'{"kind":"unknown"}', b'{"kind":"epoch","epoch":0}', b"[1]", b"\xff\xfe"])
def test_what_is_no_event_is_a_value_error(line):
    with pytest.raises(ValueError):
        parse(line)


def test_a_field_of_a_later_version_is_ignored():
    assert parse(b'{"kind":"notice","at":"2026-01-01T00:00:00Z","text":"x","new":1}\n').text == "x"
