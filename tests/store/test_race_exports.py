"""The queue of race charts: real processes that draw what their order's title says, stopped, killed and refused in many ways."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import psutil
import pytest

from kdengine import errands, processes
from kdengine.errands import Standing
from kdengine.errors import KdError
from kdengine.home import Home
from store.export.race import exports, shelf
from store.export.race.options import Options
from store.export.race.order import Order, Racer

# a painter that does what the title says, in the place of the real one, which would load matplotlib first
PAINTER = """
import json, os, resource, signal, subprocess, sys, time, types
from pathlib import Path
from kdengine.home import Home
from store.export.race import exports
home = Home.find()
exports.places = lambda: int(os.environ.get("FAKE_PLACES", "1"))

def render(order, out, *, poster=None, report=None):
    plan, aside = json.loads(order.title), out.with_name(f".race-{os.getpid()}{out.suffix}")
    limits = resource.getrlimit(resource.RLIMIT_AS)[0], resource.getrlimit(resource.RLIMIT_CORE)[0]
    told = {name: value for name, value in os.environ.items() if name.endswith(("_NUM_THREADS", "CONFIGDIR", "_POOL"))}
    seen = {"limits": limits, "told": told, "nice": os.getpriority(os.PRIO_PROCESS, 0), "name": plan["name"]}
    with (home.root / "drawn").open("a") as file:
        file.write(json.dumps(seen) + chr(10))
    aside.write_bytes(b"half of it")
    child = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(90)"]) if plan.get("child") else None
    if child:
        (home.root / "child").write_text(str(child.pid))
    try:
        wait(plan["name"], plan.get("fault"), lambda: report(4, 10))
        FAULTS[plan.get("fault")](aside)
        aside.write_bytes(bytes(plan.get("bytes", 100)))
        aside.replace(out)
        if poster:
            poster.write_bytes(b"the last frame")
        report(10, 10)
        wait(plan["name"] + "-finish", not plan.get("lingers"))
    finally:
        if child:
            child.kill()
            child.wait()
        time.sleep(plan.get("clears_s", 0))
        aside.unlink(missing_ok=True)
    return types.SimpleNamespace(frames=10, seconds=2.0, bytes=out.stat().st_size)

def wait(name, not_at_all, meanwhile=lambda: None):
    until = time.monotonic() + 30
    while not (home.root / f"go-{name}").exists() and time.monotonic() < until and not not_at_all:
        meanwhile()
        time.sleep(0.01)

def full(aside):
    resource.setrlimit(resource.RLIMIT_FSIZE, (1 << 20, resource.RLIM_INFINITY))
    aside.write_bytes(bytes(2 << 20))

def nothing_more(aside):
    resource.setrlimit(resource.RLIMIT_FSIZE, (100, resource.RLIM_INFINITY))

def too_long(aside):
    signal.setitimer(signal.ITIMER_REAL, 0.05)
    time.sleep(30)

def reworded(aside):
    try:
        bytearray(2 << 30)
    except Exception as error:
        raise Exception(str(error))

FAULTS = {None: lambda aside: None, "memory": lambda aside: bytearray(2 << 30), "reworded": reworded, "full": full,
          "too long": too_long, "no room for a word": nothing_more, "wrong": lambda aside: 1 / 0}
