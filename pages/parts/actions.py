"""What buttons set in motion in the queue of runs: launches, stops, repeats, removals; slow ones off the page's thread.

Reads: run folders. Writes: run folders, through the runner and the storage; the audit log, through the door, which comes first.
Never: waits for a training; anything that who asks may not do.
"""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Callable, Sequence

from kdengine import access, datasets, runner, storage, suites
from kdengine.access import Person
from kdengine.errors import KdError, RunBusy
from kdengine.home import Home
from kdengine.spec import RunSpec
from pages.parts import door, pulse

_counting = threading.Lock()  # between counting what somebody has and launching more, nobody else launches


def pending(key: str) -> bool:
    """Say whether something that was asked for under ``key`` is still under way."""
    return key in pulse.of().pending


def run_demo() -> None:
    """Queue what the demo still lacks; its specs are completed first, which loads the catalogue of methods."""
    person = door.passed("launch", "the demo suite")
    _soon(person, "demo", "launching the demo", lambda: _launch(person, suites.demo_suite(), reuse=True, resolve=True))


def launch(specs: Sequence[RunSpec]) -> list[str]:
    """Put complete specs into the queue, missing teachers first, and return the names of their runs.

    Raises:
        NotAllowed: who asks may not launch, or may not name files of the server.
        KdError: a teacher cannot be resolved, or it is more than who asks may have.
    """
    person = door.passed("launch", _named(specs))
    ids = _launch(person, specs)
    pulse.of().store.take_in()
    return ids


def launch_missing(key: str, specs: Sequence[RunSpec], *, again: bool = False, resolve: bool = False) -> None:
    """Queue specs, off the page's thread. ``key`` names the wish, see ``pending``. What is finished or on its way is not trained
    twice, unless ``again``; ``resolve``: they are not complete yet."""
    person = door.passed("launch", _named(specs))
    _soon(person, key, "queueing runs", lambda: _launch(person, specs, reuse=not again, resolve=resolve))


def stop(run_id: str) -> None:
    """Stop a run: asked politely, after ten seconds not."""
    person = door.passed("stop", run_id, _owner(run_id), frees=True)
    _soon(person, f"stop-{run_id}", f"stopping {run_id}", lambda: runner.cancel(pulse.of().home, run_id))


def resume(run_id: str) -> None:
    """Queue a run to go on from its last checkpoint."""
    person = door.passed("resume", run_id, _owner(run_id))
    _soon(person, f"resume-{run_id}", f"resuming {run_id}", lambda: _resume(person, run_id))


def retry(run_id: str) -> None:
    """Launch the spec of a run again, as a new run of who asks."""
    spec = storage.exact_run(pulse.of().home, run_id).read_request().spec
    person = door.passed("retry", run_id)
    _files(person, [spec])
    _soon(person, f"retry-{run_id}", f"repeating {run_id}", lambda: _retry(person, run_id, spec))


def stop_all(key: str, run_ids: Sequence[str]) -> None:
    """Stop runs, in this order; one that is over by then is passed over."""
    person = door.passed_with("stop", {run_id: _owner(run_id) for run_id in run_ids}, frees=True)
    _soon(person, key, f"stopping {len(run_ids)} runs", lambda: _each(lambda run: runner.cancel(pulse.of().home, run), run_ids))


def resume_all(key: str, run_ids: Sequence[str]) -> None:
    """Queue stopped runs, in this order, to go on from their last checkpoints; one that goes on already is passed over."""
    person = door.passed_with("resume", {run_id: _owner(run_id) for run_id in run_ids})
    _soon(person, key, f"resuming {len(run_ids)} runs", lambda: _each(lambda run: _resume(person, run), run_ids))


def remove_run(run_id: str) -> int:
    """Remove a run that is over, with all its files; return the bytes that were freed.

    Raises:
        NotAllowed: it is somebody else's. RunBusy: it is on its way, or teaches one that is.
    """
    door.passed("remove-run", run_id, _owner(run_id), frees=True)
    freed = storage.remove_run(pulse.of().home, run_id)
    pulse.of().store.take_in()
    return freed


# ---- behind the door ---------------------------------------------------------------------------------------------------------


def _owner(run_id: str) -> str | None:
    return storage.owner_of(storage.exact_run(pulse.of().home, run_id))


def _named(specs: Sequence[RunSpec]) -> str:
    more = f" and {len(specs) - 1} more" if len(specs) > 1 else ""
    return f"{specs[0].summary()}{more}" if specs else "nothing"


def _soon(person: Person, key: str, doing: str, what: Callable[[], object]) -> None:
    pulse.of().ask(key, doing, what, person.asker)


def _launch(person: Person, specs: Sequence[RunSpec], *, reuse: bool = False, resolve: bool = False) -> list[str]:
    if resolve:
        from kdengine import check  # loads torch: not before somebody wants to train

        specs = [check.resolve(spec) for spec in specs]
    _files(person, specs)
    home = pulse.of().home
    for key in {spec.dataset for spec in specs}:
        datasets.get(home, key)  # a name that is registered, so no path of the server
    with _counting:
        _room(home, person, lambda: storage.planned(home, specs, reuse=reuse))
        return runner.launch_suite(home, specs, reuse=reuse, owner=person.owner)


def _resume(person: Person, run_id: str) -> None:
    with _counting:
        _room(pulse.of().home, person, lambda: 1)
        runner.resume(pulse.of().home, run_id)


def _retry(person: Person, run_id: str, spec: RunSpec) -> None:
    home = pulse.of().home
    with _counting:
        _room(home, person, lambda: storage.planned(home, [spec]))
        runner.retry(home, run_id, owner=person.owner)


def _room(home: Home, person: Person, more: Callable[[], int]) -> None:
    """Pass where so many more runs are within the person's quota. Raises ``KdError`` with every limit that they break."""
    if person.owner is None or person.quota == access.NO_LIMIT:
        return
    if found := storage.faults(person.quota, storage.taken_by(home, person.owner), more()):
        raise KdError(*found)


def _files(person: Person, specs: Sequence[RunSpec]) -> None:
    """Pass where no spec names a file of the server, or who asks may do that: its path says what lies there."""
    if any(spec.teacher_weights or spec.student_init or any(spec.peer_inits) for spec in specs):
        access.demand(person, "use-files")


def _each(action: Callable[[str], None], run_ids: Sequence[str]) -> None:
    for run_id in run_ids:
        with contextlib.suppress(RunBusy):
            action(run_id)
