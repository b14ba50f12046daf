"""Restoring: run folders that are missing come back from a backup, and the database is made anew from all of them.

What is there is never overwritten: a run of the same name with other content is reported. The archive is not trusted: its
checksum is compared first, then every name in it, and only files that a backup holds are written.

Reads: a backup. Writes: run folders (built aside and renamed), files of the home that are missing, the database through
``rebuild``. Never: outside the home; a file that exists.
"""

from __future__ import annotations

import gzip
import os
import re
import secrets
import shutil
import tarfile
import zlib
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path, PurePath
from typing import IO

import duckdb

from kdengine.durable import flush_folder, write_aside
from kdengine.errors import HomeError, KdError, Problem, StoreBusy
from kdengine.events import Ended
from kdengine.home import Home
from kdengine.rundir import RunDir
from kdengine.status import RunStatus, is_locked, status_of
from store import backup, schema
from store.backup import Backup, Report
from store.rebuild import rebuild

_RUN = re.compile(r"runs/(?P<run>[A-Za-z0-9][A-Za-z0-9_.-]{0,120})/(?P<name>[A-Za-z0-9_.-]{1,80})")
REQUEST, EVENTS = "spec.json", "events.jsonl"
CUT_OFF = "under way when the backup was made; its worker was on another machine"


@dataclass(frozen=True, slots=True)
class Restored:
    """What happened: ``runs`` put back, ``kept`` as they were, ``files`` of the home put back; ``conflicts``: what differs.

    ``rows``: of each table after the rebuild; empty where the running app takes the runs in by itself, or nothing was new.
    """

    runs: tuple[str, ...] = ()
    kept: int = 0
    files: tuple[str, ...] = ()
    conflicts: tuple[Problem, ...] = ()
    cut_off: tuple[str, ...] = ()
    rows: dict[str, int] = field(default_factory=dict)


def restore(path: Path, home: Home, *, report: Report = lambda done, total: None) -> Restored:
    """Put back from the backup at ``path`` what ``home`` lacks. ``report(done, total)`` is told files of the archive.

    A second time changes nothing.

    Raises:
        KdError: it is no backup, is damaged, comes from a newer release, holds what no backup holds, or does not fit on the
            disk. Nothing was written then, except where the disk failed half-way: whole runs that are back stay.
    """
    found = backup.read(path)
    _demand_sound(found)
    members = _checked_members(found, home)
    try:
        tally = _put_back(found, members, home, report)
    except OSError as error:
        raise HomeError.of(
            f"{home.root}, where the backup could not be put back ({error.strerror or error})", "a disk with room",
            "make room and restore again: what is back already stays", "restore",
        ) from error  # fmt: skip
    if tally.runs:
        flush_folder(home.runs)
    cut_off = tuple(run_id for run_id in tally.runs if _speak_for(RunDir(home.runs / run_id), home))
    rows = _index(home) if tally.runs or not home.results.exists() else {}
    return Restored(tuple(tally.runs), tally.kept, tuple(tally.files), tuple(tally.conflicts), cut_off, rows)


# ---- before anything is written ----------------------------------------------------------------------------------------------


def _demand_sound(found: Backup) -> None:
    if found.schema > len(schema.MIGRATIONS):
        raise KdError.of(
            f"{found.name}, made by release {found.release} (schema {found.schema})", f"schema 1 to {len(schema.MIGRATIONS)}",
            "update KD Explorer and restore with the newer release", "backup",
        )  # fmt: skip
    problems = backup.faults(found)
    if problems:
        raise KdError(*problems)


def _checked_members(found: Backup, home: Home) -> list[tarfile.TarInfo]:
    """Return the entries of the archive.

    Raises:
        KdError: one of them is no file that a backup holds, comes twice, or all do not fit on the disk.
    """
    with _opened(found) as tar:
        members = tar.getmembers()
    times = Counter(member.name for member in members)
    for member in members:
        whole = f"runs/{run['run']}/{REQUEST}" in times if (run := _RUN.fullmatch(member.name)) else True
        if not _is_ours(member, home.root) or times[member.name] > 1 or not whole:
            raise KdError.of(
                f"{found.name}/{backup.RECORD}, which holds {member.name[:120]!r}",
                "plain files of whole runs and of the home, each once", "do not use it: no backup is like that", "backup",
            )  # fmt: skip
    needed, free = sum(member.size for member in members), shutil.disk_usage(home.root).free
    if needed + backup.ROOM_BYTES > free:
        given, allowed = f"{free / 2**20:.0f} MiB free in {home.root}", f"{(needed + backup.ROOM_BYTES) / 2**20:.0f} MiB"
        raise HomeError.of(given, allowed, "make room, or restore into another home: --to FOLDER", "restore")
    return members


def _is_ours(member: tarfile.TarInfo, root: Path) -> bool:
    try:
        tarfile.data_filter(member, str(root))
    except tarfile.FilterError:
        return False
    if member.type != tarfile.REGTYPE:
        return False
    if member.name.startswith("home/"):
        return member.name.removeprefix("home/") in backup.OF_THE_HOME
    run = _RUN.fullmatch(member.name)
    return bool(run and (backup.OF_A_RUN.fullmatch(run["name"]) or backup.WEIGHTS.fullmatch(run["name"])))


