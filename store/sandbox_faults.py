"""What can be wrong with a statement of free SQL, said in three parts, with the line and the nearest name.

Reads / writes: nothing. Never: shows a path of the server; runs a statement.
"""

from __future__ import annotations

import difflib
import re
from collections.abc import Iterable
from typing import NamedTuple, Protocol

from kdengine.errors import KdError, Problem
from store.columns import COLUMNS

MOST_COLUMNS_SHOWN = 40
WIDTH = 80  # of the piece of a line that is shown
MOST_TEXT, MOST_ALLOWED = 600, 2000  # characters of a part of a problem
READS = "one statement that reads: select, from, with, pivot, describe, summarize, show, explain"


class QueryError(KdError):
    """A statement that cannot be run, or took too much. ``problems`` has the three parts."""


class HasProblems(Protocol):
    """A ``QueryError``, or a ``Question`` that failed."""

    @property
    def problems(self) -> tuple[Problem, ...]:
        """The problems."""


class Place(NamedTuple):
    """Where in a text: both count from 1, in characters."""

    line: int
    column: int


class Parts(NamedTuple):
    """The three parts of a problem, before they know their place."""

    given: str
    allowed: str
    do: str


def place_of(error: HasProblems) -> Place | None:
    """Return where the statement is wrong; None where that is nowhere in particular."""
    found = re.match(r"line (\d+), column (\d+): ", error.problems[0].given) if error.problems else None
    return Place(int(found[1]), int(found[2])) if found else None


def explained(sql: str, fault: dict[str, str], hidden: Iterable[str] = ()) -> QueryError:
    """Return the error for what the process said of ``sql``; the texts of ``hidden`` (paths) do not appear in it."""
    found = _refused(fault.get("message", "")) if fault.get("fault") == "Refused" else _parts(sql, fault)
    parts = Parts(*(_without(text, hidden) for text in found))
    given = parts.given[:MOST_TEXT]
    place = _place(sql, fault.get("position", "")) or _place_of_name(sql, parts.given)
    if place is not None:
        given = f"line {place.line}, column {place.column}: {given}\n{_shown(sql, place)}"
    return QueryError(Problem("sql", given, parts.allowed[:MOST_ALLOWED], parts.do[:MOST_TEXT]))


def _place(sql: str, position: str) -> Place | None:
    if not position.isdecimal():
        return None
    before = sql.encode()[: int(position)].decode("utf-8", "ignore")
    return Place(before.count("\n") + 1, len(before) - before.rfind("\n"))


def _place_of_name(sql: str, given: str) -> Place | None:
    """Return where the name stands that is missing, if it stands in one place only."""
    name = re.match(r"(?:column|table|function) '(\w+)'", given)
    found = [found.start() for found in re.finditer(rf"\b{name[1]}\b", sql)] if name else []
    return _place(sql, str(len(sql[: found[0]].encode()))) if len(found) == 1 else None


