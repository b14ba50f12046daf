"""Starts the app on this machine: ``python -m kdengine.serve [--port 8501]``. Used by ``make app`` and ``make demo``.

Reads: whether the port is free. Writes: nothing; the process becomes the Streamlit server.
Never: torch; an address other than 127.0.0.1 (docs/hosting.md says how to put it behind a proxy).
"""

from __future__ import annotations

import argparse
import os
import socket
import sys
from pathlib import Path

from kdengine.errors import HomeError, KdError
from kdengine.home import Home

HOST = "127.0.0.1"
TRIES = 50
APP = Path(__file__).resolve().parent.parent / "app.py"


def is_free(port: int) -> bool:
    """Return whether a server could listen on ``port`` of this machine now."""
    with socket.socket(socket.AF_INET, socket.SOCK_STREAM) as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((HOST, port))
        except OSError:
            return False
    return True


def free_port(wanted: int) -> int:
    """Return ``wanted``, or the first free port above it.

    Raises:
        HomeError: none of the next 50 is free.
    """
    last = min(wanted + TRIES, 65_535)
    for port in range(wanted, last + 1):
        if is_free(port):
            return port
    raise HomeError.of(
        f"port {wanted}", "a free port", f"all up to {last} are busy: choose another with --port (make app PORT=...)"
    )


def command(port: int) -> list[str]:
    """Return the command line of the server."""
    return [sys.executable, "-m", "streamlit", "run", str(APP), "--server.address", HOST, "--server.port", str(port),
            "--server.headless", "true", "--browser.gatherUsageStats", "false"]  # fmt: skip


def main(arguments: list[str] | None = None) -> int:
    """Say where the app will be, then become its server. Returns only when it cannot start."""
    parser = argparse.ArgumentParser(prog="python -m kdengine.serve", description="Start KD Explorer on this machine.")
    parser.add_argument("--port", type=int, default=8501, help="wanted port; the next free one is taken when it is busy")
    wanted = parser.parse_args(arguments).port
    try:
        if not APP.is_file():
            raise HomeError.of(f"no app.py in {APP.parent}", "a checkout of the repository", "start it from there: make app")
        home, port = Home.find(), free_port(wanted)
    except KdError as error:
        print(error, file=sys.stderr)
        return 2
    if port != wanted:
        print(f"Port {wanted} is busy (another app, or this one already running); using {port} instead.")
    print(f"KD Explorer: http://localhost:{port}  (KD_HOME={home.root}; Ctrl-C stops the app, never a run)", flush=True)
    os.chdir(APP.parent)  # Streamlit finds .streamlit/config.toml in the working directory
    argv = command(port)
    os.execv(argv[0], argv)


if __name__ == "__main__":
    sys.exit(main())
