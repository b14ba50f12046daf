"""Roles, people and quotas: the table of who may do what, the list of people, and what a broken list means."""

from __future__ import annotations

import itertools
import json
from typing import Any

import pytest

from kdengine import access
from kdengine.access import ACTIONS, NotAllowed, Person, Quota, Role
from kdengine.errors import KdError, UnknownKey
from kdengine.home import Home
from kdengine.hosting import Hosting, Mode, Strangers

VIEWER, MEMBER, ADMIN = (Person(name, Role(role), f"{name}@example.org", session=f"s-{name}")
                         for name, role in (("vera", "viewer"), ("mia", "member"), ("ann", "admin")))  # fmt: skip
NOBODY = Person("", Role.NOBODY, session="s-nobody")
VISITOR = Person("", Role.VIEWER, session="s-visitor")
LOCAL = access.local("s-local")
DEMO = access.visitor(Hosting(mode=Mode.DEMO, exports=False), "s-demo")
# action -> who may do it: to something of their own (or in general), to something of somebody else's
EVERYBODY = {"vera", "mia", "ann", "visitor", "local", "demo"}
MEMBERS, ADMINS = {"mia", "ann", "local"}, {"ann", "local"}
ALLOWED = {
    "read": (EVERYBODY, EVERYBODY), "ask": (EVERYBODY, EVERYBODY),
    "export": (EVERYBODY - {"demo"}, EVERYBODY - {"demo"}),
    "stop-export": (EVERYBODY, ADMINS), "remove-export": (EVERYBODY, ADMINS),
    "launch": (MEMBERS, MEMBERS), "retry": (MEMBERS, MEMBERS),
    "stop": (MEMBERS, ADMINS), "resume": (MEMBERS, ADMINS), "label": (MEMBERS, ADMINS), "remove-run": (MEMBERS, ADMINS),
    "save-view": (MEMBERS, MEMBERS), "change-view": (MEMBERS, ADMINS), "fetch-dataset": (MEMBERS, MEMBERS),
    "measure": (ADMINS, ADMINS), "dismiss": (EVERYBODY, ADMINS), "use-files": (ADMINS, ADMINS),
    "people": (ADMINS, ADMINS), "server": (ADMINS, ADMINS),
}  # fmt: skip
WHO = {"vera": VIEWER, "mia": MEMBER, "ann": ADMIN, "nobody": NOBODY, "visitor": VISITOR, "local": LOCAL, "demo": DEMO}


def test_the_table_has_every_action() -> None:
    assert set(ALLOWED) == set(ACTIONS)


@pytest.mark.parametrize(("action", "name"), list(itertools.product(ACTIONS, WHO)))
def test_every_action_by_everybody(action: str, name: str) -> None:
    person = WHO[name]
    own, foreign = ALLOWED[action]
    for owner, allowed in ((person.asker, own), ("somebody-else", foreign)):
        assert access.may(person, action, owner) == (name in allowed), owner
        if name in allowed:
            access.demand(person, action, owner)
        else:
            with pytest.raises(NotAllowed) as caught:
                access.demand(person, action, owner)
            assert ACTIONS[action].doing in str(caught.value) and "@" not in str(caught.value)


@pytest.mark.parametrize("action", [name for name, rule in ACTIONS.items() if rule.own])
@pytest.mark.parametrize("owner", [None, ""])
def test_what_belongs_to_nobody_is_for_admins(action: str, owner: str | None) -> None:
    """Runs of the command line have no owner; an empty name is no name."""
    empty = Person("", Role.MEMBER)
    assert not access.may(MEMBER, action, owner) and not access.may(empty, action, owner) and access.may(ADMIN, action, owner)


def test_an_unknown_action_is_no_permission() -> None:
    with pytest.raises(KeyError):
        access.demand(ADMIN, "fly")


def test_roles_are_in_order() -> None:
    assert [role.rank for role in (Role.NOBODY, Role.VIEWER, Role.MEMBER, Role.ADMIN)] == [0, 1, 2, 3]
    assert Role.ADMIN.reaches(Role.MEMBER) and not Role.VIEWER.reaches(Role.MEMBER)


def test_an_identity_is_in_no_repr() -> None:
    assert "@" not in repr(MEMBER) and MEMBER.owner == "mia" and LOCAL.owner is None and LOCAL.asker == "s-local"


# ---- the people ----------------------------------------------------------------------------------------------------------------


def test_people_are_added_changed_removed(home: Home) -> None:
    assert access.load(home) == access.People()
    entry = access.put(home, "Ada@Example.org", "member")
    assert (entry.who, entry.name, entry.role) == ("ada@example.org", "ada", Role.MEMBER)
    assert access.file_of(home).stat().st_mode & 0o077 == 0, "it holds addresses"
    assert access.put(home, "ada@example.org", "admin").name == "ada"
    assert [e.role for e in access.load(home).entries] == [Role.ADMIN]
    assert access.remove(home, "ada").who == "ada@example.org" and access.load(home).entries == ()
    with pytest.raises(UnknownKey):
        access.remove(home, "ada")


def test_a_changed_file_counts_at_once(home: Home) -> None:
    access.put(home, "ada@example.org", "member")
    assert access.somebody(Hosting(), access.load(home), "ada@example.org").role is Role.MEMBER
    access.put(home, "ada@example.org", "viewer")
    assert access.somebody(Hosting(), access.load(home), "ada@example.org").role is Role.VIEWER


