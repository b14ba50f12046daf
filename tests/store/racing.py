"""Orders for the tests of race charts."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from store.export.race.options import Options
from store.export.race.order import Order, Racer

COLOURS = ("#1d60bc", "#a8421a", "#0f7148", "#be5aad", "#b2353a", "#787c84", "#ce7a05", "#65a244")


def order(values: Mapping[str, Sequence[float | None]] | None = None, *, epochs: int = 6, racers: int = 4, **more: Any) -> Order:
    """Return an order: of ``values`` by name, or of rising curves; ``more``: fields of Order and of Options."""
    looks = {name: more.pop(name) for name in list(more) if name in Options.model_fields and name != "caption"}
    if values is None:
        values = {f"method {n}": curve(n, epochs) for n in range(racers)}
    length = len(next(iter(values.values())))
    runners = [
        Racer(name=name, colour=COLOURS[n % len(COLOURS)], values=tuple(own)) for n, (name, own) in enumerate(values.items())
    ]
    words = {"title": "Which method learns fastest?", "subtitle": "digits · resnet20 → resnet8", "unit": " %", "most": 100.0,
             "measure": "Test accuracy", "caption": "Best epoch so far on test, mean of 3 seeds."}  # fmt: skip
    return Order(epochs=tuple(range(1, length + 1)), racers=tuple(runners), options=Options(**looks), **words | more)


def curve(seed: int, epochs: int) -> list[float]:
    """Return a rising accuracy in percent that crosses those of other seeds."""
    random = np.random.default_rng(seed)
    end, speed = random.uniform(66, 76), random.uniform(0.15, 0.5)
    return [float(v) for v in end - 30 * np.exp(-speed * np.arange(epochs)) + random.normal(size=epochs) * 0.3]
