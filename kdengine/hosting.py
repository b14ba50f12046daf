"""How the app is offered: to one person on this machine, to a lab that signs in, or as a demo to a room of strangers.

Reads: the variables and the secrets it is given. Writes: nothing. Never: a secret in any text; files, Streamlit.
"""

from __future__ import annotations

import difflib
import ipaddress
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any, TypeVar
from urllib.parse import urlsplit

from kdengine.errors import HomeError, Problem, unknown

PROXY_HEADER, SECRET_HEADER = "X-Forwarded-Email", "X-KD-Proxy-Secret"
SECRET_LENGTH = 32  # characters at least
LONGEST_IDENTITY = 254  # characters of an e-mail address
VARIABLES = ("KD_MODE", "KD_SIGN_IN", "KD_PROXY_HEADER", "KD_PROXY_SECRET", "KD_ADMINS", "KD_STRANGERS", "KD_DEMO_EXPORTS")
LIKE = 0.85  # from here on the name of a variable is taken for a misspelt one of ours
CALLBACK = "/oauth2callback"
PROVIDER = ("client_id", "client_secret", "server_metadata_url")
_IDENTITY = re.compile(r"[A-Za-z0-9.!#$%&'*+/=?^_`{|}~@:\\-]+")  # no blank, comma, quote or bracket; nothing but ASCII
_HEADER = re.compile(r"[A-Za-z0-9]+(-[A-Za-z0-9]+)*")
_TAKEN = {"host", "cookie", "authorization", "origin", SECRET_HEADER.lower()}
_Choice = TypeVar("_Choice", bound=StrEnum)


class Mode(StrEnum):
    """What the app is for."""

    LAB = "lab"
    DEMO = "demo"


class SignIn(StrEnum):
    """How the app knows who asks."""

    NONE = "none"
    OIDC = "oidc"
    PROXY = "proxy"


class Strangers(StrEnum):
    """What somebody may do who is on no list: nothing; read once they have signed in; read without a sign-in, too."""

    NONE = "none"
    VIEWER = "viewer"
    PUBLIC = "public"


class Switch(StrEnum):
    """Something that is on or off."""

    ON = "on"
    OFF = "off"


@dataclass(frozen=True, slots=True)
class Hosting:
    """The configuration, read once. ``admins``: identities in plain form. ``exports``: race charts may be exported."""

    mode: Mode = Mode.LAB
    sign_in: SignIn = SignIn.NONE
    proxy_header: str = PROXY_HEADER
    proxy_secret: str = field(default="", repr=False)
    admins: frozenset[str] = field(default=frozenset(), repr=False)
    strangers: Strangers = Strangers.VIEWER
    exports: bool = True

    @classmethod
    def find(cls, environ: Mapping[str, str]) -> Hosting:
        """Return what ``KD_MODE``, ``KD_SIGN_IN`` and the others of ``VARIABLES`` say; docs/hosting.md explains each.

        Raises:
            HomeError: with every fault at once. The secret is never named.
        """
        found = [*_misspelt(environ)]
        mode = _choice(Mode, "KD_MODE", Mode.LAB, environ, found)
        sign_in = _choice(SignIn, "KD_SIGN_IN", SignIn.NONE, environ, found)
        strangers = _choice(Strangers, "KD_STRANGERS", Strangers.VIEWER, environ, found)
        exports = _choice(Switch, "KD_DEMO_EXPORTS", Switch.OFF, environ, found)
        header, secret = environ.get("KD_PROXY_HEADER", "").strip() or PROXY_HEADER, environ.get("KD_PROXY_SECRET", "")
        if sign_in is SignIn.PROXY:
            found += [*_header_faults(header), *_secret_faults(secret)]
            if strangers is Strangers.PUBLIC:
                found.append(_unknown_to_the_proxy())
        admins = [name.strip() for name in environ.get("KD_ADMINS", "").split(",") if name.strip()]
        found += [_no_identity("KD_ADMINS", name) for name in admins if identity(name) is None]
        if found:
            raise HomeError(*found)
        known = frozenset(plain for name in admins if (plain := identity(name)))
        return cls(mode, sign_in, header, secret, known, strangers, mode is Mode.LAB or exports is Switch.ON)


def identity(text: str) -> str | None:
    """Return an identity (an e-mail address, an account) in its plain form, lower case; None for what is none.

    Only ASCII: no letter that looks like another one passes.
    """
    return text.lower() if len(text) <= LONGEST_IDENTITY and _IDENTITY.fullmatch(text) else None


def is_loopback(host: str) -> bool:
    """Say whether ``host`` (a name or an address, with or without a port) is this machine and nothing else."""
    try:
        name = (urlsplit(f"//{host}").hostname or "").rstrip(".")
        return name == "localhost" or ipaddress.ip_address(name).is_loopback
    except ValueError:
        return False


def faults(
    hosting: Hosting, *, address: str | None, secrets: Mapping[str, Any] | None, authlib: bool, base: str = ""
) -> tuple[Problem, ...]:
    """Return what does not fit together: every fault, each in three parts; nothing where the app may start.

    ``address``: what the server listens on, None = everywhere. ``secrets``: content of ``.streamlit/secrets.toml``, None = there
    is none. ``authlib``: whether Authlib is installed. ``base``: path under which the app is served.
    """
    if hosting.mode is Mode.DEMO:  # whoever comes may read, and nothing else
        return ()
    if hosting.sign_in is SignIn.NONE:
        return tuple(_open_door(address))
    return tuple(_oidc_faults(secrets, authlib, base)) if hosting.sign_in is SignIn.OIDC else ()


