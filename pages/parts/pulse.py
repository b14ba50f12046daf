"""The one background thread of the app: moves the queue on, takes in what workers wrote, does what pages ask for.

Reads: run folders through the runner and the store, orders of exports. Writes: through them. Never: Streamlit calls inside the
thread; training.
"""

from __future__ import annotations

import atexit
import contextlib
import functools
import gc
import logging
import os
import threading
import time
from collections import deque
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import streamlit as st

from kdengine import runner
from kdengine.errors import KdError, Problem
from kdengine.home import Home
from kdengine.hosting import VARIABLES, Hosting, Mode
from store import nightly
from store.db import Store
from store.demo import place
from store.export.race import exports
from store.questions import Questions

BEAT_S = 1.0
COLLECT_S = 15.0  # between two collections of garbage
FIRST_BACKUP_LOOK_S, BACKUP_LOOK_S = 300.0, 60.0  # an app that somebody tries for a minute makes no backup
FASTEST_S = 2.0  # between two ticks of a live page
SEEN_S = 30.0  # a session that has not asked for this long has gone
TICK_CPU_S = 0.07  # what one live tick of one session costs, until it is known
IDLE_S = 10.0  # between two ticks of a live page where nothing runs, at least
AROUND = (
    4 / 3
)  # what a tick costs the server, in what its body costs: the rest is Streamlit's (measured: 1.32 to 1.33, three pages)
SHARE = 0.2  # seconds of CPU per second that all live ticks together may take (a tenth of two cores)
log = logging.getLogger(__name__)
_running: list[Pulse] = []  # one in a server; tests have several


@dataclass(frozen=True, slots=True)
class Trouble:
    """Something that went wrong behind the pages: when, while doing what, and the problems in three parts.

    ``who`` asked for it, see ``Person.asker``; "" = nobody: the server does it by itself.
    """

    at: datetime
    doing: str
    problems: tuple[Problem, ...]
    who: str = ""


@dataclass(slots=True)
class _Session:
    """Somebody who looks: when they last asked (monotonic, s), at which page, and what each live part of it costs (s of CPU)."""

    seen: float = field(default_factory=time.monotonic)
    page: str = ""
    cpu_s: dict[str, float] = field(default_factory=dict)


@dataclass(eq=False)
class Pulse:
    """The home, its store, the questions in free SQL, and the thread. ``troubles``: the last twenty faults, newest last.

    ``still``: the runs were recorded, see ``store.demo``: nothing is queued, and all was taken in at the start. ``exports``:
    whether races are exported here.
    """

    home: Home
    store: Store
    still: bool = False
    exports: bool = True
    troubles: deque[Trouble] = field(default_factory=lambda: deque(maxlen=20))
    pending: dict[str, str] = field(default_factory=dict)  # what was asked for and is not done yet: key -> words

    def __post_init__(self) -> None:
        self.questions = Questions(self.home)
        self.beaten_at: float | None = None  # when it was done with all last (monotonic, s); None at first
        self._backup_look_at = time.monotonic() + FIRST_BACKUP_LOOK_S
        self._collect_at = time.monotonic() + COLLECT_S
        self._stop = threading.Event()
        self._hands = ThreadPoolExecutor(4, thread_name_prefix="pulse-hand")
        self._sessions: dict[str, _Session] = {}
        self._thread = threading.Thread(target=self._run, name="pulse", daemon=True)

    def start(self) -> None:
        """Take in once, so that the first page already shows what is there, then keep beating."""
        _running.append(self)
        self._guarded("taking in results", self.store.take_in)
        self.beaten_at = time.monotonic()
        self._thread.start()

    @property
    def is_beating(self) -> bool:
        """Whether the thread lives."""
        return self._thread.is_alive()

    def beat(self) -> None:
        """Move the queues on and take in once. A fault is kept for the page and does not end the thread."""
        if not self.still:
            self._guarded("moving the queue on", lambda: runner.tick(self.home))
        if self.exports:
            self._guarded("moving the exports on", lambda: exports.tick(self.home))
        if not self.still:
            self._guarded("taking in results", self.store.take_in)
            self._guarded("starting the nightly backup", self._back_up)
        self._collect()
        self.beaten_at = time.monotonic()

    def _collect(self) -> None:
        """Collect garbage now and then: Streamlit would after each run of a script, however many run (``postScriptGC``)."""
        if time.monotonic() >= self._collect_at:
            gc.collect()
            self._collect_at = time.monotonic() + COLLECT_S

    def ask(self, key: str, doing: str, what: Callable[[], Any], who: str = "") -> None:
        """Do ``what`` soon, off the page's thread. ``key`` names it: asking again while it is under way does nothing.

        ``who`` asks is told if it fails.
        """
        if key not in self.pending:
            self.pending[key] = doing
            self._hands.submit(self._do, key, doing, what, who)

    def period_s(self, session: str) -> float:
        """Return how often a live page of ``session`` may redraw: every 2 s, slower the more all who look cost together."""
        now = time.monotonic()
        self._sessions.setdefault(session, _Session()).seen = now
        for name, known in list(self._sessions.items()):
            if now - known.seen > SEEN_S:
                self._sessions.pop(name, None)
        together = sum(sum(known.cpu_s.values()) or TICK_CPU_S for known in list(self._sessions.values()))
        return max(FASTEST_S, AROUND * together / SHARE)

    def spent(self, session: str, page: str, part: str, cpu_s: float, every_s: float = 0.0) -> None:
        """Take note of what a live part of the ``page`` that ``session`` looks at cost, seconds of CPU.

        ``every_s``: it is never redrawn more often than that, and counts for less where others are.
        """
        cpu_s *= min(1.0, self.period_s(session) / max(every_s, FASTEST_S)) if every_s else 1.0
        known = self._sessions.setdefault(session, _Session())
        if page != known.page:
            known.page, known.cpu_s = page, {}
        known.cpu_s[part] = 0.7 * known.cpu_s.get(part, cpu_s) + 0.3 * cpu_s

    def close(self) -> None:
        """Stop the thread and close the store; runs go on. A second time does nothing."""
        atexit.unregister(self.close)
        with contextlib.suppress(ValueError):
            _running.remove(self)
        self._stop.set()
        if self._thread.is_alive():
            self._thread.join(timeout=10)
        self._hands.shutdown(wait=True)
        self.questions.close()
        self.store.close()

    def _run(self) -> None:
        while not self._stop.wait(BEAT_S):
            try:
                self.beat()
            except BaseException:  # even what no beat should raise: without this thread nothing moves on, and nobody would know
                with contextlib.suppress(BaseException):
                    log.exception("in the pulse")

    def _back_up(self) -> None:
        """Start the backup when it is due; for the one server of several that writes the results."""
        if self.store.role == "writer" and time.monotonic() >= self._backup_look_at:
            self._backup_look_at = time.monotonic() + BACKUP_LOOK_S
            nightly.tick(self.home)

    def _do(self, key: str, doing: str, what: Callable[[], Any], who: str) -> None:
        try:
            self._guarded(doing, what, who)
            self._guarded("taking in results", self.store.take_in)
        finally:
            self.pending.pop(key, None)

    def _guarded(self, doing: str, what: Callable[[], Any], who: str = "") -> None:
        try:
            what()
        except KdError as error:
            self._note(doing, error.problems, who)
        except Exception as error:  # whatever it is, the thread must beat on and the page must say it
            log.exception("while %s", doing)
            problem = Problem("", f"{type(error).__name__}: {error}", "no fault", "look into the server's log; it is tried again")
            self._note(doing, (problem,), who)

    def _note(self, doing: str, problems: tuple[Problem, ...], who: str) -> None:
        last = self.troubles[-1] if self.troubles else None
        if last is None or (last.doing, last.problems, last.who) != (doing, problems, who):
            self.troubles.append(Trouble(datetime.now(UTC), doing, problems, who))


