"""What an empty cell of the table would take to fill: the specs of its runs, and their launch.

A missing run is trained as its method is in another column, under the protocol of the column it is missing in.

Reads: requests of runs that are there. Writes: new run folders, through ``actions``. Never: torch before somebody presses.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pandas as pd

from kdengine.spec import TEACHER_FIELDS, RunSpec
from pages.parts import actions

KEY = "missing-runs"
OWN = ("method", "params", "combine", "generation", "peers", "peer_inits")  # what a run has of its method, not of its column


def seeds_of(cells: pd.DataFrame, column: str) -> tuple[int, ...]:
    """Return the seeds that most groups of a column were trained with: what a missing group is to be trained with."""
    there = cells[(cells["column"] == column) & ~cells["missing"]]
    return tuple(there["seeds"].mode().iloc[0]) if len(there) else (0,)


def specs(gaps: pd.DataFrame, cells: pd.DataFrame, spec_of: Callable[[str], RunSpec], suite: str | None) -> list[RunSpec]:
    """Return the specs that fill the cells ``gaps`` of a pivot's ``cells``; ``spec_of``: run id -> what it was asked to train."""
    found = []
    for gap in gaps.to_dict("records"):
        like = spec_of(_newest(cells[cells["column"] == gap["column"]], gap["teacher"]))
        twin = spec_of(_newest(cells[cells["name"] == gap["name"]], ""))
        for seed in seeds_of(cells, gap["column"]):
            found.append(like.but(**_changes(twin, like, gap["teacher"]), seed=seed, suite=suite or like.suite))
    return found


def launch(wanted: list[RunSpec]) -> None:
    """Queue the runs, missing teachers first; faults are told at the head of the page."""
    actions.launch_missing(KEY, wanted, again=True, resolve=True)


def _newest(cells: pd.DataFrame, teacher: str) -> str:
    """Return the newest run of filled cells, of those under ``teacher`` where there are any."""
    there = cells[~cells["missing"]]
    taught = there[there["teacher"] == teacher] if teacher else there.iloc[:0]
    return max(run_id for ids in (taught if len(taught) else there)["ids"] for run_id in ids)


def _changes(twin: RunSpec, like: RunSpec, teacher: str) -> dict[str, Any]:
    """Return what of ``like`` changes when the method of ``twin`` is trained in its place."""
    own = {name: getattr(twin, name) for name in OWN}
    own["peers"] = tuple(like.student if peer == twin.student else peer for peer in twin.peers)
    if teacher:
        return own | {"teacher": teacher, "teacher_method": twin.teacher_method}
    return own | {"teacher": None} | {name: RunSpec.model_fields[name].get_default() for name in TEACHER_FIELDS}
