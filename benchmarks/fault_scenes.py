"""The faults themselves: each scene breaks something on purpose and returns what it found wrong afterwards.

A scene gets an empty home and returns a list of complaints; an empty list means that nothing was lost or doubled.
Reads / writes: the home it is given. Starts and kills its own workers, servers and ingesters, never others.
"""

from __future__ import annotations

import contextlib
import json
import os
import random
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from benchmarks.invented import epoch_of, started_of
from benchmarks.server import Server, ask
from kdengine import check, runner
from kdengine.events import Ended, EpochEnded
from kdengine.home import Home
from kdengine.rundir import RunDir, find_run
from kdengine.spec import RunSpec
from kdengine.status import RunStatus, is_locked, is_over, status_of

ROOT = Path(__file__).resolve().parent.parent
EPOCHS = 4
PATIENCE_S = 180.0


# ---- steps that scenes share ----------------------------------------------------------------------------------------------


def small(method: str = "base", **fields: Any) -> RunSpec:
    """Return a run of a few seconds, complete."""
    common: dict[str, Any] = {"dataset": "digits", "student": "resnet8", "train_images": 200, "epochs": EPOCHS, "device": "cpu"}
    return check.resolve(RunSpec(**(common | fields), method=method))


def await_true(what: str, condition: Callable[[], bool], patience_s: float = PATIENCE_S) -> None:
    """Wait for ``condition``.

    Raises:
        TimeoutError: it never came; names ``what``.
    """
    until = time.monotonic() + patience_s
    while not condition():
        if time.monotonic() > until:
            raise TimeoutError(f"waited {patience_s:.0f} s for {what}")
        time.sleep(0.05)


def to_end(home: Home, run_id: str) -> RunDir:
    """Follow a run until it is over."""
    for _ in runner.follow(home, run_id):
        pass
    return find_run(home, run_id)


def worker_pid(run: RunDir) -> int:
    """Return the process of the newest attempt, once it exists."""
    await_true("a worker", lambda: bool(run.attempts()) and run.attempts()[-1].pid is not None)
    pid = run.attempts()[-1].pid
    assert pid is not None
    return pid


def kill_worker(run: RunDir) -> None:
    """Kill -9 the worker, unless it has just ended, and wait until its lock is free."""
    with contextlib.suppress(ProcessLookupError):
        os.kill(worker_pid(run), signal.SIGKILL)
    await_true("the lock of a killed worker", lambda: not is_locked(run))


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
        found.append(f"{run.run_id} has another curve than the undisturbed run")
    return found


def rows_missing(home: Home) -> list[str]:
    """Take everything in and compare the rows with the run folders."""
    found = []
    counts = {row["run_id"]: row["n"] for row in ask(home, "select run_id, count(*) as n from epochs group by run_id")}
    for run_id in (folder.name for folder in sorted(home.runs.iterdir())):
        told = sum(len(event.measures) for event in epochs_of(RunDir(home.runs / run_id)))
        if counts.get(run_id, 0) != told:
            found.append(f"{run_id}: {counts.get(run_id, 0)} rows for {told} measured epochs")
    return found


# ---- workers --------------------------------------------------------------------------------------------------------------


def worker_killed(home: Home, count: int, rng: random.Random) -> list[str]:
    """Kill -9 of a worker at a random moment, sometimes twice, then resume; the curve equals the undisturbed one."""
    specs = [small("base"), small("kd", teacher="resnet8", teacher_epochs=2), small("dml", peers=("resnet8",))]
    expected, seconds, found = [], [], []
    for spec in specs:
        began = time.monotonic()
        expected.append(curve(to_end(home, runner.launch(home, spec))))
        seconds.append(time.monotonic() - began)
    for number in range(count):
        which = number % len(specs)
        run = find_run(home, runner.launch(home, specs[which]))
        for _ in range(rng.choice((1, 1, 2))):
            worker_pid(run)
            time.sleep(rng.uniform(0.0, seconds[which]))
            if is_over(status_of(run, home)):
                break
            kill_worker(run)
            status = status_of(run, home)
            if status is RunStatus.FINISHED:  # it was killed after its last word
                break
            if status is not RunStatus.LOST:
                found.append(f"{run.run_id} was killed and is {status}, not lost")
            runner.resume(home, run.run_id)
        found += complaints_of(to_end(home, run.run_id), home, expected[which])
    return found + rows_missing(home)


