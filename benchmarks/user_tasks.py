"""Three tasks that people have, done with the mouse in a real browser: how many clicks, how many seconds, and what they get.

Reads: a home with finished runs on digits. Writes: a copy of it, in which figure 8 is trained at scale ``quick``; Markdown tables
and the answers on standard output.

A click is one press of the mouse; moving, reading and typing count in the seconds only as far as the pages take them: this is
the time that the app needs, not the reader. Needs Debian's chromium (or CHROMIUM=path) and requirements-dev.txt.
"""

from __future__ import annotations

import argparse
import re
import shutil
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))  # also runs as a plain file

from benchmarks.measuring import machine, table
from benchmarks.server import Server, browser_path
from kdengine.home import Home

FLAGS = ["--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--disable-background-networking"]
IDLE = """() => { const app = document.querySelector('[data-testid="stApp"]');
  return !!app && app.dataset.testScriptState === 'notRunning' && app.dataset.testConnectionState === 'CONNECTED'; }"""
PLACES = {
    "home": "", "methods": "methods", "one method": "methods?method=kd", "networks": "about_networks_data", "train": "train",
    "runs": "runs", "compare": "compare", "its table": "compare?tab=table", "its ranking": "compare?tab=ranking",
}  # fmt: skip


class Hand:
    """A page and its mouse: counts the ``clicks``, waits for what they bring, and says how long it ``took`` until then (s)."""

    def __init__(self, page: Any, url: str) -> None:
        self.page, self.url = page, url
        self.clicks, self.began, self.took = 0, 0.0, 0.0

    def begin(self) -> None:
        """Open the first page, as everybody does, and begin to count."""
        self.page.goto(self.url)
        self.settle()
        self.clicks, self.began = 0, time.perf_counter()

    def click(self, target: Any) -> None:
        """Press ``target`` and wait until the page has been drawn."""
        target.click()
        self.clicks += 1
        self.page.wait_for_timeout(120)  # the script begins
        self.settle()
        self.took = time.perf_counter() - self.began

    def settle(self) -> None:
        """Wait until the app is idle."""
        self.page.wait_for_function(IDLE, timeout=60_000, polling=20)


@contextmanager
def browser() -> Iterator[Any]:
    """Yield a headless chromium."""
    from playwright.sync_api import sync_playwright

    with sync_playwright() as playwright:
        yield playwright.chromium.launch(executable_path=browser_path(), headless=True, args=FLAGS)


def first_visits(found: Any, url: str) -> list[list[object]]:
    """Open every page in a browser that has never been here; the first of them just after the server has started."""
    rows: list[list[object]] = []
    for name, path in PLACES.items():
        context = found.new_context(viewport={"width": 1440, "height": 900})
        hand = Hand(context.new_page(), url)
        began = time.perf_counter()
        hand.page.goto(f"{url}/{path}")
        hand.page.wait_for_selector('[data-testid="stHeading"]', timeout=60_000)
        headed = time.perf_counter() - began
        hand.settle()
        if hand.page.locator('[data-testid="stPlotlyChart"]').count():
            hand.page.wait_for_selector(".js-plotly-plot .main-svg", timeout=60_000)
        rows.append([name, f"{headed:.1f}", f"{time.perf_counter() - began:.1f}"])
        context.close()
    return rows


def best(hand: Hand) -> str:
    """Which method is best for resnet8 on digits, and is it more than luck?"""
    page = hand.page
    hand.begin()
    hand.click(page.get_by_role("link", name="Compare methods"))
    hand.click(page.get_by_role("tab", name="Ranking"))
    answer = page.get_by_test_id("stMarkdown").filter(has_text=re.compile(r"% \(best .*n = \d")).first
    answer.wait_for()
    asked = page.get_by_test_id("stMarkdown").filter(has_text=re.compile(r"^(Yes|No|It cannot)")).first
    return f"{answer.inner_text()} / {asked.inner_text()}"


