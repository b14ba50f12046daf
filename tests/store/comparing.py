"""Results of runs as ``queries.results`` returns them, made of what a test wants to say. Never: a store, a training."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from typing import Any

import pandas as pd

PLAIN: dict[str, Any] = {
    "method": "base", "dataset": "digits", "student": "resnet8", "teacher": None, "peers": [], "seed": 0, "recipe": "quick",
    "suite": None, "tags": [], "generation": 0, "params": "{}", "status": "finished", "epochs": 15, "epoch": 15,
    "best_frac": 0.5, "last_frac": 0.5, "val_choice_frac": float("nan"), "agreement_frac": float("nan"),
    "teacher_kl": float("nan"), "ece_frac": 0.05, "teacher_run": None, "teacher_top1_frac": float("nan"), "elapsed_s": 20.0,
    "images_seen": 1500, "images_per_s": 500.0, "epoch_s": 0.2, "peak_mib": 900.0, "student_params": 78_042,
    "student_macs": 12_501_632, "teacher_params": None, "teacher_macs": None, "device": "cpu", "device_name": "a processor",
    "precision": "fp32", "train_images": 100, "val_frac": 0.0, "image_size": 32, "batch_size": 16, "optimizer": "sgd", "lr": 0.03,
    "momentum": 0.9, "nesterov": True, "weight_decay": 5e-4, "schedule": "cosine", "milestones": [], "gamma": 0.1,
    "warmup_frac": 0.1, "crop_pad": 2, "crop_mode": "reflect", "flip": True, "bn_momentum": 0.3, "combine": None,
    "teacher_recipe": None, "teacher_epochs": None, "teacher_seed": 0, "teacher_weights": None,
}  # fmt: skip
TAUGHT = {"teacher": "resnet20", "teacher_run": "t-0", "teacher_top1_frac": 0.99}
_NO_SETTING = {
    "seed", "suite", "tags", "status", "epoch", "best_frac", "last_frac", "val_choice_frac", "teacher_run", "teacher_seed",
    "teacher_top1_frac", "elapsed_s", "images_per_s", "peak_mib", "device", "device_name", "student_params", "student_macs",
}  # fmt: skip


def runs(method: str, accuracies: Sequence[float], **fields: Any) -> list[dict[str, Any]]:
    """Return one run per accuracy (best on test), seeds from ``seed`` (0) on; ``fields``: of all of them.

    A method other than base is taught by resnet20 unless ``teacher`` says otherwise. The last epoch is 0.01 worse.
    """
    own = PLAIN | ({} if method == "base" else TAUGHT) | fields | {"method": method}
    core = {name: value for name, value in own.items() if name not in _NO_SETTING}
    setting = hashlib.sha256(repr(sorted(core.items(), key=str)).encode()).hexdigest()[:16]
    first = own.pop("seed")
    return [
        own | {"seed": first + n, "best_frac": a, "last_frac": a - 0.01, "setting": setting} for n, a in enumerate(accuracies)
    ]


def results(*groups: list[dict[str, Any]]) -> pd.DataFrame:
    """Return the runs of all groups as one frame, in the order of their creation."""
    rows = [run for group in groups for run in group]
    made = pd.date_range("2026-01-01", periods=len(rows), freq="min")
    frame = pd.DataFrame(rows, columns=[*PLAIN, "setting"])
    return frame.assign(run_id=[f"{n:04d}-{row['method']}" for n, row in enumerate(rows)], created_at=made)


def setting_of(frame: pd.DataFrame, method: str) -> str:
    """Return the group key of the method's only setting."""
    (key,) = frame.loc[frame["method"] == method, "setting"].unique()
    return str(key)