def died_before_first_line(home: Home, count: int, rng: random.Random) -> list[str]:
    """A worker that ends without a word makes the run lost, not queued; resumed, it finishes."""
    expected, found = curve(to_end(home, runner.launch(home, small()))), []
    for _ in range(count):
        os.environ[runner.WORKER_MODULE] = "platform"  # prints the system's name and ends
        run = find_run(home, runner.launch(home, small()))
        await_true("the end of a mute worker", lambda run=run: is_over(status_of(run, home)))
        del os.environ[runner.WORKER_MODULE]
        if status_of(run, home) is not RunStatus.LOST:
            found.append(f"{run.run_id} is {status_of(run, home)}, not lost")
        runner.resume(home, run.run_id)
        found += complaints_of(to_end(home, run.run_id), home, expected)
    return found


def two_ticks(home: Home, count: int, rng: random.Random) -> list[str]:
    """Four processes tick at the same moment: one place, so exactly one of three runs starts, once."""
    home.settings.write_text('{"cpu_slots": 1}')
    found = []
    code = "import sys; from benchmarks.fault_scenes import tick_once; tick_once(sys.argv[1])"
    for _ in range(count):
        runs = [find_run(home, runner.launch(home, small(epochs=200), start=False)) for _ in range(3)]
        ticks = [subprocess.Popen([sys.executable, "-c", code, str(home.root)], cwd=ROOT) for _ in range(4)]
        if any(tick.wait(60) for tick in ticks):
            found.append("a tick failed")
        attempts = [len(run.attempts()) for run in runs]
        if attempts != [1, 0, 0]:
            found.append(f"attempts of three queued runs after four ticks: {attempts}")
        for run in reversed(runs):
            runner.cancel(home, run.run_id)
        if any(status_of(run, home) is not RunStatus.CANCELLED for run in runs):
            found.append("a cancelled run is not cancelled")
    return found


def tick_once(root: str) -> None:
    """Move the queue on; one of the child processes of ``two_ticks``."""
    runner.tick(Home(Path(root)))


