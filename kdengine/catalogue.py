"""The methods by name, family and year, read from their source files without loading torch.

Reads: the ``CARD`` of every file of ``kdengine/methods``. Writes: nothing. Never: torch; a method's code is not run.
"""

from __future__ import annotations

import ast
import functools
from dataclasses import dataclass
from pathlib import Path
from typing import Any

FOLDER = Path(__file__).resolve().parent / "methods"
_SHOWN = ("title", "family", "year", "one_line", "peers", "chain")


@dataclass(frozen=True, slots=True)
class Label:
    """How a method is called and where it belongs; the words and switches of its card that need no torch."""

    key: str
    title: str
    family: str = "plain"
    year: int = 0
    one_line: str = ""
    peers: bool = False
    chain: bool = False


@functools.cache
def labels() -> dict[str, Label]:
    """Return the label of every method by key, in the order of family, year, key. A file without a card is left out."""
    found = []
    for path in sorted(FOLDER.glob("[a-z]*.py")):
        values = _card_of(path)
        if values is not None:
            found.append(Label(key=path.stem, **({"title": path.stem} | values)))
    return {label.key: label for label in sorted(found, key=lambda m: (m.family, m.year, m.key))}


def label_of(key: str) -> Label:
    """Return the label of a method; one that is gone from the folder keeps its key as its title."""
    return labels().get(key) or Label(key, key)


def _card_of(path: Path) -> dict[str, Any] | None:
    try:
        body = ast.parse(path.read_text(encoding="utf-8")).body
    except (OSError, SyntaxError):  # the heavy catalogue names the broken file; a label must not
        return None
    for node in body:
        named = isinstance(node, ast.Assign) and any(isinstance(t, ast.Name) and t.id == "CARD" for t in node.targets)
        if named and isinstance(node, ast.Assign) and isinstance(node.value, ast.Call):
            words = {k.arg: k.value for k in node.value.keywords if k.arg in _SHOWN}
            return {str(name): value.value for name, value in words.items() if isinstance(value, ast.Constant)}
    return None
