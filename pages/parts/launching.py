"""From the form's plain values to specs, their problems, their teachers and what they cost.

Reads: ``kdengine.check`` (it loads torch: only the train page imports this module's functions into a run). Writes: nothing.
Never: starts a run (``actions`` does).
"""

from __future__ import annotations

import functools
from typing import Any

import pandas as pd

from kdengine import suites
from kdengine.errors import Problem, SpecError
from kdengine.spec import RunSpec
from pages.parts import fetch, forms, plan, pulse, words

CHECKED = 64  # different kinds of run that are checked; a larger suite is checked again run by run when it starts


def specs_of(wish: forms.Wish) -> tuple[list[RunSpec], list[Problem]]:
    """Return complete specs and every problem of all of them; problems that several runs share are listed once."""
    from kdengine import check

    if not wish.methods or not wish.pairs:
        what = "method" if not wish.methods else "pair"
        return [], [Problem(what, f"no {what}", f"at least one {what}", f"choose a {what} on the left")]
    found: dict[Problem, None] = {}
    try:
        specs = [check.resolve(spec) for spec in grid(wish)]
    except SpecError:
        return [], _every_fault(wish)
    kinds = {spec.but(seed=0).identity(): spec for spec in specs}
    for spec in list(kinds.values())[:CHECKED]:
        found |= dict.fromkeys(_checked(spec))
    return list({spec.identity(): spec for spec in specs}.values()), list(found)


def grid(wish: forms.Wish) -> list[RunSpec]:
    """Return the specs of the wish as they are typed, not completed. Raises ``SpecError`` for the first that does not hold."""
    base = {k: v for k, v in wish.base.items() if v is not None}
    if wish.suite is not None:
        return suites.grid(wish.suite, base, wish.methods, wish.pairs, wish.seeds, wish.per_method)
    return [RunSpec(**values) for values in _values(wish)]


def missing_teachers(specs: list[RunSpec]) -> list[RunSpec]:
    """Return the trainings that must come first: of teachers that no finished or active run is, each once."""
    planned = {spec.identity() for spec in specs}
    found: dict[str, RunSpec] = {}
    waiting = list(specs)
    while waiting:
        spec = waiting.pop()
        training = spec.teacher_spec()
        if training is None or training.identity() in planned | set(found) or fetch.teacher_run_of(spec):
            continue
        found[training.identity()] = training
        waiting.append(training)
    return list(found.values())


def teacher_line(specs: list[RunSpec], missing: list[RunSpec]) -> str:
    """Say where the teachers come from."""
    if not any(spec.teacher for spec in specs):
        return "not needed"
    if not missing:
        return "already there"
    names = sorted({f"{t.student} ({words.count(t.epochs, 'epoch')})" for t in missing})
    return f"{words.listed(names)} is trained first" if len(names) == 1 else f"{words.listed(names)} are trained first"


def cost(spec: RunSpec) -> plan.Cost:
    """Return the run's multiply-adds per training image and the parameters it keeps; 0 where a network cannot be built so."""
    from kdengine import check, models

    try:
        student = models.info(spec.student, 10, spec.image_size, spec.student_options)
        teacher = models.info(spec.teacher, 10, spec.image_size, spec.teacher_options) if spec.teacher else None
        peers = [models.info(peer, 10, spec.image_size, spec.student_options) for peer in spec.peers]
    except SpecError:  # the form lists why
        return plan.Cost(0.0, 0.0)
    macs = plan.training_macs(student.macs, teacher.macs if teacher else 0, sum(p.macs for p in peers))
    return plan.Cost(macs, student.params + sum(p.params for p in peers), check.memory_bytes(spec, pulse.of().home),
                     check.early_epochs(spec))  # fmt: skip


def with_macs(measured: pd.DataFrame) -> pd.DataFrame:
    """Return the speeds of earlier runs with multiply-adds per training image beside them (32 pixels, no peers)."""
    pairs = zip(measured["student"], measured["teacher"], strict=True)
    return measured.assign(macs=[_pair_macs(s, None if words.missing(t) else t) for s, t in pairs])


@functools.lru_cache(maxsize=1024)
def _pair_macs(student: str, teacher: str | None) -> float:
    from kdengine import models

    known = models.cards()
    if student not in known or (teacher and teacher not in known):
        return float("nan")
    return plan.training_macs(models.info(student, 10).macs, models.info(teacher, 10).macs if teacher else 0)


def _checked(spec: RunSpec) -> list[Problem]:
    from kdengine import check

    return check.check(spec, pulse.of().home)


def _every_fault(wish: forms.Wish) -> list[Problem]:
    """Return the faults of values that do not make specs, together with those that ``check`` sees in the rest."""
    from kdengine import check

    found: dict[Problem, None] = {}
    for values in _values(wish):
        try:
            found |= dict.fromkeys(check.complete(values, pulse.of().home)[1])
        except SpecError as error:
            found |= dict.fromkeys(error.problems)
    return list(found)


def _values(wish: forms.Wish) -> list[dict[str, Any]]:
    base = {k: v for k, v in wish.base.items() if v is not None} | ({"suite": wish.suite} if wish.suite else {})
    return [
        {
            **base,
            "method": method,
            "teacher": teacher,
            "student": student,
            "seed": wish.seeds[0],
            **wish.per_method.get(method, {}),
        }
        for teacher, student in wish.pairs
        for method in wish.methods
    ]
