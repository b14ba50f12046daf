"""Backups: the record of all runs and the tables in Parquet, in a folder that says what it holds.

``KD_HOME/backups/20261121T021500Z/``: ``record.tar.gz`` (what cannot be made again: requests, events, labels, people, views,
settings; not checkpoints, weights only on request), ``parquet/`` (the tables and views, for readers of any version) and
``backup.json`` (when, of which release, how many rows, length and sha256 of each file). Built aside and renamed.

Reads: run folders, the snapshot, files of the home. Writes: backups; removes old ones. Never: a run folder, the database.
"""

from __future__ import annotations

import contextlib
import hashlib
import io
import json
import os
import re
import secrets
import shutil
import tarfile
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import duckdb

from kdengine import __version__
from kdengine.durable import flush_folder
from kdengine.errors import HomeError, KdError, Problem
from kdengine.home import Home
from kdengine.rundir import run_dirs
from kdengine.slots import Settings, read_settings
from store import schema
from store.columns import COLUMNS
from store.connection import CONFIG
from store.sandbox import make_fresh

STAMP = "%Y%m%dT%H%M%SZ"
ABOUT, RECORD, TABLES = "backup.json", "record.tar.gz", "parquet"
OF_A_RUN = re.compile(r"(spec|labels|environment)\.json|events\.jsonl|(attempt|resume)-\d+\.json")
WEIGHTS = re.compile(r"best-[a-z0-9_]+\.safetensors")
PRIVATE = ("people.json", "audit.jsonl")  # name people: for the account that serves alone
OF_THE_HOME = (*PRIVATE, "views.json", "settings.json", "data/datasets.json")
_FILE = re.compile(rf"{re.escape(RECORD)}|{TABLES}/[a-z_]+\.parquet")
ROOM_BYTES = 64 << 20  # what a backup leaves free: trainings write their events to the same disk
BLOCK = 1 << 20
Report = Callable[[float, float], None]


@dataclass(frozen=True, slots=True)
class Backup:
    """A backup as ``backup.json`` says. ``at`` is UTC; ``counts``: rows of each table; ``files``: name -> (sha256, bytes)."""

    path: Path
    at: datetime
    release: str
    schema: int
    weights: bool
    counts: dict[str, int]
    files: dict[str, tuple[str, int]]

    @property
    def name(self) -> str:
        """Name of its folder."""
        return self.path.name

    @property
    def bytes(self) -> int:
        """What it takes on the disk, without ``backup.json``."""
        return sum(size for _, size in self.files.values())


def folder_of(home: Home) -> Path:
    """Return where the backups of a home lie unless they are put elsewhere."""
    return home.root / "backups"


# ---- making ------------------------------------------------------------------------------------------------------------------


def make(home: Home, to: Path | None = None, *, weights: bool = False, report: Report = lambda done, total: None) -> Backup:
    """Make a backup in ``to`` (None = the home's own folder) and return it. ``report(done, total)`` is told files.

    Trainings may go on and the app may run: what is taken of a run is complete up to the last line it had ended. For one
    process at a time.

    Raises:
        KdError: the disk has no room or fails, or nobody could publish the results; nothing half is left, older backups stand.
    """
    into = folder_of(home) if to is None else to
    aside = into / f".new-{os.getpid()}-{secrets.token_hex(3)}"
    try:
        make_fresh(home)
        into.mkdir(parents=True, exist_ok=True, mode=0o700)  # people.json holds addresses
        for leftover in into.glob(".new-*"):  # of one that was killed
            shutil.rmtree(leftover, ignore_errors=True)
        sources = list(_sources(home, weights))
        _demand_room(into, home.snapshot.stat().st_size + sum(size for _, _, size in sources))
        (aside / TABLES).mkdir(parents=True)
        counts = _write_tables(home.snapshot, aside / TABLES)
        _write_record(aside / RECORD, sources, report)
        return _put_in_place(aside, into, counts, weights)
    except (OSError, duckdb.Error) as error:
        raise _failed(into, error) from error
    finally:
        shutil.rmtree(aside, ignore_errors=True)


