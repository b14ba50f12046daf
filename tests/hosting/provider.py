"""An identity provider for tests: OpenID Connect on loopback, which lets in whom the test names without asking.

Reads / writes: nothing but its own memory. Never: an address other than 127.0.0.1; a password.
"""

from __future__ import annotations

import base64
import hashlib
import json
import secrets
import threading
import time
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import parse_qsl, urlencode, urlsplit

from joserfc import jwt
from joserfc.jwk import RSAKey

CLIENT_ID, CLIENT_SECRET = "kd-explorer", "a secret of this test alone"
TOKEN_S = 300


@dataclass
class Provider:
    """Who is let in next: ``claims`` go into the identity token as they are. ``asked`` lists the paths that were requested."""

    claims: dict[str, Any] = field(default_factory=lambda: {"email": "ada@example.org", "email_verified": True})
    refuses: bool = False
    asked: list[str] = field(default_factory=list)
    redirects: list[str] = field(default_factory=list)

    def __post_init__(self) -> None:
        self._key = RSAKey.generate_key(2048, {"kid": "test", "use": "sig"})
        self._grants: dict[str, dict[str, str]] = {}  # code -> what it was asked for with
        provider = self

        class Handler(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                provider._answer(self, dict(parse_qsl(urlsplit(self.path).query)))

            def do_POST(self) -> None:
                body = self.rfile.read(int(self.headers.get("Content-Length", 0))).decode()
                provider._answer(self, dict(parse_qsl(body)))

            def log_message(self, *_: object) -> None:
                """Say nothing: the test asks ``asked``."""

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self._thread = threading.Thread(target=self._server.serve_forever, daemon=True)
        self._thread.start()

    @property
    def url(self) -> str:
        """Issuer."""
        return f"http://127.0.0.1:{self._server.server_port}"

    @property
    def metadata_url(self) -> str:
        """Where its discovery document is."""
        return f"{self.url}/.well-known/openid-configuration"

    def close(self) -> None:
        """Stop listening."""
        self._server.shutdown()
        self._server.server_close()
        self._thread.join(timeout=10)

    def _answer(self, to: BaseHTTPRequestHandler, given: dict[str, str]) -> None:
        path = urlsplit(to.path).path
        self.asked.append(path)
        pages = {
            "/.well-known/openid-configuration": self._discovery,
            "/jwks": lambda *_: self._key_set(),
            "/authorize": self._authorize,
            "/token": self._token,
            "/leave": self._leave,
        }
        status, content = pages.get(path, lambda *_: (404, {"error": "no such page"}))(to, given)
        body = b"" if isinstance(content, str) else json.dumps(content).encode()
        to.send_response(status)
        if isinstance(content, str):
            to.send_header("Location", content)
        to.send_header("Content-Type", "application/json")
        to.send_header("Content-Length", str(len(body)))
        to.end_headers()
        to.wfile.write(body)

    def _discovery(self, *_: object) -> tuple[int, dict[str, Any]]:
        return 200, {
            "issuer": self.url,
            "authorization_endpoint": f"{self.url}/authorize",
            "token_endpoint": f"{self.url}/token",
            "jwks_uri": f"{self.url}/jwks",
            "end_session_endpoint": f"{self.url}/leave",
            "response_types_supported": ["code"],
            "subject_types_supported": ["public"],
            "id_token_signing_alg_values_supported": ["RS256"],
            "code_challenge_methods_supported": ["S256"],
        }

    def _key_set(self) -> tuple[int, dict[str, Any]]:
        return 200, {"keys": [self._key.as_dict(private=False)]}

    def _authorize(self, _: object, given: dict[str, str]) -> tuple[int, str]:
        self.redirects.append(given["redirect_uri"])
        if self.refuses:
            answer = {"error": "access_denied", "error_description": "not today"}
        else:
            answer = {"code": secrets.token_urlsafe(16)}
            self._grants[answer["code"]] = given
        return 302, f"{given['redirect_uri']}?{urlencode({**answer, 'state': given['state']})}"

    def _token(self, to: BaseHTTPRequestHandler, given: dict[str, str]) -> tuple[int, dict[str, Any]]:
        asked = self._grants.pop(given.get("code", ""), None)
        basic = "Basic " + base64.b64encode(f"{CLIENT_ID}:{CLIENT_SECRET}".encode()).decode()
        known = to.headers.get("Authorization") == basic or given.get("client_secret") == CLIENT_SECRET
        if asked is None or not known or not _fits(asked, given):
            return 400, {"error": "invalid_grant"}
        now = int(time.time())
        claims = {"iss": self.url, "aud": CLIENT_ID, "sub": "1", "iat": now, "exp": now + TOKEN_S, "nonce": asked.get("nonce")}
        token = jwt.encode({"alg": "RS256", "kid": "test"}, {**claims, **self.claims}, self._key)
        return 200, {"access_token": secrets.token_urlsafe(16), "token_type": "Bearer", "expires_in": TOKEN_S, "id_token": token}

    def _leave(self, _: object, given: dict[str, str]) -> tuple[int, str]:
        return 302, given["post_logout_redirect_uri"]


def _fits(asked: dict[str, str], given: dict[str, str]) -> bool:
    """Say whether a code is handed in by whoever it was made for (RFC 7636), for the address it was asked with."""
    if asked["redirect_uri"] != given.get("redirect_uri"):
        return False
    challenge = asked.get("code_challenge")
    digest = hashlib.sha256(given.get("code_verifier", "").encode()).digest()
    return challenge is None or challenge == base64.urlsafe_b64encode(digest).decode().rstrip("=")
