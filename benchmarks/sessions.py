"""Browser tabs without a browser: websocket clients that speak Streamlit's protocol as its front end does.

A tab asks for a page, remembers what it is told to keep, and obeys the server's timers: how often a live part is drawn again is
the server's word, and the tab sends the request. What no tab does: draw, move a mouse, load the app's files.

Reads: what the server sends. Writes: nothing. Never: the app's own modules.
"""

from __future__ import annotations

import asyncio
import threading
import time
from collections import Counter
from collections.abc import Callable, Coroutine
from dataclasses import dataclass, field
from typing import Any, Self
from urllib.parse import urlsplit

from streamlit.proto.BackMsg_pb2 import BackMsg
from streamlit.proto.ForwardMsg_pb2 import ForwardMsg
from websockets.asyncio.client import ClientConnection, connect
from websockets.exceptions import ConnectionClosed

MOST_BYTES = 1 << 28
PATIENCE_S = 60.0


@dataclass(frozen=True, slots=True)
class Rerun:
    """One request of a tab and how long it took until its script had finished. ``kind``: page, tick (a live part by itself)."""

    kind: str
    page: str
    sent: float  # monotonic, s
    took_s: float


@dataclass(slots=True)
class _Asked:
    kind: str
    sent: float
    begun: bool = False  # a script run has begun since


@dataclass(slots=True)
class Kept:
    """A message that the tab keeps so that the server need not send it again: since which run, and of which live part."""

    run: int
    fragment: str


