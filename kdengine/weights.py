"""Weight files, ours and those of other codes: read without running what is in them, and brought under our names.

A file of another code may call its modules by other names in another order. It is taken only where names, numbers and
shapes leave one way to read it (``renamed``); its order counts for nothing. Everything else is refused.

Reads: .safetensors, and torch's files with ``weights_only=True``. Writes: files for other codes, where it is told to.
Never: a pickle that holds more than tensors and plain values.
"""

from __future__ import annotations

import io
import pickle  # noqa: TID251 (for the name of the error that torch raises)
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import safetensors
import safetensors.torch
import torch
from torch import Tensor

from kdengine.durable import write_aside
from kdengine.errors import Problem, RunFailed

TORCH_SUFFIXES = (".pt", ".pth", ".tar", ".ckpt", ".th")
SUFFIXES = (".safetensors", *TORCH_SUFFIXES)
ALLOWED = "a .safetensors file, or a .pt, .pth, .tar, .ckpt or .th file of torch"
INSIDE = ("state_dict", "net", "model", "snet")  # under which name other codes keep the state dict of their (student) network
COUNTER = "num_batches_tracked"  # of BatchNorm; nothing here depends on it, and old files lack it

Weights = dict[str, Tensor]
Tree = dict[str | int, Any]  # modules by name or number; below them tensors by name


class Ambiguous(Exception):
    """The names of two networks cannot be brought together in exactly one way."""


def read(file: Path, what: str) -> Weights:
    """Return the tensors of ``file`` by their names there, without a ``module.`` that all of them begin with.

    A torch file is a plain state dict, a dict that holds one (``state_dict``, ``net``, ``model``, ``snet``), or a checkpoint
    of ours, whose student is taken.

    Raises:
        RunFailed: no such file, a file of another kind, or one that is not safe to open; ``what`` names the field.
    """
    try:
        found: Any = safetensors.torch.load_file(file) if file.suffix == ".safetensors" else _from_torch(file)
    except pickle.UnpicklingError as error:
        raise RunFailed(_unsafe(file, what, str(error))) from error
    except (OSError, safetensors.SafetensorError, RuntimeError, EOFError, ValueError, KeyError) as error:
        said = getattr(error, "strerror", None) or (str(error).splitlines() or [""])[0][:120] or type(error).__name__
        raise RunFailed(Problem(what, f"{file.name} ({said})", ALLOWED,
                                "check the file, or leave it out and let the network be trained")) from error  # fmt: skip
    weights = _state_dict(found)
    if weights is None:
        raise RunFailed(Problem(what, f"{file.name}, in which there is no state dict",
                                f"a state dict, or a dict with one under {', '.join(INSIDE)}",
                                "save the state dict of the network: torch.save(network.state_dict(), FILE)"))  # fmt: skip
    prefixed = all(name.startswith("module.") for name in weights)
    return {name.removeprefix("module.") if prefixed else name: tensor for name, tensor in weights.items()}


def fitted(own: Mapping[str, Tensor], weights: Weights, file: Path, what: str) -> Weights:
    """Return ``weights`` under the names of ``own``, a network's state dict, all of them and with equal shapes.

    Raises:
        RunFailed: they belong to another network, or their names leave it open which is which; says the first differences.
    """
    names = {name: name for name in own}
    if _shapes(own) != _shapes(weights):
        try:
            names = renamed(own, weights)
        except Ambiguous as error:
            raise RunFailed(Problem(what, f"{file.name}, whose weights do not fit: {_differences(own, weights, str(error))}",
                                    "weights of the very same model, options and number of classes",
                                    "choose the model that these weights belong to")) from error  # fmt: skip
    return {name: weights[names[name]] if names.get(name) in weights else own[name] for name in own}


def renamed(own: Mapping[str, Tensor], weights: Mapping[str, Tensor]) -> dict[str, str]:
    """Return our name -> name in the file, for a network that is the same module by module and tensor by tensor.

    Names are read as a tree, ``layer1.0.conv2`` as layer, 1, 0, conv, 2. Numbers go with numbers in rising order, equal
    words with equal words; a word that differs (``ds`` for ``downsample``) only with the one module beside it that has the
    same shapes inside. Tensors keep their own name (weight, bias, running_mean, ...).

    Raises:
        Ambiguous: there is no such way, or more than one.
    """
    ours, theirs, pairs = _tree(own), _tree(weights), dict[str, str]()
    if _content(ours) != _content(theirs):
        raise Ambiguous("their shapes or their numbers are not arranged alike")
    _pair(ours, theirs, pairs, "the network")
    return pairs


def save_for_others(weights: Mapping[str, Tensor], file: Path) -> None:
    """Write ``weights`` as a torch file with the state dict under ``net``, as other codes read it, aside and renamed."""
    held = io.BytesIO()
    torch.save({"net": {name: tensor.detach().cpu().contiguous() for name, tensor in weights.items()}}, held)
    write_aside(file, held.getvalue())


