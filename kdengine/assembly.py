"""The parts of one training, put together: data, networks, teacher, methods; and how a step uses them.

Reads: datasets, teachers' weights, initial weights. Writes: nothing. Never: the optimiser, the run's files.
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from pathlib import Path

import torch
from pydantic import BaseModel
from torch import Tensor, nn

from kdengine import data as datasets
from kdengine import methods, networks, teachers
from kdengine.data.contract import Dataset, Report
from kdengine.home import Home
from kdengine.methods.contract import Batch, Card, DataInfo, Method, Need, Progress
from kdengine.models.contract import TAPS, NetInfo
from kdengine.networks import NetworkView
from kdengine.schedule import Stage
from kdengine.spec import RunSpec, Scalar

LABEL_TERM = "ce"
RESIDENT_BYTES = 4 << 30  # above that, test images are sent to the device batch by batch


@dataclass(slots=True)
class Weighted:
    """A method of the run. ``weight`` None: the run's own method, taken as it is; else a combined one."""

    card: Card
    method: Method
    weight: float | None


@dataclass(slots=True)
class Parts:
    """Everything a step needs. ``students``: ``student``, ``peer1``, ... in order."""

    data: Dataset
    students: dict[str, NetworkView]
    teacher: NetworkView | None
    teacher_trains: bool
    methods: list[Weighted] = field(default_factory=list)

    def learners(self, stage: Stage) -> dict[str, NetworkView]:
        """Return the networks that the stage trains, by name."""
        trains, chosen = stage.phase.trains, dict[str, NetworkView]()
        for name, view in self.students.items():
            if name in trains or (name != "student" and "peers" in trains):
                chosen[name] = view
        if self.teacher is not None and self.teacher_trains and "teacher" in trains:
            chosen["teacher"] = self.teacher
        return chosen

    def trained_by(self, stage: Stage) -> list[nn.Module]:
        """Return every module whose parameters the stage's one optimiser updates: networks and parts of methods."""
        modules: list[nn.Module] = [view.network for view in self.learners(stage).values()]
        for owner in stage.owners:
            method = self.methods[owner].method
            wanted = method.phases(method.params)[-1].trains if stage.is_main else stage.phase.trains
            for name in wanted:
                if name == "method" or name.startswith("method."):
                    modules.append(method.get_submodule(name.removeprefix("method").removeprefix(".")))
        return modules

    def set_modes(self, stage: Stage) -> None:
        """Put what learns into train mode and all else into eval mode."""
        for module in self.modules().values():
            module.eval()
        for module in self.trained_by(stage):
            module.train()

    def modules(self) -> dict[str, nn.Module]:
        """Return all modules that a checkpoint holds: learning networks, methods, a teacher only if it trains."""
        found: dict[str, nn.Module] = {name: view.network for name, view in self.students.items()}
        if self.teacher is not None and self.teacher_trains:
            found["teacher"] = self.teacher.network
        return found | {f"method{i}": m.method for i, m in enumerate(self.methods)}

    def run_networks(self, stage: Stage, x: Tensor) -> None:
        """Run forward what the stage names."""
        for name, view in self.students.items():
            if name in stage.phase.runs or (name != "student" and "peers" in stage.phase.runs):
                view.run(x)
        if self.teacher is not None and "teacher" in stage.phase.runs:
            self.teacher.run(x)

    def terms(self, stage: Stage, batch: Batch, progress: Progress) -> dict[str, Tensor]:
        """Return all loss terms of a step. A combined method's terms carry its key and weight; its label term is dropped."""
        student, found = self.students["student"], dict[str, Tensor]()
        teacher = self.teacher if "teacher" in stage.phase.runs else None
        for owner in stage.owners:
            part = self.methods[owner]
            for key, value in part.method.loss(student, teacher, batch, progress).items():
                network, slash, term = key.rpartition("/")
                if part.weight is None:
                    found[key] = value
                elif term != LABEL_TERM:
                    found[f"{network}{slash}{part.card.key}.{term}"] = part.weight * value
        return found

    def wants(self, stage: Stage, need: Need) -> bool:
        """Say whether a method of the stage needs this: a second view of every image, gradients by the images, ..."""
        return any(need in self.methods[owner].card.needs for owner in stage.owners)

    def forget(self) -> None:
        """Let go of this step's outputs."""
        for view in (*self.students.values(), self.teacher):
            if view is not None:
                view.forget()


