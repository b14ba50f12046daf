"""What a network must offer: named taps on its way from image to logits, and an honest description of itself.

A family is one file of ``kdengine/models``; it defines ``MODELS``, a tuple of ``ModelCard``. The file is found by itself.
Reads / writes: nothing. Never: a method, a dataset.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from pydantic import BaseModel, ConfigDict
from torch import Tensor, nn

TAPS = ("logits", "embedding", "stages", "preacts", "stem", "blocks")
Shape = tuple[int, int, int]


@dataclass(slots=True)
class Outputs:
    """What one forward pass gave. A tap that was not asked for is None; logits are always there.

    logits ``(B, K)``; embedding ``(B, D)``, the input of the last linear layer; stages: the map after each stage, after its
    last activation, ``(B, Ci, Hi, Wi)``; preacts: the same maps before that activation, so a stage without one at its end
    gives the same map twice; stem ``(B, C, H, W)``; blocks: the map after every block, after its activation.
    """

    logits: Tensor
    embedding: Tensor | None = None
    stages: tuple[Tensor, ...] | None = None
    preacts: tuple[Tensor, ...] | None = None
    stem: Tensor | None = None
    blocks: tuple[Tensor, ...] | None = None


@dataclass(frozen=True, slots=True)
class NetInfo:
    """A built network in numbers. Shapes are ``(C, H, W)`` at the run's image size.

    ``norms``: a BatchNorm stands right before the last activation of every stage, so ``Network.stage_norms`` has one for each.
    """

    model: str
    classes: int
    image_size: int
    params: int
    macs: int
    embedding: int
    stages: tuple[Shape, ...]
    stem: Shape
    blocks: tuple[Shape, ...]
    norms: bool = False


class Options(BaseModel):
    """Base of a family's options; every field has a default, bounds and a description."""

    model_config = ConfigDict(frozen=True, extra="forbid")


class Network(nn.Module):
    """Base of every network. ``forward(x, taps)`` returns ``Outputs``; ``info`` is set by ``models.build``."""

    info: NetInfo

    def forward(self, x: Tensor, taps: frozenset[str] = frozenset()) -> Outputs:
        raise NotImplementedError

    def stage_norms(self) -> list[nn.BatchNorm2d]:
        """Return the BatchNorm right before the last activation of each stage; empty where a stage has none there."""
        return []

    def foldable(self) -> list[tuple[str, str]]:
        """Return pairs of names (convolution, BatchNorm right behind it) that may be merged in a frozen network."""
        return []


@dataclass(frozen=True, slots=True)
class ModelCard:
    """One entry of the catalogue. ``build(classes, image_size, options)`` returns a fresh ``Network``."""

    key: str
    title: str
    family: str
    year: int
    source: str
    depth: int
    build: Callable[[int, int, Any], Network] = field(repr=False)
    options: type[Options] = Options
