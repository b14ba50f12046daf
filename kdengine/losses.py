"""The pure losses of all methods under stable names: ``from kdengine.losses import kd, fitnet``.

Each takes tensors and gives a scalar tensor; float64 stays float64, anything below fp32 is computed in fp32.
Reads: the method files, through their catalogue. Writes: nothing. Never: networks, the loop.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from torch import Tensor

from kdengine import methods
from kdengine.errors import KdError, nearest

Loss = Callable[..., Tensor]


def by_method() -> dict[str, tuple[Loss, ...]]:
    """Return the pure losses of each method that has any, by its key."""
    return {key: entry.losses for key, entry in methods.entries().items() if entry.losses}


def by_name() -> dict[str, Loss]:
    """Return every pure loss by its function's name, sorted.

    Raises:
        KdError: two methods give different functions one name.
    """
    found: dict[str, Loss] = {}
    for key, losses in by_method().items():
        for loss in losses:
            if found.setdefault(loss.__name__, loss) is not loss:
                raise KdError.of(
                    f"a second loss {loss.__name__!r}, in method {key}", "one function per name", "rename one of them"
                )
    return dict(sorted(found.items()))


def __getattr__(name: str) -> Any:
    if name == "__all__":
        return list(by_name())
    if name.startswith("__"):  # Python asks modules for names of its own, such as __path__
        raise AttributeError(name)
    known = by_name()
    if name not in known:
        close = nearest(name, known)
        advice = f"did you mean {close!r}?" if close else f"there are: {', '.join(known)}"
        raise AttributeError(f"no loss {name!r} in kdengine.losses; {advice}")
    return known[name]


def __dir__() -> list[str]:
    return [*by_name(), "by_method", "by_name"]
