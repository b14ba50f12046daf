"""The pixels of a dataset, for looking at: test images by their place, a few training images of each class.

Reads: the decoded images under ``data/cache`` (written by ``kdengine.data.cache``), by memory map: only the pixels that are
asked for leave the disk. Writes: nothing. Never: torch, a download, a decoding; what is not decoded yet is None.
"""

from __future__ import annotations

import io
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from kdengine.errors import KdError
from kdengine.home import Home

if TYPE_CHECKING:
    import numpy as np

Split = Literal["train", "test"]


def decoded(home: Home, dataset: str, size: int = 32) -> Path | None:
    """Return the folder that holds ``dataset`` decoded to ``size`` pixels per side; None where it has not been decoded.

    Reading a run's data writes it, and removes the folder of an earlier state of the files.
    """
    wanted = f"{dataset}-{size}"  # the name of a dataset may hold "-" itself: compare all that stands before the digest
    found = [p for p in _folders(home) if p.name.rpartition("-")[0] == wanted and (p / "statistics.json").is_file()]
    return max(found, key=lambda p: p.stat().st_mtime, default=None)


def test_images(home: Home, dataset: str, index: Sequence[int] | np.ndarray, size: int = 32) -> np.ndarray | None:
    """Return test images as ``(N, size, size, 3)`` uint8, a copy; None where the dataset is not decoded to that size.

    ``index``: places in the test split, which are the places in a run's ``predictions.npz``.

    Raises:
        KdError: a place that the split does not have.
    """
    found = _split(home, dataset, "test", size)
    return None if found is None else _take(found[0], index, dataset)


def test_labels(home: Home, dataset: str, size: int = 32) -> np.ndarray | None:
    """Return the labels ``(N,)`` int64 of the whole test split; None where the dataset is not decoded to that size."""
    found = _split(home, dataset, "test", size)
    return None if found is None else found[1]


def train_samples(home: Home, dataset: str, per_class: int, size: int = 32) -> dict[int, np.ndarray] | None:
    """Return label -> the first ``per_class`` training images of it, ``(n, size, size, 3)`` uint8, labels ascending.

    ``n`` is smaller where a class has fewer. None where the dataset is not decoded to that size.
    """
    import numpy as np

    found = _split(home, dataset, "train", size)
    if found is None:
        return None
    pixels, labels = found
    order = np.argsort(labels, kind="stable")
    values, starts = np.unique(labels[order], return_index=True)
    ends = [*starts[1:], len(order)]
    return {
        int(value): _take(pixels, order[start : min(start + per_class, end)], dataset)
        for value, start, end in zip(values, starts, ends, strict=True)
    }


def mosaic(images: np.ndarray, columns: int, gap: int = 1) -> np.ndarray:
    """Lay ``images (N, H, W, 3)`` uint8 in rows of ``columns``; return ``(H', W', 4)`` uint8 with transparent gaps.

    ``gap``: pixels between images. Places behind the last image stay transparent.
    """
    import numpy as np

    count, height, width = images.shape[:3]
    rows = -(-count // columns)
    sheet = np.zeros((rows * (height + gap) - gap, columns * (width + gap) - gap, 4), dtype=np.uint8)
    for place in range(count):
        top, left = (place // columns) * (height + gap), (place % columns) * (width + gap)
        sheet[top : top + height, left : left + width, :3] = images[place]
        sheet[top : top + height, left : left + width, 3] = 255
    return sheet


def as_png(pixels: np.ndarray, scale: int = 1) -> bytes:
    """Return ``pixels (H, W)``, ``(H, W, 3)`` or ``(H, W, 4)`` uint8 as a PNG file, every pixel ``scale`` x ``scale``, sharp."""
    from PIL import Image

    image = Image.fromarray(pixels)
    if scale != 1:
        image = image.resize((image.width * scale, image.height * scale), Image.Resampling.NEAREST)
    held = io.BytesIO()
    image.save(held, format="PNG")
    return held.getvalue()


def _folders(home: Home) -> list[Path]:
    cache = home.data / "cache"
    return [p for p in cache.iterdir() if not p.name.startswith(".")] if cache.is_dir() else []


def _split(home: Home, dataset: str, split: Split, size: int) -> tuple[np.ndarray, np.ndarray] | None:
    """Return (pixels ``(N, 3, size, size)`` mapped from the file, labels ``(N,)``); None where they are missing or damaged."""
    import numpy as np

    folder = decoded(home, dataset, size)
    if folder is None:
        return None
    try:
        pixels = np.load(folder / f"{split}-x.npy", mmap_mode="r", allow_pickle=False)
        labels = np.load(folder / f"{split}-y.npy", allow_pickle=False)
    except (OSError, ValueError, EOFError):  # just replaced, or damaged: the next run decodes it again
        return None
    return (pixels, labels) if pixels.shape == (len(labels), 3, size, size) else None


def _take(pixels: np.ndarray, index: Sequence[int] | np.ndarray, dataset: str) -> Any:
    import numpy as np

    places = np.asarray(index, dtype=np.int64).reshape(-1)
    wrong = places[(places < 0) | (places >= len(pixels))]
    if len(wrong):
        raise KdError.of(
            f"image {wrong[0]} of {dataset}", f"0 to {len(pixels) - 1}", "choose images of this dataset's own test split", "image"
        )
    return np.ascontiguousarray(pixels[places].transpose(0, 2, 3, 1))
