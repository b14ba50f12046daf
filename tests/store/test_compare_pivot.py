"""The table of methods by dataset and pair: numbers, gains, gaps, literature. Never: a store."""

from __future__ import annotations

import re
from typing import Any

import numpy as np
import pandas as pd
import pytest

from kdengine.errors import KdError
from store.compare import stats
from store.compare.pivot import Pivot, pivot
from store.published import read
from tests.store.comparing import results, runs

NEAR = np.array([0.0, 0.004, -0.004, 0.002])


def column(base: float, **fields: Any) -> list[list[dict[str, Any]]]:
    """Four seeds of three methods: kd far above the student alone, at within noise of it."""
    drift = np.array([0.0, 0.01, -0.01, 0.005])  # what a seed does to every method
    taught = [runs("kd", list(base + 0.05 + drift), **fields), runs("at", list(base + drift - NEAR), **fields)]
    return [runs("base", list(base + drift + NEAR), **fields), *taught]


@pytest.fixture
def frame() -> pd.DataFrame:
    return results(
        *column(0.70), *column(0.90, dataset="cifar10", student="resnet20", teacher="resnet110")[:2],
        runs("base", [0.5], dataset="cifar10", student="resnet20"), runs("sp", [0.6], status="failed"),
    )  # fmt: skip


def cell(table: Pivot, name: str, where: str) -> Any:
    return table.cells.set_index(["name", "column"]).loc[(name, where)]


DIGITS, CIFAR = "digits · resnet20 → resnet8", "cifar10 · resnet110 → resnet20"


def test_the_grid_is_complete_and_ordered(frame: pd.DataFrame) -> None:
    table = pivot(results(*column(0.7), *column(0.9, dataset="cifar10")), "best")
    assert list(table.columns.column) == ["cifar10 · resnet20 → resnet8", DIGITS]
    assert list(table.rows.name)[0] == "kd" and len(table.cells) == 6
    assert table.wide("mean_frac").loc["kd"].tolist() == pytest.approx([0.95125, 0.75125])
    for name, where in table.cells[["name", "column"]].itertuples(index=False):
        assert cell(table, name, where).mean_frac == table.wide("mean_frac").loc[name, where]


def test_gains_and_colours_are_those_of_the_statistics(frame: pd.DataFrame) -> None:
    table, ranked = pivot(frame, "best"), stats.ranking(frame, "best").set_index(["name", "column"])
    for row in table.cells[~table.cells.missing].itertuples():
        own = ranked.loc[(row.name, row.column)]
        assert (row.mean_frac, row.n, row.to_base_verdict) == (own.mean_frac, own.n, own.to_base_verdict)
        assert row.to_base_frac == own.to_base_frac or np.isnan(own.to_base_frac)
    assert cell(table, "kd", DIGITS).coloured and not cell(table, "at", DIGITS).coloured
    assert cell(table, "kd", DIGITS).to_base_verdict == "better" and cell(table, "at", DIGITS).to_base_verdict == "tie"
    assert cell(table, "kd", DIGITS).leads and not cell(table, "base", DIGITS).leads


def test_no_colour_where_the_student_alone_was_trained_otherwise() -> None:
    table = pivot(results(runs("base", [0.70, 0.71, 0.70]), runs("kd", [0.9, 0.91, 0.9], epochs=30)), "best")
    found = cell(table, "kd", DIGITS)
    assert found.to_base_verdict == "better" and found.base_differs == ("epochs",) and not found.coloured


def test_what_is_missing_can_be_launched(frame: pd.DataFrame) -> None:
    table = pivot(frame, "best")
    gap = cell(table, "at", CIFAR)
    assert gap.missing and gap.n == 0 and np.isnan(gap.mean_frac) and gap.launchable and not gap.coloured
    assert (gap.method, gap.student, gap.teacher, gap.dataset, gap.params) == ("at", "resnet20", "resnet110", "cifar10", "{}")
    assert table.columns.set_index("column").like[CIFAR] == frame[frame.dataset == "cifar10"].run_id.max()
    assert cell(table, "base", DIGITS).teacher == "" and not cell(table, "base", DIGITS).missing


def test_a_method_that_needs_a_teacher_cannot_be_launched_without() -> None:
    table = pivot(results(runs("kd", [0.5]), runs("base", [0.6], student="resnet20")), "best")
    assert not cell(table, "kd", "digits · resnet20").launchable and cell(table, "kd", "digits · resnet20").teacher == ""
    assert cell(table, "base", DIGITS).launchable


def test_runs_without_a_finish_are_counted_not_averaged(frame: pd.DataFrame) -> None:
    table = pivot(results(*column(0.7), runs("kd", [0.1], seed=9, status="failed")), "best")
    assert cell(table, "kd", DIGITS).unfinished == 1 and cell(table, "kd", DIGITS).n == 4
    alone = pivot(results(*column(0.7), runs("base", [0.1], seed=9, status="running")), "best")
    assert cell(alone, "base", DIGITS).unfinished == 1, "the student alone stands in the columns of finished runs"


