"""From runs and from tables to orders: who races, with which values, under which words. Never: a picture."""

from __future__ import annotations

import math
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

from kdengine.errors import KdError
from kdengine.home import Home
from store import queries
from store.compare.groups import grouped
from store.db import Store
from store.export.colours import style_of
from store.export.race import gather, wide
from store.export.race.gather import METRICS, columns, from_csv, of_suite, order_of
from store.export.race.options import Options
from store.export.race.order import Order
from store.export.race.prepare import prepare
from tests.store.comparing import results, runs
from tests.store.conftest import MakeRun

MP4 = Options(caption=True)
LIGHT, DARK = "#ffffff", "#0f1217"


def luminance(colour: str) -> float:
    parts = [int(colour[i : i + 2], 16) / 255 for i in (1, 3, 5)]
    linear = [c / 12.92 if c <= 0.03928 else ((c + 0.055) / 1.055) ** 2.4 for c in parts]
    return sum(weight * c for weight, c in zip((0.2126, 0.7152, 0.0722), linear, strict=True))


def contrast(a: str, b: str) -> float:
    high, low = sorted((luminance(a), luminance(b)), reverse=True)
    return (high + 0.05) / (low + 0.05)


def measured(groups: pd.DataFrame, courses: dict[tuple[str, int], list[Any]], first: int = 1) -> pd.DataFrame:
    """Return rows as ``queries.curves`` does: (name of the group, seed) -> values from epoch ``first`` on, None left out."""
    ids = {
        (name, seed): run_id
        for name, seeds, own in zip(groups["name"], groups["seeds"], groups["ids"], strict=True)
        for seed, run_id in zip(seeds, own, strict=True)
    }
    rows = [
        {"run_id": ids[key], "method": key[0].split()[0], "seed": key[1], "x": epoch, "value": value}
        for key, values in courses.items()
        for epoch, value in enumerate(values, first)
        if value is not None
    ]
    return pd.DataFrame(rows, columns=["run_id", "method", "seed", "x", "value"]).astype({"value": "float32", "x": "int64"})


@pytest.fixture
def two() -> pd.DataFrame:
    """Two groups of two seeds each: kd and at."""
    return columns(results(runs("kd", [0.7, 0.8]), runs("at", [0.6, 0.6])))


TWO: dict[tuple[str, int], list[Any]] = {
    ("kd", 0): [0.5, 0.7, 0.6], ("kd", 1): [0.6, 0.5, 0.8], ("at", 0): [0.4, 0.6, 0.5], ("at", 1): [0.5, 0.5, 0.6],
}  # fmt: skip


def values(order: Order) -> dict[str, list[float | None]]:
    return {racer.name: [v if v is None else round(v, 4) for v in racer.values] for racer in order.racers}


def fault(*parts: str, **more: Any) -> Any:
    return pytest.raises(KdError, match="(?s)" + ".*".join(re.escape(part) for part in parts), **more)


# ---- values of runs --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("mode", "kd"), [("best", [55, 65, 75]), ("raw", [55, 60, 70]), ("smooth", [55, 57, 62.2])], ids=["best", "raw", "smooth"]
)
def test_the_mode_counts_for_each_run_before_seeds_are_averaged(two: pd.DataFrame, mode: str, kd: list[float]) -> None:
    order = order_of(two, measured(two, TWO), mode=mode, options=MP4)
    assert values(order)["kd"] == pytest.approx(kd, abs=1e-4) and order.epochs == (1, 2, 3)
    assert (order.unit, order.most, order.measure, order.lower_is_better) == (" %", 100, "Test accuracy", False)


def test_the_least_loss_is_best(two: pd.DataFrame) -> None:
    losses = measured(two, {("kd", 0): [2.0, 1.0, 1.5], ("kd", 1): [3.0, 2.5, 2.0], ("at", 0): [1.0, 2.0, 3.0]})
    order = order_of(two, losses, metric="test_loss", options=MP4)
    assert values(order) == {"kd": [2.5, 1.75, 1.5], "at": [1.0, 1.0, 1.0]} and order.lower_is_better and order.most is None
    assert order.title == "Lowest test loss so far"


