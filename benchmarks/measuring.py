"""What every measurement says beside its numbers: the machine, who else used it, a Markdown table.

Reads: the kernel's counters. Writes: standard output.
"""

from __future__ import annotations

import platform
from collections.abc import Iterable, Sequence
from pathlib import Path
from statistics import median
from typing import Self

import psutil


def machine() -> str:
    """Return one line on the hardware: processor, cores, memory, instructions that matter here."""
    cpuinfo = Path("/proc/cpuinfo")
    text = cpuinfo.read_text(encoding="utf-8", errors="replace") if cpuinfo.exists() else ""
    name = next(
        (line.split(":", 1)[1].strip() for line in text.splitlines() if line.startswith("model name")), platform.processor()
    )
    flags = next((line.split(":", 1)[1].split() for line in text.splitlines() if line.startswith("flags")), [])
    special = [flag for flag in ("avx2", "avx512f", "avx512_bf16", "amx_bf16") if flag in flags]
    gib = psutil.virtual_memory().total / 2**30
    features = " ".join(special) or "no AVX2"
    return f"{name}, {psutil.cpu_count()} threads, {gib:.0f} GiB, {features}, Python {platform.python_version()}"


class ForeignLoad:
    """Share of the machine's processors that others used between ``start`` and ``share``: 0 to 1.

    Own time is that of this process and its living children; ask before they are gone.
    """

    def __init__(self) -> None:
        self._own = self._busy = self._all = 0.0

    def start(self) -> Self:
        """Begin to count."""
        self._own, self._busy, self._all = _own_s(), *_machine_s()
        return self

    def share(self) -> float:
        """Return the others' share since ``start``."""
        busy, total = _machine_s()
        foreign = (busy - self._busy) - (_own_s() - self._own)
        return max(0.0, foreign / max(1e-9, total - self._all))


def _own_s() -> float:
    me = psutil.Process()
    spent = 0.0
    for process in (me, *me.children(recursive=True)):
        try:
            times = process.cpu_times()
        except psutil.NoSuchProcess:
            continue
        spent += times.user + times.system
    return spent


def _machine_s() -> tuple[float, float]:
    times = psutil.cpu_times()
    idle = times.idle + getattr(times, "iowait", 0.0)
    total = sum(times) - getattr(times, "guest", 0.0) - getattr(times, "guest_nice", 0.0)  # guest is part of user
    return total - idle, total


def table(head: Sequence[str], rows: Iterable[Sequence[object]]) -> str:
    """Return a Markdown table; floats are shown with three significant digits."""
    lines = ["| " + " | ".join(head) + " |", "|" + "---|" * len(head)]
    lines += ["| " + " | ".join(_cell(value) for value in row) + " |" for row in rows]
    return "\n".join(lines)


def spread(values: Sequence[float], digits: int = 0) -> str:
    """Return ``median (least to greatest)``."""
    return f"{median(values):.{digits}f} ({min(values):.{digits}f} to {max(values):.{digits}f})"


def _cell(value: object) -> str:
    return f"{value:.3g}" if isinstance(value, float) else str(value)
