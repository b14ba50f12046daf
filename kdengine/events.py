"""The events of a run: what a worker says, one JSON line each, in ``events.jsonl``.

Reads / writes: nothing. Never: torch. A reader for every earlier ``EVENTS_VERSION`` stays in ``parse``.
"""

from __future__ import annotations

import json
from datetime import UTC, datetime
from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, TypeAdapter

EVENTS_VERSION = 1


def now() -> str:
    """Return the present moment as UTC text with microseconds, ``2026-01-31T12:00:00.000000Z``."""
    return datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%S.%fZ")


class _Event(BaseModel):
    model_config = ConfigDict(frozen=True, extra="ignore")
    at: str = Field(default_factory=now)


class NetworkInfo(BaseModel):
    """One network of the run: its place (``student``, ``peer1``, ``teacher``), model key, size."""

    model_config = ConfigDict(frozen=True)
    network: str
    model: str
    params: int
    macs: int = Field(description="multiply-adds for one image")


class Started(_Event):
    """A worker began (attempt 1) or took up again (attempt > 1) this run."""

    kind: Literal["started"] = "started"
    v: int = EVENTS_VERSION
    attempt: int
    device: str = Field(description="cpu, cuda:0, mps")
    device_name: str
    precision: str = Field(description="fp32 or bf16, as used")
    threads: int
    cpu_capability: str
    versions: dict[str, str]
    networks: list[NetworkInfo]
    teacher_run: str | None = None
    teacher_top1_frac: float | None = None
    train_images: int
    val_images: int
    test_images: int
    classes: int
    epochs: int
    phases: list[str] = Field(description="names of the phases in order; the last one is main")


class Notice(_Event):
    """Something a person should know: not bit-exact after a move to another machine, a dropped batch."""

    kind: Literal["notice"] = "notice"
    text: str


class Measures(BaseModel):
    """What one network showed at the end of an epoch. Shares are 0 to 1; None = not measured."""

    model_config = ConfigDict(frozen=True, extra="ignore")
    train_loss: float | None = None
    train_top1_frac: float | None = None
    test_loss: float | None = None
    test_top1_frac: float | None = None
    test_top5_frac: float | None = None
    test_ece_frac: float | None = None
    val_loss: float | None = None
    val_top1_frac: float | None = None
    agreement_frac: float | None = Field(None, description="share of test images where student and teacher say the same")
    teacher_kl: float | None = Field(None, description="mean KL(teacher || student) on the test images, nats, T = 1")


class EpochEnded(_Event):
    """One epoch of one phase is over. ``measures`` is empty in a phase before main."""

    kind: Literal["epoch"] = "epoch"
    phase: str = "main"
    epoch: int = Field(ge=1)
    epochs: int = Field(ge=1, description="epochs of this phase")
    images_seen: int = Field(description="training images shown since the start of the run, all phases")
    elapsed_s: float = Field(description="training time since the start of the run, pauses not counted")
    epoch_s: float
    images_per_s: float
    lr: float
    peak_mib: float | None = Field(None, description="peak memory: of the GPU, or resident of the process on a CPU")
    measures: dict[str, Measures] = {}
    terms: dict[str, dict[str, float | None]] = Field({}, description="network -> loss term -> mean over the epoch")


class Ended(_Event):
    """The last word of an attempt."""

    kind: Literal["ended"] = "ended"
    how: Literal["finished", "failed", "cancelled"]
    reason: str = ""
    problems: list[dict[str, str]] = []
    elapsed_s: float = 0.0


Event = Annotated[Started | Notice | EpochEnded | Ended, Field(discriminator="kind")]
_ADAPTER: TypeAdapter[Any] = TypeAdapter(Event)


def to_line(event: _Event) -> bytes:
    """Return the event as one JSON line, newline included. NaN and infinities are written as null."""
    return (json.dumps(_finite(event.model_dump(mode="json")), separators=(",", ":")) + "\n").encode()


def parse(line: bytes) -> Started | Notice | EpochEnded | Ended:
    """Read one line.

    Raises:
        ValueError: it is not an event of this or an earlier version (pydantic's ValidationError is one).
    """
    return _ADAPTER.validate_json(line)


def _finite(value: Any) -> Any:
    if isinstance(value, dict):
        return {k: _finite(v) for k, v in value.items()}
    if isinstance(value, list):
        return [_finite(v) for v in value]
    return None if isinstance(value, float) and (value != value or value in (float("inf"), float("-inf"))) else value
