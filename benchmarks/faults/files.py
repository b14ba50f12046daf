"""Scenes around files that somebody spoilt, cut or deleted.

Reads / writes: the home of the stage; spoils its files. Starts and kills workers, and a server.
"""

from __future__ import annotations

import os
import time
from pathlib import Path

from benchmarks.faults.intake import writers
from benchmarks.faults.servers import Watch
from benchmarks.faults.stage import (
    REAL,
    Stage,
    await_true,
    bring_back,
    complaints_of,
    curve,
    epochs_of,
    to_end,
)  # fmt: skip
from benchmarks.faults.swift_worker import checkpoint
from benchmarks.faults.workers import formula_of, small
from kdengine import runner
from kdengine.events import Ended
from kdengine.rundir import RunDir, find_run
from kdengine.status import RunStatus, is_over, status_of
from store.db import Store


def corrupt_checkpoint(stage: Stage) -> None:
    """A checkpoint of random bytes, or half of one: the resumed training fails, and says in three parts what to do"""
    os.environ[runner.WORKER_MODULE] = REAL
    for number in range(stage.count):
        run = find_run(stage.home, runner.launch(stage.home, small(epochs=200)))
        await_true("a checkpoint", run.last_pt.exists)
        stage.kill_worker(run, "real training")
        size = run.last_pt.stat().st_size
        run.last_pt.write_bytes(run.last_pt.read_bytes()[: size // 2] if number % 2 else stage.rng.randbytes(size))
        runner.resume(stage.home, run.run_id)
        last = to_end(stage.home, run.run_id).last_event()
        if not (isinstance(last, Ended) and last.how == "failed" and last.problems and _is_whole(last.problems[0])):
            stage.complain(f"{run.run_id} ended with {last}")


def _is_whole(problem: dict[str, str]) -> bool:
    return all(problem[part] for part in ("given", "allowed", "do"))


def torn_lines(stage: Stage) -> None:
    """A log of a real training that ends in half a line, no text, a line that is no event, or within its last line; resumed"""
    os.environ[runner.WORKER_MODULE] = REAL
    expected = curve(to_end(stage.home, runner.launch(stage.home, small())))
    for number in range(stage.count):
        run = find_run(stage.home, runner.launch(stage.home, small()))
        await_true("an epoch", lambda run=run: bool(epochs_of(run)))
        stage.kill_worker(run, "real training")
        tails = (b'{"kind":"epoch","phase":"ma', stage.rng.randbytes(40).replace(b"\n", b""), b'{"kind":"nothing"}\n')
        if number % 4 < 3:
            with run.events_jsonl.open("ab") as file:
                file.write(tails[number % 4])
        elif _last_epoch_is_saved(run):
            _cut(run, stage.rng.randint(_start_of_last_line(run), run.events_bytes()))
        if not is_over(status_of(run, stage.home)):
            stage.complain(f"{run.run_id} is {status_of(run, stage.home)} after a torn line")
        bring_back(stage.home, run)
        stage.complaints += complaints_of(to_end(stage.home, run.run_id), stage.home, expected)


def _last_epoch_is_saved(run: RunDir) -> bool:
    """Say whether the checkpoint holds the last epoch of the record: killed between the two, it holds the one after."""
    from kdengine.checkpoint import load  # loads torch

    state = load(run.last_pt)
    return state is not None and state["epoch"] == epochs_of(run)[-1].epoch


# ---- cut short ------------------------------------------------------------------------------------------------------------


def truncated_record(stage: Stage) -> None:
    """A record cut at a random byte, within its last line or anywhere, of a killed run or a finished one; then it is resumed"""
    with Store.open(stage.home, publish_every_s=0.2) as store:
        for number in range(stage.count):
            run = stage.launch(epochs=12, epoch_s=0.01, seed=number)
            finished = number % 3 == 2
            if finished:
                to_end(stage.home, run.run_id)
            else:
                await_true("some epochs", lambda run=run: len(epochs_of(run)) > stage.rng.randint(1, 8))
                stage.kill_worker(run)
            store.take_in()
            least = _start_of_last_line(run) if number % 3 == 0 else 0
            _cut_and_forgive(stage, run, stage.rng.randint(least, run.events_bytes()))
            _compare(stage, store, run)
            _go_on_after_cut(stage, run)
            _compare(stage, store, run)


def _cut_and_forgive(stage: Stage, run: RunDir, size: int) -> None:
    """Cut the record, and take out of the ledger what no resume can bring back: all but the epoch in the checkpoint."""
    before, saved = {event.epoch for event in epochs_of(run)}, checkpoint(run)
    _cut(run, size)
    kept = {event.epoch for event in epochs_of(run)} | ({saved.epoch} if saved else set())
    file = stage.aside / "acknowledged" / run.run_id
    lines = file.read_text().splitlines()
    file.write_text("".join(line + "\n" for line in lines if int(line.split()[1]) not in before - kept))
    stage.account.cut += len(before - kept)


def _go_on_after_cut(stage: Stage, run: RunDir) -> None:
    if status_of(run, stage.home) is RunStatus.FINISHED:  # nothing but what follows the last word was cut
        return
    if status_of(run, stage.home) is not RunStatus.LOST:
        stage.complain(f"{run.run_id} is {status_of(run, stage.home)} after its record was cut, not lost")
    bring_back(stage.home, run)
    to_end(stage.home, run.run_id)
    told, whole = [event.epoch for event in epochs_of(run)], len(formula_of(run))
    if status_of(run, stage.home) is not RunStatus.FINISHED or told[-1:] != [whole] or told != sorted(set(told)):
        stage.complain(f"{run.run_id}, cut and resumed, is {status_of(run, stage.home)} with epochs {told} of {whole}")


def _compare(stage: Stage, store: Store, run: RunDir) -> None:
    """What the store shows is what the record says, right after it was cut too."""
    store.take_in()
    shown = store.frame("SELECT epoch FROM epochs WHERE run_id = ? ORDER BY epoch", [run.run_id])["epoch"].tolist()
    if shown != [event.epoch for event in epochs_of(run)]:
        stage.complain(f"{run.run_id}: the results show {shown}, the record {[event.epoch for event in epochs_of(run)]}")


def _start_of_last_line(run: RunDir) -> int:
    data = run.events_jsonl.read_bytes()
    return data.rfind(b"\n", 0, len(data) - 1) + 1


def _cut(run: RunDir, size: int) -> None:
    os.truncate(run.events_jsonl, size)


# ---- deleted --------------------------------------------------------------------------------------------------------------


def database_deleted(stage: Stage) -> None:
    """Database, its log of changes or the snapshot deleted at random, while a server writes them and while none does"""
    with writers(stage, 2) as runs:
        with Watch(stage, "run", f"run={runs[0].run_id}") as server:
            for _ in range(stage.count):
                await_true("a snapshot", stage.home.snapshot.exists, 30)
                gone = _delete(stage)
                try:
                    await_true("a snapshot after the deletion", stage.home.snapshot.exists, 30)
                except TimeoutError:
                    stage.complain(f"{gone} deleted under a server: no snapshot comes back")
                time.sleep(stage.rng.uniform(0, 1.5))
                if not server.click():
                    stage.complain(f"{gone} deleted under a server: its page is not drawn any more")
            server.kill()
        for _ in range(stage.count):
            with Store.open(stage.home, publish_every_s=0) as store:
                store.take_in()
                if store.notice:
                    stage.complain(f"after a deletion: {store.notice}")
            stage.snapshot_epochs()
            _delete(stage)


def _delete(stage: Stage) -> list[str]:
    """Delete some of the three files, one at least; return which."""
    files = [stage.home.results, _wal(stage.home.results), stage.home.snapshot]
    gone = stage.rng.sample(files, stage.rng.randint(1, len(files)))
    for file in gone:
        file.unlink(missing_ok=True)
    return [file.name for file in gone]


def _wal(file: Path) -> Path:
    return file.with_name(file.name + ".wal")
