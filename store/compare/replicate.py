"""A table of the literature beside what was measured here: cell by cell, and claim by claim.

Reads: what it is given: the trials of a table, ``queries.standing`` of their settings, ``queries.published``. Writes: nothing.
Never: the database, run folders.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
import pandas as pd

from kdengine import replications
from kdengine.replications import Claim, Column, Replication, Row, Scale, Trial
from store.compare import stats
from store.rows import setting_of

ACTIVE = ("running", "queued", "waiting")
STOPPED = ("failed", "cancelled", "lost")
MISSING = "missing"
_RANK = {status: place for place, status in enumerate(("finished", *ACTIVE, *STOPPED))}
RUN = ["run_id", "status", "suite", "phase", "epoch", "epochs", "eta_s"]
COUNTED = {
    "finished": ("finished",), "running": ("running",), "queued": ("queued", "waiting"), "stopped": STOPPED, MISSING: (MISSING,),
}  # fmt: skip
Numbers = dict[tuple[str | None, ...], list[tuple[str, float, float]]]
CELLS = (
    "row", "column", "network", "label", "model", "stand_in", "printed_frac", "printed_std_frac", "mean_frac", "std_frac", "n",
    "delta_frac", "finished", "running", "queued", "stopped", "missing", "epoch", "epochs", "by_seed",
)  # fmt: skip


def settings(trials: Iterable[Trial]) -> tuple[str, ...]:
    """Return the settings to ask ``queries.standing`` about, each once."""
    return tuple(sorted({setting_of(trial.spec) for trial in trials}))


def matched(trials: Sequence[Trial], standing: pd.DataFrame) -> pd.DataFrame:
    """Return the run that fills each trial: finished before active before stopped, then the newest.

    Columns:
        row, column, seed, setting, run_id, status (``missing`` where there is none), suite, phase, epoch, epochs, eta_s.
    """
    wanted = pd.DataFrame(
        {
            "row": pd.Series([trial.row for trial in trials], dtype=object),
            "column": pd.Series([trial.column for trial in trials], dtype=object),
            "seed": pd.Series([trial.seed for trial in trials], dtype="int64"),
            "setting": pd.Series([setting_of(trial.spec) for trial in trials], dtype=object),
        }
    )
    ranked = standing.assign(rank=standing["status"].map(_RANK)).sort_values("rank", kind="stable")
    runs = ranked.drop_duplicates(["setting", "seed"])[["setting", "seed", *RUN]]
    found = wanted.merge(runs, on=["setting", "seed"], how="left")
    return found.assign(status=found["status"].fillna(MISSING))


# ---- cells ------------------------------------------------------------------------------------------------------------------


def cells(
    table: Replication, scale: Scale, trials: Sequence[Trial], standing: pd.DataFrame, published: pd.DataFrame
) -> pd.DataFrame:
    """Return one row per row, column and printed network of the table, in its order; printed columns after those trained here.

    Columns:
        row, column, network, label (of row and network, as printed), model (trained here), stand_in (True: another network or
        dataset than the printed one), printed_frac, printed_std_frac, mean_frac, std_frac (n - 1; best on test, finished runs),
        n, delta_frac (measured less printed; NaN at ``quick``, where levels cannot be compared), finished, running, queued,
        stopped, missing (numbers of runs), epoch, epochs (of the running one), by_seed (seed -> fraction).
    """
    runs: dict[tuple[str, str], list[dict[Any, Any]]] = {}
    for run in matched(trials, standing).to_dict("records"):
        runs.setdefault((run["row"], run["column"]), []).append(run)
    known = standing.dropna(subset=["network"])
    reached = dict(zip(zip(known["run_id"], known["network"], strict=True), known["best_frac"], strict=True))
    here, numbers = replications.columns_of(table, scale), _numbers(table, published)
    scales = [(scale, column) for column in here]
    scales += [(replace(scale, recipe=table.recipe), column) for column in _only_printed(table, here)]
    rows = [
        _cell(table, how, row, column, network, runs.get((row.key, column.key), []), reached, numbers)
        for how, column in scales
        for row in table.rows
        if not row.only or column.key in row.only
        for network in row.networks
    ]
    return pd.DataFrame(rows, columns=list(CELLS))


def _only_printed(table: Replication, here: Sequence[Column]) -> tuple[Column, ...]:
    """Return the printed columns that have no counterpart among the trained ones: where datasets stand in."""
    stands_in = any(not column.printed for column in here)
    return table.columns if stands_in and table.page else ()


def _cell(
    table: Replication, scale: Scale, row: Row, column: Column, network: str, runs: list[dict[Any, Any]],
    reached: Mapping[tuple[str, str], float], numbers: Numbers,
) -> dict[str, Any]:  # fmt: skip
    done = [run for run in runs if run["status"] == "finished" and (run["run_id"], network) in reached]
    by_seed = {int(run["seed"]): reached[run["run_id"], network] for run in done}
    mean, std = _mean_std(list(by_seed.values()))
    printed, printed_std = _printed(table, row, column, network, numbers)
    printed_model = replications.models_of(row, column)[network]
    model = replications.stand_in(table, scale, printed_model)
    under_way = [run for run in runs if run["status"] == "running"][:1]
    return {name: sum(run["status"] in kinds for run in runs) for name, kinds in COUNTED.items()} | {
        "row": row.key, "column": column.key, "network": network, "label": label_of(row, network), "model": model,
        "stand_in": not column.printed or model != printed_model, "printed_frac": printed, "printed_std_frac": printed_std,
        "mean_frac": mean, "std_frac": std, "n": len(by_seed),
        "delta_frac": np.nan if scale.recipe == replications.QUICK else mean - printed,
        "epoch": under_way[0]["epoch"] if under_way else np.nan, "epochs": under_way[0]["epochs"] if under_way else np.nan,
        "by_seed": by_seed,
    }  # fmt: skip


def _numbers(table: Replication, published: pd.DataFrame) -> Numbers:
    """Return what the source prints: method, dataset, student, teacher, peers -> note, mean and deviation of each number.

    All its pages count: what a network reaches alone is printed once, beside the first table that needs it.
    """
    own = published[published["source"] == table.source] if table.page else published.iloc[:0]
    found: Numbers = {}
    for row in own.to_dict("records"):
        who = tuple(None if pd.isna(row[name]) else row[name] for name in ("method", "dataset", "student", "teacher", "peers"))
        found.setdefault(who, []).append((str(row["note"]), float(row["top1_frac"]), float(row["top1_std_frac"])))
    return found


def _printed(table: Replication, row: Row, column: Column, network: str, numbers: Numbers) -> tuple[float, float]:
    """Return mean and standard deviation as the source prints them; NaN where it has none."""
    source = next((c for c in table.columns if c.key == column.key), None)
    if source is None:
        return np.nan, np.nan
    models = replications.models_of(row, source)
    peers = ", ".join(model for name, model in models.items() if name != network) or None
    teacher = (row.teacher or source.teacher) if row.role == "pair" else None
    found = numbers.get((row.method, source.dataset, models[network], teacher, peers), [])
    if len(found) > 1:  # twins: the source prints both networks of the pair
        found = [one for one in found if one[0].startswith("first" if network == "student" else "second")]
    return found[0][1:] if found else (np.nan, np.nan)


def label_of(row: Row, network: str) -> str:
    """Return what a line of the table is called: the row, or of several networks this one and those it learns with."""
    if len(row.networks) == 1:
        return row.label
    models = {"student": row.student or ""} | {f"peer{i}": peer for i, peer in enumerate(row.peers, 1)}
    others = [model for name, model in models.items() if name != network]
    twin = "" if models[network] not in others else ", first" if network == "student" else ", second"
    return f"{models[network]} with {' and '.join(others)}{twin}"


def _mean_std(values: Sequence[float]) -> tuple[float, float]:
    mean = float(np.mean(values)) if len(values) else np.nan
    return mean, float(np.std(values, ddof=1)) if len(values) > 1 else np.nan


# ---- progress ---------------------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Progress:
    """How far a table is. ``runs``: of all trials, as ``matched``, one row per training; ``teachers``: likewise those of the
    teachers that unfinished trials still need; ``missing``: the trials that no run fills, in the order of their launch."""

    runs: pd.DataFrame
    teachers: pd.DataFrame
    missing: list[Trial] = field(default_factory=list)

    def count(self, *statuses: str) -> int:
        """Return how many trials have one of these statuses."""
        return int(self.runs["status"].isin(statuses).sum())

    def ids(self, statuses: Sequence[str], suite: str | None = None) -> list[str]:
        """Return the runs with one of these statuses, teachers first; with ``suite`` only those launched under that name."""
        both = pd.concat([self.teachers, self.runs])
        kept = both[both["status"].isin(list(statuses))]
        if suite is not None:
            kept = kept[kept["suite"] == suite]
        return list(dict.fromkeys(kept["run_id"]))

    @property
    def share(self) -> float:
        """Share of the epochs of all trials that are done, 0 to 1."""
        done = self.runs["status"].eq("finished").astype(float)
        part = (self.runs["epoch"] / self.runs["epochs"]).fillna(0.0)
        return float(done.where(done > 0, part.where(self.runs["status"] == "running", 0.0)).mean()) if len(self.runs) else 0.0


def progress(trials: Sequence[Trial], teachers: Sequence[Trial], standing: pd.DataFrame) -> Progress:
    """Return how far the table is; ``teachers``: ``replications.teachers`` of the trials."""
    runs = matched(trials, standing).drop_duplicates(["setting", "seed"])
    open_ = {n for n, status in zip(runs.index, runs["status"], strict=True) if status != "finished"}
    needed = {t.identity() for n in open_ if (t := trials[n].spec.teacher_spec())}
    behind = matched([t for t in teachers if t.spec.identity() in needed], standing)
    return Progress(runs, behind, [trials[n] for n in runs.index[runs["status"] == MISSING]])


# ---- claims -----------------------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Verdict:
    """How a claim fares: of its comparisons, how many hold in the printed numbers (``printed`` of ``printed_n``), and here:
    ``holds``, ``ties`` (within seed noise), ``fails``, ``few`` (too few seeds), ``pending`` (not trained yet); in how many the
    means alone point the way of the claim (``leans``)."""

    claim: Claim
    printed: int = 0
    printed_n: int = 0
    holds: int = 0
    ties: int = 0
    fails: int = 0
    few: int = 0
    pending: int = 0
    leans: int = 0

    @property
    def n(self) -> int:
        """Number of comparisons here."""
        return self.holds + self.ties + self.fails + self.few + self.pending


def verdicts(table: Replication, found: pd.DataFrame, classes: Mapping[str, int]) -> list[Verdict]:
    """Test each claim of the table on its ``cells``; ``classes``: column -> number of classes of its dataset."""
    return [_verdict(claim, found, classes) for claim in table.claims]


def _verdict(claim: Claim, found: pd.DataFrame, classes: Mapping[str, int]) -> Verdict:
    pairs = list(_across(claim, found, classes) if claim.across else _within(claim, found))
    printed = [a["printed_frac"] - b["printed_frac"] for a, b in pairs]
    known = [gap for gap in printed if not np.isnan(gap)]
    trained = [(a, b) for a, b in pairs if _is_trained(a) and _is_trained(b)]
    told = [_compare(a["by_seed"], b["by_seed"], claim.relation) for a, b in trained]
    counts = {name: told.count(name) for name in ("holds", "ties", "fails", "few", "pending")}
    leans = sum(a["mean_frac"] > b["mean_frac"] for a, b in trained)  # False where either is not trained yet
    return Verdict(claim, sum(gap > 0 for gap in known), len(known), leans=leans, **counts)


Pairs = Iterable[tuple[dict[Any, Any], dict[Any, Any]]]


def _within(claim: Claim, found: pd.DataFrame) -> Pairs:
    """Yield the two cells of each comparison, column by column."""
    for _, column in found.groupby("column", sort=False):
        cells = {(c["row"], c["network"]): c for c in column.to_dict("records")}
        for a, b in claim.pairs:
            if a in cells and b in cells:
                yield cells[a], cells[b]


def _across(claim: Claim, found: pd.DataFrame, classes: Mapping[str, int]) -> Pairs:
    """Yield the cells of one row in the column of fewest and of most classes, of the printed columns and of those trained."""
    for _, part in found.groupby(found[list(COUNTED)].sum(axis=1) > 0, sort=False):
        order = sorted(set(part["column"]), key=lambda name: classes.get(name, 0))
        if len(order) < 2 or classes.get(order[0]) == classes.get(order[-1]):
            continue
        cells = {(c["row"], c["network"], c["column"]): c for c in part.to_dict("records")}
        yield from ((cells[(*a, order[0])], cells[(*a, order[-1])]) for a, _ in claim.pairs)


def _is_trained(cell: Mapping[str, Any]) -> bool:
    return sum(cell[name] for name in COUNTED) > 0


def _compare(a: Mapping[int, float], b: Mapping[int, float], relation: str) -> str:
    """Compare two cells over their seeds; one with a single seed (a teacher) is the same for all seeds of the other."""
    if not a or not b:
        return "pending"
    seeds = sorted(set(a) | set(b))
    rows = [_row(a, b, seeds), _row(b, a, seeds)]
    verdict = stats.differences(rows[0], rows[1])["verdict"].iloc[0]
    if verdict == "too few":
        return "few"
    if relation == "reaches":
        return "fails" if verdict == "worse" else "holds"
    return {"better": "holds", "tie": "ties", "worse": "fails"}[verdict]


def _row(own: Mapping[int, float], other: Mapping[int, float], seeds: Sequence[int]) -> np.ndarray:
    if len(own) == 1 < len(other):
        return np.full((1, len(seeds)), next(iter(own.values())))
    return np.array([[own.get(seed, np.nan) for seed in seeds]])
