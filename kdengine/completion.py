"""What a spec means when it leaves things out: the knobs of its method, its peers, its place in a chain.

Reads: the labels and files of methods, in ``from_files``. Writes: nothing. Never: torch; whether the values can be trained
(``kdengine.check`` says that).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Protocol

from kdengine import anatomy, catalogue
from kdengine.spec import TEACHER_FIELDS, RunSpec, Scalar

Fill = Callable[[str, dict[str, Scalar]], dict[str, Scalar]]


class Traits(Protocol):
    """What must be known of a method: does it train peers, is it a chain of runs, how does it read a teacher (``none`` = not)."""

    @property
    def peers(self) -> bool:
        """Whether several networks train at once."""

    @property
    def chain(self) -> bool:
        """Whether a run is taught by an earlier run of the same network."""

    @property
    def teacher_mode(self) -> str:
        """How it reads a teacher."""


def complete(spec: RunSpec, methods: Mapping[str, Traits], fill: Fill) -> RunSpec:
    """Return the spec complete: every knob, its peers, its place in a chain; no teacher where none is used.

    ``fill(method, given)`` returns all knobs. A method that is not among ``methods`` is left as it is.
    """
    if spec.method not in methods:
        return spec
    traits = methods[spec.method]
    changes: dict[str, object] = {"params": fill(spec.method, spec.params)}
    if spec.combine is not None and spec.combine.method in methods:
        filled = fill(spec.combine.method, spec.combine.params)
        changes["combine"] = spec.combine.model_copy(update={"params": filled}).model_dump()
    if not spec.peers and any(methods[key].peers for key in keys_of(spec) if key in methods):
        changes["peers"] = (spec.student,)
    if traits.chain:
        changes |= {"generation": max(1, spec.generation), "teacher": spec.student, "teacher_options": spec.student_options}
    if not uses_teacher(spec, methods):
        plain = {f: RunSpec.model_fields[f].get_default(call_default_factory=True) for f in TEACHER_FIELDS}
        changes |= plain | {"teacher": None}
    return spec.but(**changes)


def from_files(spec: RunSpec) -> RunSpec:
    """Return the spec complete, by what the methods' files say: as ``check.resolve`` where its values are sound, without torch.

    Raises:
        KdError: a method's file computes a knob instead of writing it down.
    """
    return complete(spec, catalogue.labels(), anatomy.filled)


def uses_teacher(spec: RunSpec, methods: Mapping[str, Traits]) -> bool:
    """Say whether the spec's method, or the one combined with it, reads a teacher; an unknown method may."""
    return any(key not in methods or methods[key].teacher_mode != "none" for key in keys_of(spec))


def keys_of(spec: RunSpec) -> list[str]:
    """Return the spec's method, and the one combined with it."""
    return [spec.method, *([spec.combine.method] if spec.combine else [])]
