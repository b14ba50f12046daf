"""The explorer's pages in a real browser, on a finished suite: each page as its user goes through it, and all in every light."""

from __future__ import annotations

import contextlib
import re
import time
from collections.abc import Iterator
from unittest.mock import patch
from urllib.parse import parse_qs, urlencode, urlsplit

import pytest
from playwright.sync_api import TimeoutError

from kdengine import labels
from kdengine.home import Home
from kdengine.rundir import RunDir, run_dirs
from kdengine.status import RunStatus, status_of
from tests.browser.conftest import Watched
from tests.pages.seed import Seeded, seed
from tests.pages.test_pages import STATES

pytestmark = [pytest.mark.slow, pytest.mark.browser, pytest.mark.timeout(240)]

IDLE = """() => { const app = document.querySelector('[data-testid="stApp"]');
  return !!app && app.dataset.testScriptState === 'notRunning' && app.dataset.testConnectionState === 'CONNECTED'; }"""
PICTURES = """() => { const drawn = [...document.querySelectorAll('[data-testid="stImageContainer"] img')];
  return drawn.length >= 10 && drawn.every(image => image.naturalWidth > 0); }"""  # ten classes, each a real picture
DRAWN = """([scheme, width]) => { const app = document.querySelector('[data-testid="stApp"]');
  const parts = getComputedStyle(app).backgroundColor.match(/[0-9]+/g).slice(0, 3).map(Number);
  return (parts.reduce((a, b) => a + b) < 384) === (scheme === 'dark') && app.clientWidth === width; }"""
WIDER = """() => { const main = document.querySelector('[data-testid="stMain"]'); return main.scrollWidth - main.clientWidth; }"""


@pytest.fixture
def suite(home: Home) -> Iterator[Seeded]:
    """A finished demo suite of three seeds in ``home``, there before the server starts."""
    with patch("os.fsync"):
        yield seed(home, seeds=(0, 1, 2))


@pytest.fixture
def shown(suite: Seeded, watched: Watched) -> Watched:
    """The browser, on a home that holds the suite."""
    return watched


def settled(watched: Watched) -> None:
    """Wait until Streamlit has drawn all of the page."""
    watched.page.wait_for_function(IDLE, timeout=60_000)


def test_every_page_fits_a_desk_and_a_phone_in_light_and_dark(shown: Watched, suite: Seeded) -> None:
    page = shown.page
    for name, (where, query) in STATES.items():
        page.set_viewport_size({"width": 1440, "height": 900})
        chosen = query | ({"run": suite.finished[1]} if where == "run" else {})
        shown.open(("" if where == "home" else where) + f"?{urlencode(chosen)}")
        settled(shown)
        for scheme, width in (("light", 1440), ("dark", 1440), ("dark", 390), ("light", 390)):
            page.emulate_media(color_scheme=scheme)
            page.set_viewport_size({"width": width, "height": 900})
            page.wait_for_function(DRAWN, arg=[scheme, width])
            with contextlib.suppress(TimeoutError):  # tables follow a window that was made narrower a moment later
                page.wait_for_function(f"({WIDER})() <= 0", timeout=5000)
            assert page.evaluate(WIDER) <= 0, f"{name} is wider than {width} pixels"
            shown.check()


def test_methods_are_found_understood_and_launched(shown: Watched) -> None:
    page = shown.page
    shown.open("methods")
    search = page.get_by_label("Search")
    search.fill("soft targets")
    search.press("Enter")
    page.get_by_text("1 of 24 methods").wait_for()
    page.get_by_role("link", name=re.compile("Soft targets")).click()
    page.get_by_role("heading", name="Soft targets (KD)").wait_for()
    page.wait_for_url(re.compile("method=kd"))
    page.get_by_role("heading", name="What flows").wait_for()
    page.get_by_role("heading", name="Measured here").wait_for()
    page.get_by_role("radio", name="Source").click()
    page.get_by_role("heading", name="The code of its loss").wait_for()
    page.get_by_role("radio", name="Cite").click()
    page.get_by_text("@inproceedings").or_(page.get_by_text("@misc")).or_(page.get_by_text("@article")).first.wait_for()
    shown.check()
    settled(shown)
    page.go_back()
    page.get_by_role("heading", name="The code of its loss").wait_for()
    page.get_by_role("link", name="All methods").click()
    page.get_by_text("1 of 24 methods").wait_for()  # the way back leads to the cards that were found
    settled(shown)
    page.go_back()
    page.get_by_role("link", name="Train with this method").first.click()
    page.get_by_role("heading", name="Train", exact=True).wait_for()
    page.wait_for_url(re.compile(r"/train\?method=kd"))
    page.get_by_text("The student copies the teacher's whole opinion").wait_for()
    shown.check()


