"""Who asks: a local user, a signed cookie's claims, a proxy's headers; forged, odd and missing ones make nobody."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator

import pytest

from kdengine import access
from kdengine.access import Role
from kdengine.home import Home
from pages.parts import pulse, who

SECRET = "0123456789abcdef" * 3
Set = Callable[..., None]


@pytest.fixture
def asked(home: Home, monkeypatch: pytest.MonkeyPatch) -> Iterator[Set]:
    """Set how the app is hosted, and what the browser's connection says: ``asked(KD_SIGN_IN="proxy", headers={...})``."""

    def set_(*, headers: dict[str, list[str]] | None = None, claims: dict[str, object] | None = None, **environ: str) -> None:
        for name, value in environ.items():
            monkeypatch.setenv(name, value)
        monkeypatch.setattr(who, "headers", lambda name: (headers or {}).get(name, []))
        monkeypatch.setattr(who, "claimed", lambda: claims or {})

    yield set_
    pulse.close_all()


def proxied(asked: Set, secret: list[str], names: list[str]) -> access.Person:
    headers = {"X-KD-Proxy-Secret": secret, "X-Forwarded-Email": names}
    asked(headers=headers, KD_SIGN_IN="proxy", KD_PROXY_SECRET=SECRET, KD_ADMINS="ada@example.org")
    return who.person()


def test_without_sign_in_who_is_here_may_all(asked: Set) -> None:
    asked()
    assert who.person().role is Role.ADMIN and who.person().owner is None and who.faults() == ()


@pytest.mark.parametrize("host", ["localhost:8501", "127.0.0.1:8501", "[::1]:8501"])
def test_this_machine_by_its_names(asked: Set, host: str) -> None:
    asked(headers={"Host": [host]})
    assert who.person().role is Role.ADMIN


@pytest.mark.parametrize(
    "headers",
    [{"Host": ["evil.example"]}, {"Host": ["localhost:8501", "evil.example"]}, {"X-Forwarded-For": ["192.0.2.1"]},
     {"Host": ["localhost"], "Via": ["1.1 proxy"]}, {"Forwarded": ["for=192.0.2.1"]}, {"Host": [""]}],
)  # fmt: skip
def test_without_sign_in_nobody_is_served_from_elsewhere(asked: Set, headers: dict[str, list[str]]) -> None:
    """A name that was made to lead here (DNS rebinding), or a proxy that nobody told us of."""
    asked(headers=headers)
    assert who.person().role is Role.NOBODY and not who.may("read")


def test_the_proxy_says_who_asks(asked: Set) -> None:
    person = proxied(asked, [SECRET], ["Ada@Example.org"])
    assert (person.role, person.who) == (Role.ADMIN, "ada@example.org") and "@" not in (person.owner or "@")


FORGED = {
    "no secret": ([], ["ada@example.org"]), "empty secret": ([""], ["ada@example.org"]),
    "wrong secret": (["x" * len(SECRET)], ["ada@example.org"]), "half a secret": ([SECRET[:-1]], ["ada@example.org"]),
    "secret twice": ([SECRET, SECRET], ["ada@example.org"]), "secrets joined": ([f"{SECRET}, {SECRET}"], ["ada@example.org"]),
    "secret with more": ([SECRET + "x"], ["ada@example.org"]), "other letters": (["é" * 48], ["ada@example.org"]),
    "capital secret": ([SECRET.upper()], ["ada@example.org"]),
    "no name": ([SECRET], []), "empty name": ([SECRET], [""]), "name twice": ([SECRET], ["eve@example.org", "ada@example.org"]),
    "names joined": ([SECRET], ["eve@example.org,ada@example.org"]), "look-alike": ([SECRET], ["\u0430da@example.org"]),
    "full width": ([SECRET], ["ada\uff20example.org"]), "latin-1": ([SECRET], ["\xe0da@example.org"]),
    "blank": ([SECRET], ["ada@example.org "]), "control": ([SECRET], ["ada@example.org\x00"]), "long": ([SECRET], ["a" * 255]),
    "quotes": ([SECRET], ['"ada@example.org"']), "kelvin": ([SECRET], ["\u212aate@example.org"]),
    "rtl": ([SECRET], ["\u202eada"]),
}  # fmt: skip


