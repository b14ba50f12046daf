"""Every question: the columns its docstring promises, and answers computed a second time by hand. Never: a real training."""

from __future__ import annotations

import re
import statistics
from collections.abc import Callable
from typing import Any

import pytest

from kdengine import labels
from kdengine.errors import KdError
from kdengine.events import Ended
from kdengine.home import Home
from store import queries, schema
from store.columns import COLUMNS
from store.db import Store
from tests.store.conftest import MakeRun
from tests.store.killing import epoch, started

CALLS: dict[str, Callable[[Store, list[str]], Any]] = {
    "runs": lambda store, ids: queries.runs(store),
    "run": lambda store, ids: queries.run(store, ids[0]),
    "curves": lambda store, ids: queries.curves(store, ids, "test_top1_frac"),
    "mean_curves": lambda store, ids: queries.mean_curves(store, ids, "test_top1_frac", "elapsed_s", ("method", "student")),
    "terms": lambda store, ids: queries.terms(store, ids[0]),
    "epochs": lambda store, ids: queries.epochs(store, ids[0]),
    "leaderboard": lambda store, ids: queries.leaderboard(store),
    "results": lambda store, ids: queries.results(store, ids),
    "standing": lambda store, ids: queries.standing(store, list(queries.run(store, ids[0])["setting"])),
    "speed": lambda store, ids: queries.speed(store, ids),
    "provenance": lambda store, ids: queries.provenance(store, ids),
    "method_costs": lambda store, ids: queries.method_costs(store),
    "suites": lambda store, ids: queries.suites(store),
    "newest": lambda store, ids: queries.newest(store, 2),
    "artifacts": lambda store, ids: queries.artifacts(store, ids[0]),
    "published": lambda store, ids: queries.published(store, dataset="cifar10"),
    "schema_docs": lambda store, ids: queries.schema_docs(store),
}


def documented(name: str) -> list[str]:
    """Column names that the docstring of a question lists, in order."""
    text = (getattr(queries, name).__doc__ or "").split("Columns:")[1].split("Raises:")[0]
    text = re.sub(r"\([^()]*\)", "", text)
    names: list[str] = []
    for part in re.split(r"[,;.:]\s|\.$", re.sub(r"\s+", " ", text).strip()):
        part = part.strip().strip(".").removeprefix("then ")
        if part.startswith("all of the table"):
            table = re.findall(r"``(\w+)``", part)[0]
            names += [column for column in COLUMNS[table] if not part.endswith(f"but {column}")]
        elif part == "those of ``runs``":
            names += documented("runs")
        elif part == "the columns of ``group``":
            names += ["method", "student"]
        elif part == "curve as in ``runs``":
            names.append("curve")
        elif re.fullmatch(r"[a-z_0-9]+", part):
            names.append(part)
    return names


@pytest.fixture
def filled(home: Home, make_run: MakeRun) -> Any:
    """Three seeds of kd and one of base, one of them still queued."""
    for seed, best in enumerate((0.80, 0.84, 0.88)):
        make_run(method="kd", teacher="resnet20", seed=seed, suite="demo", top1=[0.5, best, best - 0.1], tags=("a",))
    make_run(method="base", seed=0, suite="demo", top1=[0.3, 0.4, 0.5])
    make_run(method="base", seed=1, done=0, end=None)
    with Store.open(home) as store:
        store.take_in()
        yield store


@pytest.mark.parametrize("name", CALLS)
def test_columns_are_those_of_the_docstring(filled: Store, name: str) -> None:
    ids = list(queries.runs(filled, status="finished").run_id)
    answer = CALLS[name](filled, ids)
    promised = documented(name)
    if name == "curves":
        promised = ["run_id", "method", "seed", "x", "value"]
        assert all(word in (queries.curves.__doc__ or "") for word in promised)
    if name == "mean_curves":
        promised = ["method", "student", "epoch", "x", "mean", "low", "high", "std", "n"]
        assert all(word in (queries.mean_curves.__doc__ or "") for word in promised[2:])
    assert list(answer.columns) == promised


def test_every_public_question_is_covered() -> None:
    public = {
        name for name, value in vars(queries).items() if callable(value) and getattr(value, "__module__", "") == "store.queries"
    }
    plain = {"choices", "counts", "sizes", "stamp"}  # they answer with no frame
    assert {name for name in public if not name.startswith("_")} == set(CALLS) | plain


