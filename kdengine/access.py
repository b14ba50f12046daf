"""Who may do what: three roles, what each action needs, who the people are, and how much a member may take.

Reads / writes: ``people.json`` in the home, aside and renamed, under a lock. Never: passwords, sign-in itself, Streamlit.
"""

from __future__ import annotations

import functools
import hashlib
import json
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from pathlib import Path
from typing import Any

from filelock import FileLock
from pydantic import BaseModel, ConfigDict, Field, ValidationError, field_validator

from kdengine.durable import write_aside
from kdengine.errors import KdError, Problem, UnknownKey, unknown
from kdengine.home import Home
from kdengine.hosting import Hosting, Mode, SignIn, Strangers, identity
from kdengine.spec import problems_of

MOST = 2000  # people of one home
RESERVED = {"you", "local", "admin", "root", "nobody", "none", "guest", "server", "demo"}  # names that would mislead
GIVEN = ("guest-", "admin-")  # beginnings of names for those without an entry
NAME = r"^[a-z0-9][a-z0-9_-]{0,23}$"
ALLOWED_NAME = "1 to 24 small letters, digits, _ and -, not the name of somebody else"


class Role(StrEnum):
    """What a person is here, least first."""

    NOBODY = "nobody"
    VIEWER = "viewer"
    MEMBER = "member"
    ADMIN = "admin"

    @property
    def rank(self) -> int:
        """Place in the order, 0 = may nothing."""
        return list(Role).index(self)

    def reaches(self, least: Role) -> bool:
        """Say whether this role may what ``least`` may."""
        return self.rank >= least.rank


class Quota(BaseModel):
    """How much one member may take; None = no limit. Admins have none."""

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)
    queued_runs: int | None = Field(50, ge=0, le=100_000, description="runs that wait in the queue at once")
    gpu_hours: float | None = Field(None, ge=0, le=1e6, description="hours on GPUs within the last 30 days")
    exports: int | None = Field(2, ge=0, le=20, description="race charts that wait to be drawn at once")
    disk_mib: float | None = Field(None, ge=0, le=1e9, description="MiB that own runs take on the disk")


NO_LIMIT = Quota(queued_runs=None, gpu_hours=None, exports=None, disk_mib=None)


@dataclass(frozen=True, slots=True)
class Person:
    """Somebody who asks. ``name`` is short and may be shown to everybody; ``who`` is the identity and may not.

    ``session``: stands for somebody without a name where a thing belongs to who asked for it. ``barred``: actions that the
    server has switched off.
    """

    name: str
    role: Role
    who: str = field(default="", repr=False)
    quota: Quota = NO_LIMIT
    barred: frozenset[str] = frozenset()
    session: str = field(default="", repr=False)

    @property
    def owner(self) -> str | None:
        """Name that stands on what this person launches; None without sign-in."""
        return self.name if self.who else None

    @property
    def asker(self) -> str:
        """Name that stands on what is asked for and soon forgotten, such as an export: the session's where there is no other."""
        return self.name if self.who else self.session or self.name


@dataclass(frozen=True, slots=True)
class Rule:
    """What an action needs: at least this role; with ``own``, below an admin, only on what is one's own. ``doing``: in words."""

    least: Role
    doing: str
    own: bool = False


