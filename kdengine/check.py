"""A spec against what exists here: ``resolve`` completes it, ``check`` lists everything that stands in its way.

Reads: the catalogues of methods, models and datasets; weight files' existence; the teacher's run folder.
Writes: nothing, starts nothing. Never: CUDA (a page calls this).
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from pydantic import ValidationError

from kdengine import completion, datasets, methods, models, weights
from kdengine.errors import KdError, Problem, SpecError, unknown
from kdengine.home import Home
from kdengine.methods.contract import Card, Method, Params
from kdengine.rundir import find_run
from kdengine.spec import RunSpec, Scalar, problems_of
from kdengine.status import RunStatus, status_of


def resolve(spec: RunSpec) -> RunSpec:
    """Return the spec complete: every knob of its method, its peers, its place in a chain; no teacher where none is used.

    What is unknown or out of bounds is left as it is, for ``check`` to report.
    """
    return completion.complete(spec, _cards(), _filled)


def check(spec: RunSpec, home: Home) -> list[Problem]:
    """Return every reason why this spec cannot be trained here; an empty list means that it can."""
    return [*_method(spec), *_networks(spec), *_data(spec, home), *_teacher(spec, home), *_files(spec)]


def complete(values: dict[str, object], home: Home) -> tuple[RunSpec, list[Problem]]:
    """Make a spec of plain values; return it resolved, with all problems of both kinds.

    Raises:
        SpecError: the values do not even make a spec; holds all faults, those of ``check`` too where it could look.
    """
    try:
        spec = resolve(RunSpec(**values))
    except SpecError as error:
        sound = {k: v for k, v in values.items() if k not in {p.field.split(".")[0] for p in error.problems}}
        try:
            more = check(resolve(RunSpec(**sound)), home)
        except SpecError:  # the rest does not fit together without what was wrong
            more = []
        known = {p.field for p in error.problems}
        raise SpecError(*error.problems, *(p for p in more if p.field not in known)) from None
    return spec, check(spec, home)


def memory_bytes(spec: RunSpec, home: Home) -> int:
    """Return what the spec's methods keep in memory beside the networks, such as banks; of a spec that ``check`` finds sound."""
    images = spec.train_images or datasets.cards(home)[spec.dataset].train_images
    student = models.info(spec.student, 10, spec.image_size, spec.student_options)
    teacher = models.info(spec.teacher, 10, spec.image_size, spec.teacher_options) if spec.teacher else None
    return sum(method.memory_bytes(params, student, teacher, images) for method, params in _chosen(spec))


def early_epochs(spec: RunSpec) -> int:
    """Return how many epochs the phases before ``main`` have, of a spec that ``check`` finds sound."""
    return sum(phase.epochs or spec.epochs for method, params in _chosen(spec) for phase in method.phases(params)[:-1])


def uses_teacher(spec: RunSpec) -> bool:
    """Say whether the spec's method, or the one combined with it, reads a teacher; an unknown method may."""
    return completion.uses_teacher(spec, _cards())


def _cards() -> dict[str, Card]:
    return {key: entry.card for key, entry in methods.entries().items()}


def _chosen(spec: RunSpec) -> list[tuple[type[Method], Params]]:
    """Return the methods of a sound spec with their knobs: its own, and the one combined with it."""
    wanted = [(spec.method, spec.params)] + ([(spec.combine.method, spec.combine.params)] if spec.combine else [])
    return [(methods.get(key).method, methods.get(key).params(**params)) for key, params in wanted]


def _filled(key: str, given: dict[str, Scalar]) -> dict[str, Scalar]:
    try:
        filled: dict[str, Scalar] = methods.get(key).params(**given).model_dump()
    except ValidationError:
        return dict(given)
    return filled


def _method(spec: RunSpec) -> Iterator[Problem]:
    wanted = [("method", spec.method, spec.params, "params.")]
    if spec.combine is not None:
        wanted.append(("combine.method", spec.combine.method, spec.combine.params, "combine.params."))
        if spec.combine.method == spec.method:
            yield Problem("combine.method", f"{spec.method}, the run's own method", "another method", "leave combine out")
    for field, key, given, prefix in wanted:
        if key not in methods.entries():
            yield unknown("method", key, list(methods.entries()), field)
            continue
        entry = methods.get(key)
        yield from _params(entry.params, given, prefix)
        if spec.batch_size < entry.card.min_batch:
            yield Problem(
                "batch_size", str(spec.batch_size), f"at least {entry.card.min_batch} for {key}", "choose a larger batch"
            )
        if spec.generation and not entry.card.chain and field == "method":
            yield Problem("generation", str(spec.generation), f"0: {key} is not a chain of runs", "leave generation out")
        if spec.peers and not entry.card.peers and spec.combine is None:
            yield Problem(
                "peers",
                ", ".join(spec.peers),
                f"none: {key} trains one network",
                "leave peers out, or choose a method with peers",
            )


def _params(params: type[Params], given: dict[str, Scalar], prefix: str) -> Iterator[Problem]:
    try:
        params(**given)
    except ValidationError as error:
        yield from problems_of(error, params, prefix)


