"""MobileNetV2 for small images, half as wide (Sandler et al. 2018): the light student of the distillation benchmark.

A 3x3 stem of stride 2; 17 inverted residual blocks, each of which widens its input six times (the first one: not at all),
filters every channel by itself and narrows it again without an activation; a 1x1 convolution to 1280 channels; global
average pooling; one linear layer. Plain ReLU and no dropout, as the benchmark has it. It is far smaller than what other
codes call MobileNetV2 on CIFAR, so their accuracies do not compare.

The blocks are grouped into seven; a stage ends with the second, third, fifth and seventh, where the benchmark takes its maps.
Blocks end without an activation, so stage, block and pre-activation maps are the same linear tensors and there is no
BatchNorm before a last activation. Weights start as in the benchmark: convolutions normal with variance
2 / (k * k * channels out), the linear layer normal with deviation 0.01 and zero bias. Parameters carry its names, so that
its published weights fit.

Reads / writes: nothing. Never: a method, a dataset, pre-trained weights.
"""

from __future__ import annotations

import torch.nn.functional as F
from torch import Tensor, nn

from kdengine.models.contract import ModelCard, Network, Options, Outputs, draw_convolutions

SOURCE = (
    "M. Sandler, A. Howard, M. Zhu, A. Zhmoginov, L.-C. Chen, MobileNetV2: Inverted Residuals and Linear Bottlenecks, CVPR 2018, "
    "arXiv 1801.04381; variant of the CRD benchmark (Tian et al., ICLR 2020)"
)
WIDTH = 0.5
STEM = 32
LAST = 1280  # not narrowed
# of each group: expansion, channels at full width, blocks, stride of the first block
GROUPS = ((1, 16, 1, 1), (6, 24, 2, 1), (6, 32, 3, 2), (6, 64, 4, 2), (6, 96, 3, 1), (6, 160, 3, 2), (6, 320, 1, 1))
STAGE_ENDS = (1, 2, 4, 6)  # groups after which a stage ends


class Block(nn.Module):
    """Widen (1x1), filter each channel (3x3), narrow (1x1, linear); the input is added where shapes allow."""

    def __init__(self, channels_in: int, channels_out: int, stride: int, expansion: int) -> None:
        super().__init__()
        inner = channels_in * expansion
        self.conv = nn.Sequential(
            *_layer(channels_in, inner, 1),
            *_layer(inner, inner, 3, stride, groups=inner),
            *_layer(inner, channels_out, 1)[:2],
        )
        self.adds = stride == 1 and channels_in == channels_out

    def forward(self, x: Tensor) -> Tensor:
        """Map ``(B, Cin, H, W)`` to ``(B, Cout, H / stride, W / stride)``."""
        return x + self.conv(x) if self.adds else self.conv(x)


class MobileNetV2(Network):
    """The half-width network; see the module for what its taps are."""

    def __init__(self, classes: int) -> None:
        super().__init__()
        channels = int(STEM * WIDTH)
        self.conv1 = nn.Sequential(*_layer(3, channels, 3, 2))
        self.blocks = nn.ModuleList()
        for expansion, full, count, stride in GROUPS:
            width = int(full * WIDTH)
            first = Block(channels, width, stride, expansion)
            self.blocks.append(nn.Sequential(first, *(Block(width, width, 1, expansion) for _ in range(count - 1))))
            channels = width
        self.conv2 = nn.Sequential(*_layer(channels, LAST, 1))
        self.classifier = nn.Sequential(nn.Linear(LAST, classes))
        draw_convolutions(self)
        nn.init.normal_(self.classifier[0].weight, std=0.01)
        nn.init.zeros_(self.classifier[0].bias)

    def forward(self, x: Tensor, taps: frozenset[str] = frozenset()) -> Outputs:
        """Map images ``(B, 3, H, W)`` to logits ``(B, K)`` and the taps asked for."""
        stem = self.conv1(x)
        blocks: list[Tensor] = []
        stages: list[Tensor] = []
        x = stem
        for place, group in enumerate(self.blocks):
            for block in group:
                x = block(x)
                blocks.append(x)
            if place in STAGE_ENDS:
                stages.append(x)
        embedding = F.adaptive_avg_pool2d(self.conv2(x), 1).flatten(1)
        return Outputs.of(
            taps, self.classifier(embedding), embedding=embedding, stages=stages, preacts=stages, stem=stem, blocks=blocks
        )

    def foldable(self) -> list[tuple[str, str]]:
        """Return every (convolution, BatchNorm right behind it): all BatchNorms stand there."""
        pairs = []
        for name, module in self.named_modules():
            if isinstance(module, nn.BatchNorm2d):
                sequence, _, place = name.rpartition(".")
                pairs.append((f"{sequence}.{int(place) - 1}", name))
        return pairs


def _layer(channels_in: int, channels_out: int, kernel: int, stride: int = 1, groups: int = 1) -> tuple[nn.Module, ...]:
    conv = nn.Conv2d(channels_in, channels_out, kernel, stride, kernel // 2, groups=groups, bias=False)
    return conv, nn.BatchNorm2d(channels_out), nn.ReLU(inplace=True)


def _build(classes: int, image_size: int, options: Options) -> MobileNetV2:
    return MobileNetV2(classes)  # pooling is global, so any image size fits


MODELS = (
    ModelCard(
        key="mobilenetv2",
        title="MobileNetV2, half width",
        family="mobilenetv2",
        year=2018,
        source=SOURCE,
        depth=54,  # stem, 17 blocks of three convolutions, last convolution, linear layer
        build=_build,
    ),
)
