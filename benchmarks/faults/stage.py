"""The stage that scenes play on: an empty home, chance, the account; and the steps that many of them take.

Reads / writes: temporary folders, the environment of this process. Kills what scenes have started.
"""

from __future__ import annotations

import contextlib
import json
import os
import random
import shutil
import signal
import subprocess
import tempfile
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import duckdb
import psutil

from benchmarks.faults import ledger
from benchmarks.faults.account import Account
from kdengine import runner
from kdengine.errors import KdError
from kdengine.events import EpochEnded
from kdengine.home import Home
from kdengine.rundir import RunDir, find_run, run_dirs
from kdengine.spec import RunSpec
from kdengine.status import RunStatus, is_locked, is_over, status_of

ROOT = Path(__file__).resolve().parents[2]
SMALL_DISK_MIB = 96
PATIENCE_S = 180.0
SWIFT, REAL = "benchmarks.faults.swift_worker", "benchmarks.faults.noting_worker"


class NotHere(Exception):
    """This machine cannot play the scene; the text says why."""


@dataclass
class Stage:
    """Where a scene plays: ``count`` says how often, ``rng`` when. ``aside`` is a folder outside the home, on another disk."""

    home: Home
    aside: Path
    count: int
    rng: random.Random
    account: Account = field(default_factory=Account)
    complaints: list[str] = field(default_factory=list)
    may_repeat: bool = False  # a full disk refuses checkpoints: what comes after the last one is trained, and told, once more

    def complain(self, text: str) -> None:
        """Note something that is not as it should be."""
        self.complaints.append(text)

    def acknowledged(self) -> dict[str, list[ledger.Told]]:
        """Return what workers have noted so far."""
        return ledger.read(self.aside / "acknowledged")

    def launch(self, *, epochs: int, epoch_s: float, seed: int = 0, start: bool = True) -> RunDir:
        """Launch a run of the formula."""
        spec = RunSpec(epochs=epochs, seed=seed, note=json.dumps({"epoch_s": epoch_s}))
        return find_run(self.home, runner.launch(self.home, spec, start=start))

    def kill(self, what: str, pid: int) -> bool:
        """Kill -9 a process and count it; False where it had ended by itself."""
        try:
            if psutil.Process(pid).status() == psutil.STATUS_ZOMBIE:
                return False
            os.kill(pid, signal.SIGKILL)
        except (psutil.NoSuchProcess, ProcessLookupError):
            return False
        self.account.kills[what] += 1
        return True

    def kill_worker(self, run: RunDir, what: str = "worker") -> bool:
        """Kill -9 the worker of a run, and wait until its lock is free; False where it had ended by itself."""
        pid = worker_pid(run)
        killed = self.kill(what, pid)
        await_true("the lock of a killed worker", lambda: not is_locked(run))
        return killed

    def snapshot_epochs(self) -> int:
        """Open the published snapshot as any reader does and count its epochs; one that cannot be read goes into the account."""
        if not self.home.snapshot.exists():
            return 0
        self.account.snapshots += 1
        try:
            with duckdb.connect(str(self.home.snapshot), read_only=True) as con:
                return int(con.execute("SELECT count(*) FROM epochs").fetchall()[0][0])
        except duckdb.Error as error:
            self.account.snapshots_unreadable += 1
            self.complain(f"the snapshot cannot be read: {error}")
            return 0


