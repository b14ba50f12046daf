"""Exports of race charts: asked for, drawn one after the other in processes of their own, kept, and handed out again.

What a file depends on names its folder, so one order is drawn once. The queue needs no daemon: who calls ``tick`` moves it on.

Reads and writes: the shelf (``exports/race/`` of KD_HOME). Starts processes through ``errands``; each runs ``draw_ordered``.
Never: the results; a pixel in a process that somebody waits for.
"""

from __future__ import annotations

import contextlib
import functools
import hashlib
import os
import resource
import signal
import sys
from collections.abc import Iterator
from dataclasses import dataclass, replace
from importlib import metadata
from pathlib import Path
from types import FrameType

from kdengine import __version__, errands
from kdengine.durable import write_aside
from kdengine.errands import Recorder, Standing
from kdengine.errors import KdError, Problem, RunBusy
from kdengine.events import now
from kdengine.home import Home
from store.export.race import bounds, shelf
from store.export.race.bounds import Estimate
from store.export.race.order import Order
from store.export.race.shelf import ABOUT, ORDER, POSTER, About, Asked, State

__all__ = [
    "About", "Estimate", "Export", "State", "ask", "cancel", "draw_ordered", "estimate", "gallery", "places", "remove", "tick",
    "versions", "view",
]  # fmt: skip

RENDERER = "1"  # raise it with every change of what is drawn: files of before are not handed out for it
WAITING_EACH, WAITING_ALL = 2, 20  # in the queue at once: of one who asks, of all
WALL_S, CLEAR_S = 120.0, 10.0  # a drawing ends after the first; its process, should the clearing hang, after both
MEMORY_BYTES = 1536 << 20  # address space of a drawing, and of what it starts
DRAWN_WITH = ("matplotlib", "pillow", "bar_chart_race", "ffmpeg-python")


@dataclass(frozen=True, slots=True)
class Export:
    """How an export stands. While drawing: ``step`` start, draw or finish, ``share`` of it 0 to 1, ``left_s`` seconds.

    ``position`` in the queue, 1 = next. ``problems``: why it failed. ``file``, ``poster`` (the last frame) and ``about`` of one
    that is done. ``order`` is None for one that is absent, or that is just being cancelled.
    """

    key: str
    state: State
    order: Order | None = None
    who: tuple[str, ...] = ()
    asked_at: str = ""
    step: str = ""
    share: float = 0.0
    left_s: float | None = None
    position: int | None = None
    problems: tuple[Problem, ...] = ()
    file: Path | None = None
    poster: Path | None = None
    about: About | None = None

    def asked_by(self, who: str) -> bool:
        """Say whether ``who`` asked for it."""
        return who in self.who


# ---- the queue -----------------------------------------------------------------------------------------------------------------


def ask(home: Home, order: Order, who: str, most: int | None = WAITING_EACH) -> str:
    """Put an order into the queue and return its key at once. What is there already is not drawn again: one that is done is
    used, one on its way is joined; one that failed is tried again. ``most``: how many of ``who`` may wait; None = as many as fit.

    Raises:
        KdError: the order is beyond the bounds, too many wait, nothing can be written: every fault, with what to change.
    """
    key = order.key(versions())
    folder = shelf.folder_of(home, key)
    with shelf.queue(home):
        state, _ = shelf.look(home, key)
        asked = shelf.asked(folder)
        if state == "done":
            shelf.touch(folder)
        elif asked is not None and state != "failed":
            shelf.put(folder, replace(asked, who=tuple(dict.fromkeys((*asked.who, who)))))
        else:
            if faults := [*bounds.faults(order), *_crowd(home, who, most)]:
                raise KdError(*faults)
            _place(home, folder, Asked(order, (who,), now()))
        _start_waiting(home)
    return key


def tick(home: Home) -> None:
    """Start the oldest that wait, one at a time for each who asks, while places are free. Any process may call it, any time.

    Raises:
        RunBusy: another process keeps the queue.
    """
    with shelf.queue(home):
        _start_waiting(home)


def cancel(home: Home, key: str, who: str = "") -> None:
    """Take an order back: one that waits is removed, one that is drawn is stopped. Returns when neither process nor file is left.

    With ``who`` it goes on for others who asked for the same. One that is over stays as it is.

    Raises:
        RunBusy: its process cannot be reached from here.
    """
    folder = shelf.folder_of(home, key)
    with shelf.queue(home):
        state, _ = shelf.look(home, key)
        asked = shelf.asked(folder)
        if asked is None or state not in ("waiting", "drawing"):
            return
        others = tuple(name for name in asked.who if name != who)
        if who and others:
            shelf.put(folder, replace(asked, who=others))
            return
        hidden = (folder / ORDER).rename(folder / f".{ORDER}")  # whoever ticks now does not start it anew
    try:
        errands.cancel(home, shelf.errand(home, key))
    except RunBusy:
        with contextlib.suppress(FileNotFoundError):
            hidden.rename(folder / ORDER)
        raise
    with shelf.queue(home):
        if not (folder / ORDER).exists():  # nobody has asked for it meanwhile
            shelf.discard(home, folder)
        _start_waiting(home)


