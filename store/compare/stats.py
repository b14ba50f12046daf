"""Honest comparison: differences over shared seeds with an interval, ties called ties, "too few" said.

The interval of a difference reaches as far as the wider of two on either side: Student's t interval of the paired differences
and the percentiles of a bootstrap over seeds. With few seeds the bootstrap is too sure of itself, with skewed ones t is; neither
knows more than the seeds tell: how another seed would have come out, not how other test images would.

A verdict is that of one 95 % interval. Of twenty such verdicts one is wrong by luck, so wherever many are made Holm's corrected
probability stands beside them (``..._holm_p``). It is not the verdict itself: with three seeds and twenty methods Holm leaves
nothing standing, and a table in which all is a tie hides what is worth another seed.

Reads: the answer of ``queries.results``. Writes: nothing. Never: the database.
"""

from __future__ import annotations

import functools
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from scipy import special

from kdengine.errors import KdError, unknown
from store.compare import wording
from store.compare.groups import COLUMN, WHICH, grouped, in_columns, newest_per_seed, rows_of_columns

Floats = NDArray[np.float64]

LEVEL = 0.95
SEEDS_NEEDED = wording.SEEDS_NEEDED
RESAMPLES = 10_000
_DRAW_SEED = 20_240_101
VERDICTS = ("better", "worse", "tie", "too few")
DIFFERENCE = ("frac", "low_frac", "high_frac", "n", "how", "p", "verdict")


@dataclass(frozen=True, slots=True)
class Comparison:
    """How far ``a`` is above ``b``: fractions (0.01 = one point of percent).

    ``difference_frac`` is NaN where either has no finished run, ``low_frac`` and ``high_frac`` where there are too few seeds.
    ``n``: shared seeds. ``how``: "paired", "welch" (seeds not shared) or "" (no interval). ``p``: two-sided, of the t test.
    """

    a: str
    b: str
    difference_frac: float
    low_frac: float
    high_frac: float
    n: int
    how: str
    p: float
    verdict: str
    sentence: str


def paired(results: pd.DataFrame, a: str, b: str, which: str) -> Comparison:
    """Compare two groups (keys: the column ``setting``) over the seeds they share.

    Raises:
        KdError: no such selection, or no finished run of a or b.
    """
    groups, values = grouped(results, which)
    places = {key: place for place, key in enumerate(groups["setting"])}
    problems = [unknown("setting", key, tuple(places)) for key in (a, b) if key not in places]
    if problems:
        raise KdError(*problems)
    found = differences(values[[places[a]]], values[[places[b]]]).iloc[0]
    frac, low, high, p = (float(found[name]) for name in ("frac", "low_frac", "high_frac", "p"))
    said = wording.difference(found, *(str(groups["name"][places[key]]) for key in (a, b)))
    return Comparison(a, b, frac, low, high, int(found["n"]), found["how"], p, found["verdict"], said)


def differences(a: Floats, b: Floats) -> pd.DataFrame:
    """Compare row by row: ``a``, ``b`` (comparisons, seeds), NaN where a seed is missing; one column is one seed.

    Three shared seeds or more: paired. Fewer, but three on either side: Welch's interval, as of independent runs. Else no
    interval.

    Columns:
        frac (mean of a minus b: over the shared seeds where paired, else over all of each), low_frac, high_frac (95 %), n (shared
        seeds), how (paired, welch or ""), p (two-sided), verdict (better, worse, tie, too few).
    """
    return pd.DataFrame(_differences(a, b))


def _differences(a: Floats, b: Floats) -> dict[str, NDArray[Any]]:
    shared = ~np.isnan(a) & ~np.isnan(b)
    n = shared.sum(1)
    numbers = np.column_stack([_mean(a) - _mean(b), np.full((len(n), 3), np.nan)])  # frac, low, high, p
    how = np.full(len(n), "", dtype=object)
    for count in np.unique(n[n >= SEEDS_NEEDED]):
        rows = np.flatnonzero(n == count)
        numbers[rows] = _paired((a - b)[rows][shared[rows]].reshape(len(rows), count))
        how[rows] = "paired"
    enough = np.minimum((~np.isnan(a)).sum(1), (~np.isnan(b)).sum(1)) >= SEEDS_NEEDED
    rows = np.flatnonzero((n < SEEDS_NEEDED) & enough)
    if len(rows):
        numbers[rows] = welch(a[rows], b[rows])
        how[rows] = "welch"
    frac, low, high, p = numbers.T
    verdict = np.full(len(n), "tie", dtype=object)
    verdict[low > 0], verdict[high < 0], verdict[np.isnan(low)] = "better", "worse", "too few"
    return dict(zip(DIFFERENCE, (frac, low, high, n, how, p, verdict), strict=True))


