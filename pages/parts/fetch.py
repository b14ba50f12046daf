"""Answers for pages: a question of the store, kept by (arguments, data version), so never stale and never asked twice.

Reads: the store's queries; run folders through ``kdengine.rundir``. Writes: nothing. Never: SQL, pandas work worth a test.
"""

from __future__ import annotations

import shutil
from datetime import UTC, datetime
from typing import Any

import pandas as pd
import streamlit as st

from kdengine import datasets, pictures, runner
from kdengine.errors import KdError
from kdengine.rundir import Artifact, Attempt, Progress, RunDir
from kdengine.spec import RunSpec
from pages.parts import charts, plan, pulse, tables, words
from store import queries
from store.compare import pair
from store.export.race import exports as race_exports
from store.export.race.exports import Estimate, Export
from store.export.race.order import Order

# answers that nothing changes but the runs they are asked of: while others train, these are not asked anew
OF_RUNS = {"curves", "mean_curves", "results", "leaderboard"}


@st.cache_data(max_entries=600, show_spinner=False)
def _answer(root: str, version: int, question: str, args: tuple[Any, ...], more: tuple[tuple[str, Any], ...]) -> Any:
    answer = getattr(queries, question)(pulse.of().store, *args, **dict(more))
    if question == "runs":
        answer["expected_at"] = pd.Timestamp.now("UTC") + pd.to_timedelta(answer["eta_s"], unit="s")
    return answer


def ask(question: str, *args: Any, **more: Any) -> Any:
    """Return the store's answer to ``queries.<question>``; sequences among the arguments are given as tuples."""
    ids = more.get("ids", args[0] if args else None) if question in OF_RUNS else None
    return _answer(*moment(ids), question, args, tuple(sorted(more.items())))


def moment(ids: tuple[str, ...] | None = None) -> tuple[str, int]:
    """Return the home and a number that changes with the runs ``ids``, or with any: what was found is kept for these."""
    heart = pulse.of()
    root, version = str(heart.home.root), heart.store.data_version
    return (root, version) if ids is None else (root, _of_runs(root, version, ids))


@st.cache_data(max_entries=300, show_spinner=False)
def _of_runs(root: str, version: int, ids: tuple[str, ...]) -> int:
    return queries.stamp(pulse.of().store, ids)


def runs(**filters: Any) -> pd.DataFrame:
    """Return the runs that fit, newest first; see ``queries.runs`` for filters and columns. Empty filters do not count.

    ``eta_s`` there is of the moment of asking; here ``expected_at`` (UTC) stands beside it, so that a kept answer stays right.
    """
    return ask("runs", **{name: value for name, value in filters.items() if value})


def run(run_id: str) -> dict[str, Any] | None:
    """Return one run as a row of plain values; None where the store does not know it."""
    frame = ask("run", run_id)
    return frame.iloc[0].to_dict() if len(frame) else None


def counts() -> dict[str, int]:
    """Return how many runs stand how: status -> n."""
    found: dict[str, int] = ask("counts")
    return found


def active() -> pd.DataFrame:
    """Return what is running, waiting or queued."""
    return runs(status=words.ACTIVE)


def left_s(now: datetime | None = None) -> float | None:
    """Return the seconds until the queue is empty, guessed; None where nothing is on its way or nothing is known."""
    going = tables.rows(active())
    if not going:
        return None
    moment = now or datetime.now(UTC)
    done = runs(status=("finished",), limit=20)
    typical = float(done["elapsed_s"].median()) + plan.START_S if len(done) and done["elapsed_s"].notna().any() else None
    if typical is None:  # nothing has finished yet: judge by a run that is under way
        guesses = [(row["elapsed_s"] or 0.0) + eta for row in going if (eta := tables.eta_s(row, moment)) is not None]
        typical = max(guesses, default=None)
    return plan.left_s(going, lambda row: tables.eta_s(row, moment), typical)


def suites() -> pd.DataFrame:
    """Return the suites, the first to be shown first: the newest, or of recorded runs the largest; see ``queries.suites``."""
    frame: pd.DataFrame = ask("suites")
    return frame.sort_values("runs", ascending=False, kind="stable") if pulse.of().still else frame


def first_suite() -> str | None:
    """Return the suite that is shown unless another is chosen; None without any."""
    frame = suites()
    return None if frame.empty else str(frame["suite"].iloc[0])


def students(rows: pd.DataFrame) -> pd.DataFrame:
    """Return the runs of ``rows`` to compare: without those that only served the others as teachers."""
    serves = rows["run_id"].isin(set(rows["teacher_run"].dropna()))
    compared = set(rows.loc[~serves, "student"])
    return rows[~serves | rows["student"].isin(compared)]


def teacher_levels(rows: pd.DataFrame) -> tuple[tuple[str, float], ...]:
    """Return the accuracy of the teachers of ``rows`` that are not compared themselves, as named levels for reference lines."""
    ids = tuple(sorted(set(students(rows)["teacher_run"].dropna()) - set(students(rows)["run_id"])))
    if not ids:
        return ()
    teachers = runs(ids=ids).dropna(subset=["last_top1_frac"])
    levels = teachers.groupby("student", sort=False)["last_top1_frac"].mean()
    return tuple((f"teacher {student}", float(value)) for student, value in levels.items())


def mean_curves(ids: tuple[str, ...], metric: str, x: str) -> pd.DataFrame:
    """Return mean curves of groups that differ in nothing but the seed; see ``queries.mean_curves``."""
    return ask("mean_curves", ids, metric, x, (*charts.GROUP, *charts.VARIANT))