def corrupt_checkpoint(home: Home, count: int, rng: random.Random) -> list[str]:
    """A checkpoint of random bytes: the resumed run fails, and says in three parts what to do."""
    found = []
    for number in range(count):
        run = find_run(home, runner.launch(home, small(epochs=200)))
        await_true("a checkpoint", run.last_pt.exists)
        kill_worker(run)
        size = run.last_pt.stat().st_size
        spoilt = run.last_pt.read_bytes()[: size // 2] if number % 2 else rng.randbytes(size)
        run.last_pt.write_bytes(spoilt)
        runner.resume(home, run.run_id)
        last = to_end(home, run.run_id).last_event()
        if not (
            isinstance(last, Ended)
            and last.how == "failed"
            and last.problems
            and all(last.problems[0][k] for k in ("given", "allowed", "do"))
        ):
            found.append(f"{run.run_id} ended with {last}")
    return found


def torn_lines(home: Home, count: int, rng: random.Random) -> list[str]:
    """A log that ends in half a line, in bytes that are no text, in a line that is no event: resumed and taken in."""
    expected, found = curve(to_end(home, runner.launch(home, small()))), []
    for number in range(count):
        run = find_run(home, runner.launch(home, small()))
        await_true("an epoch", lambda run=run: bool(epochs_of(run)))
        kill_worker(run)
        tail = (b'{"kind":"epoch","phase":"ma', rng.randbytes(40).replace(b"\n", b""), b'{"kind":"nothing"}\n')[number % 3]
        with run.events_jsonl.open("ab") as file:
            file.write(tail)
        if not is_over(status_of(run, home)):
            found.append(f"{run.run_id} is {status_of(run, home)} after a torn line")
        runner.resume(home, run.run_id)
        found += complaints_of(to_end(home, run.run_id), home, expected)
    return found + rows_missing(home)


# ---- the store ------------------------------------------------------------------------------------------------------------


def ingester_killed(home: Home, count: int, rng: random.Random) -> list[str]:
    """Kill -9 of the process that takes in, while four runs write 20 lines a second each."""
    runs = [RunDir.create(home, small(seed=seed, epochs=5000)) for seed in range(4)]
    stop = threading.Event()
    writers = [threading.Thread(target=_write_epochs, args=(run, stop)) for run in runs]
    for thread in writers:
        thread.start()
    code = "import sys; from benchmarks.fault_scenes import take_in_for_ever; take_in_for_ever(sys.argv[1])"
    for _ in range(count):
        ingester = subprocess.Popen([sys.executable, "-c", code, str(home.root)], cwd=ROOT)
        time.sleep(rng.uniform(0.7, 2.0))
        ingester.kill()
        ingester.wait()
    stop.set()
    for thread in writers:
        thread.join()
    doubled = ask(home, "select run_id, epoch, network from epochs group by all having count(*) > 1")
    return [f"doubled rows: {doubled[:3]}"] * bool(doubled) + rows_missing(home)


def _write_epochs(run: RunDir, stop: threading.Event) -> None:
    run.append_event(started_of(5000))
    epoch = 0
    while not stop.is_set():
        epoch += 1
        run.append_event(epoch_of("base", 0, epoch, 5000))
        time.sleep(0.05)


def take_in_for_ever(root: str) -> None:
    """Take in until killed; the child process of ``ingester_killed``."""
    from store.db import Store

    store = Store.open(Home(Path(root)), publish_every_s=0.1)
    while True:
        store.take_in()


# ---- servers --------------------------------------------------------------------------------------------------------------


def server_killed(home: Home, count: int, rng: random.Random) -> list[str]:
    """Kill -9 of the server in the middle of a run that it started: the run finishes, the next server shows all of it."""
    expected, found = curve(to_end(home, runner.launch(home, small(seed=1)))), []
    for _ in range(count):
        with Server(home) as server:
            run = find_run(home, runner.launch(home, small(seed=1), start=False))
            await_true("an epoch of the server's run", lambda run=run: bool(epochs_of(run)))
            server.kill()
        await_true("the end of the run", lambda run=run: is_over(status_of(run, home)))
        found += complaints_of(run, home, expected)
        with Server(home):
            sql = (
                f"select count(*) as n from epochs join runs using (run_id) where run_id = '{run.run_id}' and status = 'finished'"
            )
            await_true("the run in the snapshot", lambda sql=sql: ask(home, sql)[0]["n"] == EPOCHS, 60)
    return found


def two_servers(home: Home, count: int, rng: random.Random) -> list[str]:
    """Two servers on one home: nothing starts twice; when the one that writes is killed, the other takes over."""
    found = []
    for _ in range(count):
        with Server(home) as one, Server(home) as other:
            runs = [find_run(home, runner.launch(home, small(seed=seed), start=False)) for seed in range(2)]
            await_true("both runs", lambda runs=runs: all(is_over(status_of(run, home)) for run in runs))
            found += [f"{run.run_id} has {len(run.attempts())} attempts" for run in runs if len(run.attempts()) != 1]
            writer = next(server for server in (one, other) if server.writes())
            writer.kill()
            late = find_run(home, runner.launch(home, small(seed=2), start=False))
            sql = f"select count(*) as n from runs where run_id = '{late.run_id}' and status = 'finished'"
            await_true("the survivor's rows", lambda sql=sql: ask(home, sql)[0]["n"] == 1)
    return found + rows_missing(home)


# ---- the disk -------------------------------------------------------------------------------------------------------------


def full_disk(home: Home, count: int, rng: random.Random) -> list[str]:
    """The disk fills up in the middle of a run (home on a small tmpfs): the run waits, then ends as if nothing had been."""
    from store.db import Store

    expected, found = curve(to_end(home, runner.launch(home, small()))), []
    with Store.open(home) as store:
        for _ in range(count):
            run = find_run(home, runner.launch(home, small()))
            await_true("an epoch", lambda run=run: bool(epochs_of(run)))
            filler = home.root / "filler"
            _fill(filler)
            store.take_in()  # must neither raise nor lose anything
            time.sleep(rng.uniform(2, 6))
            store.take_in()
            filler.unlink()
            found += complaints_of(to_end(home, run.run_id), home, expected)
        time.sleep(2)
        await_true("the store to go on", lambda: store.take_in() > 0 and not store.notice, 90)
    return found + rows_missing(home)


def _fill(file: Path) -> None:
    with file.open("wb", buffering=0) as out:
        for size in (1 << 20, 1 << 12, 1):
            try:
                while True:
                    out.write(b"\0" * size)
            except OSError:
                continue


SCENES: dict[str, tuple[Callable[[Home, int, random.Random], list[str]], int]] = {
    "worker_killed": (worker_killed, 20),
    "ingester_killed": (ingester_killed, 50),
    "server_killed": (server_killed, 5),
    "two_servers": (two_servers, 3),
    "full_disk": (full_disk, 5),
    "corrupt_checkpoint": (corrupt_checkpoint, 4),
    "torn_lines": (torn_lines, 6),
    "two_ticks": (two_ticks, 10),
    "died_before_first_line": (died_before_first_line, 3),
}
