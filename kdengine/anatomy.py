"""The parts of a method's file as they are written there: its knobs, the code of its losses; read without torch.

Reads: the files of ``kdengine/methods``. Writes: nothing. Never: torch; a method's code is not run.
"""

from __future__ import annotations

import ast
import functools
import operator
import textwrap
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from kdengine.catalogue import FOLDER
from kdengine.errors import KdError
from kdengine.spec import Scalar

PACKAGE = "kdengine.methods."
_TYPES = {"float": "number", "int": "integer", "bool": "boolean", "str": "string"}
_SUMS = {
    ast.Add: operator.add, ast.Sub: operator.sub, ast.Mult: operator.mul, ast.Div: operator.truediv, ast.Pow: operator.pow,
    ast.LShift: operator.lshift,
}  # fmt: skip
_BOUNDS = {"low": "minimum", "high": "maximum", "help": "description", "source": "source", "per": "per"}


@dataclass(frozen=True, slots=True)
class Code:
    """A piece of source: its ``text`` without the indentation that all of it has, and where it stands, lines from 1."""

    text: str
    file: str
    first: int
    last: int

    @property
    def where(self) -> str:
        """Say where it stands: ``kdengine/methods/_math.py, lines 12 to 20``."""
        return f"{self.file}, lines {self.first} to {self.last}"


def losses(key: str) -> list[Code]:
    """Return the functions of the method's ``LOSSES`` in their order, then the ``loss`` of the method itself.

    Raises:
        KdError: its file does not write them down in the form of the contract.
    """
    _, listed = _definition(key, "LOSSES")
    names = [n.id for n in ast.walk(listed) if isinstance(n, ast.Name) and isinstance(n.ctx, ast.Load)]
    return [*(_code(*_definition(key, name)) for name in names), _code(key, _own_loss(key))]


def whole(key: str) -> str:
    """Return the method's file."""
    return _read(key)[0]


@functools.lru_cache(maxsize=64)
def knobs(key: str) -> dict[str, dict[str, Any]]:
    """Return the method's knobs: name -> type (or enum), default, description, source; minimum, maximum, per where it has them.

    The words are those of the JSON schema that pydantic makes of ``Params``. The answer is kept: it is not to be changed.

    Raises:
        KdError: its file computes a knob instead of writing it down.
    """
    _, params = _definition(key, "Params")
    fields = (node for node in ast.iter_child_nodes(params) if isinstance(node, ast.AnnAssign))
    return {str(ast.unparse(node.target)): _knob(key, node) for node in fields}


def filled(key: str, given: dict[str, Scalar]) -> dict[str, Scalar]:
    """Return ``given`` with the default of every knob that is left out, as ``Params`` fills them; bounds are not looked at.

    Raises:
        KdError: as ``knobs``.
    """
    known = knobs(key)
    found: dict[str, Scalar] = dict(given)
    for name, knob in known.items():
        if name not in given:
            choices = (choice.partition("=") for choice in knob.get("per", {}))
            chosen = next((f"{other}={value}" for other, _, value in choices if given.get(other) == value), None)
            found[name] = knob["per"][chosen] if chosen else knob["default"]
        if knob.get("type") == "number":
            found[name] = float(found[name])
        elif knob.get("type") == "integer":
            found[name] = int(found[name])
    return {name: found[name] for name in (*known, *(name for name in given if name not in known))}


# ---- reading ---------------------------------------------------------------------------------------------------------------


@functools.lru_cache(maxsize=64)
def _read(name: str) -> tuple[str, ast.Module]:
    """Return text and syntax of one file of the folder."""
    text = (FOLDER / f"{name}.py").read_text(encoding="utf-8")
    return text, ast.parse(text)


def _definition(name: str, wanted: str) -> tuple[str, ast.stmt]:
    """Return the file that defines ``wanted``, as a name in the file ``name``, and the statement that does."""
    for node in _read(name)[1].body:
        if isinstance(node, ast.FunctionDef | ast.ClassDef) and node.name == wanted:
            return name, node
        if isinstance(node, ast.Assign) and any(isinstance(t, ast.Name) and t.id == wanted for t in node.targets):
            return name, node
        if isinstance(node, ast.ImportFrom) and str(node.module).startswith(PACKAGE):
            for alias in node.names:
                if (alias.asname or alias.name) == wanted:
                    return _definition(str(node.module).removeprefix(PACKAGE), alias.name)
    raise _unwritten(name, f"no {wanted}")


def _own_loss(name: str) -> ast.stmt:
    """Return the method ``loss`` of the file's public class, or of the private one that it is made from."""
    classes = [node for node in _read(name)[1].body if isinstance(node, ast.ClassDef)]
    for made in sorted(classes, key=lambda node: node.name.startswith("_")):
        if any(ast.unparse(base).split(".")[-1] == "Method" or ast.unparse(base).startswith("_") for base in made.bases):
            for node in made.body:
                if isinstance(node, ast.FunctionDef) and node.name == "loss":
                    return node
    raise _unwritten(name, "no method loss")


def _code(name: str, node: ast.stmt) -> Code:
    decorators = getattr(node, "decorator_list", [])
    first, last = min([node.lineno, *(d.lineno for d in decorators)]), node.end_lineno or node.lineno
    path = FOLDER / f"{name}.py"
    lines = _read(name)[0].splitlines(keepends=True)[first - 1 : last]
    return Code(textwrap.dedent("".join(lines)), path.relative_to(_root()).as_posix(), first, last)


def _root() -> Path:
    return FOLDER.parent.parent


def _knob(key: str, node: ast.AnnAssign) -> dict[str, Any]:
    if not isinstance(node.value, ast.Call):
        raise _unwritten(key, f"the knob {ast.unparse(node.target)} without knob(...)")
    try:
        said = {str(word.arg): _value(key, word.value) for word in node.value.keywords}
        default = _value(key, node.value.args[0])
    except (ValueError, IndexError):
        raise _unwritten(key, f"the knob {ast.unparse(node.target)}, which is computed") from None
    kind = _kind(key, node.annotation)
    if kind.get("type") == "number":
        default = float(default)
    found = {_BOUNDS[name]: value for name, value in said.items() if name in _BOUNDS and value is not None}
    return {"default": default, **kind, **found}


def _value(key: str, node: ast.expr) -> Any:
    """Return what is written down: a literal, the name of one, or a sum of such. Raises ValueError for anything else."""
    if isinstance(node, ast.BinOp) and type(node.op) in _SUMS:
        return _SUMS[type(node.op)](_value(key, node.left), _value(key, node.right))
    if isinstance(node, ast.Name):
        where, made = _definition(key, node.id)
        return _value(where, made.value) if isinstance(made, ast.Assign) else ast.literal_eval(node)
    return ast.literal_eval(node)


def _kind(key: str, annotation: ast.expr) -> dict[str, Any]:
    """Return the type of a knob, or what may be chosen; a name that stands for a choice is looked up."""
    if isinstance(annotation, ast.Name) and annotation.id not in _TYPES:
        where, alias = _definition(key, annotation.id)
        return _kind(where, alias.value) if isinstance(alias, ast.Assign) else {}
    if isinstance(annotation, ast.Subscript):
        choices = ast.literal_eval(annotation.slice)
        return {"enum": list(choices) if isinstance(choices, tuple) else [choices]}
    return {"type": _TYPES[ast.unparse(annotation)]}


def _unwritten(name: str, given: str) -> KdError:
    return KdError.of(
        f"kdengine/methods/{name}.py: {given}",
        "a file with Params, LOSSES and one subclass of Method that writes its knobs down",
        "write it as kdengine/methods/contract.py says",
    )