def test_who_ends_early_is_held_in_the_mean_and_a_group_that_ends_says_so(two: pd.DataFrame) -> None:
    courses = {("kd", 0): [0.5, 0.6, 0.7, 0.8], ("kd", 1): [0.5, 0.7], ("at", 0): [0.4, 0.5], ("at", 1): [0.4]}
    order = order_of(two, measured(two, courses), mode="raw", options=MP4)
    assert values(order) == {"kd": [50, 65, 70, 75], "at": [40, 45, None, None]}
    ended = dict(zip([racer.name for racer in order.racers], prepare(order).ended.tolist(), strict=True))
    assert ended["at"] == 2 and math.isnan(ended["kd"])


@pytest.mark.parametrize("mode", gather.MODES)
def test_gaps_are_held_and_a_late_start_stays_empty(two: pd.DataFrame, mode: str) -> None:
    courses = {("kd", 0): [0.5, None, math.nan, 0.5], ("at", 0): [math.inf, 0.4, 0.4, 0.4]}
    found = values(order_of(two, measured(two, courses), mode=mode, options=MP4))
    assert found == {"kd": [50, 50, 50, 50], "at": [None, 40, 40, 40]}


def test_epochs_that_nobody_drawn_has_are_left_out(two: pd.DataFrame) -> None:
    courses = {("kd", 0): [None, 0.5, 0.6, None], ("at", 0): [None, 0.5, 0.6, None], ("at", 1): [0.4, 0.4, 0.4, 0.4]}
    order = order_of(two, measured(two, courses), seeds="0", options=MP4)
    assert order.epochs == (2, 3)


def test_seeds_mean_best_or_one(two: pd.DataFrame) -> None:
    curves = measured(two, TWO)
    assert values(order_of(two, curves, seeds="best", options=MP4)) == {"kd": [60, 60, 80], "at": [40, 60, 60]}
    assert values(order_of(two, curves, seeds="best", mode="raw", options=MP4))["at"] == [50, 50, 60], "the one that ends best"
    one = order_of(two, curves, seeds="0", mode="raw", options=MP4)
    assert values(one) == {"kd": [50, 70, 60], "at": [40, 60, 50]} and "seed 0." in one.caption
    losses = order_of(two, curves, metric="test_loss", seeds="best", options=MP4)
    assert values(losses)["kd"] == pytest.approx([0.5, 0.5, 0.5]), "of losses the one that ends lowest"


def test_every_metric_is_one_of_the_store_and_says_what_it_is() -> None:
    assert list(METRICS)[0] == "test_top1_frac" and set(METRICS) <= set(queries.METRICS)
    for name, metric in METRICS.items():
        assert metric.factor == (100 if name.endswith("_frac") else 1) and (metric.most == 100) == name.endswith("_frac")
        assert metric.lower_is_better == any(word in name for word in ("loss", "kl", "ece"))


# ---- who races -------------------------------------------------------------------------------------------------------------


def test_racers_are_named_and_coloured_as_everywhere() -> None:
    groups = columns(results(runs("kd", [0.7], params='{"T": 4}'), runs("kd", [0.6], params='{"T": 8}'), runs("base", [0.5])))
    order = order_of(groups, measured(groups, {(name, 0): [0.1, 0.2] for name in groups["name"]}), options=MP4)
    assert [racer.name for racer in order.racers] == ["kd T=4", "kd T=8", "base"]
    assert [racer.colour for racer in order.racers] == [style_of(m).colour for m in ("kd", "kd", "base")]
    assert order.subtitle == "digits · resnet20 → resnet8"


def test_who_has_no_such_value_is_left_out_and_named(two: pd.DataFrame) -> None:
    order = order_of(two, measured(two, {("kd", 0): [0.1, 0.2]}), metric="agreement_frac", options=MP4)
    assert [racer.name for racer in order.racers] == ["kd"]
    assert order.caption.startswith("Best epoch so far on the test images, one seed. Without such a value: at. ")


def test_of_more_than_an_order_holds_the_best_race() -> None:
    settings = [runs("kd", [0.5 + n / 1000], params=f'{{"T": {n}}}') for n in range(70)]
    groups = columns(results(*settings))
    courses = {(f"kd T={n}", 0): [0.1, 0.1 + n / 1000] for n in range(70)}
    order = order_of(groups, measured(groups, courses), options=MP4)
    assert {racer.name for racer in order.racers} == {
        f"kd T={n}" for n in range(10, 70)
    } and "The best 60 of 70." in order.caption


