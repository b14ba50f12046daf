"""How much of their limits somebody has used, in a line. Reads: run folders, through the storage. Writes: nothing."""

from __future__ import annotations

from kdengine import storage
from kdengine.access import NO_LIMIT, Quota
from kdengine.storage import Taken
from pages.parts import pulse, who, words


def line() -> str:
    """Return what who asks has used of what they may; "" without limits."""
    person = who.person()
    if person.owner is None or person.quota == NO_LIMIT:
        return ""
    said = used(person.quota, storage.taken_by(pulse.of().home, person.owner))
    return f"You have {words.listed(said)}." if said else ""


def used(quota: Quota, taken: Taken) -> list[str]:
    """Return what is used of each limit: ``3 of 50 runs waiting``."""
    said = []
    if quota.queued_runs is not None:
        said.append(f"{taken.waiting} of {words.count(quota.queued_runs, 'run')} waiting")
    if quota.gpu_hours is not None:
        said.append(f"used {taken.gpu_hours:.1f} of {quota.gpu_hours:g} GPU hours in 30 days")
    if quota.disk_mib is not None:
        said.append(f"taken {words.size(taken.mib)} of {words.size(quota.disk_mib)} on the disk")
    return said
