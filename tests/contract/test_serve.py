"""The start of the app: free port, busy port, address. The server itself is not started here."""

from __future__ import annotations

import os
import socket
from collections.abc import Iterator

import pytest

from kdengine import serve
from kdengine.errors import HomeError
from kdengine.home import Home


@pytest.fixture
def busy_port() -> Iterator[int]:
    """A port of this machine that somebody listens on, until the test ends."""
    with socket.socket() as listener:
        listener.bind((serve.HOST, 0))
        listener.listen()
        yield listener.getsockname()[1]


def test_a_busy_port_is_seen_and_the_next_one_taken(busy_port: int) -> None:
    assert not serve.is_free(busy_port)
    assert busy_port < serve.free_port(busy_port) <= busy_port + serve.TRIES


def test_no_free_port_is_explained(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(serve, "is_free", lambda port: False)
    with pytest.raises(HomeError, match="8501.*busy"):
        serve.free_port(8501)


def test_the_server_listens_on_this_machine_only() -> None:
    argv = serve.command(8501)
    assert argv[argv.index("--server.address") + 1] == "127.0.0.1"
    assert argv[argv.index("--browser.gatherUsageStats") + 1] == "false"


def test_main_prints_address_and_home(
    home: Home, busy_port: int, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    started: list[list[str]] = []
    monkeypatch.setattr(os, "execv", lambda _, argv: started.append(argv))
    monkeypatch.setattr(os, "chdir", lambda _: None)
    monkeypatch.setattr(serve, "APP", home.root / "app.py")
    (home.root / "app.py").touch()
    serve.main(["--port", str(busy_port)])
    said = capsys.readouterr().out
    port = started[0][started[0].index("--server.port") + 1]
    assert f"Port {busy_port} is busy" in said
    assert f"http://localhost:{port}" in said and str(home.root) in said


def test_without_an_app_it_says_where_to_start(
    home: Home, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(serve, "APP", home.root / "app.py")
    assert serve.main([]) == 2
    assert "make app" in capsys.readouterr().err
