"""Making the database anew from the run folders: the database is an index, the folders are the record.

Reads: run folders. Writes: ``results.duckdb`` (built aside, then put in place) and the snapshot. Never: while the app
holds the writer's lock.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from kdengine.errors import StoreBusy
from kdengine.home import Home
from kdengine.rundir import run_dirs
from store.connection import remove_logs
from store.db import hold, holder
from store.writer import Writer


def rebuild(home: Home, progress: Callable[[int, int], None] | None = None) -> dict[str, int]:
    """Read all run folders into a new database and put it in the old one's place; return rows per table.

    ``progress(done, all)`` is told the runs. The old database stands until the new one is complete.

    Raises:
        StoreBusy: the app, or another program, writes the results at present: it must stop first.
        duckdb.Error, OSError: the disk is full or failing; the old database is untouched.
    """
    lock = hold(home)
    if lock is None:
        raise StoreBusy.of(
            f"results that {holder(home)} is writing",
            "a rebuild while nothing else writes the results",
            "stop the app (Ctrl-C where it runs; trainings go on), then run `python -m store rebuild` again",
            "store",
        )
    aside = home.results.with_name(".results.duckdb.new")
    try:
        _remove(aside)
        found = _build(home, aside, progress)
        remove_logs(home.results)
        aside.replace(home.results)
        return found
    finally:
        _remove(aside)
        lock.release()


def _build(home: Home, path: Path, progress: Callable[[int, int], None] | None) -> dict[str, int]:
    writer = Writer(home, path)
    try:
        done, total, more = 0, len(run_dirs(home)), True
        while more:
            batch = writer.poll()
            more, done = batch.more, done + batch.runs
            if progress:
                progress(min(done, total), total)
        writer.publish(force=True)  # also writes the log of changes into the file itself, so that it can be moved
        with writer.connection.cursor() as cursor:
            names = ("runs", "epochs", "terms", "artifacts", "published")
            return {name: int((cursor.execute(f"SELECT count(*) FROM {name}").fetchone() or (0,))[0]) for name in names}
    finally:
        writer.close()


def _remove(path: Path) -> None:
    path.unlink(missing_ok=True)
    remove_logs(path)
