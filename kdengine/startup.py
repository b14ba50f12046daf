"""Can the app start here? Everything that is wrong with its surroundings, found before anybody sees half an app.

Reads: the environment, KD_HOME, ``settings.json``. Writes: a file for a moment, to see that it can.
Never: the results database (the store looks at it), torch, Streamlit.
"""

from __future__ import annotations

import contextlib
import os
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

from kdengine.errors import HomeError, KdError, Problem
from kdengine.home import Home
from kdengine.slots import read_settings


def demand() -> Home:
    """Return the home in which the app can start.

    Raises:
        HomeError: with every fault of the configuration, not only the first.
    """
    faults = Faults()
    home = faults.of(Home.find)
    if home is not None:
        faults.of(lambda: demand_writable(home.root))
        faults.of(lambda: read_settings(home))
    if faults.found:
        raise HomeError(*faults.found)
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
