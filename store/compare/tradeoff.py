"""Accuracy against what it costs, and who is on the Pareto front.

Times and speeds are of the machine they were measured on: groups are compared on the same kind of device only (``kind``), and a
group that was trained on two kinds is two points. The cost is the student's own: what its teacher took to train is not in it.

Reads: the answer of ``queries.results``. Writes: nothing. Never: the database.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from kdengine.errors import KdError, unknown
from store.compare.groups import grouped, newest_per_seed


@dataclass(frozen=True, slots=True)
class Cost:
    """What is paid: ``title``, ``unit`` ("" = a plain number), ``measured`` (depends on the device), a ``note`` in a sentence."""

    title: str
    unit: str
    measured: bool
    note: str


COSTS: dict[str, Cost] = {
    "elapsed_s": Cost("Training time", "s", True, "of the student, all phases; its teacher's training is not counted"),
    "s_per_image": Cost("Training time per image", "s", True, "median over epochs; lower is faster"),
    "peak_mib": Cost("Peak memory", "MiB", True, "of the GPU, or of the process on a CPU"),
    "student_params": Cost("Parameters of the student", "", False, "what has to be stored to use it"),
    "student_macs": Cost("Multiply-adds of the student", "", False, "for one image, when it is used"),
}


def tradeoff(results: pd.DataFrame, cost: str, which: str) -> pd.DataFrame:
    """Return accuracy and cost of every group of finished runs, cheapest first within dataset and kind of device.

    Columns:
        all of ``groups.grouped``, kind (CPU or GPU; "" where the cost does not depend on it), cost_mean, cost_std (unit as in
        ``COSTS``; n - 1, NaN for one run), images_per_s (mean of the runs), teacher_mean_frac (accuracy of its teachers),
        gap_closed (how much of the way from the student alone to the teacher it went; 1 = the teacher reached; NaN without a
        teacher, without the student alone, or where the teacher is not better), front (no group of the same dataset and kind is
        at least as accurate and at most as costly, and better in one).

    Raises:
        KdError: no such cost or selection.
    """
    if cost not in COSTS:
        raise KdError(unknown("cost", cost, tuple(COSTS)))
    groups, _ = grouped(results, which)
    rows = newest_per_seed(results)
    rows = rows.assign(
        s_per_image=1 / rows["images_per_s"].where(rows["images_per_s"] > 0),
        kind=["CPU" if str(device).startswith("cpu") else "GPU" for device in rows["device"]] if COSTS[cost].measured else "",
    )
    paid = rows.groupby(["setting", "kind"], sort=False).agg(
        cost_mean=(cost, "mean"), cost_std=(cost, "std"), images_per_s=("images_per_s", "mean"),
        teacher_mean_frac=("teacher_top1_frac", "mean"),
    )  # fmt: skip
    found = groups.assign(base_mean_frac=_of_base(groups)).merge(paid.reset_index(), on="setting", how="inner")
    found = found.assign(gap_closed=_gap_closed(found)).drop(columns=["base_row", "base_mean_frac"])
    found = found.dropna(subset=["cost_mean"]).sort_values(["dataset", "kind", "cost_mean", "mean_frac"]).reset_index(drop=True)
    return found.assign(front=_fronts(found))


def _of_base(groups: pd.DataFrame) -> NDArray[np.float64]:
    base = groups["base_row"].to_numpy()
    means = groups["mean_frac"].to_numpy()
    return np.where(base >= 0, means[base], np.nan) if len(groups) else means


def _gap_closed(found: pd.DataFrame) -> pd.Series:
    gap = found["teacher_mean_frac"] - found["base_mean_frac"]
    return (found["mean_frac"] - found["base_mean_frac"]) / gap.where(gap > 0)


def _fronts(found: pd.DataFrame) -> NDArray[np.bool_]:
    front = np.zeros(len(found), dtype=bool)
    for rows in found.groupby(["dataset", "kind"], sort=False).indices.values():
        part = found.iloc[rows]
        front[rows] = pareto(part["mean_frac"].to_numpy(), part["cost_mean"].to_numpy())
    return front


def pareto(gain: NDArray[np.float64], cost: NDArray[np.float64]) -> NDArray[np.bool_]:
    """Return which points no other beats: none has at least the ``gain`` at most the ``cost`` and is better in one of them."""
    no_worse = (gain[None] >= gain[:, None]) & (cost[None] <= cost[:, None])
    better = (gain[None] > gain[:, None]) | (cost[None] < cost[:, None])
    beaten = np.asarray(no_worse & better).any(axis=1)
    return np.logical_not(beaten)
