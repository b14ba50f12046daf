"""Forged sign-ins against a real server, through its websocket: headers, cookies, somebody else's session."""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from unittest.mock import patch

import pytest
from itsdangerous import TimestampSigner
from streamlit.proto.BackMsg_pb2 import BackMsg
from streamlit.proto.ForwardMsg_pb2 import ForwardMsg
from streamlit.web.server.starlette import starlette_app_utils as signing
from streamlit.web.server.starlette.starlette_server_config import USER_COOKIE_NAME, XSRF_COOKIE_NAME
from websockets.sync.client import connect

from kdengine.home import Home

pytestmark = pytest.mark.slow
ROOT = Path(__file__).resolve().parents[2]
PROXY_SECRET, COOKIE_SECRET = "0123456789abcdef" * 3, "fedcba9876543210" * 3
INSIDE, OUTSIDE = "Train small networks with the help of big ones", "KD Explorer"


class Served:
    """A server of the app with ``environment``; ``look`` opens a connection and returns all that it is sent."""

    def __init__(self, home: Home, **environment: str) -> None:
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            self.port = probe.getsockname()[1]
        self.origin = f"http://localhost:{self.port}"
        secrets = home.root / "secrets.toml"
        secrets.write_text(
            f'[auth]\nredirect_uri = "{self.origin}/oauth2callback"\ncookie_secret = "{COOKIE_SECRET}"\nclient_id = "kd"\n'
            'client_secret = "s"\nserver_metadata_url = "http://127.0.0.1:1/none"\n'
        )
        command = [
            sys.executable, "-m", "streamlit", "run", str(ROOT / "app.py"), "--server.port", str(self.port),
            "--secrets.files", str(secrets),
        ]  # fmt: skip
        told = {**os.environ, "KD_HOME": str(home.root), "PYTHONPATH": str(ROOT), "KD_ADMINS": "ann@example.org", **environment}
        self.log = home.root / "server.log"
        with self.log.open("wb") as out:
            self.process = subprocess.Popen(command, cwd=ROOT, env=told, stdout=out, stderr=out)
        self._until_well()

    def _until_well(self) -> None:
        until = time.monotonic() + 45
        while time.monotonic() < until and self.process.poll() is None:
            try:
                with urllib.request.urlopen(f"http://127.0.0.1:{self.port}/healthz", timeout=5):
                    return
            except (urllib.error.HTTPError, OSError):
                time.sleep(0.2)
        raise AssertionError(self.log.read_text())

    def look(
        self, headers: list[tuple[str, str]] | None = None, cookie: str = "", session: str = "", page: str = ""
    ) -> tuple[str, str]:
        """Return what a browser with these headers and this cookie is shown, and the name of its session."""
        token = signing.generate_xsrf_token_string()
        cookies = "; ".join([f"{XSRF_COOKIE_NAME}={token}", *([f"{USER_COOKIE_NAME}={cookie}"] if cookie else [])])
        protocols = ["streamlit", token, *([session] if session else [])]
        shown: list[str] = []
        with connect(
            f"ws://localhost:{self.port}/_stcore/stream", subprotocols=protocols, origin=self.origin, proxy=None, max_size=None,
            additional_headers=[("Cookie", cookies), *(headers or [])],
        ) as browser:  # type: ignore[list-item,arg-type]  # fmt: skip
            asked = BackMsg()
            asked.rerun_script.page_name = page
            browser.send(asked.SerializeToString())
            while True:
                message = ForwardMsg.FromString(browser.recv(timeout=30))  # type: ignore[arg-type]
                shown.append(str(message))
                if message.WhichOneof("type") == "new_session":
                    session = message.new_session.initialize.session_id
                if message.WhichOneof("type") == "script_finished" and message.script_finished != 2:  # early, for another run
                    return "\n".join(shown), session

    def close(self) -> None:
        self.process.send_signal(signal.SIGTERM)
        try:
            self.process.wait(timeout=20)
        except subprocess.TimeoutExpired:
            self.process.kill()


def served(folder: Path, **environment: str) -> Iterator[Served]:
    server = Served(Home(folder / "kd").made(), KD_STRANGERS="none", **environment)
    yield server
    server.close()


@pytest.fixture(scope="module")
def behind_a_proxy(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Served]:
    yield from served(tmp_path_factory.mktemp("proxy"), KD_SIGN_IN="proxy", KD_PROXY_SECRET=PROXY_SECRET)


@pytest.fixture(scope="module")
def with_a_provider(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Served]:
    yield from served(tmp_path_factory.mktemp("oidc"), KD_SIGN_IN="oidc")


def is_inside(shown: str) -> bool:
    assert INSIDE in shown or OUTSIDE in shown, shown[-2000:]
    return INSIDE in shown


NAME, SECRET = ("X-Forwarded-Email", "ann@example.org"), ("X-KD-Proxy-Secret", PROXY_SECRET)


