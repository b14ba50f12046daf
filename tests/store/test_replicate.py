"""A replicated table: every cell finds its runs and its printed number, and claims are told apart from noise."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from typing import Any

import pandas as pd
import pytest

from kdengine import replications
from kdengine.home import Home
from kdengine.literature import CRD, DATASETS, FIG7, FIG8, NETWORKS, TABLES
from kdengine.replications import Replication, Scale, Trial
from store import published, queries
from store.compare import replicate
from store.db import Store
from store.published import read
from tests.store.conftest import MakeRun

QUICK = Scale()
CLASSES = {"digits": 10, "cifar10": 10, "cifar100": 100}


@pytest.fixture
def store(home: Home) -> Iterator[Store]:
    with Store.open(home) as opened:
        yield opened


@pytest.fixture(scope="module")
def literature() -> pd.DataFrame:
    """The table ``published``."""
    return pd.DataFrame(read(published.FILE))


def trials_of(table: Replication, scale: Scale, home: Home) -> list[Trial]:
    return replications.complete(replications.trials(table, scale, home))


def trained(make_run: MakeRun, trial: Trial, top1: float, **how: Any) -> None:
    spec = trial.spec.model_dump() | {"networks": ("student", *(f"peer{i}" for i, _ in enumerate(trial.spec.peers, 1)))}
    epochs = spec.pop("epochs")
    make_run(epochs=epochs, **{"done": epochs, "top1": [top1] * epochs, **how}, **spec)


def stand(store: Store, table: Replication, scale: Scale, home: Home, literature: pd.DataFrame) -> tuple[pd.DataFrame, Any]:
    store.take_in()
    trials = trials_of(table, scale, home)
    behind = replications.teachers(trials)
    found = queries.standing(store, replicate.settings([*trials, *behind]))
    return replicate.cells(table, scale, trials, found, literature), replicate.progress(trials, behind, found)


def by_place(cells: pd.DataFrame) -> Mapping[tuple[str, str, str], Any]:
    return {(row["row"], row["column"], row["network"]): row for row in cells.to_dict("records")}


def test_the_printed_numbers_stand_where_the_source_has_them(store: Store, home: Home, literature: pd.DataFrame) -> None:
    cells, _ = stand(store, FIG8, Scale("paper"), home, literature)
    printed = {place: round(100 * cell["printed_frac"], 2) for place, cell in by_place(cells).items()}
    assert printed[("20+20", "cifar10", "student")] == 93.07 and printed[("20+20", "cifar10", "peer1")] == 93.37
    assert printed[("110+20", "cifar100", "student")] == 74.53 and printed[("110+20", "cifar100", "peer1")] == 70.29
    assert printed[("alone110", "cifar100", "student")] == 73.15 and len(printed) == 16
    cells, _ = stand(store, NETWORKS, Scale("paper"), home, literature)
    assert [round(100 * v, 2) for v in cells["printed_frac"]] == [92.98, 93.01, 94.30], "as printed, though two changed places"
    labels = by_place(stand(store, FIG8, QUICK, home, literature)[0])
    assert labels[("110+20", "digits", "peer1")]["label"] == "resnet20 with resnet110"
    assert labels[("110+20", "digits", "peer1")]["model"] == "resnet8" and labels[("20+20", "digits", "peer1")]["stand_in"]


@pytest.mark.parametrize("key", TABLES)
def test_no_cell_of_a_printed_table_is_without_its_number(key: str, store: Store, home: Home, literature: pd.DataFrame) -> None:
    table = TABLES[key]
    cells, progress = stand(store, table, Scale(table.recipe, 1), home, literature)
    assert cells["printed_frac"].notna().all() == bool(table.page)
    assert progress.count("missing") == len(progress.missing) == len(progress.runs)
    if not table.page:
        assert cells["printed_frac"].isna().all()


def test_runs_fill_their_cells_whatever_suite_they_are_of(
    store: Store, home: Home, literature: pd.DataFrame, make_run: MakeRun
) -> None:
    trials = trials_of(FIG8, QUICK, home)
    for trial in trials:
        if trial.row == "alone20":
            trained(make_run, Trial("", "", trial.seed, trial.spec.but(suite="other")), 0.80 + trial.seed / 100)
    pair = [trial for trial in trials if trial.row == "20+20"]
    trained(make_run, pair[0], 0.9)
    trained(make_run, pair[1], 0.5, done=3, end=None)
    trained(make_run, pair[2], 0.4, done=2, end="cancelled")
    other = Trial("", "", 0, next(t.spec for t in trials if t.row == "110+20").but(params={"lambda_kd": 0.5}))
    trained(make_run, other, 0.99)
    cells, progress = stand(store, FIG8, QUICK, home, literature)
    place = by_place(cells)
    alone = place[("alone20", "digits", "student")]
    assert (round(alone["mean_frac"], 3), round(alone["std_frac"], 3), alone["n"]) == (0.81, 0.01, 3)
    twin = place[("20+20", "digits", "peer1")]
    assert (twin["n"], twin["finished"], twin["stopped"]) == (1, 1, 2) and twin["by_seed"].keys() == {0}
    assert place[("110+20", "digits", "student")]["n"] == 0, "other knobs are another training"
    assert math.isnan(alone["delta_frac"]), "levels of stand-ins are not compared"
    assert len(progress.missing) == 9 and progress.count("finished") == 4
    assert progress.ids(replicate.STOPPED) and progress.ids(("finished",), "other") and 0 < progress.share < 1


def test_a_finished_run_counts_before_a_newer_one_that_stopped(
    store: Store, home: Home, literature: pd.DataFrame, make_run: MakeRun
) -> None:
    trial = trials_of(FIG8, QUICK, home)[0]
    trained(make_run, trial, 0.8)
    trained(make_run, trial, 0.1, done=1, end="failed")
    cells, progress = stand(store, FIG8, QUICK, home, literature)
    assert cells["mean_frac"].max() == pytest.approx(0.8) and progress.ids(replicate.STOPPED) == []


def test_the_difference_is_measured_less_printed(store: Store, home: Home, literature: pd.DataFrame, make_run: MakeRun) -> None:
    scale = Scale("crd", 1, columns=("resnet56-resnet20",))
    trial = next(t for t in trials_of(CRD, scale, home) if t.row == "kd")
    trained(make_run, trial, 0.7166)
    cells, _ = stand(store, CRD, scale, home, literature)
    assert by_place(cells)[("kd", "resnet56-resnet20", "student")]["delta_frac"] == pytest.approx(0.01)


def test_teachers_are_needed_only_while_a_student_is_open(
    store: Store, home: Home, literature: pd.DataFrame, make_run: MakeRun
) -> None:
    scale = Scale(seeds=1)
    trials = trials_of(NETWORKS, scale, home)
    _, progress = stand(store, NETWORKS, scale, home, literature)
    assert list(progress.teachers["status"]) == ["missing", "missing"]
    for trial in trials:
        trained(make_run, trial, 0.9)
    _, progress = stand(store, NETWORKS, scale, home, literature)
    assert progress.teachers.empty and progress.missing == [] and progress.share == 1


def test_claims_tell_noise_from_a_difference(store: Store, home: Home, literature: pd.DataFrame, make_run: MakeRun) -> None:
    level = {"alone20": 0.60, "alone110": 0.85, "20+20": 0.86, "110+20": 0.855, "110+110": 0.90}
    wobble = {"110+20": (0.02, -0.03, 0.01)}  # beside alone110: a tie
    for trial in trials_of(FIG8, QUICK, home):
        trained(make_run, trial, level[trial.row] + wobble.get(trial.row, (0.0, 0.001, 0.002))[trial.seed])
    cells, _ = stand(store, FIG8, QUICK, home, literature)
    together, deeper = replicate.verdicts(FIG8, cells, CLASSES)
    assert (together.printed, together.printed_n) == (12, 12) and (deeper.printed, deeper.printed_n) == (4, 4)
    assert (together.holds, together.ties, together.fails, together.pending) == (5, 1, 0, 0) and together.n == 6
    assert (together.leans, deeper.leans) == (6, 1)
    assert (deeper.holds, deeper.ties, deeper.n) == (0, 2, 2)


def test_a_teacher_of_one_run_is_the_same_for_all_seeds(
    store: Store, home: Home, literature: pd.DataFrame, make_run: MakeRun
) -> None:
    level = {"teacher": 0.90, "kd": 0.95, "ft": 0.80}
    for trial in trials_of(FIG7, QUICK, home):
        if trial.row in level:
            trained(make_run, trial, level[trial.row] + trial.seed / 1000)
    cells, _ = stand(store, FIG7, QUICK, home, literature)
    reached, beaten = replicate.verdicts(FIG7, cells, CLASSES)
    assert (reached.holds, reached.fails, reached.pending, reached.printed_n) == (1, 1, 4, 0)
    assert (beaten.holds, beaten.fails, beaten.pending) == (1, 1, 1)


def test_more_classes_are_compared_across_columns(store: Store, home: Home, literature: pd.DataFrame, make_run: MakeRun) -> None:
    scale = Scale("paper", 3)
    for trial in trials_of(DATASETS, scale, home):
        if trial.row == "kd":
            trained(make_run, trial, (0.9 if trial.column == "cifar10" else 0.7) + trial.seed / 1000, done=1)
    cells, _ = stand(store, DATASETS, scale, home, literature)
    harder, better = replicate.verdicts(DATASETS, cells, CLASSES)
    assert (harder.printed, harder.printed_n, harder.holds, harder.pending) == (5, 5, 1, 4)
    assert (better.printed, better.printed_n) == (7, 8)
    alone = replicate.verdicts(DATASETS, stand(store, DATASETS, QUICK, home, literature)[0], CLASSES)[0]
    assert alone.n == 0 and alone.printed_n == 5, "one stand-in has no other with more classes"


def test_too_few_seeds_are_said(store: Store, home: Home, literature: pd.DataFrame, make_run: MakeRun) -> None:
    scale = Scale(seeds=1)
    for trial in trials_of(FIG8, scale, home):
        trained(make_run, trial, 0.9)
    cells, _ = stand(store, FIG8, scale, home, literature)
    assert [told.few for told in replicate.verdicts(FIG8, cells, CLASSES)] == [6, 2]
