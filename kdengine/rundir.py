"""A run folder: the one place that knows the names of its files and how each is written.

Reads / writes: the files of one run folder. ``spec.json`` is written once, ``events.jsonl`` only grows, everything else is
written aside and renamed, so a reader never meets half a file. Never: torch, the queue, processes, locks.
"""

from __future__ import annotations

import functools
import json
import os
import re
import secrets
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, TypeVar

from kdengine.durable import flush_folder, write_aside
from kdengine.errors import KdError, UnknownKey, unknown
from kdengine.eventlog import EventLog, Reject
from kdengine.events import Ended, EpochEnded, Event, Notice, Started, now
from kdengine.home import Home
from kdengine.spec import RunSpec

LOG_TAIL_BYTES = 1 << 16
_NOT_FOR_TAKING = re.compile(r"^(lock|progress\.json|(attempt|resume)-\d+\.json|\..*)$")
_ATTEMPT = re.compile(r"^attempt-(\d+)\.json$")
_RESUME = re.compile(r"^resume-(\d+)\.json$")
_Record = TypeVar("_Record")


@dataclass(frozen=True, slots=True)
class Request:
    """What was asked for: the content of ``spec.json``. ``created_at`` is UTC text and orders the queue.

    ``owner``: short name of who launched it, None without sign-in. ``identity`` is ``spec.identity()``, kept here because every
    launch compares it with that of all runs.
    """

    run_id: str
    created_at: str
    spec: RunSpec
    teacher_run: str | None = None
    retry_of: str | None = None
    owner: str | None = None
    identity: str = ""


@dataclass(frozen=True, slots=True)
class Attempt:
    """One start of a worker: ``attempt-N.json``. ``pid`` is None until the process exists.

    ``events_bytes``: length of ``events.jsonl`` at the start, so that words of this attempt are told from earlier ones
    without trusting a clock.
    """

    n: int
    pid: int | None
    host: str
    boot: str
    started_at: str
    slot: str
    events_bytes: int = 0


@dataclass(frozen=True, slots=True)
class ResumeAsk:
    """A wish for attempt ``n`` that waits in the queue: ``resume-N.json``; over when ``attempt-N.json`` is there."""

    n: int
    asked_at: str
    events_bytes: int = 0


@dataclass(frozen=True, slots=True)
class Progress:
    """Where the worker is inside an epoch. ``epoch`` is the one under way, from 1; ``step`` counts finished steps."""

    phase: str
    epoch: int
    epochs: int
    step: int
    steps: int
    at: str
    images_per_s: float | None = None


@dataclass(frozen=True, slots=True)
class Artifact:
    """A file of the run that a person may take away. ``bytes`` is its size."""

    name: str
    bytes: int


