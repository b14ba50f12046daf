"""Wide residual networks (Zagoruyko and Komodakis 2016): pre-activation blocks, 16 or 40 layers, once or twice as wide.

Depth 6n + 4: a 3x3 stem of 16 channels, three stages of n blocks with 16k, 32k and 64k channels at full, half and quarter
resolution, BatchNorm, ReLU, global average pooling, one linear layer. No dropout, as in the distillation benchmark.

Blocks add up raw sums; each sum meets its BatchNorm and ReLU only where the next block (or the end) takes it in. That norm
and that ReLU, computed once, are what the taps show: preact = the next BatchNorm of the raw sum, map = its ReLU. The
benchmark's code shows raw sums as maps instead, and the same preacts. The stem is tapped in the same way.

Weights start as in the benchmark: convolutions normal with variance 2 / (k * k * channels out), the linear layer as PyTorch
has it but with zero bias. Parameters carry the benchmark's names, so that its published weights fit.

Reads / writes: nothing. Never: a method, a dataset, pre-trained weights.
"""

from __future__ import annotations

from functools import partial

import torch.nn.functional as F
from torch import Tensor, nn

from kdengine.models.contract import ModelCard, Network, Options, Outputs, draw_convolutions

SOURCE = "S. Zagoruyko, N. Komodakis, Wide Residual Networks, BMVC 2016, arXiv 1605.07146"


class Block(nn.Module):
    """BatchNorm, ReLU, 3x3 convolution, twice, around a shortcut; a 1x1 convolution is the shortcut where channels change."""

    def __init__(self, channels_in: int, channels_out: int, stride: int) -> None:
        super().__init__()
        self.bn1 = nn.BatchNorm2d(channels_in)
        self.conv1 = nn.Conv2d(channels_in, channels_out, 3, stride, 1, bias=False)
        self.bn2 = nn.BatchNorm2d(channels_out)
        self.conv2 = nn.Conv2d(channels_out, channels_out, 3, 1, 1, bias=False)
        same = channels_in == channels_out
        self.convShortcut = None if same else nn.Conv2d(channels_in, channels_out, 1, stride, bias=False)

    def forward(self, raw: Tensor, active: Tensor) -> Tensor:
        """Return the next raw sum. ``active`` is ``relu(bn1(raw))``, which the network has computed for its taps."""
        inner = self.conv2(F.relu(self.bn2(self.conv1(active)), inplace=True))  # never tapped, so it may be overwritten
        return inner + (raw if self.convShortcut is None else self.convShortcut(active))


class WideResNet(Network):
    """A network of ``3 * blocks`` pre-activation blocks, ``widen`` times as wide as the plain one."""

    def __init__(self, classes: int, blocks: int, widen: int) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(3, 16, 3, 1, 1, bias=False)
        self.block1 = _stage(16, 16 * widen, blocks, 1)
        self.block2 = _stage(16 * widen, 32 * widen, blocks, 2)
        self.block3 = _stage(32 * widen, 64 * widen, blocks, 2)
        self.bn1 = nn.BatchNorm2d(64 * widen)
        self.fc = nn.Linear(64 * widen, classes)
        draw_convolutions(self)
        nn.init.zeros_(self.fc.bias)

    def forward(self, x: Tensor, taps: frozenset[str] = frozenset()) -> Outputs:
        """Map images ``(B, 3, H, W)`` to logits ``(B, K)`` and the taps asked for."""
        raw = self.conv1(x)
        preacts: list[Tensor] = []
        maps: list[Tensor] = []
        for block in self._blocks():
            preacts.append(block.bn1(raw))
            maps.append(F.relu(preacts[-1]))
            raw = block(raw, maps[-1])
        preacts.append(self.bn1(raw))
        maps.append(F.relu(preacts[-1]))
        embedding = F.adaptive_avg_pool2d(maps[-1], 1).flatten(1)
        n = len(self.block1.layer)  # maps[0] is the stem, maps[i] comes after block i
        return Outputs.of(
            taps, self.fc(embedding),
            embedding=embedding, stages=maps[n::n], preacts=preacts[n::n], stem=maps[0], blocks=maps[1:],
        )  # fmt: skip

    def stage_norms(self) -> list[nn.BatchNorm2d]:
        """Return the BatchNorm that the next stage, or the end, applies to each stage's raw sum."""
        return [self.block2.layer[0].bn1, self.block3.layer[0].bn1, self.bn1]

    def foldable(self) -> list[tuple[str, str]]:
        """Return the pair inside each block; the other BatchNorms stand behind sums and before a fork."""
        return [(f"{n}.conv1", f"{n}.bn2") for n, module in self.named_modules() if isinstance(module, Block)]

    def _blocks(self) -> list[Block]:
        return [*self.block1.layer, *self.block2.layer, *self.block3.layer]


def _stage(channels_in: int, channels_out: int, blocks: int, stride: int) -> nn.Module:
    stage = nn.Module()
    first = Block(channels_in, channels_out, stride)
    stage.layer = nn.Sequential(first, *(Block(channels_out, channels_out, 1) for _ in range(blocks - 1)))
    return stage


def _build(classes: int, image_size: int, options: Options, *, depth: int, widen: int) -> WideResNet:
    return WideResNet(classes, (depth - 4) // 6, widen)  # pooling is global, so any image size fits


def _card(depth: int, widen: int) -> ModelCard:
    return ModelCard(
        key=f"wrn_{depth}_{widen}",
        title=f"WRN-{depth}-{widen}",
        family="wrn",
        year=2016,
        source=SOURCE,
        depth=depth,
        build=partial(_build, depth=depth, widen=widen),
    )


MODELS = tuple(_card(depth, widen) for depth in (16, 40) for widen in (1, 2))
