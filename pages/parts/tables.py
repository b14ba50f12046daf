"""Tables: frames of the store turned into what people read, with the kind and meaning of each column.

Reads: the frames it is given. Writes: nothing. Never: Streamlit (``blocks.table`` draws them), the store.
"""

from __future__ import annotations

import json
import math
from collections.abc import Iterable
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from typing import Any, Literal

import numpy as np
import pandas as pd
from pandas.io.formats.style import Styler

from pages.parts import words

Kind = Literal["text", "number", "percent", "progress", "sparkline", "wide", "list"]
SPARK_POINTS = 40
MOST_COLOURED = 300  # rows; colouring a row costs more than all the rest of it, and its mark says the same
TIMED = ["status", "position", "expected_at", "eta_s"]
HEX = {
    "gray": "#7d828b",
    "blue": "#3b82d6",
    "green": "#2f9e62",
    "red": "#d9483b",
    "orange": "#c77d0a",
}  # readable on both backgrounds


@dataclass(frozen=True, slots=True)
class Column:
    """How one column is shown: its ``kind``, what it means (the tooltip of its head), and its width, pixels; None = by itself."""

    kind: Kind
    meaning: str = ""
    width: int | None = None


@dataclass(frozen=True, slots=True)
class Table:
    """A frame ready to be shown, its columns described by name, in order."""

    frame: pd.DataFrame | Styler
    columns: dict[str, Column]


RUNS: dict[str, Column] = {
    "Status": Column("text", "queued, waiting for a teacher, running, finished, failed, cancelled or lost"),
    "Method": Column("text", "how the student learns"),
    "Networks": Column("text", "teacher → student"),
    "Data": Column("text", "dataset; a number in brackets is the size of a subset"),
    "Seed": Column("number", "decides initial weights and the order of images"),
    "Progress": Column("progress", "epochs done"),
    "Left": Column("text", "time to the end; for a queued run its place in the queue"),
    "Best": Column("percent", "best test accuracy over its epochs (chosen on the test images), one run"),
    "Curve": Column("sparkline", "test accuracy per epoch"),
    "Suite": Column("text", "group of runs launched together"),
    "Tags": Column("list", "words to find the run by"),
    "Note": Column("text", "what somebody wrote about the run"),
    "Owner": Column("text", "who launched it"),
    "Launched": Column("text", "when the run was launched"),
    "Run": Column("text", "name of the run and of its folder"),
}


def runs(frame: pd.DataFrame, *, leave_out: tuple[str, ...] = (), now: datetime | None = None) -> Table:
    """Return the table of runs, one row per row of ``frame`` (as ``queries.runs`` returns them), statuses in words and, where
    there are not too many, in colour.

    Tags, notes and owners are left out where no run has any.
    """
    moment = now or datetime.now(UTC)
    shown = pd.DataFrame(
        {
            "Status": [status_text(s) for s in frame["status"]],
            "Method": frame["method"].to_list(),
            "Networks": [words.pair_of(t, s) for t, s in zip(frame["teacher"], frame["student"], strict=True)],
            "Data": frame["dataset"].to_list(),
            "Seed": frame["seed"].to_list(),
            "Progress": [100 * _share(e, n) for e, n in zip(frame["epoch"], frame["epochs"], strict=True)],
            "Left": [left(row, moment) for row in rows(frame.filter(TIMED))],
            "Best": [100 * v if not words.missing(v) else None for v in frame["best_top1_frac"]],
            "Curve": [_points(c) for c in frame["curve"]],
            "Suite": [s if not words.missing(s) else "" for s in frame["suite"]],
            "Tags": [list(tags) for tags in frame["tags"]],
            "Note": frame["note"].fillna("").to_list(),
            "Owner": [o if not words.missing(o) else "" for o in frame["owner"]],
            "Launched": [words.ago(at, moment) for at in frame["created_at"]],
            "Run": frame["run_id"].to_list(),
        }
    )
    unused = [name for name in ("Tags", "Note", "Owner") if not shown[name].astype(bool).any()]
    leave_out = (*leave_out, *unused)
    shown = shown.drop(columns=list(leave_out))
    long = {name: replace(RUNS[name], width=fitting(shown[name])) for name in ("Method", "Data") if name in shown}
    columns = {name: long.get(name, column) for name, column in RUNS.items() if name not in leave_out}
    if not 0 < len(shown) <= MOST_COLOURED:
        return Table(shown, columns)
    colours = [f"color: {HEX[words.STATUSES[s].colour]}; font-weight: 600" for s in frame["status"]]
    return Table(shown.style.apply(lambda _: colours, subset=["Status"], axis=0), columns)


def fitting(texts: Iterable[str]) -> int:
    """Return the width, pixels, of a column in which all of ``texts`` can be read; by itself a column fits its first rows."""
    return min(220, max(60, 24 + 8 * max((len(text) for text in texts), default=0)))


def most_pressing(frame: pd.DataFrame) -> pd.DataFrame:
    """Return the active runs as they will train: what runs, then the queue by place, then what waits for a teacher."""
    rank = frame["status"].map({status: place for place, status in enumerate(("running", "queued", "waiting"))})
    return frame.assign(_rank=rank).sort_values(["_rank", "position", "created_at"]).drop(columns="_rank")


def rows(frame: pd.DataFrame) -> list[dict[str, Any]]:
    """Return a frame's rows as plain dictionaries."""
    return [{str(name): value for name, value in row.items()} for row in frame.to_dict("records")]


def status_text(status: str) -> str:
    """Return a status with its mark, so that colour is never alone: ``● running``."""
    known = words.STATUSES[status]
    return f"{known.mark} {known.word}"