def _paired(values: Floats) -> Floats:
    """Return mean, low, high, p of each row of paired differences (rows, n)."""
    n = values.shape[1]
    mean, error = values.mean(1), values.std(1, ddof=1) / np.sqrt(n)
    half = _reach(n - 1.0) * error
    low, high = bootstrap(values)
    return np.column_stack([mean, np.minimum(mean - half, low), np.maximum(mean + half, high), _p(mean, error, n - 1.0)])


def welch(a: Floats, b: Floats) -> Floats:
    """Return mean difference, low, high, p of each row by Welch's unequal-variance interval; NaN = no run of that seed."""
    (var_a, n_a), (var_b, n_b) = _error(a), _error(b)
    error = np.sqrt(var_a + var_b)
    with np.errstate(invalid="ignore"):
        df = np.square(var_a + var_b) / (var_a**2 / (n_a - 1) + var_b**2 / (n_b - 1))
    df = np.where(error > 0, df, n_a + n_b - 2)
    mean, half = _mean(a) - _mean(b), _reach(df) * error
    return np.column_stack([mean, mean - half, mean + half, _p(mean, error, df)])


def bootstrap(values: Floats, level: float = LEVEL) -> tuple[Floats, Floats]:
    """Return low and high of the percentile interval of each row's mean: ``values`` (rows, n); 10,000 fixed resamples.

    Resamples with the same make-up have the same mean, so each make-up is computed once and counts as often as it was drawn:
    126 for five seeds instead of 10,000. The result is exactly that of all.
    """
    makeup, drawn = _resamples(values.shape[1])
    means = values @ makeup.T
    order = means.argsort(1)
    means = np.take_along_axis(means, order, 1)
    upto = drawn[order].cumsum(1)  # how many resamples lie at or below each mean
    ends = []
    for share in ((1 - level) / 2, (1 + level) / 2):
        place = share * (RESAMPLES - 1)
        below, above = (means[np.arange(len(means)), (upto <= k).sum(1)] for k in (np.floor(place), np.ceil(place)))
        ends.append(below + (place % 1) * (above - below))
    return ends[0], ends[1]


@functools.cache
def _resamples(n: int) -> tuple[Floats, NDArray[np.int64]]:
    """Return the distinct resamples of n values as weights (resamples, n), and how often each was drawn."""
    drawn = np.sort(np.random.default_rng(_DRAW_SEED).integers(0, n, (RESAMPLES, n)), axis=1)
    distinct, times = np.unique(drawn, axis=0, return_counts=True)
    return (distinct[:, :, None] == np.arange(n)).mean(1), times


def holm(p: Floats) -> Floats:
    """Return the probabilities of one family of tests, corrected after Holm; NaN stays NaN and is no test."""
    corrected = np.full(len(p), np.nan)
    tests = np.flatnonzero(~np.isnan(p))
    order = tests[p[tests].argsort(kind="stable")]
    corrected[order] = np.minimum(1.0, np.maximum.accumulate(p[order] * np.arange(len(order), 0, -1)))
    return corrected


def luck(n: int) -> float:
    """Return the probability that one of two equal methods wins on all of ``n`` shared seeds."""
    return 2.0 / 2**n


def ranking(results: pd.DataFrame, which: str) -> pd.DataFrame:
    """Rank the groups of each column of (dataset, pair): sorted by dataset, student, against, rank, greatest mean.

    The leader has the greatest mean among the groups with enough seeds (among all where none has); base is the student alone.

    Columns:
        all of ``groups.grouped`` but base_row, rank (1 + number of groups that are clearly better; ties share it), leads (True
        for one group per column), enough (three seeds or more), to_leader_frac, to_leader_low_frac, to_leader_high_frac,
        to_leader_n, to_leader_how, to_leader_p, to_leader_verdict, to_leader_holm_p, and the same with to_base_ (verdict ""
        where a group would be compared with itself or there is no base).
    """
    groups, values = grouped(results, which)
    leads, enough = np.zeros(len(groups), dtype=bool), (groups["n"] >= SEEDS_NEEDED).to_numpy()
    leader, columns = np.full(len(groups), -1), rows_of_columns(groups)
    for rows in columns:  # sorted by mean
        first = rows[np.flatnonzero(enough[rows])[0]] if enough[rows].any() else rows[0]
        leads[first], leader[rows] = True, first
    ranked = groups.assign(
        rank=1 + _beaten_by(values, columns), leads=leads, enough=enough,
        **against(groups, values, leader, "to_leader_"), **against(groups, values, groups["base_row"].to_numpy(), "to_base_"),
    )  # fmt: skip
    return ranked.drop(columns="base_row").sort_values([*COLUMN, "rank"], kind="stable").reset_index(drop=True)