def test_a_stamp_changes_with_its_runs_and_with_no_other(home: Home, make_run: MakeRun) -> None:
    mine, other = make_run(done=1, end=None), make_run(seed=1, done=1, end=None)
    with Store.open(home) as store:
        store.take_in()
        before, both = queries.stamp(store, [mine.run_id]), queries.stamp(store, [mine.run_id, other.run_id])
        other.append_event(epoch(2))
        store.take_in()
        assert queries.stamp(store, [mine.run_id]) == before and queries.stamp(store, [mine.run_id, other.run_id]) != both
        mine.append_event(epoch(2))
        store.take_in()
        after = queries.stamp(store, [mine.run_id])
        labels.write(mine, tags=["seen"])
        store.take_in()
        assert len({before, after, queries.stamp(store, [mine.run_id]), queries.stamp(store, [])}) == 4


def test_the_leaderboard_is_the_mean_over_seeds(filled: Store) -> None:
    board = queries.leaderboard(filled, suite="demo")
    assert list(board.method) == ["kd", "base"] and list(board.n) == [3, 1]
    kd = board.iloc[0]
    assert kd.best_mean_frac == pytest.approx(0.84) and kd.best_std_frac == pytest.approx(statistics.stdev((0.80, 0.84, 0.88)))
    assert kd.last_mean_frac == pytest.approx(0.74) and kd.images_per_s == 102
    view = filled.frame("SELECT * FROM leaderboard WHERE method = 'kd'").iloc[0]
    assert (view.best_mean_frac, view.n) == (kd.best_mean_frac, 3)


def test_standing_shows_every_network_and_runs_without_an_epoch(home: Home, make_run: MakeRun) -> None:
    make_run(method="dml", peers=("resnet14",), seed=0, top1=[0.5, 0.7, 0.6], networks=("student", "peer1"))
    make_run(method="dml", peers=("resnet14",), seed=1, done=0, end=None)
    make_run(method="dml", peers=("resnet20",), seed=0)
    with Store.open(home) as store:
        store.take_in()
        setting = store.frame("SELECT DISTINCT setting FROM runs WHERE peers = ['resnet14']").setting
        found = queries.standing(store, list(setting))
        assert queries.standing(store, []).empty
    assert list(found.seed) == [1, 0, 0] and set(found.network.dropna()) == {"student", "peer1"}
    assert found.status.iloc[0] == "queued" and found.best_frac.isna().iloc[0]
    student = found[found.network == "student"].iloc[0]
    assert (student.best_frac, student.last_frac, student.epoch) == (0.7, pytest.approx(0.6), 3)


def test_results_of_a_run_are_those_of_its_epochs(filled: Store) -> None:
    ids = list(queries.runs(filled).run_id)
    found = queries.results(filled, ids)
    assert list(found.method) == ["kd", "kd", "kd", "base"], "oldest first; a run without an epoch has no result"
    first, epochs = found.iloc[0], queries.epochs(filled, found.run_id[0])
    assert (first.best_frac, first.last_frac, first.epoch) == (0.80, pytest.approx(0.70), 3)
    assert first.images_per_s == statistics.median(epochs.images_per_s) and first.epoch_s == statistics.median(epochs.epoch_s)
    assert first.ece_frac == epochs.test_ece_frac.iloc[-1] and first.peak_mib == epochs.peak_mib.max()
    chosen = epochs.loc[epochs.val_top1_frac.idxmax()] if epochs.val_top1_frac.notna().any() else None
    assert chosen is None or first.val_choice_frac == chosen.test_top1_frac
    assert queries.results(filled, []).empty and list(queries.results(filled, []).columns) == list(found.columns)


def test_a_method_costs_what_it_takes_beside_labels_alone(home: Home, make_run: MakeRun) -> None:
    kinds = (
        ("base", "resnet8", None, (1000, 800)),
        ("kd", "resnet8", "resnet20", (500, 400, 250)),
        ("kd", "resnet14", "resnet20", (9,)),
    )
    for method, student, teacher, speeds in kinds:
        for seed, speed in enumerate(speeds):
            run = make_run(method=method, student=student, teacher=teacher, seed=seed, done=0, end=None)
            run.append_event(started(1))
            run.append_event(epoch(1, epochs=1, images_per_s=float(speed)))
            run.append_event(Ended(how="finished", elapsed_s=1.0))
    with Store.open(home) as store:
        store.take_in()
        found = queries.method_costs(store).set_index("method")
    alone_s = statistics.median((1 / 1000, 1 / 800))
    assert found.loc["base"].tolist() == pytest.approx([1.0, 1 / 1000 / alone_s, 1 / 800 / alone_s, 2])
    expected = [1 / speed / alone_s for speed in (400, 500, 250)]
    assert found.loc["kd"].tolist() == pytest.approx([*expected, 3]), (
        "a student never trained alone has nothing to be compared with"
    )


