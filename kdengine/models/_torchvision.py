"""Torchvision's own classification networks, for images of real size, under the key ``torchvision:<name>``.

They are torchvision's modules with fresh weights (nothing is downloaded), their dropout included and auxiliary heads off;
nothing is computed in place, so that a tapped map stays as it was. Taps are taken by module path, with hooks that live for
one forward pass: stages as the option says, or else the last map at each resolution before it shrinks, found by running the
network once on the meta device. For a ResNet these are layer1 to layer4. A vision transformer keeps one resolution; its
stages are four equal parts of its blocks, with the tokens put back in their places as a map and the class token left out.

The stem is the first layers' map; the embedding is the input of the last linear layer, or the pooled last map where there is
none. Preacts and blocks are the stages again: where a module's last activation is cannot be told from outside.

Torchvision is loaded only when such a network is asked for. Reads: torchvision's source files, for the names. Writes: nothing.
Never: a method, a dataset, a download.
"""

from __future__ import annotations

import functools
import importlib.util
import math
import re
from collections.abc import Iterator
from contextlib import nullcontext
from dataclasses import dataclass, field
from difflib import get_close_matches
from functools import partial
from itertools import pairwise
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from pydantic import Field
from torch import Tensor, nn
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.overrides import TorchFunctionMode

from kdengine.models import contract
from kdengine.models.contract import ModelCard, Network, Outputs, without_norms

PREFIX = "torchvision:"
SOURCE = "torchvision.models, https://docs.pytorch.org/vision/stable/models.html#classification"
REGISTERED = re.compile(r"^@register_model\(\)\n(?:@.*\n)*def (\w+)\(", re.MULTILINE)
HEADS = {"classifier", "fc", "head", "heads"}  # what torchvision calls the part that makes logits of maps
PASSIVE = (nn.MaxPool2d, nn.AvgPool2d, nn.AdaptiveAvgPool2d, nn.Dropout, nn.Identity)  # never the module a stage ends with
PARTS = 4  # stages of a network that keeps one resolution
SIZES = (16, 32, 48, 64, 80, 96, 112, 128, 160, 192, 224, 256, 299, 384, 448, 512)  # pixels, tried where others do not work


class Options(contract.Options):
    """Where the maps are taken."""

    stages: str = Field(
        "",
        max_length=1000,
        description="module paths whose outputs are the stages, such as layer2,layer3; empty = chosen automatically",
    )


@dataclass(eq=False, slots=True)
class Call:
    """One module's part in a forward pass: the sides of the maps that went in and came out (0 = no map)."""

    path: str
    module: nn.Module
    entered: int
    left: int = 0
    swapped: bool = False
    inner: list[Call] = field(default_factory=list)


@dataclass(frozen=True, slots=True)
class Plan:
    """Where a network is tapped. ``embedding``: its last linear layer, "" = none; ``maps``: every path with a map, and
    whether its channels come last; ``offered``: the paths that stages are chosen from."""

    stem: str
    stages: tuple[str, ...]
    embedding: str
    maps: dict[str, bool]
    offered: tuple[str, ...]


class Torchvision(Network):
    """A network of torchvision with taps. ``model`` is torchvision's module."""

    def __init__(self, model: nn.Module, plan: Plan, stages: tuple[str, ...]) -> None:
        super().__init__()
        self.model = model
        self.stem, self.stages, self.embedding = plan.stem, stages, plan.embedding
        self.swapped = frozenset(path for path in (plan.stem, *stages) if plan.maps[path])
        for path, module in list(model.named_modules()):
            if getattr(module, "inplace", False):
                module.inplace = False
            if isinstance(module, nn.Hardsigmoid):
                model.set_submodule(path, Hardsigmoid())

    def forward(self, x: Tensor, taps: frozenset[str] = frozenset()) -> Outputs:
        """Map images ``(B, 3, H, W)`` of the size it was built for to logits ``(B, K)`` and the taps asked for."""
        if not taps:
            return Outputs(self._run(x))
        found: dict[str, Tensor] = {}
        hooks = [
            self.model.get_submodule(path).register_forward_hook(partial(_keep, found, path, path in self.swapped))
            for path in {self.stem, *self.stages}
        ]
        if self.embedding:
            hooks.append(self.model.get_submodule(self.embedding).register_forward_pre_hook(partial(_keep_input, found)))
        try:
            logits = self._run(x)
        finally:
            for hook in hooks:
                hook.remove()
        stages = [found[path] for path in self.stages]
        embedding = found[""] if self.embedding else F.adaptive_avg_pool2d(stages[-1], 1).flatten(1)
        stem = found[self.stem]
        return Outputs.of(taps, logits, embedding=embedding, stages=stages, preacts=stages, stem=stem, blocks=stages)

    def foldable(self) -> list[tuple[str, str]]:
        """Return the pairs that are neighbours in a plain sequence, where the BatchNorm surely takes all that comes out."""
        tapped = {f"model.{path}" for path in (self.stem, *self.stages)}
        pairs = []
        for name, module in self.named_modules():
            if isinstance(module, nn.Sequential) and type(module).forward is nn.Sequential.forward:
                for (conv_name, conv), (norm_name, norm) in pairwise(module.named_children()):
                    if isinstance(conv, nn.Conv2d) and isinstance(norm, nn.BatchNorm2d):
                        pairs.append((f"{name}.{conv_name}", f"{name}.{norm_name}"))
        return [pair for pair in pairs if pair[0] not in tapped]

    def _run(self, x: Tensor) -> Tensor:
        """Return the logits. Where gradients by images are asked for, attention is computed in the way that has a second one."""
        with sdpa_kernel(SDPBackend.MATH) if x.requires_grad else nullcontext():
            logits: Tensor = self.model(x)
        return logits


