"""A method among small networks, without the loop: what tests of methods compute terms with. Reads / writes: nothing."""

from __future__ import annotations

import contextlib
import copy
from types import SimpleNamespace
from typing import Any

import torch
from torch import Tensor, nn

from kdengine import methods, models, networks
from kdengine.methods.contract import Batch, DataInfo, Entry, Method, Progress
from kdengine.models.contract import NetInfo, Network, Outputs

CLASSES, BATCH = 10, 8


class FakeView:
    """A network as the loop shows it to a method; ``outputs`` are computed once, on the step's images."""

    def __init__(self, network: Network, taps: frozenset[str], x: Tensor | None, *, no_grad: bool = False) -> None:
        self.network, self.info, self.peers = network, network.info, {}
        self.norms = networks.stage_norms(network)
        self._taps, self._no_grad = taps, no_grad
        self._outputs = None if x is None else self(x)

    @property
    def outputs(self) -> Outputs:
        if self._outputs is None:
            raise RuntimeError("this phase does not run this network")
        return self._outputs

    def __call__(self, x: Tensor) -> Outputs:
        with torch.no_grad() if self._no_grad else contextlib.nullcontext():
            return self.network(x, self._taps)


class Scene:
    """A method among small networks: resnet8 learns, resnet20 teaches, another resnet8 is the peer, if not told otherwise.

    ``faults`` are the method's own objections; with any there is no ``method``. ``phase`` is None where the knobs have none
    of that name.
    """

    def __init__(
        self, key: str, knobs: dict[str, Any], phase: str = "main", *, size: int = 16, student: str = "resnet8",
        teacher: str = "resnet20",
    ) -> None:  # fmt: skip
        self.entry: Entry = methods.get(key)
        card = self.entry.card
        torch.manual_seed(11)
        self.student = models.build(student, CLASSES, size)
        self.peers = {"peer1": models.build(student, CLASSES, size)} if card.peers else {}
        taught = card.teacher_mode != "none"
        self.teacher = models.build(student if card.chain else teacher, CLASSES, size) if taught else None
        if self.teacher is not None and card.teacher_mode != "trained":
            self.teacher.eval().requires_grad_(False)
        self.x = torch.randn(BATCH, 3, size, size)
        labels, index = torch.arange(64) % CLASSES, torch.arange(BATCH) * 3
        self.batch = Batch(self.x, labels[index], index)
        if "views" in card.needs:
            self.batch.views = (self.x.flip(3),)
        info = DataInfo("fake", 64, CLASSES, size, labels, (-2.0,) * 3, (2.0,) * 3)
        infos = {name: n.info for name, n in self.peers.items()}
        params = self.entry.params(**knobs)
        teacher_info = self.teacher.info if self.teacher is not None else None
        self.faults = self.entry.method.problems(params, self.student.info, teacher_info)
        if not self.faults:
            self.method: Method = self.entry.method(params, self.student.info, teacher_info, infos, info)
            self.phases = self.method.phases(params)
            self.phase = next((p for p in self.phases if p.name == phase), None)
            self._as_built = copy.deepcopy(self.method.state_dict())

    def terms(self, order: Tensor | None = None, *, bf16: bool = False) -> dict[str, Tensor]:
        """Run the networks of the phase on the batch (in ``order``) and return the terms of the method as it was built."""
        self.method.load_state_dict(self._as_built)
        order = torch.arange(BATCH) if order is None else order
        b = self.batch
        batch = Batch(b.x[order], b.y[order], b.index[order], tuple(v[order] for v in b.views))
        batch.x.requires_grad_("input_gradients" in self.entry.card.needs)
        with torch.autocast("cpu", torch.bfloat16, enabled=bf16):
            student = self._view(self.student, "student", batch.x)
            student.peers = {name: self._view(peer, "peers", batch.x) for name, peer in self.peers.items()}
            teacher = self._view(self.teacher, "teacher", batch.x) if self.teacher is not None else None
            progress = Progress(self.phase.name, 1, 4, 2, 5, torch.Generator().manual_seed(3))
            return self.method.loss(student, teacher, batch, progress)

    def _view(self, network: Network, side: str, x: Tensor) -> FakeView:
        taps = frozenset(self.entry.card.needs) & {"logits", "embedding", "stages", "preacts", "stem", "blocks"}
        still = side == "teacher" and self.entry.card.teacher_mode == "frozen"
        return FakeView(network, taps, x if side in self.phase.runs else None, no_grad=still)

    def trained(self) -> dict[str, nn.Module]:
        """Return what the phase's optimiser updates, by the name the phase uses."""
        found: dict[str, nn.Module] = {}
        for name in self.phase.trains:
            if name.startswith("method"):
                found[name] = self.method.get_submodule(name.removeprefix("method").removeprefix("."))
            elif name == "peers":
                found |= self.peers
            elif name == "teacher" and self.teacher is not None:
                found[name] = self.teacher
            elif name == "student":
                found[name] = self.student
        return found


class Maps:
    """A method on given float64 maps of both networks instead of networks: what its term makes of its losses.

    ``maps_s``, ``maps_t``: per stage ``(B, C, H, W)``, as maps and as pre-activations; ``stems``: the two stems;
    ``norms``: weight and bias of the teacher's BatchNorm per stage. Logits are zeros, so the label term is log 10.
    """

    def __init__(
        self, key: str, knobs: dict[str, Any], maps_s: list[Tensor], maps_t: list[Tensor], *,
        stems: tuple[Tensor, Tensor] | None = None, norms: list[tuple[Tensor, Tensor]] | None = None,
    ) -> None:  # fmt: skip
        torch.manual_seed(11)
        entry = methods.get(key)
        self.student, self.teacher = (
            _showing(maps, stems[side] if stems else maps[0], norms or [], "student" if side == 0 else "teacher")
            for side, maps in enumerate((maps_s, maps_t))
        )
        data = DataInfo("fake", 64, CLASSES, 16, torch.arange(64) % CLASSES, (-2.0,) * 3, (2.0,) * 3)
        method = entry.method(entry.params(**knobs), self.student.info, self.teacher.info, {}, data)
        self.method: Method = method.double()
        images = len(maps_s[0])
        self.batch = Batch(torch.zeros(images, 3, 16, 16), torch.arange(images) % CLASSES, torch.arange(images))

    def terms(self, phase: str = "main", epoch: int = 0, epochs: int = 4) -> dict[str, Tensor]:
        """Return the method's terms in the first step of ``epoch``."""
        progress = Progress(phase, epoch, epochs, 0, 5, torch.Generator().manual_seed(3))
        return self.method.loss(self.student, self.teacher, self.batch, progress)


def _showing(maps: list[Tensor], stem: Tensor, norms: list[tuple[Tensor, Tensor]], name: str) -> Any:
    shapes = tuple(tuple(m.shape[1:]) for m in maps)
    info = NetInfo(name, CLASSES, 16, 1, 1, shapes[-1][0], shapes, tuple(stem.shape[1:]), shapes, bool(norms))
    logits = torch.zeros(len(stem), CLASSES, dtype=stem.dtype)
    outputs = Outputs(logits, maps[-1].mean((2, 3)), tuple(maps), tuple(maps), stem, tuple(maps))
    return SimpleNamespace(info=info, outputs=outputs, norms=tuple(norms), peers={})


def gradients(module: nn.Module) -> float:
    """Return the sum of the absolute gradients of a module's parameters."""
    return sum(float(p.grad.abs().sum()) for p in module.parameters() if p.grad is not None)
