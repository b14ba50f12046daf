"""How long does a race chart take, from the start of the process to its end, against the package bar_chart_race as it is?

Reads / writes: a temporary folder; a Markdown table on standard output, what is under way on standard error.

Both get the same table of ten methods (curves that look like accuracies, always the same ones), ten steps per epoch, 20 frames
per second, nothing held. The package draws at its default size, 6 x 3.5 inches at 144 dpi, which these labels widen to 944 x 504
pixels; ours draws that size. Each run is a fresh process; package and ours take turns. CPU seconds and memory are those of all
processes, ffmpeg included; memory is the greatest sum of resident sets, looked at every 50 ms. Both files must have as many
frames.
"""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import median

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))  # also runs as a plain file

import imageio_ffmpeg
import numpy as np
import psutil
from PIL import Image

from benchmarks.measuring import ForeignLoad, machine, spread, table

ROOT = Path(__file__).resolve().parent.parent
METHODS = ("base", "kd", "fitnet stage 2", "at", "sp", "cc", "vid", "rkd", "crd", "ofd")
STEPS, FPS = 10, 20
GIF_NEEDS_MIB = 7000  # of the package for 2,391 frames; less is no use in trying
LOOK_S = 0.05
PACKAGE = """
import sys, warnings
warnings.simplefilter("ignore")
import imageio_ffmpeg, matplotlib, pandas
from bar_chart_race import bar_chart_race
matplotlib.rcParams["animation.ffmpeg_path"] = imageio_ffmpeg.get_ffmpeg_exe()
source, out, width, height = sys.argv[1:]
bar_chart_race(pandas.read_csv(source, index_col=0), out, steps_per_period=10, period_length=500, interpolate_period=True,
               figsize=(float(width), float(height)), dpi=144)
"""


@dataclass(frozen=True, slots=True)
class Case:
    """One file: ``format``, ``epochs``, our size in pixels, the package's in inches before its labels widen the picture.
    ``package_most``: how often the package is run at most."""

    format: str
    epochs: int
    size: tuple[int, int] = (944, 504)
    inches: tuple[float, float] = (6.0, 3.5)
    package_most: int | None = None

    @property
    def name(self) -> str:
        """How ``--only`` calls it: ``mp4-20``, ``mp4-60-1080p``."""
        return f"{self.format}-{self.epochs}" + ("" if self.size[1] == 504 else f"-{self.size[1]}p")

    @property
    def frames(self) -> int:
        """Frames that both must make."""
        return (self.epochs - 1) * STEPS + 1

    def words(self, who: str, source: Path, out: Path) -> list[str]:
        """Return the command of ``who``."""
        if who == "package":
            return [sys.executable, "-c", PACKAGE, str(source), str(out), *map(str, self.inches)]
        width, height = map(str, self.size)
        looks = ["--width", width, "--height", height, "--fps", str(FPS), "--steps", str(STEPS), "--hold", "0"]
        return [sys.executable, "-m", "store", "race", "--csv", str(source), "--out", str(out), *looks]


CASES = (
    *(Case("mp4", epochs) for epochs in (20, 60, 240)),
    *(Case("gif", epochs) for epochs in (20, 60)),
    Case("gif", 240, package_most=1),  # three minutes and 5.7 GB
    Case("mp4", 60, (1920, 1080), (12.74, 7.5)),
)
SHORT = ("mp4-20", "gif-20")


@dataclass(frozen=True, slots=True)
class Run:
    """What one process took, and what it made; ``foreign``: share of the processors that others used meanwhile."""

    wall_s: float
    cpu_s: float
    peak_mib: float
    frames: int
    size: tuple[int, int]
    megabytes: float
    foreign: float


def curves(epochs: int) -> str:
    """Return a table of accuracies in percent: a fast rise, a step where the learning rate drops, noise."""
    random = np.random.default_rng(0)
    share = np.arange(1, epochs + 1)[:, None] / epochs
    ends, speeds = random.uniform(66, 76, len(METHODS)), random.uniform(4, 14, len(METHODS))
    values = (ends - 5) * (1 - np.exp(-speeds * share)) + 5 * (share > 0.6) + random.normal(0, 0.5, (epochs, len(METHODS)))
    rows = [",".join([str(epoch), *(f"{value:.2f}" for value in row)]) for epoch, row in enumerate(values, 1)]
    return "\n".join([",".join(["epoch", *METHODS]), *rows, ""])


class Memory(threading.Thread):
    """Looks at a process and its children until it is told to end; ``peak_mib`` is the most they held together."""

    def __init__(self, pid: int) -> None:
        super().__init__(daemon=True)
        self.peak_mib = 0.0
        self._pid, self._end = pid, threading.Event()

    def run(self) -> None:
        """Look every 50 ms."""
        while not self._end.wait(LOOK_S):
            try:
                process = psutil.Process(self._pid)
                held = sum(_resident_bytes(one) for one in (process, *process.children(recursive=True)))
            except psutil.Error:
                return
            self.peak_mib = max(self.peak_mib, held / 2**20)

    def end(self) -> None:
        """Stop looking."""
        self._end.set()
        self.join()


def _resident_bytes(process: psutil.Process) -> int:
    try:
        return int(process.memory_info().rss)
    except psutil.Error:  # it has just ended
        return 0


