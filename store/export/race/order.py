"""What is to be drawn: who races with which values, what is written around them, and how it looks. All that a file depends on.

Reads: what it is given. Writes: nothing. Never: the store, colours of its own.
"""

from __future__ import annotations

import hashlib
import json
import math
from collections import Counter
from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray
from pydantic import BaseModel, ConfigDict, Field, ValidationError, field_validator

from kdengine.errors import KdError, Problem
from kdengine.spec import problems_of
from store.export.race.options import Options

MOST_RACERS, MOST_EPOCHS = 60, 5000


class Racer(BaseModel):
    """One bar: its ``name``, ``colour`` (#rrggbb), and a value per epoch, None where it has none."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    name: str = Field(min_length=1, max_length=300)
    colour: str = Field(pattern=r"^#[0-9a-fA-F]{6}$")
    values: tuple[float | None, ...]

    @field_validator("values", mode="before")
    @classmethod
    def _finite(cls, values: Any) -> tuple[float | None, ...]:
        """A value that is not finite is none; more digits than six would only make equal races different files."""
        return tuple(None if v is None or not math.isfinite(v) else round(float(v), 6) for v in values)


class Order(BaseModel):
    """A race chart, complete. Frozen; ``key`` names it: equal orders make equal files.

    ``unit``: behind a value, with its space (`` %``). ``lower_is_better``: for losses; the least is on top. ``source``: a line
    for the file's own description, such as all run ids.

    Raises:
        KdError: with every fault there is.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    epochs: tuple[float, ...] = Field(min_length=1, max_length=MOST_EPOCHS, description="rising numbers")
    racers: tuple[Racer, ...] = Field(min_length=1, max_length=MOST_RACERS, description="who races")
    title: str = Field("", max_length=300)
    subtitle: str = Field("", max_length=300)
    caption: str = Field("", max_length=1000)
    source: str = Field("", max_length=20_000)
    measure: str = Field("", max_length=100, description="what is measured, below the axis")
    unit: str = Field("", max_length=10)
    most: float | None = Field(None, description="a value that nothing can exceed, such as 100 for a share in percent")
    lower_is_better: bool = False
    options: Options = Field(default_factory=Options)

    def __init__(self, **values: Any) -> None:
        try:
            super().__init__(**values)
        except ValidationError as error:
            raise KdError(*problems_of(error, type(self))) from None
        if faults := list(self._faults()):
            raise KdError(*faults)

    def _faults(self) -> Any:
        if any(b <= a for a, b in zip(self.epochs, self.epochs[1:], strict=False)):
            yield Problem("epochs", "epochs that do not rise", "each greater than the one before", "sort them, keep one of each")
        if len(self.epochs) < 2 and self.options.format != "png":
            yield Problem("epochs", "one epoch", "two or more for something that moves", "train longer, or take the PNG")
        twice = [name for name, n in Counter(racer.name for racer in self.racers).items() if n > 1]
        if twice:
            yield Problem("racers", f"{', '.join(twice)} more than once", "a name for each", "rename them")
        for racer in self.racers:
            if len(racer.values) != len(self.epochs):
                yield Problem("racers", f"{racer.name} with {len(racer.values)} values", f"{len(self.epochs)}, one per epoch",
                              "give None where there is no value")  # fmt: skip
        empty = [racer.name for racer in self.racers if all(value is None for value in racer.values)]
        if empty:
            yield Problem("racers", f"{', '.join(empty)} without any value", "a value in one epoch at least", "leave it out")
        greatest, start = (
            max((v for r in self.racers for v in r.values if v is not None), default=math.inf),
            self.options.axis_from,
        )
        if start is not None and start >= greatest:
            yield Problem("axis_from", f"{start:g}", f"less than the greatest value, {greatest:g}", "begin further to the left")
        unknown = set(self.options.highlight) - {racer.name for racer in self.racers}
        if unknown:
            yield Problem("highlight", ", ".join(sorted(unknown)), "names of the racers", "choose among them")

    def table(self) -> NDArray[np.float64]:
        """Return the values as (epochs, racers), NaN where there is none."""
        return np.array([racer.values for racer in self.racers], dtype=np.float64).T

    def key(self, versions: Mapping[str, str]) -> str:
        """Return a name that changes with everything that the file depends on; ``versions`` of what draws and encodes."""
        said = json.dumps([self.model_dump(mode="json"), dict(versions)], sort_keys=True, separators=(",", ":"))
        return hashlib.sha256(said.encode()).hexdigest()[:20]
