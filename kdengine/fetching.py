"""Bringing a dataset here from a page: a download with progress that nobody waits for, and its decoding for sample images.

Reads: the register, the files of its errand (see ``errands``). Writes: through the process that it starts,
``python -m kdengine datasets fetch NAME``. Never: torch, the download itself.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

from kdengine import datasets, errands, pictures
from kdengine.errands import Errand, Recorder
from kdengine.errors import Problem
from kdengine.home import Home

State = Literal["here", "absent", "fetching", "failed"]
DOWNLOAD, DECODE = "download", "decode"


@dataclass(frozen=True, slots=True)
class View:
    """How a dataset stands: ``here`` (it can be trained on), ``absent``, ``fetching``, ``failed``.

    ``decoded``: sample images can be shown. While fetching: ``step`` download or decode ("" = starting), ``done`` of ``total``
    in bytes or images (0 = not known), ``share`` 0 to 1, ``left_s`` seconds. ``problems``: why the last attempt failed; of a
    dataset that is here, why it could not be decoded.
    """

    state: State
    decoded: bool = False
    step: str = ""
    done: float = 0.0
    total: float = 0.0
    share: float = 0.0
    left_s: float | None = None
    problems: tuple[Problem, ...] = ()


def errand(key: str) -> Errand:
    """Return the errand that fetches ``key``."""
    return Errand(f"fetch-{key}", ("datasets", "fetch", key))


def view(home: Home, key: str) -> View:
    """Return how the dataset stands. Never waits.

    Raises:
        UnknownKey: there is no such dataset.
    """
    here = datasets.is_here(home, key)
    now = errands.standing(home, errand(key))
    decoded = pictures.decoded(home, key) is not None
    if now.going:
        return View("fetching", decoded, now.step, now.done, now.total, now.share, now.left_s)
    state: State = "here" if here else "failed" if now.problems else "absent"
    return View(state, decoded, problems=now.problems)


def start(home: Home, key: str) -> bool:
    """Start to fetch the dataset, and to decode it, in a process of its own; False where that is under way already.

    Raises:
        UnknownKey: there is no such dataset.
    """
    datasets.get(home, key)
    return errands.start(home, errand(key))


def cancel(home: Home, key: str) -> None:
    """Stop the fetching; returns when it is over and what it had begun is cleared.

    Raises:
        RunBusy: its process cannot be reached from here.
    """
    errands.cancel(home, errand(key))


def whole(report: Callable[[float, float], None], expected_bytes: float) -> Callable[[int, int], None]:
    """Return a report for the files of one download that passes on the bytes of all of them, of ``expected_bytes`` together.

    A file that begins anew (another mirror) counts once.
    """
    before, last = 0, (0, 0)

    def each(done: int, total: int) -> None:
        nonlocal before, last
        if 0 < last[1] <= last[0]:  # the file before was complete: this is the next one
            before += last[0]
        last = (done, total)
        report(before + done, max(expected_bytes, before + total))

    return each


__all__ = ["DECODE", "DOWNLOAD", "Recorder", "State", "View", "cancel", "errand", "start", "view", "whole"]
