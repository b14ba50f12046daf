"""Everything needed to go on with a training as if nothing had happened, in one file, written aside and renamed.

Reads / writes: ``last.pt`` of its own run. Never: a pickle other than tensors and plain values (``weights_only=True``).
"""

from __future__ import annotations

import os
import pickle  # noqa: TID251 (for the name of the error that torch raises)
from pathlib import Path
from typing import Any

import torch

from kdengine.errors import Problem, RunFailed
from kdengine.events import EpochEnded, Notice


def save(state: dict[str, Any], file: Path) -> None:
    """Write ``state`` (tensors and plain values) to ``file`` atomically and durably.

    Raises:
        OSError: the disk is full or not writable; an earlier checkpoint is untouched.
    """
    aside = file.with_name(file.name + ".new")
    try:
        with aside.open("wb") as out:
            torch.save(state, out)
            out.flush()
            os.fsync(out.fileno())
        aside.replace(file)
    except (OSError, RuntimeError) as error:  # torch reports a full disk as a RuntimeError
        aside.unlink(missing_ok=True)
        raise OSError(f"checkpoint not written: {error}") from error


def load(file: Path) -> dict[str, Any] | None:
    """Return the state in ``file``; None when there is no such file.

    Raises:
        RunFailed: the file cannot be read.
    """
    if not file.exists():
        return None
    try:
        state: dict[str, Any] = torch.load(file, map_location="cpu", weights_only=True)
    except (OSError, RuntimeError, EOFError, ValueError, KeyError, pickle.UnpicklingError) as error:
        raise RunFailed(Problem("checkpoint", f"{file.name}, which cannot be read ({str(error).splitlines()[0][:120]})",
                                "an intact checkpoint of this run", "retry the run: a new one starts from the beginning")
                        ) from error  # fmt: skip
    return state


def missing(event: EpochEnded, logged: set[tuple[str, int]]) -> list[Notice]:
    """Return a notice that names the epochs before ``event``, of its phase, that the record has lost; none where it has all."""
    gone = [str(epoch) for epoch in range(1, event.epoch) if (event.phase, epoch) not in logged]
    if not gone:
        return []
    which = f"epoch{'s' * (len(gone) > 1)} {', '.join(gone[:8])}{' and others' * (len(gone) > 8)}"
    why = "a full disk refused it, or the file was cut" if len(gone) == 1 else "a full disk refused them, or the file was cut"
    return [Notice(text=f"The record lacks {which} of phase {event.phase}: {why}. The training is whole; its curve has a gap.")]


def random_state() -> dict[str, Any]:
    """Return the state of torch's global generators."""
    cuda = torch.cuda.get_rng_state_all() if torch.cuda.is_initialized() else []
    return {"cpu": torch.get_rng_state(), "cuda": cuda}


def set_random_state(state: dict[str, Any]) -> None:
    """Put the global generators back; CUDA's only if there are as many devices as then."""
    torch.set_rng_state(state["cpu"])
    if state["cuda"] and torch.cuda.is_available() and len(state["cuda"]) == torch.cuda.device_count():
        torch.cuda.set_rng_state_all(state["cuda"])