def test_other_params_are_no_replica(home: Home, make_run: MakeRun) -> None:
    make_run(method="kd", teacher="resnet20", params={"T": 4}, seed=0)
    make_run(method="kd", teacher="resnet20", params={"T": 1}, seed=1)
    with Store.open(home) as store:
        store.take_in()
        assert list(queries.leaderboard(store).n) == [1, 1]


def test_curves_and_their_means(filled: Store) -> None:
    ids = list(queries.runs(filled, method="kd").run_id)
    single = queries.curves(filled, ids[:1], "test_top1_frac")
    assert str(single.value.dtype) == "float32" and list(single.x) == [1, 2, 3]
    mean = queries.mean_curves(filled, ids, "test_top1_frac", "images_seen")
    second = mean[mean.epoch == 2].iloc[0]
    assert (round(float(second["mean"]), 4), round(float(second.low), 4), round(float(second.high), 4)) == (0.84, 0.8, 0.88)
    assert (second.x, second.n) == (400, 3)
    assert queries.curves(filled, [], "lr").empty and queries.mean_curves(filled, ids, "lr", group=()).shape[0] == 3


def test_unknown_names_are_explained(filled: Store) -> None:
    with pytest.raises(KdError) as caught:
        queries.mean_curves(filled, [], "test_top1", "epochs", ("metod",))
    assert [problem.field for problem in caught.value.problems] == ["metric", "x", "group"]
    assert "test_top1_frac" in caught.value.problems[0].do


def test_filters(filled: Store) -> None:
    assert len(queries.runs(filled)) == 5 and len(queries.newest(filled, 2)) == 2
    assert set(queries.runs(filled, method=["base"], status="finished").method) == {"base"}
    assert len(queries.runs(filled, suite="demo", tag="a")) == len(queries.runs(filled, tag=("a", "unknown"))) == 3
    assert queries.runs(filled, ids=[]).empty
    assert queries.runs(filled, method="x' OR 1=1 --").empty
    queued = queries.runs(filled, status="queued").iloc[0]
    assert (queued.position, len(queued.curve)) == (1, 0)


def test_choices_counts_suites(filled: Store) -> None:
    offered = queries.choices(filled)
    assert offered["method"] == ["base", "kd"] and offered["tag"] == ["a"] and offered["network"] == ["student"]
    assert queries.counts(filled) == {"finished": 4, "queued": 1}
    suite = queries.suites(filled).iloc[0]
    assert (suite.suite, suite.runs, suite.finished, suite.active) == ("demo", 4, 4, 0)


def test_every_column_of_the_database_is_documented(home: Home) -> None:
    with Store.open(home) as store:
        docs = queries.schema_docs(store)
        for table, columns in COLUMNS.items():
            assert list(docs[docs["table"] == table]["column"].sort_values()) == sorted(columns), table
        assert all(docs.meaning.str.len() > 3)
        found = store.frame("SELECT DISTINCT table_name FROM duckdb_columns() WHERE schema_name = 'main' AND NOT internal")
        assert set(found.table_name) == set(COLUMNS)
        assert schema.MIGRATIONS


PROMISED = {
    "runs": "run_id method dataset student teacher seed recipe suite status epochs started_at ended_at device train_images chain"
    " generation",
    "epochs": "run_id epoch network images_seen elapsed_s train_loss test_loss test_top1_frac test_top5_frac test_ece_frac"
    " agreement_frac teacher_kl lr epoch_s images_per_s peak_mib",
    "terms": "run_id phase epoch network term value",
}


@pytest.mark.parametrize("table", PROMISED)
def test_promised_names_stay(home: Home, table: str) -> None:
    with Store.open(home) as store:
        assert store.frame(f"SELECT {PROMISED[table].replace(' ', ', ')} FROM {table}").empty
