"""VGG networks for small images (Simonyan and Zisserman 2015): 8 to 19 layers with BatchNorm and a single linear layer.

Five groups of 3x3 convolutions with 64, 128, 256, 512 and 512 channels. The first group is the stem, at full resolution; a
max pooling stands before each of the next three, and before the last one only where images have 64 pixels or more, so that
32 x 32 images end as 4 x 4 maps. Then global average pooling and one linear layer instead of the paper's three. No dropout.

A stage is one group, and so is a block. Weights start as in the distillation benchmark: convolutions normal with variance
2 / (k * k * channels out), the linear layer normal with deviation 0.01, biases zero. Parameters carry the benchmark's names,
so that its published weights (those with BatchNorm) fit.

Reads / writes: nothing. Never: a method, a dataset, pre-trained weights.
"""

from __future__ import annotations

from functools import partial

import torch.nn.functional as F
from torch import Tensor, nn

from kdengine.models.contract import ModelCard, Network, Options, Outputs, draw_convolutions

SOURCE = (
    "K. Simonyan, A. Zisserman, Very Deep Convolutional Networks for Large-Scale Image Recognition, ICLR 2015, arXiv 1409.1556; "
    "variant of the CRD benchmark (Tian et al., ICLR 2020)"
)
WIDTHS = (64, 128, 256, 512, 512)
LAYERS = {8: (1, 1, 1, 1, 1), 11: (1, 1, 2, 2, 2), 13: (2, 2, 2, 2, 2), 16: (2, 2, 3, 3, 3), 19: (2, 2, 4, 4, 4)}
GROUPS = tuple(f"block{i}" for i in range(len(WIDTHS)))
LAST_POOL_FROM = 64  # pixels per side from which the fourth pooling is not skipped


class VGG(Network):
    """Five groups of convolutions, ``layers`` of them in each."""

    def __init__(self, classes: int, layers: tuple[int, ...]) -> None:
        super().__init__()
        channels = 3
        for name, width, count in zip(GROUPS, WIDTHS, layers, strict=True):
            self.add_module(name, _group(channels, width, count))
            channels = width
        self.classifier = nn.Linear(channels, classes)
        draw_convolutions(self)
        nn.init.normal_(self.classifier.weight, std=0.01)
        nn.init.zeros_(self.classifier.bias)

    def forward(self, x: Tensor, taps: frozenset[str] = frozenset()) -> Outputs:
        """Map images ``(B, 3, H, W)``, H and W at least 8, to logits ``(B, K)`` and the taps asked for."""
        skipped = None if min(x.shape[2:]) >= LAST_POOL_FROM else GROUPS[-1]
        preacts: list[Tensor] = []
        maps: list[Tensor] = []
        for name in GROUPS:
            if maps and name != skipped:
                x = F.max_pool2d(x, 2)
            preacts.append(self.get_submodule(name)(x))
            x = F.relu(preacts[-1])
            maps.append(x)
        embedding = F.adaptive_avg_pool2d(x, 1).flatten(1)
        return Outputs.of(
            taps, self.classifier(embedding),
            embedding=embedding, stages=maps[1:], preacts=preacts[1:], stem=maps[0], blocks=maps[1:],
        )  # fmt: skip

    def stage_norms(self) -> list[nn.BatchNorm2d]:
        """Return the BatchNorm at the end of each group."""
        return [self.get_submodule(name)[-1] for name in GROUPS[1:]]

    def foldable(self) -> list[tuple[str, str]]:
        """Return every (convolution, BatchNorm right behind it): all BatchNorms stand there."""
        norms = [(group, i) for group in GROUPS for i, m in enumerate(self.get_submodule(group)) if isinstance(m, nn.BatchNorm2d)]
        return [(f"{group}.{i - 1}", f"{group}.{i}") for group, i in norms]


def _group(channels_in: int, channels_out: int, count: int) -> nn.Sequential:
    """Return ``count`` times convolution, BatchNorm, ReLU, without the last ReLU: before and after it there is a tap."""
    layers: list[nn.Module] = []
    for i in range(count):
        conv = nn.Conv2d(channels_out if i else channels_in, channels_out, 3, padding=1)
        layers += [conv, nn.BatchNorm2d(channels_out), nn.ReLU(inplace=True)]
    return nn.Sequential(*layers[:-1])


def _build(classes: int, image_size: int, options: Options, *, depth: int) -> VGG:
    return VGG(classes, LAYERS[depth])


def _card(depth: int) -> ModelCard:
    return ModelCard(
        key=f"vgg{depth}",
        title=f"VGG-{depth}",
        family="vgg",
        year=2015,
        source=SOURCE,
        depth=depth,
        build=partial(_build, depth=depth),
    )


MODELS = tuple(_card(depth) for depth in LAYERS)