# ---- words -----------------------------------------------------------------------------------------------------------------


def said_of(frame: pd.DataFrame, **fields: Any) -> pd.DataFrame:
    more = {"suite": "demo", "versions": '{"torch": "2.15", "kdengine": "0.5"}'} | fields
    return frame[["run_id", "created_at"]].assign(**more)


def test_the_caption_says_what_was_selected_and_which_runs() -> None:
    frame = results(runs("kd", [0.7, 0.8, 0.9]), runs("at", [0.6, 0.6, 0.6]))
    groups = columns(frame)
    courses = {(name, seed): [0.1, 0.2] for name in ("kd", "at") for seed in range(3)}
    order = order_of(groups, measured(groups, courses), options=MP4, runs=said_of(frame))
    assert order.title == "Best test accuracy so far"
    assert order.caption == (
        "Best epoch so far on the test images, mean of 3 seeds. 6 runs of suite demo, newest of 2026-01-01, kdengine 0.5."
    )
    assert all(run_id in order.source for run_id in frame["run_id"]) and order.source.endswith("kdengine 0.5, torch 2.15.")
    few = order_of(groups[groups["name"] == "kd"], measured(groups, courses), mode="raw", seeds="1", options=MP4)
    assert few.caption == "Each epoch as measured on the test images, seed 1. Run 0001-kd."


def test_uneven_seeds_several_suites_and_versions_are_told() -> None:
    frame = results(runs("kd", [0.7, 0.8, 0.9]), runs("at", [0.6, 0.6]))
    groups = columns(frame)
    courses = {("kd", 0): [0.1], ("kd", 1): [0.1], ("kd", 2): [0.1], ("at", 0): [0.2], ("at", 1): [0.2]}
    said = said_of(frame, suite=["a", "b", None, "a", "b"], versions=['{"kdengine": "0.5"}', '{"kdengine": "0.4"}', *[None] * 3])
    order = order_of(groups, measured(groups, courses), mode="smooth", options=Options(format="png"), runs=said)
    assert "(60 % of each value is what came before), mean of 2 to 3 seeds." in order.caption
    assert "5 runs of 2 suites" in order.caption and "kdengine 0.4 and 0.5." in order.caption


def test_thousands_of_runs_fit_into_the_source() -> None:
    frame = results(*[runs("kd", [0.5] * 40, params=f'{{"T": {n}}}', suite="x" * 60) for n in range(60)])
    frame = frame.assign(run_id=[f"20260101-000000-kd-{n:06d}" for n in range(len(frame))])
    groups = columns(frame)
    curves = pd.DataFrame({"run_id": frame["run_id"], "x": 1, "value": 0.5})
    order = order_of(groups, curves, options=Options(format="png"))
    assert len(order.racers) == 60 and re.search(r" and \d+ more\.$", order.source)


def test_equal_runs_make_equal_orders(two: pd.DataFrame) -> None:
    first, again = (order_of(two, measured(two, TWO), options=MP4) for _ in range(2))
    assert first.key({}) == again.key({}) and first.key({}) != order_of(two, measured(two, TWO), mode="raw", options=MP4).key({})


# ---- faults ----------------------------------------------------------------------------------------------------------------


def test_all_faults_of_a_choice_come_at_once(two: pd.DataFrame) -> None:
    groups = columns(results(runs("kd", [0.5]), runs("kd", [0.5], dataset="cifar10")))
    with fault("metric", "'test_top1'", "did you mean 'test_top1_frac'?", "mode 'bset'", "seeds 'all'", "groups of 2 columns"):
        order_of(groups, measured(two, TWO), metric="test_top1", mode="bset", seeds="all", options=MP4)
    with fault("seed 7", "0, 1", "or mean"):
        order_of(two, measured(two, TWO), seeds="7", options=MP4)
    with fault("runs without any agreement with the teacher", "another measure"):
        order_of(two, measured(two, {}), metric="agreement_frac", options=MP4)
    with fault("one epoch", "take the PNG"):
        order_of(two, measured(two, {("kd", 0): [0.5]}), options=MP4)


# ---- the store -------------------------------------------------------------------------------------------------------------

COURSES = {
    "kd": ([0.5, 0.72, 0.71], [0.52, 0.6, 0.66]), "at": ([0.4, 0.8, 0.5], [0.41, 0.42, 0.43]), "base": ([0.3, 0.31, 0.2],) * 2,
}  # fmt: skip