sys.modules["store.export.race.render"] = types.ModuleType("render")
sys.modules["store.export.race.render"].render = render
exports.draw_ordered(home, sys.argv[-1])
"""


def order(name: str = "a", *, epochs: int = 11, **plan: Any) -> Order:
    """Return a small order whose title says what happens to it."""
    options = Options(steps=1, **plan.pop("options", {}))
    racer = Racer(name="kd", colour="#336699", values=tuple(range(epochs)))
    return Order(epochs=tuple(range(epochs)), racers=(racer,), title=json.dumps({"name": name} | plan), options=options)


def until(condition: Callable[[], Any], patience_s: float = 15.0) -> None:
    """Wait until the condition is true."""
    end = time.monotonic() + patience_s
    while not condition():
        assert time.monotonic() < end, "it did not come true in time"
        time.sleep(0.01)


def runs(pid: int) -> bool:
    """Say whether a process is there and more than a zombie."""
    with contextlib.suppress(psutil.Error):
        return psutil.Process(pid).status() != psutil.STATUS_ZOMBIE
    return False


def left_in(folder: Path) -> set[str]:
    """Return the names of all files in a folder."""
    return {path.name for path in folder.iterdir()} if folder.exists() else set()


class Desk:
    """Asks, lets drawings go on, and looks: for the tests below."""

    def __init__(self, home: Home) -> None:
        self.home = home

    def ask(self, name: str = "a", who: str = "ada", **plan: Any) -> str:
        """Ask for an order that waits for ``go`` while it is drawn."""
        return exports.ask(self.home, order(name, **plan), who)

    def go(self, *names: str) -> None:
        """Let the drawings of these names come to their end."""
        for name in names:
            (self.home.root / f"go-{name}").touch()

    def state(self, key: str) -> str:
        """Return how the order stands."""
        return exports.view(self.home, key).state

    def becomes(self, key: str, *states: str) -> exports.Export:
        """Wait until the order stands so."""
        until(lambda: self.state(key) in states)
        return exports.view(self.home, key)

    def paints(self, key: str) -> int:
        """Wait until the painter of the order is at work; return its process."""
        until(lambda: exports.view(self.home, key).share == 0.4)
        return int(shelf.errand(self.home, key).lock(self.home).read_text())

    def drawn(self) -> list[dict[str, Any]]:
        """Return what the painters said when they began, in this order."""
        with contextlib.suppress(FileNotFoundError):
            return [json.loads(line) for line in (self.home.root / "drawn").read_text().splitlines()]
        return []


@pytest.fixture
def desk(home: Home, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Desk]:
    """One place for drawings, done by the painter above; whoever is left at the end is stopped."""
    (tmp_path / "fake_painter.py").write_text(PAINTER)
    monkeypatch.setenv(errands.MODULE, "fake_painter")
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))
    monkeypatch.setattr(exports, "places", lambda: int(os.environ.get("FAKE_PLACES", "1")))
    yield Desk(home)
    for folder in shelf.folders(home):
        (folder / shelf.ORDER).unlink(missing_ok=True)
        errands.cancel(home, shelf.errand(home, folder.name), grace_s=1)
    for process in errands._started:
        process.wait(timeout=5)
    errands._reap()


@pytest.fixture
def made(home: Home) -> Callable[..., str]:
    """Return a maker of exports that are done: name, bytes of the file, how long ago they were made and used."""

    def make(name: str, size: int = 100, ago_s: float = 0.0, **values: Any) -> str:
        wanted = order(name)
        key = wanted.key(exports.versions())
        folder = shelf.folder_of(home, key)
        folder.mkdir(parents=True)
        shelf.put(folder, shelf.Asked(wanted, ("ada",), "2026-01-01T00:00:00.000000Z"))
        (folder / "race.mp4").write_bytes(bytes(size))
        (folder / "last.png").write_bytes(b"")
        about = {"frames": 10, "seconds": 2.0, "bytes": size, "made_at": "2026-01-01T00:00:00.000000Z", "kind": "bars",
                 "format": "mp4", "width": 1280, "height": 720, "bars": 10}  # fmt: skip
        (folder / "about.json").write_text(json.dumps(about | values))
        for path in folder.iterdir():
            os.utime(path, (time.time() - ago_s,) * 2)
        return key

    return make


# ---- from the order to the file --------------------------------------------------------------------------------------------


def test_one_order_is_drawn_once_and_handed_out_again(desk: Desk) -> None:
    keys: list[str] = []
    threads = [threading.Thread(target=lambda who=who: keys.append(desk.ask(who=who))) for who in ("ada", "bob", "cyd")]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    key = keys[0]
    assert keys == [key] * 3 and desk.state(key) == "drawing"
    desk.paints(key)
    assert all(exports.view(desk.home, key).asked_by(who) for who in ("ada", "bob", "cyd"))
    desk.go("a")
    done = desk.becomes(key, "done", "failed")
    folder = shelf.folder_of(desk.home, key)
    assert left_in(folder) == {"order.json", "about.json", "race.mp4", "last.png"}
    assert (done.file, done.poster, done.order) == (folder / "race.mp4", folder / "last.png", order())
    assert done.about and (done.about.frames, done.about.seconds, done.about.bytes, done.about.bars) == (10, 2.0, 100, 1)
    os.utime(folder / "about.json", (1, 1))
    assert desk.ask(who="dan") == key and desk.state(key) == "done"
    assert (folder / "about.json").stat().st_mtime > 1, "used last now"
    assert [seen["name"] for seen in desk.drawn()] == ["a"]


def test_joining_while_the_process_that_draws_clears_its_folder(desk: Desk, monkeypatch: pytest.MonkeyPatch) -> None:
    key = desk.ask(who="ada")
    replace, cleared = Path.replace, []

    def clearing(path: Path, target: Path) -> Path:
        if path.name.startswith(".order.json") and len(cleared) < 2:
            cleared.append(shelf.clear(path.parent))  # what is beside the order is taken for remains
        return replace(path, target)

    monkeypatch.setattr(Path, "replace", clearing)
    assert desk.ask(who="bob") == key and len(cleared) == 2
    assert exports.view(desk.home, key).who == ("ada", "bob")


def test_it_is_watched_from_start_to_end(desk: Desk) -> None:
    assert exports.view(desk.home, order().key(exports.versions())).state == "absent"
    key = desk.ask(lingers=True)
    start = exports.view(desk.home, key)
    assert (start.step, start.share, start.position, start.problems) == ("start", 0.0, None, ())
    assert start.left_s is not None and 0 < start.left_s < 3, "from the estimate, before there is a speed"
    desk.paints(key)
    now = exports.view(desk.home, key)
    assert (now.step, now.share, now.order, now.file) == ("draw", 0.4, order(lingers=True), None)
    desk.go("a")
    until(lambda: exports.view(desk.home, key).step == "finish")
    desk.go("a-finish")
    assert desk.becomes(key, "done", "failed").state == "done"


def test_steps_and_seconds_follow_the_errand(home: Home, monkeypatch: pytest.MonkeyPatch) -> None:
    key = order().key(exports.versions())
    for standing, expected in [
        (Standing(True, "draw", 25, 100, step_s=10), ("draw", 0.25, 30.0)),
        (Standing(True, "finish", 0, 0, step_s=10), ("finish", 1.0, 0.0)),
        (Standing(True, "draw", 0, 0, step_s=500), ("draw", 0.0, None)),
    ]:
        monkeypatch.setattr(shelf, "look", lambda *_, standing=standing: ("drawing", standing))
        now = exports.view(home, key)
        assert (now.step, now.share, now.left_s) == expected


def test_one_that_ends_while_somebody_looks_is_not_drawn_again(
    home: Home, made: Callable[..., str], monkeypatch: pytest.MonkeyPatch
) -> None:
    key = made("a")
    last = shelf.folder_of(home, key) / "about.json"
    aside = last.rename(last.with_name("aside"))
    monkeypatch.setattr(errands, "standing", lambda *_: (aside.rename(last), Standing(False))[1])
    assert exports.view(home, key).state == "done"


def test_a_still_is_its_own_poster(desk: Desk) -> None:
    desk.go("a")
    done = desk.becomes(desk.ask(options={"format": "png"}), "done", "failed")
    assert done.file and done.file.name == "race.png" and done.poster == done.file
    assert left_in(done.file.parent) == {"order.json", "about.json", "race.png"}


@pytest.mark.slow
def test_the_real_command_draws(home: Home, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv(errands.MODULE, raising=False)
    key = exports.ask(home, order(options={"width": 320, "height": 180, "format": "gif"}), "ada")
    until(lambda: exports.view(home, key).state in ("done", "failed"), patience_s=40)
    done = exports.view(home, key)
    assert done.state == "done", (done.problems, shelf.errand(home, key).log(home).read_text())
    assert done.file and done.file.read_bytes().startswith(b"GIF8")
    assert done.poster and done.poster.read_bytes().startswith(b"\x89PNG")
    big = order("b", epochs=170, options={"width": 1920, "height": 1080, "fps": 60}).model_copy(update={"title": "b"})
    key = exports.ask(home, big, "ada")
    until(lambda: exports.view(home, key).share > 0, patience_s=40)
    process = psutil.Process(int(shelf.errand(home, key).lock(home).read_text()))
    family = [process, *process.children(recursive=True)]
    assert len(family) == 2, "ffmpeg encodes beside it"
    exports.cancel(home, key)
    assert not [member for member in family if runs(member.pid)] and not shelf.folder_of(home, key).exists()


# ---- the queue -------------------------------------------------------------------------------------------------------------


def test_the_oldest_is_next_and_the_one_that_ends_starts_it(desk: Desk) -> None:
    keys = {name: desk.ask(name, who) for name, who in (("a", "ada"), ("b", "bob"), ("c", "ada"), ("d", "cyd"))}
    assert [exports.view(desk.home, key).position for key in keys.values()] == [None, 1, 2, 3]
    desk.go(*keys)
    until(lambda: len(desk.drawn()) == 4)  # nobody here calls tick
    assert [seen["name"] for seen in desk.drawn()] == ["a", "b", "c", "d"]
    until(lambda: all(desk.state(key) == "done" for key in keys.values()))
    assert [export.key for export in exports.gallery(desk.home)] == [*reversed(keys.values())], "made last first"


def test_who_has_one_drawn_waits_while_others_do_not(desk: Desk, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("FAKE_PLACES", "2")
    a1, a2, a3 = (desk.ask(name, "ada") for name in ("a1", "a2", "a3"))
    b1, c1 = desk.ask("b1", "bob"), desk.ask("c1", "cyd")
    assert [desk.state(key) for key in (a1, a2, a3, b1, c1)] == ["drawing", "waiting", "waiting", "drawing", "waiting"]
    desk.go("b1")
    desk.becomes(c1, "drawing")
    assert desk.state(a2) == "waiting", "it is older, but ada has one drawn"
    desk.go("a1")
    desk.becomes(a2, "drawing")
    assert exports.view(desk.home, a3).position == 1


def test_moving_the_queue_on_twice_starts_nothing_twice(desk: Desk) -> None:
    desk.ask("a")
    desk.ask("b", "bob")
    threads = [threading.Thread(target=exports.tick, args=(desk.home,)) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    desk.go("a", "b")
    until(lambda: len(exports.gallery(desk.home)) == 2)
    assert [seen["name"] for seen in desk.drawn()] == ["a", "b"]


def test_too_many_and_too_large_are_refused_together(desk: Desk, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(exports, "WAITING_ALL", 3)
    for name, who in (("a1", "ada"), ("a2", "ada"), ("a3", "ada"), ("b1", "bob")):
        desk.ask(name, who)
    with pytest.raises(KdError) as refused:
        desk.ask("a4", "ada", epochs=2001, options={"width": 3840, "height": 2160})
    assert [problem.field for problem in refused.value.problems] == ["steps", "width", "queue", "queue"]
    assert all(problem.given and problem.allowed and problem.do for problem in refused.value.problems)
    with pytest.raises(KdError, match="3 exports wait on this server"):
        desk.ask("c1", "cyd")
    assert desk.ask("a2", "cyd") and len(shelf.folders(desk.home)) == 4, "joining costs nothing"


# ---- taken back ------------------------------------------------------------------------------------------------------------


def test_cancelling_leaves_neither_process_nor_file_and_the_next_begins(desk: Desk) -> None:
    key, following = desk.ask("a", child=True), desk.ask("b", "bob")
    painter = desk.paints(key)
    until(lambda: (desk.home.root / "child").exists())
    child = int((desk.home.root / "child").read_text())
    with shelf.queue(desk.home):
        shelf.tidy(desk.home)  # not what is being made
    assert runs(child) and any(name.startswith(".race-") for name in left_in(shelf.folder_of(desk.home, key)))
    exports.cancel(desk.home, key)
    assert not runs(painter) and not runs(child)
    assert left_in(desk.home.exports / "race") == {following}
    errand = shelf.errand(desk.home, key)
    assert not any(path.exists() for path in (errand.note(desk.home), errand.log(desk.home), errand.lock(desk.home)))
    assert desk.state(key) == "absent"
    desk.paints(following)
    exports.cancel(desk.home, key)  # nothing is left to cancel
    exports.remove(desk.home, following)
    assert exports.view(desk.home, following).order == order("b"), "not while it is drawn"


def test_one_that_waits_is_removed(desk: Desk) -> None:
    first, second = desk.ask("a"), desk.ask("b")
    exports.cancel(desk.home, second)
    assert left_in(desk.home.exports / "race") == {first} and desk.state(second) == "absent"


def test_it_goes_on_for_others_who_asked_for_the_same(desk: Desk) -> None:
    first, shared = desk.ask("a", "cyd"), desk.ask("b", "ada")
    desk.ask("b", "bob")
    exports.cancel(desk.home, shared, "ada")
    now = exports.view(desk.home, shared)
    assert (now.state, now.who) == ("waiting", ("bob",))
    exports.cancel(desk.home, shared, "eve")
    assert desk.state(shared) == "waiting", "eve has nothing to take back"
    exports.cancel(desk.home, shared, "bob")
    assert desk.state(shared) == "absent" and desk.state(first) == "drawing"


@pytest.mark.slow
def test_asked_for_again_while_it_is_being_cancelled(desk: Desk) -> None:
    key = desk.ask(clears_s=1.0)
    desk.paints(key)
    stopping = threading.Thread(target=exports.cancel, args=(desk.home, key))
    stopping.start()
    until(lambda: not (shelf.folder_of(desk.home, key) / "order.json").exists())
    now = exports.view(desk.home, key)
    assert (now.state, now.order, now.who) == ("drawing", None, ()), "not over before it is cleared"
    assert desk.ask(who="bob", clears_s=1.0) == key and stopping.is_alive()
    stopping.join()
    assert desk.becomes(key, "drawing").who == ("bob",)
    desk.go("a")
    desk.becomes(key, "done", "failed")
    assert desk.state(key) == "done" and len(desk.drawn()) == 2


# ---- failures --------------------------------------------------------------------------------------------------------------


@pytest.mark.slow
def test_a_killed_one_failed_blocks_nobody_and_can_be_asked_for_again(desk: Desk) -> None:
    key, following = desk.ask("a"), desk.ask("b", "bob")
    os.kill(desk.paints(key), signal.SIGKILL)
    failed = desk.becomes(key, "failed")
    assert "without a word" in failed.problems[0].given and failed.order == order()
    assert any(name.startswith(".race-") for name in left_in(shelf.folder_of(desk.home, key))), "what it had begun is left"
    exports.tick(desk.home)
    assert (desk.state(key), desk.state(following)) == ("failed", "drawing")
    desk.go("a", "b")
    desk.becomes(following, "done", "failed")
    exports.tick(desk.home)
    assert desk.state(key) == "failed", "not by itself"
    until(lambda: left_in(shelf.folder_of(desk.home, key)) == {"order.json"})  # swept by the next, when it was done
    assert desk.ask("a") == key
    assert desk.becomes(key, "done", "failed").state == "done"


@pytest.mark.slow
def test_one_that_was_stopped_from_outside_failed(desk: Desk) -> None:
    key = desk.ask()
    os.kill(desk.paints(key), signal.SIGTERM)
    assert "stopped from outside" in desk.becomes(key, "failed").problems[0].given
    assert left_in(shelf.folder_of(desk.home, key)) == {"order.json"}
    exports.remove(desk.home, key)
    assert desk.state(key) == "absent" and not left_in(desk.home.exports / "race") and not left_in(desk.home.root / "errands")


def test_one_that_cannot_even_begin_is_not_tried_for_ever(desk: Desk, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(errands.MODULE, "no_such_painter")
    key, following = desk.ask("a"), desk.ask("b", "bob")
    failed = desk.becomes(key, "failed")
    assert "no_such_painter" in failed.problems[0].given
    log = shelf.errand(desk.home, key).log(desk.home)
    log.unlink()
    exports.tick(desk.home)
    desk.becomes(following, "failed")
    exports.tick(desk.home)
    assert not log.exists()


@pytest.mark.slow
@pytest.mark.parametrize(
    ("fault", "given", "do"),
    [
        ("memory", "more than 1,536 MiB of memory", "smaller picture or fewer frames"),
        ("reworded", "more than 1,536 MiB of memory", "smaller picture or fewer frames"),
        ("full", "File too large", "make room"),
        ("too long", "not done after 120 s", "fewer steps"),
        ("wrong", "ZeroDivisionError", "try again"),
        ("no room for a word", "without a word", "try again"),
    ],
)
def test_a_fault_says_what_to_change_and_leaves_nothing_half_made(desk: Desk, fault: str, given: str, do: str) -> None:
    key, following = desk.ask("a", fault=fault), desk.ask("b", "bob")
    failed = desk.becomes(key, "done", "failed")
    assert failed.state == "failed"
    (problem,) = failed.problems
    assert given in problem.given and problem.allowed and do in problem.do
    assert left_in(shelf.folder_of(desk.home, key)) == {"order.json"}
    desk.becomes(following, "drawing")


def test_an_order_that_cannot_be_written_down_leaves_nothing(desk: Desk, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*_: Any) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(shelf, "write_aside", full)
    with pytest.raises(KdError, match="No space left on device.; allowed: .* next: make room"):
        desk.ask()
    assert not left_in(desk.home.exports / "race")


def test_an_unknown_order_is_not_drawn(home: Home, monkeypatch: pytest.MonkeyPatch) -> None:
    key = order().key(exports.versions())
    monkeypatch.setattr(exports, "_limits", contextlib.nullcontext)
    with pytest.raises(KdError, match=f"the order {key}"):
        exports.draw_ordered(home, key)
    assert not shelf.folder_of(home, key).exists()


# ---- what such a process is told -------------------------------------------------------------------------------------------


def test_a_drawing_is_bounded_and_one_thread_strong(desk: Desk, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("MPLCONFIGDIR", raising=False)
    desk.go("a", "b")
    keys = desk.ask("a"), desk.ask("b")
    until(lambda: all(desk.state(key) in ("done", "failed") for key in keys))
    for seen in desk.drawn():  # the second is started by the first
        assert seen["limits"] == [1536 << 20 if sys.platform == "linux" else -1, 0]
        assert seen["told"]["OPENBLAS_NUM_THREADS"] == seen["told"]["OMP_NUM_THREADS"] == "1"
        assert seen["told"]["ARROW_DEFAULT_MEMORY_POOL"] == "system"
        assert seen["told"]["MPLCONFIGDIR"] == str(desk.home.root / "cache" / "matplotlib")
        assert seen["nice"] == processes.NICENESS
    monkeypatch.setenv("MPLCONFIGDIR", "elsewhere")
    assert shelf.errand(desk.home, keys[0]).environment["MPLCONFIGDIR"] == "elsewhere"


def test_the_limits_are_given_back() -> None:
    code = "import resource, signal; from store.export.race import exports as e\n"
    code += "look = lambda: (resource.getrlimit(resource.RLIMIT_CORE), resource.getrlimit(resource.RLIMIT_AS))\n"
    code += "left_s = lambda: signal.getitimer(signal.ITIMER_REAL)[0]\nbefore = look()\n"
    code += "with e._limits(): assert look() != before and 100 < left_s() <= 120\nassert look() == before and left_s() == 0"
    root = Path(__file__).resolve().parents[2]
    done = subprocess.run([sys.executable, "-c", code], cwd=root, capture_output=True, text=True, timeout=30, check=False)
    assert done.returncode == 0, done.stderr


def test_asking_loads_nothing_heavy() -> None:
    code = "import sys; from store.export.race import exports; exports.versions(); "
    code += "print(*{'matplotlib', 'pandas', 'PIL', 'torch', 'streamlit', 'bar_chart_race', 'imageio_ffmpeg'} & set(sys.modules))"
    root = Path(__file__).resolve().parents[2]
    done = subprocess.run([sys.executable, "-c", code], cwd=root, capture_output=True, text=True, timeout=30, check=True)
    assert done.stdout.split() == []


def test_the_key_changes_with_what_draws(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("IMAGEIO_FFMPEG_EXE", raising=False)
    before = exports.versions()
    assert set(before) >= {"kdengine", "renderer", "fonts", "ffmpeg"} and all(before.values())
    monkeypatch.setattr(exports, "RENDERER", "next")
    assert order().key(exports.versions()) != order().key(before)
    monkeypatch.undo()
    monkeypatch.setenv("IMAGEIO_FFMPEG_EXE", "/opt/ffmpeg")
    assert order().key(exports.versions()) != order().key(before)


# ---- the shelf -------------------------------------------------------------------------------------------------------------


def test_what_was_used_longest_ago_goes_first(desk: Desk, made: Callable[..., str]) -> None:
    desk.home.settings.write_text(json.dumps({"exports_mib": 16}))
    waiting = [desk.ask("x"), desk.ask("y")]
    old, older, oldest = made("o1", 7 << 20, 100), made("o2", 7 << 20, 200), made("o3", 7 << 20, 300)
    assert exports.ask(desk.home, order("o3"), "eve") == oldest  # used: now it is the newest
    desk.ask("z")
    assert [desk.state(key) for key in (old, older, oldest)] == ["done", "absent", "done"]
    assert [desk.state(key) for key in waiting] == ["drawing", "waiting"]
    assert not shelf.errand(desk.home, older).lock(desk.home).exists()


def test_a_new_export_makes_room_for_itself(desk: Desk, made: Callable[..., str]) -> None:
    desk.home.settings.write_text(json.dumps({"exports_mib": 16}))
    old = made("o1", 15 << 20, 100)
    with shelf.queue(desk.home):
        big = made("o2", 30 << 20)
        shelf.tidy(desk.home)
    assert (desk.state(old), desk.state(big)) == ("absent", "done"), "the last one stays, however large"


def test_what_dead_ones_left_is_swept(desk: Desk, made: Callable[..., str], monkeypatch: pytest.MonkeyPatch) -> None:
    whole, half, torn, lost = made("a"), made("b"), made("c"), made("d")
    race = desk.home.exports / "race"
    (race / whole / ".race-1.mp4").write_bytes(b"")
    (race / whole / "frames").mkdir()
    (race / half / "order.json").unlink()
    (race / torn / "about.json").unlink()
    (race / f".{lost}-1").mkdir()
    (race / lost / "order.json").write_text('{"who": ["ada"], "at": "", "order": {"of": "a newer version"}}')
    with shelf.queue(desk.home):
        shelf.tidy(desk.home)
    assert left_in(race) == {whole, torn, lost}
    assert left_in(race / whole) == {"order.json", "about.json", "race.mp4", "last.png"} and left_in(race / torn) == {
        "order.json"
    }
    assert [export.key for export in exports.gallery(desk.home)] == [whole], "one that is not understood is not shown"


def test_a_failure_is_kept_for_a_week(desk: Desk, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(errands.MODULE, "no_such_painter")
    key = desk.ask()
    desk.becomes(key, "failed")
    for days, state in ((6, "failed"), (8, "absent")):
        os.utime(shelf.folder_of(desk.home, key) / "order.json", (time.time() - 86_400 * days,) * 2)
        with shelf.queue(desk.home):
            shelf.tidy(desk.home)
        assert desk.state(key) == state


def test_rubbish_in_a_link_finds_nothing_and_harms_nothing(home: Home, made: Callable[..., str]) -> None:
    key = made("a")
    outside = home.root / "runs" / "a"
    outside.mkdir()
    (outside / "order.json").write_text("{}")
    for rubbish in ("", ".", "..", "../../runs/a", "/etc", key.upper(), key + "0", "\0", "k" * 5000):
        assert exports.view(home, rubbish) == exports.Export(rubbish, "absent")
        exports.cancel(home, rubbish)
        exports.remove(home, rubbish)
    assert (outside / "order.json").exists() and exports.view(home, key).state == "done"


def test_the_gallery_shows_the_last_ones(home: Home, made: Callable[..., str]) -> None:
    keys = [made(f"n{number}", ago_s=1000 - number) for number in range(30)]
    assert [export.key for export in exports.gallery(home, most=5)] == keys[:-6:-1]
    exports.remove(home, keys[-1])
    assert exports.gallery(home, most=1)[0].key == keys[-2]


def test_an_estimate_follows_what_was_made_here(home: Home, made: Callable[..., str]) -> None:
    wanted = order(epochs=500)
    first = exports.estimate(home, wanted)
    for number in range(3):
        made(f"n{number}", size=5_000_000, frames=1000, seconds=60.5)
    made("other", format="gif", frames=1000, seconds=500.0)
    now = exports.estimate(home, wanted)
    assert now.seconds > 3 * first.seconds and now.mib > first.mib
