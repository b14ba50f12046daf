"""Charts of free SQL from frames: which columns they are drawn over, what is drawn, and what is said where nothing is."""

from __future__ import annotations

import json
from typing import Any

import numpy as np
import pandas as pd
import pytest

from kdengine import catalogue
from pages.parts import charts, tables, words
from pages.parts.sql import axes, figures, values
from pages.parts.sql.axes import Axes, Unfit
from store.examples import EXAMPLES
from store.export.colours import style_of

METHODS = ["base", "kd", "fitnet"]
BARS = pd.DataFrame({
    "method": METHODS, "best_mean_frac": [0.5, 0.75, 0.7], "best_std_frac": [0.01, 0.02, np.nan], "n": [3, 3, 1],
})  # fmt: skip
CURVES = pd.DataFrame({
    "method": np.repeat(METHODS, 4), "epoch": np.tile([1, 2, 3, 4], 3), "test_top1_frac": np.linspace(0.1, 0.9, 12),
})  # fmt: skip
MOMENTS = pd.DataFrame({
    "at": pd.to_datetime(["2026-01-01 10:00", "2026-01-01 11:00", None, "2026-01-02 10:00"]), "hours": [1.0, 2.0, 3.0, None],
})  # fmt: skip


def drawn(frame: pd.DataFrame, kind: str, **given: str) -> values.Drawn:
    return figures.draw(frame, suggested(frame, kind, **given))


def suggested(frame: pd.DataFrame, kind: str, **given: str) -> Axes:
    return axes.suggest(axes.columns(frame), kind, **given)


# ---- columns chosen by themselves ------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("frame", "kind", "expected"),
    [
        (BARS, "bar", Axes("bar", "method", "best_mean_frac")),
        (CURVES, "line", Axes("line", "epoch", "test_top1_frac", "method")),
        (CURVES, "heat", Axes("heat", "epoch", "method", "test_top1_frac")),
        (MOMENTS, "line", Axes("line", "at", "hours")),
        (BARS, "scatter", Axes("scatter", "best_mean_frac", "best_std_frac", "method")),
    ],
    ids=["bar", "line", "heat", "times", "scatter"],
)
def test_columns_are_chosen_by_type_and_name(frame: pd.DataFrame, kind: str, expected: Axes) -> None:
    assert suggested(frame, kind) == expected


def test_what_is_chosen_is_kept_and_the_rest_fits() -> None:
    assert suggested(CURVES, "line", x="test_top1_frac", colour="") == Axes("line", "test_top1_frac", "epoch")
    assert suggested(CURVES, "heat", y="epoch") == Axes("heat", "method", "epoch", "test_top1_frac")


def test_bars_stand_beside_one_another_only_where_they_are_few() -> None:
    frame = pd.DataFrame({"student": ["a", "a"] * 6, "method": [f"m{i}" for i in range(12)], "value": range(12)})
    assert suggested(frame, "bar", x="student").colour == ""
    assert suggested(frame, "line", x="value", y="value").colour == "method"


def test_every_example_has_a_chart_that_fits_its_columns() -> None:
    for example in EXAMPLES:
        assert example.chart in axes.KINDS and example.x != example.y
        assert (example.chart == "heat") <= bool(example.colour)


@pytest.mark.parametrize(
    ("name", "shown"),
    [("test_top1_frac", "Test accuracy"), ("gain_mean_frac", "Gain mean"), ("reached_mean_s", "Reached mean, s"),
     ("images_per_s", "Training speed"), ("peak_mib", "Peak, MiB"), ("rows_per_s", "Rows per s"), ("_frac", "Frac"), ("n", "N")],
)  # fmt: skip
def test_names_are_written_as_titles(name: str, shown: str) -> None:
    assert axes.title(name) == shown


@pytest.mark.parametrize(
    ("name", "found", "spread"),
    [("best_mean_frac", ["best_std_frac"], "best_std_frac"), ("reached_mean_s", ["reached_std_s"], "reached_std_s"),
     ("avg_loss", ["std_loss"], "std_loss"), ("x", ["x_std"], "x_std"), ("x", ["y_std"], ""), ("mean", ["mean"], ""),
     ("top1_frac", ["top1_std_frac"], "top1_std_frac")],
)  # fmt: skip
def test_the_spread_of_a_mean_is_found_by_name(name: str, found: list[str], spread: str) -> None:
    assert axes.spread_of(name, found) == spread


