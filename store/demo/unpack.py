"""From the shipped archive to a home full of finished runs, as if they had been trained there.

Reads: ``home.tar.xz`` beside this file. Writes: run folders, the register and the pixels of datasets, ``latency.json`` of the
home it is given. Never: anything outside of it; torch, scikit-learn.
"""

from __future__ import annotations

import io
import json
import tarfile
from pathlib import Path, PurePosixPath

import numpy as np

from kdengine.home import Home

ARCHIVE = Path(__file__).with_name("home.tar.xz")
SCANS = "scans.npz"  # train_x, test_x (N, 8, 8) uint8, values 0 to 16; train_y, test_y (N,): the embedded dataset, undecoded
PIXELS = "data/cache/digits-32-demo"
SIZE = 32


def unpack(home: Home, archive: Path = ARCHIVE) -> None:
    """Write everything of the archive into ``home``, which has its folders already and no runs.

    Raises:
        OSError: the disk is full or cannot be written. ValueError: a name in the archive leads out of the home.
    """
    with tarfile.open(archive, "r:xz") as packed:
        for member in packed:
            content = packed.extractfile(member)
            if content is None:  # a folder, a link: nothing of ours
                continue
            data = content.read()
            if member.name == SCANS:
                _write_pixels(home, data)
            else:
                _write(home, member.name, data)


def _write(home: Home, name: str, data: bytes) -> None:
    parts = PurePosixPath(name).parts
    if PurePosixPath(name).is_absolute() or ".." in parts:
        raise ValueError(f"{name} in the archive leads out of the home")
    target = home.root.joinpath(*parts)
    target.parent.mkdir(parents=True, exist_ok=True)
    target.write_bytes(data)


def _write_pixels(home: Home, data: bytes) -> None:
    """Write the decoded images as ``kdengine.data.cache`` does, so that pages can show them."""
    folder = home.root / PIXELS
    folder.mkdir(parents=True)
    with np.load(io.BytesIO(data), allow_pickle=False) as scans:
        for split in ("train", "test"):
            np.save(folder / f"{split}-x.npy", enlarged(scans[f"{split}_x"]))
            np.save(folder / f"{split}-y.npy", scans[f"{split}_y"].astype(np.int64))
    (folder / "statistics.json").write_text(json.dumps([[0.0] * 3, [1.0] * 3]), encoding="utf-8")  # last: the others are whole


def enlarged(scans: np.ndarray) -> np.ndarray:
    """Return scans ``(N, 8, 8)``, values 0 to 16, as pixels ``(N, 3, 32, 32)`` uint8: bilinear, as they are trained on."""
    grey = np.rint(scans * (255 / 16))
    places = np.clip((np.arange(SIZE) + 0.5) * scans.shape[1] / SIZE - 0.5, 0, scans.shape[1] - 1)
    share = np.maximum(0, 1 - np.abs(places[:, None] - np.arange(scans.shape[1])))  # (32, 8): how much of each line a new one has
    pixels = np.rint(share @ grey @ share.T).astype(np.uint8)
    return np.repeat(pixels[:, None], 3, axis=1)
