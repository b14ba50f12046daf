"""The methods as their cards describe them, read from their source files without loading torch.

Reads: docstring and ``CARD`` of every file of ``kdengine/methods``. Writes: nothing. Never: torch; a method's code is not run.
"""

from __future__ import annotations

import ast
import functools
import re
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any

FOLDER = Path(__file__).resolve().parent / "methods"
DOC_PARTS = ("Matched", "Formula", "Source", "Differs")
_ASIDE = {"logits", "index", "views", "input_gradients", "norms"}  # needs that are no map or embedding


@dataclass(frozen=True, slots=True)
class Label:
    """What a method's file says of it without being run: its card, field by field as in ``methods.contract.Card``, and ``doc``.

    A field that the card computes instead of writing it down keeps the default that stands here.
    """

    key: str
    title: str
    family: str = "plain"
    year: int = 0
    citation: str = ""
    links: tuple[str, ...] = ()
    one_line: str = ""
    story: tuple[str, ...] = ()
    analogy: str = ""
    formula: str = ""
    fidelity: str = ""
    needs: frozenset[str] = frozenset({"logits"})
    teacher_mode: str = "frozen"
    peers: bool = False
    chain: bool = False
    phases: tuple[str, ...] = ("main",)
    doc: str = ""

    @property
    def file(self) -> str:
        """Where its source stands in the repository."""
        return f"kdengine/methods/{self.key}.py"

    @property
    def matched(self) -> frozenset[str]:
        """Which needs of the card are what student and other network are compared by; empty for a method that learns alone.

        Every method reads the student's logits for the labels; another network's count where the formula has them (``z_t``)
        or nothing else could be compared.
        """
        if self.teacher_mode == "none" and not self.peers:
            return frozenset()
        taps = self.needs - _ASIDE
        if not taps:
            return frozenset({"input_gradients" if "input_gradients" in self.needs else "logits"})
        return taps | {"logits"} if "z_t" in self.formula or "p_t" in self.formula else taps

    @property
    def said(self) -> dict[str, str]:
        """The parts of its docstring: ``Matched``, ``Formula``, ``Source``, ``Differs``; one that is missing is left out."""
        pieces = re.split(rf"^\*\*({'|'.join(DOC_PARTS)})\*\*:\s*", self.doc, flags=re.MULTILINE)
        return {name: re.sub(r"\s+", " ", text).strip() for name, text in zip(pieces[1::2], pieces[2::2], strict=True)}


@functools.cache
def labels() -> dict[str, Label]:
    """Return the label of every method by key, in the order of family, year, key. A file without a card is left out."""
    found = []
    for path in sorted(FOLDER.glob("[a-z]*.py")):
        values = _card_of(path)
        if values is not None:
            found.append(Label(**({"title": path.stem} | values | {"key": path.stem})))
    return {label.key: label for label in sorted(found, key=lambda m: (m.family, m.year, m.key))}


def label_of(key: str) -> Label:
    """Return the label of a method; one that is gone from the folder keeps its key as its title."""
    return labels().get(key) or Label(key, key)


def _card_of(path: Path) -> dict[str, Any] | None:
    try:
        module = ast.parse(path.read_text(encoding="utf-8"))
    except (OSError, SyntaxError):  # the heavy catalogue names the broken file; a label must not
        return None
    for node in module.body:
        named = isinstance(node, ast.Assign) and any(isinstance(t, ast.Name) and t.id == "CARD" for t in node.targets)
        if named and isinstance(node, ast.Assign) and isinstance(node.value, ast.Call):
            known = {field.name for field in fields(Label)}
            read = {str(word.arg): _value_of(word.value) for word in node.value.keywords if word.arg in known}
            doc = ast.get_docstring(module) or ""
            return {name: value for name, value in read.items() if value is not None} | {"doc": doc}
    return None


def _value_of(node: ast.expr) -> Any:
    """Return a value that is written down, also inside ``frozenset(...)``; None for one that is computed."""
    if isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id == "frozenset" and node.args:
        inner = _value_of(node.args[0])
        return None if inner is None else frozenset(inner)
    try:
        return ast.literal_eval(node)
    except ValueError:
        return None
