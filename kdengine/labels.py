"""What people say about a run after its launch: tags and a note, beside the spec that never changes.

Reads / writes: ``labels.json`` in the run's folder, aside and renamed, under one lock of the home; whoever writes last wins.
Never: ``spec.json``; anything that decides what is learnt.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable
from dataclasses import asdict, dataclass

from filelock import FileLock

from kdengine.durable import write_aside
from kdengine.errors import KdError, Problem
from kdengine.home import Home
from kdengine.rundir import RunDir
from kdengine.spec import RunSpec


@dataclass(frozen=True, slots=True)
class Labels:
    """``tags``: words to find the run by, each once; ``note``: free text. The limits are those of the spec's fields."""

    tags: tuple[str, ...] = ()
    note: str = ""


def read(run: RunDir) -> Labels:
    """Return the run's labels as they stand: those of its ``labels.json``, or of its spec while there is none.

    Raises:
        KdError: ``labels.json`` is no such file, or breaks the limits; what its spec says is not shown in its stead.
        ValueError: the spec cannot be read.
    """
    path = run.path / "labels.json"
    try:
        values = json.loads(path.read_bytes())
        return checked(values["tags"], values["note"])
    except FileNotFoundError:
        spec = run.read_request().spec
        return Labels(spec.tags, spec.note)
    except (ValueError, KeyError, TypeError) as error:
        raise KdError.of(
            f"{path}, which cannot be read ({error})",
            '{"tags": ["word", ...], "note": "text"}',
            "save the labels of this run anew, or remove the file: then those of its launch hold again",
            "labels",
        ) from error


def write(run: RunDir, *, tags: Iterable[str] | None = None, note: str | None = None) -> Labels:
    """Replace the tags, the note, or both (None leaves one as it is), and return the labels as they stand now.

    Raises:
        SpecError: with every fault of tags and note; nothing was written.
        KdError: one of the two is left as it is, and cannot be read.
        OSError: the disk is full or cannot be written; the old labels stand.
    """

    def new(old: Callable[[], Labels]) -> Labels:
        return checked(old().tags if tags is None else tags, old().note if note is None else note)

    return _change(run, new)


def retag(run: RunDir, *, add: Iterable[str] = (), remove: Iterable[str] = (), note: str | None = None) -> Labels:
    """Add and remove single tags, the others stay; the note too, unless given. Returns and raises as ``write`` does."""
    gone, more = set(remove), tuple(add)

    def new(old: Callable[[], Labels]) -> Labels:
        return checked([*(tag for tag in old().tags if tag not in gone), *more], old().note if note is None else note)

    return _change(run, new)


def checked(tags: Iterable[str], note: str) -> Labels:
    """Return labels that keep to the limits of the spec's fields; a tag given twice counts once.

    Raises:
        SpecError: with every fault of tags and note.
    """
    spec = RunSpec(tags=tags if isinstance(tags, str) else tuple(dict.fromkeys(tags)), note=note)  # a text is no list of letters
    return Labels(spec.tags, spec.note)


def problems(tags: Iterable[str], note: str) -> tuple[Problem, ...]:
    """Return what is wrong with tags and note; nothing where they may be written."""
    try:
        checked(tags, note)
    except KdError as error:
        return error.problems
    return ()


def _change(run: RunDir, new: Callable[[Callable[[], Labels]], Labels]) -> Labels:
    with FileLock(Home(run.path.parents[1]).locks / "labels.lock"):
        labels = new(lambda: read(run))
        write_aside(run.path / "labels.json", json.dumps(asdict(labels), ensure_ascii=False).encode())
        return labels