def test_compare_answers_and_its_link_shows_the_same(shown: Watched) -> None:
    page = shown.page
    shown.open("compare")
    page.get_by_role("tab", name="Ranking").click()
    answer = page.get_by_test_id("stMarkdown").filter(has_text=re.compile(r"% \((best|last) .*n = 3")).first
    answer.wait_for()
    page.get_by_text("Is one better than the other?").wait_for()
    page.get_by_text("Last epoch", exact=True).click()
    page.wait_for_url(re.compile("which=last"))
    page.get_by_text(re.compile(r"% \(last")).first.wait_for()
    settled(shown)
    said = answer.inner_text()
    page.get_by_role("button", name="Views").click()
    link = page.get_by_test_id("stPopoverBody").get_by_test_id("stCode").inner_text().strip()
    asked = parse_qs(urlsplit(link).query)
    assert urlsplit(link).path == "/compare" and asked["tab"] == ["ranking"] and asked["which"] == ["last"]
    colleague = page.context.browser.new_context() if page.context.browser else page.context
    other = colleague.new_page()
    other.goto(link)
    other.get_by_text("Is one better than the other?").wait_for(timeout=60_000)
    same = other.get_by_test_id("stMarkdown").filter(has_text=re.compile(r"% \(last .*n = 3")).first
    assert same.inner_text() == said
    assert other.get_by_role("tab", name="Ranking").get_attribute("aria-selected") == "true"
    shown.check()


def test_tables_are_taken_away(shown: Watched) -> None:
    page = shown.page
    shown.open("compare?tab=table")
    page.get_by_role("button", name="Take away").click()
    with page.expect_download() as got:
        page.get_by_role("button", name=re.compile("LaTeX.*accuracies")).click()
    text = got.value.path().read_text(encoding="utf-8")
    assert r"\toprule" in text and "kd" in text and r"\pm" in text
    shown.check()


def test_a_table_of_the_literature_is_queued_and_stopped(shown: Watched, home: Home) -> None:
    page = shown.page
    before = set(run_dirs(home))
    shown.open("compare?tab=replicate&table=fig8&seeds=1")
    button = page.get_by_role("button", name=re.compile(r"Train what is missing: \d+ run"))
    button.click(timeout=60_000)
    stop = page.get_by_role("button", name=re.compile(r"Stop \d+ run"))
    stop.wait_for(timeout=60_000)
    shown.check()
    stop.click()
    page.get_by_role("button", name=re.compile(r"(Resume|Train what is missing)")).first.wait_for(timeout=60_000)
    new = [run for run in run_dirs(home) if run not in before]
    assert 4 <= len(new) <= 5  # the demo has trained one of them already
    over, until = {RunStatus.CANCELLED, RunStatus.FINISHED}, time.monotonic() + 40  # a running one has 10 s to stop by itself
    while not (found := {status_of(run, home) for run in new}) <= over and time.monotonic() < until:
        page.wait_for_timeout(250)
    assert found <= over
    shown.check()


def test_networks_and_data_are_looked_at(shown: Watched) -> None:
    page = shown.page
    shown.open("about_networks_data")
    page.get_by_role("heading", name="What depth buys, and what it costs").wait_for(timeout=60_000)
    page.get_by_role("radio", name="Parameters").click()
    page.wait_for_url(re.compile("against=params"))
    page.get_by_role("tab", name="Data").click()
    page.get_by_text("Show samples").or_(page.get_by_text("The first 8 of each class")).first.wait_for()
    if page.get_by_text("Show samples").count():
        page.get_by_text("Show samples").click()
    page.get_by_text("The first 8 of each class").wait_for(timeout=60_000)
    page.wait_for_function(PICTURES)
    shown.check()


def test_a_run_is_found_and_gets_a_note(shown: Watched, suite: Seeded, home: Home) -> None:
    page = shown.page
    shown.open("runs?method=kd")
    page.get_by_text("3 runs.").wait_for()
    shown.check()
    shown.open(f"run?run={suite.finished[1]}")
    page.get_by_role("button", name="Add tags or a note").click()
    page.get_by_role("textbox", name="Note").fill("as printed")
    page.get_by_role("button", name="Save", exact=True).click()
    page.get_by_role("button", name="Tags and note").wait_for()
    page.get_by_text("as printed").first.wait_for()
    assert labels.read(RunDir(home.runs / suite.finished[1])).note == "as printed"
    shown.check()