ACTIONS: Mapping[str, Rule] = {
    "read": Rule(Role.VIEWER, "reading the results"),
    "ask": Rule(Role.VIEWER, "asking in SQL"),
    "export": Rule(Role.VIEWER, "exporting a race"),
    "stop-export": Rule(Role.VIEWER, "stopping an export", own=True),
    "remove-export": Rule(Role.VIEWER, "removing an export", own=True),
    "launch": Rule(Role.MEMBER, "launching runs"),
    "retry": Rule(Role.MEMBER, "repeating a run"),
    "stop": Rule(Role.MEMBER, "stopping a run", own=True),
    "resume": Rule(Role.MEMBER, "resuming a run", own=True),
    "label": Rule(Role.MEMBER, "labelling a run", own=True),
    "remove-run": Rule(Role.MEMBER, "removing a run", own=True),
    "save-view": Rule(Role.MEMBER, "saving a view"),
    "change-view": Rule(Role.MEMBER, "changing a saved view", own=True),
    "fetch-dataset": Rule(Role.MEMBER, "fetching a dataset"),
    "measure": Rule(Role.ADMIN, "measuring the networks"),
    "dismiss": Rule(Role.VIEWER, "dismissing what went wrong", own=True),
    "use-files": Rule(Role.ADMIN, "naming files of the server in a run"),
    "people": Rule(Role.ADMIN, "changing people and their roles"),
    "server": Rule(Role.ADMIN, "looking after the server"),
}


class NotAllowed(KdError):
    """Somebody asks for what their role, or the server, does not allow."""


def may(person: Person, action: str, owner: str | None = None) -> bool:
    """Say whether ``person`` may do it; ``owner``: whose the thing is, for actions on things (None = nobody's in particular)."""
    rule = ACTIONS[action]
    if action in person.barred or not person.role.reaches(rule.least):
        return False
    return not rule.own or person.role is Role.ADMIN or (bool(owner) and owner in (person.owner, person.session))


def demand(person: Person, action: str, owner: str | None = None) -> None:
    """Let ``person`` pass who may do it; see ``may``.

    Raises:
        NotAllowed: the person may not. KeyError: there is no such action.
    """
    if may(person, action, owner):
        return
    rule = ACTIONS[action]
    given = f"{rule.doing}, as {described(person)}"
    if action in person.barred:
        raise NotAllowed.of(given, "what this server offers", "run KD Explorer on a machine of your own for the rest", action)
    if person.role.reaches(rule.least):
        raise NotAllowed.of(given, "what is your own; an admin may do it for all", "ask its owner or an admin", action)
    allowed = f"{rule.least.value}s" + (" and admins" if rule.least is not Role.ADMIN else "") + " only"
    raise NotAllowed.of(given, allowed, "ask an admin for that role", action)


def is_same(person: Person, given: str) -> bool:
    """Say whether ``given`` (an identity or a short name) is this person."""
    return bool(person.who) and given.strip().lower() in (person.who, person.name)


def described(person: Person) -> str:
    """Return a person in words: ``ada (member)``, ``a visitor``."""
    return f"{person.name} ({person.role.value})" if person.who or person.role is Role.ADMIN else "a visitor"


# ---- the people ----------------------------------------------------------------------------------------------------------------


class Entry(BaseModel):
    """One line of ``people.json``. ``quota``: the limits that differ from those for all, field -> value (None = no limit)."""

    model_config = ConfigDict(frozen=True, extra="forbid")
    who: str = Field(max_length=254, description="address or account that signs in")
    name: str = Field(pattern=NAME, description="short name that everybody may see")
    role: Role = Field(Role.VIEWER, description="viewer, member or admin")
    quota: dict[str, Any] = {}

    @field_validator("who")
    @classmethod
    def _plain(cls, value: str) -> str:
        plain = identity(value)
        if plain is None:
            raise ValueError("an address or account in plain letters, without blanks")
        return plain

    @field_validator("role")
    @classmethod
    def _somebody(cls, value: Role) -> Role:
        if value is Role.NOBODY:
            raise ValueError("viewer, member or admin")
        return value

    @field_validator("name")
    @classmethod
    def _honest(cls, value: str) -> str:
        if value in RESERVED or value.startswith(GIVEN):
            raise ValueError(ALLOWED_NAME)
        return value

    @field_validator("quota")
    @classmethod
    def _limits(cls, value: dict[str, Any]) -> dict[str, Any]:
        return Quota(**value).model_dump(include=set(value))


