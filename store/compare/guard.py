"""The guard: names all that the runs compared do not have in common, before anybody believes a difference between methods.

What follows the column (dataset, pair of networks) is no fault: runs are compared within a column. A method's own knobs are what
is compared, not protocol.

Reads: the answer of ``queries.results``. Writes: nothing. Never: the database; it decides nothing, it names.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import pandas as pd

from store.compare.groups import PROTOCOL, TEACHER, in_columns, newest_per_seed, text_of, variants
from store.compare.wording import listed, name_of, percent

RESULT = "changes the result"
SPEED = "changes only the speed"
TITLES = {
    "epochs": "Epochs",
    "batch_size": "Batch size",
    "train_images": "Training images",
    "image_size": "Image size",
    "val_frac": "Validation share",
    "optimizer": "Optimiser",
    "lr": "Learning rate",
    "momentum": "Momentum",
    "nesterov": "Nesterov's momentum",
    "weight_decay": "Weight decay",
    "schedule": "Course of the learning rate",
    "milestones": "Where the learning rate drops",
    "gamma": "Factor of each drop",
    "warmup_frac": "Warm-up share",
    "crop_pad": "Random crop, padding",
    "crop_mode": "Random crop, what the padding shows",
    "flip": "Mirrored images",
    "bn_momentum": "BatchNorm momentum",
    "precision": "Precision",
    "teacher_run": "Teacher checkpoint",
    "teacher_weights": "Teacher weights from a file",
    "teacher_recipe": "Teacher's recipe",
    "teacher_epochs": "Teacher's epochs",
    "teacher_seed": "Teacher's seed",
    "selection": "How the epoch is chosen",
    "status": "Unfinished runs",
    "seed": "Seeds",
    "device": "Device",
}
_UNITS = {
    "epochs": "{} epochs", "batch_size": "{} images", "train_images": "{} images", "image_size": "{} px", "crop_pad": "{} px",
    "teacher_epochs": "{} epochs", "teacher_seed": "seed {}",
}  # fmt: skip
_EMPTY = {"teacher_recipe": "as the student's", "teacher_epochs": "as its recipe has it", "teacher_weights": "no file"}
_FOLLOWS_SEED = ("teacher_run", "teacher_seed")


@dataclass(frozen=True, slots=True)
class Value:
    """One value of a field: its ``text`` with unit, the ``groups`` (method and variant) that have it, and how many ``runs``."""

    text: str
    groups: tuple[str, ...]
    runs: int


@dataclass(frozen=True, slots=True)
class Difference:
    """One thing the runs of a dataset do not share: ``field`` of ``queries.results`` (or selection), ``title`` in words,
    ``severity`` (``RESULT`` or ``SPEED``), the ``columns`` it concerns, its ``values``, the most frequent first.
    """

    field: str
    title: str
    severity: str
    dataset: str
    columns: tuple[str, ...]
    values: tuple[Value, ...]

    @property
    def sentence(self) -> str:
        """Say it in one line: ``Epochs: 15 epochs (kd, fitnet and 4 others), 30 epochs (ft)``."""
        return f"{self.title}: " + ", ".join(f"{value.text} ({_some(value.groups)})" for value in self.values)


def differences(results: pd.DataFrame, which: str = "best") -> list[Difference]:
    """Return every protocol difference among the runs that are compared, dataset by dataset, what changes the result first.

    Of several runs of one (setting, seed) the newest counts, finished or not. ``which`` decides whether it matters that only some
    runs kept validation images.

    Raises:
        KdError: no such selection (from ``groups.measure``, by the tables beside this).
    """
    rows = in_columns(newest_per_seed(results, finished=False))
    texts, names = _texts(rows, which), _names(rows)
    rows = rows[["run_id", "dataset", "column", "seed", "alone"]].assign(group=names, **texts)
    fields = [f"{name}_text" for name in TITLES]
    several = rows.groupby("column", sort=False)[fields].nunique() > 1
    found = []
    for name, field in zip(TITLES, fields, strict=True):
        part = rows[rows["column"].map(several[field]).astype(bool)] if several[field].any() else rows.iloc[:0]
        for dataset, here in _differing(part, name).groupby("dataset", sort=True):
            found.append(_difference(name, str(dataset), here))
    return sorted(found, key=lambda d: (d.dataset, d.severity != RESULT))


def _names(rows: pd.DataFrame) -> list[str]:
    groups = rows.drop_duplicates(["column", "setting"], keep="last")
    groups = groups.assign(variant=variants(groups))
    names = {(row["column"], row["setting"]): name_of(row) for row in groups.to_dict("records")}
    return [names[key] for key in zip(rows["column"], rows["setting"], strict=True)]


def _texts(rows: pd.DataFrame, which: str) -> dict[str, list[str]]:
    """Return the value of every field of every run in words."""
    fields = (*PROTOCOL, *TEACHER, "teacher_seed")
    texts = {f"{name}_text": _written(name, rows[name]) for name in fields}
    top1 = rows.groupby("teacher_run")["teacher_top1_frac"].max()  # methods that unfold the teacher measure a hair less
    shown = {run: f"{run} ({percent(value)})" if value == value else str(run) for run, value in top1.items()}
    texts["teacher_run_text"] = [shown.get(text_of(run), "none") for run in rows["teacher_run"]]
    kinds = ["CPU" if str(device).startswith("cpu") else "GPU" for device in rows["device"]]
    texts["device_text"] = [f"{kind} ({name})" for kind, name in zip(kinds, rows["device_name"], strict=True)]
    texts["status_text"] = [
        "finished" if status == "finished" else f"{status}, {epoch} of {epochs} epochs"
        for status, epoch, epochs in zip(rows["status"], rows["epoch"], rows["epochs"], strict=True)
    ]
    other = "no validation images" + (": the epoch is chosen on the test images" if which == "best" else "")
    texts["selection_text"] = ["validation images held out" if v == v else other for v in rows["val_choice_frac"]]
    return texts | {"seed_text": _seeds(rows)}


def _seeds(rows: pd.DataFrame) -> list[str]:
    """Return for each run the seeds of its whole group."""
    seeds: dict[tuple[str, str], set[int]] = {}
    keys = list(zip(rows["column"], rows["setting"], strict=True))
    for key, seed in zip(keys, rows["seed"], strict=True):
        seeds.setdefault(key, set()).add(int(seed))
    texts = {key: ("seed " if len(own) == 1 else "seeds ") + ", ".join(map(str, sorted(own))) for key, own in seeds.items()}
    return [texts[key] for key in keys]


def _written(name: str, values: pd.Series) -> list[str]:
    """Return every value in words; each different one is written once."""
    plain = [text_of(value) for value in values] if name == "milestones" else values  # lists cannot be told apart by hash
    codes, known = pd.factorize(pd.Series(plain, dtype=object), use_na_sentinel=False)
    words = [_in_words(name, text_of(value)) for value in known]
    return [words[code] for code in codes]


def _in_words(name: str, text: str) -> str:
    return _UNITS.get(name, "{}").format(text) if text else _EMPTY.get(name, "none")


def _differing(rows: pd.DataFrame, name: str) -> pd.DataFrame:
    """Return of the runs of some columns those of the columns in which it matters that the field has several values."""
    if not name.startswith("teacher"):
        return rows
    rows = rows[~rows["alone"]]
    text = rows[f"{name}_text"]
    several = text.groupby(rows["column"], sort=False).nunique() > 1
    if name in _FOLLOWS_SEED:
        for column in several.index[several]:
            several[column] = _differs_beyond_seed(rows[rows["column"] == column], f"{name}_text")
    return rows[rows["column"].map(several).astype(bool)]


def _differs_beyond_seed(rows: pd.DataFrame, name: str) -> bool:
    """Say of one column whether groups have different values at the same seed, or two groups have none in common.

    A teacher per seed, the same one for every method, is sound.
    """
    if (rows.groupby("seed")[name].nunique() > 1).any():
        return True
    sets = list({frozenset(values) for _, values in rows.groupby("group")[name]})
    return any(not a & b for place, a in enumerate(sets) for b in sets[:place])


def _difference(name: str, dataset: str, rows: pd.DataFrame) -> Difference:
    values = sorted(_values(rows, name), key=lambda value: -value.runs)
    columns = tuple(dict.fromkeys(rows["column"]))
    return Difference(name, TITLES[name], SPEED if name == "device" else RESULT, dataset, columns, tuple(values))


def _values(rows: pd.DataFrame, name: str) -> Iterator[Value]:
    for text, part in rows.groupby(f"{name}_text", sort=True):
        yield Value(str(text), tuple(dict.fromkeys(part["group"])), part["run_id"].nunique())


def _some(names: tuple[str, ...], most: int = 4) -> str:
    shown = list(names) if len(names) <= most else [*names[: most - 1], f"{len(names) - most + 1} others"]
    return listed(shown)
