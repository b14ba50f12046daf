"""Answers of free SQL, from the lines that its process sends to a frame. The lines are not trusted.

Reads / writes: nothing. Never: keeps more of an answer than its process was allowed to send.
"""

from __future__ import annotations

import json
import re
from typing import Any

import pandas as pd

LOOSE_BYTES = 4 << 20  # of text whose values are held as Python's own for a moment
MOST_SWELLING = 40  # an answer takes at most so many times the room of its text
_INTEGER = re.compile(r"^U?(TINYINT|SMALLINT|INTEGER|BIGINT|HUGEINT)$")


class Unreadable(Exception):
    """The process sent something that is no answer."""


class Answer:
    """Takes the lines one after the other; ``frame`` is whole when ``ended``.

    ``fault`` holds what the process says of one, ``cut`` whether rows were left out, ``cost`` about how many bytes the answer
    takes here, by its process's word.
    """

    def __init__(self) -> None:
        self.fault: dict[str, str] = {}
        self.ended = False
        self.cut = False
        self.cost = 0
        self._received = 0
        self._columns: list[tuple[str, str]] = []
        self._loose: list[list[Any]] = []  # values that are not yet in a part
        self._loose_bytes = 0
        self._parts: list[list[pd.Series[Any]]] = []

    def take(self, line: bytes) -> None:
        """Read one line.

        Raises:
            Unreadable: it is none of an answer.
        """
        try:
            self._received += len(line)
            found = json.loads(line)
            if isinstance(found, list):
                self._take_rows(found, len(line))
            elif "columns" in found:
                self._columns = [(str(name), str(kind)) for name, kind in found["columns"]]
                self._loose, self._parts = [[] for _ in self._columns], [[] for _ in self._columns]
            elif "cut" in found:
                self.ended, self.cut = bool(self._columns), bool(found["cut"])
                self.cost = max(self._received, min(MOST_SWELLING * self._received, int(found["cost"])))
            else:
                self.fault = {name: str(value) for name, value in found.items()} if "fault" in found else {}
        except (ValueError, TypeError, KeyError, RecursionError, OverflowError) as error:
            raise Unreadable(type(error).__name__) from error

    def frame(self) -> pd.DataFrame:
        """Return all rows as a frame; names are unique, ``attrs["cut"]`` says whether rows were left out.

        Raises:
            Unreadable: the columns do not fit together.
        """
        try:
            self._put_together()
            whole = [_together(parts) for parts in self._parts]
            frame = pd.DataFrame(dict(zip(_unique([name for name, _ in self._columns]), whole, strict=True)))
        except (ValueError, TypeError, OverflowError) as error:
            raise Unreadable(type(error).__name__) from error
        frame.attrs["cut"] = self.cut
        return frame

    def _take_rows(self, columns: list[list[Any]], size: int) -> None:
        if len({len(values) for values in columns}) != 1:
            raise ValueError("columns of different lengths")
        for loose, values in zip(self._loose, columns, strict=True):
            loose += values
        self._loose_bytes += size
        if self._loose_bytes > LOOSE_BYTES:
            self._put_together()

    def _put_together(self) -> None:
        """Make columns of what is loose: they take a fraction of the room of Python's own lists."""
        for place, (_, kind) in enumerate(self._columns):
            self._parts[place].append(pd.Series(_column(self._loose[place], kind)))
            self._loose[place] = []
        self._loose_bytes = 0


def _together(parts: list[pd.Series[Any]]) -> pd.Series[Any]:
    return parts[0] if len(parts) == 1 else pd.concat(parts, ignore_index=True)


def _column(values: list[Any], kind: str) -> Any:
    if kind.endswith("]") or kind.startswith(("STRUCT", "MAP", "UNION", "VARIANT")):
        return pd.Series(values, dtype="object")
    missing = any(value is None for value in values)
    if _INTEGER.match(kind):
        return _whole_numbers(values, kind, missing)
    if kind in ("DOUBLE", "FLOAT", "BIGNUM") or kind.startswith("DECIMAL"):
        return pd.array([float("nan") if value is None else float(value) for value in values], dtype="float64")
    if kind == "BOOLEAN":
        return pd.array(values, dtype="boolean" if missing else "bool")
    if kind.startswith("TIMESTAMP"):
        return _moments(values)
    if kind == '"NULL"':
        return pd.Series(values, dtype="object")
    return _texts(values)


def _texts(values: list[Any]) -> Any:
    return pd.array([None if value is None else str(value) for value in values], dtype="str")


def _whole_numbers(values: list[Any], kind: str, missing: bool) -> Any:
    least, most = min((v for v in values if v is not None), default=0), max((v for v in values if v is not None), default=0)
    if kind == "UBIGINT":
        return pd.array(values, dtype="UInt64" if missing else "uint64")
    if least >= -(2**63) and most < 2**63:
        return pd.array(values, dtype="Int64" if missing else "int64")
    return pd.array([float("nan") if value is None else float(value) for value in values], dtype="float64")


def _moments(values: list[Any]) -> Any:
    try:
        found = pd.to_datetime(pd.Series(values, dtype="object"), format="ISO8601", utc=True)
    except (ValueError, OverflowError):  # the year 290000: a moment to DuckDB, text to all others
        return _texts(values)
    return found.dt.tz_localize(None)


def _unique(names: list[str]) -> list[str]:
    """Return the names, numbered where one stands twice; a column without a name gets its place for one."""
    taken = set(names)
    seen: set[str] = set()
    result = []
    for place, name in enumerate(names, 1):
        base = name or f"column_{place}"
        mine, number = base, 1
        while mine in seen or (mine != name and mine in taken):
            number += 1
            mine = f"{base}_{number}"
        seen.add(mine)
        result.append(mine)
    return result