# ---- what is drawn ---------------------------------------------------------------------------------------------------------


def test_bars_have_the_colours_of_their_methods_whiskers_and_numbers() -> None:
    found = drawn(BARS, "bar")
    (bar,) = found.figure.data
    assert list(bar.marker.color) == [style_of(m).colour for m in METHODS]
    assert list(bar.x) == pytest.approx([50, 75, 70]) and bar.base == 0
    assert list(bar.error_x.array) == pytest.approx([1, 2, 0])
    assert [a.text for a in found.figure.layout.annotations][1:] == ["75.0\xa0±\xa02.0 %", "70.0 %"]
    assert found.figure.layout.yaxis.autorange == "reversed", "the first row is on top"
    assert "kd is highest with 75.0 %" in found.alt and "Whiskers: best_std_frac." in found.notes


def test_bars_of_high_accuracies_begin_near_them_and_say_so() -> None:
    frame = BARS.assign(best_mean_frac=[0.93, 0.95, 0.94])
    figure = drawn(frame, "bar").figure
    assert figure.data[0].base == 90 and list(figure.data[0].x) == pytest.approx([3, 5, 4])
    assert "axis starts at 90 %" in figure.layout.xaxis.title.text
    assert drawn(BARS.rename(columns={"best_mean_frac": "seconds"}), "bar").figure.data[0].base == 0


def test_bars_side_by_side() -> None:
    frame = pd.concat([BARS.assign(dataset="digits"), BARS[:1].assign(dataset="cifar10", best_mean_frac=0.9)])
    found = drawn(frame, "bar")
    assert [trace.name for trace in found.figure.data] == ["digits", "cifar10"]
    assert found.figure.layout.showlegend and len({trace.marker.color for trace in found.figure.data}) == 2
    assert found.alt.startswith("4 bars")


def test_rows_that_share_a_bar_are_their_mean_and_it_is_said() -> None:
    found = drawn(pd.concat([BARS, BARS.assign(best_mean_frac=0.0)]), "bar")
    assert list(found.figure.data[0].x) == pytest.approx([25, 37.5, 35])
    assert "Several rows share a bar: their mean of best_mean_frac is drawn." in found.notes


def test_of_many_bars_forty_are_drawn() -> None:
    frame = pd.DataFrame({"name": [f"n{i}" for i in range(60)], "value": np.arange(60.0)})
    found = drawn(frame, "bar")
    assert len(found.figure.data[0].x) == 40 and "Of 60 values of name the first 40 are drawn." in found.notes


def test_lines_of_methods() -> None:
    found = drawn(CURVES, "line")
    assert [trace.name for trace in found.figure.data] == METHODS
    assert [trace.line.color for trace in found.figure.data] == [style_of(m).colour for m in METHODS]
    assert list(found.figure.data[2].y) == pytest.approx(100 * np.linspace(0.1, 0.9, 12)[8:])
    assert found.figure.layout.xaxis.title.text == "Epoch" and found.figure.layout.yaxis.title.text == "Test accuracy"
    assert not found.notes and "fitnet is highest at the end with 90.0 %" in found.alt


def test_lines_with_a_spread_have_bands() -> None:
    found = drawn(CURVES.assign(test_top1_std_frac=0.05), "line")
    assert sum(trace.fill == "toself" for trace in found.figure.data) == 3
    assert "Bands: test_top1_frac plus and minus test_top1_std_frac." in found.notes


def test_of_many_lines_the_best_eight_have_a_colour() -> None:
    keys = list(catalogue.labels())[:20] + [f"m{i}" for i in range(40)]
    frame = pd.DataFrame({"method": np.repeat(keys, 2), "epoch": np.tile([1, 2], 60), "loss": np.arange(120.0)})
    found = drawn(frame, "line")
    assert len(found.figure.data) <= charts.MAX_LINES
    loud = [trace.name for trace in found.figure.data if trace.line.color != values.QUIET.colour]
    assert loud == keys[:8], "of a loss the lowest"
    assert "Of 60 values of method the first 40 are drawn." in found.notes


