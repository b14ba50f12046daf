"""What a run is asked to do: ``RunSpec``, and the named recipes that fill it.

Reads / writes: nothing. Never: torch; what exists on this machine (``check`` compares the spec against that).
"""

from __future__ import annotations

import hashlib
import json
from typing import Annotated, Any, Literal, Self

from pydantic import BaseModel, ConfigDict, Field, ValidationError, field_validator, model_validator

from kdengine.errors import Problem, SpecError, nearest, unknown

Scalar = bool | int | float | str
Name = Annotated[str, Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9_.:\-]{0,63}$")]


class Recipe(BaseModel):
    """How a network is trained: everything but what is trained on what. All fields have the same meaning in a spec."""

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)

    epochs: int = Field(15, ge=1, le=10_000, description="passes over the training images in the main phase")
    batch_size: int = Field(16, ge=2, le=65_536, description="images per step")
    optimizer: Literal["sgd", "adam", "adamw"] = Field("sgd", description="rule that turns gradients into updates")
    lr: float = Field(0.03, gt=0, le=10, description="peak learning rate")
    momentum: float = Field(0.9, ge=0, lt=1, description="momentum (sgd) or beta1 (adam, adamw)")
    nesterov: bool = Field(True, description="Nesterov's momentum (sgd with momentum only)")
    weight_decay: float = Field(5e-4, ge=0, le=1, description="pull of all weights towards zero")
    schedule: Literal["constant", "multistep", "cosine"] = Field("cosine", description="course of the learning rate")
    milestones: tuple[float, ...] = Field((), description="multistep: where it drops, as fractions of the epochs")
    gamma: float = Field(0.1, gt=0, le=1, description="multistep: factor of each drop")
    warmup_frac: float = Field(0.1, ge=0, le=0.5, description="share of the training with a linear rise of the rate")
    crop_pad: int = Field(2, ge=0, le=64, description="pixels of padding before the random crop; 0 = no crop")
    crop_mode: Literal["reflect", "zero"] = Field("reflect", description="what the padding shows")
    flip: bool = Field(True, description="mirror half of the images, where the dataset allows it (digits do not)")
    bn_momentum: float = Field(0.3, gt=0, le=1, description="share of the newest batch in BatchNorm's running statistics")

    @field_validator("milestones")
    @classmethod
    def _rising(cls, value: tuple[float, ...]) -> tuple[float, ...]:
        if any(not 0 < m < 1 for m in value) or any(a >= b for a, b in zip(value, value[1:], strict=False)):
            raise ValueError("fractions between 0 and 1, rising, such as 0.5, 0.75")
        return value


RECIPES: dict[str, Recipe] = {
    # measured on scikit-learn's digits: 21 points between the methods within 15 epochs, 45 s on two CPU cores
    "quick": Recipe(),
    # Chen et al. 2024 and the library behind it: 200 epochs, batch 128, 0.1 dropped at 100 and 150, pad 4 by reflection
    "paper": Recipe(
        epochs=200, batch_size=128, lr=0.1, weight_decay=1e-4, schedule="multistep", milestones=(0.5, 0.75),
        warmup_frac=0.0, crop_pad=4, bn_momentum=0.1,
    ),
    # Tian et al. 2020 (CRD): 240 epochs, batch 64, 0.05 dropped at 150, 180, 210, plain momentum, zero padding
    "crd": Recipe(
        epochs=240, batch_size=64, lr=0.05, nesterov=False, weight_decay=5e-4, schedule="multistep",
        milestones=(0.625, 0.75, 0.875), warmup_frac=0.0, crop_pad=4, crop_mode="zero", bn_momentum=0.1,
    ),
}  # fmt: skip
RECIPE_FIELDS: tuple[str, ...] = tuple(Recipe.model_fields)
TEACHER_FIELDS = ("teacher_recipe", "teacher_epochs", "teacher_train_images", "teacher_method", "teacher_seed", "teacher_options",
                  "teacher_run", "teacher_weights")  # fmt: skip
UNUSED_IN_CHAINS = ("teacher_recipe", "teacher_epochs", "teacher_train_images", "teacher_seed", "teacher_options")
LABELS = ("suite", "tags", "note", "device")  # say nothing about what is learnt: not part of a spec's identity
MAX_CHAIN = 4


class Combine(BaseModel):
    """A second method whose terms are added, times ``weight``; its own label term is dropped."""

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)
    method: Name
    weight: float = Field(1.0, gt=0, le=1e6)
    params: dict[str, Scalar] = {}