def _from_torch(file: Path) -> Any:
    if file.suffix not in TORCH_SUFFIXES:
        raise ValueError(f"its name ends in {file.suffix or 'nothing'}")
    return torch.load(file, map_location="cpu", weights_only=True)


def _unsafe(file: Path, what: str, said: str) -> Problem:
    """Say what keeps torch from opening the file; a file that is no torch file at all ends here, too."""
    culprit = re.search(r"(?:GLOBAL|class|global) (\w+(?:\.\w+)+)", said)
    if culprit is None:
        return Problem(what, f"{file.name}, which is no file of torch", ALLOWED, "check the file")
    advice = "where you trust it, open it yourself with weights_only=False and save its state dict alone as a new file"
    return Problem(what, f"{file.name}, which holds Python objects ({culprit[1]}) that could run code when it is opened",
                   "tensors, numbers and texts alone", advice)  # fmt: skip


def _state_dict(found: Any) -> Weights | None:
    if isinstance(found, Mapping) and isinstance(found.get("modules"), Mapping):
        found = found["modules"].get("student")  # a checkpoint of ours
    for name in INSIDE:
        if isinstance(found, Mapping) and isinstance(found.get(name), Mapping):
            found = found[name]
            break
    is_one = isinstance(found, Mapping) and found and all(isinstance(tensor, Tensor) for tensor in found.values())
    return {str(name): tensor for name, tensor in found.items()} if is_one else None


def _shapes(weights: Mapping[str, Tensor]) -> dict[str, tuple[int, ...]]:
    return {name: tuple(tensor.shape) for name, tensor in weights.items() if not name.endswith(COUNTER)}


def _differences(own: Mapping[str, Tensor], weights: Mapping[str, Tensor], reason: str) -> str:
    ours, theirs = _shapes(own), _shapes(weights)
    missing, more = [n for n in ours if n not in theirs], [n for n in theirs if n not in ours]
    said = [f"{name} is {theirs[name]} there, {shape} here" for name, shape in ours.items() if theirs.get(name, shape) != shape]
    said += [f"{name} is missing there" for name in missing] if len(missing) < len(ours) else []
    said += [f"{name} is not known here" for name in more] if len(missing) < len(ours) else []
    more_said = f" (and {len(said) - 3} more)" if len(said) > 3 else ""
    return "; ".join(said[:3]) + more_said if said else f"{len(theirs)} tensors there, {len(ours)} here; {reason}"


# -- names as trees ------------------------------------------------------------------------------------------------------


def _tree(weights: Mapping[str, Tensor]) -> Tree:
    """Return the names as a tree; a leaf is (name, shape). A module with one module inside and nothing else is left out."""
    root: Tree = {}
    for name, shape in _shapes(weights).items():
        *path, last = name.split(".")
        node = root
        for part in path:
            for token in re.findall(r"\d+|\D+", part):
                node = node.setdefault(int(token) if token.isdigit() else token, {})
        node[last] = (name, shape)
    return _without_single_steps(root)


def _without_single_steps(node: Tree) -> Tree:
    inner = {key: _without_single_steps(child) if isinstance(child, dict) else child for key, child in node.items()}
    only = next(iter(inner.values())) if len(inner) == 1 else None
    return only if isinstance(only, dict) else inner


def _content(node: Any) -> Any:
    """Return what is inside, without the words: equal for two modules that could stand for one another."""
    if not isinstance(node, dict):
        return node[1]
    leaves = {key: child[1] for key, child in node.items() if not isinstance(child, dict)}
    numbers = [_content(node[key]) for key in sorted(key for key in node if isinstance(key, int))]
    words = [_content(child) for key, child in node.items() if isinstance(child, dict) and isinstance(key, str)]
    return (sorted(leaves.items()), numbers, sorted(words, key=repr))


def _pair(own: Tree, theirs: Tree, pairs: dict[str, str], where: str) -> None:
    """Note which name goes with which, for two modules of equal content."""
    ours, others = ({key: child for key, child in node.items() if isinstance(child, dict)} for node in (own, theirs))
    numbers = zip(*(sorted(key for key in node if isinstance(key, int)) for node in (ours, others)), strict=True)
    for key, other in (*numbers, *_words(ours, others, where).items()):
        _pair(ours[key], others[other], pairs, f"{where}.{key}")
    for key, leaf in own.items():
        if not isinstance(leaf, dict):
            pairs[leaf[0]] = theirs[key][0]


def _words(ours: Tree, others: Tree, where: str) -> dict[str, str]:
    """Pair modules with equal words and equal content, then each of the rest with the only one of its content."""
    left, right = ({key: _content(child) for key, child in node.items() if isinstance(key, str)} for node in (ours, others))
    matched = {key: key for key, content in left.items() if right.get(key) == content}
    left, right = ({key: content for key, content in node.items() if key not in matched} for node in (left, right))
    for key, content in left.items():
        fits = sorted(other for other in right if right[other] == content)
        if len(fits) != 1 or list(left.values()).count(content) != 1:
            raise Ambiguous(f"{key} of {where} could be any of {', '.join(fits)}")
        matched[key] = fits[0]
    return matched