def test_lines_along_time_keep_their_moments() -> None:
    found = drawn(MOMENTS, "line")
    (line,) = found.figure.data
    assert found.figure.layout.xaxis.type == "date" and "UTC" in found.figure.layout.xaxis.title.text
    assert pd.to_datetime(line.x0 if line.x is None else line.x[0], unit="ms") == pd.Timestamp("2026-01-01 10:00")
    assert "2 rows without a value left out." in found.notes


def test_points_are_named_where_there_is_room() -> None:
    frame = pd.DataFrame({"method": METHODS, "a_frac": [0.1, 0.5, 0.9], "b_frac": [0.2, 0.4, 0.8]})
    found = drawn(frame, "scatter")
    assert {a.text for a in found.figure.layout.annotations} == set(METHODS)
    assert [trace.marker.symbol for trace in found.figure.data] == [style_of(m).symbol for m in METHODS]


def test_points_in_rows_of_names_have_the_colours_of_the_rows() -> None:
    frame = pd.DataFrame({"method": ["kd", "kd", "base"], "best_top1_frac": [0.9, 0.8, 0.5]})
    found = figures.draw(frame, Axes("scatter", "best_top1_frac", "method"))
    (points,) = found.figure.data
    assert list(points.marker.color) == [style_of(m).colour for m in ("kd", "kd", "base")]
    assert list(points.y) == ["kd", "kd", "base"] and list(points.x) == pytest.approx([90, 80, 50])


def test_points_shaded_by_a_number() -> None:
    frame = pd.DataFrame({"a": np.arange(20.0), "b": np.arange(20.0), "c": np.linspace(-1, 1, 20)})
    marker = figures.draw(frame, Axes("scatter", "a", "b", "c")).figure.data[0].marker
    assert (marker.cmin, marker.cmax) == (-1, 1) and len(marker.colorscale) == 3


def test_of_ten_thousand_points_a_part_is_drawn() -> None:
    frame = pd.DataFrame({"a": np.arange(10_000.0), "b": np.arange(10_000.0)})
    found = drawn(frame, "scatter")
    assert len(found.figure.data[0].x) <= 4000 and "Of 10,000 points one in 3 is drawn." in found.notes


def test_a_heat_map_is_a_grid_in_order() -> None:
    found = drawn(CURVES.sample(frac=1, random_state=0).sort_values("method", kind="stable"), "heat")
    (cells,) = found.figure.data
    assert list(cells.x) == ["1", "2", "3", "4"] and list(cells.y) == ["base", "fitnet", "kd"]
    assert cells.z[0][3] == pytest.approx(100 * np.linspace(0.1, 0.9, 12)[3])
    assert cells.texttemplate and "3 by 4" in found.alt


def test_a_large_heat_map_is_cut() -> None:
    frame = pd.DataFrame({"a": np.repeat([f"a{i}" for i in range(70)], 2), "epoch": np.tile([1, 2], 70), "v": 1.0})
    found = drawn(frame, "heat")
    assert len(found.figure.data[0].y) == 60 and any("70 by 2 cells" in note for note in found.notes)


def test_statuses_have_their_colours_and_others_take_turns() -> None:
    assert values.styles_of("status", ["failed", "finished"])["failed"].colour == tables.HEX[words.STATUSES["failed"].colour]
    own = values.styles_of("dataset", [f"d{i}" for i in range(40)])
    assert len({(style.colour, style.dash, style.symbol) for style in own.values()}) == 40


@pytest.mark.parametrize("kind", axes.KINDS)
def test_what_an_answer_says_is_no_markup(kind: str) -> None:
    hostile = '<a href="http://example.org">x</a>'
    frame = pd.DataFrame({hostile: [hostile, "b"], "epoch": [1, 2], "<b>v</b>": [1.0, 2.0]})
    found = drawn(frame, kind)
    told = json.dumps(found.figure.to_plotly_json(), default=str, ensure_ascii=False)
    assert "<a" not in told and "<b>" not in told and "&lt;" in told


