"""What is wrong with a statement, as the editor shows it: the place to mark, and the name to put there instead.

Reads / writes: nothing. Never: Streamlit, SQL of its own.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass, replace

from kdengine.errors import Problem
from store.sandbox import QueryError, place_of

MOST_ALLOWED = 200  # characters
NAME = re.compile(r"(?:column|table|function) '([^']+)'")
NEAREST = re.compile(r"did you mean '([^']+)'")


@dataclass(frozen=True, slots=True)
class Mark:
    """A line, from 1, and the characters of it to underline, from 0; none where ``start`` and ``end`` are equal."""

    line: int
    start: int
    end: int


@dataclass(frozen=True, slots=True)
class Mended:
    """The statement with ``right`` in the place of ``wrong``."""

    wrong: str
    right: str
    text: str


def mark(text: str, problems: Sequence[Problem]) -> Mark | None:
    """Return what to mark in ``text``; None where no place is known."""
    place = _place(text, problems)
    if place is None:
        return None
    before = text[:place]
    start = place - (before.rfind("\n") + 1)
    word = re.match(r'"[^"\n]+"|\w+', text[place:])
    return Mark(before.count("\n") + 1, start, start + (len(word[0]) if word else 1))


def mended(text: str, problems: Sequence[Problem]) -> Mended | None:
    """Return the statement with the nearest name in the place of the misspelt one; None where none is near."""
    said = [(NAME.search(problem.given), NEAREST.search(problem.do)) for problem in problems[:1]]
    if not said or not all(said[0]):
        return None
    wrong, right = (found[1] for found in said[0] if found)
    place = _place(text, problems)
    around = re.compile(rf"\b{re.escape(wrong)}\b", re.I)
    found = around.search(text, place) if place is not None else None
    return Mended(wrong, right, text[: found.start()] + right + text[found.end() :]) if found else None


def told(problems: Sequence[Problem]) -> list[Problem]:
    """Return the problems without what stands beside them on the page: the line, which is marked, and the whole list of names."""
    return [replace(problem, given=problem.given.split("\n")[0], allowed=_cut(problem.allowed)) for problem in problems]


def _cut(text: str) -> str:
    return text if len(text) <= MOST_ALLOWED else f"{text[:MOST_ALLOWED].rpartition(',')[0]}, …"


def _place(text: str, problems: Sequence[Problem]) -> int | None:
    """Return the character where the first problem is; the statement was asked without the blanks around it."""
    if not problems:
        return None
    lead = len(text) - len(text.lstrip())
    found = place_of(QueryError(*problems))
    if found:
        lines = text[lead:].split("\n")
        line = min(found.line, len(lines))
        return lead + sum(len(each) + 1 for each in lines[: line - 1]) + min(found.column - 1, len(lines[line - 1]))
    name = NAME.search(problems[0].given)
    word = re.search(rf"\b{re.escape(name[1])}\b", text, re.I) if name else None
    return word.start() if word else None
