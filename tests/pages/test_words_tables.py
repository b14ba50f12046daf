"""Words, tables and forecasts: how numbers are written, what a table shows, where a guess comes from."""

from __future__ import annotations

import dataclasses
from datetime import UTC, datetime, timedelta

import numpy as np
import pandas as pd
import pytest

from kdengine import catalogue, methods
from kdengine.spec import RunSpec
from kdengine.status import RunStatus
from pages.parts import plan, tables, words

NOW = datetime(2026, 11, 21, 12, tzinfo=UTC)


def runs_frame(**change: object) -> pd.DataFrame:
    row = {"run_id": "r1", "method": "kd", "dataset": "digits", "student": "resnet8", "teacher": "resnet20", "seed": 1,
           "suite": None, "tags": ["x"], "note": "", "owner": None,
           "status": "running", "epochs": 10, "epoch": 4, "best_top1_frac": 0.5, "created_at": NOW - timedelta(minutes=5),
           "position": np.nan, "expected_at": NOW + timedelta(seconds=90), "curve": [0.1, 0.5]}  # fmt: skip
    return pd.DataFrame([row | change])


@pytest.mark.parametrize(
    ("seconds", "text"),
    [
        (0, "0 s"),
        (59, "59 s"),
        (60, "1 min"),
        (75, "1 min 15 s"),
        (1800, "30 min"),
        (4800, "1 h 20 min"),
        (None, "–"),
        (183600, "2 d 3 h"),
    ],
)
def test_durations(seconds: float | None, text: str) -> None:
    assert words.duration(seconds) == text


def test_numbers_in_words() -> None:
    assert words.percent(0.7489) == "74.9 %" and words.percent(float("nan")) == "–"
    assert words.spread(0.943, 0.007) == "94.3\u00a0±\u00a00.7" and words.spread(0.943, np.nan) == "94.3"
    assert words.count(1, "run") == "1 run" and words.count(2, "run") == "2 runs"
    assert words.size(0.3) == "307 KiB" and words.size(2048) == "2.0 GiB"
    assert words.ago(NOW - timedelta(hours=3), NOW) == "3 h ago" and words.ago(pd.NaT) == "–"
    assert words.roughly(240) == "about 4 min" and words.roughly(10) == "less than a minute"
    assert words.pulse_line({"running": 2, "queued": 2, "waiting": 1}, 240) == "2 running, 3 queued, about 4 min left"
    assert words.pulse_line({"finished": 9}, None) == ""


def test_every_status_has_a_word_and_a_mark() -> None:
    assert set(words.STATUSES) == {s.value for s in RunStatus}
    assert len({s.mark for s in words.STATUSES.values()}) == len(words.STATUSES)


def test_labels_equal_the_cards() -> None:
    """The light catalogue reads sources; the heavy one imports them. They say the same."""
    cards = {key: entry.card for key, entry in methods.entries().items()}
    assert set(catalogue.labels()) == set(cards)
    for key, label in catalogue.labels().items():
        card = cards[key]
        read = {field.name for field in dataclasses.fields(label)} - {"doc"}
        assert {name: getattr(label, name) for name in read} == {name: getattr(card, name) for name in read}
        assert set(label.said) == set(catalogue.DOC_PARTS) and label.doc == methods.get(key).doc
        assert label.family in words.FAMILIES


def test_the_runs_table_in_words() -> None:
    shown = tables.runs(runs_frame(), now=NOW).frame.data.iloc[0]
    assert shown["Status"] == "● running" and shown["Networks"] == "resnet20 → resnet8"
    assert (
        shown["Progress"] == 40 and shown["Left"] == "1 min 30 s" and shown["Best"] == 50.0 and shown["Launched"] == "5 min ago"
    )
    queued = tables.runs(runs_frame(status="queued", position=3, epoch=np.nan, best_top1_frac=np.nan, curve=None), now=NOW)
    row = queued.frame.data.iloc[0]
    assert row["Left"] == "place 3" and row["Progress"] == 0 and pd.isna(row["Best"]) and len(row["Curve"]) == 0
    assert list(queued.columns) == list(queued.frame.data.columns)


def test_a_sparkline_is_thin_and_ends_where_the_curve_ends() -> None:
    curve = np.linspace(0, 0.9, 240, dtype=np.float32)
    points = tables.runs(runs_frame(curve=curve), now=NOW).frame.data.iloc[0]["Curve"]
    assert len(points) <= tables.SPARK_POINTS and points[-1] == 90.0 and points == sorted(points)
    with_gap = tables.runs(runs_frame(curve=np.array([0.1, np.nan, 0.3], np.float32)), now=NOW).frame.data.iloc[0]["Curve"]
    assert with_gap == [10.0, 30.0]