class Hardsigmoid(nn.Module):
    """What PyTorch calls by that name, in pieces that have a second derivative, which methods of gradients need."""

    def forward(self, x: Tensor) -> Tensor:
        """Return ``clip(x / 6 + 1 / 2, 0, 1)``."""
        return F.relu6(x + 3) / 6


@functools.cache
def names() -> tuple[str, ...]:
    """Return the names of torchvision's classification networks, read from its source files: loading it takes seconds."""
    spec = importlib.util.find_spec("torchvision")
    folders = (spec.submodule_search_locations or []) if spec else []
    files = [file for folder in folders for file in sorted((Path(folder) / "models").glob("*.py"))]
    found = {name for file in files for name in REGISTERED.findall(file.read_text(encoding="utf-8"))}
    return tuple(sorted(found, key=lambda name: re.sub(r"\d+", lambda digits: digits[0].zfill(3), name)))  # 50 before 101


@functools.cache
def card(name: str) -> ModelCard:
    """Return the card of the network that torchvision calls ``name``."""
    return ModelCard(
        key=PREFIX + name,
        title=f"{name} of torchvision",
        family="torchvision",
        year=0,
        source=SOURCE,
        depth=0,
        build=partial(_build, name=name),
        options=Options,
        problems=partial(_problems, name=name),
    )


def _build(classes: int, image_size: int, options: Options, *, name: str) -> Torchvision:
    plan = _plan(name, image_size)
    if isinstance(plan, str):
        raise ValueError(plan)
    return Torchvision(_model(name, classes, image_size), plan, _paths(options) or plan.stages)


def _problems(image_size: int, options: Options, *, name: str) -> list[tuple[str, str, str, str]]:
    plan = _plan(name, image_size)
    if isinstance(plan, str):
        near_first = sorted(SIZES, key=lambda size: abs(size - image_size))
        works = next((size for size in near_first if not isinstance(_plan(name, size), str)), None)
        given = f"{image_size} pixels, on which {name} cannot work ({plan})"
        if works is None:
            return [("image_size", given, "no size that was tried", "choose another network")]
        return [("image_size", given, f"for example {works} pixels", "choose that, or another network")]
    found = []
    for path in _paths(options):
        if path not in plan.maps:
            near = get_close_matches(path, plan.maps, n=1)
            advice = f"did you mean {near[0]!r}?" if near else "choose some of them, or leave it empty"
            found.append(("stages", f"{path!r}, where {name} has no map", ", ".join(plan.offered), advice))
    return found


def _paths(options: Options) -> tuple[str, ...]:
    return tuple(path.strip() for path in options.stages.split(",") if path.strip())


def _model(name: str, classes: int, image_size: int) -> nn.Module:
    from torchvision.models import get_model

    more: dict[str, Any] = {}
    if name in ("googlenet", "inception_v3"):
        more = {"aux_logits": False, "init_weights": True}
    elif name.startswith("vit_"):
        more = {"image_size": image_size}
    elif name.startswith("maxvit_"):
        more = {"input_size": (image_size, image_size)}
    with _Counting() if name.startswith("regnet_") else nullcontext():
        model: nn.Module = get_model(name, weights=None, num_classes=classes, **more)
    return model


class _Counting(TorchFunctionMode):
    """Keeps such tensors on the CPU: a RegNet computes its widths with them, and on the meta device they have no values."""

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        where = {"device": "cpu"} if func in (torch.arange, torch.tensor) else {}
        return func(*args, **(kwargs or {}) | where)


