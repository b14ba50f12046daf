"""Run folders as a training would leave them, made in a second: for tests of pages and for looking at them.

``python tests/pages/seed.py`` fills ``KD_HOME`` and keeps one run "running" until it is stopped.
"""

from __future__ import annotations

import math
import os
import random
import sys
import time
from dataclasses import dataclass, field

from kdengine.events import Ended, EpochEnded, Measures, NetworkInfo, Started
from kdengine.home import Home
from kdengine.rundir import Attempt, RunDir
from kdengine.spec import RunSpec
from kdengine.status import boot_id, take_lock

TEACHER = {"student": "resnet20", "epochs": 8, "seed": 0}
# method -> extra fields, test accuracy (percent) by epoch
CURVES = {
    "base": ({}, "11 19 23 35 46 55 60 63 62 72 77 80 80 80 80.2"),
    "kd": ({"teacher": "resnet20", "params": {"T": 4.0, "lambda_ce": 0.1, "lambda_kd": 0.9}},
           "13 16 15 37 30 51 64 73 79 88 92 93 94 94 94.4"),
    "fitnet": ({"teacher": "resnet20", "params": {"beta": 100.0}}, "12 14 28 46 57 64 72 77 77 81 84 85 86 86 86.8"),
    "ft": ({"teacher": "resnet20", "params": {"beta": 500.0}}, "18 19 32 42 38 61 63 74 74 79 81 85 86 86 85.4"),
    "dml": ({"peers": ("resnet8",)}, "14 19 26 31 43 44 61 59 63 68 77 77 79 79 79"),
    "ban": ({"generation": 1, "teacher": "resnet8"}, "12 18 27 40 38 50 51 48 59 66 72 72 74 74 73.2"),
}  # fmt: skip
TEACHER_CURVE = "22 48 71 83 90 94 96 96.7"
SPEED = {"base": 1500, "kd": 1150, "fitnet": 980, "ft": 760, "dml": 800, "ban": 1300}


@dataclass
class Seeded:
    """What was made: ids by what they are; ``locks`` keep the running ones running."""

    teacher: str = ""
    finished: list[str] = field(default_factory=list)
    other: dict[str, str] = field(default_factory=dict)
    locks: list[int] = field(default_factory=list)

    def release(self) -> None:
        """Let go of the locks: the running runs become lost."""
        while self.locks:
            os.close(self.locks.pop())


def seed(home: Home, *, live: bool = False, seeds: tuple[int, ...] = (0, 1)) -> Seeded:
    """Fill ``home`` with a finished demo suite; with ``live`` also one run of every other status."""
    made = Seeded()
    base = {"dataset": "digits", "suite": "demo"}
    teacher = RunDir.create(home, RunSpec(**base, **TEACHER))
    play(teacher, _fracs(TEACHER_CURVE, 0), speed=700)
    made.teacher = teacher.run_id
    for n in seeds:
        own = ""
        for method, (extra, curve) in CURVES.items():
            spec = RunSpec(**base, method=method, student="resnet8", seed=n, train_images=200, **extra)
            run = RunDir.create(home, spec, teacher_run=own if method == "ban" else teacher.run_id if spec.teacher else None)
            own = own or run.run_id
            play(run, _fracs(curve, n), speed=SPEED[method], teacher_top1=0.967 if spec.teacher else None)
            made.finished.append(run.run_id)
    if live:
        add_live(home, made)
    return made


def play(run: RunDir, fracs: list[float], *, epochs: int | None = None, speed: float = 1000.0, teacher_top1: float | None = None,
         how: str | None = "finished", reason: str = "", pid: int | None = None) -> None:  # fmt: skip
    """Write the events of a training with test accuracies ``fracs``; ``how`` None = it goes on."""
    spec = run.read_request().spec
    run.write_attempt(Attempt(1, pid, os.uname().nodename, boot_id(), "2026-11-21T00:00:00.000000Z", "cpu"))
    nets = [NetworkInfo(network="student", model=spec.student, params=78_042, macs=12_500_000)]
    nets += [NetworkInfo(network=f"peer{i}", model=p, params=78_042, macs=12_500_000) for i, p in enumerate(spec.peers, 1)]
    if spec.teacher:
        nets.append(NetworkInfo(network="teacher", model=spec.teacher, params=272_474, macs=40_800_000))
    images = spec.train_images or 1197
    run.append_event(Started(
        attempt=1, device="cpu", device_name="a test processor", precision="fp32", threads=2, cpu_capability="AVX2",
        versions={"torch": "2.15.0", "python": "3.11.2"}, networks=nets, teacher_run=run.read_request().teacher_run,
        teacher_top1_frac=teacher_top1, train_images=images, val_images=0, test_images=600, classes=10, epochs=spec.epochs,
        phases=["main"],
    ))  # fmt: skip
    run.log.write_text(f"training {spec.summary()} on the CPU, 2 threads\n", encoding="utf-8")
    for epoch, frac in enumerate(fracs, 1):
        run.append_event(_epoch(spec, epoch, frac, images, speed, teacher_top1))
    if how:
        run.append_event(Ended(how=how, reason=reason, elapsed_s=len(fracs) * images / speed))