def versus(results: pd.DataFrame, which: str, column: str, setting: str) -> pd.DataFrame:
    """Compare every group of one column of (dataset, pair) with the group of key ``setting`` there, greatest mean first.

    Columns:
        all of ``groups.grouped`` but base_row, then those of ``differences`` and holm_p, named to_... (verdict "": itself).
    """
    groups, values = grouped(results, which)
    inside = (groups["column"] == column).to_numpy()
    place = np.flatnonzero(inside & (groups["setting"] == setting).to_numpy())
    other = np.full(len(groups), place[0] if len(place) else -1)
    return groups.assign(**against(groups, values, other, "to_")).drop(columns="base_row")[inside].reset_index(drop=True)


def sentence(ranked: pd.DataFrame, which: str) -> str:
    """Say in plain words who leads, by how much over whom, and whether that is more than luck.

    ``ranked``: the rows of one column of ``ranking``.
    """
    return wording.top(ranked, which)


def against(groups: pd.DataFrame, values: Floats, other: NDArray[np.int64], prefix: str) -> dict[str, NDArray[Any]]:
    """Compare every group with the one in place ``other`` (-1: none): columns of ``differences`` and holm_p, named ``prefix``...

    ``groups`` needs its column ``column``: the comparisons of one column are one family for Holm's correction.
    """
    there = (other >= 0) & (other != np.arange(len(other)))
    found = _differences(values, np.where(there[:, None], values[other], np.nan) if len(values) else values)
    found["verdict"][~there] = ""
    found["holm_p"] = np.full(len(values), np.nan)
    for rows in rows_of_columns(groups):
        found["holm_p"][rows] = holm(found["p"][rows])
    return {prefix + name: column for name, column in found.items()}


def _beaten_by(values: Floats, columns: Sequence[NDArray[np.int64]]) -> NDArray[np.int64]:
    """Return, for each row of (groups, seeds), how many others of its column are clearly better."""
    pairs = [rows[np.column_stack(np.triu_indices(len(rows), 1))] for rows in columns]
    first, second = np.concatenate([np.empty((0, 2), dtype=int), *pairs]).T
    verdict = _differences(values[first], values[second])["verdict"]
    losers = np.concatenate([second[verdict == "better"], first[verdict == "worse"]])
    return np.bincount(losers, minlength=len(values))


def _mean(values: Floats) -> Floats:
    there = ~np.isnan(values)
    with np.errstate(invalid="ignore"):
        mean: Floats = np.where(there, values, 0.0).sum(1) / np.where(there.any(1), there.sum(1), np.nan)
    return mean


def _error(values: Floats) -> tuple[Floats, NDArray[np.int64]]:
    """Return the squared standard error of each row's mean, and its count."""
    there = ~np.isnan(values)
    n = there.sum(1)
    squares = np.where(there, values - _mean(values)[:, None], 0.0) ** 2
    return squares.sum(1) / (n - 1) / n, n


def _p(mean: Floats, error: Floats, df: Floats | float) -> Floats:
    with np.errstate(divide="ignore", invalid="ignore"):
        t = np.where(error > 0, mean / error, np.where(mean == 0, 0.0, np.inf))
    p: Floats = 2 * special.stdtr(df, -np.abs(t))
    return p


def _reach(df: Floats | float) -> Floats:
    """Return the half width, in standard errors, of the interval of Student's t at ``LEVEL``."""
    half: Floats = special.stdtrit(df, (1 + LEVEL) / 2)
    return half


__all__ = [
    "LEVEL", "RESAMPLES", "SEEDS_NEEDED", "VERDICTS", "WHICH", "Comparison", "against", "bootstrap", "differences", "holm",
    "in_columns", "luck", "newest_per_seed", "paired", "ranking", "sentence", "versus", "welch",
]  # fmt: skip
