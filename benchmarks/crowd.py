"""A crowd of tabs in one process, told what to do line by line: ``python -m benchmarks.crowd URL``.

Each line on standard input is a JSON list: ``["open", [[page, query], ...], seconds]`` opens a tab for each place within so many
seconds, ``["click", seconds]`` lets each of them press something every so many seconds on average, ``["mark"]`` begins to count,
``["report"]`` says what was counted since, ``["visit", n, at once, [page, query]]`` opens and closes ``n`` further tabs, and
``["close"]`` closes those that stay. Every line is answered by one line of JSON.

Reads: standard input, the server. Writes: standard output. Never: the app's own modules.
"""

from __future__ import annotations

import asyncio
import json
import random
import sys
import time
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))  # also runs as a plain file

from benchmarks.sessions import Tab

SILENT_S = 20.0  # a request that is not answered within this time is a fault


class Crowd:
    """Tabs of one server."""

    def __init__(self, url: str) -> None:
        self._url = url
        self._tabs: list[Tab] = []
        self._hands: list[asyncio.Task[None]] = []
        self._marked = time.monotonic()
        self._cpu_s = time.process_time()
        self._received = 0

    async def open(self, places: list[tuple[str, str]], within_s: float) -> dict[str, Any]:
        """Open a tab for each (page, query), spread over ``within_s``; say how long each took until it was drawn."""
        opened = [asyncio.create_task(self._open(place, within_s * n / len(places))) for n, place in enumerate(places)]
        took = await asyncio.gather(*opened)
        return {"took_s": took, "faults": self._faults()}

    async def _open(self, place: tuple[str, str], after_s: float) -> float:
        await asyncio.sleep(after_s)
        began, tab = time.monotonic(), Tab(self._url, *place)
        self._tabs.append(tab)
        await tab.open()
        await tab.settle()
        return time.monotonic() - began

    async def click(self, every_s: float) -> dict[str, Any]:
        """Let each tab press something every ``every_s`` on average, at random."""
        self._hands = [asyncio.create_task(self._press(tab, every_s, number)) for number, tab in enumerate(self._tabs)]
        return {}

    async def _press(self, tab: Tab, every_s: float, number: int) -> None:
        chance = random.Random(number)
        while True:
            await asyncio.sleep(chance.expovariate(1 / every_s))
            await tab.settle()  # nobody presses twice before the page has answered
            await tab.click()

    async def mark(self) -> dict[str, Any]:
        """Begin to count."""
        self._marked, self._cpu_s, self._received = time.monotonic(), time.process_time(), self._bytes()
        return {}

    async def report(self) -> dict[str, Any]:
        """Say what was counted since ``mark``: reruns as [kind, page, s], faults, timers told, CPU of this process, bytes."""
        since = self._marked
        reruns = [[r.kind, r.page, r.took_s] for tab in self._tabs for r in tab.reruns if r.sent >= since]
        told = [told_s for tab in self._tabs for told_s in tab.interval_s.values()]
        return {
            "reruns": reruns, "faults": self._faults(), "intervals_s": told, "cpu_s": time.process_time() - self._cpu_s,
            "bytes": self._bytes() - self._received, "tabs": len(self._tabs),
        }  # fmt: skip

    async def visit(self, count: int, at_once: int, place: tuple[str, str]) -> dict[str, Any]:
        """Open and close ``count`` tabs at ``place``, ``at_once`` at a time; say how long each took until it was drawn."""
        free = asyncio.Semaphore(at_once)
        faults: list[str] = []

        async def once() -> float:
            async with free:
                began, tab = time.monotonic(), Tab(self._url, *place)
                await tab.open()
                if not await tab.settle():
                    faults.append("a page was not drawn")
                took_s = time.monotonic() - began
                await tab.close()
                faults.extend(tab.faults)
                return took_s

        return {"took_s": await asyncio.gather(*(once() for _ in range(count))), "faults": faults}

    async def close(self) -> dict[str, Any]:
        """Close every tab."""
        for hand in self._hands:
            hand.cancel()
        await asyncio.gather(*(tab.close() for tab in self._tabs))
        faults, self._tabs, self._hands = self._faults(), [], []
        return {"faults": faults}

    def _faults(self) -> list[str]:
        silent = [f"{tab.page}: no answer for {tab.waiting_s:.0f} s" for tab in self._tabs if tab.waiting_s > SILENT_S]
        return silent + [f"{tab.page}: {fault}" for tab in self._tabs for fault in tab.faults]

    def _bytes(self) -> int:
        return sum(tab.received for tab in self._tabs)


async def main(url: str) -> None:
    """Do what each line of standard input says."""
    crowd, loop = Crowd(url), asyncio.get_running_loop()
    while line := await loop.run_in_executor(None, sys.stdin.readline):
        what, *more = json.loads(line)
        print(json.dumps(await getattr(crowd, what)(*more)), flush=True)


if __name__ == "__main__":
    asyncio.run(main(sys.argv[1]))