class RunDir:
    """One run folder; ``run_id`` is its name. Making the object touches nothing."""

    __slots__ = ("path",)

    def __init__(self, path: Path | str) -> None:
        self.path = Path(path)

    def __repr__(self) -> str:
        return f"RunDir({str(self.path)!r})"

    def __eq__(self, other: object) -> bool:
        return isinstance(other, RunDir) and other.path == self.path

    def __hash__(self) -> int:
        return hash(self.path)

    @property
    def run_id(self) -> str:
        """Name of the run, of its folder, in the database and in URLs."""
        return self.path.name

    @property
    def spec_json(self) -> Path:
        """The request; written once, before the folder becomes visible."""
        return self.path / "spec.json"

    @property
    def events_jsonl(self) -> Path:
        """The record: one event per line, only ever appended to."""
        return self.path / "events.jsonl"

    @property
    def log(self) -> Path:
        """Everything the worker printed, all attempts."""
        return self.path / "worker.log"

    @property
    def lock(self) -> Path:
        """Held (flock) as long as a worker lives; its text names the holder for people."""
        return self.path / "lock"

    @property
    def progress_json(self) -> Path:
        """Where the worker is inside the epoch; replaced every second or so, expendable."""
        return self.path / "progress.json"

    @property
    def last_pt(self) -> Path:
        """The checkpoint to resume from."""
        return self.path / "last.pt"

    @property
    def predictions_npz(self) -> Path:
        """Test logits and labels, written at the end."""
        return self.path / "predictions.npz"

    @property
    def features_npz(self) -> Path:
        """Embeddings and stage maps of a fixed set of test images, written at the end."""
        return self.path / "features.npz"

    @property
    def environment_json(self) -> Path:
        """Versions and hardware of the worker."""
        return self.path / "environment.json"

    def best_weights(self, network: str) -> Path:
        """Return where the best weights of ``network`` (``student``, ``peer1``, ...) are stored."""
        return self.path / f"best-{network}.safetensors"

    @classmethod
    def create(
        cls, home: Home, spec: RunSpec, *, teacher_run: str | None = None, retry_of: str | None = None, owner: str | None = None
    ) -> RunDir:
        """Make the folder of a new run: built aside, then renamed, so that half a run is never visible.

        Raises:
            OSError: the disk is full or cannot be written; nothing is left in ``runs``.
        """
        run_id = new_run_id(spec)
        aside = home.root / ".new" / run_id
        aside.mkdir(parents=True)
        request = {"run_id": run_id, "created_at": now(), "spec": spec.model_dump(mode="json"), "teacher_run": teacher_run}
        write_aside(aside / "spec.json", json.dumps(request | {"retry_of": retry_of, "owner": owner}, indent=1).encode())
        aside.rename(home.runs / run_id)
        flush_folder(home.runs)
        return cls(home.runs / run_id)

    def read_request(self) -> Request:
        """Return what was asked for (kept in memory: the file never changes).

        Raises:
            SpecError: the spec inside does not hold.
            ValueError: the file is missing, torn or not a request.
        """
        try:
            return _request_at(str(self.spec_json), self.spec_json.stat().st_mtime_ns)
        except (OSError, KeyError, TypeError) as error:
            raise ValueError(f"{self.spec_json} cannot be read: {error}") from error

    def request_or_none(self) -> Request | None:
        """Return what was asked for, None where that cannot be read."""
        try:
            return self.read_request()
        except (ValueError, KdError):
            return None

    # -- events ---------------------------------------------------------------------------------------------------------

    def events_bytes(self) -> int:
        """Return the length of ``events.jsonl``; 0 where there is none yet."""
        return EventLog(self.events_jsonl).size()

    def read_events(self, start: int = 0) -> tuple[list[Event], int]:
        """Return the events of all complete lines from byte ``start`` on, and the position to go on from.

        Half a line at the end is left for later; a complete line that is no event is skipped (see ``scan_events``).
        """
        events, position, _ = self.scan_events(start)
        return events, position

    def scan_events(self, start: int = 0) -> tuple[list[Event], int, list[Reject]]:
        """Return events, next position and rejected lines from byte ``start`` on."""
        return EventLog(self.events_jsonl).scan(start)

    def last_event(self, since: int = 0) -> Event | None:
        """Return the newest event that begins at byte ``since`` or later; reads only the end of the file."""
        return next(EventLog(self.events_jsonl).backwards(since), None)

    def last_epoch(self) -> EpochEnded | None:
        """Return the newest ended epoch, of whatever phase."""
        return next((e for e in EventLog(self.events_jsonl).backwards() if isinstance(e, EpochEnded)), None)

    def append_event(self, event: Started | Notice | EpochEnded | Ended) -> None:
        """Append one event as one line, on disk when this returns. For the holder of the lock only.

        Raises:
            OSError: the disk is full or failing; the event may be given again.
        """
        EventLog(self.events_jsonl).append(event)

    # -- attempts -------------------------------------------------------------------------------------------------------

    def attempts(self) -> list[Attempt]:
        """Return all starts of a worker, first to last."""
        return self._records(_ATTEMPT, Attempt)

    def write_attempt(self, attempt: Attempt) -> None:
        """Record a start; again, with its pid, once the process is there. For the runner, which holds the lock then."""
        write_aside(self.path / f"attempt-{attempt.n}.json", json.dumps(asdict(attempt)).encode())

    def resume_ask(self) -> ResumeAsk | None:
        """Return the wish to be resumed that no attempt has answered yet."""
        asks, attempts = self._records(_RESUME, ResumeAsk), self._numbers(_ATTEMPT)
        return asks[-1] if asks and asks[-1].n > max(attempts, default=0) else None

    def write_resume_ask(self) -> ResumeAsk:
        """Ask for one more attempt. For the runner, which holds the lock then."""
        ask = ResumeAsk(max(self._numbers(_ATTEMPT), default=0) + 1, now(), self.events_bytes())
        write_aside(self.path / f"resume-{ask.n}.json", json.dumps(asdict(ask)).encode())
        return ask

    def _numbers(self, pattern: re.Pattern[str]) -> list[int]:
        with os.scandir(self.path) as entries:
            return sorted(int(found[1]) for entry in entries if (found := pattern.match(entry.name)))

    def _records(self, pattern: re.Pattern[str], kind: type[_Record]) -> list[_Record]:
        word = pattern.pattern.removeprefix("^").split("-")[0]
        found = []
        for n in self._numbers(pattern):
            values = _read_json(self.path / f"{word}-{n}.json")
            if values is not None:
                found.append(_known_fields(kind, values))
        return found

    # -- progress, log, files -------------------------------------------------------------------------------------------

    def read_progress(self) -> Progress | None:
        """Return where the worker was last seen inside an epoch; None before the first word or when unreadable."""
        values = _read_json(self.progress_json)
        try:
            return None if values is None else _known_fields(Progress, values)
        except TypeError:
            return None

    def write_progress(self, values: dict[str, Any]) -> None:
        """Replace ``progress.json`` by the fields of ``Progress``; ``at`` is added where it is missing.

        Raises:
            OSError: the disk is full. A worker may ignore that: nothing rests on this file.
        """
        write_aside(self.progress_json, json.dumps({"at": now()} | values).encode(), durable=False)

    def tail_log(self, lines: int = 40) -> str:
        """Return the last ``lines`` lines of what the worker printed; "" where there is nothing."""
        try:
            with self.log.open("rb") as file:
                file.seek(max(0, file.seek(0, os.SEEK_END) - LOG_TAIL_BYTES))
                text = file.read().decode(errors="replace")
        except FileNotFoundError:
            return ""
        return "\n".join(text.splitlines()[-lines:])

    def artifacts(self) -> list[Artifact]:
        """Return the files that may be taken away, by name."""
        with os.scandir(self.path) as entries:
            files = [Artifact(e.name, e.stat().st_size) for e in entries if e.is_file() and not _NOT_FOR_TAKING.match(e.name)]
        return sorted(files, key=lambda artifact: artifact.name)

    def read_artifact(self, name: str) -> bytes:
        """Return the content of one of ``artifacts``.

        Raises:
            UnknownKey: the run has no such file to take away.
        """
        known = [artifact.name for artifact in self.artifacts()]
        if name not in known:
            raise UnknownKey(unknown("file", name, known))
        return (self.path / name).read_bytes()


