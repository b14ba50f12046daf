"""Figures from fixture frames: what they draw, how much they weigh, and whether everybody can tell the colours apart."""

from __future__ import annotations

import itertools

import numpy as np
import pandas as pd
import pytest

from kdengine import catalogue
from pages.parts import charts
from store.export import colours
from store.export.colours import FAMILIES, REFERENCE, style_of

LIGHT, DARK = "#ffffff", "#0f1217"
# Machado et al. 2009, severity 1, linear RGB
BLINDNESS = {
    "protan": [[0.152286, 1.052583, -0.204868], [0.114503, 0.786281, 0.099216], [-0.003882, -0.048116, 1.051998]],
    "tritan": [[1.255528, -0.076749, -0.178779], [-0.078411, 0.930809, 0.147602], [0.004733, 0.691367, 0.303900]],
    "deutan": [[0.367322, 0.860646, -0.227968], [0.280085, 0.672501, 0.047413], [-0.011820, 0.042940, 0.968881]],
}


def linear(colour: str) -> np.ndarray:
    values = np.array([int(colour[i : i + 2], 16) / 255 for i in (1, 3, 5)])
    return np.where(values <= 0.04045, values / 12.92, ((values + 0.055) / 1.055) ** 2.4)


def contrast(a: str, b: str) -> float:
    high, low = sorted((float(linear(c) @ [0.2126, 0.7152, 0.0722]) for c in (a, b)), reverse=True)
    return (high + 0.05) / (low + 0.05)


def oklab(rgb: np.ndarray) -> np.ndarray:
    rgb = np.clip(rgb, 0, 1)
    lms = np.cbrt(np.array([[0.4122, 0.5363, 0.0514], [0.2119, 0.6807, 0.1074], [0.0883, 0.2817, 0.6300]]) @ rgb)
    return np.array([[0.2105, 0.7936, -0.0041], [1.9780, -2.4286, 0.4506], [0.0259, 0.7828, -0.8087]]) @ lms


def mean_frame(methods: list[str], epochs: int = 15, n: int = 2, **more: object) -> pd.DataFrame:
    rows = [
        {"method": m, "student": "resnet8", "teacher": "resnet20", "dataset": "digits", "epoch": e, "x": e,
         "mean": 0.9 - 0.8 / e - 0.01 * i, "low": 0.88 - 0.8 / e, "high": 0.92 - 0.8 / e, "std": 0.02, "n": n} | more
        for i, m in enumerate(methods)
        for e in range(1, epochs + 1)
    ]  # fmt: skip
    return pd.DataFrame(rows)


@pytest.mark.parametrize("family", FAMILIES)
@pytest.mark.parametrize("place", range(12))
def test_colours_stand_out_from_both_backgrounds(family: str, place: int) -> None:
    colour = colours._shade(family, place)
    assert contrast(colour, LIGHT) >= 3 and contrast(colour, DARK) >= 3


def test_reference_stands_out_from_both_backgrounds() -> None:
    assert contrast(REFERENCE, LIGHT) >= 3 and contrast(REFERENCE, DARK) >= 3


@pytest.mark.parametrize("kind", BLINDNESS)
def test_families_keep_their_distance_for_the_colour_blind(kind: str) -> None:
    seen = {f: oklab(np.array(BLINDNESS[kind]) @ linear(colours._shade(f, 0))) for f in FAMILIES}
    for a, b in itertools.combinations(seen, 2):
        assert np.linalg.norm(seen[a] - seen[b]) > (0.042 if kind == "tritan" else 0.055), (a, b)


def test_no_two_methods_look_the_same() -> None:
    styles = {key: style_of(key) for key in catalogue.labels()}
    assert len(set(styles.values())) == len(styles) >= 24
    assert len({(s.dash, s.symbol) for s in styles.values()}) == len(styles), "also without any colour"
    for a, b in itertools.combinations(styles, 2):
        if catalogue.label_of(a).family == catalogue.label_of(b).family:
            apart = np.linalg.norm(oklab(linear(styles[a].colour)) - oklab(linear(styles[b].colour)))
            assert apart > 0.03, (a, b)


@pytest.mark.parametrize("kind", BLINDNESS)
def test_lines_with_the_same_dash_differ_in_colour_for_everybody(kind: str) -> None:
    styles = {key: style_of(key) for key in catalogue.labels()}
    seen = {key: oklab(np.array(BLINDNESS[kind]) @ linear(style.colour)) for key, style in styles.items()}
    for a, b in itertools.combinations(styles, 2):
        if styles[a].dash == styles[b].dash:
            assert np.linalg.norm(seen[a] - seen[b]) > 0.035, (a, b)


