"""What is compared with what: runs into groups that differ in the seed alone, groups into columns that may be compared.

A column is a dataset and a pair of networks. Runs without a teacher from outside (the student alone, peers, a network taught by
its own former self) stand in every column of their dataset and student: they answer the same question there.

Reads: the answer of ``queries.results``; families of methods from the catalogue. Writes: nothing. Never: the database.
"""

from __future__ import annotations

import json
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from kdengine import catalogue
from kdengine.errors import KdError, unknown

WHICH = {
    "best": "best on test",
    "last": "last epoch on test",
    "val_choice": "on test, at the epoch that validation chose",
}
COLUMN = ["dataset", "student", "against"]
PROTOCOL = (
    "epochs", "batch_size", "train_images", "image_size", "val_frac", "optimizer", "lr", "momentum", "nesterov", "weight_decay",
    "schedule", "milestones", "gamma", "warmup_frac", "crop_pad", "crop_mode", "flip", "bn_momentum", "precision",
)  # fmt: skip
TEACHER = ("teacher_recipe", "teacher_epochs", "teacher_weights")
_OWN = ("params", "combine", "generation", "peers")  # what a method is, beside its name
_KEPT = (*_OWN, "recipe", *PROTOCOL, *TEACHER)
_WORDS = {
    "train_images": "{} images", "recipe": "{}", "generation": "generation {}", "epochs": "{} epochs", "peers": "peer {}",
    "combine": "with {}", "teacher_epochs": "teacher of {} epochs", "teacher_recipe": "teacher {}",
}  # fmt: skip


def measure(which: str) -> str:
    """Return the column of ``results`` that holds the accuracy ``which`` (best, last or val_choice).

    Raises:
        KdError: there is no such selection.
    """
    if which not in WHICH:
        raise KdError(unknown("which", which, tuple(WHICH)))
    return f"{which}_frac"


def newest_per_seed(results: pd.DataFrame, *, finished: bool = True) -> pd.DataFrame:
    """Return the newest run of each (setting, seed): repeating a seed gives no further evidence.

    ``finished``: leave out runs that are not over; False counts them by what they have reached. Rows are sorted by age.
    """
    rows = results.loc[(results["status"] == "finished").to_numpy()] if finished else results
    order = rows[["created_at", "run_id", "setting", "seed"]].sort_values(["created_at", "run_id"], kind="stable")
    return rows.loc[order.drop_duplicates(["setting", "seed"], keep="last").index]


def in_columns(rows: pd.DataFrame) -> pd.DataFrame:
    """Return runs or groups with the columns they are compared in; what stands in several columns has several rows.

    ``rows``: method, dataset, student, teacher, and whatever else. Adds: family (of the method), alone (no teacher from outside),
    against (teacher of the column, "" for a student alone), column (its name: dataset · teacher → student).
    """
    labels = {key: catalogue.label_of(key) for key in rows["method"].unique()}
    chain = np.array([labels[key].chain for key in rows["method"]], dtype=bool)
    teacher = rows["teacher"].astype(object).where(rows["teacher"].notna(), "").to_numpy()
    places, against = _spread(list(zip(rows["dataset"], rows["student"], teacher, strict=True)), chain)
    found = rows.iloc[places]
    names = {key: column_name(*key) for key in set(zip(found["dataset"], found["student"], against, strict=True))}
    return found.assign(
        family=[labels[key].family for key in found["method"]],
        alone=(teacher == "")[places] | (chain[places] & (teacher[places] == found["student"].to_numpy(dtype=object))),
        against=against,
        column=[names[key] for key in zip(found["dataset"], found["student"], against, strict=True)],
    ).reset_index(drop=True)


def _spread(keys: list[tuple[str, str, str]], chain: NDArray[np.bool_]) -> tuple[list[int], list[str]]:
    """Return which rows stand in the columns, and with which teacher: ``keys`` are (dataset, student, teacher or "")."""
    free = [not t or (c and t == s) for (_, s, t), c in zip(keys, chain, strict=True)]
    teachers: dict[tuple[str, str], dict[str, None]] = {}
    for (dataset, student, teacher), alone in zip(keys, free, strict=True):
        if not alone:
            teachers.setdefault((dataset, student), {})[teacher] = None
    places: list[int] = []
    against: list[str] = []
    for place, ((dataset, student, teacher), alone) in enumerate(zip(keys, free, strict=True)):
        columns = list(teachers.get((dataset, student), [""])) if alone else [teacher]
        places += [place] * len(columns)
        against += columns
    return places, against


