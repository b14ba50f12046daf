"""Figures of the compare page from frames: what is coloured, how smoothing behaves, and how much a figure weighs."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest

from kdengine import catalogue
from pages.parts import charts
from pages.parts.compare import figures
from tests.pages.test_charts import mean_frame

TAUGHT = [label.key for label in catalogue.labels().values() if label.family != "plain"]
MANY = ["base", *TAUGHT[:23]]  # the second is the best of the others


def frame(methods: list[str], **more: object) -> pd.DataFrame:
    found = mean_frame(methods, **more)  # type: ignore[arg-type]
    return found.assign(setting=found["method"])


def labels(figure: object) -> set[str]:
    return {a.text for a in figure.layout.annotations}  # type: ignore[attr-defined]


def test_up_to_eight_lines_all_have_a_name() -> None:
    assert labels(figures.courses(frame(MANY[:8]), metric="test_top1_frac")) == set(MANY[:8])


def test_of_many_lines_the_best_and_the_student_alone_have_a_colour_and_a_name() -> None:
    data = frame(MANY)
    data.loc[data["method"] == "base", ["mean", "low", "high"]] -= 0.3  # the worst of all
    figure = figures.courses(data, metric="test_top1_frac")
    assert labels(figure) == {"base", *MANY[1:8]}
    grey = [t for t in figure.data if t.line.color == figures.QUIET.colour]
    assert len(grey) == 16 and {t.name for t in grey} == set(MANY[8:])
    low, high = figure.layout.yaxis.range
    assert all(low <= t.y[-1] <= high for t in grey)


def test_of_a_loss_the_lowest_are_the_best() -> None:
    assert set(figures.coloured(frame(MANY), "test_loss")) == {"base", *MANY[-7:]}


def test_at_most_forty_traces_whatever_is_shown() -> None:
    methods = ["base", *TAUGHT, *(f"m{i}" for i in range(60))]
    runs = pd.concat([
        pd.DataFrame({"run_id": f"{m}{s}", "setting": m, "x": np.arange(1, 16), "value": 0.5}) for m in methods for s in (0, 1)
    ])  # fmt: skip
    figure = figures.courses(frame(methods), metric="test_top1_frac", weight=0.5, runs=runs)
    assert len(figure.data) <= charts.MAX_LINES
    assert "others" in {t.name for t in figure.data}, "what has no trace of its own is still drawn"


def test_smoothing_is_a_moving_average_without_a_pull_to_zero() -> None:
    values = np.array([10.0, 20.0, 20.0])
    assert figures.smoothed(values, 0.0) == pytest.approx(values)
    # by hand, weight 1/2: 10; (10/4 + 20/2) / (3/4); (10/8 + 20/4 + 20/2) / (7/8)
    assert figures.smoothed(values, 0.5) == pytest.approx([10, 12.5 / 0.75, 16.25 / 0.875])
    assert figures.smoothed(np.full(50, 7.0), 0.95) == pytest.approx(np.full(50, 7.0))


def test_what_was_measured_stays_in_sight_when_smoothed() -> None:
    figure = figures.courses(frame(["kd"]), metric="test_top1_frac", weight=0.9)
    assert [t.name for t in figure.data] == ["kd, as measured", "kd, band", "kd"]


def test_published_values_are_hollow_stars_at_the_right_edge() -> None:
    printed = pd.DataFrame({"method": ["kd", "other"], "top1_frac": [0.7066, 0.5], "source": ["a paper", "b"]})
    figure = figures.courses(frame(["kd"]), metric="test_top1_frac", printed=printed, epochs=20)
    stars = [t for t in figure.data if t.marker.symbol == "star-open"]
    assert len(stars) == 1 and stars[0].y[0] == pytest.approx(70.66) and stars[0].x[0] == 20
    assert "a paper" in stars[0].hovertemplate


def test_a_figure_of_24_methods_over_240_epochs_is_light() -> None:
    figure = figures.courses(frame(MANY, epochs=240), metric="test_top1_frac", weight=0.6)
    assert len(figure.to_json()) < 100 * 1024


def test_the_heaviest_figure_is_light_too() -> None:
    methods = [f"m{i}" for i in range(72)]
    runs = pd.concat([
        pd.DataFrame({"run_id": f"{m}{s}", "setting": m, "x": np.arange(1, 241), "value": 0.5 + 0.01 * s})
        for m in methods
        for s in range(10)
    ])  # fmt: skip
    for more in ({}, {"runs": runs}):
        figure = figures.courses(frame(methods, epochs=240), metric="test_top1_frac", weight=0.6, **more)
        assert len(figure.to_json()) < 100 * 1024


def test_a_thinned_line_keeps_its_end() -> None:
    values = np.arange(240.0)
    thin = figures._thin(values, 100)
    assert len(thin) == 80 and thin[-1] == 239 and figures._thin(values, 500) is not None
    assert np.array_equal(figures._thin(values, 240), values)