class RunSpec(Recipe):
    """One training, complete. Frozen. Every fault of its own fields comes in one ``SpecError``.

    Fields of ``Recipe`` that are left out are taken from ``recipe``; a recipe with any of its fields changed is called
    ``<name>+``. ``model_validate(spec.model_dump())`` gives the same spec.

    Raises:
        SpecError: with one ``Problem`` per faulty field.
    """

    method: Name = Field("base", description="how the student learns")
    params: dict[str, Scalar] = Field({}, description="the method's own knobs; what is left out has the method's default")
    combine: Combine | None = Field(None, description="a second method, weighted")
    dataset: Name = Field("digits", description="what the networks look at")
    image_size: int = Field(32, ge=8, le=512, description="pixels per side; images of another size are resized")
    train_images: int | None = Field(None, ge=2, description="train on a fixed subset of this size; none = all")
    val_frac: float = Field(0.0, ge=0, le=0.5, description="share of the training images held out for validation")
    student: Name = Field("resnet8", description="the network that learns")
    student_options: dict[str, Scalar] = Field({}, description="options of the student's model (peers use the same)")
    student_init: str | None = Field(None, description="file of initial student weights, ours or another code's")
    peers: tuple[Name, ...] = Field((), description="further networks that learn beside the student", max_length=7)
    peer_inits: tuple[str | None, ...] = Field((), description="files of the peers' initial weights, in the same forms")
    generation: int = Field(0, ge=0, le=MAX_CHAIN, description="place in a chain of runs, each taught by the one before")
    teacher: Name | None = Field(None, description="the network that teaches")
    teacher_options: dict[str, Scalar] = Field({}, description="options of the teacher's model")
    teacher_method: Name = Field("base", description="how the teacher itself was trained")
    teacher_recipe: Name | None = Field(None, description="recipe of the teacher; none = the student's, field by field")
    teacher_epochs: int | None = Field(None, ge=1, le=10_000, description="epochs of the teacher; none = as its recipe has it")
    teacher_train_images: int | None = Field(None, ge=2, description="subset for the teacher; none = all")
    teacher_seed: int = Field(0, ge=0, lt=2**31, description="seed of the teacher, so that students share one")
    teacher_run: Name | None = Field(None, description="use the network of this finished run as the teacher")
    teacher_weights: str | None = Field(None, description="use this file (.safetensors, .pt, ...) as the teacher's weights")
    recipe: str = Field("quick", description="named set of training fields; a + means that some were changed")
    precision: Literal["auto", "fp32", "bf16"] = Field("auto", description="auto = bf16 where the hardware has it")
    device: str = Field("auto", pattern=r"^(auto|cpu|mps|cuda(:\d{1,2})?)$", description="auto = a GPU where there is one")
    seed: int = Field(0, ge=0, lt=2**31, description="decides the initial weights, the order of images and every draw")
    suite: Name | None = Field(None, description="name of the group of runs that this one belongs to")
    tags: tuple[Name, ...] = Field((), max_length=20, description="words to find the run by")
    note: str = Field("", max_length=2000, description="free text")

    def __init__(self, **values: Any) -> None:
        try:
            super().__init__(**values)
        except ValidationError as error:
            raise SpecError(*problems_of(error, type(self))) from None

    @model_validator(mode="before")
    @classmethod
    def _fill_from_recipe(cls, values: dict[str, Any]) -> dict[str, Any]:
        name = str(values.get("recipe") or "quick").removesuffix("+")
        base = RECIPES.get(name, RECIPES["quick"])  # an unknown name is reported with the other faults, below
        return base.model_dump() | {k: v for k, v in values.items() if v is not None or k not in RECIPE_FIELDS}

    @field_validator("recipe")
    @classmethod
    def _known_recipe(cls, value: str) -> str:
        name = value.removesuffix("+")
        if name not in RECIPES:
            problem = unknown("recipe", value, list(RECIPES))
            raise ValueError(f"{problem.allowed} ({problem.do})")
        return name

    @field_validator("note")
    @classmethod
    def _printable(cls, value: str) -> str:
        if any(ord(c) < 32 and c not in "\n\t" for c in value):
            raise ValueError("text without control characters")
        return value

    @model_validator(mode="after")
    def _name_the_recipe(self) -> Self:
        base = RECIPES[self.recipe.removesuffix("+")]
        changed = any(getattr(self, f) != getattr(base, f) for f in RECIPE_FIELDS)
        object.__setattr__(self, "recipe", self.recipe.removesuffix("+") + ("+" if changed else ""))
        if self.teacher_run and self.teacher_weights:
            raise ValueError("teacher_run and teacher_weights: one of the two, not both")
        if len(self.peer_inits) > len(self.peers):
            raise ValueError("peer_inits: at most as many files as peers")
        return self

    def but(self, **changes: Any) -> RunSpec:
        """Return this spec with ``changes``, checked again. Changing ``recipe`` takes all its fields anew."""
        values = self.model_dump()
        if "recipe" in changes and changes["recipe"] != self.recipe:
            values = {k: v for k, v in values.items() if k not in RECIPE_FIELDS}
        return RunSpec(**(values | changes))

    def identity(self) -> str:
        """Return a hash of all that decides what is learnt; labels (suite, tags, note) and the device do not count."""
        return self.hash_without()

    def hash_without(self, *fields: str) -> str:
        """Return a hash of all that decides what is learnt but ``fields``.

        In a later generation its own fields say how the teacher learnt, so those of another teacher mean nothing there.
        """
        unused = UNUSED_IN_CHAINS if self.generation else ()
        core = self.model_dump(mode="json", exclude={*LABELS, *unused, *fields})
        return hashlib.sha256(json.dumps(core, sort_keys=True).encode()).hexdigest()[:16]

    def teacher_spec(self) -> RunSpec | None:
        """Return the training that makes this run's teacher; None without a teacher or with a pinned one.

        A run of generation g > 0 is taught by generation g - 1 of the same network, seed and data; generation 0 of such
        a chain is trained by ``teacher_method`` (``base``), so it is the very run that serves as the baseline.
        """
        if self.teacher_run or self.teacher_weights:
            return None
        if self.generation > 0:
            plain = {f: RunSpec.model_fields[f].get_default() for f in TEACHER_FIELDS}
            if self.generation > 1:
                return self.but(generation=self.generation - 1)
            return self.but(generation=0, method=self.teacher_method, params={}, combine=None, teacher=None, **plain)
        if self.teacher is None:
            return None
        values: dict[str, Any] = {f: getattr(self, f) for f in RECIPE_FIELDS} | {"recipe": self.recipe}
        if self.teacher_recipe:
            values = {"recipe": self.teacher_recipe}
        if self.teacher_epochs:
            values["epochs"] = self.teacher_epochs
        return RunSpec(
            **values,
            method=self.teacher_method, dataset=self.dataset, image_size=self.image_size, val_frac=self.val_frac,
            student=self.teacher, student_options=self.teacher_options, train_images=self.teacher_train_images,
            seed=self.teacher_seed, precision=self.precision, device=self.device, suite=self.suite,
        )  # fmt: skip

    def summary(self) -> str:
        """Return one line for people: ``kd resnet20 -> resnet8 on digits, seed 1``."""
        who = f"{self.teacher} -> {self.student}" if self.teacher else " + ".join((self.student, *self.peers))
        generation = f", generation {self.generation}" if self.generation else ""
        return f"{self.method} {who} on {self.dataset}{generation}, seed {self.seed}"


