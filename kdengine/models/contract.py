"""What a network must offer: named taps on its way from image to logits, and an honest description of itself.

A family is one file of ``kdengine/models``; it defines ``MODELS``, a tuple of ``ModelCard``. The file is found by itself.
It imports nothing of ours but this module, which therefore holds what several families share.
Reads / writes: nothing. Never: a method, a dataset.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
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

    @classmethod
    def of(cls, taps: frozenset[str], logits: Tensor, **found: Any) -> Outputs:
        """Return the logits and, of all that was ``found`` on the way (tap = tensor, or list of tensors), the taps asked for."""
        return cls(logits, **{tap: tuple(v) if isinstance(v, list) else v for tap, v in found.items() if tap in taps})


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


def _no_problems(image_size: int, options: Any) -> list[tuple[str, str, str, str]]:
    return []


@dataclass(frozen=True, slots=True)
class ModelCard:
    """One entry of the catalogue. ``build(classes, image_size, options)`` returns a fresh ``Network``.

    ``depth``: layers with weights from image to logits, shortcuts not counted; ``year``, ``depth``: 0 = not known.
    ``problems(image_size, options)``: why it cannot be built so, as (field, given, allowed, what to do) each; the field is
    ``image_size`` or an option.
    """

    key: str
    title: str
    family: str
    year: int
    source: str
    depth: int
    build: Callable[[int, int, Any], Network] = field(repr=False)
    options: type[Options] = Options
    problems: Callable[[int, Any], list[tuple[str, str, str, str]]] = field(default=_no_problems, repr=False)


def draw_convolutions(network: nn.Module) -> None:
    """Draw every convolution's weights from a normal distribution of variance 2 / (k * k * channels out); biases become 0.

    He et al. 2015, by the number of outputs. Weights on the meta device hold no numbers and are left alone: it would take long.
    """
    for module in network.modules():
        if isinstance(module, nn.Conv2d) and not module.weight.is_meta:
            nn.init.kaiming_normal_(module.weight, mode="fan_out", nonlinearity="relu")
            if module.bias is not None:
                nn.init.zeros_(module.bias)


def without_norms(network: Any) -> Any:
    """Let every BatchNorm of a network on the meta device pass its input on: shapes stay, half of the probing time goes.

    For a network that is thrown away afterwards.
    """
    for module in network.modules():
        if isinstance(module, nn.modules.batchnorm._BatchNorm):
            module.forward = _passed_on
    return network


def _passed_on(x: Tensor) -> Tensor:
    return x


def along(stages: Iterable[nn.Sequential], x: Tensor) -> dict[str, list[Tensor]]:
    """Run ``x`` through stages of blocks that return (pre-activation, activation); return the taps ``stages preacts blocks``."""
    maps: dict[str, list[Tensor]] = {"stages": [], "preacts": [], "blocks": []}
    for stage in stages:
        for block in stage:
            preact, x = block(x)
            maps["blocks"].append(x)
        maps["stages"].append(x)
        maps["preacts"].append(preact)
    return maps


def shuffle_channels(x: Tensor, groups: int) -> Tensor:
    """Deal the channels of ``x (B, C, H, W)`` out in turn: channel ``i * C / groups + j`` goes to place ``j * groups + i``.

    The result is in channels_last: the copy that the shuffle needs is made in the layout that the next convolution wants.
    """
    if groups == 1:
        return x
    last = x.permute(0, 2, 3, 1)
    return last.unflatten(3, (groups, -1)).transpose(3, 4).flatten(3).permute(0, 3, 1, 2)
