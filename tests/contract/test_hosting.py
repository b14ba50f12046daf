"""The configuration of a hosted app: what it allows, and that every fault is told at once without telling a secret."""

from __future__ import annotations

from typing import Any

import pytest

from kdengine import hosting
from kdengine.errors import HomeError
from kdengine.hosting import Hosting, Mode, SignIn, Strangers

SECRET = "k" * 40
AUTH = {
    "redirect_uri": "https://kd.example.org/oauth2callback", "cookie_secret": "c" * 32, "client_id": "kd",
    "client_secret": "s", "server_metadata_url": "https://id.example.org/.well-known/openid-configuration",
}  # fmt: skip


def fields(**environ: str) -> list[str]:
    with pytest.raises(HomeError) as caught:
        Hosting.find(environ)
    assert all(problem.given and problem.allowed and problem.do for problem in caught.value.problems)
    return [problem.field for problem in caught.value.problems]


def test_without_variables_there_is_one_local_user() -> None:
    found = Hosting.find({"KD_HOME": "x", "PATH": "y", "KD_SIGN_IN": ""})
    assert found == Hosting() and (found.mode, found.sign_in, found.exports) == (Mode.LAB, SignIn.NONE, True)


def test_a_proxy_is_read() -> None:
    found = Hosting.find(
        {"KD_SIGN_IN": "Proxy", "KD_PROXY_SECRET": SECRET, "KD_ADMINS": " Ada@Example.org, ,bob", "KD_STRANGERS": "none"}
    )
    assert found.sign_in is SignIn.PROXY and found.strangers is Strangers.NONE and found.proxy_header == "X-Forwarded-Email"
    assert found.admins == {"ada@example.org", "bob"}


def test_behind_a_proxy_nobody_is_unknown() -> None:
    proxy = {"KD_SIGN_IN": "proxy", "KD_PROXY_SECRET": SECRET}
    assert fields(**proxy, KD_STRANGERS="public") == ["KD_STRANGERS"]
    assert Hosting.find({**proxy, "KD_STRANGERS": "viewer"}).strangers is Strangers.VIEWER
    assert Hosting.find({"KD_SIGN_IN": "oidc", "KD_STRANGERS": "public"}).strangers is Strangers.PUBLIC


def test_the_secret_is_in_no_text() -> None:
    found = Hosting.find({"KD_SIGN_IN": "proxy", "KD_PROXY_SECRET": SECRET, "KD_ADMINS": "ada@example.org"})
    assert SECRET not in repr(found) + str(found) and "ada" not in repr(found)
    for wrong in (SECRET[:20], SECRET + " ", SECRET + "\n", SECRET + "é"):
        with pytest.raises(HomeError) as caught:
            Hosting.find({"KD_SIGN_IN": "proxy", "KD_PROXY_SECRET": wrong})
        assert "kkkk" not in str(caught.value)


def test_every_fault_is_told_at_once() -> None:
    wrong = {
        "KD_MODE": "production", "KD_SIGN_IN": "proxy", "KD_PROXY_HEADER": "X_Email", "KD_PROXY_SECRET": "short",
        "KD_ADMINS": "a da@example.org", "KD_STRANGERS": "member", "KD_DEMO_EXPORTS": "yes",
    }  # fmt: skip
    assert sorted(fields(**wrong)) == sorted(set(wrong) - {"KD_SIGN_IN"})


@pytest.mark.parametrize("header", ["Cookie", "host", "X-KD-Proxy-Secret", "X Email", "X-Email:", "-X", "X--Y", "é", "x" * 65])
def test_headers_that_cannot_carry_a_name(header: str) -> None:
    assert fields(KD_SIGN_IN="proxy", KD_PROXY_SECRET=SECRET, KD_PROXY_HEADER=header) == ["KD_PROXY_HEADER"]


@pytest.mark.parametrize("name", ["KD_SIGNIN", "KD_SIGN_ON", "KDSIGN_IN", "KD_ADMIN", "KD_PROXY_SECRETS", "KD_MODES"])
def test_a_misspelt_variable_does_not_open_the_door(name: str) -> None:
    assert fields(**{name: "oidc"}) == [name]


@pytest.mark.parametrize("name", ["KD_HOME", "KD_GPUS", "KD_ALLOW_NETWORK_DISK", "KD_WORKER_MODULE", "KD_LOCK_FD"])
def test_other_variables_of_ours_are_none_of_its_business(name: str) -> None:
    assert Hosting.find({name: "1"}) == Hosting()


def test_a_demo_is_read_only() -> None:
    assert not Hosting.find({"KD_MODE": "demo"}).exports
    assert Hosting.find({"KD_MODE": "demo", "KD_DEMO_EXPORTS": "on"}).exports