def left(row: dict[str, Any], now: datetime) -> str:
    """Return the time to the end of a running run, the place in the queue of a queued one, "" otherwise."""
    if row["status"] == "running":
        return words.duration(eta_s(row, now))
    position = row.get("position")
    if row["status"] in ("queued", "waiting") and position is not None and not words.missing(position):
        return f"place {int(position)}"
    return ""


def eta_s(row: dict[str, Any], now: datetime) -> float | None:
    """Return the seconds that a running run will still take: from ``expected_at`` where it is known, else ``eta_s``."""
    expected = row.get("expected_at")
    if not words.missing(expected) and expected is not None:
        moment = expected if expected.tzinfo else expected.replace(tzinfo=UTC)
        return max(0.0, (moment - now).total_seconds())
    value = row.get("eta_s")
    return None if words.missing(value) else value


BEST_OF: dict[str, Column] = {
    "Method": Column("text", "key of the method"),
    "Networks": Column("text", "teacher → student"),
    "Data": Column("text", "dataset"),
    "Best": Column("wide", "mean ± standard deviation over seeds of the best test accuracy, chosen on the test images, percent"),
    "Last": Column("wide", "mean ± standard deviation over seeds of the test accuracy after the last epoch, percent"),
    "Seeds": Column("number", "n: seeds with a run; of several runs of one seed the newest counts"),
    "Images/s": Column("number", "training speed, mean"),
    "Recipe": Column("text", "named set of training fields; a + means that some were changed"),
}


def best_of(frame: pd.DataFrame) -> Table:
    """Return best and last accuracy per method, best first; bold = best, italic = within the noise of the best.

    ``frame``: as ``queries.leaderboard`` returns it.
    """
    frame = frame.sort_values("best_mean_frac", ascending=False, na_position="last").reset_index(drop=True)
    shown = pd.DataFrame(
        {
            "Method": frame["method"],
            "Networks": [words.pair_of(t, s) for t, s in zip(frame["teacher"], frame["student"], strict=True)],
            "Data": frame["dataset"],
            "Best": [words.spread(m, s) for m, s in zip(frame["best_mean_frac"], frame["best_std_frac"], strict=True)],
            "Last": [words.spread(m, s) for m, s in zip(frame["last_mean_frac"], frame["last_std_frac"], strict=True)],
            "Seeds": frame["n"],
            "Images/s": frame["images_per_s"].round().astype("Int64"),
            "Recipe": frame["recipe"],
        }
    )
    style = shown.style.hide(axis="index").format("{:,}", subset=["Images/s"], na_rep="–")
    for name, which in (("Best", "best"), ("Last", "last")):
        marks = _marks(frame[f"{which}_mean_frac"], frame[f"{which}_std_frac"])
        style = style.apply(lambda _, m=marks: m, subset=[name], axis=0)
    style = style.set_properties(subset=["Best", "Last", "Seeds", "Images/s"], **{"text-align": "right", "white-space": "nowrap"})
    return Table(style, BEST_OF)


def _marks(means: pd.Series, stds: pd.Series) -> list[str]:
    """Return the style of each cell: bold for the greatest mean, italic where it is less than two deviations below."""
    if means.isna().all():
        return [""] * len(means)
    best = int(means.to_numpy(dtype=float, na_value=-1.0).argmax())
    noise = 2 * max(float(stds.fillna(0)[best]), 1e-9)
    marks = []
    for place, (mean, std) in enumerate(zip(means, stds.fillna(0), strict=True)):
        near = not pd.isna(mean) and means[best] - mean <= max(noise, 2 * std)
        marks.append("font-weight: 700" if place == best else "font-style: italic" if near else "")
    return marks


# fields of a run -> what people call them
MACHINE = {
    "owner": "Launched by",
    "device": "Device",
    "device_name": "Processor",
    "precision": "Precision",
    "threads": "CPU threads",
    "cpu_capability": "Vector instructions",
    "peak_mib": "Peak memory, MiB",
    "attempts": "Starts",
    "versions": "Versions",
}
ASKED = {
    "recipe": "Recipe",
    "epochs": "Epochs",
    "batch_size": "Batch size",
    "optimizer": "Optimiser",
    "lr": "Learning rate",
    "schedule": "Schedule",
    "weight_decay": "Weight decay",
    "train_images": "Training images",
    "seed": "Seed",
    "params": "Knobs",
    "teacher_run": "Teacher's run",
    "suite": "Suite",
}


def facts(row: dict[str, Any], fields: dict[str, str]) -> dict[str, str]:
    """Return chosen fields of one row in words, by what people call them; fields without a value are left out."""
    found = {title: _plain(row.get(name)) for name, title in fields.items()}
    return {title: value for title, value in found.items() if value}


def _plain(value: Any) -> str:
    if isinstance(value, (list, tuple)) or getattr(value, "ndim", None):
        return ", ".join(str(v) for v in value)
    if words.missing(value):
        return ""
    if isinstance(value, str) and value.startswith("{"):
        return ", ".join(f"{k} {v}" for k, v in json.loads(value).items())
    return words.number(value) if isinstance(value, float) else str(value)


def _share(done: Any, total: Any) -> float:
    return 0.0 if words.missing(done) or not total else min(1.0, float(done) / float(total))


def _points(curve: Any) -> list[float]:
    """Return what a sparkline of a few millimetres can show, in percent: at most ``SPARK_POINTS``, the last one among them."""
    if curve is None or isinstance(curve, float):
        return []
    values = np.asarray(curve, np.float32)
    values = values[np.isfinite(values)]
    kept: list[float] = (100 * values[:: -max(1, math.ceil(len(values) / SPARK_POINTS))][::-1]).round(1).tolist()
    return kept