@st.cache_resource(show_spinner=False, on_release=lambda pulse: pulse.close())
def _started(home: Home, still: bool, exporting: bool) -> Pulse:
    pulse = Pulse(home, Store.open(home), still, exporting)
    pulse.start()
    atexit.register(pulse.close)  # publishes what is not yet, and closes the database, when the server ends
    return pulse


def of() -> Pulse:
    """Return the pulse of this app, started when it is asked for the first time.

    Raises:
        KdError: KD_HOME or another variable cannot be used, or a newer release wrote the database.
    """
    hosted = hosting()
    return _started(home_of(hosted), hosted.mode is Mode.DEMO, hosted.exports)


def home_of(hosted: Hosting) -> Home:
    """Return the home of an app that is hosted so: what KD_HOME names; of a demo a fresh one, full of recorded runs.

    Raises:
        HomeError: KD_HOME cannot be used.
    """
    root, network = os.environ.get("KD_HOME"), os.environ.get("KD_ALLOW_NETWORK_DISK")
    if hosted.mode is Mode.DEMO:
        return place.home(Path(root).expanduser().absolute() if root else None, allow_network=network == "1")
    return _home(root, network)


def hosting() -> Hosting:
    """Return how this app is hosted.

    Streamlit makes variables of what stands at the top of its secrets when it first reads them: they count from the beginning.

    Raises:
        HomeError: the environment is wrong.
    """
    _read_secrets()
    return _hosting(tuple(os.environ.get(name) for name in VARIABLES))


def running() -> Pulse | None:
    """Return the pulse of this process where there is one, without starting it."""
    return _running[-1] if _running else None


@functools.lru_cache(maxsize=8)
def _home(root: str | None, network: str | None) -> Home:
    """Return the home that these settings name: a page asks twenty times, and looking at the disks takes its time."""
    return Home.find()


@functools.cache
def _read_secrets() -> None:
    """Let Streamlit read its secrets, once: where there are none it would look for them at every question."""
    st.secrets.load_if_toml_exists()


@functools.lru_cache(maxsize=8)
def _hosting(values: tuple[str | None, ...]) -> Hosting:
    """Return how the app is hosted while ``VARIABLES`` have these values; a page asks fifty times."""
    return Hosting.find(os.environ)


def close_all() -> None:
    """Stop every pulse of this process and remove the home of a demo: when the server ends, and in tests."""
    _started.clear()
    place.remove()


@st.cache_resource(show_spinner=False)
def warm_up() -> threading.Thread:
    """Load what the train page needs (torch, the catalogues) in a thread, so that its first visit does not wait for it."""
    thread = threading.Thread(target=_load, name="warm-up", daemon=True)
    thread.start()
    return thread


def _settle_memory() -> None:
    """Take what is loaded now out of every later collection of garbage.

    With torch loaded one takes a third of a second of CPU, more than most pages, and nobody is answered meanwhile: all for
    modules that never go away.
    """
    gc.collect()
    gc.freeze()


def _load() -> None:
    time.sleep(1.5)  # let the first page go out before
    try:
        if hosting().mode is Mode.DEMO:  # nobody trains, and torch may not be installed
            return _settle_memory()
        from kdengine import check, methods, models  # noqa: F401 - loading it is the purpose

        methods.entries()
        models.cards()
        for key in models.cards():
            models.info(key, 10)
        _settle_memory()
    except Exception:  # the train page meets the same fault and shows it
        log.exception("while loading the catalogues")