@functools.cache
def _plan(name: str, image_size: int) -> Plan | str:
    """Return where the network is tapped at this image size; if it cannot work there, what torch says of it."""
    try:
        with torch.random.fork_rng(devices=[]), torch.device("meta"):
            model = without_norms(_model(name, 10, image_size).eval())
        calls = _watch(model, torch.empty(1, 3, image_size, image_size, device="meta"), name)
    except (RuntimeError, ValueError, AssertionError) as error:
        return (str(error) or type(error).__name__).splitlines()[0][:200]
    spine = [call for call in _spine(calls[0]) if not isinstance(call.module, PASSIVE)]
    linear = [call.path for call in calls if isinstance(call.module, nn.Linear) and call.path.split(".")[0] in HEADS]
    stem, ends = _ends(spine)
    blocks = [call for call in calls if call.path.startswith("encoder.layers.") and call.path.count(".") == 2]
    if len(blocks) >= PARTS:  # a transformer of one resolution
        ends, spine = [blocks[(part + 1) * len(blocks) // PARTS - 1] for part in range(PARTS)], blocks
    return Plan(
        stem=stem.path,
        stages=tuple(call.path for call in ends),
        embedding=linear[-1] if linear else "",
        maps={call.path: call.swapped for call in calls if call.path and call.left},
        offered=tuple(call.path for call in spine),
    )


def _watch(model: nn.Module, x: Tensor, name: str) -> list[Call]:
    """Run the model once; return every call of a module, callers before those whom they call."""
    calls: list[Call] = []
    open_calls: list[Call] = []

    def enter(path: str, module: nn.Module, args: Any) -> None:
        call = Call(path, module, _side(args[0], name)[0] if args else 0)
        if open_calls:
            open_calls[-1].inner.append(call)
        open_calls.append(call)
        calls.append(call)

    def leave(module: nn.Module, args: Any, out: Any) -> None:
        call = open_calls.pop()
        call.left, call.swapped = _side(out, name)

    for path, module in model.named_modules():
        module.register_forward_pre_hook(partial(enter, path))
        module.register_forward_hook(leave)
    with torch.no_grad():
        model(x)
    return calls


def _side(value: Any, name: str) -> tuple[int, bool]:
    """Return the side of a square map and whether its channels come last; 0 for whatever is no map."""
    if not isinstance(value, Tensor) or value.dim() not in (3, 4) or len(value) != 1:
        return 0, False
    if value.dim() == 3:
        return math.isqrt(value.shape[1]), False
    _, first, second, third = value.shape
    if first == second and (second != third or name.startswith("swin")):
        return first, True
    return (second, False) if second == third else (0, False)


def _spine(call: Call) -> Iterator[Call]:
    """Yield the calls that lead from image to last map one after another, each shrinking it by one step at most.

    One step is what a 3x3 convolution of stride 2 does, with or without padding.
    """
    if call.inner and (not call.left or call.entered > 2 * call.left + 2):
        for inner in call.inner:
            if call.path or inner.path not in HEADS:
                yield from _spine(inner)
    elif call.left:
        yield call


def _ends(spine: list[Call]) -> tuple[Call, list[Call]]:
    """Return the stem, and the last call at each resolution but the one where the stem itself is last.

    The stem is the first call that holds others, or the run of plain layers at the first resolution.
    """
    groups: list[list[Call]] = []
    for call in spine:
        if not groups or 3 * call.left <= 2 * groups[-1][0].left:
            groups.append([])
        groups[-1].append(call)
    stem = spine[0]
    for call in groups[0]:
        if call.inner:
            break
        stem = call
    ends = [group[-1] for group in groups if group[-1] is not stem]
    return stem, ends or [stem]


def _keep(found: dict[str, Tensor], path: str, swapped: bool, module: nn.Module, args: Any, out: Tensor) -> Tensor:
    """Keep the map that a module gave, channels first; hand on what is made of that map, so that logits can be derived by it."""
    if out.dim() == 3:  # (B, tokens, C); the tokens of the image come last, in rows
        side = math.isqrt(out.shape[1])
        before, tokens = out[:, : -side * side], out[:, -side * side :]
        found[path] = tokens.transpose(1, 2).unflatten(2, (side, side))
        return torch.cat((before, found[path].flatten(2).transpose(1, 2)), 1)
    found[path] = out.permute(0, 3, 1, 2) if swapped else out
    return found[path].permute(0, 2, 3, 1) if swapped else out


def _keep_input(found: dict[str, Tensor], module: nn.Module, args: Any) -> None:
    found[""] = args[0]
