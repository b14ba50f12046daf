"""What a distillation method must offer, and what it is given. The only module of ours that a method file imports,
besides ``_math``.

A method is one file of ``kdengine/methods``; its name is the method's key. It defines, in this order, a docstring, ``CARD``,
``Params``, pure loss functions listed in ``LOSSES``, and one subclass of ``Method``. It is found by itself.
Reads / writes: nothing. Never: a model, a dataset, the loop.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, ClassVar, Literal, Protocol

import torch
from pydantic import BaseModel, ConfigDict, Field, model_validator
from torch import Tensor, nn

from kdengine.methods._math import log_softened, match_size
from kdengine.models.contract import NetInfo, Outputs

Family = Literal["response", "feature", "relation", "online", "self", "plain"]
Need = Literal["logits", "embedding", "stages", "preacts", "stem", "blocks", "norms", "index", "input_gradients", "views"]
TeacherMode = Literal["none", "frozen", "graph", "trained"]
Kind = Literal["probabilities", "scores", "values", "matrix", "maps", "masks", "channels", "points", "images"]


@dataclass(frozen=True, slots=True)
class Card:
    """All that forms, pages, checks and the loop know of a method without running it.

    ``needs``: what it reads of each network and batch. ``teacher_mode``: ``none``; ``frozen`` (eval, no_grad, may be folded);
    ``graph`` (eval, parameters frozen, autograd on); ``trained``. ``peers``: it trains further networks beside the student.
    With ``input_gradients`` in ``needs`` the loop lets ``batch.x`` require gradients, so that outputs can be derived by it and,
    in a teacher of mode ``graph``, by its maps. ``batch_order_matters``: True, or ``knob=value`` where only that choice does.
    ``chain``: it is a chain of runs, each taught by the one before. ``fidelity``: ``golden`` (equal to the authors' code),
    ``paper`` (from the formulas), ``abstract`` (reconstructed). ``formula`` is LaTeX.
    """

    key: str
    title: str
    family: Family
    year: int
    citation: str
    links: tuple[str, ...]
    one_line: str
    story: tuple[str, str, str]
    analogy: str
    formula: str
    fidelity: Literal["golden", "paper", "abstract"]
    needs: frozenset[Need] = frozenset({"logits"})
    teacher_mode: TeacherMode = "frozen"
    peers: bool = False
    chain: bool = False
    min_batch: int = 2
    batch_order_matters: bool | str = False
    capturable: bool = True
    phases: tuple[str, ...] = ("main",)


class Params(BaseModel):
    """Base of a method's knobs. Frozen; unknown names are refused. Declare fields with ``knob``."""

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)

    @model_validator(mode="before")
    @classmethod
    def _defaults_of_a_choice(cls, values: Any) -> Any:
        """Fill what is left out with the default that goes with the choices made, where a knob has such."""
        if not isinstance(values, dict):
            return values
        found = dict(values)
        for name, declared in cls.model_fields.items():
            extra = declared.json_schema_extra
            for choice, default in (extra.get("per", {}) if isinstance(extra, dict) else {}).items():  # type: ignore[union-attr]
                other, _, chosen = str(choice).partition("=")
                if name not in values and values.get(other) == chosen:
                    found[name] = default
        return found


def knob(
    default: Any, *, help: str, source: str, low: float | None = None, high: float | None = None,
    per: dict[str, float] | None = None, **more: Any,
) -> Any:  # fmt: skip
    """Declare one knob: ``default`` and its ``source``, inclusive bounds, a help text in plain words.

    ``per``: other defaults that go with a choice of another knob, ``{"form=joint": 100.0}``; a weight fits one form only.
    """
    extra: dict[str, Any] = {"source": source} | ({"per": per} if per else {})
    return Field(default, ge=low, le=high, description=help, json_schema_extra=extra, **more)


