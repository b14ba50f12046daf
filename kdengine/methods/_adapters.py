"""Small learnt layers that give a student's map the teacher's channels or size; several methods use the same ones.

Reads / writes: nothing. Never: a method, a network, a loss.
"""

from __future__ import annotations

from torch import nn

from kdengine.models.contract import Shape


def connector(channels_s: int, channels_t: int, *, relu: bool = False) -> nn.Module:
    """Return a 1x1 convolution without bias, BatchNorm and, if ``relu``, a ReLU: channels change, sizes stay.

    Initial weights are normal with variance 2 / channels_t, as in the authors' code of ab and ofd.
    """
    convolution = nn.Conv2d(channels_s, channels_t, 1, bias=False)
    nn.init.kaiming_normal_(convolution.weight, mode="fan_out", nonlinearity="relu")
    return nn.Sequential(convolution, nn.BatchNorm2d(channels_t), *([nn.ReLU()] if relu else []))


def connector_where_needed(shape_s: Shape, shape_t: Shape) -> nn.Module:
    """Return nothing to learn where both maps have equally many channels, else a ``connector``."""
    return nn.Identity() if shape_s[0] == shape_t[0] else connector(shape_s[0], shape_t[0])


def resizing_conv(shape_s: Shape, shape_t: Shape) -> nn.Conv2d | nn.ConvTranspose2d:
    """Return one convolution with bias that gives a student's map the teacher's channels and, where it can, its size.

    3x3 with stride 2 or 4x4 transposed where the sizes differ by 2; otherwise as large as the surplus of the student's map
    ("valid"), which is 1x1 where they agree. A student's map that is smaller by another factor keeps its size.
    """
    (channels_s, height_s, _), (channels_t, height_t, _) = shape_s, shape_t
    if height_s == 2 * height_t:
        return nn.Conv2d(channels_s, channels_t, 3, stride=2, padding=1)
    if 2 * height_s == height_t:
        return nn.ConvTranspose2d(channels_s, channels_t, 4, stride=2, padding=1)
    return nn.Conv2d(channels_s, channels_t, max(1, 1 + height_s - height_t))