@pytest.fixture
def store(home: Home, make_run: MakeRun) -> Any:
    """A suite of three methods and two seeds, a run that still trains, and a run of another suite and pair."""
    for method, courses in COURSES.items():
        for seed, top1 in enumerate(courses):
            make_run(method=method, teacher=None if method == "base" else "resnet20", seed=seed, top1=top1, suite="three")
    make_run(method="sp", teacher="resnet20", suite="three", done=1, end=None)
    make_run(method="kd", teacher="resnet32", suite="other")
    make_run(method="kd", teacher="resnet32", dataset="cifar10", suite="three")
    with Store.open(home) as opened:
        opened.take_in()
        yield opened


def test_the_race_ends_where_the_leaderboard_stands(store: Store) -> None:
    order = of_suite(store, "three", options=MP4)
    board = queries.leaderboard(store, "three")
    best = {row["method"]: 100 * row["best_mean_frac"] for row in board[board["dataset"] == "digits"].to_dict("records")}
    last = {racer.name: racer.values[-1] for racer in order.racers}
    assert last == {name: pytest.approx(value, abs=1e-4) for name, value in best.items()} and set(last) == set(COURSES)
    groups = grouped(queries.results(store, queries.runs(store, suite="three")["run_id"].tolist()), "best")[0]
    mean = {row["name"]: 100 * row["mean_frac"] for row in groups.to_dict("records") if row["dataset"] == "digits"}
    assert last == {name: pytest.approx(value, abs=1e-4) for name, value in mean.items()}
    assert [racer.name for racer in order.racers] == sorted(best, key=lambda name: -best[name])


def test_a_suite_says_where_it_is_from(store: Store) -> None:
    order = of_suite(store, "three", mode="raw", options=MP4, title="Mine")
    assert order.title == "Mine" and order.subtitle == "digits · resnet20 → resnet8"
    assert re.search(r" 6 runs of suite three, newest of \d{4}-\d\d-\d\d\.$", order.caption) and "torch 2.15" in order.source
    assert len(re.findall(r"\d{8}-\d{6}-", order.source)) == 6


@pytest.mark.parametrize("column", ["cifar10-resnet32-resnet8", "cifar10 · resnet32 → resnet8"])
def test_a_column_by_name_or_key(store: Store, column: str) -> None:
    assert of_suite(store, None, column=column, options=MP4).subtitle == "cifar10 · resnet32 → resnet8"
    assert "digits · resnet32" in of_suite(store, "other", options=MP4).subtitle


def test_faults_of_a_suite_name_what_there_is(store: Store, make_run: MakeRun) -> None:
    with fault("suite 'thre'", "three, other", "did you mean 'three'?"):
        of_suite(store, "thre", options=MP4)
    with fault("column 'digits'", "cifar10-resnet32-resnet8, digits-resnet20-resnet8"):
        of_suite(store, "three", column="digits", options=MP4)
    with fault("metric 'loss'", "mode 'last'"):
        of_suite(store, "three", metric="loss", mode="last", options=MP4)
    make_run(method="kd", teacher="resnet20", suite="young", done=1, end=None)
    store.take_in()
    with fault("suite 'young' without a finished run", "wait"):
        of_suite(store, "young", options=MP4)


# ---- tables in text files --------------------------------------------------------------------------------------------------


def written(tmp_path: Path, text: str | bytes, name: str = "a_table.csv") -> Path:
    path = tmp_path / name
    path.write_bytes(text if isinstance(text, bytes) else text.encode())
    return path


PLAIN = "epoch,kd,my method\n1,70.1,60\n2,71.25,\n3,71,62\n"


