"""From runs, or from a wide table, to an order: who races with which values, and what is written around them.

Reads: the frames it is given; the store and text files that are named. Writes: nothing. Never: pixels; importing it loads
neither pandas nor DuckDB, because a race of a text file needs neither.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from kdengine.errors import KdError, Problem, unknown
from store.export.colours import style_of
from store.export.race.options import Options
from store.export.race.order import MOST_RACERS, Order, Racer
from store.export.race.wide import KEPT, MODES, colours_of, from_csv, held, in_mode

if TYPE_CHECKING:
    import pandas as pd

    from store.db import Store

__all__ = ["METRICS", "MODES", "Metric", "colours_of", "columns", "from_csv", "of_suite", "order_of"]
Floats = NDArray[np.float64]
IDS_IN_CAPTION = 4
SOURCE_ROOM = 18_000  # characters of run ids in the file's own description
SEEDS = ("mean", "best")


@dataclass(frozen=True, slots=True)
class Metric:
    """A column of ``epochs`` that can race: its ``title`` in words, ``unit`` with its space, whether the least wins, ``most``
    that it can be in the unit drawn (None = no bound), and ``factor`` from the stored value to the one drawn."""

    title: str
    unit: str
    lower_is_better: bool
    most: float | None
    factor: float


METRICS: dict[str, Metric] = {
    "test_top1_frac": Metric("Test accuracy", " %", False, 100.0, 100.0),
    "test_top5_frac": Metric("Top-5 test accuracy", " %", False, 100.0, 100.0),
    "test_loss": Metric("Test loss", " nats", True, None, 1.0),
    "test_ece_frac": Metric("Calibration error", " %", True, 100.0, 100.0),
    "train_top1_frac": Metric("Training accuracy", " %", False, 100.0, 100.0),
    "train_loss": Metric("Training loss", "", True, None, 1.0),
    "val_top1_frac": Metric("Validation accuracy", " %", False, 100.0, 100.0),
    "val_loss": Metric("Validation loss", " nats", True, None, 1.0),
    "agreement_frac": Metric("Agreement with the teacher", " %", False, 100.0, 100.0),
    "teacher_kl": Metric("Distance from the teacher", " nats", True, None, 1.0),
    "images_per_s": Metric("Training speed", " images/s", False, None, 1.0),
}
_WHERE = {"train": " on the training images", "val": " on the validation images", "images": ""}  # else on the test images
_MODE_TEXTS = {
    "best": "Best epoch so far{}",
    "raw": "Each epoch as measured{}",
    "smooth": f"Smoothed over the epochs{{}} ({100 * KEPT:.0f} % of each value is what came before)",
}


@dataclass(frozen=True, slots=True)
class Entry:
    """A group that can race: ``courses`` (epochs, runs) of those of its runs that have values, NaN behind their ends, and their
    mean (epochs,) as it is drawn."""

    name: str
    method: str
    ids: tuple[str, ...]
    seeds: tuple[int, ...]
    courses: Floats
    mean: Floats


# ---- runs ------------------------------------------------------------------------------------------------------------------


def columns(results: pd.DataFrame) -> pd.DataFrame:
    """Return the groups of finished runs of ``queries.results``, a row for what differs in the seed alone; ``column`` names the
    dataset and pair they belong to. Columns: see ``groups.grouped``."""
    from store.compare.groups import grouped

    return grouped(results, "best")[0]


def of_suite(store: Store, suite: str | None, *, metric: str = "test_top1_frac", mode: str = "best", seeds: str = "mean",
             column: str | None = None, options: Options, title: str = "") -> Order:  # fmt: skip
    """Return the race of the finished runs of ``suite``, None = of all; the other arguments as in ``order_of``.

    ``column``: its name (``digits · resnet20 → resnet8``) or what is easier to type, ``digits-resnet20-resnet8``; None = the one
    with most groups.

    Raises:
        KdError: no such suite, column, metric, mode or seed; no run of it has finished.
    """
    from store import queries

    if faults := list(_choice_faults(metric, mode, seeds)):
        raise KdError(*faults)
    known = queries.suites(store)["suite"].tolist()
    if suite is not None and suite not in known:
        raise KdError(unknown("suite", suite, known))
    groups = columns(queries.results(store, queries.runs(store, suite=suite, status="finished")["run_id"].tolist()))
    if groups.empty:
        where = f"suite {suite!r}" if suite else "these results"
        raise KdError.of(f"{where} without a finished run", "runs that have finished", "train some, or wait for them", "suite")
    groups = _of_column(groups, column)
    ids = [run_id for own in groups["ids"] for run_id in own]
    curves, runs = queries.curves(store, ids, metric), queries.provenance(store, ids)
    return order_of(groups, curves, metric=metric, mode=mode, seeds=seeds, options=options, title=title, runs=runs)


def _of_column(groups: pd.DataFrame, column: str | None) -> pd.DataFrame:
    """Return the groups of one column, by default of the one that has most; ``column``: its name or its key."""
    if column is None:
        return groups[groups["column"] == groups["column"].value_counts().idxmax()]
    parts = zip(groups["dataset"], groups["against"], groups["student"], strict=True)
    keys = ["-".join(part for part in key if part) for key in parts]
    fits = [column in (name, key) for name, key in zip(groups["column"], keys, strict=True)]
    if not any(fits):
        raise KdError(unknown("column", column, list(dict.fromkeys(keys))))
    return groups[fits]


def order_of(groups: pd.DataFrame, curves: pd.DataFrame, *, metric: str = "test_top1_frac", mode: str = "best",
             seeds: str = "mean", options: Options, title: str = "", runs: pd.DataFrame | None = None) -> Order:  # fmt: skip
    """Return the race of ``groups``: one racer each, named and coloured as in every other chart.

    The mode is applied to each run, then seeds are averaged: with ``best`` a racer ends at the mean of its runs' best values. A
    run that ends before its sisters holds its last value in the mean; a racer ends where the longest of its runs does.

    Args:
        groups: rows of ``columns`` of ONE column. Those without any value of the metric are left out, and the caption says so.
        curves: rows of ``queries.curves`` of their runs.
        mode: ``best`` so far (the least for losses), ``raw``, or ``smooth`` (moving average).
        seeds: ``mean``, ``best`` (of each group the run that ends best), or the number of a seed.
        title: instead of the usual one.
        runs: rows of ``queries.provenance`` for the caption.

    Raises:
        KdError: no such metric, mode or seed; groups of several columns; none of the runs has this measure.
    """
    faults = list(_choice_faults(metric, mode, seeds))
    names = list(dict.fromkeys(groups["column"]))
    if len(names) != 1:
        faults.append(Problem("column", f"groups of {len(names)} columns", "those of one dataset and pair", "choose one of them"))
    if faults:
        raise KdError(*faults)
    said = METRICS[metric]
    epochs, found = _entries(groups, curves, said, mode)
    chosen = [one for entry in found if (one := _of_seeds(entry, seeds, said)) is not None]
    drawn = _best(chosen, said)
    if not drawn:
        raise KdError(_nothing_fault(found, metric, seeds))
    there = np.flatnonzero(~np.isnan(np.column_stack([entry.mean for entry in drawn])).all(axis=1))
    inside = slice(there[0], there[-1] + 1)  # no epochs before and behind all values of those drawn
    racers = [Racer(name=e.name, colour=style_of(e.method).colour, values=tuple(e.mean[inside].tolist())) for e in drawn]
    return Order(
        epochs=tuple(epochs[inside].tolist()), racers=tuple(racers), title=title or _title(said, mode), subtitle=names[0],
        caption=" ".join([*_selection(drawn, metric, mode, seeds), *_left_out(groups, chosen, drawn), _runs_text(drawn, runs)]),
        source=_source(drawn, runs), measure=said.title, unit=said.unit, most=said.most,
        lower_is_better=said.lower_is_better, options=options,
    )  # fmt: skip


# ---- values ----------------------------------------------------------------------------------------------------------------


def _choice_faults(metric: str, mode: str, seeds: str) -> Iterator[Problem]:
    for kind, given, known in (("metric", metric, METRICS), ("mode", mode, MODES)):
        if given not in known:
            yield unknown(kind, given, tuple(known))
    if seeds not in SEEDS and not seeds.isdecimal():
        yield Problem("seeds", f"seeds {seeds!r}", "mean, best, or the number of a seed", "choose one of them")


def _entries(groups: pd.DataFrame, curves: pd.DataFrame, metric: Metric, mode: str) -> tuple[Floats, list[Entry]]:
    """Return the epochs (E,) that any run has, and every group that has values, in the order of the groups."""
    epochs, row = np.unique(curves["x"].to_numpy(dtype=np.float64), return_inverse=True)
    ids = list(dict.fromkeys(curves["run_id"]))
    place = {run_id: n for n, run_id in enumerate(ids)}
    table = np.full((len(epochs), len(ids)), np.nan)
    values = curves["value"].to_numpy(dtype=np.float64) * metric.factor
    table[row, curves["run_id"].map(place).to_numpy(dtype=int)] = values.round(5)  # a float32 tells no more: 70, not 69.999999
    table = in_mode(table, mode, lower_is_better=metric.lower_is_better)
    entries = []
    for name, method, own, seeds in zip(groups["name"], groups["method"], groups["ids"], groups["seeds"], strict=True):
        pairs = [(run_id, int(seed)) for run_id, seed in zip(own, seeds, strict=True) if run_id in place]
        courses = table[:, [place[run_id] for run_id, _ in pairs]]
        kept = np.flatnonzero(~np.isnan(courses).all(axis=0))
        if len(kept):
            entries.append(_entry(name, method, [pairs[n] for n in kept], courses[:, kept]))
    return epochs, entries


def _entry(name: str, method: str, runs: Sequence[tuple[str, int]], courses: Floats) -> Entry:
    """Return a group with the mean of its runs: who ends early holds its last value until the last one ends."""
    filled = held(courses)
    there = ~np.isnan(filled)
    total, n = np.where(there, filled, 0.0).sum(axis=1), there.sum(axis=1)
    going = n > 0
    going[np.flatnonzero(~np.isnan(courses).all(axis=1))[-1] + 1 :] = False
    mean = np.where(going, total / np.maximum(n, 1), np.nan)
    ids, seeds = zip(*runs, strict=True)
    return Entry(name, method, ids, seeds, courses, mean)


def _of_seeds(entry: Entry, seeds: str, metric: Metric) -> Entry | None:
    """Return the group with the runs that ``seeds`` asks for; None where it has no such run."""
    if seeds == "mean":
        return entry
    if seeds == "best":
        last = held(entry.courses)[-1]
        place = int(np.argmin(last) if metric.lower_is_better else np.argmax(last))
    elif int(seeds) in entry.seeds:
        place = entry.seeds.index(int(seeds))
    else:
        return None
    runs = [(entry.ids[place], entry.seeds[place])]
    one = _entry(entry.name, entry.method, runs, entry.courses[:, [place]])
    return replace(one, seeds=entry.seeds) if seeds == "best" else one  # the caption says of how many it is the best


def _best(entries: Sequence[Entry], metric: Metric) -> list[Entry]:
    """Return at most as many as an order holds: those that end best, in the order given."""
    last = [held(entry.mean[:, None])[-1, 0] * (1 if metric.lower_is_better else -1) for entry in entries]
    kept = sorted(np.argsort(last, kind="stable")[:MOST_RACERS].tolist())
    return [entries[n] for n in kept]


def _nothing_fault(found: Sequence[Entry], metric: str, seeds: str) -> Problem:
    if found:  # so it is the seed
        known = sorted({seed for entry in found for seed in entry.seeds})
        return Problem("seeds", f"seed {seeds}", ", ".join(map(str, known)), "choose one of them, or mean")
    return Problem("metric", f"runs without any {METRICS[metric].title.lower()}", "a measure that they have",
                   "choose another measure, or train with what it needs")  # fmt: skip


# ---- words -----------------------------------------------------------------------------------------------------------------


def _title(metric: Metric, mode: str) -> str:
    if mode == "best":
        return f"{'Lowest' if metric.lower_is_better else 'Best'} {metric.title[0].lower()}{metric.title[1:]} so far"
    return f"{metric.title} by epoch{', smoothed' if mode == 'smooth' else ''}"


def _selection(drawn: Sequence[Entry], metric: str, mode: str, seeds: str) -> Iterator[str]:
    """Say what a value is: ``Best epoch so far on the test images, mean of 3 seeds.``"""
    what = _MODE_TEXTS[mode].format(_WHERE.get(metric.split("_")[0], " on the test images"))
    if seeds not in SEEDS:
        yield f"{what}, seed {seeds}."
        return
    counts = sorted({len(entry.seeds) for entry in drawn})
    n = f"{counts[0]} to {counts[-1]} seeds" if len(counts) > 1 else f"{counts[0]} seeds"
    yield f"{what}, {'one seed' if counts == [1] else f'{seeds} of {n}'}."


def _left_out(groups: pd.DataFrame, chosen: Sequence[Entry], drawn: Sequence[Entry]) -> Iterator[str]:
    """Say which groups have no such value, and that only the best are drawn where there are too many."""
    names = {entry.name for entry in chosen}
    missing = [name for name in groups["name"] if name not in names]
    if missing:
        shown = ", ".join(missing[:6]) + (f" and {len(missing) - 6} more" if len(missing) > 6 else "")
        yield f"Without such a value: {shown}."
    if len(drawn) < len(chosen):
        yield f"The best {len(drawn)} of {len(chosen)}."


def _runs_text(drawn: Sequence[Entry], runs: pd.DataFrame | None) -> str:
    """Say which runs these are: ``15 runs of suite demo, newest of 2026-11-21, kdengine 0.5.0.``"""
    ids = [run_id for entry in drawn for run_id in entry.ids]
    own = None if runs is None else runs[runs["run_id"].isin(ids)]
    suites = [] if own is None else sorted({str(suite) for suite in own["suite"].dropna()})
    few = len(ids) <= IDS_IN_CAPTION
    parts = [f"{'Run' if len(ids) == 1 else 'Runs'} {', '.join(ids)}" if few else f"{len(ids)} runs"]
    if suites:
        parts[0] += f" of suite {suites[0]}" if len(suites) == 1 else f" of {len(suites)} suites"
    if own is not None and len(own):
        parts.append(f"newest of {own['created_at'].max():%Y-%m-%d}")
        parts += [f"kdengine {version}" for version in [" and ".join(_versions(own).get("kdengine", []))] if version]
    return ", ".join(parts) + "."


def _versions(runs: pd.DataFrame) -> dict[str, list[str]]:
    """Return package -> the versions that trained these runs, in order; empty where ``runs`` does not say."""
    found: dict[str, set[str]] = {}
    texts = set(runs["versions"].dropna()) if "versions" in runs else set()
    for text in texts:
        for package, version in json.loads(text).items():
            found.setdefault(str(package), set()).add(str(version))
    return {package: sorted(found[package]) for package in sorted(found)}


def _source(drawn: Sequence[Entry], runs: pd.DataFrame | None) -> str:
    """Return all run ids, and the versions that trained them, for the file's own description."""
    ids = [run_id for entry in drawn for run_id in entry.ids]
    room = SOURCE_ROOM // (max(map(len, ids)) + 2)
    rest = f" and {len(ids) - room} more" if len(ids) > room else ""
    versions: dict[str, Any] = {} if runs is None else _versions(runs[runs["run_id"].isin(ids)])
    trained = ", ".join(f"{package} {' and '.join(own)}" for package, own in versions.items())
    return f"Runs: {', '.join(ids[:room])}{rest}." + (f" Trained with {trained}." if trained else "")