@contextmanager
def _opened(found: Backup) -> Iterator[tarfile.TarFile]:
    """Open the archive; a fault of it, at whatever place, is said in three parts."""
    try:
        with tarfile.open(found.path / backup.RECORD, "r:gz") as tar:
            yield tar
    except (tarfile.TarError, zlib.error, gzip.BadGzipFile, EOFError) as error:
        given = f"{found.name}/{backup.RECORD}, which is no whole archive ({error})"
        raise KdError.of(given, "a compressed tar", "use another backup", "backup") from error


# ---- writing -----------------------------------------------------------------------------------------------------------------


@dataclass(slots=True)
class _Tally:
    """What was done so far."""

    runs: list[str] = field(default_factory=list)
    files: list[str] = field(default_factory=list)
    kept: int = 0
    conflicts: list[Problem] = field(default_factory=list)


def _put_back(found: Backup, members: list[tarfile.TarInfo], home: Home, report: Report) -> _Tally:
    tally, done = _Tally(), 0
    groups: dict[str, list[tarfile.TarInfo]] = {}
    for member in members:
        run = _RUN.fullmatch(member.name)
        groups.setdefault(run["run"] if run else "", []).append(member)
    with _opened(found) as tar:
        for run_id, files in groups.items():
            if run_id:
                _put_back_run(tar, run_id, files, home, tally)
            else:
                _put_back_home(tar, files, home, tally)
            done += len(files)
            report(done, len(members))
    return tally


def _put_back_run(tar: tarfile.TarFile, run_id: str, files: list[tarfile.TarInfo], home: Home, tally: _Tally) -> None:
    there = RunDir(home.runs / run_id)
    if there.path.exists():
        record = {name: _content(tar, file) for file in files if (name := PurePath(file.name).name) in (REQUEST, EVENTS)}
        tally.kept += 1
        tally.conflicts += _differences(there, record)
        return
    aside = home.root / ".new" / f"{run_id}-{secrets.token_hex(3)}"
    aside.mkdir(parents=True)
    try:
        for file in files:
            target = aside / PurePath(file.name).name
            with target.open("wb") as out:
                shutil.copyfileobj(_stream(tar, file), out)
                out.flush()
                os.fsync(out.fileno())
            os.utime(target, (file.mtime, file.mtime))
        aside.rename(there.path)
    finally:
        shutil.rmtree(aside, ignore_errors=True)
    tally.runs.append(run_id)


def _put_back_home(tar: tarfile.TarFile, files: list[tarfile.TarInfo], home: Home, tally: _Tally) -> None:
    for file in files:
        name = file.name.removeprefix("home/")
        if not (home.root / name).exists():
            write_aside(home.root / name, _content(tar, file), private=name in backup.PRIVATE)
            tally.files.append(name)


def _differences(there: RunDir, saved: dict[str, bytes]) -> Iterator[Problem]:
    """Yield how a run that is there differs from the one in the backup; one that only went on since then does not."""
    left = "it was left as it is; to look at the other one, restore into another home: --to FOLDER"
    if there.spec_json.read_bytes() != saved[REQUEST]:
        yield Problem(f"run {there.run_id}", "a run of that name with another request", "the run of the backup", left)
        return
    before = saved.get(EVENTS, b"")
    held = there.events_jsonl.read_bytes() if there.events_jsonl.exists() else b""
    if not held.startswith(before):
        given = "its events end before those of the backup" if before.startswith(held) else "its events say something else"
        yield Problem(f"run {there.run_id}", given, "the events of the backup, and what came after", left)


def _stream(tar: tarfile.TarFile, file: tarfile.TarInfo) -> IO[bytes]:
    found = tar.extractfile(file)
    assert found is not None  # a plain file: all were looked at
    return found


def _content(tar: tarfile.TarFile, file: tarfile.TarInfo) -> bytes:
    with _stream(tar, file) as stream:
        return stream.read()


# ---- afterwards --------------------------------------------------------------------------------------------------------------


def _speak_for(run: RunDir, home: Home) -> bool:
    """Say the last word of a run whose worker is not coming along; say whether that was needed.

    Nobody here could tell whether a worker on another machine lives: such a run would look as if it ran for ever.
    """
    if status_of(run, home) is not RunStatus.RUNNING or is_locked(run):
        return False
    run.append_event(Ended(how="cancelled", reason=CUT_OFF))
    return True


def _index(home: Home) -> dict[str, int]:
    try:
        return rebuild(home)
    except StoreBusy:  # the app runs here: it takes in what has come
        return {}
    except (OSError, duckdb.Error) as error:
        why = str(error).strip().splitlines()[0]
        raise HomeError.of(
            f"the runs are back, but the database could not be made anew ({why})", "a disk with room for it",
            "make room, and run: python -m store rebuild", "restore",
        ) from error  # fmt: skip