@pytest.mark.parametrize(
    "text",
    [
        PLAIN,
        PLAIN.replace(",", ";"),
        PLAIN.replace(",", "\t"),
        PLAIN.replace(",", ";").replace(".", ","),
        PLAIN.replace(",", " , ").replace("\n", "\r\n"),
        PLAIN.replace("kd", '"kd"').replace("my method", '"my method"'),
        "epoch,kd,my method\n\n3,71,62\n1,70.1,60\n2,71.25,NaN\n\n",
        ",kd,my method,\n1,70.1,60,\n2,71.25,n/a,\n3,71,62,\n",
        "step,kd,my method\n1,70.1,60\n2,71.25\n3,7.1e1,62\n",
        b"\xef\xbb\xbf" + PLAIN.encode(),
        PLAIN.encode("utf-16"),
        PLAIN.replace("2,71.25,", "2,71.25,inf"),
    ],
    ids=[
        "comma",
        "semicolon",
        "tab",
        "decimal comma",
        "spaces",
        "quotes",
        "any order",
        "trailing",
        "short",
        "bom",
        "utf-16",
        "inf",
    ],
)
def test_a_table_reads_as_it_was_written(tmp_path: Path, text: str | bytes) -> None:
    order = from_csv(written(tmp_path, text), options=MP4)
    assert order.epochs == (1, 2, 3) and values(order) == {"kd": [70.1, 71.25, 71], "my method": [60, None, 62]}
    assert order.title == "A table" and order.caption == "Values as given, from a_table.csv." and order.measure == ""


def test_names_may_be_chinese_or_hold_separators(tmp_path: Path) -> None:
    order = from_csv(written(tmp_path, '轮次,蒸馏 (T=4),"kd, T=8"\n1,70,60\n2,71,61\n'), options=MP4)
    assert [racer.name for racer in order.racers] == ["蒸馏 (T=4)", "kd, T=8"]
    semicolons = from_csv(written(tmp_path, "e;kd, T=4;at, b;x, y\n1;70,5;71,2;72,0\n2;70,5;71,2;72,0\n"), options=MP4)
    assert values(semicolons)["at, b"] == [71.2, 71.2]


def test_modes_units_and_words_of_a_table(tmp_path: Path) -> None:
    path = written(tmp_path, "epoch,kd\n1,3\n2,\n3,1\n4,2\n5,\n")
    best = from_csv(path, options=MP4, mode="best", lower_is_better=True, unit=" nats", measure="test loss")
    assert values(best)["kd"] == [3, 3, 1, 1, None] and best.lower_is_better and best.most is None
    assert (best.title, best.measure, best.caption) == ("Test loss by epoch", "test loss", "Best value so far, from a_table.csv.")
    assert values(from_csv(path, options=MP4, mode="smooth"))["kd"] == pytest.approx([3, 3, 2.2, 2.12, None])
    assert from_csv(path, options=MP4, unit=" %").most == 100
    assert from_csv(written(tmp_path, "e,a\n1,3\n2,101\n"), options=MP4, unit="%").most is None
    assert from_csv(path, options=MP4, title="Mine").title == "Mine"


def test_one_row_makes_a_picture_but_no_race(tmp_path: Path) -> None:
    path = written(tmp_path, "epoch,kd\n7,3\n")
    assert from_csv(path, options=Options(format="png")).epochs == (7,)
    with fault("one epoch", "two or more", "take the PNG"):
        from_csv(path, options=MP4)


@pytest.mark.parametrize(
    ("text", "parts"),
    [
        ("", ("which is empty", "a line of names")),
        (" \n\n", ("which is empty",)),
        ("epoch,kd\n", ("no row below the names", "a row per epoch")),
        ("epoch\n1\n2\n", ("one column (epoch)", "comma, semicolon or tab")),
        ("1,70\n2,71\n", ("a first line of numbers", "names of the columns")),
        ("epoch,kd,kd\n1,2,3\n2,3,4\n", ("kd more than once", "rename")),
        ("epoch,kd,\n1,2,3\n2,3,4\n", ("column 3 without a name",)),
        ("epoch,kd,at\n1,2,\n2,3,\n", ("at without any value", "remove the column")),
        ("epoch,kd\n1,2\n1,3\n", ("epoch 1 more than once", "keep one")),
        ("epoch,kd\n1,2\nx,3\n,4\n", ("line 3, epoch", "'x'", "a number;", "line 4, epoch", "''")),
        ("epoch,kd\n1,2,9\n2,3\n", ("more cells than names in line 2", "quotes")),
        ("epoch,kd\n1,74.9%\n2,3\n", ("line 2, kd", "'74.9%'", "a number, or nothing")),
        ("epoch," + ",".join(f"m{n}" for n in range(61)) + "\n1\n2\n", ("61 columns", "60 at most")),
        ("epoch,kd\n" + "".join(f"{n},1\n" for n in range(5001)), ("5001 rows", "5000 at most")),
        (b"\x89PNG\x00\xff\xfe", ("no UTF-8 text", "save it as CSV")),
        ("epoch,kd\n1,\xe9\n".encode("latin-1"), ("no UTF-8 text",)),
        ('epoch,kd\n1,"' + "x" * 200_000 + "\n", ("field larger than", "save it as CSV")),
    ],
)  # fmt: skip
def test_what_a_table_cannot_be_is_said_in_three_parts(tmp_path: Path, text: str | bytes, parts: tuple[str, ...]) -> None:
    with fault(*parts) as caught:
        from_csv(written(tmp_path, text), options=MP4)
    assert all(problem.given and problem.allowed and problem.do for problem in caught.value.problems)


