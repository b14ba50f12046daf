"""What the specs of some runs have in common and where they differ, field by field.

Reads / writes: nothing; it is given the specs. Never: the database, run folders.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import pandas as pd

from kdengine.spec import LABELS

SEED = "seed"
NONE = "–"
FIRST = ("method", "params", "combine", "dataset", "student", "peers", "teacher", "generation", "recipe")


@dataclass(frozen=True, slots=True)
class Diff:
    """The specs side by side. ``frame``: index = field (``params.T`` where a field has parts), a column of text per group of runs
    that differ in nothing that counts; ``groups``: column -> places of its runs; ``equal``: number of fields left out because
    all runs agree in them; ``seeds``: the seeds of all runs, ascending."""

    frame: pd.DataFrame
    groups: dict[str, tuple[int, ...]]
    equal: int
    seeds: tuple[int, ...]

    @property
    def same(self) -> bool:
        """Whether the runs differ in nothing that counts."""
        return len(self.groups) == 1


def diff(
    specs: Sequence[Mapping[str, Any]],
    names: Sequence[str],
    *,
    labels: bool = False,
    seeds: bool = False,
    everything: bool = False,
) -> Diff:
    """Compare specs, as their JSON holds them.

    ``names``: what each run is called; runs that do not differ share a column under the first one's name. ``labels``: suite,
    tags, note and device count too; ``seeds``: the seed counts too; ``everything``: fields in which all agree are kept as rows.
    A field that a spec lacks is shown as a dash: another method's knob.

    Raises:
        ValueError: no spec, or another number of names.
    """
    if not specs or len(specs) != len(names):
        raise ValueError(f"{len(specs)} specs and {len(names)} names: give at least one spec, and a name for each")
    left_out = (() if labels else LABELS) + (() if seeds else (SEED,))
    flats = [flat({key: value for key, value in spec.items() if key not in left_out}) for spec in specs]
    fields = sorted(dict.fromkeys(key for one in flats for key in one), key=_place)
    rows = [tuple(one.get(field, NONE) for field in fields) for one in flats]
    groups = _groups(rows, names)
    frame = pd.DataFrame({name: rows[places[0]] for name, places in groups.items()}, index=pd.Index(fields, name="field"))
    differs = frame.nunique(axis=1) > 1
    kept = frame if everything else frame[differs]
    known = tuple(sorted({int(spec[SEED]) for spec in specs if SEED in spec}))
    return Diff(kept, groups, len(frame) - len(kept), known)


def flat(spec: Mapping[str, Any], prefix: str = "") -> dict[str, str]:
    """Return a spec with nested parts as ``params.T``, values as people write them: ``yes``, ``0.5, 0.75``; – for none."""
    found: dict[str, str] = {}
    for key, value in spec.items():
        if isinstance(value, Mapping):
            found |= flat(value, f"{prefix}{key}.")
        else:
            found[prefix + key] = shown(value)
    return found


def shown(value: Any) -> str:
    """Write one value as people do."""
    if value is None or value == "" or value == [] or value == ():
        return NONE
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, list | tuple):
        return ", ".join(shown(item) for item in value)
    return f"{value:g}" if isinstance(value, float) and float(f"{value:g}") == value else str(value)


def parsed(specs: Sequence[str]) -> list[dict[str, Any]]:
    """Return specs from the JSON that the table ``runs`` keeps."""
    return [json.loads(spec) for spec in specs]


def _groups(rows: list[tuple[str, ...]], names: Sequence[str]) -> dict[str, tuple[int, ...]]:
    together: dict[tuple[str, ...], list[int]] = {}
    for place, row in enumerate(rows):
        together.setdefault(row, []).append(place)
    found: dict[str, tuple[int, ...]] = {}
    for places in together.values():
        name, n = names[places[0]], 2
        while name in found:  # runs of one name that differ: kd, kd (2)
            name, n = f"{names[places[0]]} ({n})", n + 1
        found[name] = tuple(places)
    return found


def _place(field: str) -> tuple[int, str]:
    head = field.split(".")[0]
    order = FIRST.index(head) if head in FIRST else len(FIRST)
    return order, "" if order == len(FIRST) else field
