"""CIFAR-10, CIFAR-100 and Fashion-MNIST, through torchvision's readers.

Reads: the network (``fetch`` only), a folder of yours (``adopt`` only), ``data/<key>``.
Writes: ``data/<key>``, complete or not at all.
Never: a file whose checksum is not torchvision's.
"""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import numpy as np

from kdengine import datasets_inspect as inspect
from kdengine.data.contract import Allocate, Report, Split
from kdengine.data.download import download
from kdengine.data.pixels import refuse_broken, resize
from kdengine.datasets import DatasetCard, path_of
from kdengine.errors import KdError
from kdengine.home import Home

# published values, on the scale 0 to 1; the digits after the third vary between authors
STATISTICS = {
    "cifar10": ((0.4914, 0.4822, 0.4465), (0.2470, 0.2435, 0.2616)),
    "cifar100": ((0.5071, 0.4865, 0.4409), (0.2673, 0.2564, 0.2762)),
}


def reader(key: str) -> Any:
    """Return torchvision's class for ``key``; it knows the URLs, checksums and file formats."""
    from torchvision import datasets as tv

    return {"cifar10": tv.CIFAR10, "cifar100": tv.CIFAR100, "fashion_mnist": tv.FashionMNIST}[key]


def fingerprint(home: Home, card: DatasetCard) -> str:
    """Return the name: what lies in ``data/<key>`` was checked when it was fetched."""
    return f"torchvision {card.key} 1"


def fetch(home: Home, card: DatasetCard, report: Report | None = None) -> None:
    """Download into ``data/<key>``. The caller holds the dataset's lock.

    The archives are downloaded here, because torchvision reports no progress, knows no timeout and falls back to an
    unencrypted address; it then finds them in their place, checks them and unpacks them.

    Raises:
        KdError: see ``download``; the archive does not hold what it should.
    """
    target = path_of(home, card.key)
    aside = target.with_name(f".new-{card.key}")
    shutil.rmtree(aside, ignore_errors=True)  # what a killed download left
    kind = reader(card.key)
    archives = _archives(kind, aside)
    try:
        for urls, path, md5 in archives:
            path.parent.mkdir(parents=True, exist_ok=True)
            _first_that_works(urls, path, md5, report)
        _open(kind, aside, "train", unpack=True)
        for _, path, _ in archives:
            path.unlink()
        aside.replace(target)
    finally:
        shutil.rmtree(aside, ignore_errors=True)


def adopt(home: Home, card: DatasetCard, root: Path) -> bool:
    """Copy the unpacked files from ``root``, or from ``root`` itself if it bears their folder's name, into ``data/<key>``;
    return whether they lie there. The caller holds the dataset's lock.

    Raises:
        KdError: they are there and are not the published ones, or cannot be copied.
    """
    kind, target = reader(card.key), path_of(home, card.key)
    folder = getattr(kind, "base_folder", kind.__name__)
    source = root if root.name == folder else root / folder
    if not source.is_dir():
        return False
    try:
        _open(kind, source.parent, "train")  # compares the checksums
    except KdError as error:
        given, allowed = f"files in {source} that are broken or others", error.problems[0].allowed
        raise KdError.of(given, allowed, "leave the folder out: the dataset is downloaded then", "dataset") from error
    aside = target.with_name(f".new-{card.key}")
    shutil.rmtree(aside, ignore_errors=True)
    try:
        shutil.copytree(source, aside / folder)
        aside.replace(target)
    except OSError as error:
        given = f"{source}, which cannot be copied ({error.strerror or type(error).__name__})"
        raise KdError.of(given, "room for it in KD_HOME", "make room, or check the folder", "dataset") from error
    finally:
        shutil.rmtree(aside, ignore_errors=True)
    return True


def read(
    home: Home, card: DatasetCard, split: Split, size: int, new: Allocate, report: Report | None = None
) -> tuple[np.ndarray, np.ndarray]:
    """Return the split's images ``(N, 3, size, size)`` and labels.

    Raises:
        KdError: the files in ``data/<key>`` are broken.
    """
    source = _open(reader(card.key), path_of(home, card.key), split)
    refuse_broken(inspect.different_names(card.class_names, tuple(source.classes), "classes as published"))
    pixels = np.asarray(source.data)
    pixels = pixels.transpose(0, 3, 1, 2) if pixels.ndim == 4 else pixels[:, None]
    x = new(len(pixels))
    resize(pixels, x)
    if report is not None:
        report(len(x), len(x))
    return x, np.asarray(source.targets, dtype=np.int64)


def _archives(kind: Any, root: Path) -> list[tuple[list[str], Path, str]]:
    """Return (addresses, where torchvision expects the file, MD5) of each archive."""
    if hasattr(kind, "mirrors"):
        folder = root / kind.__name__ / "raw"
        return [([mirror + name for mirror in kind.mirrors], folder / name, md5) for name, md5 in kind.resources]
    return [([kind.url], root / kind.filename, kind.tgz_md5)]


def _first_that_works(urls: list[str], path: Path, md5: str, report: Report | None) -> None:
    failures: list[KdError] = []
    for url in urls:
        try:
            return download(url, path, md5, report)
        except KdError as error:
            failures.append(error)
    raise KdError(*(problem for error in failures for problem in error.problems)) from failures[-1]


def _open(kind: Any, root: Path, split: Split, unpack: bool = False) -> Any:
    try:
        return kind(root, train=split == "train", download=unpack)
    except (OSError, RuntimeError, ValueError, EOFError, AssertionError) as error:
        raise KdError.of(
            f"files of {kind.__name__} that cannot be read ({getattr(error, 'strerror', None) or type(error).__name__})",
            "the files of the published archive, unchanged",
            f"delete data/{root.name.removeprefix('.new-')} in KD_HOME and fetch it again",
            "dataset",
        ) from error
