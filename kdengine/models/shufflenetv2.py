"""ShuffleNetV2 for small images (Ma et al. 2018), at its plain width: half of the channels pass each block untouched.

A 1x1 stem of 24 channels at full resolution; three stages of 4, 8 and 4 blocks with 116, 232 and 464 channels, each halving
the resolution first; a 1x1 convolution to 1024 channels; global average pooling; one linear layer. The paper's stem is made
for larger images; this is the variant of the distillation benchmark.

A block ends: join both halves, shuffle, ReLU. The benchmark's code shuffles last and leaves the untouched half out of the
ReLU; as that half comes out of an earlier ReLU, values and gradients are the same, and every preact lines up with its map,
channel by channel (the benchmark shows unshuffled preacts). Only half of the channels come from a BatchNorm of the last
block, so there is none to name before a stage's last activation.

Weights start as PyTorch has them (uniform, Kaiming), as in the benchmark; parameters carry its names, so that its published
weights fit.

Reads / writes: nothing. Never: a method, a dataset, pre-trained weights.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from kdengine.models.contract import ModelCard, Network, Options, Outputs, along, shuffle_channels

SOURCE = (
    "N. Ma, X. Zhang, H.-T. Zheng, J. Sun, ShuffleNet V2: Practical Guidelines for Efficient CNN Architecture Design, ECCV 2018, "
    "arXiv 1807.11164; variant of the CRD benchmark (Tian et al., ICLR 2020)"
)
STEM = 24
STAGES = ((116, 4), (232, 8), (464, 4))  # channels, blocks
LAST = 1024


class Block(nn.Module):
    """One half passes; the other goes through 1x1, 3x3 per channel, 1x1. Both are joined and shuffled."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        half = channels // 2
        self.conv1, self.bn1 = _pointwise(half, half)
        self.conv2, self.bn2 = _depthwise(half, 1)
        self.conv3, self.bn3 = _pointwise(half, half)

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """Return (pre-activation, activation), each ``(B, C, H, W)``."""
        passing, x = x.chunk(2, 1)
        inner = F.relu(self.bn1(self.conv1(x)), inplace=True)  # never tapped, so it may be overwritten
        return _joined(passing, self.bn3(self.conv3(self.bn2(self.conv2(inner)))))


class Down(nn.Module):
    """Halve the resolution: two branches that both see all channels, joined and shuffled."""

    def __init__(self, channels_in: int, channels_out: int) -> None:
        super().__init__()
        half = channels_out // 2
        self.conv1, self.bn1 = _depthwise(channels_in, 2)
        self.conv2, self.bn2 = _pointwise(channels_in, half)
        self.conv3, self.bn3 = _pointwise(channels_in, half)
        self.conv4, self.bn4 = _depthwise(half, 2)
        self.conv5, self.bn5 = _pointwise(half, half)

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """Return (pre-activation, activation), each ``(B, Cout, H / 2, W / 2)``."""
        left = self.bn2(self.conv2(self.bn1(self.conv1(x))))
        inner = F.relu(self.bn3(self.conv3(x)), inplace=True)
        return _joined(left, self.bn5(self.conv5(self.bn4(self.conv4(inner)))))


class ShuffleNetV2(Network):
    """Sixteen blocks in three stages."""

    def __init__(self, classes: int) -> None:
        super().__init__()
        self.conv1, self.bn1 = _pointwise(3, STEM)
        channels = STEM
        for place, (width, count) in enumerate(STAGES, start=1):
            first = Down(channels, width)
            self.add_module(f"layer{place}", nn.Sequential(first, *(Block(width) for _ in range(count - 1))))
            channels = width
        self.conv2, self.bn2 = _pointwise(channels, LAST)
        self.linear = nn.Linear(LAST, classes)

    def forward(self, x: Tensor, taps: frozenset[str] = frozenset()) -> Outputs:
        """Map images ``(B, 3, H, W)`` to logits ``(B, K)`` and the taps asked for."""
        stem = F.relu(self.bn1(self.conv1(x)))
        maps = along((self.layer1, self.layer2, self.layer3), stem)
        last = F.relu(self.bn2(self.conv2(maps["stages"][-1])), inplace=True)
        embedding = F.adaptive_avg_pool2d(last, 1).flatten(1)
        return Outputs.of(taps, self.linear(embedding), embedding=embedding, stem=stem, **maps)

    def foldable(self) -> list[tuple[str, str]]:
        """Return every (convolution, BatchNorm right behind it): all BatchNorms stand there."""
        norms = [n for n, module in self.named_modules() if isinstance(module, nn.BatchNorm2d)]
        return [("conv".join(n.rsplit("bn", 1)), n) for n in norms]


def _joined(first: Tensor, second: Tensor) -> tuple[Tensor, Tensor]:
    preact = shuffle_channels(torch.cat((first, second), 1), 2)
    return preact, F.relu(preact)


def _pointwise(channels_in: int, channels_out: int) -> tuple[nn.Conv2d, nn.BatchNorm2d]:
    return nn.Conv2d(channels_in, channels_out, 1, bias=False), nn.BatchNorm2d(channels_out)


def _depthwise(channels: int, stride: int) -> tuple[nn.Conv2d, nn.BatchNorm2d]:
    return nn.Conv2d(channels, channels, 3, stride, 1, groups=channels, bias=False), nn.BatchNorm2d(channels)


def _build(classes: int, image_size: int, options: Options) -> ShuffleNetV2:
    return ShuffleNetV2(classes)  # pooling is global, so any image size fits


MODELS = (
    ModelCard(
        key="shufflenetv2",
        title="ShuffleNetV2 1x",
        family="shufflenetv2",
        year=2018,
        source=SOURCE,
        depth=51,  # stem, 16 blocks of three convolutions, last convolution, linear layer
        build=_build,
    ),
)
