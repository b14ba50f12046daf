"""The embedded dataset: scikit-learn's 1,797 scans of handwritten digits, 8x8 pixels.

Reads: files of the installed scikit-learn. Writes: nothing. Never: the network.
"""

from __future__ import annotations

import numpy as np

from kdengine.data.contract import Allocate, Report, Split
from kdengine.data.pixels import resize
from kdengine.datasets import DatasetCard
from kdengine.home import Home


def fingerprint(home: Home, card: DatasetCard) -> str:
    """Return a constant: these scans never change, the split is fixed below."""
    return f"digits 1 {card.test_images}"


def read(
    home: Home, card: DatasetCard, split: Split, size: int, new: Allocate, report: Report | None = None
) -> tuple[np.ndarray, np.ndarray]:
    """Return the split's images ``(N, 3, size, size)``, values 0 to 16 spread over 0 to 255, and labels.

    The last 600 of a fixed permutation are the test split.
    """
    from sklearn.datasets import load_digits

    scans, labels = load_digits(return_X_y=True)
    order = np.random.RandomState(0).permutation(len(labels))  # the legacy generator: its stream never changes
    order = order[-card.test_images :] if split == "test" else order[: -card.test_images]
    grey = np.rint(scans[order].reshape(-1, 1, 8, 8) * (255 / 16)).astype(np.uint8)
    x = new(len(order))
    resize(grey, x)
    return x, labels[order].astype(np.int64)
