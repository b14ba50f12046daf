"""What buttons set in motion: launches, stops, repeats; done by the pulse, off the page's thread.

Reads: nothing. Writes: run folders, through the runner. Never: waits for a training.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Sequence

from kdengine import runner, suites
from kdengine.errors import RunBusy
from kdengine.home import Home
from kdengine.spec import RunSpec
from pages.parts import pulse


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


def _each(action: Callable[[Home, str], None], run_ids: Sequence[str]) -> None:
    for run_id in run_ids:
        with contextlib.suppress(RunBusy):
            action(pulse.of().home, run_id)