def test_settings_of_one_method_are_rows_of_their_own() -> None:
    table = pivot(results(runs("kd", [0.5], params='{"T": 4}'), runs("kd", [0.6], params='{"T": 8}')), "last")
    assert list(table.rows.name) == ["kd T=8", "kd T=4"] and list(table.rows.variant) == ["T=8", "T=4"]
    found = cell(table, "kd T=8", DIGITS)
    assert (found.mean_frac, found.best_mean_frac, found.last_mean_frac) == pytest.approx((0.59, 0.6, 0.59))


def test_rows_with_gaps_are_ordered_by_their_distance_from_the_column() -> None:
    easy = [runs("kd", [0.9]), runs("at", [0.8])]
    hard = [runs(method, [mean], dataset="cifar100") for method, mean in (("kd", 0.4), ("at", 0.3), ("sp", 0.6))]
    table = pivot(results(*easy, *hard), "best")
    assert list(table.rows.name) == ["sp", "kd", "at"], "sp leads where it was tried, on the hard dataset alone"
    assert list(pivot(table_frame(), "best", order="family").rows.family) == sorted(["response", "feature", "plain"])


def table_frame() -> pd.DataFrame:
    return results(runs("kd", [0.5]), runs("at", [0.6]), runs("base", [0.4]))


# ---- literature ------------------------------------------------------------------------------------------------------------


def printed(*rows: tuple[Any, ...]) -> pd.DataFrame:
    own = [
        {"method": method, "dataset": "digits", "student": "resnet8", "teacher": teacher, "peers": peers, "top1_frac": top1,
         "top1_std_frac": None, "which": "best", "seeds": 3, "epochs": 240, "batch_size": 64, "recipe": None, "source": source,
         "page": "table 1", "url": "https://example.org", "note": None}
        for method, teacher, peers, top1, source in rows
    ]  # fmt: skip
    return pd.DataFrame(own)


def test_the_source_that_covers_most_cells_is_taken() -> None:
    literature = printed(
        ("kd", "resnet20", None, 0.80, "A"), ("kd", "resnet20", None, 0.81, "B"), ("base", None, None, 0.75, "B"),
        ("kd", "resnet110", None, 0.99, "C"),
    )  # fmt: skip
    table = pivot(table_frame(), "best", published=literature)
    assert (table.source, table.sources) == ("B", (("B", 2), ("A", 1)))
    kd = cell(table, "kd", DIGITS)
    assert (kd.published_frac, kd.published_source, kd.published_page, kd.published_epochs) == (0.81, "B", "table 1", 240)
    assert kd.to_published_frac == pytest.approx(0.5 - 0.81) and cell(table, "base", DIGITS).published_frac == 0.75
    assert np.isnan(cell(table, "at", DIGITS).published_frac) and pd.isna(cell(table, "at", DIGITS).published_source)
    chosen = pivot(table_frame(), "best", published=literature, source="A")
    assert cell(chosen, "kd", DIGITS).published_frac == 0.80 and np.isnan(cell(chosen, "base", DIGITS).published_frac)


def test_of_several_numbers_of_one_source_the_highest_counts_and_peers_must_fit() -> None:
    literature = printed(
        ("dml", None, "resnet8", 0.80, "A"), ("dml", None, "resnet8", 0.82, "A"), ("dml", None, "resnet110", 0.9, "A"),
    )  # fmt: skip
    frame = results(runs("dml", [0.7], teacher=None, peers=["resnet8"]), runs("kd", [0.6]))
    found = cell(pivot(frame, "best", published=literature), "dml", DIGITS)
    assert (found.published_frac, found.published_numbers) == (0.82, 2)


def test_the_real_literature_fits() -> None:
    frame = results(runs("kd", [0.7], dataset="cifar100", student="resnet20", teacher="resnet56"))
    found = pivot(frame, "best", published=pd.DataFrame(read()))
    assert found.source is not None and 0.69 < found.cells.published_frac[0] < 0.72


@pytest.mark.parametrize("published", [None, printed(("kd", "resnet20", None, 0.80, "A"))], ids=["without", "with"])
def test_nothing_in_nothing_out(published: pd.DataFrame | None) -> None:
    table, full = pivot(results(), "best", published=published), pivot(table_frame(), "best", published=published)
    assert table.cells.empty and table.rows.empty and table.source is None
    assert list(table.cells.columns) == list(full.cells.columns)
    missing = set(full.cells.columns) - set(re.findall(r"\w+", pivot.__doc__ or ""))
    assert missing == set()


def test_unknown_orders_and_selections_are_explained(frame: pd.DataFrame) -> None:
    with pytest.raises(KdError, match="order"):
        pivot(frame, "best", order="size")
    with pytest.raises(KdError, match="which"):
        pivot(frame, "first")