def _sources(home: Home, weights: bool) -> Iterator[tuple[Path, str, int]]:
    """Yield what goes into the record: file, its name there, its bytes now."""
    found = [(home.root / name, f"home/{name}") for name in OF_THE_HOME]
    for run in run_dirs(home):
        with contextlib.suppress(FileNotFoundError):  # just being removed
            names = sorted(path.name for path in run.path.iterdir())
            found += [(run.path / name, f"runs/{run.run_id}/{name}") for name in names if _belongs(name, weights)]
    for path, name in found:
        with contextlib.suppress(FileNotFoundError):
            yield path, name, path.stat().st_size


def _belongs(name: str, weights: bool) -> bool:
    return bool(OF_A_RUN.fullmatch(name) or (weights and WEIGHTS.fullmatch(name)))


def _demand_room(into: Path, needed: int) -> None:
    free, wanted = shutil.disk_usage(into).free, needed + ROOM_BYTES
    if free < wanted:
        raise HomeError.of(
            f"{free / 2**20:.0f} MiB free in {into}", f"{wanted / 2**20:.0f} MiB: what it may take, and room for trainings",
            "make room, or put it elsewhere: python -m store backup --to FOLDER", "backup",
        )  # fmt: skip


def _write_tables(snapshot: Path, into: Path) -> dict[str, int]:
    counts = {}
    with duckdb.connect(str(snapshot), read_only=True, config=CONFIG) as con:
        for name in COLUMNS:
            target = str(into / f"{name}.parquet").replace("'", "''")
            con.execute(f"COPY (SELECT * FROM {name}) TO '{target}' (FORMAT parquet, COMPRESSION zstd)")
            counts[name] = int((con.execute(f"SELECT count(*) FROM {name}").fetchone() or (0,))[0])
    return counts


def _write_record(path: Path, sources: list[tuple[Path, str, int]], report: Report) -> None:
    with tarfile.open(path, "w:gz", compresslevel=6) as tar:
        for done, (source, name, _) in enumerate(sources):
            report(done, len(sources))
            with contextlib.suppress(FileNotFoundError), source.open("rb") as file:
                _add(tar, name, file)


def _add(tar: tarfile.TarFile, name: str, file: io.BufferedReader) -> None:
    about = os.fstat(file.fileno())
    entry = tarfile.TarInfo(name)
    entry.size, entry.mtime, entry.mode = about.st_size, about.st_mtime, 0o644
    if name.endswith(".jsonl"):  # it may be growing: whole lines only
        data = file.read(about.st_size)
        data = data[: data.rfind(b"\n") + 1]
        entry.size = len(data)
        tar.addfile(entry, io.BytesIO(data))
    else:  # written aside and renamed by its writer, so this is one state of it
        tar.addfile(entry, file)


def _put_in_place(aside: Path, into: Path, counts: dict[str, int], weights: bool) -> Backup:
    names = [RECORD, *(f"{TABLES}/{name}.parquet" for name in counts)]
    at = datetime.now(UTC).replace(microsecond=0)
    while (into / at.strftime(STAMP)).exists():
        at += timedelta(seconds=1)
    files = {name: {"sha256": _sha256(aside / name, durable=True), "bytes": (aside / name).stat().st_size} for name in names}
    about = {"release": __version__, "schema": len(schema.MIGRATIONS), "at": at.isoformat(), "weights": weights,
             "counts": counts, "files": files}  # fmt: skip
    with (aside / ABOUT).open("w", encoding="utf-8") as file:
        json.dump(about, file, indent=1)
        file.flush()
        os.fsync(file.fileno())
    made = into / at.strftime(STAMP)
    aside.rename(made)
    flush_folder(into)
    return read(made)


