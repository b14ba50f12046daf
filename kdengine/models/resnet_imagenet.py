"""ImageNet's residual networks (He et al. 2016, table 1) with a stem for small images: 18, 34 and 50 layers.

A 3x3 stem of stride 1 without pooling instead of the 7x7 one, four stages at full, half, quarter and eighth resolution,
global average pooling, one linear layer. 18 and 34 layers have blocks of two 3x3 convolutions, 50 layers have bottlenecks
(1x1, 3x3, 1x1 to four times the channels). The shortcut is a 1x1 convolution with BatchNorm where shapes change.

Weights start as in the distillation benchmark: convolutions normal with variance 2 / (k * k * channels out), the linear layer
as PyTorch has it. Parameters carry the benchmark's names, so that its published weights fit.

Reads / writes: nothing. Never: a method, a dataset, pre-trained weights.
"""

from __future__ import annotations

from functools import partial

import torch.nn.functional as F
from torch import Tensor, nn

from kdengine.models.contract import ModelCard, Network, Options, Outputs, along, draw_convolutions

SOURCE = "K. He, X. Zhang, S. Ren, J. Sun, Deep Residual Learning for Image Recognition, CVPR 2016, arXiv 1512.03385"
WIDTHS = (64, 128, 256, 512)
EXPANSION = 4  # of a bottleneck's last convolution
LAYERS = {18: (2, 2, 2, 2), 34: (3, 4, 6, 3), 50: (3, 4, 6, 3)}
BOTTLENECKS_FROM = 50  # layers


class Block(nn.Module):
    """Convolutions with BatchNorm and a shortcut; returns the sum before and after its ReLU.

    ``plan``: kernel, channels and stride of each convolution.
    """

    def __init__(self, channels_in: int, plan: tuple[tuple[int, int, int], ...], stride: int) -> None:
        super().__init__()
        channels = channels_in
        for place, (kernel, width, step) in enumerate(plan, start=1):
            self.add_module(f"conv{place}", nn.Conv2d(channels, width, kernel, step, kernel // 2, bias=False))
            self.add_module(f"bn{place}", nn.BatchNorm2d(width))
            channels = width
        self.convolutions = len(plan)
        self.shortcut = nn.Sequential()
        if stride != 1 or channels != channels_in:
            self.shortcut = nn.Sequential(nn.Conv2d(channels_in, channels, 1, stride, bias=False), nn.BatchNorm2d(channels))

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """Return (pre-activation, activation), each ``(B, Cout, H / stride, W / stride)``."""
        inner = self.bn1(self.conv1(x))
        inner = self.bn2(self.conv2(F.relu(inner, inplace=True)))  # never tapped, so it may be overwritten
        if self.convolutions == 3:
            inner = self.bn3(self.conv3(F.relu(inner, inplace=True)))
        preact = inner + self.shortcut(x)
        return preact, F.relu(preact)

    def last_norm(self) -> nn.BatchNorm2d:
        """Return the BatchNorm before the sum."""
        return self.get_submodule(f"bn{self.convolutions}")


class ResNet(Network):
    """A residual network of four stages; ``layers``: blocks in each, of bottlenecks or not."""

    def __init__(self, classes: int, layers: tuple[int, ...], bottlenecks: bool) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(3, WIDTHS[0], 3, 1, 1, bias=False)
        self.bn1 = nn.BatchNorm2d(WIDTHS[0])
        channels = WIDTHS[0]
        for place, (width, count) in enumerate(zip(WIDTHS, layers, strict=True), start=1):
            blocks = []
            for stride in (1 if place == 1 else 2, *[1] * (count - 1)):
                plan = _bottleneck(width, stride) if bottlenecks else _basic(width, stride)
                blocks.append(Block(channels, plan, stride))
                channels = plan[-1][1]
            self.add_module(f"layer{place}", nn.Sequential(*blocks))
        self.linear = nn.Linear(channels, classes)
        draw_convolutions(self)

    def forward(self, x: Tensor, taps: frozenset[str] = frozenset()) -> Outputs:
        """Map images ``(B, 3, H, W)`` to logits ``(B, K)`` and the taps asked for."""
        stem = F.relu(self.bn1(self.conv1(x)))
        maps = along(self._stages(), stem)
        embedding = F.adaptive_avg_pool2d(maps["stages"][-1], 1).flatten(1)
        return Outputs.of(taps, self.linear(embedding), embedding=embedding, stem=stem, **maps)

    def stage_norms(self) -> list[nn.BatchNorm2d]:
        """Return the last BatchNorm of each stage; the shortcut is added between it and the ReLU, as the OFD authors have it."""
        return [stage[-1].last_norm() for stage in self._stages()]

    def foldable(self) -> list[tuple[str, str]]:
        """Return every (convolution, BatchNorm right behind it): all BatchNorms of a residual network stand there."""
        pairs = [("conv1", "bn1")]
        for name, module in self.named_modules():
            if isinstance(module, Block):
                pairs += [(f"{name}.conv{i}", f"{name}.bn{i}") for i in range(1, module.convolutions + 1)]
                pairs += [(f"{name}.shortcut.0", f"{name}.shortcut.1")] if len(module.shortcut) else []
        return pairs

    def _stages(self) -> tuple[nn.Sequential, ...]:
        return self.layer1, self.layer2, self.layer3, self.layer4


def _basic(width: int, stride: int) -> tuple[tuple[int, int, int], ...]:
    return (3, width, stride), (3, width, 1)


def _bottleneck(width: int, stride: int) -> tuple[tuple[int, int, int], ...]:
    return (1, width, 1), (3, width, stride), (1, EXPANSION * width, 1)


def _build(classes: int, image_size: int, options: Options, *, depth: int) -> ResNet:
    return ResNet(classes, LAYERS[depth], depth >= BOTTLENECKS_FROM)  # pooling is global, so any image size fits


def _card(depth: int) -> ModelCard:
    return ModelCard(
        key=f"resnet{depth}",
        title=f"ResNet-{depth}, small stem",
        family="resnet_imagenet",
        year=2016,
        source=SOURCE,
        depth=depth,
        build=partial(_build, depth=depth),
    )


MODELS = tuple(_card(depth) for depth in LAYERS)