@pytest.mark.parametrize(
    ("given", "plain"),
    [
        ("Ada@Example.ORG", "ada@example.org"), ("o'brien+kd@example.org", "o'brien+kd@example.org"), ("uid123", "uid123"),
        ("", None), (" ada", None), ("ada ", None), ("a\nb", None), ("a\x00b", None), ("a,b", None), ("x" * 255, None),
        ("\u0430da@example.org", None), ("ada\uff20example.org", None), ("\ufb01@example.org", None), ("ada\u202e", None),
        ('"a"@b', None),
        ("<ada@example.org>", None), ("\u212aen@example.org", None),
    ],
)  # fmt: skip
def test_an_identity_has_one_plain_form(given: str, plain: str | None) -> None:
    assert hosting.identity(given) == plain


@pytest.mark.parametrize("host", ["127.0.0.1", "localhost:8501", "LOCALHOST", "[::1]:80", "127.8.9.1", "localhost."])
def test_addresses_of_this_machine(host: str) -> None:
    assert hosting.is_loopback(host)


@pytest.mark.parametrize("host", ["", "0.0.0.0", "example.org", "localhost.example.org", "10.0.0.1", "127.0.0.1.example", "[::"])
def test_addresses_of_others(host: str) -> None:
    assert not hosting.is_loopback(host)


@pytest.mark.parametrize("address", [None, "", "0.0.0.0", "::", "192.0.2.1", "kd.example.org"])
def test_no_sign_in_stays_on_this_machine(address: str | None) -> None:
    assert [p.field for p in hosting.faults(Hosting(), address=address, secrets=None, authlib=False)] == ["KD_SIGN_IN"]
    for kind in (Hosting(mode=Mode.DEMO), Hosting(sign_in=SignIn.PROXY)):
        assert hosting.faults(kind, address=address, secrets=None, authlib=False) == ()


@pytest.mark.parametrize("address", ["127.0.0.1", "localhost", "::1"])
def test_no_sign_in_is_right_on_this_machine(address: str) -> None:
    assert hosting.faults(Hosting(), address=address, secrets=None, authlib=False) == ()


def oidc(auth: Any, *, authlib: bool = True, base: str = "") -> list[str]:
    secrets = None if auth is None else {"auth": auth}
    found = hosting.faults(Hosting(sign_in=SignIn.OIDC), address=None, secrets=secrets, authlib=authlib, base=base)
    assert "c" * 32 not in str(found)
    return [problem.field for problem in found]


def test_oidc_needs_its_section_and_its_package() -> None:
    assert oidc(AUTH) == []
    assert oidc(None) == oidc({}) == oidc("text") == ["KD_SIGN_IN"]
    assert oidc(AUTH, authlib=False) == ["KD_SIGN_IN"]
    assert oidc({"client_id": "kd"}) == [
        "auth.cookie_secret", "auth.redirect_uri", "auth.client_secret", "auth.server_metadata_url",
    ]  # fmt: skip


@pytest.mark.parametrize(
    "uri",
    [
        "", "kd.example.org/oauth2callback", "https://kd.example.org", "https://kd.example.org/oauth2callback/", "https:///oauth2callback",
        "http://kd.example.org/oauth2callback", "https://kd.example.org/oauth2callback?x=1", "ftp://kd.example.org/oauth2callback",
        "https://[/oauth2callback",
    ],
)  # fmt: skip
def test_oidc_with_a_wrong_address_to_come_back_to(uri: str) -> None:
    assert oidc(AUTH | {"redirect_uri": uri}) == ["auth.redirect_uri"]


def test_oidc_comes_back_under_the_base_url() -> None:
    assert oidc(AUTH, base="kd") == ["auth.redirect_uri"]
    assert oidc(AUTH | {"redirect_uri": "https://example.org/kd/oauth2callback"}, base="kd") == []
    assert oidc(AUTH | {"redirect_uri": "http://localhost:8501/oauth2callback"}) == []


def test_named_providers() -> None:
    named = {"redirect_uri": AUTH["redirect_uri"], "cookie_secret": AUTH["cookie_secret"]}
    lab = {key: AUTH[key] for key in hosting.PROVIDER}
    assert oidc(named | {"lab": lab}) == []
    assert oidc(named | {"lab": {"client_id": "kd"}}) == ["auth.lab.client_secret", "auth.lab.server_metadata_url"]
    assert hosting.providers({"auth": named | {"lab": lab}}) == {"lab": "Lab"}
    assert hosting.providers({"auth": AUTH}) == {"": ""} and hosting.providers(None) == hosting.providers({"auth": 1}) == {}
