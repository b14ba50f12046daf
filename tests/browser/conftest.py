"""What browser tests share: a server of their own on a home of their own, and a chromium that reports what must not happen."""

from __future__ import annotations

import os
import shutil
import socket
import subprocess
import sys
import time
import urllib.request
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from urllib.parse import urlsplit

import pytest

from kdengine.home import Home

ROOT = Path(__file__).resolve().parents[2]
FLAGS = ["--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--disable-background-networking",
         "--disable-component-update", "--disable-sync"]  # fmt: skip


def chromium() -> str:
    """Return the browser's path. Without one the test is skipped, in CI (``CI=true``) it fails."""
    found = (
        os.environ.get("CHROMIUM")
        or shutil.which("chromium")
        or shutil.which("chromium-browser")
        or shutil.which("google-chrome")
    )
    if found is None and os.environ.get("CI") == "true":
        pytest.fail("no chromium on this machine; .ci/run installs it")
    if found is None:
        pytest.skip("no chromium here; install it (Debian: apt-get install chromium) or set CHROMIUM to its path")
    return found


@dataclass
class Watched:
    """A browser page and what must not happen on it."""

    page: object
    url: str
    faults: list[str] = field(default_factory=list)

    def open(self, path: str = "") -> None:
        """Open a page of the app and wait until Streamlit has drawn it once."""
        self.page.goto(f"{self.url}/{path}")
        self.page.wait_for_selector('[data-testid="stHeading"]', timeout=30_000)

    def check(self) -> None:
        """Fail on an exception shown by Streamlit, an error of the page's scripts, a request to another host."""
        assert self.page.locator('[data-testid="stException"]').count() == 0, self.page.inner_text("body")[:2000]
        assert self.faults == []


@pytest.fixture
def server(home: Home) -> Iterator[str]:
    """The app on a free port of this machine, as ``make app`` starts it; its address."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    log = home.root / "server.log"
    command = [sys.executable, "-m", "streamlit", "run", str(ROOT / "app.py"), "--server.port", str(port)]
    env = {**os.environ, "KD_HOME": str(home.root), "STREAMLIT_CLIENT_SHOW_ERROR_DETAILS": "full"}
    with log.open("wb") as out:
        process = subprocess.Popen(command, cwd=ROOT, env=env, stdout=out, stderr=out)
    try:
        url = f"http://127.0.0.1:{port}"
        wait_until_healthy(url, process, log)
        yield url
    finally:
        process.terminate()
        process.wait(timeout=20)


def wait_until_healthy(url: str, process: subprocess.Popen[bytes], log: Path) -> None:
    """Return when the server answers.

    Raises:
        AssertionError: it ended, or did not answer within 30 s; holds its log.
    """
    until = time.monotonic() + 30
    while time.monotonic() < until and process.poll() is None:
        try:
            with urllib.request.urlopen(f"{url}/_stcore/health", timeout=2) as answer:
                if answer.read() == b"ok":
                    return
        except OSError:
            time.sleep(0.1)
    raise AssertionError(log.read_text(errors="replace")[-3000:])


@pytest.fixture
def watched(server: str, tmp_path: Path) -> Iterator[Watched]:
    """A page of a fresh chromium, its errors and foreign requests collected."""
    path = chromium()
    from playwright.sync_api import sync_playwright

    with sync_playwright() as playwright:
        context = playwright.chromium.launch_persistent_context(
            tmp_path / "profile", executable_path=path, headless=True, args=FLAGS, viewport={"width": 1440, "height": 900}
        )
        page = context.new_page()
        page.set_default_timeout(20_000)
        seen = Watched(page, server)
        host = urlsplit(server).netloc
        page.on("pageerror", lambda error: seen.faults.append(f"page error: {error}"))
        page.on(
            "request",
            lambda r: (
                seen.faults.append(f"foreign: {r.url}") if r.url.startswith("http") and urlsplit(r.url).netloc != host else None
            ),
        )
        yield seen
        context.close()