def test_the_proxy_lets_in_whom_it_names(behind_a_proxy: Served) -> None:
    shown, _ = behind_a_proxy.look([SECRET, NAME])
    assert is_inside(shown) and "Server" in shown and PROXY_SECRET not in shown and "ann@example.org" not in shown
    assert not is_inside(behind_a_proxy.look([SECRET, ("X-Forwarded-Email", "eve@example.org")])[0]), "a stranger"


@pytest.mark.parametrize(
    "headers",
    [
        [], [NAME], [SECRET], [("X-KD-Proxy-Secret", ""), NAME], [("X-KD-Proxy-Secret", PROXY_SECRET[:-1] + "0"), NAME],
        [SECRET, SECRET, NAME], [SECRET, NAME, NAME], [SECRET, NAME, ("X-Forwarded-Email", "eve@example.org")],
        [SECRET, ("X-Forwarded-User", "ann@example.org")], [SECRET, ("X-Forwarded-Email", "")],
        [SECRET, ("X_Forwarded_Email", "ann@example.org")], [("X-Kd-Proxy-Secret", "a, " + PROXY_SECRET), NAME],
    ],
    ids=range(12),
)  # fmt: skip
def test_a_forged_header_opens_nothing(behind_a_proxy: Served, headers: list[tuple[str, str]]) -> None:
    shown, _ = behind_a_proxy.look(headers)
    assert not is_inside(shown) and PROXY_SECRET not in shown and "Networks and data" not in shown
    assert not is_inside(behind_a_proxy.look(headers, page="server")[0])


def test_a_cookie_means_nothing_behind_a_proxy(behind_a_proxy: Served) -> None:
    assert not is_inside(behind_a_proxy.look(cookie=signed(behind_a_proxy))[0])


def test_somebody_elses_session_is_no_way_in(behind_a_proxy: Served) -> None:
    """Who knows its name is asked anew; all they learn are the titles of the pages, which Streamlit repeats to a session."""
    shown, session = behind_a_proxy.look([SECRET, NAME])
    assert is_inside(shown) and session
    assert not is_inside(behind_a_proxy.look([], session=session)[0])
    assert not is_inside(behind_a_proxy.look([NAME], session=session)[0])


def claims(server: Served, **more: Any) -> str:
    said = {"origin": server.origin, "is_logged_in": True, "email": "ann@example.org", "email_verified": True}
    return json.dumps(said | more)


def signed(server: Served, secret: str = COOKIE_SECRET, name: str = USER_COOKIE_NAME, **more: Any) -> str:
    return signing.create_signed_value(secret, name, claims(server, **more)).decode()


def test_a_signed_cookie_lets_in(with_a_provider: Served) -> None:
    shown, _ = with_a_provider.look(cookie=signed(with_a_provider))
    assert is_inside(shown) and "Server" in shown and "Sign out" in shown and COOKIE_SECRET not in shown


def forged(server: Served, how: str) -> str:
    good = signed(server)
    if how == "expired":
        with patch.object(TimestampSigner, "get_timestamp", lambda self: int(time.time()) - 40 * 86_400):
            return signed(server)
    return {
        "none": "", "another secret": signed(server, "x" * 48), "no secret": signed(server, ""),
        "another cookie's": signed(server, name="_streamlit_other"), "cut": good[:-2], "unsigned": good.split(".")[0],
        "signature of nothing": good.rsplit(".", 1)[0] + ".", "changed": "W" + good[1:], "another origin": signed(server, origin="http://x"),
        "no origin": signed(server, origin=None), "logged out": signed(server, is_logged_in=False),
        "a text": signed(server, is_logged_in="True"), "not verified": signed(server, email_verified=False),
        "a stranger": signed(server, email="eve@example.org"), "look-alike": signed(server, email="\u0430nn@example.org"),
        "no address": signed(server, email=None), "json": claims(server).replace(";", ""),
    }[how]  # fmt: skip


@pytest.mark.parametrize(
    "how",
    ["none", "another secret", "no secret", "another cookie's", "cut", "unsigned", "signature of nothing", "changed", "expired",
     "another origin", "no origin", "logged out", "a text", "not verified", "a stranger", "look-alike", "no address", "json"],
)  # fmt: skip
def test_a_forged_or_expired_cookie_opens_nothing(with_a_provider: Served, how: str) -> None:
    shown, _ = with_a_provider.look(cookie=forged(with_a_provider, how))
    assert not is_inside(shown) and COOKIE_SECRET not in shown and "Networks and data" not in shown


def test_headers_mean_nothing_with_a_provider(with_a_provider: Served) -> None:
    assert not is_inside(with_a_provider.look([SECRET, NAME])[0])


def test_the_logs_hold_no_secret(behind_a_proxy: Served, with_a_provider: Served) -> None:
    for server in (behind_a_proxy, with_a_provider):
        said = server.log.read_text()
        assert PROXY_SECRET not in said and COOKIE_SECRET not in said and "Traceback" not in said, said[-3000:]
