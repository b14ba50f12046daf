"""What buttons keep or fetch beside the runs: labels, saved views, exports of races, datasets, the measurement of networks.

Reads: run folders, saved views, exports. Writes: labels, views, exports, datasets, through their modules; the audit log, through
the door, which comes first. Never: anything that who asks may not do.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from kdengine import datasets, errands, fetching, labels, storage, views
from kdengine.errors import UnknownKey, unknown
from kdengine.rundir import RunDir
from pages.parts import door, pulse, who
from store.export.race import exports
from store.export.race.exports import Export
from store.export.race.order import Order

# ---- labels ------------------------------------------------------------------------------------------------------------------


def label(run_id: str, tags: Iterable[str], note: str) -> None:
    """Replace a run's tags and note. Raises as ``labels.write``."""
    run = _run(run_id)
    door.passed("label", run_id, storage.owner_of(run))
    labels.write(run, tags=tags, note=note)
    pulse.of().store.take_in()


def tag(run_ids: Sequence[str], add: Iterable[str], remove: Iterable[str]) -> None:
    """Give runs tags and take tags from them: all of them or none. Raises as ``labels.retag``."""
    runs = [_run(run_id) for run_id in run_ids]
    more, gone = labels.checked(add, "").tags, tuple(remove)  # before the first run is touched
    door.passed_with("label", {run.run_id: storage.owner_of(run) for run in runs})
    for run in runs:
        labels.retag(run, add=more, remove=gone)
    pulse.of().store.take_in()


def _run(run_id: str) -> RunDir:
    return storage.exact_run(pulse.of().home, run_id)


# ---- saved views -------------------------------------------------------------------------------------------------------------


def save_view(name: str, page: str, query: str) -> None:
    """Keep what is chosen on a page under a name. Raises as ``views.save``."""
    person = door.passed("save-view", name)
    views.save(pulse.of().home, name, page, query, person.owner)


def rename_view(name: str, new: str) -> None:
    """Give a saved view another name. Raises as ``views.rename``."""
    home = pulse.of().home
    door.passed("change-view", f"{name}, now {new}", views.named(home, name).owner)
    views.rename(home, name, new)


def delete_view(name: str) -> None:
    """Remove a saved view. Raises as ``views.delete``."""
    home = pulse.of().home
    door.passed("change-view", f"{name}, deleted", views.named(home, name).owner, frees=True)
    views.delete(home, name)


# ---- exports of races --------------------------------------------------------------------------------------------------------


def export_race(order: Order) -> str:
    """Put the file of a race into the queue and return its key.

    Raises:
        KdError: it would be too large, or too many wait.
    """
    person = door.passed("export", f"{order.title}, {order.subtitle}")
    most = person.quota.exports if person.owner else exports.WAITING_EACH
    return exports.ask(pulse.of().home, order, person.asker, most)


def stop_export(key: str) -> None:
    """Take an order back: it goes on for others who asked for it too; an admin stops it for all."""
    home, export = pulse.of().home, _export(key)
    person = door.passed("stop-export", key, asker_of(export), frees=True)
    name = person.asker if export.asked_by(person.asker) else ""
    pulse.of().ask(f"stop-export-{key}", "stopping an export", lambda: exports.cancel(home, key, name), person.asker)


def remove_export(key: str) -> None:
    """Remove the files of an export that is over and that nobody else asked for.

    Raises:
        NotAllowed: others asked for it too, and who asks is no admin. RunBusy: another process keeps the queue.
    """
    door.passed("remove-export", key, only_asker(_export(key)), frees=True)
    exports.remove(pulse.of().home, key)


def only_asker(export: Export) -> str | None:
    """Return who alone asked for an export; None where several did, or nobody is known to."""
    return export.who[0] if len(set(export.who)) == 1 else None


def asker_of(export: Export) -> str | None:
    """Return whose an export is, for who asks now: theirs if they are among those who asked for it."""
    asker = who.person().asker
    return asker if export.asked_by(asker) else only_asker(export)


def _export(key: str) -> Export:
    found = exports.view(pulse.of().home, key)
    if found.state == "absent":
        raise UnknownKey(unknown("export", key[:80], []))
    return found


# ---- datasets, measurement ---------------------------------------------------------------------------------------------------


def fetch_dataset(key: str) -> None:
    """Start to fetch a dataset, and to decode it. Raises ``UnknownKey`` for one that nobody has registered."""
    datasets.get(pulse.of().home, key)
    door.passed("fetch-dataset", key)
    fetching.start(pulse.of().home, key)


def stop_fetching(key: str) -> None:
    """Stop the fetching of a dataset. Raises as ``fetch_dataset``."""
    home = pulse.of().home
    datasets.get(home, key)
    person = door.passed("fetch-dataset", f"{key}, stopped", frees=True)
    pulse.of().ask(f"stop-{key}", f"stopping {key}", lambda: fetching.cancel(home, key), person.asker)


def measure_networks() -> None:
    """Start to measure how long the networks take."""
    door.passed("measure", "started")
    errands.start(pulse.of().home, _measurement())


def stop_measuring() -> None:
    """Stop that measurement."""
    home, person = pulse.of().home, door.passed("measure", "stopped", frees=True)
    pulse.of().ask("stop-latency", "stopping the measurement", lambda: errands.cancel(home, _measurement()), person.asker)


def _measurement() -> errands.Errand:
    from kdengine import latency  # loads torch: only for who looks at networks

    return latency.ERRAND
