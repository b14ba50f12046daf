"""A server of the app with a tab looking at it, for faults that only happen to real ones; and SQL beside it.

Reads: the published snapshot, through ``python -m store sql``. Writes: the server's words into a file. Starts a server.
"""

from __future__ import annotations

import json
import os
import shutil
import socket
import subprocess
import sys
import tempfile
import time
import urllib.error
import urllib.request
from pathlib import Path
from typing import IO, Any, Self

import psutil

from benchmarks.sessions import Reader
from kdengine.home import Home
from kdengine.hosting import Hosting
from kdengine.serve import HOST, Place, command

ROOT = Path(__file__).resolve().parent.parent
CHROMIUM = ("chromium", "chromium-browser", "google-chrome")
UP_S = 60.0


def ask(home: Home, sql: str) -> list[dict[str, Any]]:
    """Return the rows that ``python -m store sql`` answers, with or without a server at work."""
    argv = [sys.executable, "-m", "store", "sql", sql, "--format", "json"]
    done = subprocess.run(
        argv, cwd=ROOT, env={**os.environ, "KD_HOME": str(home.root)}, capture_output=True, text=True, check=False
    )
    if done.returncode:
        raise RuntimeError(f"{sql}: {done.stderr[-1000:]}")
    rows: list[dict[str, Any]] = json.loads(done.stdout)
    return rows


def browser_path() -> str:
    """Return where chromium is. Raises ``SystemExit`` where there is none."""
    found = os.environ.get("CHROMIUM") or next((path for name in CHROMIUM if (path := shutil.which(name))), None)
    if found is None:
        raise SystemExit("given: no chromium; allowed: one on the PATH, or CHROMIUM=path; next: apt-get install chromium")
    return found


def _any_port() -> int:
    """Return a port that nobody has: the kernel's choice, so that several at once do not choose the same."""
    with socket.create_server((HOST, 0)) as found:
        return int(found.getsockname()[1])


class Server:
    """The app on a free port; ``watched``: and a tab at ``page`` that stays open. ``more``: added to its environment.

    Its work begins with the first tab: a server that nobody has ever looked at neither starts runs nor takes anything in.
    """

    def __init__(self, home: Home, *, watched: bool = True, page: str = "", query: str = "", more: dict[str, str] | None = None):
        self._home = home
        self._place = (page, query) if watched else None
        self._more = more or {}
        self._port = _any_port()
        self._process: subprocess.Popen[bytes] | None = None
        self._said: IO[bytes] | None = None
        self.reader: Reader | None = None

    @property
    def url(self) -> str:
        """The address of the first page."""
        return f"http://{HOST}:{self._port}"

    @property
    def pid(self) -> int:
        """The server's process."""
        assert self._process is not None
        return self._process.pid

    def start(self) -> None:
        """Start the process; returns before it can serve."""
        env = {**os.environ, "KD_HOME": str(self._home.root), "PYTHONPATH": str(ROOT), **self._more}
        self._said = tempfile.TemporaryFile()  # noqa: SIM115 - closed with the server
        argv = command(Place(self._port), Hosting.find(env))
        self._process = subprocess.Popen(argv, cwd=ROOT, env=env, stdout=self._said, stderr=self._said)

    def up(self) -> None:
        """Wait until it serves, and open the tab.

        Raises:
            TimeoutError: it did not come up, or did not draw the page; with its last words.
        """
        until = time.monotonic() + UP_S
        while not self._is_healthy():
            if time.monotonic() > until or (self._process and self._process.poll() is not None):
                raise TimeoutError(f"the server did not come up within {UP_S:.0f} s: {self.last_words()}")
            time.sleep(0.05)
        if self._place:
            self.reader = Reader(self.url, *self._place)

    def __enter__(self) -> Self:
        self.start()
        self.up()
        return self

    def _is_healthy(self) -> bool:
        try:
            with urllib.request.urlopen(f"{self.url}/_stcore/health", timeout=1):
                return True
        except (urllib.error.URLError, OSError):
            return False

    def writes(self) -> bool:
        """Say whether this server holds the writer's lock, as far as the lock's note tells."""
        note = self._home.locks / "store.pid"
        return self._process is not None and note.exists() and note.read_text().strip() == str(self._process.pid)

    def rss_mib(self) -> float:
        """Return the resident memory of the server, MiB."""
        return float(psutil.Process(self.pid).memory_info().rss / 2**20)

    def cpu_s(self) -> float:
        """Return the processor time that the server has taken, s."""
        times = psutil.Process(self.pid).cpu_times()
        return float(times.user + times.system)

    def faults(self) -> list[str]:
        """Return what went wrong in the tab, and the tracebacks that the server printed."""
        shown = list(self.reader.tab.faults) if self.reader else []
        return shown + [f"the server said: {part[-300:]}" for part in self.said().split("Traceback (most recent call last)")[1:]]

    def said(self) -> str:
        """Return what the server printed."""
        if self._said is None:
            return ""
        return os.pread(self._said.fileno(), 1 << 24, 0).decode(errors="replace")

    def last_words(self) -> str:
        """Return the end of what the server printed."""
        return self.said()[-600:]

    def kill(self) -> None:
        """Kill -9 the server."""
        if self._process is not None:
            self._process.kill()
            self._process.wait()
        self._leave()

    def _leave(self) -> None:
        if self.reader is not None:
            self.reader.tab._closing = True  # that the connection breaks now is no fault
            self.reader.close()

    def __exit__(self, *_: object) -> None:
        self._leave()
        if self._process is not None:
            self._process.terminate()
            try:
                self._process.wait(15)
            except subprocess.TimeoutExpired:
                self._process.kill()
                self._process.wait()
        if self._said is not None:
            self._said.close()