def _shown(sql: str, place: Place) -> str:
    """Return the line with a caret below the place; of a long line the piece around it."""
    line = sql.split("\n")[place.line - 1].replace("\t", " ").rstrip("\r")
    start = max(0, min(place.column - 1 - WIDTH // 2, len(line) - WIDTH))
    piece = ("…" if start else "") + line[start : start + WIDTH] + ("…" if len(line) > start + WIDTH else "")
    return f"  {piece}\n  {' ' * (place.column - 1 - start + bool(start))}^"


def _without(text: str, hidden: Iterable[str]) -> str:
    for path in sorted(hidden, key=len, reverse=True):
        if len(path) > 1:
            text = re.sub(re.escape(path) + r"(?![\w.-])", "(the server)", text)
    return text


# -- the kinds of faults --------------------------------------------------------------------------------------------------


def _parts(sql: str, fault: dict[str, str]) -> Parts:
    message = fault.get("message", "").strip()[:MOST_TEXT]
    for pattern, given, allowed, do in _SAYINGS:
        if found := re.search(pattern, message):
            words = {name: _word(value) for name, value in found.groupdict(default="").items()}
            return Parts(*(part.format(**words) for part in (given, allowed, do)))
    for look in (_syntax, _column, _table, _function):
        if parts := look(sql, message, fault):
            return parts
    first = message.splitlines()[0] if message else fault.get("fault", "a fault")
    return Parts(first[:MOST_TEXT], "one statement in the SQL of DuckDB", "correct it and run it again")


_TYPES = {
    r"\bU?(TINY|SMALL|BIG|HUGE|UHUGE)INT\b|\bU?INT(EGER(_LITERAL)?|\d+)\b": "whole number",
    r"\bDOUBLE\b|\bFLOAT\b|\bDECIMAL(\(\d+, ?\d+\))?": "number",
    r"\bVARCHAR\b|\bSTRING_LITERAL\b": "text",
    r"\bBOOL(EAN)?\b": "true or false",
    r"\bTIMESTAMP( WITH TIME ZONE|_\w+)?\b": "moment",
    r"\bDATE\b": "date",
}


def _word(text: str) -> str:
    """Return a piece of a message with types in plain words."""
    for pattern, plain in _TYPES.items():
        text = re.sub(pattern, plain, text)
    return text if len(text) <= 120 else text[:119] + "…"


_REFUSED = "reading the tables of the results: " + ", ".join(COLUMNS)
# what DuckDB, or the process around it, says -> given, allowed, do; later lines hold what earlier ones do not know
_SAYINGS = (
    (r"exceeded maximum execution time", "a statement that ran for too long", "statements that end within the limit",
     "ask for fewer rows or runs, or group before joining"),
    (r"(could not|failed to) allocate|Allocation failure|out of memory|std::bad_alloc|^$",
     "a statement that needs more than 512 MB of memory", "up to 512 MB", "ask for fewer rows, or group first"),
    (r"Cannot create a string of size|string is too large", "a text that is too long to be made", "texts of a few megabytes",
     "make it shorter"),
    (r"unterminated (?P<what>string|quoted|/\*|comment|dollar)", "something that begins here and does not end",
     "texts in '...', names in \"...\", comments in /* ... */", "close it"),
    (r"[Mm]ax(imum)? expression depth", "a statement that is nested more than 250 deep", "up to 250", "make it flatter"),
    (r"column \"(?P<name>.*?)\" must appear in the GROUP BY", "column {name!r}, which is neither grouped by nor summed up",
     "columns that are grouped by, or stand in avg(), max(), count() and the like",
     "add it to group by, or write any_value({name})"),
    (r"Ambiguous reference to column name \"(?P<name>.*?)\" \(use: (?P<use>.*)\)", "column {name!r}, which several tables have",
     "{use}", "write which one you mean"),
    (r"(?P<what>WHERE|GROUP BY) clause cannot contain (aggregates|window)", "a sum over rows in {what}",
     "values of the row itself", "put it after the group by, as having ..."),
    (r"Could not convert string '(?P<text>[^\n]*)' to (?P<type>\S+)", "the text {text!r} where a {type} is needed",
     "texts that read as a {type}", "correct it, or use try_cast(... as ...), which gives null instead"),
    (r"field (value out of range|format): \"(?P<text>.*?)\"", "{text!r}, which is no date or moment",
     "2026-11-21, 2026-11-21 09:30:00", "correct it"),
    (r"(No function matches|Could not choose)[^'\"]*['\"](?P<call>[^\s('\"]{1,60}\([^'\"\n]{0,200}\))['\"]",
     "{call}: it cannot take these", "what the function takes, see duckdb.org/docs",
     "convert what it is given, for example with ::double or ::varchar"),
    (r"More than one row returned by a subquery", "a query in brackets that gives several rows where one value is needed",
     "queries with one row", "add limit 1, or write max(...), any_value(...)"),
    (r"same number of result columns", "queries joined by union, except or intersect that have different numbers of columns",
     "the same columns on both sides", "name the columns on both sides"),
    (r"[Dd]ivision by zero", "a division by zero", "divisors that are not zero", "write nullif(..., 0) for the divisor"),
    (r"No matching columns.*regex \"(?P<name>.*?)\"", "columns({name!r}), which matches none", "patterns that match a column",
     "see the columns: describe runs"),
    (r"Values were not provided", "a place for a value ($1 or ?)", "complete statements", "write the value itself there"),
    (r"read-only mode", "a statement that changes the results", _REFUSED, "write a select"),
    (r"disabled (by|through) configuration|configuration has been locked|exists in the \w+ extension|LocalFileSystem",
     "a statement that is refused: files, settings, extensions and the network are out of reach", _REFUSED, "leave that out"),
    (r"^Cannot extract field '.*?' from expression \"(?P<name>.*?)\"",
     "table {name!r}, which does not stand after from",
     "tables and short names that stand after from or join", "add it there, or write another name"),
)  # fmt: skip


def _refused(word: str) -> Parts:
    """Return the parts for a statement that its process did not run: its first word, or what there was too much of."""
    if word.endswith("statements"):
        return Parts("no statement" if word.startswith("0 ") else word, "one statement at a time", "run them one after the other")
    if word.endswith("columns"):
        return Parts(f"an answer of {word}", "up to 1000 columns", "name the columns that you need")
    if word == "a row":
        return Parts("an answer of which one row alone is too large", "rows of a few megabytes", "leave its largest column out")
    if word == "explain":
        return Parts("an explain of something that does not read", "explain select ..., explain analyze select ...", "write that")
    if word in COLUMNS:
        return Parts(f"a statement that is only the name {word!r}", READS, f"write: from {word}")
    close = _near(word, _WORDS)
    return Parts(f"a statement that begins with {word!r}", READS, f"did you mean {close!r}?" if close else "write a select")


def _syntax(sql: str, message: str, fault: dict[str, str]) -> Parts | None:
    found = re.search(r'syntax error at or near "(.*)"', message, re.S)
    if not found:
        return None
    close = _near(found[1], _WORDS) if found[1].lower() not in _WORDS else None
    otherwise = "look there and just before: a comma, a bracket or a word too many or too few"
    return Parts(f"the statement makes no sense from {found[1][:40]!r} on", READS, _did_you_mean(close, otherwise))


_NO_COLUMN = re.compile(
    r'Referenced column "?(?P<name>[^"\n]+?)"? not found|"(?P<table>[^"]+)" does not have a column named "(?P<of_table>[^"]+)"'
    r'|Column "(?P<in_list>[^"]+)" (?:in|does not exist)'
)


def _column(sql: str, message: str, fault: dict[str, str]) -> Parts | None:
    found = _NO_COLUMN.search(message)
    if not found:
        return None
    name, of = found["name"] or found["of_table"] or found["in_list"], found["table"]
    tables = [_tables(sql).get(of.lower(), of)] if of else list(dict.fromkeys(_tables(sql).values()))
    known = list(dict.fromkeys(column for table in tables for column in COLUMNS.get(table, ())))
    offered = fault.get("candidates", "").split(",") if fault.get("candidates") else re.findall(r'[:,] "([^"]+)"', message)
    known = known or [item.strip() for item in offered if item.strip()] or _own_names(sql, name)
    names = ", ".join(table for table in tables if table in COLUMNS) or "what stands after from"
    shown = ", ".join(known[:MOST_COLUMNS_SHOWN]) + (", …" if len(known) > MOST_COLUMNS_SHOWN else "")
    otherwise = f"if it is a text, write '{name}' in single quotes; else choose a column"
    allowed = f"columns of {names}: {shown}"
    return Parts(f"column {name!r}", allowed, _did_you_mean(_near(name, known), otherwise))


def _own_names(sql: str, but: str) -> list[str]:
    """Return the first names in the statement: where nobody knows better, one of them is meant."""
    found = dict.fromkeys(re.findall(r"[a-z_]\w{0,60}", sql.lower()))
    return [word for word in found if word not in (*_WORDS, "as", but.lower())][:200]


def _table(sql: str, message: str, fault: dict[str, str]) -> Parts | None:
    found = re.search(
        r"(?:Table|View) with name \"?([^\"\s]+)\"? does not exist|Referenced table \"([^\"]+)\" not found", message
    )
    if not found:
        return None
    name = found[1] or found[2]
    own = [own for own in _named_queries(sql) if own not in COLUMNS]
    if found[2]:  # before a dot: the names after from, not all tables
        names = [name for name in _tables(sql) if name != found[2].lower()]
        return Parts(f"table {name!r}, which does not stand after from", ", ".join(names) or _REFUSED,
                     _did_you_mean(_near(name, names), "add it after from, or write one of these"))  # fmt: skip
    known = [*COLUMNS, *own]
    return Parts(f"table {name!r}", ", ".join(known), _did_you_mean(_near(name, known), "choose one of the tables"))


def _function(sql: str, message: str, fault: dict[str, str]) -> Parts | None:
    found = re.search(r"(?:Function|Macro)[\w ]* with name \"?([^\"\s]+)\"? does not exist", message)
    if not found:
        return None
    hint = re.search(r'Did you mean "([^"]+)"', message)
    return Parts(
        f"function {found[1]!r}",
        "functions of DuckDB",
        _did_you_mean(_near(found[1], hint.groups() if hint else ()), "see duckdb.org/docs"),
    )


def _near(word: str, known: Iterable[str]) -> str | None:
    """Return the known name that is spelt much like ``word``, or else has it in it."""
    names = list(known)
    close = difflib.get_close_matches(word.lower(), names, n=1, cutoff=0.72)
    within = [name for name in names if len(word) > 2 and word.lower() in name]
    return next(iter((*close, *within)), None)


def _did_you_mean(close: str | None, otherwise: str) -> str:
    return f"did you mean {close!r}?" if close else otherwise


def _named_queries(sql: str) -> list[str]:
    """Return the names that the statement gives to queries of its own: with NAME as (...)."""
    return [name.lower() for name in _NAMED_QUERY.findall(" ".join(sql.split()))]


def _tables(sql: str) -> dict[str, str]:
    """Return the tables that stand after from and join: the name they go by -> the table."""
    known = {*COLUMNS, *_named_queries(sql)}
    named = {}
    for table, short in _TABLE.findall(" ".join(sql.split())):
        if table.lower() in known:
            named[table.lower()] = table.lower()
            if short:
                named[short.lower()] = table.lower()
    return named


_WORDS = (
    "select", "from", "where", "group", "order", "limit", "having", "join", "with", "pivot", "distinct", "between", "values",
    "describe", "summarize", "explain", "union", "using", "qualify", "exclude", "replace",
)  # fmt: skip
_AFTER_TABLES = (
    "from", "join", "on", "using", "where", "group", "order", "limit", "left", "right", "full", "inner", "cross", "natural",
    "having", "union", "select", "qualify", "window", "asof", "semi", "anti", "positional", "except", "intersect", "tablesample",
    "offset",
)  # fmt: skip
# these read texts that strangers write: each takes time in proportion to their length
_NAMED_QUERY = re.compile(
    r"(?:\bwith(?: recursive)?|,) ?(\w{1,60}) ?(?:\([^()]{0,200}\) ?)?as ?(?:(?:not )?materialized ?)?\(", re.I
)
_TABLE = re.compile(
    r"(?:\bfrom|\bjoin|\bpivot|\bsummarize|\bdescribe|,) ?(\w{1,60})"
    rf"(?: (?:as )?(?!(?:{'|'.join(_AFTER_TABLES)})\b)(\w{{1,60}}))?",
    re.I,
)