def assemble(
    home: Home, spec: RunSpec, teacher_run: str | None, device: torch.device, precision: str, progress: Report | None = None
) -> Parts:
    """Load the data and build every network and method of ``spec`` on ``device``; ``progress`` as for ``data.load``.

    Raises:
        RunFailed: weights that cannot be loaded.
        KdError: a dataset that cannot be read.
    """
    wanted: list[tuple[str, dict[str, Scalar], float | None]] = [(spec.method, spec.params, None)]
    if spec.combine is not None:
        wanted.append((spec.combine.method, spec.combine.params, spec.combine.weight))
    entries = [methods.get(key) for key, _, _ in wanted]
    taps = frozenset(need for e in entries for need in e.card.needs if need in TAPS)
    dataset = _on_device(datasets.load(home, spec.dataset, image_size=spec.image_size, train_images=spec.train_images,
                                       val_frac=spec.val_frac, progress=progress), device)  # fmt: skip
    students = _students(spec, dataset.classes, taps, device)
    mode = _strictest([e.card.teacher_mode for e in entries])
    teacher = _teacher(home, spec, teacher_run, dataset.classes, taps, mode, device, precision)
    parts = Parts(dataset, students, teacher, mode == "trained")
    info = data_info(dataset, spec.image_size)
    for position, (entry, (_, params, weight)) in enumerate(zip(entries, wanted, strict=True)):
        method = _method(entry, entry.params(**params), parts, info, networks.derive_seed(spec.seed, "method", position))
        parts.methods.append(Weighted(entry.card, method.to(device), weight))
    return parts


def data_info(dataset: Dataset, image_size: int) -> DataInfo:
    """Return the numbers that methods are built from."""
    labels = dataset.train.y.cpu()
    return DataInfo(dataset.name, len(labels), dataset.classes, image_size, labels, dataset.low, dataset.high)


def _on_device(dataset: Dataset, device: torch.device) -> Dataset:
    """Send what is measured every epoch to the device once, where it is small enough to stay there."""
    held = [images for images in (dataset.test, dataset.val) if images is not None]
    if device.type == "cpu" or sum(images.x.numel() for images in held) > RESIDENT_BYTES:
        return dataset
    return replace(dataset, test=dataset.test.to(device), val=None if dataset.val is None else dataset.val.to(device))


def _method(entry: methods.Entry, params: BaseModel, parts: Parts, info: DataInfo, seed: int) -> Method:
    """Build a method; the weights of its adapters depend on ``seed`` alone."""
    peers: dict[str, NetInfo] = {n: v.info for n, v in parts.students.items() if n != "student"}
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        teacher = None if parts.teacher is None else parts.teacher.info
        return entry.method(params, parts.students["student"].info, teacher, peers, info)


def _students(spec: RunSpec, classes: int, taps: frozenset[str], device: torch.device) -> dict[str, NetworkView]:
    """Build the student and its peers, each from a seed of its own; every generation of a chain starts afresh."""
    inits = (spec.student_init, *spec.peer_inits)
    views: dict[str, NetworkView] = {}
    for place, model in enumerate((spec.student, *spec.peers)):
        name = "student" if place == 0 else f"peer{place}"
        seed = networks.derive_seed(spec.seed, name, spec.generation)
        network = networks.build(model, classes, spec.image_size, spec.student_options, seed, spec.bn_momentum)
        if place < len(inits) and inits[place]:
            networks.load_weights(network, Path(str(inits[place])).expanduser(), f"{name}_init")
        views[name] = NetworkView(network.to(device), taps)
    views["student"].peers = {n: v for n, v in views.items() if n != "student"}
    return views


def _teacher(
    home: Home, spec: RunSpec, teacher_run: str | None, classes: int, taps: frozenset[str], mode: str, device: torch.device,
    precision: str,
) -> NetworkView | None:  # fmt: skip
    if mode == "none":
        return None
    loaded = teachers.load(home, spec, teacher_run, classes).to(device)
    norms = networks.stage_norms(loaded)  # before they are folded into the convolutions
    ready = teachers.freeze(loaded, mode, precision, device)
    view = NetworkView(ready.network, taps, no_grad=mode == "frozen", half=ready.half)
    view.norms = norms
    return view


def _strictest(modes: list[str]) -> str:
    """Return the one mode that serves all methods: what trains the teacher over what needs its graph over the rest."""
    return next(mode for mode in ("trained", "graph", "frozen", "none") if mode in modes)
