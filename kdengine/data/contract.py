"""What a loaded dataset is, and what each kind of source must offer.

Reads / writes: nothing. Never: a network, a method, Streamlit.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal, Protocol

import numpy as np
import torch
from torch import Tensor

from kdengine.datasets import DatasetCard
from kdengine.home import Home

Split = Literal["train", "test"]
Report = Callable[[int, int], None]  # done, total: bytes of a download, images of a decoding
Allocate = Callable[[int], np.ndarray]  # number of images -> writable uint8 array (N, 3, size, size)


@dataclass(frozen=True, slots=True, eq=False)
class Images:
    """``x (N, 3, H, W)`` uint8 and labels ``y (N,)`` int64, on one device."""

    x: Tensor
    y: Tensor

    def __len__(self) -> int:
        return len(self.y)

    def take(self, index: Tensor) -> Images:
        """Return a copy of the images at ``index (n,)`` int64, in that order."""
        return Images(self.x[index], self.y[index])

    def to(self, device: torch.device | str) -> Images:
        """Return the same images on ``device``."""
        return Images(self.x.to(device), self.y.to(device))


@dataclass(frozen=True, slots=True, eq=False)
class Dataset:
    """Everything a run learns from. ``class_names[k]`` is the name of label k, in every split.

    ``mean``, ``std``: per channel on the scale 0 to 1, of the whole training split, so that every subset of it and every
    teacher see the same pixel values. ``val``: None unless a share was held out.
    """

    name: str
    classes: int
    class_names: tuple[str, ...]
    train: Images
    val: Images | None
    test: Images
    mean: tuple[float, float, float]
    std: tuple[float, float, float]
    flippable: bool

    @property
    def low(self) -> tuple[float, ...]:
        """The least value of a pixel per channel after normalisation."""
        return tuple((0.0 - m) / s for m, s in zip(self.mean, self.std, strict=True))

    @property
    def high(self) -> tuple[float, ...]:
        """The greatest value of a pixel per channel after normalisation."""
        return tuple((1.0 - m) / s for m, s in zip(self.mean, self.std, strict=True))


class Source(Protocol):
    """A kind of source: a module of this package with these functions."""

    def fingerprint(self, home: Home, card: DatasetCard) -> str:
        """Return a text that changes whenever the files do; cheap, nothing is decoded.

        Raises:
            KdError: the files are not there.
        """
        ...

    def read(
        self, home: Home, card: DatasetCard, split: Split, size: int, new: Allocate, report: Report | None
    ) -> tuple[np.ndarray, np.ndarray]:
        """Fill ``new(N)`` with the split's images, ``size`` pixels per side; return it and the labels ``(N,)`` int64.

        Raises:
            KdError: a file is broken (named, relative to the dataset's folder) or the classes are not those of the card.
        """
        ...
