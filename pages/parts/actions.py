"""What buttons set in motion: launches, stops, repeats; done by the pulse, off the page's thread.

Reads: nothing. Writes: run folders, through the runner; exports of races, through their queue. Never: waits for a training.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Sequence

from kdengine import runner, suites
from kdengine.errors import RunBusy
from kdengine.home import Home
from kdengine.spec import RunSpec
from pages.parts import pulse, state
from store.export.race import exports
from store.export.race.order import Order


def pending(key: str) -> bool:
    """Say whether something that was asked for under ``key`` is still under way."""
    return key in pulse.of().pending


def run_demo() -> None:
    """Queue what the demo still lacks; its specs are completed first, which loads the catalogue of methods."""
    home = pulse.of().home

    def launch() -> None:
        from kdengine import check  # loads torch: not before somebody wants to train

        runner.launch_suite(home, [check.resolve(spec) for spec in suites.demo_suite()], reuse=True)

    pulse.of().ask("demo", "launching the demo", launch)


def launch(specs: Sequence[RunSpec]) -> list[str]:
    """Put complete specs into the queue, missing teachers first, and return the names of their runs.

    Raises:
        KdError: a teacher cannot be resolved.
    """
    ids = runner.launch_suite(pulse.of().home, specs)
    pulse.of().store.take_in()
    return ids


def stop(run_id: str) -> None:
    """Stop a run: asked politely, after ten seconds not."""
    pulse.of().ask(f"stop-{run_id}", f"stopping {run_id}", lambda: runner.cancel(pulse.of().home, run_id))


def resume(run_id: str) -> None:
    """Queue a run to go on from its last checkpoint."""
    pulse.of().ask(f"resume-{run_id}", f"resuming {run_id}", lambda: runner.resume(pulse.of().home, run_id))


def retry(run_id: str) -> None:
    """Launch the spec of a run again, as a new run."""
    pulse.of().ask(f"retry-{run_id}", f"repeating {run_id}", lambda: runner.retry(pulse.of().home, run_id))


def launch_missing(key: str, specs: Sequence[RunSpec]) -> None:
    """Queue complete specs; what is finished or on its way is not trained twice. ``key`` names the wish, see ``pending``."""
    pulse.of().ask(key, "queueing runs", lambda: runner.launch_suite(pulse.of().home, specs, reuse=True))


def stop_all(key: str, run_ids: Sequence[str]) -> None:
    """Stop runs, in this order; one that is over by then is passed over."""
    pulse.of().ask(key, f"stopping {len(run_ids)} runs", lambda: _each(runner.cancel, run_ids))


def resume_all(key: str, run_ids: Sequence[str]) -> None:
    """Queue stopped runs, in this order, to go on from their last checkpoints; one that goes on already is passed over."""
    pulse.of().ask(key, f"resuming {len(run_ids)} runs", lambda: _each(runner.resume, run_ids))


def export_race(order: Order) -> str:
    """Put the file of a race into the queue and return its key.

    Raises:
        KdError: it would be too large, or too many wait.
    """
    return exports.ask(pulse.of().home, order, state.session())


def stop_export(key: str) -> None:
    """Take an order back, as far as this session asked for it: what is being drawn is stopped."""
    home, who = pulse.of().home, state.session()
    pulse.of().ask(f"stop-export-{key}", "stopping an export", lambda: exports.cancel(home, key, who))


def remove_export(key: str) -> None:
    """Remove the files of an export that is over.

    Raises:
        RunBusy: another process keeps the queue.
    """
    exports.remove(pulse.of().home, key)


def _each(action: Callable[[Home, str], None], run_ids: Sequence[str]) -> None:
    for run_id in run_ids:
        with contextlib.suppress(RunBusy):
            action(pulse.of().home, run_id)
