"""The server around the pages: it starts whole or not at all, answers how it is, and ends with everything written."""

from __future__ import annotations

import asyncio
import gzip
import json
import os
import signal
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections import namedtuple
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import duckdb
import pytest
import streamlit as st
import streamlit.config
from streamlit.runtime.secrets import Secrets

from kdengine import runner
from kdengine.errors import KdError
from kdengine.home import Home
from pages.parts import health, pulse, serving
from pages.parts.pulse import Pulse
from store.db import Store
from tests.pages.seed import Seeded

ROOT = Path(__file__).resolve().parents[2]
OLD = ROOT / "tests" / "old" / "results-schema1.duckdb.gz"


@pytest.fixture(autouse=True)
def _not_looked_yet(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(health, "_kept", (0.0, None))


@pytest.fixture
def beating(home: Home, monkeypatch: pytest.MonkeyPatch) -> Iterator[Pulse]:
    """A pulse that beats when the test says so, and not by itself."""
    monkeypatch.setattr(runner, "tick", lambda home: [])
    monkeypatch.setattr(pulse, "BEAT_S", 3600)
    heart = Pulse(home, Store.open(home))
    heart.start()
    heart.beat()
    yield heart
    heart.close()


def wrong(heart: Pulse | None) -> list[str]:
    found = health.of(heart)
    assert found.as_dict()["status"] == ("ok" if found.sound else "degraded")
    return [name for name, check in found.checks.items() if not check["ok"]]


# ---- health -----------------------------------------------------------------------------------------------------------------


def test_a_server_that_works_is_well(seeded: Seeded, beating: Pulse) -> None:
    assert wrong(beating) == []
    checks = health.of(beating).checks
    assert checks["store"] == {"ok": True, "role": "writer", "takes_in": True}
    assert checks["queue"] == {"ok": True, "queued": 0, "waiting": 0, "running": 0, "lost": 0}
    assert checks["snapshot"]["unpublished_s"] == 0 and checks["disk"]["free_mib"] > 0


def test_a_server_that_starts_says_so(home: Home, beating: Pulse) -> None:
    assert wrong(None) == ["pulse"] and health.of(None).checks["pulse"]["state"] == "starting"
    beating.beaten_at = None
    assert wrong(beating) == ["pulse"]


def test_a_late_beat_and_a_dead_thread_are_seen(beating: Pulse) -> None:
    beating.beaten_at = time.monotonic() - health.BEAT_LATE_S - 1
    assert wrong(beating) == ["pulse"] and health.of(beating).checks["pulse"]["state"] == "late"
    beating.beat()
    assert wrong(beating) == []
    beating._stop.set()
    beating._thread.join()
    assert health.of(beating).checks["pulse"]["state"] == "stopped"


def test_results_that_do_not_come_in_are_seen(beating: Pulse, monkeypatch: pytest.MonkeyPatch) -> None:
    beating.store.notice = "New results are not coming in (/somewhere/secret: no space)."
    assert wrong(beating) == ["store"] and "secret" not in json.dumps(health.of(beating).as_dict())
    beating.store.notice = ""
    monkeypatch.setattr(beating.store, "unpublished_s", lambda: health.UNPUBLISHED_LATE_S + 1)
    assert wrong(beating) == ["snapshot"]


def test_unpublished_changes_have_an_age(seeded: Seeded, home: Home) -> None:
    with Store.open(home, publish_every_s=3600) as store:
        store.take_in()
        home.snapshot.unlink()
        assert store.unpublished_s() == 0
        (home.runs / seeded.finished[0] / "labels.json").write_text('{"tags": ["kept"], "note": ""}')
        store._writer._published_at = time.monotonic()  # type: ignore[union-attr]
        home.snapshot.touch()
        store.take_in()
        assert store.unpublished_s() > 0
        store.publish()
        assert store.unpublished_s() == 0


def test_a_full_disk_and_a_broken_store_are_seen(beating: Pulse, monkeypatch: pytest.MonkeyPatch) -> None:
    usage = namedtuple("usage", "free")
    monkeypatch.setattr(health.shutil, "disk_usage", lambda path: usage(1 << 20))
    monkeypatch.setattr(health.queries, "counts", lambda store: 1 / 0)
    assert wrong(beating) == ["disk", "queue"] and health.of(beating).checks["queue"] == {"ok": False}


def test_nothing_of_this_machine_is_told(live: Seeded, beating: Pulse) -> None:
    beating.beat()
    said = json.dumps(health.of(beating).as_dict())
    assert '"running": 1' in said and '"queued": 1' in said
    assert beating.home.root.name not in said and not any(run_id in said for run_id in [*live.finished, *live.other.values()])


def test_however_many_ask_it_looks_once_a_second(beating: Pulse, monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[object] = []
    monkeypatch.setattr(health, "of", lambda heart: asked.append(heart) or health.Health({}))
    assert health.look() is health.look() and asked == [beating]
    monkeypatch.setattr(health, "_kept", (time.monotonic() - 2, health.Health({})))
    health.look()
    assert len(asked) == 2


def test_who_asks_while_a_look_hangs_is_not_kept(beating: Pulse, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(health, "PATIENCE_S", 0.01)
    with health._looking:
        assert health.look().as_dict() == {"status": "degraded", "checks": {"disk": {"ok": False, "state": "does not answer"}}}
    assert health.look().sound


@pytest.mark.parametrize(("base", "paths"), [("", ["/healthz"]), ("lab/kd", ["/healthz", "/lab/kd/healthz"])])
def test_the_route_stands_under_the_base_url_too(base: str, paths: list[str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(st, "get_option", {"server.baseUrlPath": base}.get)
    found = serving.routes()
    assert [route.path for route in found] == paths
    answer = found[0].endpoint(None)
    assert answer.status_code == 503 and json.loads(answer.body)["checks"]["pulse"]["state"] == "starting"
    assert answer.headers["cache-control"] == "no-store"


# ---- the pulse ----------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("fault", [SystemExit, KeyboardInterrupt, GeneratorExit, MemoryError])
def test_the_pulse_beats_on_whatever_happens(home: Home, monkeypatch: pytest.MonkeyPatch, fault: type[BaseException]) -> None:
    faults: list[object] = []

    def tick(home: Home) -> list[str]:
        faults.append(home)
        raise fault

    monkeypatch.setattr(runner, "tick", tick)
    monkeypatch.setattr(pulse, "BEAT_S", 0.01)
    heart = Pulse(home, Store.open(home))
    heart.start()
    try:
        until = time.monotonic() + 5
        while len(faults) < 3 and time.monotonic() < until:
            time.sleep(0.01)
        assert len(faults) >= 3 and heart.is_beating
    finally:
        heart.close()


def test_the_pulse_lives_as_long_as_the_server(home: Home, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(runner, "tick", lambda home: [])

    async def serve() -> Pulse:
        async with serving.lifespan(None):  # type: ignore[arg-type]
            until = time.monotonic() + 5
            while (found := pulse.running()) is None or not found.is_beating:
                assert time.monotonic() < until
                await asyncio.sleep(0.01)
            return found

    heart = asyncio.run(serve())
    assert not heart.is_beating and pulse.running() is None
    with Store.open(home) as store:
        assert store.role == "writer"


# ---- the start ----------------------------------------------------------------------------------------------------------------


def newer_database(home: Home) -> None:
    Store.open(home).close()
    with duckdb.connect(str(home.results)) as con:
        con.execute("UPDATE intake.state SET value = '99' WHERE key = 'schema'")


def broken_settings(home: Home) -> None:
    home.settings.write_text('{"slots_per_gpu": 0, "colour": "blue"}')


def folder_without_rights(home: Home) -> None:
    home.root.chmod(0o500)


@pytest.mark.parametrize(
    ("spoil", "said"),
    [
        (newer_database, ["schema 99", "rebuild"]),
        (broken_settings, ["slots_per_gpu", "colour"]),
        (folder_without_rights, ["can make no file", "KD_HOME"]),
    ],
)
def test_what_is_wrong_is_said_and_nothing_starts(
    home: Home,
    spoil: Callable[[Home], None],
    said: list[str],
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    if spoil is folder_without_rights and os.geteuid() == 0:  # rights do not bind root
        monkeypatch.setattr("tempfile.mkstemp", lambda **_: (_ for _ in ()).throw(PermissionError(13, "Permission denied")))
    spoil(home)
    with pytest.raises(SystemExit) as end:
        serving.demand_readiness()
    home.root.chmod(0o700)
    assert end.value.code == serving.REFUSED
    text = " ".join(capsys.readouterr().err.split())
    assert "does not start" in text and all(word in text for word in (*said, "given", "allowed", "next"))


def test_an_open_door_a_missing_secret_and_a_wrong_url_are_said_together(
    home: Home, monkeypatch: pytest.MonkeyPatch, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    secrets = tmp_path / "secrets.toml"
    secrets.write_text('[auth]\nredirect_uri = "http://kd.example.org/oauth2callback"\ncookie_secret = "hushhush"\n')
    options = {"server.address": "0.0.0.0", "server.baseUrlPath": "", "secrets.files": [str(secrets)]}
    for place in (st, streamlit.config):
        monkeypatch.setattr(place, "get_option", options.get)
    broken_settings(home)

    def refused() -> str:
        monkeypatch.setattr(st, "secrets", Secrets())
        with pytest.raises(SystemExit):
            serving.demand_readiness()
        return " ".join(capsys.readouterr().err.split())

    said = refused()
    assert "KD_SIGN_IN" in said and "0.0.0.0" in said and "slots_per_gpu" in said
    monkeypatch.setenv("KD_SIGN_IN", "oidc")
    said = refused()
    assert all(word in said for word in ("auth.redirect_uri", "auth.cookie_secret", "auth.client_secret", "slots_per_gpu"))
    monkeypatch.setenv("KD_SIGN_IN", "proxy")
    assert "KD_PROXY_SECRET" in refused()
    secrets.write_text("[auth\ncookie_secret = hushhush")
    said = refused()
    assert "secrets.toml(noTOML(atline1" in said.replace(" ", "") and "hush" not in said


def test_a_sound_home_is_ready_and_left_free(home: Home) -> None:
    serving.demand_readiness()
    assert [path.name for path in home.root.iterdir() if path.name.startswith(".writable")] == []
    with Store.open(home) as store:
        assert store.role == "writer"


class Served:
    """``streamlit run app.py`` with ``options``, as a lab would start it."""

    def __init__(self, home: Home, *options: str) -> None:
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            self.port = probe.getsockname()[1]
        self.log = home.root / "server.log"
        command = [sys.executable, "-m", "streamlit", "run", str(ROOT / "app.py"), "--server.port", str(self.port), *options]
        environment = {**os.environ, "KD_HOME": str(home.root), "PYTHONPATH": str(ROOT), "COLUMNS": "200"}
        with self.log.open("wb") as out:
            self.process = subprocess.Popen(command, cwd=ROOT, env=environment, stdout=out, stderr=out)

    def healthz(self, path: str, patience_s: float = 40) -> dict[str, Any]:
        """Return the answer once the server is well."""
        until = time.monotonic() + patience_s
        while time.monotonic() < until and self.process.poll() is None:
            try:
                with urllib.request.urlopen(f"http://127.0.0.1:{self.port}{path}", timeout=5) as answer:
                    found: dict[str, Any] = json.loads(answer.read())
                    return found
            except (urllib.error.HTTPError, OSError):
                time.sleep(0.1)
        raise AssertionError(self.log.read_text())


@pytest.mark.slow
def test_a_server_takes_up_an_old_database_answers_and_ends_clean(home: Home) -> None:
    home.results.write_bytes(gzip.decompress(OLD.read_bytes()))
    server = Served(home, "--server.baseUrlPath", "kd")
    try:
        assert server.healthz("/kd/healthz")["status"] == server.healthz("/healthz")["status"] == "ok"
        with urllib.request.urlopen(f"http://127.0.0.1:{server.port}/kd/", timeout=5) as page:
            assert b"<title>" in page.read(), "the pages are where they were"
    finally:
        server.process.send_signal(signal.SIGTERM)
        ended = server.process.wait(timeout=20)
    assert ended in (0, -signal.SIGTERM), server.log.read_text()
    assert "Traceback" not in server.log.read_text()
    with Store.open(home) as store:
        assert store.role == "writer", "the lock is free again"


@pytest.mark.slow
def test_a_server_does_not_start_on_a_newer_database(home: Home) -> None:
    newer_database(home)
    server = Served(home)
    assert server.process.wait(timeout=40) == serving.REFUSED
    text = " ".join(server.log.read_text().split())
    assert "KD Explorer does not start" in text and "schema 99" in text and "python -m store rebuild" in text
    assert "Traceback" not in text


@pytest.mark.slow
def test_serve_says_what_is_wrong_before_the_server(home: Home) -> None:
    broken_settings(home)
    done = subprocess.run(
        [sys.executable, "-m", "kdengine.serve", "--port", "0"], cwd=ROOT, capture_output=True, text=True, timeout=40, check=False
    )
    assert done.returncode == 2 and "slots_per_gpu" in done.stderr and "colour" in done.stderr and "http://" not in done.stdout


def test_every_fault_of_the_configuration_is_said_at_once(home: Home, monkeypatch: pytest.MonkeyPatch) -> None:
    from kdengine import startup

    broken_settings(home)
    monkeypatch.setattr("tempfile.mkstemp", lambda **_: (_ for _ in ()).throw(PermissionError(13, "Permission denied")))
    with pytest.raises(KdError) as fault:
        startup.demand()
    assert {problem.field for problem in fault.value.problems} >= {"KD_HOME", "settings.json: slots_per_gpu"}
