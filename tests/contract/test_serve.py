"""The start of the app: free port, busy port, address. The server itself is not started here."""

from __future__ import annotations

import os
import socket
import tomllib
from collections.abc import Iterator

import pytest

from kdengine import serve
from kdengine.errors import HomeError
from kdengine.home import Home
from kdengine.hosting import Hosting, Mode, SignIn
from kdengine.serve import Place


@pytest.fixture
def busy_port() -> Iterator[int]:
    """A port of this machine that somebody listens on, until the test ends."""
    with socket.socket() as listener:
        listener.bind((serve.HOST, 0))
        listener.listen()
        yield listener.getsockname()[1]


def value_of(argv: list[str], option: str) -> str:
    return argv[argv.index(option) + 1]


def test_a_busy_port_is_seen_and_the_next_one_taken(busy_port: int) -> None:
    assert not serve.is_free(busy_port)
    assert busy_port < serve.free_port(Place(busy_port)) <= busy_port + serve.TRIES


def test_no_free_port_is_explained(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(serve, "is_free", lambda port, address: False)
    with pytest.raises(HomeError, match="8501.*busy"):
        serve.free_port(Place(8501))


def test_behind_a_proxy_no_other_port_will_do(busy_port: int) -> None:
    with pytest.raises(HomeError, match=f"{busy_port}.*stop the server that listens there"):
        serve.free_port(Place(busy_port, exact=True))


def test_an_address_of_another_machine_is_explained() -> None:
    with pytest.raises(HomeError, match=r"192\.0\.2\.1.*of an address of this machine"):
        serve.free_port(Place(8501, "192.0.2.1", exact=True))


@pytest.mark.parametrize(("given", "base"), [("", ""), ("/", ""), ("kd", "kd"), ("/kd/", "kd"), (" lab/kd ", "lab/kd")])
def test_the_path_of_the_app(given: str, base: str) -> None:
    assert serve.base_path(given) == base
    assert Place(base=base).url == f"http://localhost:8501/{base}".rstrip("/")


@pytest.mark.parametrize("given", ["https://kd.example.org/kd", "a b", "../kd", "kd//lab", "kd?x", "ka\u0308"])
def test_what_is_no_path_is_refused(given: str) -> None:
    with pytest.raises(HomeError, match="such as kd"):
        serve.base_path(given)


def test_the_server_listens_on_this_machine_only() -> None:
    argv = serve.command(Place(8501), Hosting())
    assert value_of(argv, "--server.address") == "127.0.0.1"
    assert value_of(argv, "--browser.gatherUsageStats") == "false"


def test_only_who_works_on_this_machine_sees_what_is_behind_a_fault() -> None:
    assert value_of(serve.command(Place(), Hosting()), "--client.showErrorDetails") == "full"
    for hosting in (Hosting(mode=Mode.DEMO), Hosting(sign_in=SignIn.OIDC), Hosting(sign_in=SignIn.PROXY)):
        assert "--client.showErrorDetails" not in serve.command(Place(), hosting)
    assert config()["client"]["showErrorDetails"] == "none"


def test_what_the_server_takes_is_bounded() -> None:
    server = config()["server"]
    assert server["maxUploadSize"] <= 1, "no page takes files"
    assert server["maxWidgetStateSize"] <= 4 and server["maxMessageSize"] <= 64
    assert not server["enableAgentApi"] and not server["enableStaticServing"]
    assert not {"enableCORS", "enableXsrfProtection"} & server.keys(), "both are on unless they are switched off"


def test_the_server_asks_no_foreign_host() -> None:
    assert config()["browser"] == {"gatherUsageStats": False, "serverAddress": "localhost"}


def config() -> dict[str, dict[str, object]]:
    return tomllib.loads((serve.APP.parent / ".streamlit/config.toml").read_text())


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


def test_place_and_base_reach_the_server(home: Home, monkeypatch: pytest.MonkeyPatch) -> None:
    started: list[list[str]] = []
    monkeypatch.setattr(os, "execv", lambda _, argv: started.append(argv))
    monkeypatch.setattr(os, "chdir", lambda _: None)
    monkeypatch.setattr(serve, "is_free", lambda port, address: True)
    monkeypatch.setenv("KD_BASE_URL", "/kd/")
    serve.main(["--port", "8777", "--exact-port", "--address", "0.0.0.0"])
    serve.main(["--base-url", "lab/kd"])
    assert [value_of(argv, "--server.baseUrlPath") for argv in started] == ["kd", "lab/kd"]
    assert value_of(started[0], "--server.port") == "8777" and value_of(started[0], "--server.address") == "0.0.0.0"


def test_a_wrong_configuration_starts_nothing(
    home: Home, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("KD_SIGN_IN", "proxy")
    assert serve.main([]) == 2
    assert "KD_PROXY_SECRET" in capsys.readouterr().err
    monkeypatch.delenv("KD_SIGN_IN")
    assert serve.main(["--base-url", "https://kd.example.org"]) == 2
    assert "base URL" in capsys.readouterr().err
