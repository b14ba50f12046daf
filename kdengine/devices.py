"""What the hardware offers a run: the device, the precision, memory and the numbers that describe them.

Reads: torch's view of the machine. Writes: nothing. Never: starts CUDA in the app (only a worker calls ``pick_device``).
"""

from __future__ import annotations

import platform
import resource
import sys
from pathlib import Path

import torch

from kdengine.errors import KdError, Problem, RunFailed
from kdengine.slots import is_small
from kdengine.spec import RunSpec

MIB = 1024 * 1024


def pick_device(wish: str) -> torch.device:
    """Return the device for ``auto | cpu | mps | cuda | cuda:N``; auto = the first GPU, else the CPU.

    Raises:
        KdError: that device is not there.
    """
    if wish == "auto":
        return torch.device("cuda:0" if torch.cuda.is_available() else "cpu")
    device = torch.device("cuda:0" if wish == "cuda" else wish)
    there = {"cpu": True, "cuda": torch.cuda.is_available(), "mps": torch.backends.mps.is_available()}[device.type]
    if there and device.type == "cuda":
        there = (device.index or 0) < torch.cuda.device_count()
    if not there:
        gpus = [f"cuda:{i}" for i in range(torch.cuda.device_count())]
        raise KdError.of(wish, ", ".join(["auto", "cpu", *gpus]), "choose a device that this machine has", "device")
    return device


def tune(device: torch.device) -> None:
    """Let cuDNN try its convolutions once per shape and keep the fastest: every step has the same shapes."""
    if device.type == "cuda":
        torch.backends.cudnn.benchmark = True


def has_fast_bf16(device: torch.device) -> bool:
    """Say whether the hardware is faster in bf16: CUDA 8.0 and newer, AMX, AVX-512 BF16 other than Intel's.

    Intel's AVX-512 BF16 without AMX has the instructions but not the speed: convolutions of 16 to 64 channels take 1.0 to
    1.4 times as long as in fp32, and a whole step 1.2 to 1.7 times (docs/decisions/008). On AMD's it was found faster.
    """
    if device.type == "cuda":
        return torch.cuda.get_device_capability(device) >= (8, 0)
    if device.type != "cpu":
        return False
    amx, avx = (bool(getattr(torch.cpu, flag, bool)()) for flag in ("_is_amx_tile_supported", "_is_avx512_bf16_supported"))
    return amx or (avx and "intel" not in device_name(device).lower())


def pick_precision(spec: RunSpec, device: torch.device) -> str:
    """Return ``fp32`` or ``bf16``, as the spec has it; auto = bf16 where the hardware has it and it is the faster one.

    On a CPU a step of few pixels is faster in fp32 (resnet8, batch 16, one thread: 18 ms against 25 to 30): the casts cost
    more than the arithmetic saves.
    """
    if spec.precision != "auto":
        return spec.precision
    return "bf16" if has_fast_bf16(device) and not (device.type == "cpu" and is_small(spec)) else "fp32"


def device_name(device: torch.device) -> str:
    """Return the maker's name of the device, for the record."""
    if device.type == "cuda":
        return torch.cuda.get_device_name(device)
    if sys.platform == "linux":
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8", errors="replace").splitlines()
        names = [line.split(":", 1)[1].strip() for line in lines if line.startswith("model name")]
        if names:
            return names[0]
    return platform.processor() or platform.machine()


def reset_peak(device: torch.device) -> None:
    """Start counting the peak memory anew, where the device can (a CPU process cannot)."""
    if device.type == "cuda":
        torch.cuda.reset_peak_memory_stats(device)


def peak_mib(device: torch.device) -> float:
    """Return the peak memory in MiB: allocated on the GPU, or resident in the whole process on a CPU."""
    if device.type == "cuda":
        return torch.cuda.max_memory_allocated(device) / MIB
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak / MIB if sys.platform == "darwin" else peak / 1024


def is_out_of_memory(error: BaseException) -> bool:
    """Say whether ``error`` means that memory ran out, on any device."""
    if isinstance(error, MemoryError | torch.OutOfMemoryError):
        return True
    return isinstance(error, RuntimeError) and any(w in str(error) for w in ("not enough memory", "can't allocate memory"))


def out_of_memory(batch_size: int, device: torch.device | str) -> RunFailed:
    """Return the error that names the batch size to try."""
    smaller = max(2, 2 ** ((batch_size - 1).bit_length() - 1))
    given = f"{batch_size} images per step, and the memory of the device ({device}) ran out"
    advice = f"retry with batch_size {smaller} (scale lr by the same factor), or choose smaller networks"
    return RunFailed(Problem("batch_size", given, f"at most about {smaller}", advice))