@dataclass(frozen=True, slots=True)
class People:
    """The content of ``people.json``. ``quota``: limits for all that differ from ours. ``names``: short name -> mark of the
    identity that ever had it, so that nobody inherits the runs of another one by name."""

    entries: tuple[Entry, ...] = ()
    quota: Mapping[str, Any] = field(default_factory=dict)
    names: Mapping[str, str] = field(default_factory=dict)

    def entry(self, who: str) -> Entry | None:
        """Return the entry of an identity in plain form, None without one."""
        return next((entry for entry in self.entries if entry.who == who), None)

    def quota_of(self, entry: Entry | None) -> Quota:
        """Return a person's limits: ours, those for all, their own; the later ones win."""
        return Quota(**{**self.quota, **(entry.quota if entry else {})})


def load(home: Home) -> People:
    """Return the people of this home (kept until the file changes).

    Raises:
        KdError: ``people.json`` cannot be read; every fault of it.
    """
    path = file_of(home)
    try:
        found = path.stat()
    except FileNotFoundError:
        return People()
    return _loaded(path, found.st_mtime_ns, found.st_size, found.st_ino)


def file_of(home: Home) -> Path:
    """Return where the people are kept."""
    return home.root / "people.json"


def put(home: Home, who: str, role: str | Role, name: str = "", quota: Mapping[str, Any] | None = None) -> Entry:
    """Add a person, or change role and limits of one that is there; return the entry. ``name`` "" = as before, or made from
    ``who``; ``quota`` None = as before.

    Raises:
        KdError: with every fault of what is given; or ``people.json`` cannot be read.
        OSError: the disk is full or cannot be written; the old people stand.
    """
    with FileLock(home.locks / "people.lock"):
        people = load(home)
        old = people.entry(identity(who) or "")
        values = {"who": who, "role": str(role), "name": name or (old.name if old else name_for(who, people))}
        try:
            entry = Entry(**values, quota=dict((old.quota if old else {}) if quota is None else quota))
        except ValidationError as error:
            raise KdError(*problems_of(error, Entry)) from None
        if faults := _unfit(people, old, entry):
            raise KdError(*faults)
        others = tuple(each for each in people.entries if each.who != entry.who)
        _write(home, People((*others, entry), people.quota, {**people.names, entry.name: _mark(entry.who)}))
        return entry


def remove(home: Home, who: str) -> Entry:
    """Take a person off the list and return what stood there. Their runs stay, and so does their name, for them alone.

    Raises:
        UnknownKey: nobody of that identity or short name is on it. Else as ``put``.
    """
    with FileLock(home.locks / "people.lock"):
        people = load(home)
        gone = people.entry(identity(who) or "") or next((each for each in people.entries if each.name == who), None)
        if gone is None:
            raise UnknownKey(unknown("person", who[:80], [entry.name for entry in people.entries], "who"))
        _write(home, People(tuple(each for each in people.entries if each != gone), people.quota, people.names))
        return gone


def limit_all(home: Home, quota: Mapping[str, Any]) -> None:
    """Set the limits for everybody who has none of their own. Raises as ``put``."""
    try:
        Quota(**quota)
    except ValidationError as error:
        raise KdError(*problems_of(error, Quota)) from None
    with FileLock(home.locks / "people.lock"):
        people = load(home)
        _write(home, People(people.entries, dict(quota), people.names))


def name_for(who: str, people: People) -> str:
    """Return a short name for an identity: the front of an address, with a number where somebody else has it already."""
    front = re.sub(r"[^a-z0-9_-]+", "-", who.lower().partition("@")[0]).strip("-_")[:20] or "person"
    mine, taken = _mark(who.lower()), people.names
    wanted = (front, *(f"{front}-{n}" for n in range(2, MOST + 3)))
    free = (name for name in wanted if taken.get(name, mine) == mine and name not in RESERVED and not name.startswith(GIVEN))
    return next(free, f"person-{mine}")


# ---- who somebody is ---------------------------------------------------------------------------------------------------------


