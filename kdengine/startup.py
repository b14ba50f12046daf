"""Can the app start here? Everything that is wrong with its surroundings, found before anybody sees half an app.

Reads: the environment, KD_HOME, ``settings.json``, files of secrets. Writes: a file for a moment, to see that it can.
Never: a secret in a text; the results database (the store looks at it), torch, Streamlit.
"""

from __future__ import annotations

import contextlib
import functools
import os
import re
import tempfile
import tomllib
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

from kdengine.errors import HomeError, KdError, Problem
from kdengine.home import Home
from kdengine.slots import read_settings


def demand(secrets: Iterable[Path] = (), more: Iterable[Problem] = (), find: Callable[[], Home] = Home.find) -> Home:
    """Return the home in which the app can start. ``secrets``: files that are read where they exist; ``more``: faults found
    elsewhere; ``find``: finds the home.

    Raises:
        HomeError: with every fault at once, not only the first.
    """
    faults = Faults()
    for path in secrets:
        faults.of(functools.partial(demand_toml, path))
    faults.found += more
    home = faults.of(find)
    if home is not None:
        faults.of(lambda: demand_writable(home.root))
        faults.of(lambda: read_settings(home))
    if faults.found:
        raise HomeError(*dict.fromkeys(faults.found))  # two looks may find the same
    assert home is not None
    return home


class Faults:
    """Collects what several looks find, so that all of it is said at once."""

    def __init__(self) -> None:
        self.found: list[Problem] = []

    def of(self, look: Callable[[], Any]) -> Any:
        """Return what ``look`` returns; None where it found a fault, which is kept."""
        try:
            return look()
        except KdError as error:
            self.found += error.problems
            return None


def demand_writable(folder: Path) -> None:
    """Make a file in ``folder`` and remove it.

    Raises:
        HomeError: that does not work. A full disk is no fault here: the app starts and says what it cannot do.
    """
    try:
        handle, name = tempfile.mkstemp(prefix=".writable-", dir=folder)
    except OSError as error:
        raise HomeError.of(
            f"{folder}, in which this user can make no file ({error.strerror or error})",
            "a folder that this user may read and write",
            "give the folder to the user who starts the app, or set KD_HOME to another",
            "KD_HOME",
        ) from error
    os.close(handle)
    with contextlib.suppress(OSError):
        Path(name).unlink()


def demand_toml(path: Path) -> None:
    """Pass where there is no such file, or one that can be read.

    Raises:
        HomeError: it is there and cannot be read; names the place in it, never what stands there.
    """
    if path.is_dir():
        return
    try:
        tomllib.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        return
    except (OSError, ValueError) as error:
        why = error.strerror if isinstance(error, OSError) else "no TOML" + _place(error)
        raise HomeError.of(
            f"{path} ({why})", "a file of secrets that this user may read, in TOML", "correct it; docs/hosting.md has an example",
            "secrets",
        ) from None  # fmt: skip


def _place(error: ValueError) -> str:
    found = re.search(r"\(at line \d+, column \d+\)", str(error))
    return f" {found[0]}" if found else ""