def new_run_id(spec: RunSpec) -> str:
    """Return a fresh name, ``20261121-012345-<method>-<6 hex>``: safe as folder and URL, sorts by time (UTC)."""
    method = re.sub(r"[^a-z0-9_]+", "-", spec.method.lower())[:24].strip("-") or "run"
    return f"{datetime.now(UTC):%Y%m%d-%H%M%S}-{method}-{secrets.token_hex(3)}"


def run_dirs(home: Home) -> list[RunDir]:
    """Return all runs, oldest first (to the second). What is not a run folder is ignored."""
    try:
        with os.scandir(home.runs) as entries:
            names = sorted(entry.name for entry in entries if not entry.name.startswith("."))
    except FileNotFoundError:
        return []
    return [RunDir(home.runs / name) for name in names if (home.runs / name / "spec.json").is_file()]


def find_run(home: Home, run_id: str) -> RunDir:
    """Return the run of that name; the beginning or end of a name will do where it fits only one.

    Raises:
        UnknownKey: no run fits, or several do.
    """
    runs = {run.run_id: run for run in run_dirs(home)}
    if run_id in runs:
        return runs[run_id]
    fits = [name for name in runs if run_id and (name.startswith(run_id) or name.endswith(run_id))]
    if len(fits) == 1:
        return runs[fits[0]]
    if fits:
        raise UnknownKey.of(f"{run_id!r}, which fits {len(fits)} runs", ", ".join(fits[-5:]), "write more of the name", "run")
    raise UnknownKey(unknown("run", run_id, list(runs)[-8:], do="(`python -m kdengine status` lists them)"))


@functools.lru_cache(maxsize=4096)
def _request_at(path: str, _mtime_ns: int) -> Request:
    values = json.loads(Path(path).read_bytes())
    spec = RunSpec(**values["spec"])
    owner = values.get("owner")
    links = values.get("teacher_run"), values.get("retry_of"), owner if isinstance(owner, str) else None
    return Request(Path(path).parent.name, values["created_at"], spec, *links, spec.identity())


def _read_json(path: Path) -> dict[str, Any] | None:
    try:
        values = json.loads(path.read_bytes())
    except (FileNotFoundError, ValueError):
        return None
    return values if isinstance(values, dict) else None


def _known_fields(kind: type[_Record], values: dict[str, Any]) -> _Record:
    # a newer version may have written more than this one knows
    return kind(**{key: value for key, value in values.items() if key in kind.__dataclass_fields__})  # type: ignore[attr-defined]