def problems_of(error: ValidationError, model: type[BaseModel], prefix: str = "") -> list[Problem]:
    """Translate pydantic's errors into problems in three parts, in the order of the fields."""
    return [_problem(e, model, prefix) for e in error.errors()]


def _problem(error: Any, model: type[BaseModel], prefix: str) -> Problem:
    path = ".".join(str(part) for part in error["loc"]) or "spec"
    known = list(model.model_fields)
    if error["type"] == "extra_forbidden":
        close = nearest(path, known)
        return Problem(prefix + path, repr(error["input"]), "fields: " + ", ".join(known),
                       f"did you mean {close!r}?" if close else "remove it")  # fmt: skip
    allowed = error["msg"].removeprefix("Value error, ").removeprefix("Input should be ")
    if error["type"] == "string_pattern_mismatch" and path.split(".")[0] != "device":
        allowed = "a name of letters, digits, _ - . and :, at most 64 long"
    elif error["type"] == "string_pattern_mismatch":
        allowed = "auto, cpu, mps, cuda, or cuda:N"
    shown = repr(error["input"]) if error["loc"] else "fields that do not fit together"
    what = model.model_fields[str(error["loc"][0])].description if error["loc"] and error["loc"][0] in known else None
    return Problem(prefix + path, shown[:200], allowed, f"change {prefix + path}" + (f" ({what})" if what else ""))
