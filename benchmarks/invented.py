"""Invented runs: folders whose curves are formulas, to fill a store without training.

Reads / writes: run folders of the home it is given.
"""

from __future__ import annotations

from kdengine.events import Ended, EpochEnded, Measures, NetworkInfo, Started, to_line
from kdengine.home import Home
from kdengine.rundir import RunDir
from kdengine.spec import RunSpec

METHODS = {"base": ("ce",), "kd": ("ce", "kl"), "fitnet": ("ce", "hint"), "ft": ("ce", "ft")}  # invented runs, real names


def invented_run(home: Home, number: int, epochs: int) -> RunDir:
    """Make the folder of a finished run whose curve is a formula."""
    method = list(METHODS)[number % len(METHODS)]
    spec = RunSpec(method=method, student="resnet8", teacher=None if method == "base" else "resnet20", epochs=epochs,
                   seed=number // len(METHODS), suite=f"suite-{number // 40}")  # fmt: skip
    run = RunDir.create(home, spec)
    lines = [to_line(started_of(epochs)), *(to_line(epoch_of(method, number, e, epochs)) for e in range(1, epochs + 1))]
    run.events_jsonl.write_bytes(b"".join(lines) + to_line(Ended(how="finished", elapsed_s=2.0 * epochs)))
    return run


def epoch_of(method: str, number: int, epoch: int, epochs: int) -> EpochEnded:
    """Return one epoch of the invented curve."""
    top1 = 0.9 * (1 - 0.98**epoch) + 0.001 * (number % 7)
    student = Measures(train_loss=2 / epoch, test_loss=2.2 / epoch, test_top1_frac=top1, test_top5_frac=min(1.0, top1 + 0.1),
                       test_ece_frac=0.05, agreement_frac=top1, teacher_kl=0.4)  # fmt: skip
    return EpochEnded(epoch=epoch, epochs=epochs, images_seen=1000 * epoch, elapsed_s=2.0 * epoch, epoch_s=2.0,
                      images_per_s=500.0, lr=0.1 / epoch, peak_mib=300.0, measures={"student": student},
                      terms={"student": dict.fromkeys(METHODS[method], 1.0 / epoch)})  # fmt: skip


def started_of(epochs: int) -> Started:
    """Return the first event of an invented run."""
    student = NetworkInfo(network="student", model="resnet8", params=78_042, macs=12_000_000)
    return Started(attempt=1, device="cpu", device_name="invented", precision="fp32", threads=2, cpu_capability="AVX512",
                   versions={"torch": "0"}, networks=[student], train_images=1000, val_images=0, test_images=600, classes=10,
                   epochs=epochs, phases=["main"])  # fmt: skip