def remove(home: Home, key: str) -> None:
    """Remove an export that is done or failed; one on its way stays."""
    with shelf.queue(home):
        if shelf.look(home, key)[0] in ("done", "failed"):
            shelf.discard(home, shelf.folder_of(home, key))


def places() -> int:
    """Return how many are drawn at once: one on a machine of up to four cores, else two."""
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    return 1 if cores <= 4 else 2


def _place(home: Home, folder: Path, asked: Asked) -> None:
    errands.forget(home, shelf.errand(home, folder.name))
    try:
        folder.mkdir(parents=True, exist_ok=True)
        shelf.put(folder, asked)
    except OSError as error:
        shelf.discard(home, folder)
        given = f"{home.exports}, which cannot be written ({error.strerror or error})"
        raise KdError.of(given, "a disk with room", "make room, or remove exports, and try again") from error
    shelf.tidy(home)


def _crowd(home: Home, who: str, most: int | None) -> Iterator[Problem]:
    waiting, _ = _line(home)
    own = sum(asked.who[0] == who for _, asked in waiting)
    if most is not None and own >= most:
        allowed = f"one that is drawn and {most} that wait"
        yield Problem("queue", f"{own} exports of yours wait already", allowed, "wait until one is done, or cancel one")
    if len(waiting) >= WAITING_ALL:
        yield Problem("queue", f"{len(waiting)} exports wait on this server", f"at most {WAITING_ALL}", "try again in a minute")


def _start_waiting(home: Home) -> None:
    waiting, busy = _line(home)
    for key, asked in waiting:
        if len(busy) >= places():
            break
        # noted as a failure; or the disk is full and nothing can be noted, then it waits for room
        with contextlib.suppress(OSError):
            if asked.who[0] not in busy and errands.start(home, shelf.errand(home, key)):
                busy.append(asked.who[0])


def _line(home: Home) -> tuple[list[tuple[str, Asked]], list[str]]:
    """Return what waits, oldest first, and for whom something is drawn ("" for one that is being cancelled)."""
    waiting: list[tuple[str, Asked]] = []
    busy: list[str] = []
    for folder in shelf.folders(home):
        state = shelf.look(home, folder.name)[0]
        asked = shelf.asked(folder) if state in ("waiting", "drawing") else None
        if state == "drawing":
            busy.append(asked.who[0] if asked else "")
        elif asked is not None:
            waiting.append((folder.name, asked))
    return sorted(waiting, key=lambda item: (item[1].at, item[0])), busy


# ---- how it stands -------------------------------------------------------------------------------------------------------------


def view(home: Home, key: str) -> Export:
    """Return how an export stands; ``absent`` for a key that nobody knows. Never waits."""
    folder = shelf.folder_of(home, key)
    state, standing = shelf.look(home, key)
    if state == "absent":
        return Export(key, state)
    asked = shelf.asked(folder)
    known = Export(key, state, asked.order, asked.who, asked.at) if asked else Export(key, state)
    if state == "waiting":
        line = [waiting for waiting, _ in _line(home)[0]]
        return replace(known, position=line.index(key) + 1 if key in line else None)
    if state == "drawing":
        if standing.step == "finish":
            return replace(known, step="finish", share=1.0, left_s=0.0)
        return replace(known, step=standing.step or "start", share=standing.share, left_s=_left_s(home, asked, standing))
    if state == "failed":
        return replace(known, problems=standing.problems)
    file, poster = shelf.file_of(folder), folder / POSTER
    still = poster if poster.exists() else file if file and file.suffix == ".png" else None
    return replace(known, file=file, poster=still, about=shelf.about(folder))


def gallery(home: Home, most: int = 24) -> list[Export]:
    """Return the exports that are done, made last first."""
    shown = (view(home, folder.name) for folder in shelf.made_last_first(home)[:most])
    return [export for export in shown if export.state == "done" and export.order and export.file and export.about]


def estimate(home: Home, order: Order) -> Estimate:
    """Return what drawing an order will take, judged by the last ones like it on this machine."""
    made = (shelf.about(folder) for folder in shelf.made_last_first(home)[: bounds.LOOK_BACK])
    return bounds.estimate(order, [about for about in made if about])