def column_name(dataset: str, student: str, against: str) -> str:
    """Return the name of a column: ``digits · resnet20 → resnet8``, or ``digits · resnet8`` without a teacher."""
    return f"{dataset} · {against} → {student}" if against else f"{dataset} · {student}"


def grouped(results: pd.DataFrame, which: str) -> tuple[pd.DataFrame, NDArray[np.float64]]:
    """Return the groups of finished runs, and their accuracies by seed: (groups, seeds), NaN where a group lacks a seed.

    A group is what differs in nothing but the seed, in one column. Groups are sorted by dataset, student, teacher, greatest mean.

    Columns:
        method, dataset, student, teacher, setting, params (JSON), combine, generation, peers (joined by +), recipe, the fields
        of ``PROTOCOL`` and ``TEACHER``, those of ``in_columns``, like (its newest run), mean_frac, std_frac (n - 1; NaN for
        one), n (seeds), min_frac, max_frac, best_mean_frac, last_mean_frac, seeds (tuple), ids (tuple of run ids), variant (what
        sets it apart from other settings of the method), name (method and variant), base_row (row of the student alone that the
        gain is taken from, -1 without one), base_differs (tuple of protocol fields in which that one was trained otherwise).
    """
    value = measure(which)
    rows = newest_per_seed(results)
    rows = rows.loc[rows[value].notna().to_numpy()]
    setting, _ = pd.factorize(rows["setting"])
    seed, seeds = pd.factorize(rows["seed"], sort=True)
    table, best, last = (_table(rows[name], setting, seed) for name in (value, "best_frac", "last_frac"))
    newest = np.full(len(table), 0)
    newest[setting] = np.arange(len(rows))  # rows are sorted by age: the last write wins
    ids = np.full(table.shape, None, dtype=object)
    ids[setting, seed] = rows["run_id"].to_numpy(dtype=object)
    has = ~np.isnan(table)
    groups = rows[["method", "dataset", "student", "teacher", "setting", *_KEPT]].iloc[newest]
    groups = groups.assign(like=rows["run_id"].to_numpy()[newest], place=np.arange(len(table)), **_moments(table))
    for name, own in (("best_mean_frac", best), ("last_mean_frac", last)):
        groups[name] = _moments(own)["mean_frac"]
    groups["peers"] = [text_of(peers) for peers in groups["peers"]]
    numbers = np.full(table.shape, -1, dtype=object)
    numbers[:, : len(seeds)] = np.asarray(seeds, dtype=object)
    groups["seeds"], groups["ids"] = _lists(numbers, has), _lists(ids, has)
    groups = in_columns(groups).sort_values([*COLUMN, "mean_frac", "method"], ascending=[True] * 3 + [False, True])
    groups = groups.reset_index(drop=True)
    labels = variants(groups)
    groups["variant"] = pd.Series(labels, dtype="str")
    named = [f"{method} {label}".strip() for method, label in zip(groups["method"], labels, strict=True)]
    groups["name"] = pd.Series(named, dtype="str")
    groups["base_row"], groups["base_differs"] = _bases(groups)
    return groups.drop(columns="place"), table[groups["place"].to_numpy(dtype=int)]


def rows_of_columns(groups: pd.DataFrame) -> list[NDArray[np.int64]]:
    """Return the places of the rows of each column, in the order of the rows; ``groups``: any frame with ``column``."""
    return [np.asarray(rows) for rows in groups.groupby("column", sort=False).indices.values()]


def _table(values: pd.Series, setting: NDArray[Any], seed: NDArray[Any]) -> NDArray[np.float64]:
    table = np.full((int(setting.max(initial=-1)) + 1, max(1, int(seed.max(initial=-1)) + 1)), np.nan)
    table[setting, seed] = values.to_numpy(dtype=float)
    return table


def _lists(values: NDArray[Any], has: NDArray[np.bool_]) -> NDArray[Any]:
    rows = [tuple(row[there].tolist()) for row, there in zip(values, has, strict=True)]
    lists = np.empty(len(rows), dtype=object)
    lists[:] = rows
    return lists


def _moments(table: NDArray[np.float64]) -> dict[str, NDArray[Any]]:
    """Return mean, spread, count and range of each row of (groups, seeds); every row has a value."""
    there = ~np.isnan(table)
    n = there.sum(1)
    mean = np.where(there, table, 0.0).sum(1) / np.maximum(n, 1)
    squares = np.where(there, table - mean[:, None], 0.0) ** 2
    std = np.where(n > 1, np.sqrt(squares.sum(1) / np.maximum(n - 1, 1)), np.nan)
    low, high = np.where(there, table, np.inf).min(1, initial=np.inf), np.where(there, table, -np.inf).max(1, initial=-np.inf)
    return {"mean_frac": mean, "std_frac": std, "n": n, "min_frac": low, "max_frac": high}


