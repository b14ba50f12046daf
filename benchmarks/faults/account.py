"""The account of a campaign: what was killed, and what was lost, doubled or left hanging by it.

Reads / writes: nothing. ``audit`` fills it in.
"""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field
from typing import Any

# what has to be nought at the end, in words
NOUGHT = {
    "lost": "acknowledged epochs lost",
    "doubled": "epochs doubled",
    "runs_stuck": "runs stuck",
    "exports_stuck": "exports stuck",
    "halves": "files or leftovers of half an export",
    "servers_failed": "servers that did not start again",
    "snapshots_unreadable": "snapshots that could not be read",
    "differences": "rows that differ from the record, or that a rebuild changes",
}
COUNTS = {
    "acknowledged": "acknowledged epochs",
    "cut": "epochs that a scene cut out of the record itself",
    "repeated": "epochs told again, in the record, after a checkpoint that a full disk refused",
    "runs": "runs",
    "exports": "exports",
    "servers": "servers started",
    "snapshots": "snapshots read",
}


@dataclass
class Account:
    """Counts; ``figures``: what scenes measured on the way, name -> value."""

    kills: Counter[str] = field(default_factory=Counter)
    acknowledged: int = 0
    cut: int = 0
    repeated: int = 0
    runs: int = 0
    exports: int = 0
    servers: int = 0
    snapshots: int = 0
    lost: int = 0
    doubled: int = 0
    runs_stuck: int = 0
    exports_stuck: int = 0
    halves: int = 0
    servers_failed: int = 0
    snapshots_unreadable: int = 0
    differences: int = 0
    figures: dict[str, Any] = field(default_factory=dict)

    def add(self, other: Account) -> None:
        """Add the counts of another account."""
        self.kills += other.kills
        for name in (*COUNTS, *NOUGHT):
            setattr(self, name, getattr(self, name) + getattr(other, name))
        self.figures |= other.figures

    @property
    def is_clean(self) -> bool:
        """Say whether all is nought that has to be."""
        return not any(getattr(self, name) for name in NOUGHT)

    def rows(self) -> list[list[object]]:
        """Return the account as rows of a table: what, how many."""
        kills: list[list[object]] = [[f"kill -9: {what}", n] for what, n in sorted(self.kills.items())]
        kills.append(["kill -9 in all", sum(self.kills.values())])
        counts: list[list[object]] = [[words, getattr(self, name)] for name, words in COUNTS.items()]
        return kills + counts + [[f"**{words}**", f"**{getattr(self, name)}**"] for name, words in NOUGHT.items()]

    def as_dict(self) -> dict[str, Any]:
        """Return plain values for JSON."""
        counts = {name: getattr(self, name) for name in (*COUNTS, *NOUGHT)}
        return {"kills": dict(self.kills), "kills_in_all": sum(self.kills.values()), **counts, "figures": self.figures}
