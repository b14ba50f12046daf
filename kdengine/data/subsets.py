"""Which training images a subset or a validation split holds: fixed, and every class in its proportion.

Reads / writes: nothing. Never: the run's seed.
"""

from __future__ import annotations

import numpy as np


def held_out(labels: np.ndarray, classes: int, share: float) -> tuple[np.ndarray, np.ndarray]:
    """Split the indices of ``labels (N,)`` into (validation, rest), both ascending; no class loses its last image.

    ``share`` in [0, 0.5] of N, rounded.
    """
    rank, size, tie = _places(labels, classes, seed=1)
    order = np.lexsort((tie, (rank + 1) / size))  # the last image of each class comes at 1.0, behind all that is taken
    count = min(round(share * len(labels)), len(labels) - len(np.unique(labels)))
    return np.sort(order[:count]), np.sort(order[count:])


def subset(labels: np.ndarray, classes: int, available: np.ndarray, count: int | None) -> np.ndarray:
    """Return ``count`` of the indices ``available``, ascending; None = all of them.

    The first ``classes`` of the order hold one image of each class, what follows keeps the classes' proportions; the
    subset of n images contains that of every smaller n.
    """
    if count is None:
        return available
    rank, size, tie = _places(labels[available], classes, seed=2)
    order = np.lexsort((tie, rank / size))
    return np.sort(available[order[:count]])


def _places(labels: np.ndarray, classes: int, seed: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Return for each image its rank within its class, the size of its class, and a random number to break ties.

    From a fixed permutation; NumPy's legacy generator, because its stream is promised never to change.
    """
    shuffled = np.random.RandomState(seed).permutation(len(labels))
    grouped = shuffled[np.argsort(labels[shuffled], kind="stable")]
    sizes = np.bincount(labels, minlength=classes)
    rank = np.empty(len(labels), dtype=np.int64)
    rank[grouped] = np.arange(len(labels)) - np.repeat(np.cumsum(sizes) - sizes, sizes)
    tie = np.empty(len(labels), dtype=np.int64)
    tie[shuffled] = np.arange(len(labels))
    return rank, sizes[labels], tie
