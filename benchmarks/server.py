"""A server of the app with a browser looking at it, for faults that only happen to real ones; and SQL beside it.

Reads: the published snapshot, through ``python -m store sql``. Writes: nothing itself. Starts a server and chromium.
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import time
import urllib.error
import urllib.request
from pathlib import Path
from typing import Any, Self

from kdengine.home import Home
from kdengine.serve import HOST, command, free_port

ROOT = Path(__file__).resolve().parent.parent
CHROMIUM = ("chromium", "chromium-browser", "google-chrome")


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


class Server:
    """The app on a free port; ``watched``: and a chromium without a window that keeps one session open."""

    def __init__(self, home: Home, *, watched: bool = True) -> None:
        self._home = home
        self._port = free_port(8601)
        self._browser_path = browser_path() if watched else None
        self._server: subprocess.Popen[bytes] | None = None
        self._browser: subprocess.Popen[bytes] | None = None

    @property
    def url(self) -> str:
        """The address of the first page."""
        return f"http://{HOST}:{self._port}"

    def __enter__(self) -> Self:
        env = {**os.environ, "KD_HOME": str(self._home.root)}
        quiet: dict[str, Any] = {"stdout": subprocess.DEVNULL, "stderr": subprocess.DEVNULL}
        self._server = subprocess.Popen(command(self._port), cwd=ROOT, env=env, **quiet)
        self._await_health()
        if self._browser_path:
            profile = self._home.root / f".browser-{self._port}"
            flags = ["--headless=new", "--no-sandbox", "--disable-gpu", "--no-first-run", "--disable-dev-shm-usage"]
            argv = [self._browser_path, *flags, f"--user-data-dir={profile}", "--remote-debugging-port=0", self.url]
            self._browser = subprocess.Popen(argv, **quiet)
        return self

    def _await_health(self) -> None:
        for _ in range(300):
            try:
                with urllib.request.urlopen(f"{self.url}/_stcore/health", timeout=1):
                    return
            except (urllib.error.URLError, OSError):
                time.sleep(0.1)
        raise TimeoutError("the server did not come up within 30 s")

    def writes(self) -> bool:
        """Say whether this server holds the writer's lock, as far as the lock's note tells."""
        note = self._home.locks / "store.pid"
        return self._server is not None and note.exists() and note.read_text().strip() == str(self._server.pid)

    def kill(self) -> None:
        """Kill -9 the server."""
        if self._server is not None:
            self._server.kill()
            self._server.wait()

    def __exit__(self, *_: object) -> None:
        for process in (self._browser, self._server):
            if process is not None:
                process.terminate()
                try:
                    process.wait(10)
                except subprocess.TimeoutExpired:
                    process.kill()
                    process.wait()