@pytest.mark.parametrize("kind", FORGED)
def test_a_forged_header_makes_nobody(asked: Set, kind: str) -> None:
    person = proxied(asked, *FORGED[kind])
    assert (person.role, person.who, person.owner) == (Role.NOBODY, "", None)
    assert not any(who.may(action, "") for action in access.ACTIONS)


LOGGED_IN = {"is_logged_in": True, "email": "Ada@Example.org", "email_verified": True}


def signed_in(asked: Set, claims: dict[str, object], **more: str) -> access.Person:
    asked(claims=claims, KD_SIGN_IN="oidc", KD_ADMINS="ada@example.org", **more)
    return who.person()


@pytest.mark.parametrize("verified", [True, "true", None])
def test_who_signed_in(asked: Set, verified: object) -> None:
    claims = {k: v for k, v in (LOGGED_IN | {"email_verified": verified}).items() if v is not None}
    assert signed_in(asked, claims).role is Role.ADMIN


NOT_SIGNED_IN: dict[str, dict[str, object]] = {
    "nothing": {}, "no word": {"email": "ada@example.org"}, "logged out": LOGGED_IN | {"is_logged_in": False},
    "a text": LOGGED_IN | {"is_logged_in": "true"}, "not verified": LOGGED_IN | {"email_verified": False},
    "not verified text": LOGGED_IN | {"email_verified": "False"}, "unclear": LOGGED_IN | {"email_verified": "maybe"},
    "no address": {"is_logged_in": True, "name": "ada@example.org"}, "a list": LOGGED_IN | {"email": ["ada@example.org"]},
    "look-alike": LOGGED_IN | {"email": "\u0430da@example.org"}, "empty": LOGGED_IN | {"email": ""},
}  # fmt: skip


@pytest.mark.parametrize("kind", NOT_SIGNED_IN)
def test_who_has_not_signed_in(asked: Set, kind: str) -> None:
    for strangers, role in (("none", Role.NOBODY), ("", Role.NOBODY), ("viewer", Role.NOBODY), ("public", Role.VIEWER)):
        person = signed_in(asked, NOT_SIGNED_IN[kind], KD_STRANGERS=strangers)
        assert (person.role, person.who, person.name) == (role, "", ""), strangers


def test_a_changed_role_counts_at_the_next_click(asked: Set, home: Home) -> None:
    claims: dict[str, object] = LOGGED_IN | {"email": "bob@example.org"}
    assert signed_in(asked, claims).role is Role.VIEWER
    access.put(home, "bob@example.org", "member", name="bob")
    assert (who.person().role, who.person().owner) == (Role.MEMBER, "bob")
    access.remove(home, "bob")
    assert who.person().role is Role.VIEWER


def test_a_broken_list_of_people_fails_closed(asked: Set, home: Home) -> None:
    access.put(home, "bob@example.org", "admin")
    assert signed_in(asked, LOGGED_IN | {"email": "bob@example.org"}).role is Role.ADMIN
    access.file_of(home).write_text(json.dumps({"people": "all"}), encoding="utf-8")
    assert signed_in(asked, LOGGED_IN | {"email": "bob@example.org"}).role is Role.VIEWER
    assert signed_in(asked, dict(LOGGED_IN)).role is Role.ADMIN and "people.json" in who.troubles()[0].given


def test_in_a_demo_everybody_only_reads(asked: Set) -> None:
    asked(claims=dict(LOGGED_IN), KD_MODE="demo", KD_SIGN_IN="oidc", KD_ADMINS="ada@example.org")
    assert (who.person().role, who.person().who) == (Role.VIEWER, "") and not who.may("export") and who.may("ask")
    assert who.faults() == () and who.providers() == {}


def test_a_wrong_configuration_is_told(asked: Set) -> None:
    asked(KD_MODE="prod", KD_STRANGERS="all")
    assert [problem.field for problem in who.faults()] == ["KD_MODE", "KD_STRANGERS"]
    asked(KD_MODE="lab", KD_STRANGERS="none", KD_SIGN_IN="oidc")
    assert [problem.field for problem in who.faults()] == ["KD_SIGN_IN"]
