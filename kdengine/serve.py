"""Starts the app: ``python -m kdengine.serve [--port 8501]``. Used by ``make app``, ``make demo`` and the service of a lab.

Reads: the environment; whether the port is free. Writes: nothing; the process becomes the Streamlit server.
Never: torch; an address other than 127.0.0.1 unless it is asked for (docs/hosting.md says how to put it behind a proxy).
"""

from __future__ import annotations

import argparse
import os
import re
import socket
import sys
from dataclasses import dataclass, replace
from pathlib import Path

from kdengine import startup
from kdengine.errors import HomeError, KdError
from kdengine.hosting import Hosting, Mode, SignIn

HOST = "127.0.0.1"
TRIES = 50
APP = Path(__file__).resolve().parent.parent / "app.py"
_BASE = re.compile(r"[A-Za-z0-9_-]+(/[A-Za-z0-9_-]+)*")


@dataclass(frozen=True, slots=True)
class Place:
    """Where the app is served. ``base``: path below the host, "" = the whole host; ``exact``: on this port or none."""

    port: int = 8501
    address: str = HOST
    base: str = ""
    exact: bool = False

    @property
    def url(self) -> str:
        """Return the address for a browser on this machine."""
        return f"http://localhost:{self.port}/{self.base}".rstrip("/")


def is_free(port: int, address: str = HOST) -> bool:
    """Return whether a server could listen on ``port`` of this machine now."""
    family = socket.AF_INET6 if ":" in address else socket.AF_INET
    with socket.socket(family, socket.SOCK_STREAM) as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((address, port))
        except OSError:
            return False
    return True


def free_port(place: Place) -> int:
    """Return the wanted port, or the first free one above it.

    Raises:
        HomeError: it has to be this one and is busy, or none of the next 50 is free.
    """
    last = min(place.port + (0 if place.exact else TRIES), 65_535)
    for port in range(place.port, last + 1):
        if is_free(port, place.address):
            return port
    if place.exact:
        do = "stop the server that listens there (ss -ltnp names it), or choose another port here and in the proxy"
        raise HomeError.of(f"port {place.port} of {place.address}", "a free port of an address of this machine", do)
    raise HomeError.of(
        f"port {place.port}", "a free port", f"all up to {last} are busy: choose another with --port (make app PORT=...)"
    )


def base_path(given: str) -> str:
    """Return the path under which the app is served, without slashes around it.

    Raises:
        HomeError: it is no path.
    """
    base = given.strip().strip("/")
    if base and not _BASE.fullmatch(base):
        raise HomeError.of(
            repr(given[:80]), "letters, digits, _ and -, such as kd or lab/kd", "write a path, no address", "base URL"
        )
    return base


def command(place: Place, hosting: Hosting) -> list[str]:
    """Return the command line of the server.

    What is behind a fault (a path, a line of code) is shown to the one who works on this machine; others read that there was a
    fault, see ``.streamlit/config.toml``, and the server's log has it.
    """
    alone = hosting.mode is Mode.LAB and hosting.sign_in is SignIn.NONE
    return [
        sys.executable, "-m", "streamlit", "run", str(APP), "--server.address", place.address,
        "--server.port", str(place.port), "--server.baseUrlPath", place.base, "--server.headless", "true",
        "--browser.gatherUsageStats", "false", *(["--client.showErrorDetails", "full"] if alone else []),
    ]  # fmt: skip


def main(arguments: list[str] | None = None) -> int:
    """Say where the app will be, then become its server. Returns only when it cannot start."""
    asked = _parser().parse_args(arguments)
    try:
        if not APP.is_file():
            raise HomeError.of(f"no app.py in {APP.parent}", "a checkout of the repository", "start it from there: make app")
        hosting = Hosting.find(os.environ)
        kept = "a demo over recorded runs" if hosting.mode is Mode.DEMO else f"KD_HOME={startup.demand().root}"
        wanted = Place(asked.port, asked.address, base_path(asked.base_url), asked.exact_port)
        place = replace(wanted, port=free_port(wanted))
    except KdError as error:
        print(error, file=sys.stderr)
        return 2
    if place.port != wanted.port:
        print(f"Port {wanted.port} is busy (another app, or this one already running); using {place.port} instead.")
    print(f"KD Explorer: {place.url}  ({kept}; Ctrl-C stops the app, never a run)", flush=True)
    os.chdir(APP.parent)  # Streamlit finds .streamlit/config.toml in the working directory
    argv = command(place, hosting)
    os.execv(argv[0], argv)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m kdengine.serve", description="Start KD Explorer on this machine.")
    parser.add_argument("--port", type=int, default=8501, help="wanted port; the next free one is taken when it is busy")
    parser.add_argument("--exact-port", action="store_true", help="this port or none: for a server behind a proxy")
    parser.add_argument("--address", default=HOST, help="address to listen on; another than 127.0.0.1 needs KD_SIGN_IN or a demo")
    parser.add_argument(
        "--base-url", default=os.environ.get("KD_BASE_URL", ""), help="path of the app below the host, such as kd (KD_BASE_URL)"
    )
    return parser


if __name__ == "__main__":
    sys.exit(main())