def somebody(hosting: Hosting, people: People | None, who: str, session: str = "") -> Person:
    """Return the person behind an identity that has signed in. ``people`` None = their file cannot be read: then only
    ``KD_ADMINS`` are more than strangers."""
    entry = people.entry(who) if people else None
    role = Role.ADMIN if who in hosting.admins else entry.role if entry else stranger_role(hosting)
    known = people or People()
    name = entry.name if entry else f"{'admin' if role is Role.ADMIN else 'guest'}-{_mark(who)[:8]}"
    quota = NO_LIMIT if role is Role.ADMIN else known.quota_of(entry)
    return Person(name, role, who, quota, barred(hosting), session)


def visitor(hosting: Hosting, session: str = "") -> Person:
    """Return somebody who has not signed in."""
    reads = hosting.mode is Mode.DEMO or hosting.strangers is Strangers.PUBLIC
    return Person("", Role.VIEWER if reads else Role.NOBODY, "", Quota(), barred(hosting), session)


def stranger_role(hosting: Hosting) -> Role:
    """Return what somebody is who has signed in and has no entry."""
    return Role.NOBODY if hosting.strangers is Strangers.NONE else Role.VIEWER


def local(session: str = "") -> Person:
    """Return the one user of an app without sign-in."""
    return Person("you", Role.ADMIN, session=session)


def barred(hosting: Hosting) -> frozenset[str]:
    """Return the actions that this server has switched off."""
    return frozenset() if hosting.exports else frozenset({"export"})


def signs_in(hosting: Hosting) -> bool:
    """Say whether people sign in here: not in a demo, where all are strangers, nor where there is one local user."""
    return hosting.mode is Mode.LAB and hosting.sign_in is not SignIn.NONE


# ---- the file ----------------------------------------------------------------------------------------------------------------


@functools.lru_cache(maxsize=8)
def _loaded(path: Path, _mtime_ns: int, _size: int, _inode: int) -> People:
    try:
        values = json.loads(path.read_bytes())
        entries = tuple(Entry(**entry) for entry in values["people"])
        quota, names = dict(values.get("quota", {})), dict(values.get("names", {}))
        Quota(**quota)
        for kind in ("who", "name"):
            if len({getattr(entry, kind) for entry in entries}) < len(entries):
                raise ValueError(f"two people have the same {kind}")
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:  # pydantic's faults are ValueErrors
        raise KdError.of(
            f"people.json, which cannot be read ({' '.join(str(error).split())[:200]})",
            '{"people": [{"who": "ada@example.org", "name": "ada", "role": "member"}, ...]}',
            "repair it in KD_HOME; until then only KD_ADMINS are more than strangers", "people",
        ) from error  # fmt: skip
    return People(entries, quota, names | {entry.name: _mark(entry.who) for entry in entries})


def _unfit(people: People, old: Entry | None, entry: Entry) -> list[Problem]:
    found = []
    if people.names.get(entry.name, _mark(entry.who)) != _mark(entry.who):
        found.append(Problem("name", repr(entry.name), ALLOWED_NAME, "choose another name"))
    if old and old.name != entry.name:
        found.append(
            Problem("name", f"{entry.name!r} for {old.name!r}", "the name stays, for it stands on their runs", "leave it")
        )
    if old is None and len(people.entries) >= MOST:
        found.append(
            Problem("people", f"{len(people.entries)} people", f"at most {MOST}", "remove some who do not come any more")
        )
    return found


def _mark(who: str) -> str:
    return hashlib.sha256(who.encode()).hexdigest()[:16]


def _write(home: Home, people: People) -> None:
    entries = [entry.model_dump(mode="json", exclude_defaults=False) for entry in people.entries]
    content = {"people": entries, "quota": dict(people.quota), "names": dict(people.names)}
    write_aside(file_of(home), json.dumps(content, ensure_ascii=False, indent=1).encode(), private=True)
