"""Residual networks for small images (He et al. 2016, section 4.2): 8 to 110 layers, also four times as wide.

Depth 6n + 2: a 3x3 stem, three stages of n blocks at full, half and quarter resolution, global average pooling, one linear
layer. At each change of width the shortcut is a 1x1 convolution with BatchNorm (He's option B, used by the well-known
distillation codes and so by their published tables) or free of parameters (option A, ``shortcut="pad"``).

Reads / writes: nothing. Never: a method, a dataset, pre-trained weights.
"""

from __future__ import annotations

from functools import partial
from typing import Literal

import torch.nn.functional as F
from pydantic import Field
from torch import Tensor, nn

from kdengine.models import contract
from kdengine.models.contract import ModelCard, Network, Outputs, along, draw_convolutions

SOURCE = "K. He, X. Zhang, S. Ren, J. Sun, Deep Residual Learning for Image Recognition, CVPR 2016, arXiv 1512.03385"
WIDTHS = (16, 16, 32, 64)
WIDE = (32, 64, 128, 256)


class Options(contract.Options):
    """How a block passes its input on where width or resolution changes."""

    shortcut: Literal["projection", "pad"] = Field(
        "projection", description="projection: 1x1 convolution (option B); pad: every second pixel and zero channels (option A)"
    )


class Pad(nn.Module):
    """Shortcut without parameters: keeps every ``stride``-th pixel and fills the new channels with zeros on both sides."""

    def __init__(self, channels_in: int, channels_out: int, stride: int) -> None:
        super().__init__()
        self.stride = stride
        before = (channels_out - channels_in) // 2
        self.channels = (before, channels_out - channels_in - before)

    def forward(self, x: Tensor) -> Tensor:
        """Map ``(B, Cin, H, W)`` to ``(B, Cout, H / stride, W / stride)``."""
        return F.pad(x[:, :, :: self.stride, :: self.stride], (0, 0, 0, 0, *self.channels))


class Block(nn.Module):
    """Two 3x3 convolutions with BatchNorm and a shortcut; returns the sum before and after its ReLU."""

    def __init__(self, channels_in: int, channels_out: int, stride: int, shortcut: str) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(channels_in, channels_out, 3, stride, 1, bias=False)
        self.bn1 = nn.BatchNorm2d(channels_out)
        self.conv2 = nn.Conv2d(channels_out, channels_out, 3, 1, 1, bias=False)
        self.bn2 = nn.BatchNorm2d(channels_out)
        self.downsample = _shortcut(channels_in, channels_out, stride, shortcut)

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """Return (pre-activation, activation), each ``(B, Cout, H / stride, W / stride)``."""
        inner = F.relu(self.bn1(self.conv1(x)), inplace=True)  # never tapped, so it may be overwritten
        preact = self.bn2(self.conv2(inner)) + self.downsample(x)
        return preact, F.relu(preact)


class ResNet(Network):
    """A residual network of ``3 * blocks`` blocks; ``widths`` are the channels of the stem and of the three stages."""

    def __init__(self, classes: int, blocks: int, widths: tuple[int, int, int, int], shortcut: str) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(3, widths[0], 3, 1, 1, bias=False)
        self.bn1 = nn.BatchNorm2d(widths[0])
        self.layer1 = _stage(widths[0], widths[1], blocks, 1, shortcut)
        self.layer2 = _stage(widths[1], widths[2], blocks, 2, shortcut)
        self.layer3 = _stage(widths[2], widths[3], blocks, 2, shortcut)
        self.fc = nn.Linear(widths[3], classes)
        draw_convolutions(self)

    def forward(self, x: Tensor, taps: frozenset[str] = frozenset()) -> Outputs:
        """Map images ``(B, 3, H, W)`` to logits ``(B, K)`` and the taps asked for."""
        stem = F.relu(self.bn1(self.conv1(x)))
        maps = along((self.layer1, self.layer2, self.layer3), stem)
        embedding = F.adaptive_avg_pool2d(maps["stages"][-1], 1).flatten(1)
        return Outputs.of(taps, self.fc(embedding), embedding=embedding, stem=stem, **maps)

    def stage_norms(self) -> list[nn.BatchNorm2d]:
        """Return the last BatchNorm of each stage; the shortcut is added between it and the ReLU, as the OFD authors have it."""
        return [stage[-1].bn2 for stage in (self.layer1, self.layer2, self.layer3)]

    def foldable(self) -> list[tuple[str, str]]:
        """Return every (convolution, BatchNorm right behind it): all BatchNorms of a residual network stand there."""
        pairs = [("conv1", "bn1")]
        for name, module in self.named_modules():
            if isinstance(module, Block):
                pairs += [(f"{name}.conv1", f"{name}.bn1"), (f"{name}.conv2", f"{name}.bn2")]
                if isinstance(module.downsample, nn.Sequential):
                    pairs.append((f"{name}.downsample.0", f"{name}.downsample.1"))
        return pairs


def _shortcut(channels_in: int, channels_out: int, stride: int, kind: str) -> nn.Module:
    if channels_in == channels_out and stride == 1:
        return nn.Identity()
    if kind == "pad":
        return Pad(channels_in, channels_out, stride)
    return nn.Sequential(nn.Conv2d(channels_in, channels_out, 1, stride, bias=False), nn.BatchNorm2d(channels_out))


def _stage(channels_in: int, channels_out: int, blocks: int, stride: int, shortcut: str) -> nn.Sequential:
    first = Block(channels_in, channels_out, stride, shortcut)
    return nn.Sequential(first, *(Block(channels_out, channels_out, 1, shortcut) for _ in range(blocks - 1)))


def _build(classes: int, image_size: int, options: Options, *, depth: int, widths: tuple[int, int, int, int]) -> ResNet:
    return ResNet(classes, (depth - 2) // 6, widths, options.shortcut)  # pooling is global, so any image size fits


def _card(depth: int, widths: tuple[int, int, int, int] = WIDTHS, suffix: str = "") -> ModelCard:
    return ModelCard(
        key=f"resnet{depth}{suffix}",
        title=f"ResNet-{depth}{suffix}",
        family="resnet",
        year=2016,
        source=SOURCE,
        depth=depth,
        build=partial(_build, depth=depth, widths=widths),
        options=Options,
    )


MODELS = (*(_card(depth) for depth in (8, 14, 20, 32, 44, 56, 110)), _card(8, WIDE, "x4"), _card(32, WIDE, "x4"))
