"""A table of the literature as a suite: its rows, columns and claims, and the specs that train it here.

Reads: the register of datasets. Writes: nothing. Never: the printed numbers (``store/published.csv`` holds them), results.
``kdengine.literature`` holds the tables themselves.

A table has rows (how a network learns) and columns (a dataset, or a pair of networks); a cell is one spec per seed. ``quick``
asks whether a table holds at all, in minutes and without a download: few images of a dataset that is here stand in for the
printed one, and small networks for large ones.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

from kdengine import catalogue, completion, datasets
from kdengine.errors import UnknownKey, unknown
from kdengine.home import Home
from kdengine.spec import RunSpec, Scalar

Role = Literal["pair", "student", "teacher"]
Params = Mapping[str, Scalar]
QUICK = "quick"
SCALES: dict[str, str] = {QUICK: "Quick", "paper": "200 epochs (paper)", "crd": "240 epochs (crd)"}
STAND_IN = "digits"
# training images where another dataset stands in: of a student, of one of more than a hundred layers, of a teacher. Measured on
# digits, 15 epochs: of 200 images resnet110 learns next to nothing, of 400 it gets to 96 % while the small ones are near 100 %
FEW, FEW_DEEP, MORE = 200, 400, 1200
TEACHER_EPOCHS = 8


@dataclass(frozen=True, slots=True)
class Column:
    """A column: ``dataset``, the pair of networks where the row does not name its own, and fields that only this pair needs."""

    key: str
    title: str
    dataset: str
    teacher: str | None = None
    student: str | None = None
    fields: Mapping[str, Any] = field(default_factory=dict)
    printed: bool = True  # False: a stand-in, of which the literature says nothing


@dataclass(frozen=True, slots=True)
class Row:
    """A row: how a network learns. ``role``: ``pair``, taught by a teacher; ``student``, without one from outside;
    ``teacher``, the training of the teacher itself. ``networks``: whose accuracy is printed, with what to call each.

    ``params``: the source's knobs where they differ from ours; ``on``: more of them on one dataset; ``quick``: those that make
    it fit into minutes. ``only``: the columns in which the source has it, () = all.
    """

    key: str
    label: str
    method: str
    role: Role = "pair"
    student: str | None = None
    teacher: str | None = None
    peers: tuple[str, ...] = ()
    networks: tuple[str, ...] = ("student",)
    params: Params = field(default_factory=dict)
    on: Mapping[str, Params] = field(default_factory=dict)
    quick: Params = field(default_factory=dict)
    only: tuple[str, ...] = ()


Place = tuple[str, str]  # key of a row, name of a network


@dataclass(frozen=True, slots=True)
class Claim:
    """What the source says of its table: in each of ``pairs`` the first place is ``above`` the second, or ``reaches`` it.

    ``across``: it compares columns, the first place where there are fewer classes with the same row where there are more.
    """

    text: str
    pairs: tuple[tuple[Place, Place], ...]
    relation: Literal["above", "reaches"] = "above"
    across: bool = False


@dataclass(frozen=True, slots=True)
class Replication:
    """One table. ``source`` and ``page`` name its numbers in ``published`` ("" = it prints none). ``recipe``: the source's own.

    ``epochs``: where it stopped earlier than the recipe. ``smaller``: networks that stand for larger ones at ``quick``.
    ``images``, ``teacher_images``: what they see there. ``first``: columns that are trained unless others are chosen, () = all.
    """

    key: str
    title: str
    shows: str
    source: str
    where: str
    url: str
    recipe: str
    columns: tuple[Column, ...]
    rows: tuple[Row, ...]
    claims: tuple[Claim, ...] = ()
    page: str = ""
    notes: tuple[str, ...] = ()
    epochs: int | None = None
    smaller: Mapping[str, str] = field(default_factory=dict)
    images: int = FEW
    teacher_images: int = MORE
    first: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Scale:
    """How a table is trained: the recipe, its seeds, and at ``quick`` the datasets that stand in and whether the networks are the
    printed ones all the same. ``columns``: keys of those to train, () = all."""

    recipe: str = QUICK
    seeds: int = 3
    data: tuple[str, ...] = (STAND_IN,)
    printed_networks: bool = False
    columns: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Trial:
    """One training of a table: its cell, its seed, its spec."""

    row: str
    column: str
    seed: int
    spec: RunSpec


# ---- from a table to specs --------------------------------------------------------------------------------------------------


def suite_of(table: Replication, scale: Scale) -> str:
    """Return the name under which the runs of a table are launched, such as ``fig8-quick``."""
    parts = [table.key, scale.recipe]
    if scale.recipe == QUICK and scale.data != (STAND_IN,):
        parts += scale.data
    if scale.recipe == QUICK and scale.printed_networks:
        parts.append("printed")
    return "-".join(parts)[:64]


def scale_of(name: str) -> str:
    """Return ``name`` where it is a scale. Raises ``UnknownKey`` otherwise."""
    if name not in SCALES:
        raise UnknownKey(unknown("scale", name, list(SCALES)))
    return name


def columns_named(table: Replication, keys: Iterable[str]) -> tuple[str, ...]:
    """Return ``keys`` where they are columns of the table. Raises ``UnknownKey`` for the first that is none."""
    known, wanted = [column.key for column in table.columns], tuple(keys)
    for key in wanted:
        if key not in known:
            raise UnknownKey(unknown("column", key, known))
    return wanted


def columns_of(table: Replication, scale: Scale) -> tuple[Column, ...]:
    """Return the columns that are trained: the printed ones; at ``quick`` the stand-ins, or the printed pairs on the first."""
    wanted = tuple(c for c in table.columns if not scale.columns or c.key in scale.columns)
    if scale.recipe != QUICK:
        return wanted
    if by_dataset(table):
        first = table.columns[0]
        return tuple(Column(d, d, d, first.teacher, first.student, printed=False) for d in scale.data)
    return tuple(Column(c.key, c.title, scale.data[0], c.teacher, c.student, c.fields) for c in wanted)


def by_dataset(table: Replication) -> bool:
    """Say whether the columns are datasets, rather than pairs of networks on one dataset."""
    return len({(column.teacher, column.student) for column in table.columns}) == 1


def trials(table: Replication, scale: Scale, home: Home) -> list[Trial]:
    """Return every training of a table, without the methods' own defaults, seed by seed so that all rows advance together.

    Raises:
        UnknownKey: a stand-in that is no dataset here. SpecError: a spec that does not hold.
    """
    found = []
    for seed in range(scale.seeds):
        for column in columns_of(table, scale):
            for row in table.rows:
                if row.only and column.key not in row.only:
                    continue
                spec = _spec(table, row, column, scale, seed, home)
                if row.role != "teacher":
                    found.append(Trial(row.key, column.key, seed, spec))
                elif seed == 0 and (training := spec.teacher_spec()):
                    found.append(Trial(row.key, column.key, training.seed, training))
    return found


def complete(found: Iterable[Trial]) -> list[Trial]:
    """Return the trials with every knob of their methods filled in, as ``check.resolve`` does."""
    return [Trial(trial.row, trial.column, trial.seed, completion.from_files(trial.spec)) for trial in found]


def teachers(found: Iterable[Trial]) -> list[Trial]:
    """Return the trainings of teachers that complete trials rest on and that are not among them, each once; no row, no column."""
    waiting = list(found)
    known = {trial.spec.identity() for trial in waiting}
    more: dict[str, Trial] = {}
    while waiting:
        training = waiting.pop().spec.teacher_spec()
        if training and training.identity() not in known:
            known.add(training.identity())
            waiting.append(Trial("", "", training.seed, training))
            more[training.identity()] = waiting[-1]
    return list(more.values())


def models_of(row: Row, column: Column) -> dict[str, str]:
    """Return the printed networks of a cell, all that train in it: name of the network -> key of its model."""
    if row.role == "teacher":
        return {"student": row.teacher or column.teacher or ""}
    student = row.student or column.student or ""
    peers = row.peers or ((student,) if catalogue.label_of(row.method).peers else ())
    return {"student": student} | {f"peer{i}": peer for i, peer in enumerate(peers, 1)}


def stand_in(table: Replication, scale: Scale, model: str) -> str:
    """Return the network that is trained in the place of ``model``: a smaller one at ``quick``, unless the printed are wanted."""
    small = scale.recipe == QUICK and not scale.printed_networks
    return table.smaller.get(model, model) if small else model


def _spec(table: Replication, row: Row, column: Column, scale: Scale, seed: int, home: Home) -> RunSpec:
    quick = scale.recipe == QUICK
    values: dict[str, Any] = {"recipe": scale.recipe, "dataset": column.dataset, **column.fields}
    if table.epochs or column.fields:
        values |= {"teacher_recipe": scale.recipe}  # the teacher has all its epochs, at its own learning rate
    if table.epochs:
        values["epochs"] = table.epochs
    if quick:
        images = datasets.get(home, column.dataset).train_images
        values |= {"train_images": min(max(table.images, FEW_DEEP) if scale.printed_networks else table.images, images)}
    student, teacher = row.student or column.student, row.teacher or column.teacher
    if row.role == "student":
        values = {name: value for name, value in values.items() if not name.startswith("teacher_")}
    else:
        values["teacher"] = stand_in(table, scale, teacher or "")
        if quick:
            values |= {"teacher_epochs": TEACHER_EPOCHS, "teacher_train_images": min(table.teacher_images, images)}
    return RunSpec(
        **values, method=row.method, student=stand_in(table, scale, student or ""), seed=seed, suite=suite_of(table, scale),
        peers=tuple(stand_in(table, scale, peer) for peer in row.peers),
        params={**row.params, **row.on.get(column.dataset, {}), **(row.quick if quick else {})},
    )  # fmt: skip
