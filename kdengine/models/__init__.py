"""The catalogue of networks: finds the family files beside it, describes and builds their models.

Torchvision's networks are known by name too (``torchvision:resnet18``) but stand in no list of cards: they are many, and
torchvision is loaded only when one of them is looked at.

Reads: the Python files of this package, torchvision's for the names. Writes: nothing. Never: a method, a dataset,
pre-trained weights.
"""

from __future__ import annotations

import functools
import importlib
import pkgutil
from collections.abc import Mapping
from typing import Any

import torch
from pydantic import ValidationError
from torch import Tensor, nn

from kdengine.errors import KdError, Problem, SpecError, UnknownKey, unknown
from kdengine.models import _torchvision
from kdengine.models.contract import TAPS, ModelCard, NetInfo, Network, Options, Outputs, without_norms
from kdengine.spec import problems_of

__all__ = ["build", "cards", "info", "keys", "known", "options_of", "problems", "torchvision_names", "unknown_model"]

ALL_TAPS = frozenset(TAPS)


@functools.cache
def cards() -> dict[str, ModelCard]:
    """Return every model's card by key, in the order of the family files.

    Raises:
        KdError: a family file cannot be imported, has no ``MODELS``, or repeats a key; the message holds its path.
    """
    found: dict[str, ModelCard] = {}
    for module in pkgutil.iter_modules(__path__):
        if module.name.startswith("_") or module.name == "contract":
            continue
        for card in _family(module):
            if card.key in found:
                raise KdError.of(f"model {card.key!r} twice, again in {_path(module)}", "one card per key", "rename one of them")
            found[card.key] = card
    return found


def keys() -> tuple[str, ...]:
    """Return the keys of all models of our own."""
    return tuple(cards())


def torchvision_names() -> tuple[str, ...]:
    """Return the keys of torchvision's networks (``torchvision:resnet18``), without loading torchvision."""
    return tuple(_torchvision.PREFIX + name for name in _torchvision.names())


def known(key: str) -> bool:
    """Say whether there is a model of that key, of our own or torchvision's."""
    return key in cards() or key in torchvision_names()


def unknown_model(key: str, field: str = "model") -> Problem:
    """Describe an unknown model: lists those of its kind and suggests the nearest one."""
    if key.startswith(_torchvision.PREFIX):
        return unknown("model", key, torchvision_names(), field)
    theirs = _torchvision.PREFIX + key
    return unknown("model", key, keys(), field, f"or take {theirs!r}" if theirs in torchvision_names() else "")


def card_of(key: str) -> ModelCard:
    """Return one model's card; raises ``UnknownKey`` with the nearest name."""
    if key in cards():
        return cards()[key]
    if not known(key):
        raise UnknownKey(unknown_model(key))
    return _torchvision.card(key.removeprefix(_torchvision.PREFIX))


def options_of(key: str, options: Mapping[str, Any] | None = None, prefix: str = "") -> Options:
    """Return the model's options, checked and filled with defaults.

    Raises:
        UnknownKey: no such model.
        SpecError: one problem per faulty option, fields named ``<prefix><option>``.
    """
    kind = card_of(key).options
    try:
        return kind(**dict(options or {}))
    except ValidationError as error:
        raise SpecError(*problems_of(error, kind, prefix)) from None


def problems(key: str, image_size: int, options: Mapping[str, Any] | None = None, prefix: str = "") -> list[Problem]:
    """Return why this model cannot be built for images of that size with these options; empty = it can.

    Options' fields are named ``<prefix><option>``.

    Raises:
        UnknownKey: no such model.
    """
    try:
        chosen = options_of(key, options, prefix)
    except SpecError as error:
        return list(error.problems)
    found = card_of(key).problems(image_size, chosen)
    return [Problem(prefix + name if name in type(chosen).model_fields else name, *rest) for name, *rest in found]


def build(key: str, classes: int, image_size: int = 32, options: Mapping[str, Any] | None = None) -> Network:
    """Return a freshly initialised network in training mode, with ``.info`` set. Draws from torch's global generator.

    Raises:
        UnknownKey: no such model.
        SpecError: a faulty option, or an image size that the model cannot work on.
    """
    described = info(key, classes, image_size, options)
    network = card_of(key).build(classes, image_size, options_of(key, options))
    network.info = described
    return network


def info(key: str, classes: int, image_size: int = 32, options: Mapping[str, Any] | None = None) -> NetInfo:
    """Return what ``build`` would put into ``.info``, without memory for weights and without touching any generator.

    Raises: as ``build``.
    """
    faults = problems(key, image_size, options)
    if faults:
        raise SpecError(*faults)
    return _info(key, classes, image_size, options_of(key, options))


@functools.cache
def _info(key: str, classes: int, image_size: int, options: Options) -> NetInfo:
    with torch.random.fork_rng(devices=[]), torch.device("meta"):
        network = card_of(key).build(classes, image_size, options).eval()
    norms = bool(network.stage_norms())
    outputs, macs = _probe(without_norms(network), torch.empty(1, 3, image_size, image_size, device="meta"))
    assert outputs.embedding is not None and outputs.stages and outputs.stem is not None and outputs.blocks
    return NetInfo(
        model=key,
        classes=classes,
        image_size=image_size,
        params=sum(p.numel() for p in network.parameters()),
        macs=macs,
        embedding=outputs.embedding.shape[1],
        stages=tuple(_shape(m) for m in outputs.stages),
        stem=_shape(outputs.stem),
        blocks=tuple(_shape(m) for m in outputs.blocks),
        norms=norms,
    )


def _probe(network: Network, x: Tensor) -> tuple[Outputs, int]:
    """Run ``network`` on one image; return all taps and the multiply-adds of its convolutions and linear layers."""
    layers = {module: 0 for module in network.modules() if isinstance(module, nn.Conv2d | nn.Linear)}

    def count(module: nn.Module, _: Any, out: Tensor) -> None:
        weight = module.weight
        layers[module] += out.numel() // weight.shape[0] * weight.numel()  # positions times weights

    handles = [layer.register_forward_hook(count) for layer in layers]
    with torch.no_grad():
        outputs = network(x, ALL_TAPS)
    for handle in handles:
        handle.remove()
    if all(layers.values()):
        return outputs, sum(layers.values())
    return outputs, _macs_of_operations(network, x)


def _macs_of_operations(network: Network, x: Tensor) -> int:
    """Count the same multiply-adds operation by operation: attention takes the weights of its layers without calling them."""
    from torch.utils.flop_counter import FlopCounterMode

    with FlopCounterMode(display=False) as counter, torch.no_grad():
        network(x)
    aten = torch.ops.aten
    done = counter.get_flop_counts()["Global"]
    return sum(done.get(kind, 0) for kind in (aten.convolution, aten.mm, aten.addmm)) // 2


def _shape(tensor: Tensor) -> tuple[int, int, int]:
    _, channels, height, width = tensor.shape
    return channels, height, width


def _family(module: pkgutil.ModuleInfo) -> tuple[ModelCard, ...]:
    try:
        models = importlib.import_module(f"{__name__}.{module.name}").MODELS
    except Exception as error:  # whatever a file of a user's raises, the answer must name the file
        raise KdError.of(
            f"{_path(module)}: {type(error).__name__}: {error}",
            "a file that imports and defines MODELS, a tuple of ModelCard",
            "correct the file or move it out of the folder",
        ) from error
    return tuple(models)


def _path(module: pkgutil.ModuleInfo) -> str:
    spec = module.module_finder.find_spec(module.name, None)
    return str(spec.origin) if spec else module.name