def measured(words: Sequence[str], out: Path) -> Run:
    """Run a command to its end and return what it took.

    Raises:
        SystemExit: it failed; with what it said.
    """
    load = ForeignLoad().start()
    with tempfile.TemporaryFile() as said:
        began = time.perf_counter()
        process = subprocess.Popen(words, cwd=ROOT, stdout=said, stderr=said)
        memory = Memory(process.pid)
        memory.start()
        _, status, used = os.wait4(process.pid, 0)  # its usage contains that of the children it has waited for
        wall = time.perf_counter() - began
        memory.end()
        process.returncode = os.waitstatus_to_exitcode(status)
        said.seek(0)
        if process.returncode:
            raise SystemExit(
                f"{' '.join(words)} ended with {process.returncode}:\n{said.read().decode(errors='replace')[-3000:]}"
            )
    cpu = used.ru_utime + used.ru_stime
    foreign = max(0.0, load.share() - cpu / (wall * (psutil.cpu_count() or 1)))  # the children are gone when ``load`` is asked
    frames, size = counted(out)
    return Run(wall, cpu, memory.peak_mib, frames, size, out.stat().st_size / 1e6, foreign)


def counted(out: Path) -> tuple[int, tuple[int, int]]:
    """Return number of frames and size in pixels of a file."""
    if out.suffix == ".gif":
        with Image.open(out) as picture:
            return picture.n_frames, picture.size  # type: ignore[attr-defined]
    frames, _ = imageio_ffmpeg.count_frames_and_secs(str(out))
    about = next(imageio_ffmpeg.read_frames(str(out)))
    return frames, about["size"]


def measure(case: Case, repeats: int, folder: Path) -> dict[str, list[Run]]:
    """Let package and ours take turns at one file; return the runs of each."""
    source = folder / f"epochs-{case.epochs}.csv"
    source.write_text(curves(case.epochs), encoding="utf-8")
    runs: dict[str, list[Run]] = {"package": [], "ours": []}
    for turn in range(repeats):
        for who, own in runs.items():
            if who == "package" and not _may(case, turn):
                continue
            out = folder / f"{who}.{case.format}"
            own.append(measured(case.words(who, source, out), out))
            out.unlink()
            print(f"{case.name}, {who}: {own[-1].wall_s:.2f} s", file=sys.stderr, flush=True)
    return runs


def _may(case: Case, turn: int) -> bool:
    if case.package_most is None:
        return True
    return turn < case.package_most and psutil.virtual_memory().available / 2**20 > GIF_NEEDS_MIB


def rows(case: Case, runs: dict[str, list[Run]]) -> Iterable[list[object]]:
    """Yield a row of the table for package and ours."""
    for who, own in runs.items():
        if not own:
            yield [case.name, who, "not run: too little memory", *[""] * 8]
            continue
        frames = {run.frames for run in own}
        said = f"{case.frames}" if frames == {case.frames} else f"**{sorted(frames)} instead of {case.frames}**"
        times = [run.wall_s for run in own]
        yield [case.name, who, said, "x".join(map(str, own[0].size)), spread(times, 2), ratio(runs, "wall_s", who),
               spread([run.cpu_s for run in own], 2), ratio(runs, "cpu_s", who), f"{max(run.peak_mib for run in own):.0f}",
               f"{own[-1].megabytes:.2f}", f"{100 * max(run.foreign for run in own):.0f} %", len(own)]  # fmt: skip


def ratio(runs: dict[str, list[Run]], field: str, who: str) -> str:
    """Return how many times less ours took than the package: median of the pairs, least to greatest."""
    if who == "package" or not runs["package"]:
        return ""
    pairs = zip(runs["package"], runs["ours"], strict=False)
    ratios = [getattr(package, field) / getattr(ours, field) for package, ours in pairs]
    return spread(ratios, 1) if len(ratios) > 1 else f"{median(ratios):.1f}"


HEAD = (
    "file",
    "who",
    "frames",
    "pixels",
    "s, start to end",
    "x faster",
    "CPU s",
    "x less CPU",
    "peak MiB",
    "MB",
    "foreign load",
    "n",
)


def warmed(folder: Path) -> None:
    """Run both once, so that neither pays for reading its packages from the disk, or for matplotlib's list of fonts."""
    case, source = Case("mp4", 2), folder / "warm.csv"
    source.write_text(curves(2), encoding="utf-8")
    for who in ("package", "ours"):
        measured(case.words(who, source, folder / "warm.mp4"), folder / "warm.mp4")


def main() -> None:
    """Read the arguments and measure."""
    names = [case.name for case in CASES]
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--only", nargs="+", choices=names, default=names, metavar="FILE", help=", ".join(names))
    parser.add_argument("--short", action="store_true", help=f"once each: {', '.join(SHORT)}")
    args = parser.parse_args()
    wanted = [case for case in CASES if case.name in (SHORT if args.short else args.only)]
    found: list[list[object]] = []
    with tempfile.TemporaryDirectory(prefix="kd-bench-") as folder:
        warmed(Path(folder))
        load = os.getloadavg()[0]
        for case in wanted:
            found += rows(case, measure(case, 1 if args.short else args.repeats, Path(folder)))
    print(f"{len(METHODS)} methods, {STEPS} steps per epoch, {FPS} frames per second. {machine()}; load before: {load:.1f}.\n")
    print(table(HEAD, found))


if __name__ == "__main__":
    main()
