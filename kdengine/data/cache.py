"""Decoded datasets on the disk, so that the second run of a dataset starts at once.

Reads and writes: ``data/cache/<key>-<image size>-<digest>/``, written aside and renamed; an older digest of the same
dataset and size is removed. Never: anything that cannot be made again. The caller holds the dataset's lock.
"""

from __future__ import annotations

import hashlib
import json
import shutil
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType

import numpy as np
import torch

from kdengine.data.contract import Images, Report, Split
from kdengine.datasets import DatasetCard
from kdengine.home import Home

VERSION = 1  # raise it when the decoding changes
MAP_FROM = 1 << 30  # bytes of images from which the file is mapped instead of read into memory
CHUNK = 4096
Three = tuple[float, float, float]


@dataclass(frozen=True, slots=True)
class Decoded:
    """Both splits in full, and mean and standard deviation of the training split's channels on the scale 0 to 1."""

    train: Images
    test: Images
    mean: Three
    std: Three


def cached(home: Home, card: DatasetCard, source: ModuleType, size: int, report: Report | None) -> Decoded:
    """Return the dataset decoded to ``size`` pixels per side: from the cache where its files have not changed.

    Raises:
        KdError: the files are gone or broken.
    """
    mark = f"{VERSION} {card.kind} {size} {source.fingerprint(home, card)}"
    folder = home.data / "cache" / f"{card.key}-{size}-{hashlib.sha256(mark.encode()).hexdigest()[:16]}"
    found = _open(folder, card, size)
    if found is None:
        _write(folder, home, card, source, size, report)
        found = _open(folder, card, size)
    assert found is not None, "written just now"
    return found


def statistics(x: np.ndarray) -> tuple[Three, Three]:
    """Return mean and standard deviation per channel of ``x (N, 3, H, W)`` uint8, divided by 255; 1 for a constant channel."""
    counts = np.zeros((3, 256))
    for first in range(0, len(x), CHUNK):
        part = x[first : first + CHUNK]
        counts += np.stack([np.bincount(part[:, c].ravel(), minlength=256) for c in range(3)])
    values = np.arange(256) / 255
    share = counts / counts.sum(axis=1, keepdims=True)
    mean = share @ values
    variance = (share * (values - mean[:, None]) ** 2).sum(axis=1)
    std = [float(v) ** 0.5 or 1.0 for v in variance]
    return (float(mean[0]), float(mean[1]), float(mean[2])), (std[0], std[1], std[2])


def _write(folder: Path, home: Home, card: DatasetCard, source: ModuleType, size: int, report: Report | None) -> None:
    aside = folder.with_name(f".new-{folder.name}")
    shutil.rmtree(aside, ignore_errors=True)
    shutil.rmtree(folder, ignore_errors=True)
    aside.mkdir(parents=True)
    try:
        train = _write_split(aside, home, card, source, "train", size, report)
        _write_split(aside, home, card, source, "test", size, report)
        (aside / "statistics.json").write_text(json.dumps(statistics(train)), encoding="utf-8")
        aside.rename(folder)
    finally:
        shutil.rmtree(aside, ignore_errors=True)
    for old in folder.parent.glob(f"{card.key}-{size}-*"):  # "a-32" may be a name too: compare it whole
        if old != folder and old.name.rpartition("-")[0] == f"{card.key}-{size}":
            shutil.rmtree(old, ignore_errors=True)


def _write_split(
    aside: Path, home: Home, card: DatasetCard, source: ModuleType, split: Split, size: int, report: Report | None
) -> np.ndarray:
    def new(count: int) -> np.ndarray:
        return np.lib.format.open_memmap(aside / f"{split}-x.npy", mode="w+", dtype=np.uint8, shape=(count, 3, size, size))

    x, y = source.read(home, card, split, size, new, report)
    assert len(x) == len(y) and y.min() >= 0 and y.max() < card.classes, f"labels of {split} do not fit the card"
    np.save(aside / f"{split}-y.npy", y)
    if isinstance(x, np.memmap):
        x.flush()
    return x


def _open(folder: Path, card: DatasetCard, size: int) -> Decoded | None:
    """Return what is in the cache; None where there is nothing, or a file was damaged."""
    try:
        mean, std = json.loads((folder / "statistics.json").read_bytes())
        train, test = _open_split(folder, "train"), _open_split(folder, "test")
    except (OSError, ValueError, EOFError):
        return None
    whole = all(s.x.shape == (len(s.y), 3, size, size) for s in (train, test))
    return Decoded(train, test, tuple(mean), tuple(std)) if whole else None


def _open_split(folder: Path, split: Split) -> Images:
    path = folder / f"{split}-x.npy"
    # copy-on-write, because torch wants memory that it may write; nobody writes to it
    x = np.load(path, mmap_mode="c" if path.stat().st_size >= MAP_FROM else None, allow_pickle=False)
    return Images(torch.from_numpy(x), torch.from_numpy(np.load(folder / f"{split}-y.npy", allow_pickle=False)))