def test_long_names_are_seen_whole_and_a_long_list_has_no_colours() -> None:
    frame = pd.concat([runs_frame(), runs_frame(dataset="my_own_birds_of_europe")], ignore_index=True)
    assert tables.runs(frame).columns["Data"].width == 24 + 8 * len("my_own_birds_of_europe")
    many = pd.concat([frame] * 151, ignore_index=True)
    plain, styled = tables.runs(many), tables.runs(many.iloc[: tables.MOST_COLOURED])
    assert isinstance(plain.frame, pd.DataFrame) and "color" in styled.frame.to_html()
    assert plain.frame.equals(tables.runs(many).frame) and plain.frame["Status"][0] == "\u25cf running"


def test_an_empty_runs_table() -> None:
    assert len(tables.runs(runs_frame().iloc[:0]).frame) == 0
    bare = tables.runs(runs_frame(tags=[], note=""))
    assert not {"Tags", "Note"} & {*bare.columns, *bare.frame.data.columns}, "what nobody has takes no room"


def test_best_is_bold_and_noise_is_italic() -> None:
    frame = pd.DataFrame({"method": ["a", "b", "c"], "student": "s", "teacher": None, "dataset": "d", "recipe": "quick", "n": 3,
                          "best_mean_frac": [0.90, 0.91, 0.70], "best_std_frac": 0.01,
                          "last_mean_frac": [0.9, 0.8, 0.7],
                          "last_std_frac": np.nan, "images_per_s": [1.0, 2.0, np.nan]})  # fmt: skip
    css = tables.best_of(frame).frame.to_html(table_uuid="t").split("</style>")[0]
    shown = tables.best_of(frame).frame.data
    assert shown["Method"].tolist() == ["b", "a", "c"]
    assert "#T_t_row0_col3, #T_t_row1_col4 {\n  font-weight: 700" in css
    assert "#T_t_row1_col3 {\n  font-style: italic" in css


def forecast(measured: pd.DataFrame, kept_bytes: float = 0, early_epochs: int = 0, **more: object) -> plan.Plan:
    specs = [RunSpec(method="kd", teacher="resnet20", seed=s, train_images=200) for s in range(2)]
    teacher = RunSpec(student="resnet20", epochs=8)
    cost = plan.Cost(1e8, 1e5, kept_bytes, early_epochs)
    return plan.plan(specs, [teacher], cost=lambda _: cost, images={"digits": (1197, 600)}, measured=measured, **more)


def test_a_forecast_prefers_what_was_measured() -> None:
    columns = ["method", "student", "teacher", "dataset", "batch_size", "images_per_s", "macs"]
    nothing = pd.DataFrame(columns=columns)
    rough = forecast(nothing)
    assert (rough.runs, rough.teachers) == (2, 1) and "rough" in rough.basis and rough.memory_mib > plan.PROCESS_MIB
    longer = forecast(nothing, early_epochs=30)
    assert longer.seconds > 1.5 * rough.seconds
    banked = forecast(nothing, kept_bytes=50 * 2**20)
    assert banked.memory_mib == pytest.approx(rough.memory_mib + 50) and banked.disk_mib == pytest.approx(rough.disk_mib + 150)
    rows = [("kd", "resnet8", "resnet20", "digits", 16, 1000.0, 1e8), ("base", "resnet20", None, "digits", 16, 500.0, 2e8)]
    known = forecast(pd.DataFrame(rows, columns=columns))
    expected = 3 * plan.START_S + 2 * 15 * (200 + 200) / 1000 + 8 * (1197 + 200) / 500
    assert known.seconds == pytest.approx(expected) and "measured" in known.basis
    partly = forecast(pd.DataFrame(rows[:1], columns=columns))
    assert "partly" in partly.basis
    assert forecast(pd.DataFrame(rows, columns=columns), slots=2).seconds == pytest.approx(expected / 2)


def test_what_is_left() -> None:
    rows = [{"status": "running", "eta": 30.0}, {"status": "queued", "eta": None}]
    assert plan.left_s(rows, lambda r: r["eta"], 20.0) == 50.0
    assert plan.left_s(rows, lambda r: r["eta"], None) is None
    assert plan.left_s([], lambda r: None, 1.0) is None


def test_a_generation_is_named_beside_the_seed() -> None:
    assert words.seed_of({"seed": 3, "generation": 2}) == "generation 2 · seed 3"
    assert words.seed_of({"seed": 3, "generation": 0}) == words.seed_of({"seed": 3}) == "seed 3"