def test_several_faults_of_a_table_come_at_once_and_many_are_counted(tmp_path: Path) -> None:
    with fault("line 2, kd", "'a'", "line 2, at", "'b'", "line 3, kd", "'c'", "epoch 1 more than once"):
        from_csv(written(tmp_path, "epoch,kd,at\n1,a,b\n1,c,3\n"), options=MP4)
    with fault("line 2, kd", "88 further faults") as caught:
        from_csv(written(tmp_path, "epoch,kd\n" + "".join(f"{n},x\n" for n in range(100))), options=MP4)
    assert len(caught.value.problems) == wide.MOST_FAULTS + 1
    with fault("no row", "column 4 without a name", "kd more than once"):
        from_csv(written(tmp_path, "epoch,kd,kd,,at\n"), options=MP4)


def test_a_file_that_is_not_there(tmp_path: Path) -> None:
    path = written(tmp_path, PLAIN, "epochs.csv")
    with fault("epoch.csv (No such file", "did you mean", "epochs.csv"):
        from_csv(path.with_name("epoch.csv"), options=MP4)
    with fault("Is a directory", "a table as text"):
        from_csv(tmp_path, options=MP4)
    with fault("mode 'last'", "best, raw, smooth"):
        from_csv(path, options=MP4, mode="last")


# ---- colours ---------------------------------------------------------------------------------------------------------------

NAMES = [f"method {n}" for n in range(300)]


def test_a_colour_follows_from_the_name_alone() -> None:
    alone = {name: gather.colours_of([name])[0] for name in NAMES}
    together = gather.colours_of(["kd", *NAMES[::-1], "at"])
    assert dict(zip(["kd", *NAMES[::-1], "at"], together, strict=True)) == {
        **alone, "kd": style_of("kd").colour, "at": style_of("at").colour,
    }  # fmt: skip
    assert len(set(together)) == len(together), "no two alike"
    assert gather.colours_of([" KD "]) == [style_of("kd").colour], "as a person writes it"
    assert gather.colours_of(["contract"]) != [style_of("contract").colour], "a file of the folder that is no method"


def test_every_colour_shows_on_both_backgrounds() -> None:
    for colour in gather.colours_of(NAMES):
        assert re.fullmatch(r"#[0-9a-f]{6}", colour) and min(contrast(colour, LIGHT), contrast(colour, DARK)) >= 3, colour


def test_two_names_with_one_colour_are_parted(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(wide, "_of_name", lambda name, turn: f"#00000{turn}")
    assert gather.colours_of(["a", "b", "c"]) == ["#000000", "#000001", "#000002"]


# ---- weight ----------------------------------------------------------------------------------------------------------------


@pytest.mark.slow
def test_a_table_needs_neither_pandas_nor_the_database(tmp_path: Path) -> None:
    path = written(tmp_path, PLAIN)
    code = (
        "import sys; from pathlib import Path; from store.export.race.gather import from_csv; "
        "from store.export.race.options import Options; from store.export.race.prepare import prepare; "
        f"prepare(from_csv(Path({str(path)!r}), options=Options())); "
        "assert not {'pandas', 'duckdb', 'matplotlib', 'torch', 'streamlit'} & set(sys.modules)"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=False, cwd=Path(__file__).parents[2]
    )
    assert done.returncode == 0, done.stderr


def test_held_fills_gaps_and_ends() -> None:
    table = np.array([[np.nan, 1.0], [2.0, np.nan], [np.nan, np.nan]])
    assert np.array_equal(wide.held(table), [[np.nan, 1.0], [2.0, 1.0], [2.0, 1.0]], equal_nan=True)