def _networks(spec: RunSpec) -> Iterator[Problem]:
    wanted = [("student", spec.student, spec.student_options)]
    wanted += [(f"peers.{i}", peer, spec.student_options) for i, peer in enumerate(spec.peers)]
    if spec.teacher is not None:
        wanted.append(("teacher", spec.teacher, spec.teacher_options))
    found: dict[Problem, None] = {}  # what student and peers share is said once
    for field, key, options in wanted:
        if not models.known(key):
            found[models.unknown_model(key, field)] = None
            continue
        prefix = "teacher_options." if field == "teacher" else "student_options."
        found |= dict.fromkeys(models.problems(key, spec.image_size, options, prefix))
    yield from found
    if not found and spec.method in methods.entries():
        yield from _fit(spec)


def _fit(spec: RunSpec) -> Iterator[Problem]:
    """Ask the methods whether they can work on these two networks."""
    student = models.info(spec.student, 10, spec.image_size, spec.student_options)
    teacher = models.info(spec.teacher, 10, spec.image_size, spec.teacher_options) if spec.teacher else None
    wanted = [(spec.method, spec.params)] + ([(spec.combine.method, spec.combine.params)] if spec.combine else [])
    for key, given in wanted:
        if key not in methods.entries():
            continue
        entry = methods.get(key)
        try:
            params = entry.params(**given)
        except ValidationError:
            continue  # already reported, field by field
        if entry.card.teacher_mode != "none" and teacher is None:
            continue  # reported as a missing teacher
        yield from (Problem("method", g, a, d) for g, a, d in entry.method.problems(params, student, teacher))


def _data(spec: RunSpec, home: Home) -> Iterator[Problem]:
    cards = datasets.cards(home)
    if spec.dataset not in cards:
        yield unknown(
            "dataset",
            spec.dataset,
            list(cards),
            "dataset",
            "or add your own: python -m kdengine datasets add NAME --parquet PATH",
        )
        return
    there = cards[spec.dataset].train_images
    usable = there - round(there * spec.val_frac)
    for field, wish in (("train_images", spec.train_images), ("teacher_train_images", spec.teacher_train_images)):
        if wish is not None and wish > usable:
            yield Problem(
                field,
                str(wish),
                f"at most {usable} (the training images of {spec.dataset} less the validation part)",
                "choose fewer",
            )
    images = min(spec.train_images or usable, usable)
    if images < spec.batch_size:
        allowed = f"at most {images}, the number of training images"
        yield Problem("batch_size", str(spec.batch_size), allowed, "choose a smaller batch or more images")
    if spec.crop_pad >= spec.image_size:
        yield Problem(
            "crop_pad", f"{spec.crop_pad} pixels", f"less than the image size, {spec.image_size}", "choose less padding"
        )


def _teacher(spec: RunSpec, home: Home) -> Iterator[Problem]:
    if spec.teacher is None:
        if spec.method in methods.entries() and uses_teacher(spec):
            yield Problem(
                "teacher", "none", f"a network that teaches: {spec.method} learns from one", "name one, such as resnet20"
            )
        return
    if spec.teacher_run:
        yield from _pinned(spec, home, spec.teacher_run)
        return
    try:
        asked = spec.teacher_spec()
    except SpecError as error:
        yield from (Problem(f"teacher_{p.field}", p.given, p.allowed, p.do) for p in error.problems)
        return
    if asked is not None and spec.generation == 0:
        yield from _teachable(asked)


def _teachable(asked: RunSpec) -> Iterator[Problem]:
    """Check the training that would make the teacher, where it differs from the student's own."""
    key = asked.method
    if key not in methods.entries():
        yield unknown("method", key, list(methods.entries()), "teacher_method")
    elif methods.get(key).card.teacher_mode in ("frozen", "graph"):
        yield Problem(
            "teacher_method", key, "a method that needs no teacher itself, such as base", "pin such a teacher with teacher_run"
        )
    size = asked.train_images
    if size is not None and size < asked.batch_size:
        yield Problem("teacher_train_images", str(size), f"at least one batch, {asked.batch_size}", "choose more images")


def _pinned(spec: RunSpec, home: Home, run_id: str) -> Iterator[Problem]:
    try:
        run = find_run(home, run_id)
        request = run.read_request().spec
    except KdError as error:
        yield from (Problem("teacher_run", p.given, p.allowed, p.do) for p in error.problems)
        return
    status = status_of(run, home)
    if status is not RunStatus.FINISHED:
        yield Problem("teacher_run", f"{run_id}, which is {status}", "a finished run", "wait for it or choose another")
    for field, own, wanted in (
        ("network", request.student, spec.teacher), ("dataset", request.dataset, spec.dataset),
        ("image size", request.image_size, spec.image_size),
    ):  # fmt: skip
        if own != wanted:
            yield Problem(
                "teacher_run", f"{run_id} with {field} {own}", f"{field} {wanted}, as in this spec", "choose a run that fits"
            )


def _files(spec: RunSpec) -> Iterator[Problem]:
    """Check the weight files; a path is never repeated, a page shows these words to everybody."""
    wanted = [("student_init", spec.student_init), *((f"peer_inits.{i}", f) for i, f in enumerate(spec.peer_inits))]
    for field, file in (*wanted, ("teacher_weights", spec.teacher_weights)):
        path = Path(file or "").expanduser()
        if file and not path.is_file():
            yield Problem(field, "a file that is not there", weights.ALLOWED, "check the path, or leave it out")
        elif file and path.suffix not in weights.SUFFIXES:
            yield Problem(field, path.name, weights.ALLOWED, "choose a weight file, or leave it out")