@pytest.mark.parametrize("example", EXAMPLES, ids=lambda example: example.key)
def test_a_figure_is_light(example: Any) -> None:
    rows = 240 * 24
    methods = list(catalogue.labels())
    names = {example.x, example.y, example.colour} - {""}
    kinds = {"epoch": np.tile(np.arange(1, 241), 24), "method": np.repeat(methods, 240)}
    frame = pd.DataFrame(
        {n: kinds.get(n, np.linspace(0, 1, rows)) for n in names if n not in ("dataset", "device", "suite", "status")}
    )
    for name in names & {"dataset", "device", "suite", "status"}:
        frame[name] = "digits"
    found = figures.draw(frame, Axes(example.chart, example.x, example.y, example.colour))
    assert len(found.figure.to_json()) < 160 * 1024 and len(found.figure.data) <= charts.MAX_LINES


# ---- what cannot be drawn --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("frame", "kind", "given", "why"),
    [
        (BARS[["method"]], "bar", {}, "need a column of numbers to show"),
        (BARS[["method"]], "line", {}, "numbers or times to run along"),
        (BARS[["n"]], "heat", {}, "names for its rows"),
        (BARS[:0], "bar", {}, "no values"),
        (BARS, "line", {"x": "method"}, "'method' holds names"),
        (BARS, "bar", {"y": "method", "x": "n"}, "'method' holds names"),
        (BARS, "line", {"x": "n", "y": "n"}, "Both axes show 'n'"),
        (BARS, "heat", {"colour": "gone"}, "no column 'gone'"),
        (BARS.assign(tags=[["a"], [], []]), "bar", {"x": "tags"}, "'tags' is empty or holds lists"),
        (BARS.assign(a="x"), "scatter", {"x": "a", "y": "method"}, "holds numbers"),
        (BARS.assign(best_std_frac=[np.nan] * 2 + [0.1], n=[1, 2, None]), "scatter", {"x": "best_std_frac", "y": "n"}, "No row"),
    ],
)
def test_a_chart_that_does_not_fit_says_why(frame: pd.DataFrame, kind: str, given: dict[str, str], why: str) -> None:
    with pytest.raises(Unfit, match=why):
        drawn(frame, kind, **given)


@pytest.mark.parametrize("kind", axes.KINDS)
@pytest.mark.parametrize(
    "frame",
    [
        pd.DataFrame({"a": pd.array([1, None, 3], dtype="Int64"), "b": [True, False, None], "c": [None, None, None]}),
        pd.DataFrame({"a": [2**70, 1, None], "b": ["x", 1, None], "c": [[1], {"a": 1}, None]}),
        pd.DataFrame({"epoch": [1.0, np.inf, -np.inf], "a": [np.nan, 1.0, 2.0], "b": ["", " ", "x" * 400]}),
        pd.DataFrame({"": [1, 2, 3], "a b": [1, 2, 3], "a_b_2": ["1", "2", "3"]}),
        pd.DataFrame({"at": pd.to_datetime(["2026-01-01"] * 3), "n": [1, 1, 1], "s": ["a", "a", "a"]}),
    ],
)
def test_odd_answers_are_drawn_or_refused_in_words(frame: pd.DataFrame, kind: str) -> None:
    try:
        found = drawn(frame, kind)
    except Unfit as reason:
        assert len(str(reason)) > 20
    else:
        assert found.figure.to_json() and found.alt


def test_long_names_are_shortened_on_axes_and_whole_in_the_hover() -> None:
    long = "a_method_with_a_name_that_is_sixty_characters_long_for_a_tes"
    frame = pd.DataFrame({"name": [long, "b"], long: [1.0, 2.0]})
    for kind in ("bar", "scatter"):
        figure = figures.draw(frame, Axes(kind, *(("name", long) if kind == "bar" else (long, "name")))).figure
        (trace,) = figure.data
        assert long in list(trace.y) and set(figure.layout.yaxis.ticktext) == {"a_method_with_a_n…_for_a_tes", "b"}
        assert kind != "bar" or long in trace.text
        assert len(figure.layout.xaxis.title.text) <= 44 and len({*np.atleast_1d(trace.marker.color)}) == 1
