"""ShuffleNet for small images (Zhang et al. 2018): convolutions in three groups, with the channels shuffled between them.

A 1x1 stem of 24 channels at full resolution; three stages of 4, 8 and 4 blocks with 240, 480 and 960 channels, each
halving the resolution first; global average pooling; one linear layer. The paper's stem is made for larger images; this is
the variant of the distillation benchmark, where a ReLU also follows the sum at the end of a block.

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
    "X. Zhang, X. Zhou, M. Lin, J. Sun, ShuffleNet: An Extremely Efficient Convolutional Neural Network for Mobile Devices, "
    "CVPR 2018, arXiv 1707.01083; variant of the CRD benchmark (Tian et al., ICLR 2020)"
)
STEM = 24
GROUPS = 3
STAGES = ((240, 4), (480, 8), (960, 4))  # channels, blocks


class Block(nn.Module):
    """Grouped 1x1, shuffle, 3x3 per channel, grouped 1x1; the input is added, or appended where the resolution halves."""

    def __init__(self, channels_in: int, channels_out: int, stride: int) -> None:
        super().__init__()
        grown = channels_out - channels_in if stride == 2 else channels_out
        inner = grown // 4
        self.stride, self.groups = stride, 1 if channels_in == STEM else GROUPS
        self.conv1 = nn.Conv2d(channels_in, inner, 1, groups=self.groups, bias=False)
        self.bn1 = nn.BatchNorm2d(inner)
        self.conv2 = nn.Conv2d(inner, inner, 3, stride, 1, groups=inner, bias=False)
        self.bn2 = nn.BatchNorm2d(inner)
        self.conv3 = nn.Conv2d(inner, grown, 1, groups=GROUPS, bias=False)
        self.bn3 = nn.BatchNorm2d(grown)

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """Return (pre-activation, activation), each ``(B, Cout, H / stride, W / stride)``."""
        inner = shuffle_channels(F.relu(self.bn1(self.conv1(x)), inplace=True), self.groups)
        inner = F.relu(self.bn2(self.conv2(inner)), inplace=True)  # never tapped, so it may be overwritten
        grown = self.bn3(self.conv3(inner))
        preact = torch.cat((grown, F.avg_pool2d(x, 3, 2, 1)), 1) if self.stride == 2 else grown + x
        return preact, F.relu(preact)


class ShuffleNetV1(Network):
    """Sixteen blocks in three stages."""

    def __init__(self, classes: int) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(3, STEM, 1, bias=False)
        self.bn1 = nn.BatchNorm2d(STEM)
        channels = STEM
        for place, (width, count) in enumerate(STAGES, start=1):
            first = Block(channels, width, 2)
            self.add_module(f"layer{place}", nn.Sequential(first, *(Block(width, width, 1) for _ in range(count - 1))))
            channels = width
        self.linear = nn.Linear(channels, classes)

    def forward(self, x: Tensor, taps: frozenset[str] = frozenset()) -> Outputs:
        """Map images ``(B, 3, H, W)`` to logits ``(B, K)`` and the taps asked for."""
        stem = F.relu(self.bn1(self.conv1(x)))
        maps = along((self.layer1, self.layer2, self.layer3), stem)
        embedding = F.adaptive_avg_pool2d(maps["stages"][-1], 1).flatten(1)
        return Outputs.of(taps, self.linear(embedding), embedding=embedding, stem=stem, **maps)

    def stage_norms(self) -> list[nn.BatchNorm2d]:
        """Return the last BatchNorm of each stage; the shortcut is added between it and the ReLU, as in a ResNet."""
        return [stage[-1].bn3 for stage in (self.layer1, self.layer2, self.layer3)]

    def foldable(self) -> list[tuple[str, str]]:
        """Return every (convolution, BatchNorm right behind it): all BatchNorms stand there."""
        inner = [n for n, module in self.named_modules() if isinstance(module, Block)]
        return [("conv1", "bn1"), *((f"{n}.conv{i}", f"{n}.bn{i}") for n in inner for i in (1, 2, 3))]


def _build(classes: int, image_size: int, options: Options) -> ShuffleNetV1:
    return ShuffleNetV1(classes)  # pooling is global, so any image size fits


MODELS = (
    ModelCard(
        key="shufflenetv1",
        title="ShuffleNet",
        family="shufflenetv1",
        year=2018,
        source=SOURCE,
        depth=50,  # stem, 16 blocks of three convolutions, linear layer
        build=_build,
    ),
)