def variants(groups: pd.DataFrame) -> list[str]:
    """Return, for each group, a short label of what sets it apart from the other settings of its method; "" for the only one.

    Knobs of the method always count; fields of the protocol only where the method has two of them in one column, because a
    field that follows the column says nothing about the method.
    """
    texts = [[text_of(value) for value in groups[name]] for name in _KEPT]
    rows = list(zip(*texts, strict=True))
    within: dict[tuple[str, str], list[set[str]]] = {}
    for key, row in zip(zip(groups["method"], groups["column"], strict=True), rows, strict=True):
        for seen, text in zip(within.setdefault(key, [set() for _ in _KEPT]), row, strict=True):
            seen.add(text)
    counts: dict[str, list[bool]] = {}
    for (method, _), seen_by_field in within.items():
        before = counts.setdefault(method, [name in _OWN for name in _KEPT])
        counts[method] = [was or len(seen) > 1 for was, seen in zip(before, seen_by_field, strict=True)]
    keys = [
        tuple(text if kept else "" for text, kept in zip(row, counts[method], strict=True))
        for method, row in zip(groups["method"], rows, strict=True)
    ]
    of_method: dict[str, dict[tuple[str, ...], None]] = {}
    for method, wanted in zip(groups["method"], keys, strict=True):
        of_method.setdefault(method, {})[wanted] = None
    labels = {m: dict(zip(found, _labels(list(found)), strict=True)) for m, found in of_method.items()}
    return _numbered([(c, m, labels[m][key]) for c, m, key in zip(groups["column"], groups["method"], keys, strict=True)])


def text_of(value: Any) -> str:
    """Write a value of ``results`` so that equal values have equal texts: lists joined by +, nothing as ""."""
    if isinstance(value, list | tuple | np.ndarray):
        return "+".join(f"{item}" for item in value)
    return "" if value is None or value is pd.NA or value != value else str(value)


def _numbered(names: list[tuple[str, str, str]]) -> list[str]:
    """Return the last words of ``names``, with a number where the whole is there again: they differ in what no column tells."""
    seen: dict[tuple[str, str, str], int] = {}
    labels = []
    for name in names:
        seen[name] = seen.get(name, 0) + 1
        labels.append(name[2] if seen[name] == 1 else f"{name[2]} #{seen[name]}".strip())
    return labels


def _labels(keys: list[tuple[str, ...]]) -> list[str]:
    """Say what differs between the settings of one method: ``T=8``, ``paper``, ``30 epochs``."""
    if len(keys) == 1:
        return [""]
    flat: list[dict[str, Any]] = []
    for key in keys:
        fields = dict(zip(_KEPT, key, strict=True))
        flat.append(json.loads(fields.pop("params") or "{}") | fields)
    names = [name for name in dict.fromkeys(n for f in flat for n in f) if len({repr(f.get(name)) for f in flat}) > 1]
    if len(names) > 1:  # the recipe is then called <name>+ because of the others
        names = [name for name in names if name != "recipe"]
    return [" ".join(_WORDS.get(n, n + "={}").format(f[n]) for n in names if f.get(n) not in (None, "")) for f in flat]


def _bases(groups: pd.DataFrame) -> tuple[list[int], list[tuple[str, ...]]]:
    """Return for each group the student alone of its column that was trained most like it, and the fields that differ."""
    fields = np.array([pd.factorize(pd.Series([text_of(v) for v in groups[name]], dtype=object))[0] for name in PROTOCOL]).T
    plain = (groups["family"] == "plain").to_numpy()
    place, differs = np.full(len(groups), -1), np.zeros((len(groups), len(PROTOCOL)), dtype=bool)
    for rows in rows_of_columns(groups):
        bases = rows[plain[rows]]
        if len(bases):
            unequal = fields[rows, None] != fields[None, bases]  # (groups, bases, fields)
            nearest = (unequal.sum(2) - 1e-3 * groups["n"].to_numpy()[bases]).argmin(1)
            place[rows], differs[rows] = bases[nearest], unequal[np.arange(len(rows)), nearest]
    return place.tolist(), [tuple(np.array(PROTOCOL)[row]) if row.any() else () for row in differs]
