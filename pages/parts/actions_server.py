"""What admins set in motion for the server itself: a backup, a comparison of the store with the run folders.

Reads: nothing. Writes: errands, through their modules; the audit log, through the door, which comes first. Never: does either in
this process; anything that who asks may not do.
"""

from __future__ import annotations

from pages.parts import door, pulse
from store import nightly, verify


def back_up() -> None:
    """Start a backup, unless one is under way. Raises ``OSError`` where no process can be started, or the disk is full."""
    door.passed("server", "a backup")
    nightly.start(pulse.of().home)


def verify_store() -> None:
    """Start to compare the store with the run folders, unless that is under way. Raises as ``back_up``."""
    door.passed("server", "verify")
    verify.start(pulse.of().home)