def _failed(into: Path, error: Exception) -> KdError:
    said = error.strerror if isinstance(error, OSError) and error.strerror else str(error).strip().splitlines()[0]
    return HomeError.of(
        f"a backup in {into}, which could not be written ({said})", "a disk with room that this user may write",
        "make room and try again; older backups are as they were", "backup",
    )  # fmt: skip


def _sha256(path: Path, durable: bool = False) -> str:
    digest = hashlib.sha256()
    with path.open("rb") as file:
        if durable:
            os.fsync(file.fileno())
        while block := file.read(BLOCK):
            digest.update(block)
    return digest.hexdigest()


# ---- those that are there ----------------------------------------------------------------------------------------------------


def read(path: Path) -> Backup:
    """Return what a backup says of itself.

    Raises:
        KdError: the folder is no backup, or what it says cannot be read.
    """
    try:
        said: dict[str, Any] = json.loads((path / ABOUT).read_bytes())
        files = {str(name): (str(file["sha256"]), int(file["bytes"])) for name, file in said["files"].items()}
        at = datetime.fromisoformat(said["at"])
        if RECORD not in files or at.tzinfo is None or not all(_FILE.fullmatch(name) for name in files):
            raise ValueError("it names no record, no time, or files that are none of its own")
        counts = {str(name): int(n) for name, n in said["counts"].items()}
        return Backup(path, at.astimezone(UTC), str(said["release"]), int(said["schema"]), bool(said["weights"]), counts, files)
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        raise KdError.of(
            f"{path}, which is no backup ({type(error).__name__}: {' '.join(str(error).split())[:120]})",
            f"a folder with {ABOUT}, {RECORD} and {TABLES}/",
            "choose another; `python -m store backup` makes one in backups/ of KD_HOME", "backup",
        ) from error  # fmt: skip


def listed(folder: Path) -> list[Backup]:
    """Return the backups in ``folder``, oldest first; what is none is left out."""
    found = []
    for path in sorted(folder.glob("[0-9]*T*Z")) if folder.is_dir() else []:
        with contextlib.suppress(KdError):
            found.append(read(path))
    return sorted(found, key=lambda backup: (backup.at, backup.name))


def faults(backup: Backup) -> tuple[Problem, ...]:
    """Return which files are not what they were when the backup was made; reads all of it."""
    found = []
    for name, (sha256, size) in backup.files.items():
        path = backup.path / name
        held = path.stat().st_size if path.is_file() else None
        if held != size or _sha256(path) != sha256:
            given = "it is missing" if held is None else f"{held} bytes" if held != size else "other content of the same length"
            found.append(
                Problem(
                    f"{backup.name}/{name}", given, f"the {size} bytes that were written",
                    "use another backup; remove this one, and look after the disk",
                )
            )  # fmt: skip
    return tuple(found)


def rotate(home: Home, keep: int | None = None, folder: Path | None = None) -> list[str]:
    """Remove old backups and return their names. ``keep``: the newest so many stay; None = as ``settings.json`` has it: the
    newest of each of the last days and weeks that have one. The newest of all always stays.

    Raises:
        HomeError: ``settings.json`` is wrong.
    """
    there = listed(folder or folder_of(home))
    kept = there[-max(1, keep) :] if keep is not None else _worth_keeping(there, read_settings(home))
    gone = [backup for backup in there if backup not in kept]
    for backup in gone:
        hidden = backup.path.rename(backup.path.with_name(f".new-old-{backup.name}"))  # no half backup is ever listed
        shutil.rmtree(hidden, ignore_errors=True)
    return [backup.name for backup in gone]


def _worth_keeping(there: list[Backup], settings: Settings) -> list[Backup]:
    days = {backup.at.date(): backup for backup in there}  # the later one of a day takes its place
    weeks = {backup.at.isocalendar()[:2]: backup for backup in there}
    kept = [days[day] for day in sorted(days)[-settings.backup_keep_days :]]
    return kept + [weeks[week] for week in sorted(weeks)[len(weeks) - min(len(weeks), settings.backup_keep_weeks) :]]