@dataclass
class Tab:
    """One tab at ``page`` of the server at ``url``; ``query`` as behind the question mark.

    ``faults``: exceptions shown, scripts that do not compile, a connection that broke. ``interval_s``: what the server's timers
    say at present, by live part. ``reruns``: what was asked and answered.
    """

    url: str
    page: str = ""
    query: str = ""
    headers: dict[str, str] = field(default_factory=dict)
    faults: list[str] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)
    reruns: list[Rerun] = field(default_factory=list)
    intervals: list[tuple[float, float]] = field(default_factory=list)  # (monotonic s, told interval s), in the order told
    interval_s: dict[str, float] = field(default_factory=dict)
    messages: Counter[str] = field(default_factory=Counter)
    elements: Counter[str] = field(default_factory=Counter)  # what was drawn, by kind
    received: int = 0

    def __post_init__(self) -> None:
        self._socket: ClientConnection | None = None
        self._asked: list[_Asked] = []
        self._timers: dict[str, asyncio.Task[None]] = {}
        self._reader: asyncio.Task[None] | None = None
        self._kept: dict[str, Kept] = {}
        self._keep_runs, self._run = 2, 0
        self._page_hash = ""
        self._fragments: list[str] = []
        self._idle = asyncio.Event()
        self._closing = False

    # -- what a person does -----------------------------------------------------------------------------------------------

    async def open(self) -> Self:
        """Connect and ask for the page; returns as soon as that is sent."""
        parts = urlsplit(self.url)
        address = f"ws://{parts.netloc}{parts.path.rstrip('/')}/_stcore/stream"
        self._socket = await connect(
            address, subprotocols=["streamlit", "PLACEHOLDER_AUTH_TOKEN"], max_size=MOST_BYTES, proxy=None, ping_interval=None,
            origin=f"{parts.scheme}://{parts.netloc}", additional_headers=self.headers, open_timeout=PATIENCE_S,
        )  # type: ignore[list-item,arg-type]  # fmt: skip
        self._reader = asyncio.create_task(self._read(self._socket))
        await self.click()
        return self

    async def click(self) -> None:
        """Ask for the whole page anew, as pressing a button or changing a filter does."""
        await self._ask("page")

    async def settle(self, patience_s: float = PATIENCE_S) -> bool:
        """Wait until all that was asked is answered; False if that takes too long or the connection breaks."""
        try:
            await asyncio.wait_for(self._idle.wait(), patience_s)
        except TimeoutError:
            return False
        return not self._asked

    async def close(self) -> None:
        """Close the tab."""
        self._closing = True
        self._stop_timers()
        if self._socket is not None:
            await self._socket.close()
        if self._reader is not None:
            await asyncio.gather(self._reader, return_exceptions=True)

    @property
    def waiting_s(self) -> float:
        """Seconds since the oldest request that is not answered yet; 0 where there is none."""
        return time.monotonic() - self._asked[0].sent if self._asked else 0.0

    # -- what the front end does ------------------------------------------------------------------------------------------

    async def _ask(self, kind: str, fragment: str = "") -> None:
        message = BackMsg()
        state = message.rerun_script
        state.query_string, state.page_script_hash = self.query, self._page_hash
        state.page_name = "" if self._page_hash else self.page
        state.fragment_id, state.is_auto_rerun = fragment, bool(fragment)
        state.cached_message_hashes.extend(self._kept)
        state.context_info.url = f"{self.url}/{self.page}"
        self._asked.append(_Asked(kind, time.monotonic()))
        self._idle.clear()
        assert self._socket is not None
        try:
            await self._socket.send(message.SerializeToString())
        except ConnectionClosed:
            self._broken()

    async def _read(self, socket: ClientConnection) -> None:
        try:
            async for data in socket:
                assert isinstance(data, bytes)
                self.received += len(data)
                self._take(ForwardMsg.FromString(data))
        except ConnectionClosed:
            pass
        finally:
            self._broken()

    def _broken(self) -> None:
        if not self._closing:
            self.faults.append("the connection broke")
            self._closing = True
        self._stop_timers()
        self._idle.set()

    def _take(self, message: ForwardMsg) -> None:
        kind = message.WhichOneof("type") or "nothing"
        self.messages[kind] += 1
        if message.metadata.cacheable and message.hash not in self._kept and kind != "ref_hash":
            self._kept[message.hash] = Kept(self._run, message.delta.fragment_id)
        takers: dict[str, Callable[[ForwardMsg], None]] = {
            "ref_hash": self._again, "new_session": self._begun, "script_finished": self._finished, "delta": self._drawn,
            "auto_rerun": self._timed, "stop_auto_rerun": self._untimed, "page_info_changed": self._moved,
            "navigation": self._placed, "page_not_found": self._lost_its_way,
        }  # fmt: skip
        if kind in takers:
            takers[kind](message)

    def _again(self, message: ForwardMsg) -> None:
        if message.ref_hash in self._kept:
            self._kept[message.ref_hash].run = self._run
        else:
            self.faults.append("the server took a message for known that was never sent")

    def _begun(self, message: ForwardMsg) -> None:
        for asked in self._asked:
            asked.begun = True
        self._keep_runs = message.new_session.config.max_cached_message_age
        self._page_hash = message.new_session.page_script_hash
        self._fragments = list(message.metadata.run.fragment_ids)
        if not self._fragments:
            self._stop_timers()

    def _finished(self, message: ForwardMsg) -> None:
        how = message.script_finished
        if how == ForwardMsg.FINISHED_EARLY_FOR_RERUN:
            return
        if how == ForwardMsg.FINISHED_WITH_COMPILE_ERROR:
            self.faults.append("a script that does not compile")
        now = time.monotonic()
        self.reruns += [Rerun(a.kind, self.page, a.sent, now - a.sent) for a in self._asked if a.begun]
        self._asked = [asked for asked in self._asked if not asked.begun]
        self._run += 1
        self._kept = {name: kept for name, kept in self._kept.items() if not self._is_old(kept)}
        if not self._asked:
            self._idle.set()

    def _is_old(self, kept: Kept) -> bool:
        drawn = not self._fragments or kept.fragment in self._fragments
        return drawn and self._run - kept.run > self._keep_runs

    def _drawn(self, message: ForwardMsg) -> None:
        element = message.delta.new_element
        kind = element.WhichOneof("type") or "nothing"
        self.elements[kind] += 1
        if kind == "exception":
            self.faults.append(f"{element.exception.type}: {element.exception.message[:300]}")
        elif kind == "alert":
            self.notes.append(element.alert.body[:300])

    def _timed(self, message: ForwardMsg) -> None:
        fragment, interval_s = message.auto_rerun.fragment_id, message.auto_rerun.interval
        self.intervals.append((time.monotonic(), interval_s))
        if self.interval_s.get(fragment) == interval_s:
            return
        self._stop_timer(fragment)
        self.interval_s[fragment] = interval_s
        self._timers[fragment] = asyncio.create_task(self._beat(fragment, interval_s))

    def _untimed(self, message: ForwardMsg) -> None:
        for fragment in message.stop_auto_rerun.fragment_ids:
            self._stop_timer(fragment)

    def _moved(self, message: ForwardMsg) -> None:
        self.query = message.page_info_changed.query_string

    def _placed(self, message: ForwardMsg) -> None:
        self._page_hash = message.navigation.page_script_hash

    def _lost_its_way(self, message: ForwardMsg) -> None:
        self.faults.append(f"no such page: {message.page_not_found.page_name}")

    async def _beat(self, fragment: str, interval_s: float) -> None:
        due = time.monotonic()
        while True:
            due += interval_s
            await asyncio.sleep(max(0.0, due - time.monotonic()))
            await self._ask("tick", fragment)

    def _stop_timer(self, fragment: str) -> None:
        self.interval_s.pop(fragment, None)
        if task := self._timers.pop(fragment, None):
            task.cancel()

    def _stop_timers(self) -> None:
        for fragment in list(self._timers):
            self._stop_timer(fragment)


class Reader:
    """A tab for code that waits: it lives in a thread of its own until it is closed.

    Raises:
        TimeoutError, OSError: the page was not drawn within ``patience_s``.
    """

    def __init__(self, url: str, page: str = "", query: str = "", *, patience_s: float = PATIENCE_S) -> None:
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, name=f"tab-{page or 'home'}", daemon=True)
        self._thread.start()
        self.tab = Tab(url, page, query)
        try:
            self._wait(self.tab.open())
            if not self._wait(self.tab.settle(patience_s)):
                raise TimeoutError(f"page {page or 'home'} was not drawn: {self.tab.faults}")
        except BaseException:
            self.close()
            raise

    def click(self, patience_s: float = PATIENCE_S) -> bool:
        """Ask for the page anew and wait until it is drawn; say whether it was."""
        self._wait(self.tab.click())
        return bool(self._wait(self.tab.settle(patience_s)))

    def close(self) -> None:
        """Close the tab and end its thread. A second time does nothing."""
        if self._loop.is_closed():
            return
        self._wait(self.tab.close())
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join()
        self._loop.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def _wait(self, what: Coroutine[Any, Any, Any]) -> Any:
        return asyncio.run_coroutine_threadsafe(what, self._loop).result()
