"""Scenes around taking in and publishing: the process that does it is killed, in the middle of a publish if chance can be helped.

Reads / writes: the home of the stage. Starts and kills its own processes.
"""

from __future__ import annotations

import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager

from benchmarks.faults import ledger
from benchmarks.faults.stage import ROOT, Stage
from benchmarks.invented import epoch_of, lab, started_of
from kdengine.events import Ended
from kdengine.rundir import RunDir
from kdengine.spec import RunSpec

EPOCHS = 5000  # more than any scene writes
INTAKE = """
from kdengine.home import Home
from store.db import Store
store = Store.open(Home.find(), publish_every_s=0.1)
print("open", flush=True)
while True:
    store.take_in()
"""
# says when a publish begins and ends, so that it can be met in the middle
PUBLISH = """
import time
from kdengine.home import Home
from store.db import Store
from store.publish import Publisher
publish = Publisher.publish
def told(publisher):
    print("begins", flush=True)
    done = publish(publisher)
    print("ends", flush=True)
    return done
Publisher.publish = told
store = Store.open(Home.find(), publish_every_s=0)
while True:
    store.take_in()
    time.sleep(0.01)
"""


@contextmanager
def writers(stage: Stage, runs: int, per_s: float = 20.0) -> Iterator[list[RunDir]]:
    """Let ``runs`` runs write ``per_s`` lines a second each, from threads; at the end each speaks its last word."""
    folders = [RunDir.create(stage.home, RunSpec(seed=seed, epochs=EPOCHS)) for seed in range(runs)]
    stop = threading.Event()
    threads = [threading.Thread(target=_write, args=(run, stop, 1 / per_s)) for run in folders]
    for thread in threads:
        thread.start()
    try:
        yield folders
    finally:
        stop.set()
        for thread in threads:
            thread.join()


def _write(run: RunDir, stop: threading.Event, every_s: float) -> None:
    run.append_event(started_of(EPOCHS))
    epoch = 0
    while not stop.wait(every_s):
        epoch += 1
        event = epoch_of("base", 0, epoch, EPOCHS)
        run.append_event(event)
        ledger.note(run.run_id, event)
    run.append_event(Ended(how="finished", elapsed_s=every_s * epoch))


def ingester_killed(stage: Stage) -> None:
    """Kill -9 of the process that takes in, while it starts or later, while four runs write 20 lines a second each"""
    shown, damaged = 0, set()
    with writers(stage, 4):
        for _ in range(stage.count):
            ingester = subprocess.Popen([sys.executable, "-c", INTAKE], cwd=ROOT, stdout=subprocess.PIPE)
            assert ingester.stdout is not None
            with ingester.stdout as words:
                if stage.rng.random() < 0.85:
                    words.readline()
                time.sleep(stage.rng.uniform(0, 0.8))
                stage.kill("ingester", ingester.pid)
                ingester.wait()
            damaged |= {path.name for path in stage.home.root.glob("results.spoilt-*")}
            shown = _never_less(stage, shown)
    stage.account.figures["databases that DuckDB called damaged after a kill of the ingester, made anew"] = len(damaged)


def publisher_killed(stage: Stage) -> None:
    """Kill -9 in the middle of a publish of a large database, which is published after every change"""
    lab(stage.home, min(250, 15 * stage.count), 240)
    shown, inside, typical_s = 0, 0, 0.1
    with writers(stage, 2):
        for _ in range(stage.count):
            publisher = subprocess.Popen([sys.executable, "-c", PUBLISH], cwd=ROOT, stdout=subprocess.PIPE, text=True)
            assert publisher.stdout is not None
            with publisher.stdout as words:
                typical_s = _wait_for_one(words, typical_s)
                time.sleep(stage.rng.uniform(0, typical_s))
                stage.kill("publisher", publisher.pid)
                publisher.wait()
                inside += words.read().strip() == ""  # no further word: it was still publishing
            shown = _never_less(stage, shown)
    stage.account.figures["publishers killed inside a publish"] = f"{inside} of {stage.count}"
    stage.account.figures["a publish of the large database, s"] = round(typical_s, 3)
    stage.account.figures["the large database, MiB"] = round(stage.home.results.stat().st_size / 2**20)


def _wait_for_one(words: Iterator[str], typical_s: float) -> float:
    """Let one whole publish pass, then return as the next one begins; return how long the first took, s."""
    next(words)
    began = time.monotonic()
    next(words)
    took_s = time.monotonic() - began
    next(words)
    return 0.5 * (took_s + typical_s)


def _never_less(stage: Stage, shown: int) -> int:
    """Compare what the snapshot shows with what it showed before."""
    now = stage.snapshot_epochs()
    if now < shown:
        stage.complain(f"the snapshot went back from {shown} to {now} epochs")
    return max(now, shown)
