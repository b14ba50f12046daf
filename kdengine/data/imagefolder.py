"""Your own images: one folder per class under ``train`` and ``test``.

Reads: the folder that was registered. Writes: nothing. Never: a path outside that folder, a path in an error.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable
from pathlib import Path

import numpy as np

from kdengine import datasets_inspect as inspect
from kdengine.data.contract import Allocate, Report, Split
from kdengine.data.pixels import decode_all, refuse_broken
from kdengine.datasets import DatasetCard, path_of
from kdengine.errors import KdError
from kdengine.home import Home


def fingerprint(home: Home, card: DatasetCard) -> str:
    """Return a hash of every file's name, size and time of change.

    Raises:
        KdError: the folder or its files are gone.
    """
    root = path_of(home, card.key)
    return stamp(
        root, (p for split in inspect.SPLITS for paths in inspect.image_files(root, split).values() for p in paths), card
    )


def stamp(root: Path, files: Iterable[Path], card: DatasetCard) -> str:
    """Return a hash of the names (relative to ``root``), sizes and times of change of ``files`` and of the class names.

    Raises:
        KdError: there are no files, or they cannot be seen.
    """
    digest, listed, why = hashlib.sha256(repr(card.class_names).encode()), False, "its files are gone"
    try:
        for path in files:
            stat, listed = path.stat(), True
            digest.update(f"{path.relative_to(root)}\0{stat.st_size}\0{stat.st_mtime_ns}\n".encode())
    except OSError as error:
        listed, why = False, str(error.strerror)
    if not listed:
        raise KdError.of(
            f"dataset {card.key!r}: {why}",
            "the folder that was registered",
            "put it back, or register its new place under another name: python -m kdengine datasets add",
            "dataset",
        )
    return digest.hexdigest()


def read(
    home: Home, card: DatasetCard, split: Split, size: int, new: Allocate, report: Report | None = None
) -> tuple[np.ndarray, np.ndarray]:
    """Return the split's images ``(N, 3, size, size)`` and labels: the place of the class folder in alphabetical order.

    Raises:
        KdError: broken images, each named; class folders that are not those of the card.
    """
    root = path_of(home, card.key)
    classes = inspect.image_files(root, split)
    changed = inspect.different_names(card.class_names, tuple(classes), "class folders as when it was registered")
    refuse_broken(changed)
    files = [path for paths in classes.values() for path in paths]
    labels = np.repeat(np.arange(len(classes)), [len(paths) for paths in classes.values()])
    x = new(len(files))
    refuse_broken(decode_all(len(files), lambda i: (str(files[i].relative_to(root)), files[i]), x, report))
    return x, labels.astype(np.int64)
