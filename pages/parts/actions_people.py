"""What admins set in motion: people, their roles and limits; and what anybody may do with their own troubles.

Reads: the list of people. Writes: it, and the audit log, through the door, which comes first. Never: anything that who asks may
not do.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from kdengine import access
from kdengine.errors import KdError
from pages.parts import door, pulse, who


def put_person(identity: str, role: str, name: str = "", quota: Mapping[str, Any] | None = None) -> None:
    """Add a person, or change role and limits of one that is there.

    Raises:
        KdError: with every fault of what is given; or who asks would lose the role of admin by it.
    """
    asking = door.passed("people", f"{identity} is now {role}" + (f", limits {dict(quota)}" if quota else ""))
    if access.is_same(asking, identity) and role != access.Role.ADMIN:
        raise _oneself()
    access.put(pulse.of().home, identity, role, name, quota)


def remove_person(identity: str) -> None:
    """Take a person off the list; their runs stay. Raises as ``put_person``."""
    asking = door.passed("people", f"{identity} removed")
    if access.is_same(asking, identity):
        raise _oneself()
    access.remove(pulse.of().home, identity)


def limit_all(quota: Mapping[str, Any]) -> None:
    """Set the limits of everybody who has none of their own. Raises ``KdError`` with every fault."""
    door.passed("people", f"limits for all: {dict(quota)}")
    access.limit_all(pulse.of().home, quota)


def dismiss_troubles() -> None:
    """Forget what went wrong: an admin all of it, others what they asked for."""
    person = door.passed("dismiss", "", who.person().asker, frees=True)
    troubles = pulse.of().troubles
    kept = [trouble for trouble in troubles if not access.may(person, "dismiss", trouble.who)]
    troubles.clear()
    troubles.extend(kept)


def _oneself() -> KdError:
    return KdError.of("your own role", "the roles of others", "let another admin change it, so that one is always left", "who")
