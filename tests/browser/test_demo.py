"""A demo in a real browser: a stranger looks around, finds no dead end, and leaves nothing behind."""

from __future__ import annotations

import re
from collections.abc import Iterator

import pytest

from kdengine.home import Home
from store.demo import place
from tests.browser.conftest import Watched
from tests.browser.test_explorer import WIDER, settled
from tests.browser.test_race import EPOCH

pytestmark = [pytest.mark.slow, pytest.mark.browser, pytest.mark.timeout(120)]


@pytest.fixture(autouse=True)
def offered(home: Home, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """The server is a demo; its own home is there as long as it lives."""
    monkeypatch.setenv("KD_MODE", "demo")
    yield
    assert list(home.root.glob(f"{place.PREFIX}*")) == [], "the server took its home with it"
    assert list(home.runs.iterdir()) == []


def test_a_stranger_looks_around(watched: Watched, home: Home) -> None:
    page = watched.page
    watched.open()
    page.get_by_text("a demo over recorded trainings").wait_for()
    assert len(list(home.root.glob(f"{place.PREFIX}*"))) == 1
    settled(watched)
    assert page.get_by_role("link", name="Train").count() == 0
    page.get_by_role("link", name="Learn the methods").click()
    page.get_by_role("link", name=re.compile("Soft targets")).click()
    page.get_by_role("heading", name="Measured here").wait_for()
    for section, sign in (("Play with its loss", "not part of this demo"), ("Source", "kdengine/methods/kd.py, lines")):
        page.get_by_role("radio", name=section).click()
        page.get_by_text(sign).first.wait_for()
    page.get_by_role("link", name="Home").click()
    page.get_by_role("link", name="Compare methods").click()
    page.get_by_text("ab leads with 95.6").wait_for()
    page.get_by_role("tab", name="Teacher and student").click()
    page.get_by_role("heading", name="Images that only one of them gets").wait_for()
    page.get_by_role("link", name="Race").first.click()
    page.wait_for_function(EPOCH, arg=4)
    page.get_by_text("Files cannot be exported on this server").wait_for()
    watched.check()


def test_links_and_a_phone(watched: Watched) -> None:
    page = watched.page
    watched.open("train")
    page.get_by_text("This demo shows recorded runs").wait_for()
    assert page.get_by_role("button", name=re.compile("Launch|Start")).count() == 0
    page.set_viewport_size({"width": 390, "height": 844})
    for path in ("", "compare?tab=replicate&table=crd", "about_networks_data?tab=data&images=cifar100", "runs"):
        watched.open(path)
        settled(watched)
        assert page.evaluate(WIDER) <= 0, path
    watched.check()