def versions() -> dict[str, str]:
    """Return what draws and encodes, and in which version: a file is handed out again only where all of it is the same."""
    return {"kdengine": __version__, "renderer": RENDERER, "fonts": _fonts(), "ffmpeg": _ffmpeg(), **_installed()}


def _left_s(home: Home, asked: Asked | None, standing: Standing) -> float | None:
    if standing.left_s is not None or asked is None:
        return standing.left_s
    begun_s = bounds.START_S if standing.step else 0.0
    return max(0.0, estimate(home, asked.order).seconds - begun_s - standing.step_s)


def _ffmpeg() -> str:
    return os.environ.get("IMAGEIO_FFMPEG_EXE") or f"imageio_ffmpeg {_version('imageio_ffmpeg')}"


@functools.cache
def _fonts() -> str:
    said = hashlib.sha256()
    for path in sorted(Path(__file__).with_name("fonts").iterdir()):
        if path.is_file():
            said.update(path.name.encode() + path.read_bytes())
    return said.hexdigest()[:20]


@functools.cache
def _installed() -> dict[str, str]:
    return {name: _version(name) for name in DRAWN_WITH}


def _version(name: str) -> str:
    try:
        return metadata.version(name)
    except metadata.PackageNotFoundError:
        return "none"


# ---- seen from the process that draws ------------------------------------------------------------------------------------------


def draw_ordered(home: Home, key: str) -> None:
    """Draw the order ``key``, leave its file or nothing, and move the queue on. For the main thread of a process of its own.

    Raises:
        KdError: there is no such order, or it cannot be drawn within the limits. RunBusy: another process draws it.
    """
    folder = shelf.folder_of(home, key)
    try:
        with Recorder(home, shelf.errand(home, key)) as note:
            try:
                _draw(home, folder, note)
            except errands.Stopped:
                if not (folder / ORDER).exists():  # cancelled
                    raise
                given = "a drawing that was stopped from outside"
                raise KdError.of(given, "one that is left to end", "export it again") from None
            finally:
                if not (folder / ABOUT).exists():
                    shelf.clear(folder)
    finally:
        tick(home)


def _draw(home: Home, folder: Path, note: Recorder) -> None:
    from store.export.race.render import render  # heavy, and pages import this module

    asked = shelf.asked(folder)
    if asked is None:
        raise KdError.of(f"the order {folder.name}", "one that waits", "ask for it on the race page", "order")
    shelf.clear(folder)
    order, options = asked.order, asked.order.options

    def report(done: float, total: float) -> None:
        if 0 < total <= done:
            note.step("finish")
        else:
            note(done, total)

    note.step("draw", options.moving_frames(len(order.epochs)))
    poster = None if options.format == "png" else folder / POSTER
    with _limits():
        made = render(order, folder / f"race.{options.format}", poster=poster, report=report)
    about = About(
        frames=made.frames, seconds=round(made.seconds, 3), bytes=made.bytes, made_at=now(), kind=options.kind,
        format=options.format, width=options.width, height=options.height, bars=bounds.bars(order),
    )  # fmt: skip
    write_aside(folder / ABOUT, about.model_dump_json().encode())
    with shelf.queue(home):
        shelf.tidy(home)


@contextlib.contextmanager
def _limits() -> Iterator[None]:
    """Bound memory and time of this process and of what it starts; given back afterwards, when it starts the next drawing."""
    wanted = {resource.RLIMIT_CORE: 0} | ({resource.RLIMIT_AS: MEMORY_BYTES} if sys.platform == "linux" else {})
    before = {what: resource.getrlimit(what) for what in wanted}
    for what, most in wanted.items():
        known = [value for value in before[what] if value != resource.RLIM_INFINITY]
        resource.setrlimit(what, (min(most, *known) if known else most, before[what][1]))
    handler = signal.signal(signal.SIGALRM, _too_long)
    signal.setitimer(signal.ITIMER_REAL, WALL_S, CLEAR_S)
    try:
        yield
    except Exception as error:
        if not isinstance(error, MemoryError) and not isinstance(error.__context__, MemoryError):  # bar_chart_race rewords all
            raise
        given = f"a drawing that needs more than {MEMORY_BYTES >> 20:,} MiB of memory"
        raise KdError.of(given, "one that fits", "choose a smaller picture or fewer frames") from None
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, handler)
        for what, values in before.items():
            resource.setrlimit(what, values)


def _too_long(number: int, frame: FrameType | None) -> None:
    signal.signal(signal.SIGALRM, signal.SIG_DFL)  # the next alarm ends a process that hangs while it clears
    do = "choose fewer steps, a smaller picture, or a time when the machine is less busy"
    raise KdError.of(f"a drawing that is not done after {WALL_S:g} s", f"at most {WALL_S:g} s", do)
