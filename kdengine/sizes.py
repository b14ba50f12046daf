"""Our networks in numbers: from the catalogue, or as they were written down once, for an app without torch.

Reads: the catalogue of networks, ``sizes.json`` beside this file. Writes: ``sizes.json`` (``python -m kdengine.sizes``, after a
network was added or changed; a test says so). Never: torch, unless the catalogue is asked.
"""

from __future__ import annotations

import json
from collections.abc import Iterable
from dataclasses import asdict, dataclass
from pathlib import Path

FILE = Path(__file__).with_name("sizes.json")


@dataclass(frozen=True, slots=True)
class Size:
    """A network for 10 classes at 32 x 32 pixels: parameters, multiply-adds of one image, channels of each block."""

    key: str
    title: str
    family: str
    depth: int
    params: int
    macs: int
    blocks: tuple[int, ...]


def of_catalogue() -> list[Size]:
    """Return our networks by family, built without memory for weights; loads torch."""
    from kdengine import models

    built = [(card, models.info(card.key, 10)) for card in models.cards().values()]
    return [
        Size(card.key, card.title, card.family, card.depth, info.params, info.macs, tuple(shape[0] for shape in info.blocks))
        for card, info in built
    ]


def recorded() -> list[Size]:
    """Return our networks as ``sizes.json`` has them."""
    return [Size(**{**one, "blocks": tuple(one["blocks"])}) for one in json.loads(FILE.read_bytes())]


def record(sizes: Iterable[Size]) -> None:
    """Write networks to ``sizes.json``, a line each."""
    FILE.write_text("[\n" + ",\n".join(json.dumps(asdict(size)) for size in sizes) + "\n]\n", encoding="utf-8")


if __name__ == "__main__":
    record(of_catalogue())