def measured() -> pd.DataFrame:
    """Return the speed of the newest finished runs: for guesses. Columns: see ``queries.speed``, and dataset."""
    done = runs(status="finished", limit=200)
    return ask("speed", tuple(done["run_id"])).merge(done[["run_id", "dataset"]], on="run_id")


# ---- run folders ---------------------------------------------------------------------------------------------------------


def folder(run_id: str) -> RunDir:
    """Return the run's folder."""
    return RunDir(pulse.of().home.runs / run_id)


def progress(run_id: str) -> Progress | None:
    """Return where the worker stands inside the epoch."""
    return folder(run_id).read_progress()


def attempts(run_id: str) -> list[Attempt]:
    """Return the starts of the run's workers."""
    return folder(run_id).attempts()


def log_tail(run_id: str, lines: int = 40) -> str:
    """Return the end of what the worker printed."""
    return folder(run_id).tail_log(lines)


def artifacts(run_id: str) -> list[Artifact]:
    """Return the files that may be taken away."""
    return folder(run_id).artifacts()


def artifact_bytes(run_id: str, name: str) -> bytes:
    """Return the content of one of the run's files."""
    return folder(run_id).read_artifact(name)


def teacher_run_of(spec: Any) -> str | None:
    """Return the run that will serve as the spec's teacher; None where it must be trained first, or none is needed."""
    try:
        return runner.teacher_of(pulse.of().home, spec)
    except KdError:  # a pinned teacher that is not there is among the problems that ``check`` lists
        return None


def slots() -> int:
    """Return how many workers of small steps, the ones a quick start has, run at once."""
    places = runner.slots(pulse.of().home)
    return len(places.gpus) * places.per_gpu or places.small


def free_disk_mib() -> float:
    """Return the free space of the disk that holds KD_HOME."""
    return shutil.disk_usage(pulse.of().home.root).free / 2**20


# ---- what finished runs left ---------------------------------------------------------------------------------------------


@st.cache_data(max_entries=200, show_spinner=False)
def _read(question: str, paths: tuple[str, ...], stamps: tuple[tuple[int, int], ...], more: tuple[str, ...]) -> Any:
    return getattr(pair, question)(*(RunDir(path) for path in paths), *more)


def answers(run_id: str) -> pair.Answers | None:
    """Return what the run's networks answered to the test images; read again only when the file has changed."""
    run = folder(run_id)
    return _read("answers", (str(run.path),), (_stamp(run.predictions_npz),), ())


def likeness(run_id: str, other_id: str, network: str) -> pd.DataFrame | None:
    """Return how alike the layers of a run's student and of ``network`` of the other run are; see ``pair.likeness``."""
    runs_ = folder(run_id), folder(other_id)
    return _read("likeness", tuple(str(r.path) for r in runs_), tuple(_stamp(r.features_npz) for r in runs_), (network,))


@st.cache_data(max_entries=100, show_spinner=False)
def _alone(root: str, version: int, ids: tuple[str, ...]) -> dict[str, str]:
    plain = RunSpec.model_fields["method"].get_default()
    asked = [found for run_id in ids if (found := folder(run_id).request_or_none())]
    known = [
        found
        for run_id in runs(status=("finished",), method=(plain,))["run_id"]
        if (found := folder(run_id).request_or_none()) and found.spec.combine is None
    ]
    return pair.alone_runs({r.run_id: r.spec for r in asked}, {r.run_id: r.spec for r in known})


def alone(ids: tuple[str, ...]) -> dict[str, str]:
    """Return run id -> id of the finished run that trained the same student alone; runs without one are left out."""
    heart = pulse.of()
    return _alone(str(heart.home.root), heart.store.data_version, ids)


def class_names(dataset: str) -> tuple[str, ...]:
    """Return the names of a dataset's classes in the order of the labels; () where the dataset is not registered any more."""
    try:
        return datasets.get(pulse.of().home, dataset).class_names
    except KdError:
        return ()


def test_images(dataset: str, index: Any, size: int) -> Any:
    """Return test images as pixels, see ``pictures.test_images``; None where the dataset is not decoded here."""
    return pictures.test_images(pulse.of().home, dataset, index, size)


def _stamp(file: Any) -> tuple[int, int]:
    try:
        found = file.stat()
    except FileNotFoundError:
        return (0, 0)
    return (found.st_size, found.st_mtime_ns)


# ---- race charts ---------------------------------------------------------------------------------------------------------


def export(key: str) -> Export:
    """Return how an export of a race stands."""
    return race_exports.view(pulse.of().home, key)


def exports() -> list[Export]:
    """Return the exports of races that are there, made last first."""
    return race_exports.gallery(pulse.of().home)


def export_estimate(order: Order) -> Estimate:
    """Return what exporting an order will take."""
    return race_exports.estimate(pulse.of().home, order)


def export_bytes(key: str) -> bytes:
    """Return the file of an export.

    Raises:
        KdError: it is not there (any more).
    """
    return _content(export(key).file, key)


def export_poster(key: str) -> bytes:
    """Return the last frame of an export, a PNG. Raises as ``export_bytes``."""
    return _content(export(key).poster, key)


def has_ffmpeg() -> bool:
    """Return whether an MP4 can be made here."""
    from store.export.race import encode  # loads what encodes: not before somebody opens the page

    return encode.ffmpeg_exe() is not None


def _content(file: Any, key: str) -> bytes:
    try:
        content: bytes = file.read_bytes()
    except (AttributeError, FileNotFoundError):
        raise KdError.of(f"export {key}", "one that is there", "open the race page anew, and export it again", "export") from None
    return content
