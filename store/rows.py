"""From a request and its events to rows of the tables: plain dictionaries, no database.

Reads / writes: nothing. Never: DuckDB, a path of this machine in a row (paths are cut to file names).
"""

from __future__ import annotations

import json
from collections.abc import Iterable
from datetime import UTC, datetime
from pathlib import PurePath
from typing import Any

import pyarrow as pa

from kdengine.events import Ended, EpochEnded, NetworkInfo, Notice, Started
from kdengine.spec import RunSpec

Row = dict[str, Any]

_ARROW = {
    "VARCHAR": pa.string(),
    "JSON": pa.string(),
    "VARCHAR[]": pa.list_(pa.string()),
    "DOUBLE[]": pa.list_(pa.float64()),
    "BIGINT": pa.int64(),
    "INTEGER": pa.int32(),
    "DOUBLE": pa.float64(),
    "BOOLEAN": pa.bool_(),
    "TIMESTAMP": pa.timestamp("us"),
}
_PLAIN = (
    "method", "dataset", "student", "teacher", "seed", "recipe", "suite", "note", "epochs", "image_size", "train_images",
    "val_frac", "generation", "teacher_method", "teacher_recipe", "teacher_epochs", "teacher_train_images", "teacher_seed",
    "batch_size", "optimizer", "lr", "momentum", "nesterov", "weight_decay", "schedule", "gamma", "warmup_frac", "crop_pad",
    "crop_mode", "flip", "bn_momentum", "precision", "device",
)  # fmt: skip
_MEASURES = (
    "train_loss", "train_top1_frac", "test_loss", "test_top1_frac", "test_top5_frac", "test_ece_frac", "val_loss",
    "val_top1_frac", "agreement_frac", "teacher_kl",
)  # fmt: skip


def arrow(rows: Iterable[Row], types: dict[str, str]) -> pa.Table:
    """Return the rows as an Arrow table whose columns are ``types`` (name -> DuckDB type); a missing value is NULL."""
    return pa.Table.from_pylist(list(rows), schema=pa.schema([(name, _ARROW[kind]) for name, kind in types.items()]))


def moment(text: str | None) -> datetime | None:
    """Return ISO time as UTC without a zone, the way the database stores it; None for nothing or no time."""
    if not text:
        return None
    try:
        parsed = datetime.fromisoformat(str(text))
    except ValueError:
        return None
    return parsed.astimezone(UTC).replace(tzinfo=None) if parsed.tzinfo else parsed


def setting_of(spec: RunSpec) -> str:
    """Return a hash of all that decides what is learnt but the seeds: replicas over seeds share it."""
    return spec.hash_without("seed", "teacher_seed")  # a run that differs in nothing else is the same setting again


def first_row(run_id: str, request: Any) -> Row:
    """Return the row of ``runs`` for a request that no worker has touched yet."""
    spec: RunSpec = request.spec
    row: Row = {name: getattr(spec, name) for name in _PLAIN}
    return row | {
        "run_id": run_id,
        "created_at": moment(request.created_at),
        "tags": list(spec.tags),
        "peers": list(spec.peers),
        "milestones": list(spec.milestones),
        "params": json.dumps(spec.params),
        "combine": spec.combine.method if spec.combine else None,
        "combine_weight": spec.combine.weight if spec.combine else None,
        "combine_params": json.dumps(spec.combine.params) if spec.combine else None,
        "student_options": json.dumps(spec.student_options),
        "teacher_options": json.dumps(spec.teacher_options),
        "student_init": _file_name(spec.student_init),
        "teacher_weights": _file_name(spec.teacher_weights),
        "teacher_run": request.teacher_run or spec.teacher_run,
        "retry_of": request.retry_of,
        "owner": request.owner,
        "setting": setting_of(spec),
        "spec": json.dumps(_without_paths(spec)),
        "epoch": 0,
        "attempts": 0,
        "bad_lines": 0,
        "notices": [],
    }


def apply(row: Row, event: Started | Notice | EpochEnded | Ended) -> None:
    """Bring the row of ``runs`` up to one event. Applying an event twice changes nothing more."""
    if isinstance(event, Started):
        _started(row, event)
    elif isinstance(event, EpochEnded):
        row.update(phase=event.phase, elapsed_s=event.elapsed_s, images_seen=event.images_seen)
        row["peak_mib"] = max((m for m in (row.get("peak_mib"), event.peak_mib) if m is not None), default=None)
        if event.phase == "main":
            row["epoch"] = event.epoch
    elif isinstance(event, Ended):
        row.update(ended_at=moment(event.at), reason=event.reason or None, expected_at=None)
        row["problems"] = json.dumps(event.problems) if event.problems else None
        row["elapsed_s"] = event.elapsed_s or row.get("elapsed_s")
    elif event.text not in row["notices"]:
        row["notices"] = [*row["notices"], event.text]


def epoch_rows(run_id: str, event: EpochEnded) -> list[Row]:
    """Return the rows of ``epochs``: one per network; none in a phase before main."""
    if event.phase != "main":
        return []
    shared = {
        "run_id": run_id, "epoch": event.epoch, "images_seen": event.images_seen, "elapsed_s": event.elapsed_s,
        "lr": event.lr, "epoch_s": event.epoch_s, "images_per_s": event.images_per_s, "peak_mib": event.peak_mib,
        "ended_at": moment(event.at),
    }  # fmt: skip
    return [
        shared | {"network": network} | {name: getattr(measures, name) for name in _MEASURES}
        for network, measures in event.measures.items()
    ]


def term_rows(run_id: str, event: EpochEnded) -> list[Row]:
    """Return the rows of ``terms`` of one epoch of any phase."""
    place = {"run_id": run_id, "phase": event.phase, "epoch": event.epoch}
    return [
        place | {"network": network, "term": term, "value": value}
        for network, terms in event.terms.items()
        for term, value in terms.items()
    ]


def _started(row: Row, event: Started) -> None:
    row.update(
        attempts=max(row.get("attempts") or 0, event.attempt),
        started_at=row.get("started_at") or moment(event.at),
        device=event.device, device_name=event.device_name, precision=event.precision, threads=event.threads,
        cpu_capability=event.cpu_capability, versions=json.dumps(event.versions), train_images=event.train_images,
        val_images=event.val_images, test_images=event.test_images, classes=event.classes, epochs=event.epochs,
        teacher_top1_frac=event.teacher_top1_frac, teacher_run=event.teacher_run or row.get("teacher_run"),
        phase=row.get("phase") or (event.phases[0] if event.phases else None),
        ended_at=None, reason=None, problems=None,
    )  # fmt: skip
    for network in event.networks:
        _network(row, network)


def _network(row: Row, network: NetworkInfo) -> None:
    if network.network in ("student", "teacher"):
        row[f"{network.network}_params"] = network.params
        row[f"{network.network}_macs"] = network.macs


def _file_name(path: str | None) -> str | None:
    return PurePath(path).name if path else None


def _without_paths(spec: RunSpec) -> dict[str, Any]:
    values = spec.model_dump(mode="json")
    for name in ("student_init", "teacher_weights"):
        values[name] = _file_name(values[name])
    values["peer_inits"] = [_file_name(path) for path in values["peer_inits"]]
    return values