@dataclass(frozen=True, slots=True)
class DataInfo:
    """The training set as a method sees it when it is built.

    ``labels (N,)`` int64; ``low``/``high``: least and greatest pixel value per channel after normalisation.
    """

    name: str
    train_images: int
    classes: int
    image_size: int
    labels: Tensor
    low: tuple[float, ...]
    high: tuple[float, ...]


@dataclass(slots=True)
class Batch:
    """One step's images ``x (B, C, H, W)`` normalised, labels ``y (B,)`` int64, ``index (B,)`` int64 into the training set.

    ``views``: further augmentations of the same images, each like ``x``, where the card needs them.
    """

    x: Tensor
    y: Tensor
    index: Tensor
    views: tuple[Tensor, ...] = ()


@dataclass(slots=True)
class Progress:
    """Where the training stands. ``epoch`` and ``step`` count from 0; ``fraction`` in [0, 1) of the phase.

    ``generator`` is the only source of randomness a method may use; its state is part of the checkpoint.
    """

    phase: str
    epoch: int
    epochs: int
    step: int
    steps: int
    generator: torch.Generator

    @property
    def fraction(self) -> float:
        """Share of the phase that is done."""
        return (self.epoch * self.steps + self.step) / max(1, self.epochs * self.steps)


class View(Protocol):
    """A network as a method sees it. Calling it runs the network again, with the same taps and precision."""

    info: NetInfo

    @property
    def peers(self) -> Mapping[str, View]:
        """The further networks that learn beside this one, by name."""
        ...

    @property
    def norms(self) -> tuple[tuple[Tensor, Tensor], ...]:
        """Weight and bias ``(C,)`` of the BatchNorm before each stage's last activation; empty where ``info.norms`` is False."""
        ...

    @property
    def outputs(self) -> Outputs:
        """What the loop has computed for this step's ``batch.x``."""
        ...

    def __call__(self, x: Tensor) -> Outputs:
        """Run the network on ``x``."""
        ...


@dataclass(frozen=True, slots=True)
class Phase:
    """A stretch of training. ``main`` is the last one and as long as the run's epochs (``epochs=None``).

    ``trains``: networks (``student``, ``peers``) and parts of the method (``method``, ``method.translator``) whose
    parameters one optimiser updates. ``runs``: the networks that the loop runs forward; the others' outputs are absent.
    ``lr_scale`` multiplies the run's learning rate; ``milestones``: fractions of the phase at which it drops by the recipe's
    ``gamma``, instead of the recipe's own schedule.
    """

    name: str = "main"
    epochs: int | None = None
    trains: tuple[str, ...] = ("student", "peers", "method")
    runs: tuple[str, ...] = ("student", "peers", "teacher")
    lr_scale: float = 1.0
    milestones: tuple[float, ...] | None = None


@dataclass(frozen=True, slots=True)
class Compared:
    """One picture of what a method compares, at its knobs: what the loss sees of the student beside what it sees of the teacher.

    ``student``, ``teacher``: tensors of one shape (None: that side has none), ``of (n,)``: the images of the batch that
    they are about (None: all B, in order). Shapes by ``kind``: ``probabilities (n, K)``, rows sum to 1; ``scores (n, K)``;
    ``values (m,)``, or ``(n, m)`` with a row for each image; ``matrix (R, C)``, or ``(n, R, C)``; ``maps (n, H, W)``, laid over
    the image; ``masks (n, C, H, W)``: 0 silent, 1 active, between undecided; ``channels (n, C, H, W)``; ``points (n, D)``, drawn
    in two dimensions, ``joint`` where both sides live in one space; ``images (n, 3, H, W)``, normalised as ``Batch.x``.
    ``note`` says in plain words what to look for, ``sides`` what the two tensors are, ``axes`` what rows and columns (of a
    matrix) or entries (of values) are.
    """

    title: str
    kind: Kind
    student: Tensor | None
    teacher: Tensor | None
    note: str
    sides: tuple[str, str] = ("student", "teacher")
    axes: tuple[str, str] = ("", "")
    of: Tensor | None = None
    joint: bool = False

    @classmethod
    def answers(
        cls, logits_s: Tensor, logits_t: Tensor | None, T: float = 1.0, *, title: str = "", note: str = "", **more: Any
    ) -> Compared:  # fmt: skip
        """Return the class probabilities at temperature ``T`` of logits ``(n, K)``, as ``soft_kl`` compares them."""
        alike = "The loss is small where both sides give every class the same share."
        note = note or (alike if logits_t is not None else "The label wants all of the share for one class.")
        title = title or "Class probabilities" + ("" if T == 1 else f" at temperature {T:g}")
        own, theirs = (None if z is None else log_softened(z, T).exp() for z in (logits_s, logits_t))
        return cls(title, "probabilities", own, theirs, note, **more)

    @classmethod
    def seen(
        cls, title: str, kind: Kind, how: Callable[[Tensor], Tensor], of_s: Tensor, of_t: Tensor, note: str, **more: Any
    ) -> Compared:  # fmt: skip
        """Return what the loss's own function ``how`` makes of both sides."""
        return cls(title, kind, how(of_s), how(of_t), note, **more)