def link(hand: Hand) -> str:
    """Send a colleague this exact view: the ranking by the last epoch, on a link that shows the same in another browser."""
    page = hand.page
    hand.begin()
    hand.click(page.get_by_role("link", name="Compare methods"))
    hand.click(page.get_by_role("tab", name="Ranking"))
    hand.click(page.get_by_text("Last epoch", exact=True))
    hand.clicks, hand.began = 0, time.perf_counter()  # the view is there: now it is sent
    hand.click(page.get_by_role("button", name="Views"))
    code = page.get_by_test_id("stPopoverBody").get_by_test_id("stCode")
    code.hover()
    hand.click(code.get_by_role("button"))
    copied = page.evaluate("navigator.clipboard.readText()")
    other = page.context.browser.new_context().new_page()
    other.goto(copied)
    other.wait_for_function(IDLE, timeout=60_000)
    other.get_by_text("Is one better than the other?").wait_for()
    other.wait_for_timeout(2000)
    texts = [one.get_by_test_id("stMain").inner_text() for one in (page, other)]
    other.context.close()
    seen, shown = (re.sub("expand_(less|more)", "", text) for text in texts)  # the arrow of the box that was opened
    return f"{copied}: {'the same text' if seen == shown else 'ANOTHER TEXT'} in another browser ({len(shown)} characters)"


def figure(hand: Hand, minutes: float) -> str:
    """Replicate figure 8 quickly: from the first page to the filled table."""
    page = hand.page
    hand.begin()
    hand.click(page.get_by_role("link", name="Compare", exact=True).first)
    hand.click(page.get_by_role("tab", name="Replicate"))
    button = page.get_by_role("button", name=re.compile("Train what is missing"))
    said = button.inner_text().splitlines()[-1]  # the first line is the name of its picture
    hand.click(button)
    pressed = time.perf_counter()
    while not re.search(r"(\d+) of \1 runs trained", page.get_by_test_id("stMain").inner_text()):
        if time.perf_counter() - pressed > 60 * minutes:
            raise SystemExit(f"figure 8 is not there after {minutes} minutes")
        page.wait_for_timeout(2000)  # an observer that asks without a pause takes a core from what is trained
    took = time.perf_counter() - pressed
    page.wait_for_timeout(3000)
    rows = page.evaluate("[...document.querySelectorAll('table tr')].map(r => [...r.cells].map(c => c.innerText).join(' | '))")
    claims = page.get_by_test_id("stMarkdown").filter(has_text="Here:").last.inner_text()
    return "\n  ".join([f"{said}; done after {took / 60:.1f} min", *rows, claims])


def main() -> None:
    """Read the arguments, do the tasks, print what they took."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--home", type=Path, required=True)
    parser.add_argument("--minutes", type=float, default=15, help="how long figure 8 may take")
    args = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        copied = Path(folder) / "home"
        shutil.copytree(args.home, copied, ignore=shutil.ignore_patterns("*.lock"))
        with Server(Home(copied), watched=False) as server, browser() as found:
            visits = first_visits(found, server.url)
            context = found.new_context(
                viewport={"width": 1440, "height": 900}, permissions=["clipboard-read", "clipboard-write"]
            )
            tasks = {"Which is best for resnet8 on digits, and is it luck?": best, "Send this exact view": link,
                     "Replicate figure 8 quickly": lambda hand: figure(hand, args.minutes)}  # fmt: skip
            rows: list[list[object]] = []
            answers = []
            for title, task in tasks.items():
                hand = Hand(context.new_page(), server.url)
                answers.append(task(hand))
                hand.page.close()
                rows.append([title, hand.clicks, f"{hand.took:.1f}"])
    print(f"{machine()}\n")
    print(table(["first visit of", "heading after, s", "all drawn after, s"], visits))
    print(table(["task", "clicks", "seconds"], rows))
    print("\n".join(f"- {answer}" for answer in answers))


if __name__ == "__main__":
    main()
