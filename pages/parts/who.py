"""Who is asking: from the sign-in or the proxy's headers to a person with a role; what the page may show them.

Reads: the environment, the browser's sign-in, the headers of its connection, ``people.json``. Writes: nothing.
Never: an identity on a page that others see; trusts a header without the proxy's secret.
"""

from __future__ import annotations

import hmac
from collections.abc import Mapping
from typing import Any

import streamlit as st
from streamlit.auth_util import is_authlib_installed
from streamlit.runtime.scriptrunner import get_script_run_ctx

from kdengine import access, hosting
from kdengine.access import NotAllowed as NotAllowed
from kdengine.access import People, Person, Role
from kdengine.errors import HomeError, KdError, Problem
from kdengine.hosting import Hosting, Mode, SignIn
from pages.parts import pulse

NOBODY = Person("", Role.NOBODY)
FORWARDED = ("Forwarded", "X-Forwarded-For", "X-Forwarded-Host", "X-Real-Ip", "Via")  # a proxy says for whom it asks


def of() -> Hosting:
    """Return how this app is hosted.

    Raises:
        HomeError: the environment is wrong; ``faults`` has it all.
    """
    return pulse.hosting()


def faults() -> tuple[Problem, ...]:
    """Return why the app must not start: every fault of the configuration; nothing where it may."""
    try:
        found = of()
    except HomeError as error:
        return error.problems
    oidc = found.sign_in is SignIn.OIDC
    return hosting.faults(
        found, address=st.get_option("server.address"), secrets=secrets() if oidc else None,
        authlib=oidc and is_authlib_installed(), base=st.get_option("server.baseUrlPath") or "",
    )  # fmt: skip


def person() -> Person:
    """Return who asks. Whoever cannot be recognised without doubt is nobody, or a visitor where visitors may come."""
    found, session = of(), _session()
    if found.mode is Mode.DEMO:
        return access.visitor(found, session)
    if found.sign_in is SignIn.NONE:
        return access.local(session) if _is_from_here() else NOBODY
    who = _signed_in() if found.sign_in is SignIn.OIDC else _vouched_for(found)
    if who is not None:
        return access.somebody(found, _people(), who, session)
    return access.visitor(found, session) if found.sign_in is SignIn.OIDC else NOBODY


def may(action: str, owner: str | None = None) -> bool:
    """Say whether who asks may do it: for showing and hiding. ``actions`` asks again."""
    return access.may(person(), action, owner)


def demand(action: str, owner: str | None = None) -> Person:
    """Return who asks, if they may do it.

    Raises:
        NotAllowed: they may not.
    """
    asking = person()
    access.demand(asking, action, owner)
    return asking


def signs_in() -> bool:
    """Say whether people sign in here."""
    return access.signs_in(of())


def troubles() -> tuple[Problem, ...]:
    """Return what is wrong with the list of people, for admins."""
    try:
        access.load(pulse.home_of(of()))
    except KdError as error:
        return error.problems
    return ()


def providers() -> dict[str, str]:
    """Return what people can sign in with: name for ``st.login`` -> name for people; nothing where nobody signs in by OIDC."""
    return hosting.providers(secrets()) if signs_in() and of().sign_in is SignIn.OIDC else {}


def secrets() -> Mapping[str, Any] | None:
    """Return Streamlit's secrets, None where there are none or they cannot be read."""
    return st.secrets.to_dict() if st.secrets.load_if_toml_exists() else None


# ---- who it is ---------------------------------------------------------------------------------------------------------------


def _signed_in() -> str | None:
    """Return the identity that Streamlit's signed cookie names, None without one or where its address is not verified."""
    claims = claimed()
    if claims.get("is_logged_in") is not True or str(claims.get("email_verified", True)).lower() not in ("true", "1"):
        return None
    email = claims.get("email")
    return hosting.identity(email) if isinstance(email, str) else None


def _vouched_for(found: Hosting) -> str | None:
    """Return the identity in the proxy's header, None unless the proxy proves that it is the proxy; each header exactly once."""
    secret, names = headers(hosting.SECRET_HEADER), headers(found.proxy_header)
    proven = len(secret) == 1 and hmac.compare_digest(secret[0].encode(), found.proxy_secret.encode())
    return hosting.identity(names[0]) if proven and len(names) == 1 else None


def _is_from_here() -> bool:
    """Say whether the browser asked for this machine, and no proxy stands between: without sign-in nobody else is served.

    A foreign page whose name was made to lead here would ask for its own name.
    """
    return all(hosting.is_loopback(host) for host in headers("Host")) and not any(headers(name) for name in FORWARDED)


def claimed() -> Mapping[str, Any]:
    """Return what the sign-in says about who asks; its signature was checked by Streamlit."""
    return st.user.to_dict()


def headers(name: str) -> list[str]:
    """Return all values of a header of the browser's connection, as the server received it."""
    return st.context.headers.get_all(name)


def _people() -> People | None:
    try:
        return access.load(pulse.home_of(of()))
    except KdError:  # admins are told, see ``troubles``; nobody is more than a stranger meanwhile
        return None


def _session() -> str:
    context = get_script_run_ctx()
    return context.session_id if context else "none"