def providers(secrets: Mapping[str, Any] | None) -> dict[str, str]:
    """Return what people can sign in with: name for ``st.login`` ("" = the unnamed one) -> name for people."""
    auth = (secrets or {}).get("auth") or {}
    if not isinstance(auth, Mapping):
        return {}
    named = {key: key.capitalize() for key, value in auth.items() if isinstance(value, Mapping) and "client_id" in value}
    return named or ({"": ""} if "client_id" in auth else {})


# ---- faults ------------------------------------------------------------------------------------------------------------------


def _choice(kind: type[_Choice], name: str, default: _Choice, environ: Mapping[str, str], found: list[Problem]) -> _Choice:
    given = environ.get(name, "").strip()
    known = [value.value for value in kind]
    if given.lower() in known:
        return kind(given.lower())
    if given:
        found.append(unknown("value", given[:60], known, name))
    return default


def _misspelt(environ: Mapping[str, str]) -> Iterator[Problem]:
    """A misspelt KD_SIGN_IN would open the app to everybody who reaches it."""
    for name in sorted(environ):
        if name.startswith("KD") and name not in VARIABLES:
            close = difflib.get_close_matches(name, VARIABLES, n=1, cutoff=LIKE)
            if close:
                yield Problem(name, f"a variable {name}, which nothing reads", close[0], f"call it {close[0]}, or remove it")


def _header_faults(header: str) -> Iterator[Problem]:
    if not _HEADER.fullmatch(header) or len(header) > 64 or header.lower() in _TAKEN:
        allowed = "the name of a header of its own: letters, digits and single hyphens"
        yield Problem("KD_PROXY_HEADER", repr(header[:64]), allowed, f"name the header in which the proxy says who asks, such as "
                      f"{PROXY_HEADER}")  # fmt: skip


def _secret_faults(secret: str) -> Iterator[Problem]:
    if len(secret) < SECRET_LENGTH or not re.fullmatch(r"[!-~]+", secret):
        given = f"{len(secret)} characters" if len(secret) < SECRET_LENGTH else "characters that a header cannot carry"
        yield Problem(
            "KD_PROXY_SECRET", given if secret else "nothing", f"at least {SECRET_LENGTH} letters, digits and signs, no blanks",
            f"make one with `openssl rand -hex 32`, and let the proxy send it as header {SECRET_HEADER}",
        )  # fmt: skip


def _unknown_to_the_proxy() -> Problem:
    return Problem(
        "KD_STRANGERS", "public, behind a proxy that says who asks", "none or viewer: nobody passes who has not signed in there",
        "choose viewer, or KD_SIGN_IN=oidc",
    )  # fmt: skip


def _no_identity(name: str, given: str) -> Problem:
    allowed = f"addresses or accounts in plain letters, at most {LONGEST_IDENTITY} characters each, with commas between"
    return Problem(name, repr(given[:80]), allowed, "write for example ada@example.org,bob@example.org")


def _open_door(address: str | None) -> Iterator[Problem]:
    if not address or not is_loopback(f"[{address}]" if ":" in address else address):
        yield Problem(
            "KD_SIGN_IN", f"none, while the server listens on {address or 'every address of this machine'}",
            "none on 127.0.0.1 alone: without sign-in everybody who reaches the app may do everything",
            "set KD_SIGN_IN to oidc or proxy (docs/hosting.md), KD_MODE to demo, or the server's address to 127.0.0.1",
        )  # fmt: skip


def _oidc_faults(secrets: Mapping[str, Any] | None, authlib: bool, base: str) -> Iterator[Problem]:
    if not authlib:
        yield Problem("KD_SIGN_IN", "oidc, without the package Authlib", "Authlib 1.3.2 or newer", "pip install 'Authlib>=1.3.2'")
    auth = (secrets or {}).get("auth")
    if not isinstance(auth, Mapping) or not auth:
        given = "no .streamlit/secrets.toml" if secrets is None else "secrets without a section [auth]"
        allowed = "[auth] with redirect_uri, cookie_secret, client_id, client_secret and server_metadata_url"
        yield Problem("KD_SIGN_IN", f"oidc, with {given}", allowed, "write the section; docs/hosting.md has an example")
        return
    if len(str(auth.get("cookie_secret") or "")) < SECRET_LENGTH:
        do = "make one with `openssl rand -hex 32`"
        given = "a short one" if auth.get("cookie_secret") else "nothing"
        yield Problem("auth.cookie_secret", given, f"at least {SECRET_LENGTH} characters that nobody can guess", do)
    yield from _callback_faults(str(auth.get("redirect_uri") or ""), base)
    yield from _provider_faults(auth)


def _callback_faults(uri: str, base: str) -> Iterator[Problem]:
    path = f"/{base.strip('/')}".rstrip("/") + CALLBACK
    try:
        parts = urlsplit(uri)
        host = parts.hostname or ""
        sound = parts.scheme in ("https", "http") and host and parts.path == path and not (parts.query or parts.fragment)
    except ValueError:
        host, sound = "", False
    if not sound or (parts.scheme == "http" and not is_loopback(host)):
        allowed = f"https://<the address that people open>{path}; http on this machine only"
        yield Problem("auth.redirect_uri", repr(uri[:200]), allowed, "write the address as browsers see it, and register it with "
                      "the provider")  # fmt: skip


def _provider_faults(auth: Mapping[str, Any]) -> Iterator[Problem]:
    named = {key: value for key, value in auth.items() if isinstance(value, Mapping)}
    for name, values in named.items() or {"": auth}.items():
        place = f"auth.{name}" if name else "auth"
        for missing in (key for key in PROVIDER if not str(values.get(key) or "").strip()):
            yield Problem(f"{place}.{missing}", "nothing", "what the provider gave you", f"write {missing} into [{place}]")
