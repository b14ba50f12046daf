"""Suites: many runs under one name, made as a grid, and how they compare.

Reads: run folders, for the leaderboard. Writes: nothing. Never: torch, the results database.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass
from statistics import mean, stdev
from typing import Any

from kdengine.events import EpochEnded
from kdengine.home import Home
from kdengine.rundir import find_run
from kdengine.spec import TEACHER_FIELDS, RunSpec

WITHOUT_TEACHER: dict[str, Any] = {"teacher": None} | dict.fromkeys(TEACHER_FIELDS)
DEMO_SEEDS = (0, 1)


def grid(
    name: str,
    base: Mapping[str, Any],
    methods: Sequence[str],
    pairs: Sequence[tuple[str | None, str]],
    seeds: Sequence[int],
    per_method: Mapping[str, Mapping[str, Any]] | None = None,
) -> list[RunSpec]:
    """Return one spec per seed, pair (teacher, student) and method, in that order, so that all methods advance together.

    ``base``: fields of every spec. ``per_method``: fields of the runs of one method, which win; None takes a field away.

    Raises:
        SpecError: for the first spec that does not hold, all its faults.
    """
    specs = []
    for seed in seeds:
        for teacher, student in pairs:
            for method in methods:
                own = (per_method or {}).get(method, {})
                values = {**base, "teacher": teacher, "student": student, "method": method, "seed": seed, "suite": name, **own}
                specs.append(RunSpec(**{field: value for field, value in values.items() if value is not None}))
    return specs


def demo_suite(seeds: Sequence[int] = DEMO_SEEDS) -> list[RunSpec]:
    """Return the demo: resnet8 students of 100 digits under a resnet20 teacher that saw all, six methods, two seeds.

    Measured on two idle CPU cores: 38 points between the best and the worst method, 87 s with the teacher. With 200 images
    kd, ft, base, dml and ban were 8 points apart.
    """
    base = {"recipe": "quick", "dataset": "digits", "train_images": 100, "teacher_epochs": 8, "teacher_seed": 0}
    per_method: dict[str, dict[str, Any]] = {
        "base": WITHOUT_TEACHER,  # also the teacher of ban, so it comes first
        "kd": {"params": {"T": 4.0, "lambda_ce": 0.1, "lambda_kd": 0.9}},
        "fitnet": {"params": {"form": "joint", "regressor": "bn_relu", "beta": 100.0}},
        "ft": {"params": {"paraphraser_epochs": 3, "beta": 500.0}},
        "dml": WITHOUT_TEACHER | {"peers": ("resnet8",)},
        "ban": WITHOUT_TEACHER | {"generation": 1, "params": {"T": 1.0, "lambda_ce": 0.5, "lambda_kd": 0.5}},
    }
    return grid("demo", base, list(per_method), [("resnet20", "resnet8")], seeds, per_method)


@dataclass(frozen=True, slots=True)
class Standing:
    """One line of a leaderboard: mean and standard deviation (None for one seed) of the student over ``n`` runs."""

    method: str
    teacher: str | None
    student: str
    dataset: str
    best_mean_frac: float
    best_std_frac: float | None
    last_mean_frac: float
    last_std_frac: float | None
    n: int

    def as_dict(self) -> dict[str, Any]:
        """Return plain values for JSON."""
        return asdict(self)


def leaderboard(home: Home, run_ids: Iterable[str]) -> list[Standing]:
    """Return how the runs compare on test images, read from their folders; the highest best-on-test mean first.

    Runs without an ended epoch of the main phase are left out.
    """
    groups: dict[tuple[str, str | None, str, str], list[list[float]]] = {}
    for run_id in run_ids:
        run = find_run(home, run_id)
        curve = [top1 for event in run.read_events()[0] if (top1 := _student_top1(event)) is not None]
        if curve:
            spec = run.read_request().spec
            groups.setdefault((spec.method, spec.teacher, spec.student, spec.dataset), []).append(curve)
    standings = [
        Standing(*who, *_mean_std([max(c) for c in curves]), *_mean_std([c[-1] for c in curves]), len(curves))
        for who, curves in groups.items()
    ]
    return sorted(standings, key=lambda standing: -standing.best_mean_frac)


def _student_top1(event: Any) -> float | None:
    if not isinstance(event, EpochEnded) or event.phase != "main" or "student" not in event.measures:
        return None
    return event.measures["student"].test_top1_frac


def _mean_std(values: Sequence[float]) -> tuple[float, float | None]:
    return mean(values), stdev(values) if len(values) > 1 else None
