"""Kill -9 of the process that takes in, at random moments, while runs write: what was acknowledged is there, once.

Used by the suite with a few rounds and by ``benchmarks`` with many; imports nothing of the tests, so that it loads from its
file alone. Reads / writes: the home it is given. Never: torch.
"""

from __future__ import annotations

import os
import random
import signal
import subprocess
import sys
import threading
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from kdengine.events import EpochEnded, Measures, NetworkInfo, Started
from kdengine.home import Home
from kdengine.rundir import RunDir
from kdengine.spec import RunSpec
from store.db import Store

ROOT = Path(__file__).resolve().parents[2]
INTAKE = """
from kdengine.home import Home
from store.db import Store
store = Store.open(Home.find(), publish_every_s=0)
print("ready", flush=True)
while True:
    store.take_in()
"""


@dataclass(frozen=True, slots=True)
class Outcome:
    """What came of it: epochs acknowledged by the disk, and those found afterwards (rows, and different ones)."""

    acknowledged: int
    rows: int
    distinct: int
    terms: int
    kills: int

    @property
    def is_clean(self) -> bool:
        """Nothing lost, nothing doubled."""
        return self.acknowledged == self.rows == self.distinct == self.terms / 2


def started(epochs: int = 3, attempt: int = 1) -> Started:
    """A worker's first word."""
    return Started(
        attempt=attempt, device="cpu", device_name="a processor", precision="fp32", threads=1, cpu_capability="AVX2",
        versions={"torch": "2.15"}, networks=[NetworkInfo(network="student", model="resnet8", params=78_042, macs=12_000_000)],
        teacher_top1_frac=0.9, train_images=200, val_images=0, test_images=600, classes=10, epochs=epochs, phases=["main"],
    )  # fmt: skip


def epoch(
    number: int, *, epochs: int = 3, top1: float = 0.5, networks: tuple[str, ...] = ("student",), **more: Any
) -> EpochEnded:
    """The end of one epoch; every value says which epoch it belongs to."""
    values: dict[str, Any] = {
        "epoch": number, "epochs": epochs, "images_seen": 200 * number, "elapsed_s": 1.5 * number, "epoch_s": 1.5,
        "images_per_s": 100.0 + number, "lr": 0.1 / number, "peak_mib": 50.0,
        "measures": {
            name: Measures(train_loss=2.0 / number, test_loss=3.0 / number, test_top1_frac=top1, test_top5_frac=0.9,
                           test_ece_frac=0.05, agreement_frac=0.7, teacher_kl=0.4)
            for name in networks
        },
        "terms": {name: {"ce": 1.0 / number, "kd": 0.5 / number} for name in networks},
    }  # fmt: skip
    return EpochEnded(**(values | more))


def kill_intake(home: Home, *, times: int, seed: int = 0, runs: int = 3, longest_s: float = 0.5) -> Outcome:
    """Let ``runs`` runs write all the while; start and kill an ingesting process ``times`` times; take in; count."""
    folders = [RunDir.create(home, RunSpec(seed=number, epochs=10_000)) for number in range(runs)]
    written = [0] * runs
    stop = threading.Event()

    def write() -> None:
        for run in folders:
            run.append_event(started(epochs=10_000))
        while not stop.is_set():
            for place, run in enumerate(folders):
                run.append_event(epoch(written[place] + 1, epochs=10_000))
                written[place] += 1
            time.sleep(0.002)

    writer = threading.Thread(target=write)
    writer.start()
    chance = random.Random(seed)
    try:
        for _ in range(times):
            _start_and_kill(home, chance.random() * longest_s)
    finally:
        stop.set()
        writer.join()
    with Store.open(home) as store:
        store.take_in()
        assert store.role == "writer", "a killed process still holds the lock"
        found = store.frame("""SELECT count(*) AS n, count(DISTINCT (run_id, epoch)) AS d, (SELECT count(*) FROM terms) AS t
            FROM epochs""").iloc[0]
    return Outcome(sum(written), int(found.n), int(found.d), int(found.t), times)


def _start_and_kill(home: Home, after_s: float) -> None:
    environment = os.environ | {"KD_HOME": str(home.root), "PYTHONPATH": str(ROOT)}
    child = subprocess.Popen([sys.executable, "-c", INTAKE], stdout=subprocess.PIPE, env=environment)
    assert child.stdout is not None
    with child.stdout:
        if child.stdout.readline() != b"ready\n":
            raise RuntimeError(f"the ingesting process did not start (code {child.wait()})")
        time.sleep(after_s)
        child.send_signal(signal.SIGKILL)
        child.wait()