@contextlib.contextmanager
def set_up(count: int, seed: int, *, small_disk: bool = False) -> Iterator[Stage]:
    """Yield an empty stage, its home on a small tmpfs where the scene fills the disk; afterwards nothing of it works on.

    Raises:
        NotHere: a tmpfs is wanted and this user may not mount one.
    """
    folder = Path(tempfile.mkdtemp(prefix="kd-faults-"))
    disk, aside, before = folder / "disk", folder / "aside", dict(os.environ)
    (aside / "acknowledged").mkdir(parents=True)
    disk.mkdir()
    mounted = small_disk and _mount(disk)
    try:
        home = Home(disk / "kd").made()
        os.environ |= {
            "KD_HOME": str(home.root), ledger.FOLDER: str(aside / "acknowledged"), runner.WORKER_MODULE: SWIFT,
            "CUDA_VISIBLE_DEVICES": "", "OMP_NUM_THREADS": "1",
        }  # fmt: skip
        yield Stage(home, aside, count, random.Random(seed))
        stop_all(home)
    finally:
        os.environ.clear()
        os.environ.update(before)
        if mounted:
            subprocess.run(["umount", "-l", str(disk)], check=False)
        shutil.rmtree(folder, ignore_errors=True)


def _mount(folder: Path) -> bool:
    command = ["mount", "-t", "tmpfs", "-o", f"size={SMALL_DISK_MIB}m", "tmpfs", str(folder)]
    if shutil.which("mount") is None or subprocess.run(command, capture_output=True, check=False).returncode != 0:
        shutil.rmtree(folder.parent, ignore_errors=True)
        raise NotHere("needs root, to mount a small tmpfs")
    return True


def stop_all(home: Home) -> None:
    """Cancel whatever a broken scene left in the queue."""
    for run in run_dirs(home):
        if not is_over(status_of(run, home)):
            with contextlib.suppress(KdError):  # it may have ended by itself meanwhile
                runner.cancel(home, run.run_id, grace_s=2)


# ---- patience -------------------------------------------------------------------------------------------------------------


def await_true(what: str, condition: Callable[[], Any], patience_s: float = PATIENCE_S, every_s: float = 0.02) -> None:
    """Wait for ``condition``.

    Raises:
        TimeoutError: it never came; names ``what``.
    """
    until = time.monotonic() + patience_s
    while not condition():
        if time.monotonic() > until:
            raise TimeoutError(f"waited {patience_s:.0f} s for {what}")
        time.sleep(every_s)


def to_end(home: Home, run_id: str) -> RunDir:
    """Move the queue on until a run is over.

    Raises:
        TimeoutError: it is stuck.
    """
    run = find_run(home, run_id)

    def over() -> bool:
        runner.tick(home)
        return is_over(status_of(run, home))

    await_true(f"the end of run {run_id}", over, every_s=0.1)
    return run


def bring_back(home: Home, run: RunDir) -> RunStatus:
    """Resume a run whose worker was killed, unless it had spoken its last word; return how it stood."""
    status = status_of(run, home)
    if status is RunStatus.LOST:
        runner.resume(home, run.run_id)
    return status


# ---- what a run says ------------------------------------------------------------------------------------------------------


def worker_pid(run: RunDir) -> int:
    """Return the process of the newest attempt, once it exists."""
    await_true("a worker", lambda: bool(run.attempts()) and run.attempts()[-1].pid is not None)
    pid = run.attempts()[-1].pid
    assert pid is not None
    return pid


def epochs_of(run: RunDir) -> list[EpochEnded]:
    """Return all ended epochs, in the order of the log."""
    return [event for event in run.read_events()[0] if isinstance(event, EpochEnded)]


def curve(run: RunDir) -> list[str]:
    """Return what was learnt, epoch by epoch, without times: equal texts mean equal numbers."""
    kept = {"phase", "epoch", "lr", "images_seen", "measures", "terms"}
    return [json.dumps(event.model_dump(include=kept), sort_keys=True) for event in epochs_of(run)]


def complaints_of(run: RunDir, home: Home, expected: list[str]) -> list[str]:
    """Compare a run that should have finished with the curve of one that nobody disturbed."""
    found = [] if status_of(run, home) is RunStatus.FINISHED else [f"{run.run_id} is {status_of(run, home)}, not finished"]
    mine = curve(run)
    if len(mine) != len(set(mine)):
        found.append(f"{run.run_id} says an epoch twice")
    if mine != expected:
        found.append(f"{run.run_id} has another curve than the undisturbed run ({len(mine)} epochs, {len(expected)} expected)")
    return found
