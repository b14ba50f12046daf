"""The race page in a real browser: from a comparison to a file in the reader's hands, by mouse, by keys, in every light."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from typing import Any
from unittest.mock import patch

import pytest

from kdengine.home import Home
from store import queries
from store.db import Store
from tests.browser.conftest import Watched
from tests.browser.test_explorer import DRAWN, WIDER, settled
from tests.pages.seed import Seeded, seed

pytestmark = [pytest.mark.slow, pytest.mark.browser, pytest.mark.timeout(240)]

# the player stands in a shadow root, which a query of the page does not enter
FOUND = """const player = [...document.querySelectorAll('*')].map(e => e.shadowRoot?.querySelector('.player[data-epoch]'))
  .find(Boolean), canvas = player?.querySelector('canvas'); if (!player) return false;"""
EPOCH = f"epoch => {{ {FOUND} return Number(player.dataset.epoch) >= epoch; }}"
SHARP = f"""() => {{ {FOUND} const box = canvas.getBoundingClientRect();
  return Math.abs(canvas.width - box.width * window.devicePixelRatio) < 2
    && Math.abs(canvas.width / canvas.height - box.width / box.height) < 0.02; }}"""
INKED = f"""() => {{ {FOUND} const ink = canvas.getContext('2d').getImageData(0, 0, canvas.width, canvas.height).data;
  const seen = new Set();
  for (let i = 0; i < ink.length; i += 388) if (ink[i + 3] > 250) seen.add((ink[i] << 16) + (ink[i + 1] << 8) + ink[i + 2]);
  return seen.size > 6; }}"""  # six methods, text, grid
LIGHT = f"""light => {{ {FOUND} return (getComputedStyle(canvas).backgroundColor === 'rgb(255, 255, 255)') === light; }}"""


@pytest.fixture
def suite(home: Home) -> Iterator[Seeded]:
    """A finished demo suite in ``home``, there before the server starts."""
    with patch("os.fsync"):
        yield seed(home)


@pytest.fixture
def shown(suite: Seeded, watched: Watched) -> Watched:
    """The browser, on a home that holds the suite."""
    return watched


def player(shown: Watched) -> Any:
    """The player, where it has drawn something."""
    found = shown.page.locator(".player[data-epoch]")
    found.wait_for(timeout=60_000)
    return found


def order_of(shown: Watched) -> list[str]:
    """Who stands where in the picture, best first."""
    return list(json.loads(player(shown).get_attribute("data-order")))


def test_a_comparison_races_and_is_taken_away(shown: Watched, home: Home) -> None:
    page = shown.page
    shown.open("compare?suite=demo&method=kd&method=fitnet&method=base")
    page.get_by_test_id("stMain").get_by_role("link", name="Race").click()
    page.wait_for_url(re.compile(r"/race\?suite=demo"))
    assert set(order_of(shown)) == {"kd", "fitnet", "base"}
    page.wait_for_function(EPOCH, arg=3)  # it plays by itself
    page.get_by_role("button", name="Pause").click()
    page.get_by_role("button", name="Play").wait_for()
    page.get_by_role("slider", name="Epoch").press("End")
    with Store.open(home) as store:
        store.take_in()
        board = queries.leaderboard(store, suite="demo")
    best = board[board["method"].isin(["kd", "fitnet", "base"]) & (board["student"] == "resnet8")]
    assert order_of(shown) == best.sort_values("best_mean_frac", ascending=False)["method"].tolist()
    assert "leads with" in player(shown).locator("[role=status]").inner_text()
    page.get_by_role("radio", name="GIF").click()
    page.wait_for_url(re.compile("format=gif"))
    page.get_by_role("button", name=re.compile(r"^Export GIF \(about")).click()
    with page.expect_download(timeout=10_000) as got:
        page.get_by_role("button", name="Download GIF").click(timeout=90_000)
    assert got.value.path().read_bytes().startswith(b"GIF89a")
    assert got.value.suggested_filename.startswith("race-best-test-accuracy-so-far")
    page.get_by_role("heading", name="Earlier exports").wait_for()
    page.get_by_role("button", name="Remove", exact=True).click()
    page.get_by_text("What is exported is kept here").wait_for()
    shown.check()


def test_an_export_is_stopped(shown: Watched, home: Home) -> None:
    page = shown.page
    shown.open("race?suite=demo&size=1920x1080&length=20&fps=60")
    player(shown)
    page.get_by_role("button", name=re.compile("^Export MP4")).click()
    page.get_by_role("button", name="Stop").click(timeout=60_000)
    page.get_by_role("button", name="Stop").wait_for(state="detached")
    page.wait_for_url(re.compile("^(?!.*export=)"))
    for _ in range(100):
        if not [path for path in (home.exports / "race").glob("*") if not path.name.startswith(".")]:
            break
        page.wait_for_timeout(200)
    else:
        raise AssertionError("what was stopped is still there")
    shown.check()


def test_keys_play_and_step(shown: Watched) -> None:
    page = shown.page
    page.emulate_media(reduced_motion="reduce")
    shown.open("race?suite=demo")
    assert player(shown).get_attribute("data-epoch") == "15", "who wants no motion sees the end"
    picture = player(shown).get_by_role("img")
    assert "leads" in picture.get_attribute("aria-label")
    picture.focus()
    page.keyboard.press("Home")
    assert player(shown).get_attribute("data-epoch") == "1"
    page.keyboard.press("ArrowRight")
    page.keyboard.press("ArrowRight")
    assert player(shown).get_attribute("data-epoch") == "3"
    page.keyboard.press("ArrowLeft")
    assert player(shown).get_attribute("data-epoch") == "2"
    page.keyboard.press(" ")
    page.wait_for_function(EPOCH, arg=4)
    page.keyboard.press(" ")
    page.get_by_role("button", name="Play").wait_for()
    shown.check()


def test_it_fits_a_desk_and_a_phone_in_light_and_dark(shown: Watched) -> None:
    page = shown.page
    for kind in ("bars", "lines"):
        page.set_viewport_size({"width": 1440, "height": 900})
        shown.open(f"race?suite=demo&format=png&kind={kind}")
        player(shown)
        settled(shown)
        for scheme, width in (("light", 1440), ("dark", 1440), ("dark", 390), ("light", 390)):
            page.emulate_media(color_scheme=scheme)
            page.set_viewport_size({"width": width, "height": 900})
            page.wait_for_function(DRAWN, arg=[scheme, width])
            page.wait_for_function(SHARP)
            page.wait_for_function(INKED)
            page.wait_for_function(LIGHT, arg=scheme == "light")
            assert page.evaluate(WIDER) <= 0, f"{kind} is wider than {width} pixels"
            shown.check()
