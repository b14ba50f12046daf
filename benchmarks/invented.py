"""Invented runs: folders whose curves are formulas, to fill a store without training.

Reads / writes: run folders of the home it is given.

``python -m benchmarks.invented --runs 1000 --epochs 240`` fills ``KD_HOME`` with what a busy lab leaves: every method on four
pairs of networks and data, ten seeds each, for looking at pages and for measuring them.
"""

from __future__ import annotations

import argparse
import random
import sys
from collections.abc import Iterator
from itertools import islice
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))  # also runs as a plain file

from kdengine import catalogue
from kdengine.events import Ended, EpochEnded, Measures, NetworkInfo, Started, to_line
from kdengine.home import Home
from kdengine.rundir import RunDir
from kdengine.spec import RunSpec

METHODS = {"base": ("ce",), "kd": ("ce", "kl"), "fitnet": ("ce", "hint"), "ft": ("ce", "ft")}  # invented runs, real names
# what a lab compares: dataset, teacher, student, the accuracy that the student alone reaches
COLUMNS = (
    ("cifar10", "resnet110", "resnet20", 0.921),
    ("cifar100", "resnet110", "resnet20", 0.688),
    ("cifar100", "resnet32x4", "resnet8x4", 0.724),
    ("cifar100", "wrn_40_2", "wrn_16_2", 0.733),
)
SEEDS = 10


def invented_run(home: Home, number: int, epochs: int) -> RunDir:
    """Make the folder of a finished run whose curve is a formula."""
    method = list(METHODS)[number % len(METHODS)]
    spec = RunSpec(method=method, student="resnet8", teacher=None if method == "base" else "resnet20", epochs=epochs,
                   seed=number // len(METHODS), suite=f"suite-{number // 40}")  # fmt: skip
    return _written(home, spec, [epoch_of(method, number, e, epochs) for e in range(1, epochs + 1)])


def lab(home: Home, runs: int, epochs: int) -> list[RunDir]:
    """Make ``runs`` finished runs of a lab that compares every method: seed by seed, in all four columns."""
    return [_lab_run(home, place, spec, level, epochs) for place, (spec, level) in enumerate(islice(_wishes(epochs), runs))]


def _wishes(epochs: int) -> Iterator[tuple[RunSpec, float]]:
    """Yield specs of a lab and the accuracy that each settles at, without end: every round of ten seeds is a suite."""
    labels = list(catalogue.labels().values())
    seed = 0
    while True:
        for dataset, teacher, student, alone in COLUMNS:
            for rank, label in enumerate(labels):
                free = label.family in ("plain", "online")
                spec = RunSpec(method=label.key, dataset=dataset, student=student, teacher=None if free else teacher,
                               epochs=epochs, seed=seed, suite=f"lab-{seed // SEEDS}", recipe="paper",
                               peers=(student,) if label.peers else ())  # fmt: skip
                yield spec, alone + 0.0015 * ((rank * 7) % len(labels)) + random.Random(f"{spec}").gauss(0, 0.003)
        seed += 1


def _lab_run(home: Home, place: int, spec: RunSpec, level: float, epochs: int) -> RunDir:
    draw = random.Random(place)
    found = []
    for epoch in range(1, epochs + 1):
        event = epoch_of(spec.method, place, epoch, epochs, terms=("ce", spec.method))
        top1 = level * (1 - 0.97**epoch) + draw.gauss(0, 0.004)
        event.measures["student"] = event.measures["student"].model_copy(update={"test_top1_frac": min(1.0, max(0.0, top1))})
        found.append(event)
    return _written(home, spec, found)


def _written(home: Home, spec: RunSpec, events: list[EpochEnded]) -> RunDir:
    run = RunDir.create(home, spec)
    lines = [to_line(started_of(spec.epochs, spec)), *(to_line(event) for event in events)]
    run.events_jsonl.write_bytes(b"".join(lines) + to_line(Ended(how="finished", elapsed_s=2.0 * len(events))))
    return run


def epoch_of(method: str, number: int, epoch: int, epochs: int, terms: tuple[str, ...] | None = None) -> EpochEnded:
    """Return one epoch of the invented curve."""
    top1 = 0.9 * (1 - 0.98**epoch) + 0.001 * (number % 7)
    student = Measures(train_loss=2 / epoch, test_loss=2.2 / epoch, test_top1_frac=top1, test_top5_frac=min(1.0, top1 + 0.1),
                       test_ece_frac=0.05, agreement_frac=top1, teacher_kl=0.4)  # fmt: skip
    return EpochEnded(epoch=epoch, epochs=epochs, images_seen=1000 * epoch, elapsed_s=2.0 * epoch, epoch_s=2.0,
                      images_per_s=500.0, lr=0.1 / epoch, peak_mib=300.0, measures={"student": student},
                      terms={"student": dict.fromkeys(terms or METHODS[method], 1.0 / epoch)})  # fmt: skip


def started_of(epochs: int, spec: RunSpec | None = None) -> Started:
    """Return the first event of an invented run."""
    networks = [NetworkInfo(network="student", model=spec.student if spec else "resnet8", params=78_042, macs=12_000_000)]
    if spec and spec.teacher:
        networks.append(NetworkInfo(network="teacher", model=spec.teacher, params=1_730_714, macs=255_000_000))
    return Started(attempt=1, device="cpu", device_name="invented", precision="fp32", threads=2, cpu_capability="AVX512",
                   versions={"torch": "0"}, networks=networks, train_images=1000, val_images=0, test_images=600, classes=10,
                   teacher_top1_frac=0.94 if spec and spec.teacher else None, epochs=epochs, phases=["main"])  # fmt: skip


def main() -> None:
    """Read the arguments and fill KD_HOME, which must be named: nobody wants invented results beside real ones."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--runs", type=int, default=1000)
    parser.add_argument("--epochs", type=int, default=240)
    parser.add_argument("--home", type=Path, required=True, help="an empty folder that becomes KD_HOME")
    args = parser.parse_args()
    if args.home.exists() and any(args.home.iterdir()):
        raise SystemExit(f"given: {args.home}, which holds something; allowed: an empty folder; next: name another")
    print(len(lab(Home(args.home).made(), args.runs, args.epochs)), "runs in", args.home)


if __name__ == "__main__":
    main()
