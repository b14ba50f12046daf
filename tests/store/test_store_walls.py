"""The walls of the kernel around the process of free SQL: each alone keeps in what the others would, where there is one."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

from kdengine.home import Home
from store import sandbox
from store.db import Store
from tests.store.conftest import MakeRun
from tests.store.killing import ROOT

PROBE = """
import sys; sys.path.insert(0, sys.argv[1])
import ctypes, json, os, resource, socket, threading
from store import sandbox_walls as walls
inside, outside, fresh, app = sys.argv[2], sys.argv[3], sys.argv[4], os.getppid()
handle = os.open(inside, os.O_RDONLY)
held = {"files": lambda: walls.only_this_file(handle), "calls": walls.few_calls}[sys.argv[5]]()
found = {"held": held}
def thread():
    done = []
    one = threading.Thread(target=lambda: done.append(1)); one.start(); one.join()
    return done[0]
def fork():
    child = os.fork()
    if child == 0: os._exit(0)
    os.waitpid(child, 0)
tries = {
    "read inside": lambda: open(inside).read(),
    "read inside by handle": lambda: open(f"/proc/self/fd/{handle}").read(),
    "read outside": lambda: open(outside).read(),
    "write outside": lambda: open(fresh, "w"),
    "write inside": lambda: open(inside, "a"),
    "list": lambda: os.listdir(os.path.dirname(outside)),
    "make folder": lambda: os.mkdir(fresh),
    "remove": lambda: os.unlink(outside),
    "rename": lambda: os.rename(outside, fresh),
    "mode": lambda: os.chmod(outside, 0o777),
    "link": lambda: os.symlink(outside, fresh),
    "times": lambda: os.utime(outside),
    "where it lies": lambda: os.readlink(f"/proc/self/fd/{handle}"),
    "connect": lambda: socket.create_connection(("127.0.0.1", 9), 1),
    "socket": lambda: socket.socket(),
    "fork": fork,
    "program": lambda: os.posix_spawn("/bin/true", ["true"], {}),
    "signal": lambda: os.kill(app, 0),
    "limits of another": lambda: resource.prlimit(app, resource.RLIMIT_NOFILE),
    "thread": thread,
}
for name, attempt in tries.items():
    try:
        attempt(); found[name] = ""
    except OSError as error:
        found[name] = type(error).__name__ + " " + str(error.errno)
print(json.dumps(found))
"""


def probe(tmp_path: Path, wall: str) -> dict[str, str]:
    """Return what a process behind one wall may still do: name of the attempt -> "" or the error."""
    inside, outside = tmp_path / "in" / "inside.txt", tmp_path / "out" / "outside.txt"
    for file in (inside, outside):
        file.parent.mkdir()
        file.write_text("text")
    done = subprocess.run(
        [sys.executable, "-c", PROBE, str(ROOT), str(inside), str(outside), str(tmp_path / "fresh"), wall],
        capture_output=True, text=True, timeout=30, check=True,
    )  # fmt: skip
    found: dict[str, str] = json.loads(done.stdout)
    if not found["held"]:
        pytest.skip(f"this kernel lacks the wall: {wall}")
    assert found["thread"] == found["read inside"] == found["read inside by handle"] == ""
    assert outside.read_text() == "text" and sorted(tmp_path.iterdir()) == [tmp_path / "in", tmp_path / "out"]
    return found


def test_only_one_file_can_be_opened(tmp_path: Path) -> None:
    found = probe(tmp_path, "files")
    refused = {"read outside", "write outside", "write inside", "list", "make folder", "remove", "rename", "link", "program"}
    assert {name: found[name] for name in refused} == dict.fromkeys(refused, "PermissionError 13")


def test_few_calls_are_left(tmp_path: Path) -> None:
    found = probe(tmp_path, "calls")
    refused = {
        "write outside", "write inside", "make folder", "remove", "rename", "mode", "link", "times", "connect", "socket", "fork",
        "program", "signal", "limits of another",
    }  # fmt: skip
    assert {name: found[name] for name in refused} == dict.fromkeys(refused, "PermissionError 1")
    assert found["where it lies"] == "OSError 22"


@pytest.mark.slow
def test_the_process_says_which_walls_hold(home: Home, make_run: MakeRun) -> None:
    make_run()
    with Store.open(home) as store:
        store.take_in()
    held = sandbox.isolation(home)
    assert set(held) == {"first to go", "not root", "ends with the app", "memory", "files", "calls", "nothing new"}
    assert held["nothing new"] and held["not root"]
    with pytest.raises(sandbox.QueryError, match="could not be started"):
        sandbox.isolation(Home(home.root / "nowhere"))