def _epoch(spec: RunSpec, epoch: int, frac: float, images: int, speed: float, teacher_top1: float | None) -> EpochEnded:
    loss = 2.4 * (1 - frac) + 0.05
    own = Measures(
        train_loss=loss * 1.2, train_top1_frac=min(1.0, frac + 0.03), test_loss=loss, test_top1_frac=frac,
        test_top5_frac=min(1.0, 0.6 + 0.4 * frac), test_ece_frac=0.04 + 0.1 * (1 - frac),
        agreement_frac=frac * 0.98 if teacher_top1 else None, teacher_kl=loss if teacher_top1 else None,
    )  # fmt: skip
    names = ["student", *(f"peer{i}" for i in range(1, len(spec.peers) + 1))]
    return EpochEnded(
        epoch=epoch, epochs=spec.epochs, images_seen=epoch * images, elapsed_s=epoch * images / speed, epoch_s=images / speed,
        images_per_s=speed * (1 + 0.05 * math.sin(epoch)), lr=0.03 * (1 - epoch / (spec.epochs + 1)), peak_mib=612.0 + epoch % 3,
        measures=dict.fromkeys(names, own),
        terms={name: {"ce": loss * 0.7, spec.method: loss * 0.5} if spec.method != "base" else {"ce": loss} for name in names},
    )  # fmt: skip


def add_live(home: Home, made: Seeded) -> None:
    """Add one run of every other status; the running one runs until ``made.release()``."""
    teacher = made.teacher
    kd = {"dataset": "digits", "method": "kd", "student": "resnet8", "teacher": "resnet20", "suite": "live", "train_images": 200}
    base = {"dataset": "digits", "method": "base", "student": "resnet14", "suite": "live"}

    def make(name: str, spec: RunSpec, fracs: list[float] | None = None, **more: object) -> RunDir:
        run = RunDir.create(
            home, spec, teacher_run=teacher if spec.teacher and name != "waiting" else more.pop("teacher_run", None)
        )
        made.other[name] = run.run_id
        if fracs is not None:
            play(run, fracs, speed=80.0, **more)
        return run

    make("failed", RunSpec(**kd, seed=5, lr=9.0), [0.1, 0.1], how="failed", reason="the loss is not finite in epoch 3 (term kd)")
    make("cancelled", RunSpec(**kd, seed=6), [0.1, 0.2, 0.3], how="cancelled", reason="stopped on request")
    make("lost", RunSpec(**kd, seed=7), [0.1, 0.2], how=None, pid=999_999)
    running = make("running", RunSpec(**base, seed=8, epochs=40), None)
    handle = take_lock(running)
    assert handle is not None
    made.locks.append(handle)
    play(running, [0.1 + 0.02 * i for i in range(12)], speed=300.0, how=None, pid=os.getpid())
    running.write_progress({"phase": "main", "epoch": 13, "epochs": 40, "step": 30, "steps": 74, "images_per_s": 300.0})
    make("queued", RunSpec(**kd, seed=9))
    make("waiting", RunSpec(**{**kd, "teacher": "resnet14"}, seed=9, teacher_seed=8), teacher_run=running.run_id)


def _fracs(curve: str, n: int) -> list[float]:
    noise = random.Random(f"{curve}{n}")
    return [min(0.99, max(0.05, (float(v) + noise.uniform(-2, 2)) / 100)) for v in curve.split()]


if __name__ == "__main__":
    made = seed(Home.find(), live="--live" in sys.argv)
    sys.stdout.write(f"{made.teacher} and {len(made.finished)} finished, {made.other}\n")
    sys.stdout.flush()
    while made.locks:
        time.sleep(1)