def test_a_method_looks_the_same_everywhere_and_its_sisters_differ() -> None:
    curves = charts.mean_curves(mean_frame(["kd", "fitnet", "ft"]), metric="test_top1_frac")
    bars = charts.speed(pd.DataFrame([{"method": m, "student": "s", "teacher": None, "dataset": "d", "images_per_s": 1.0 + i}
                                      for i, m in enumerate(["kd", "fitnet", "ft"])]))  # fmt: skip
    lines = {t.name: t.line.color for t in curves.data if t.mode and t.showlegend is not False}
    assert dict(zip(bars.data[0].y, bars.data[0].marker.color, strict=True)) == lines
    assert style_of("fitnet").colour != style_of("ft").colour and style_of("fitnet").dash != style_of("ft").dash
    assert style_of("never-heard-of").colour == style_of("base").colour


def test_lines_are_named_at_their_ends_and_apart() -> None:
    figure = charts.mean_curves(
        mean_frame(["kd", "fitnet", "ft", "base"]), metric="test_top1_frac", references=[("teacher", 0.9)]
    )
    names = [a.text for a in figure.layout.annotations]
    assert set(names) == {"kd", "fitnet", "ft", "base", "teacher"}
    heights = sorted(a.y for a in figure.layout.annotations)
    low, high = figure.layout.yaxis.range
    assert min(np.diff(heights)) >= 0.99 * (high - low) * charts.LABEL_PX / (440 - 70)
    assert not figure.layout.showlegend


def test_many_lines_get_a_legend_and_at_most_forty_are_drawn() -> None:
    figure = charts.mean_curves(mean_frame([f"m{i}" for i in range(60)], n=1), metric="test_top1_frac")
    assert figure.layout.showlegend and len(figure.data) == charts.MAX_LINES


def test_a_figure_is_light() -> None:
    figure = charts.mean_curves(mean_frame(["kd", "fitnet", "ft", "base", "dml", "ban"], epochs=240), metric="test_top1_frac")
    assert len(figure.to_json()) < 120_000
    assert all(t.y.dtype == np.float32 for t in figure.data)


def test_one_run_has_no_band() -> None:
    figure = charts.mean_curves(mean_frame(["kd"], n=1), metric="test_loss")
    assert len(figure.data) == 1


def test_one_epoch_is_still_visible() -> None:
    figure = charts.mean_curves(mean_frame(["kd"], epochs=1), metric="test_top1_frac")
    assert figure.data[-1].mode == "lines+markers"


def test_names_say_only_what_differs() -> None:
    frame = pd.concat(
        [mean_frame(["kd"], params='{"T": 4, "lambda_kd": 0.9}'), mean_frame(["kd"], params='{"T": 8, "lambda_kd": 0.9}')]
    )
    assert set(charts.line_names(frame)) == {"kd T=4", "kd T=8"}
    pairs = pd.concat(
        [mean_frame(["kd"]), mean_frame(["kd"]).assign(teacher="resnet56"), mean_frame(["base"]).assign(teacher=None)]
    )
    assert set(charts.line_names(pairs)) == {"kd · resnet20 → resnet8", "kd · resnet56 → resnet8", "base · resnet8"}
    same = pd.concat([mean_frame(["kd"], setting="a"), mean_frame(["kd"], setting="b")])
    assert set(charts.line_names(same)) == {"kd #1", "kd #2"}
    assert set(charts.line_names(mean_frame(["kd", "base"]))) == {"kd", "base"}


def test_leaderboard_says_where_its_axis_starts() -> None:
    frame = pd.DataFrame({"method": ["kd", "base"], "student": "resnet8", "teacher": ["resnet20", None], "dataset": "digits",
                          "n": 3, "best_mean_frac": [0.94, 0.80], "best_std_frac": [0.01, np.nan]})  # fmt: skip
    figure = charts.leaderboard(frame, references=[("teacher resnet20", 0.967)])
    bar = figure.data[0]
    assert list(bar.y) == ["base", "kd"] and bar.base == 70.0
    assert np.allclose(np.array(bar.x) + bar.base, [80, 94])
    assert "axis starts at 70 %" in figure.layout.xaxis.title.text
    assert list(bar.error_x.array) == [0.0, 1.0]


def test_terms_and_load_begin_at_zero() -> None:
    terms = pd.DataFrame(
        {"epoch": [1, 2, 1, 2], "network": "student", "term": ["ce", "ce", "kd", "kd"], "value": [2.0, 1.0, 9.0, 4.0]}
    )
    assert charts.terms(terms, method="kd").layout.yaxis.range[0] == 0
    epochs = pd.DataFrame({"epoch": [1, 2], "network": "student", "images_per_s": [900.0, 950.0]})
    assert charts.load(epochs, "images_per_s", "Speed", "speed").layout.yaxis.range[0] == 0


def test_nothing_is_drawn_from_nothing() -> None:
    empty = mean_frame(["kd"]).iloc[:0]
    assert len(charts.mean_curves(empty, metric="test_top1_frac").data) == 0
    assert len(charts.run_curves(pd.DataFrame(columns=["epoch", "network", "test_loss"]), ("test_loss",), method="kd").data) == 0
