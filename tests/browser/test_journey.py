"""The way a newcomer goes, in a real browser with a real training: empty home, form, live run, comparison."""

from __future__ import annotations

import re
import time

import pytest
from playwright.sync_api import expect

from kdengine.home import Home
from kdengine.rundir import run_dirs
from kdengine.status import RunStatus, status_of
from tests.browser.conftest import Watched

pytestmark = [pytest.mark.slow, pytest.mark.browser, pytest.mark.timeout(240)]

# a link reopens the form as it was: resnet8 taught by resnet8, 64 images, the teacher one epoch
FORM = "train?method=kd&teacher=resnet8&images-digits=64&teacher_epochs=1&teacher_train_images=64"
LINES = "() => [...document.querySelectorAll('.js-plotly-plot')].flatMap(p => p._fullData.map(t => [t.name, t.y.length]))"


def wait_for_line(page: object, name: str, points: int, seconds: float = 60) -> list[list[object]]:
    """Wait until some chart of the page has a line of that name with that many points."""
    until = time.monotonic() + seconds
    lines: list[list[object]] = []
    while time.monotonic() < until:
        lines = page.evaluate(LINES)
        if [name, points] in lines:
            return lines
        page.wait_for_timeout(250)
    raise AssertionError(f"no line {name!r} of {points} points; seen: {lines}")


def test_train_watch_compare(watched: Watched, home: Home) -> None:
    page = watched.page
    watched.open()
    page.get_by_text("Nothing has been trained here yet").wait_for()
    page.get_by_role("button", name=re.compile(r"Run the demo \(about 2 min, CPU is enough\)")).wait_for()
    watched.check()

    watched.open(FORM)
    epochs = page.get_by_label("Epochs", exact=True)
    epochs.fill("2")
    epochs.press("Enter")
    page.get_by_text("Name it: suite, tags, note").click()
    suite = page.get_by_label("Suite", exact=True)
    suite.fill("journey")
    suite.press("Enter")
    page.get_by_text("resnet8 (1 epoch) is trained first").wait_for()
    page.wait_for_url(re.compile("epochs-quick=2"))
    watched.check()
    page.get_by_role("button", name=re.compile(r"Train 1 run \(")).click()

    page.get_by_role("heading", name="kd: resnet8 → resnet8").wait_for()
    page.wait_for_url(re.compile(r"/run\?run=.*-kd-"))
    watched.check()
    wait_for_line(page, "test", 2, seconds=150)  # nobody reloads: the page follows the run by itself
    page.get_by_text("✓ finished").first.wait_for(timeout=30_000)
    page.wait_for_timeout(1000)
    assert page.get_by_test_id("stMetric").count() == 4, "something of the running page was left behind"
    watched.check()
    assert [status_of(run, home) for run in run_dirs(home)] == [RunStatus.FINISHED] * 2

    page.get_by_role("link", name="Compare", exact=True).first.click()
    page.get_by_role("heading", name="Compare", exact=True).wait_for()
    lines = wait_for_line(page, "kd", 2)
    assert lines
    page.get_by_text("Training time", exact=True).click()
    page.wait_for_url(re.compile("x=elapsed_s"))
    page.get_by_text("Training time, seconds").wait_for()
    page.get_by_role("link", name="Runs", exact=True).first.click()
    page.get_by_role("heading", name="Runs").wait_for()
    page.get_by_text("2 runs.").wait_for()
    watched.check()

    watched.open("methods?method=kd&show=play")  # the loss on features of the pair that was just trained
    page.get_by_text("Computed on").wait_for(timeout=60_000)
    page.get_by_text("resnet8 → resnet8").first.wait_for()
    figures = page.get_by_test_id("stMetricValue")
    figures.first.wait_for()
    before = figures.all_inner_texts()
    page.locator("input[type=range][aria-label=lambda_ce]").press("End")
    expect(figures.first).not_to_have_text(before[0])
    watched.check()


def test_a_link_may_be_the_first_thing_a_fresh_server_is_asked(watched: Watched, home: Home) -> None:
    watched.open("compare?metric=test_loss")
    navigation = watched.page.get_by_test_id("stSidebarNav")
    navigation.get_by_text("Home", exact=True).wait_for()
    watched.page.get_by_role("heading", name="Compare", exact=True).wait_for()
    assert navigation.get_by_text("app", exact=True).count() == 0, "the page was run outside the frame"
    assert watched.page.url.endswith("/compare?metric=test_loss")
    watched.check()