class Method(nn.Module):
    """Base of every method. Adapters are submodules, banks and constants are buffers, so a checkpoint holds them."""

    CARD: ClassVar[Card]  # set, like Params, when the file is found
    Params: ClassVar[type[Params]] = Params

    def __init__(self, params: Any, student: NetInfo, teacher: NetInfo | None, peers: dict[str, NetInfo], data: DataInfo) -> None:
        super().__init__()
        self.params: Any = params

    @classmethod
    def problems(cls, params: Any, student: NetInfo, teacher: NetInfo | None) -> list[tuple[str, str, str]]:
        """Return why this method cannot work on these networks: (given, allowed, what to do) each; empty = it can."""
        return []

    @classmethod
    def memory_bytes(cls, params: Any, student: NetInfo, teacher: NetInfo | None, train_images: int) -> int:
        """Return the bytes that the method keeps beside the networks (banks, tables); said before a run starts."""
        return 0

    @classmethod
    def phases(cls, params: Any) -> tuple[Phase, ...]:
        """Return the phases that training with these knobs has, in order; the last one is ``main``."""
        return (Phase(),)

    def loss(self, student: View, teacher: Any, batch: Batch, progress: Progress) -> dict[str, Tensor]:
        """Return the terms of this step, weighted, fp32 scalars; their sum is the loss.

        A bare key belongs to the student, ``peer1/kl`` to that peer. The label term is called ``ce``. ``teacher`` is a
        ``View``, or None where the card has no teacher or the phase does not run it.
        """
        raise NotImplementedError

    def compared(self, student: View, teacher: Any, batch: Batch, progress: Progress) -> tuple[Compared, ...]:
        """Return pictures of what ``loss`` compares when called with the same arguments, at least one; gradients are not needed.

        If a method file says nothing else: the class probabilities, and the embeddings and where the last map is active if the
        card needs them.
        """
        needs, own, theirs = self.CARD.needs, student.outputs, None if teacher is None else teacher.outputs
        found = [Compared.answers(own.logits, None if theirs is None else theirs.logits)]
        if "embedding" in needs:
            note = "Each point is an image; images of one class should lie together."
            found.append(Compared("Embeddings", "points", own.embedding, theirs and theirs.embedding, note))
        if theirs is not None and own.stages and theirs.stages and "stages" in needs:
            map_s, map_t = (x.square().mean(1) for x in match_size(own.stages[-1], theirs.stages[-1]))
            found.append(Compared("Activity after the last stage", "maps", map_s, map_t, "Bright: where the map is active."))
        return tuple(found)


@dataclass(frozen=True, slots=True)
class Entry:
    """A discovered method: its module's card, knobs, class, pure losses and source file."""

    card: Card
    params: type[Params]
    method: type[Method]
    losses: tuple[Callable[..., Tensor], ...]
    doc: str
    file: str = field(repr=False)
