"""Versions of the software that decides what a training gives.

Reads: the installed packages' metadata. Writes: nothing. Never: imports what it asks about.
"""

from __future__ import annotations

import functools
import platform
from importlib.metadata import PackageNotFoundError, version

from kdengine import __version__

PACKAGES = ("torch", "torchvision", "numpy", "scikit-learn", "safetensors")


@functools.cache
def versions() -> dict[str, str]:
    """Return package -> version, with Python's and our own."""
    found = {"kdengine": __version__, "python": platform.python_version()}
    for package in PACKAGES:
        try:
            found[package] = version(package)
        except PackageNotFoundError:
            found[package] = "not installed"
    return found
