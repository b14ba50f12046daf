"""Datasets as tensors: ``load``, ``fetch``, and the loader that augments whole batches on the device.

Reads: what the register names, ``data/cache``, a folder of yours (``adopt``). Writes: ``data/<key>`` (downloads), ``data/cache``.
Never: a network, a method, the run's seed: splits and subsets are fixed.
"""

from __future__ import annotations

from pathlib import Path
from types import ModuleType

import numpy as np
import torch
from filelock import FileLock

from kdengine import datasets
from kdengine.data import cifar, digits, imagefolder, parquet
from kdengine.data.augment import Loader, evaluation_batches, normalise
from kdengine.data.cache import Decoded, cached
from kdengine.data.contract import Dataset, Images, Report
from kdengine.data.subsets import held_out, subset
from kdengine.errors import KdError, SpecError
from kdengine.home import Home

__all__ = ["Dataset", "Images", "Loader", "adopt", "evaluation_batches", "fetch", "load", "normalise"]

KINDS: dict[str, ModuleType] = {"digits": digits, "cifar": cifar, "imagefolder": imagefolder, "parquet": parquet}


def load(
    home: Home,
    key: str,
    *,
    image_size: int = 32,
    train_images: int | None = None,
    val_frac: float = 0.0,
    progress: Report | None = None,
) -> Dataset:
    """Return the dataset ``key`` with images of ``image_size`` pixels per side, downloaded first if need be.

    ``val_frac``: share of the training split (0 to 0.5) that is held out; which images, depends on the dataset and the
    share alone. ``train_images``: use that many of the rest, every class in its proportion and at least once; a larger
    subset contains the smaller one. ``progress(done, total)``: bytes of a download, then images of a first decoding.

    Raises:
        UnknownKey: there is no such dataset.
        SpecError: ``train_images`` does not fit the data.
        KdError: it cannot be downloaded or read; broken files are named.
    """
    card = datasets.get(home, key)
    fetch(home, key, progress)
    with FileLock(home.locks / f"data-{key}.lock"):
        decoded = cached(home, card, KINDS[card.kind], image_size, progress)
    val, rest = held_out(decoded.train.y.numpy(), card.classes, val_frac)
    _fits(train_images, len(rest), card.classes)
    chosen = subset(decoded.train.y.numpy(), card.classes, rest, train_images)
    mean, std = cifar.STATISTICS.get(key) or (decoded.mean, decoded.std)
    return Dataset(
        name=key, classes=card.classes, class_names=card.class_names,
        train=_part(decoded, chosen), val=_part(decoded, val) if len(val) else None, test=decoded.test,
        mean=mean, std=std, flippable=card.flippable,
    )  # fmt: skip


def fetch(home: Home, key: str, progress: Report | None = None) -> None:
    """Download the dataset ``key`` unless it is here; whoever asks at the same time waits for the one download.

    ``progress(done, total)`` in bytes of each file.

    Raises:
        UnknownKey: there is no such dataset.
        KdError: no connection, a wrong checksum, a full disk; or the folder of your own dataset is gone.
    """
    card = datasets.get(home, key)
    if datasets.is_here(home, key):
        return
    if card.kind != "cifar":
        raise KdError.of(
            f"dataset {key!r}, whose folder is not where it was registered",
            "the folder that was registered",
            f"put it back, or register its new place under another name: python -m kdengine datasets add NAME --{card.kind} PATH",
            "dataset",
        )
    with FileLock(home.locks / f"data-{key}.lock"):
        if not datasets.is_here(home, key):
            cifar.fetch(home, card, progress)


def adopt(home: Home, key: str, root: Path) -> bool:
    """Take a dataset of torchvision's that lies unpacked in ``root`` into ``data/<key>``, instead of a download.

    Returns whether it lies there; True, too, where it is here already.

    Raises:
        UnknownKey: there is no such dataset.
        KdError: the files in ``root`` are not the published ones, or the disk is full.
    """
    card = datasets.get(home, key)
    with FileLock(home.locks / f"data-{key}.lock"):
        return datasets.is_here(home, key) or (card.kind == "cifar" and cifar.adopt(home, card, root))


def _fits(train_images: int | None, available: int, classes: int) -> None:
    if train_images is not None and not classes <= train_images <= available:
        raise SpecError.of(
            f"{train_images}",
            f"{classes} (one image per class) to {available} (all that are there)",
            "change train_images, or leave it out to use all",
            "train_images",
        )


def _part(decoded: Decoded, index: np.ndarray) -> Images:
    """Return the training images at ``index``; all of them are handed out without a copy."""
    whole = len(index) == len(decoded.train)
    return decoded.train if whole else decoded.train.take(torch.from_numpy(index))
