"""A member's way through the app behind nginx, in a real browser: over TLS, under /kd, with a password and nothing else."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from urllib.parse import urlencode, urlsplit

import pytest

from kdengine import runner
from kdengine.home import Home
from kdengine.spec import RunSpec
from tests.browser.conftest import FLAGS, chromium
from tests.hosting.conftest import PASSWORD
from tests.hosting.lab import Site

pytestmark = [pytest.mark.slow, pytest.mark.browser, pytest.mark.timeout(240)]

POINTS = """n => [...document.querySelectorAll('.js-plotly-plot')].some(p => (p._fullData || []).some(
  line => line.name === 'test' && line.y.length >= n))"""
EPOCHS = 40


@pytest.fixture
def page(front: Site, tmp_path: Path) -> Iterator[Any]:
    """A page of a fresh chromium with a member's password; in the end nothing forbidden or foreign may have happened."""
    path = chromium()
    from playwright.sync_api import sync_playwright

    said: list[str] = []
    sockets: list[str] = []
    with sync_playwright() as playwright:
        context = playwright.chromium.launch_persistent_context(
            tmp_path, executable_path=path, headless=True, args=FLAGS, ignore_https_errors=True,
            http_credentials={"username": "max@example.org", "password": PASSWORD}, viewport={"width": 1440, "height": 900},
        )  # fmt: skip
        page = context.new_page()
        page.set_default_timeout(30_000)
        page.on("pageerror", lambda error: said.append(f"page error: {error}"))
        page.on("console", lambda m: said.append(m.text) if re.search("Content Security|Bidi|blocked", m.text) else None)
        page.on("request", lambda r: said.append(f"foreign: {r.url}") if is_foreign(r.url, front) else None)
        page.on("websocket", lambda socket: sockets.append(socket.url))
        yield page
        assert page.locator('[data-testid="stException"]').count() == 0
        assert said == []
        assert sockets and {urlsplit(url)[:3] for url in sockets} == {("wss", f"localhost:{front.port}", "/kd/_stcore/stream")}
        context.close()


def is_foreign(url: str, front: Site) -> bool:
    """Say whether a request leaves the app's address, by host or by path."""
    return url.startswith("http") and not url.startswith(f"{front.url}/")


def drawn(page: Any, site: Site, path: str, title: str) -> None:
    """Open a page and wait for its title."""
    page.goto(f"{site.url}/{path}")
    page.get_by_role("heading", name=title, exact=True).wait_for()


def test_a_member_goes_through_all_of_it(front: Site, results: Home, page: Any) -> None:
    drawn(page, front, "compare?metric=test_loss", "Compare")
    page.get_by_text("Member", exact=True).wait_for()
    page.wait_for_function("() => document.querySelectorAll('.js-plotly-plot').length > 0")

    page.get_by_role("button", name="Views").click()
    page.get_by_text(f"{front.url}/compare?metric=test_loss", exact=True).wait_for()  # a link that others can open
    page.keyboard.press("Escape")
    page.reload()
    page.get_by_role("heading", name="Compare", exact=True).wait_for()
    assert page.url == f"{front.url}/compare?metric=test_loss"

    drawn(page, front, "compare?tab=table", "Compare")
    page.get_by_role("button", name="Take away").click()
    with page.expect_download() as taken:
        page.get_by_role("button", name="CSV, accuracies").click()
    assert Path(taken.value.path()).read_text().count("\n") > 3

    page.get_by_role("link", name="Methods", exact=True).first.click()
    page.get_by_role("heading", name="Methods", exact=True).wait_for()
    assert page.url == f"{front.url}/methods"
    page.get_by_text("Soft targets (KD)").first.wait_for()
    drawn(page, front, "methods?method=kd", "Soft targets (KD)")
    page.locator(".katex").first.wait_for()
    question = f"-- {'why this question is asked, ' * 300}\nselect count(*) as runs from runs"
    drawn(page, front, f"sql?{urlencode({'q': question})}", "SQL")  # 10 KB of address
    page.get_by_text(re.compile(r"\b1 row\b")).first.wait_for()
    drawn(page, front, "race?play=on", "Race")
    page.locator(".player[data-epoch]").wait_for()

    plan = json.dumps({"epoch_s": 0.5})
    spec = RunSpec(student="resnet8", epochs=EPOCHS, note=plan, device="cpu")
    run_id = runner.launch(results, spec, start=False, owner="max")  # the server moves the queue on
    drawn(page, front, f"run?run={run_id}", "base: resnet8")
    page.wait_for_function(POINTS, arg=3)
    page.wait_for_function(POINTS, arg=6)  # nobody reloads: the page follows through the live connection
    page.get_by_role("button", name="Stop").click()
    page.get_by_text("cancelled").first.wait_for()
