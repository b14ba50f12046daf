"""The one door through which a page changes something: who asks is recognised, let pass or refused, and noted.

Reads: who asks. Writes: the audit log. Never: does what is asked (``actions`` and the modules beside it do, after this).
"""

from __future__ import annotations

import logging
from collections.abc import Mapping

from kdengine import access, audit
from kdengine.access import Person
from pages.parts import pulse, who

log = logging.getLogger(__name__)


def passed(action: str, what: str = "", owner: str | None = None, *, frees: bool = False) -> Person:
    """Return who asks, once they may do it and it stands in the audit log. ``what``: to which thing; ``owner``: whose that is.

    ``frees``: it makes room or stops work, so it is done even where a full disk takes no more lines (the server's log has it).

    Raises:
        NotAllowed: they may not; nothing was done. OSError: the log cannot be written; nothing was done.
    """
    return passed_with(action, {what: owner}, frees=frees)


def passed_with(action: str, things: Mapping[str, str | None], *, frees: bool = False) -> Person:
    """Do as ``passed`` for several ``things``, each with its owner: all of them or none; one line in the log."""
    person, what = who.person(), ", ".join(things)
    for owner in things.values():
        access.demand(person, action, owner)
    try:
        audit.note(pulse.of().home, signature(person), action, what)
    except OSError as error:
        if not frees:
            raise
        log.warning("audit log not written (%s): %s by %s, %s", error.strerror, action, signature(person), what)
    return person


def signature(person: Person) -> str:
    """Return what stands in the log for a person: the identity that signed in; admins alone read it."""
    return person.who or ("local" if person.role is access.Role.ADMIN else "a visitor")
