"""The catalogue of methods: finds the method files beside it and checks that each offers what the contract asks.

Reads: the Python files of this package. Writes: nothing. Never: the name of a method.
"""

from __future__ import annotations

import functools
import importlib
import importlib.util
import inspect
import pkgutil
from types import ModuleType

from kdengine.errors import KdError, UnknownKey, unknown
from kdengine.methods.contract import Card, Entry, Method, Params

__all__ = ["Entry", "entries", "get", "keys"]


@functools.cache
def entries() -> dict[str, Entry]:
    """Return every method by its key, which is its file's name, sorted.

    Raises:
        KdError: a method file cannot be imported or lacks a part; the message holds its path.
    """
    names = sorted({m.name for m in pkgutil.iter_modules(__path__)} - {"contract"})
    return {name: _entry(name) for name in names if not name.startswith("_")}


def get(key: str) -> Entry:
    """Return one method; raises ``UnknownKey`` with the nearest name."""
    known = entries()
    if key not in known:
        raise UnknownKey(unknown("method", key, list(known)))
    return known[key]


def keys() -> tuple[str, ...]:
    """Return the keys of all methods."""
    return tuple(entries())


def _entry(name: str) -> Entry:
    found = importlib.util.find_spec(f"{__name__}.{name}")
    file = str(found.origin) if found else name
    try:
        module = importlib.import_module(f"{__name__}.{name}")
    except Exception as error:  # whatever a file of a user's raises, the answer must name the file
        raise _broken(file, f"{type(error).__name__}: {error}") from error
    faults = _faults(name, module)
    if faults:
        raise _broken(file, "; ".join(faults))
    method = _classes(module)[0]
    method.CARD, method.Params = module.CARD, module.Params  # so that a method file need not say it twice
    return Entry(module.CARD, module.Params, method, tuple(module.LOSSES), inspect.getdoc(module) or "", file)


def _faults(name: str, module: ModuleType) -> list[str]:
    faults = [f"no {part}" for part in ("CARD", "Params", "LOSSES") if not hasattr(module, part)]
    card, params = getattr(module, "CARD", None), getattr(module, "Params", None)
    if isinstance(card, Card) and card.key != name:
        faults.append(f"CARD.key is {card.key!r}")
    if card is not None and not isinstance(card, Card):
        faults.append("CARD is not a Card")
    if params is not None and not (isinstance(params, type) and issubclass(params, Params) and params is not Params):
        faults.append("Params is not a class of its own, derived from contract.Params")
    if len(_classes(module)) != 1:
        faults.append(f"{len(_classes(module))} subclasses of Method")
    return faults


def _classes(module: ModuleType) -> list[type[Method]]:
    """Return the module's own public method classes (a private base class may stand beside the one that counts)."""
    mine = [c for _, c in inspect.getmembers(module, inspect.isclass) if c.__module__ == module.__name__]
    return [c for c in mine if issubclass(c, Method) and not c.__name__.startswith("_")]


def _broken(file: str, given: str) -> KdError:
    return KdError.of(
        f"{file}: {given}",
        "a file with CARD (key = file name), Params, LOSSES and one subclass of Method",
        "correct the file, or move it out of the folder",
    )
