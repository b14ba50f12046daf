"""The catalogue of networks: finds the family files beside it, describes and builds their models.

Reads: the Python files of this package. Writes: nothing. Never: a method, a dataset, pre-trained weights.
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

from kdengine.errors import KdError, SpecError, UnknownKey, unknown
from kdengine.models.contract import TAPS, ModelCard, NetInfo, Network, Options, Outputs
from kdengine.spec import problems_of

__all__ = ["build", "cards", "info", "keys", "options_of"]

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
    """Return the keys of all models."""
    return tuple(cards())


def card_of(key: str) -> ModelCard:
    """Return one model's card; raises ``UnknownKey`` with the nearest name."""
    known = cards()
    if key not in known:
        raise UnknownKey(unknown("model", key, list(known)))
    return known[key]


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


def build(key: str, classes: int, image_size: int = 32, options: Mapping[str, Any] | None = None) -> Network:
    """Return a freshly initialised network in training mode, with ``.info`` set. Draws from torch's global generator.

    Raises:
        UnknownKey: no such model.
        SpecError: a faulty option.
    """
    chosen = options_of(key, options)
    network = card_of(key).build(classes, image_size, chosen)
    network.info = _info(key, classes, image_size, chosen)
    return network


def info(key: str, classes: int, image_size: int = 32, options: Mapping[str, Any] | None = None) -> NetInfo:
    """Return what ``build`` would put into ``.info``, without memory for weights and without touching any generator."""
    return _info(key, classes, image_size, options_of(key, options))


@functools.cache
def _info(key: str, classes: int, image_size: int, options: Options) -> NetInfo:
    with torch.random.fork_rng(devices=[]), torch.device("meta"):
        network = card_of(key).build(classes, image_size, options).eval()
        outputs, macs = _probe(network, torch.empty(1, 3, image_size, image_size))
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
        norms=bool(network.stage_norms()),
    )


def _probe(network: Network, x: Tensor) -> tuple[Outputs, int]:
    """Run ``network`` on one image; return all taps and the multiply-adds of its convolutions and linear layers."""
    total = 0

    def count(module: nn.Module, _: Any, out: Tensor) -> None:
        nonlocal total
        weight = module.weight
        assert isinstance(weight, Tensor)
        positions = out[0, 0].numel() if out.dim() == 4 else 1  # a linear layer has one position
        total += positions * weight.numel()

    handles = [m.register_forward_hook(count) for m in network.modules() if isinstance(m, nn.Conv2d | nn.Linear)]
    with torch.no_grad():
        outputs = network(x, ALL_TAPS)
    for handle in handles:
        handle.remove()
    return outputs, total


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