def test_nobody_inherits_a_name(home: Home) -> None:
    access.put(home, "ada@example.org", "member")
    access.remove(home, "ada")
    with pytest.raises(KdError, match="name"):
        access.put(home, "eve@example.com", "member", name="ada")
    assert access.put(home, "ada@example.com", "member").name == "ada-2"
    assert access.put(home, "ada@example.org", "member").name == "ada"


@pytest.mark.parametrize(
    "name", ["you", "admin", "guest-1", "admin-1", "Ada", "a b", "../x", "a\x00", "x" * 25, "-a", "ada\u202e"]
)
def test_names_that_mislead(home: Home, name: str) -> None:
    with pytest.raises(KdError):
        access.put(home, "ada@example.org", "member", name=name)
    assert not access.file_of(home).exists()


@pytest.mark.parametrize("who", ["", "a b", "../../etc\x00", "\u0430da@example.org", "x" * 300, "a\u202eb"])
def test_identities_that_are_none(home: Home, who: str) -> None:
    with pytest.raises(KdError):
        access.put(home, who, "member", name="ada")
    assert not access.file_of(home).exists()


@pytest.mark.parametrize("role", ["nobody", "root", ""])
def test_roles_that_are_none(home: Home, role: str) -> None:
    with pytest.raises(KdError, match="viewer"):
        access.put(home, "ada@example.org", role)


def test_a_name_stays(home: Home) -> None:
    access.put(home, "ada@example.org", "member")
    with pytest.raises(KdError, match="name"):
        access.put(home, "ada@example.org", "member", name="eve")


def test_quotas_are_those_of_all_but_for_ones_own(home: Home) -> None:
    access.limit_all(home, {"queued_runs": 5, "disk_mib": 100})
    access.put(home, "ada@example.org", "member", quota={"queued_runs": None})
    access.put(home, "bob@example.org", "member")
    people = access.load(home)
    ada, bob = (access.somebody(Hosting(), people, f"{name}@example.org").quota for name in ("ada", "bob"))
    assert ada == Quota(queued_runs=None, disk_mib=100) and bob == Quota(queued_runs=5, disk_mib=100)
    for wrong in ({"queued_runs": -1}, {"gpu_hours": "x"}, {"runs": 1}):
        with pytest.raises(KdError):
            access.limit_all(home, wrong)
        with pytest.raises(KdError):
            access.put(home, "ada@example.org", "member", quota=wrong)
    assert access.load(home) == people


BROKEN: tuple[Any, ...] = (
    b"", b"{", b"[]", b"{}", b'{"people": 1}', b"\xff\xfe", b'{"people": [{"who": "eve@example.org"}]}',
    {"people": [{"who": "eve@example.org", "name": "eve", "role": "superuser"}]},
    {"people": [{"who": "eve@example.org", "name": "eve", "role": "admin", "is_admin": True}]},
    {"people": [{"who": "eve@example.org", "name": "eve", "role": "admin", "quota": {"runs": 1}}]},
    {"people": [{"who": "eve@example.org", "name": "eve", "role": "admin"}, {"who": "x", "name": "eve", "role": "viewer"}]},
    {"people": [{"who": "eve@example.org", "name": "eve", "role": "admin"}], "quota": {"queued_runs": "many"}},
    {"people": [{"who": "eve@example.org", "name": "eve", "role": "admin"}], "names": 1},
)  # fmt: skip


@pytest.mark.parametrize("content", BROKEN, ids=range(len(BROKEN)))
def test_a_broken_file_makes_nobody_more_than_a_stranger(home: Home, content: Any) -> None:
    access.file_of(home).write_bytes(content if isinstance(content, bytes) else json.dumps(content).encode())
    with pytest.raises(KdError, match=r"people\.json"):
        access.load(home)
    with pytest.raises(KdError, match=r"people\.json"):
        access.put(home, "bob@example.org", "member")
    strict = Hosting(admins=frozenset({"ada@example.org"}), strangers=Strangers.NONE)
    assert access.somebody(strict, None, "eve@example.org").role is Role.NOBODY
    assert access.somebody(strict, None, "ada@example.org").role is Role.ADMIN


def test_strangers() -> None:
    people = access.People()
    assert access.somebody(Hosting(), people, "eve@example.org").role is Role.VIEWER
    strict = Hosting(strangers=Strangers.NONE)
    assert access.somebody(strict, people, "eve@example.org").role is access.visitor(strict).role is Role.NOBODY
    assert access.visitor(Hosting()).role is Role.NOBODY, "nobody reads without a sign-in unless an admin says so"
    public = Hosting(strangers=Strangers.PUBLIC)
    assert access.somebody(public, people, "eve@example.org").role is access.visitor(public).role is Role.VIEWER
    names = {access.somebody(Hosting(), people, f"{who}@example.org").name for who in ("eve", "mallory")}
    assert len(names) == 2 and all(name.startswith("guest-") for name in names)
    ann = access.somebody(Hosting(admins=frozenset({"ann@example.org"})), people, "ann@example.org")
    assert ann.name.startswith("admin-") and ann.quota == access.NO_LIMIT
