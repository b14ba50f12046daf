"""What can go wrong, said in three parts: what was given, what is allowed, what to do next.

Reads: nothing. Writes: nothing. Never: torch, pandas, DuckDB, Streamlit.
"""

from __future__ import annotations

import difflib
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass
from typing import Any


@dataclass(frozen=True, slots=True)
class Problem:
    """One fault: ``field`` it concerns ("" = the whole), what was ``given``, what is ``allowed``, what to ``do`` next."""

    field: str
    given: str
    allowed: str
    do: str

    def __str__(self) -> str:
        where = f"{self.field}: " if self.field else ""
        return f"{where}given {self.given}; allowed: {self.allowed}; next: {self.do}"

    def as_dict(self) -> dict[str, str]:
        """The four parts as plain strings, for JSON."""
        return asdict(self)


class KdError(Exception):
    """Any fault that KD Explorer explains. ``problems`` holds every fault found, not only the first."""

    def __init__(self, *problems: Problem) -> None:
        self.problems: tuple[Problem, ...] = problems
        super().__init__("\n".join(str(p) for p in problems))

    @classmethod
    def of(cls, given: str, allowed: str, do: str, field: str = "") -> KdError:
        """Build the error from the three parts of a single fault."""
        return cls(Problem(field, given, allowed, do))


class SpecError(KdError):
    """A run specification is wrong in itself or does not fit what exists here."""


class UnknownKey(KdError, KeyError):
    """A method, model, dataset, recipe or run of that name does not exist."""

    def __str__(self) -> str:  # KeyError would show the repr
        return "\n".join(str(p) for p in self.problems)


class RunFailed(KdError):
    """Training could not go on: a loss that is not finite, no memory left, a teacher that cannot be loaded."""


class RunBusy(KdError):
    """Somebody else holds what is needed: the run's lock, the queue."""


class HomeError(KdError):
    """The place where runs and results live cannot be used."""


class StoreBusy(KdError):
    """Another process writes the results database."""


def nearest(word: str, known: Iterable[str]) -> str | None:
    """Return the known name closest to ``word``, or None when nothing is near."""
    found = difflib.get_close_matches(str(word).lower(), list(known), n=1, cutoff=0.5)
    return found[0] if found else None


def unknown(kind: str, given: Any, known: Sequence[str], field: str = "", do: str = "") -> Problem:
    """Describe an unknown ``kind`` of thing: lists the known names and suggests the nearest one."""
    close = nearest(str(given), known)
    advice = f"did you mean {close!r}?" if close else "choose one of them"
    allowed = ", ".join(known) if known else f"no {kind} is there yet"
    return Problem(field or kind, f"{kind} {given!r}", allowed, f"{advice} {do}".strip())
