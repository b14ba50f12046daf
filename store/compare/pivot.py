"""The table of methods by dataset and pair: what was measured, what it gains, what the literature says, what is missing.

Reads: the answers of ``queries.results`` and ``queries.published``; the catalogue of methods. Writes: nothing.
Never: the database.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd

from kdengine import catalogue
from kdengine.errors import KdError, unknown
from store.compare.groups import COLUMN, grouped, in_columns, newest_per_seed
from store.compare.stats import against

ORDERS = ("mean", "family")
_NUMBERS = (
    "setting", "params", "peers", "alone", "mean_frac", "std_frac", "n", "min_frac", "max_frac", "best_mean_frac",
    "last_mean_frac", "seeds", "ids", "epochs", "recipe", "base_differs",
)  # fmt: skip
_PUBLISHED = {
    "top1_frac": "published_frac", "top1_std_frac": "published_std_frac", "which": "published_which", "seeds": "published_seeds",
    "epochs": "published_epochs", "source": "published_source", "page": "published_page", "url": "published_url",
    "note": "published_note",
}  # fmt: skip
_KEY = ["method", "dataset", "student", "teacher", "peers"]


@dataclass(frozen=True)
class Pivot:
    """A grid of cells, complete: one per row and column, missing ones too.

    ``rows``: name (method and variant), method, variant, title, family, mean_frac (over the columns that are filled), above_frac
    (mean distance from the mean of a column: what rows are ordered by, fair to rows with gaps), filled (number of columns).
    ``columns``: column, dataset, student, against, and like (newest run there: its protocol is the one to launch with).
    ``cells``: see ``pivot``. ``which``: best, last or val_choice. ``source``: of the published numbers, None without any;
    ``sources``: those that have any, with the number of measured cells they cover, most first.
    """

    rows: pd.DataFrame
    columns: pd.DataFrame
    cells: pd.DataFrame
    which: str
    source: str | None
    sources: tuple[tuple[str, int], ...]

    def wide(self, values: str) -> pd.DataFrame:
        """Return one column of ``cells`` as a table of rows (by name) and columns."""
        grid = self.cells[values].to_numpy().reshape(len(self.rows), len(self.columns))
        return pd.DataFrame(grid, index=pd.Index(self.rows["name"]), columns=pd.Index(self.columns["column"]))


def pivot(
    results: pd.DataFrame, which: str, *, published: pd.DataFrame | None = None, source: str | None = None, order: str = "mean"
) -> Pivot:
    """Return the table of all methods (and settings) in ``results`` by dataset and pair.

    ``published``: as ``queries.published`` returns it; ``source``: whose numbers, None = the source that covers most cells.
    ``order``: of the rows, by ``mean`` or by ``family``. Columns are sorted by dataset, student, teacher.

    Columns of ``cells`` (in the order of rows, then columns):
        name, column, dataset, student, against, method, variant, family, setting, params (JSON), peers, alone, mean_frac,
        std_frac (n - 1), n (seeds), min_frac, max_frac, best_mean_frac, last_mean_frac, seeds, ids (run ids), epochs, recipe,
        to_base_frac, to_base_low_frac, to_base_high_frac, to_base_n, to_base_how, to_base_p, to_base_verdict, to_base_holm_p (as
        in ``stats.ranking``), base_differs (protocol fields in which the student alone was trained otherwise), coloured (the
        difference exceeds seed noise and the protocol is the same), leads (greatest mean of its column), unfinished (runs that
        are not over or broke off), missing (no finished run), teacher (to launch a missing cell with; "" = none), launchable
        (False where the method needs a teacher and the column has none), published_frac, published_std_frac, published_which,
        published_seeds, published_epochs, published_source, published_page, published_url, published_note, published_numbers
        (how many the source prints; the highest is taken), to_published_frac.

    Raises:
        KdError: no such selection or order.
    """
    if order not in ORDERS:
        raise KdError(unknown("order", order, ORDERS))
    groups, values = grouped(results, which)
    groups = groups.assign(**against(groups, values, groups["base_row"].to_numpy(), "to_base_"))
    waiting = _unfinished(results)
    rows, columns = _rows(groups, order), _columns(groups)
    cells = _with_gaps(groups, rows, columns)
    pending = pd.MultiIndex.from_frame(cells[["column", "method"]])
    cells = cells.assign(unfinished=waiting.reindex(pending).fillna(0).astype(int).to_numpy())
    cells, chosen, sources = _with_published(cells, published, source)
    return Pivot(rows, columns, cells, which, chosen, sources)


def _rows(groups: pd.DataFrame, order: str) -> pd.DataFrame:
    above = groups["mean_frac"] - groups.groupby("column")["mean_frac"].transform("mean")
    by = groups.assign(above_frac=above).groupby(["name", "method", "variant", "family"], sort=False)
    rows = by.agg(mean_frac=("mean_frac", "mean"), above_frac=("above_frac", "mean"), filled=("column", "size")).reset_index()
    rows.insert(3, "title", [catalogue.label_of(key).title for key in rows["method"]])
    keys = ["above_frac", "name"] if order == "mean" else ["family", "above_frac", "name"]
    return rows.sort_values(keys, ascending=[key != "above_frac" for key in keys]).reset_index(drop=True)


def _columns(groups: pd.DataFrame) -> pd.DataFrame:
    columns = groups.groupby([*COLUMN, "column"], sort=True)["like"].max().reset_index()
    return columns[["column", *COLUMN, "like"]]


def _with_gaps(groups: pd.DataFrame, rows: pd.DataFrame, columns: pd.DataFrame) -> pd.DataFrame:
    """Return the complete grid, each cell with its group where there is one, and what to launch where there is none."""
    grid = rows[["name", "method", "variant", "family"]].merge(columns.drop(columns="like"), how="cross")
    compared = [name for name in groups if str(name).startswith("to_base_")]
    cells = grid.merge(groups[["name", "column", *_NUMBERS, *compared]], on=["name", "column"], how="left", validate="1:1")
    missing = cells["setting"].isna()
    labels = {key: catalogue.label_of(key) for key in rows["method"]}
    free = [labels[key].peers or labels[key].chain or labels[key].family == "plain" for key in cells["method"]]
    knobs = groups.drop_duplicates("name").set_index("name")[["params", "peers"]]
    alone = np.array(free, dtype=bool) | cells["alone"].eq(True)
    cells["teacher"] = cells["against"].astype("str").where(~alone, "")
    for name in knobs:
        cells[name] = cells[name].where(~missing, cells["name"].map(knobs[name])).astype("str")
    cells["n"] = cells["n"].fillna(0).astype(int)
    for name in ("to_base_verdict", "to_base_how"):
        cells[name] = cells[name].fillna("") if name in cells else ""
    like = np.array([not isinstance(fields, tuple) or not fields for fields in cells["base_differs"]], dtype=bool)
    tops = cells.groupby("column", sort=False)["mean_frac"].transform("max")
    return cells.assign(
        missing=missing,
        launchable=alone | cells["against"].ne(""),
        coloured=cells["to_base_verdict"].isin(["better", "worse"]) & like,
        leads=cells["mean_frac"].eq(tops),
    )


def _unfinished(results: pd.DataFrame) -> pd.Series:
    """Return the number of runs without a finish, by column and method."""
    rows = in_columns(newest_per_seed(results, finished=False))  # all of them: finished ones tell which columns there are
    return rows[rows["status"] != "finished"].groupby(["column", "method"]).size()


def _with_published(
    cells: pd.DataFrame, published: pd.DataFrame | None, source: str | None
) -> tuple[pd.DataFrame, str | None, tuple[tuple[str, int], ...]]:
    if published is None or not len(published):
        return _no_numbers(cells), None, ()
    numbers = published.assign(**{name: published[name].astype(object).fillna("").astype("str") for name in _KEY})
    numbers["published_numbers"] = numbers.groupby([*_KEY, "source"])["top1_frac"].transform("size")
    numbers = numbers.sort_values("top1_frac", ascending=False).drop_duplicates([*_KEY, "source"])
    found = cells[[*_KEY, "missing"]].merge(numbers, on=_KEY, how="inner").assign(measured=lambda frame: ~frame["missing"])
    covered = (
        found.groupby("source")["measured"].agg(["sum", "size"]).sort_values(["sum", "size"], ascending=False, kind="stable")
    )
    sources = tuple((str(name), int(n)) for name, n in covered["sum"].items())
    chosen = source or (sources[0][0] if sources else None)
    own = numbers.loc[numbers["source"] == chosen, [*_KEY, *_PUBLISHED, "published_numbers"]]
    cells = cells.merge(own.rename(columns=_PUBLISHED), on=_KEY, how="left", validate="m:1", suffixes=("", "_printed"))
    return cells.assign(to_published_frac=cells["mean_frac"] - cells["published_frac"]), chosen, sources


def _no_numbers(cells: pd.DataFrame) -> pd.DataFrame:
    empty: dict[str, Any] = dict.fromkeys(_PUBLISHED.values())
    numbers = {"published_frac": np.nan, "published_std_frac": np.nan, "published_numbers": np.nan, "to_published_frac": np.nan}
    return cells.assign(**empty).assign(**numbers)
