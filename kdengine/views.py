"""Saved views: a page with all that is chosen on it, kept under a name for everybody who uses this home.

Reads / writes: ``views.json`` in the home, aside and renamed, under a lock. Never: what a view shows; anybody's browser.
"""

from __future__ import annotations

import json
import re
from contextlib import AbstractContextManager
from typing import Any
from urllib.parse import parse_qs

from filelock import FileLock
from pydantic import BaseModel, ConfigDict, Field, ValidationError, field_validator

from kdengine.durable import write_aside
from kdengine.errors import KdError, Problem, UnknownKey, unknown
from kdengine.events import now
from kdengine.home import Home
from kdengine.spec import problems_of

MOST = 500


class View(BaseModel):
    """``name`` for people; ``page`` as the URL has it ("" = the first); ``query``: what follows "?"; ``saved_at``: UTC text;
    ``owner``: short name of who saved it, None without sign-in.

    Unknown fields are dropped: a newer version may have written more.
    """

    model_config = ConfigDict(frozen=True)
    name: str = Field(min_length=1, max_length=60, description="what the view is called")
    page: str = Field(max_length=60, description="the page it belongs to")
    query: str = Field("", max_length=32_000, description="what is chosen on the page")  # holds 20,000 characters of SQL, packed
    saved_at: str = ""
    owner: str | None = None

    @field_validator("name")
    @classmethod
    def _one_line(cls, value: str) -> str:
        if not value.isprintable() or value != " ".join(value.split()):
            raise ValueError("one line of letters, digits and signs, without blanks at its ends or two in a row")
        return value

    @field_validator("page", "query")
    @classmethod
    def _of_a_link(cls, value: str) -> str:
        if not re.fullmatch(r"[!-~]*", value) or "#" in value:
            raise ValueError("a piece of a link, encoded")
        return value

    def chosen(self) -> dict[str, list[str]]:
        """Return what the view chooses: parameter -> its values."""
        return parse_qs(self.query, keep_blank_values=True)


def load(home: Home) -> tuple[View, ...]:
    """Return all saved views by name.

    Raises:
        KdError: ``views.json`` cannot be read.
    """
    try:
        found = [View(**entry) for entry in json.loads(_file(home).read_bytes())["views"]]
    except FileNotFoundError:
        return ()
    except (OSError, ValueError, KeyError, TypeError) as error:  # pydantic's faults are ValueErrors
        raise KdError.of(
            f"{_file(home)}, which cannot be read ({str(error).splitlines()[0]})",
            '{"views": [{"name": ..., "page": ..., "query": ...}, ...]}',
            "repair the file, or move it away: then no view is saved",
            "views",
        ) from error
    return tuple(sorted(found, key=lambda view: view.name.casefold()))


def save(home: Home, name: str, page: str, query: str = "", owner: str | None = None) -> View:
    """Keep a view of ``owner`` under a name that is not taken, and return it.

    Raises:
        KdError: with every fault of name, page and query; or ``views.json`` cannot be read.
        OSError: the disk is full or cannot be written; the old views stand.
    """
    with _lock(home):
        held = load(home)
        view = _checked(held, {"name": name, "page": page, "query": query, "saved_at": now(), "owner": owner})
        _write(home, (*held, view))
        return view


def named(home: Home, name: str) -> View:
    """Return a view. Raises ``UnknownKey`` where there is no such view, and as ``load`` does."""
    return _named(load(home), name)


def rename(home: Home, name: str, new: str) -> View:
    """Give a view another name and return it. Raises ``UnknownKey`` where there is no such view, and as ``save`` does."""
    with _lock(home):
        held = load(home)
        old = _named(held, name)
        rest = tuple(view for view in held if view != old)
        view = _checked(rest, old.model_dump() | {"name": new})
        _write(home, (*rest, view))
        return view


def delete(home: Home, name: str) -> None:
    """Remove a view. Raises ``UnknownKey`` where there is no such view, and as ``load`` does."""
    with _lock(home):
        held = load(home)
        old = _named(held, name)
        _write(home, tuple(view for view in held if view != old))


def _file(home: Home) -> Any:
    return home.root / "views.json"


def _lock(home: Home) -> AbstractContextManager[Any]:
    return FileLock(home.locks / "views.lock")


def _write(home: Home, views: tuple[View, ...]) -> None:
    content = {"views": [view.model_dump() for view in views]}
    write_aside(_file(home), json.dumps(content, ensure_ascii=False, indent=1).encode())


def _named(held: tuple[View, ...], name: str) -> View:
    found = next((view for view in held if view.name == name), None)
    if found is None:
        raise UnknownKey(unknown("view", name, [view.name for view in held]))
    return found


def _checked(held: tuple[View, ...], values: dict[str, Any]) -> View:
    found: list[Problem] = []
    try:
        view = View(**values)
    except ValidationError as error:
        found += problems_of(error, View)
    if values["name"].casefold() in {view.name.casefold() for view in held}:
        found.append(
            Problem("name", repr(values["name"]), "a name that no other view has", "choose another, or delete that view")
        )
    if len(held) >= MOST:
        found.append(Problem("views", f"{len(held)} saved views", f"at most {MOST}", "delete some that nobody opens"))
    if found:
        raise KdError(*found)
    return view
