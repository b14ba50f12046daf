"""The SQL page in a real browser: a question typed with help, run, mended, drawn, taken away and shared."""

from __future__ import annotations

import re
from collections.abc import Iterator
from unittest.mock import patch

import pytest

from kdengine.home import Home
from tests.browser.conftest import Watched
from tests.browser.test_explorer import WIDER, settled
from tests.pages.seed import Seeded, seed

pytestmark = [pytest.mark.slow, pytest.mark.browser, pytest.mark.timeout(180)]

PLOTTED = "kind => document.querySelector('.js-plotly-plot')?._fullData?.[0]?.type === kind"


@pytest.fixture
def suite(home: Home) -> Iterator[Seeded]:
    """A finished demo suite in ``home``, there before the server starts."""
    with patch("os.fsync"):
        yield seed(home)


def test_a_question_is_written_run_mended_drawn_taken_away_and_shared(suite: Seeded, watched: Watched) -> None:
    page = watched.page
    watched.open("sql")
    page.locator(".desk[data-ready]").wait_for(timeout=60_000)
    editor = page.get_by_role("textbox", name="SQL statement")
    offered = page.locator(".cm-tooltip-autocomplete")

    # written with completion: a table, a column with its unit and meaning, a name that is pressed in the list of tables
    editor.click()
    page.keyboard.press("Control+A")
    page.keyboard.type("select * from lead")
    offered.get_by_text("leaderboard").wait_for()
    page.wait_for_timeout(100)  # what is offered is taken a moment after it is shown, not at once
    page.keyboard.press("Enter")
    assert editor.inner_text() == "select * from leaderboard"
    page.keyboard.press("Control+A")
    page.keyboard.type("select r.meth from runs r")
    for _ in " from runs r":
        page.keyboard.press("ArrowLeft")
    page.keyboard.press("Control+ ")
    page.locator(".cm-completionInfo").get_by_text("how the student learns").wait_for()
    page.keyboard.press("Escape")
    page.keyboard.press("Control+A")
    page.keyboard.type("select metod, avg(")
    page.get_by_label("Find a column").fill("top-1 test images accuracy on the test")
    page.get_by_role("button", name="test_top1_frac", exact=True).click()
    page.keyboard.type(") as accuracy_frac from epochs join runs using (run_id) group by all order by 2")
    wanted = "avg(test_top1_frac) as accuracy_frac from epochs join runs using (run_id) group by all order by 2"
    assert editor.inner_text() == f"select metod, {wanted}"

    # run by keys: the fault is marked, and mended by a button
    page.keyboard.press("Escape")
    page.keyboard.press("Control+Enter")
    page.get_by_text("This cannot be answered").wait_for()
    assert page.locator(".cm-fault-word").inner_text() == "metod"
    page.get_by_role("button", name="Use 'method'").click()
    page.get_by_text(re.compile("^6 rows in")).wait_for()
    assert page.locator(".cm-fault-line").count() == 0 and editor.inner_text() == f"select method, {wanted}"

    # drawn, taken away, shared
    page.get_by_role("radio", name="Bar").click()
    page.wait_for_function(PLOTTED, arg="bar")
    page.wait_for_url(re.compile("chart=bar"))
    page.get_by_role("button", name="Take away").click()
    with page.expect_download() as got:
        page.get_by_role("button", name="CSV, 6 rows").click()
    lines = got.value.path().read_text().splitlines()
    assert lines[0] == "method,accuracy_frac" and len(lines) == 7 and lines[-1].startswith("fitnet,0.6")
    other = page.context.new_page()
    other.goto(page.url)
    other.wait_for_function(PLOTTED, arg="bar")
    assert "select method, avg" in other.get_by_role("textbox", name="SQL statement").inner_text()
    other.close()

    # left by keys alone
    editor.click()
    page.keyboard.press("Escape")
    page.keyboard.press("Tab")
    assert page.evaluate("document.activeElement.innerText").strip().endswith("Run (5 s limit)")
    watched.check()


def test_it_fits_a_desk_and_a_phone_in_light_and_dark(suite: Seeded, watched: Watched) -> None:
    page = watched.page
    for scheme, width in (("light", 1440), ("dark", 390)):
        page.emulate_media(color_scheme=scheme)
        page.set_viewport_size({"width": width, "height": 900})
        watched.open("sql?q=SELECT+*+FROM+runs&chart=bar")
        page.locator(".desk[data-ready]").wait_for(timeout=60_000)
        page.wait_for_function(PLOTTED, arg="bar")
        settled(watched)
        assert page.evaluate(WIDER) <= 0
        tables = page.get_by_text("Tables and columns")
        assert tables.is_visible() and page.get_by_label("Find a column").is_visible() == (width > 640)
        watched.check()
