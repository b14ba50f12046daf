"""The server around the pages: what must hold before it starts, what it does from then to its end, ``GET /healthz``.

Reads: the configuration; the pulse. Writes: the results, by opening them once (an old database is brought up to date then);
standard error. Never: a page; anything per visitor.
"""

from __future__ import annotations

import asyncio
import logging
import threading
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import streamlit as st
from starlette.middleware import Middleware
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from kdengine import startup, terminal
from kdengine.errors import KdError
from pages.parts import health, messages, pulse, who
from store.db import Store

REFUSED = 2  # exit status of a server that is configured wrongly
log = logging.getLogger(__name__)


def demand_readiness() -> None:
    """Return where the app can start; end the process with every fault in three parts where it cannot.

    Called while the server imports ``app.py``: nobody has been let in yet, and nothing runs that would have to be stopped.
    """
    try:
        files = [Path(path) for path in st.get_option("secrets.files")]
        home = startup.demand(files, who.faults(), lambda: pulse.home_of(who.of()))
        Store.open(home).close()  # migrates a database of an older release, and refuses one of a newer
    except KdError as error:
        terminal.err.print("KD Explorer does not start:", style="bold", highlight=False)
        terminal.show_problems(error.problems)
        raise SystemExit(REFUSED) from None


def routes() -> list[Route]:
    """Return ``/healthz``, and the same under ``server.baseUrlPath`` where there is one."""
    base = str(st.get_option("server.baseUrlPath") or "").strip("/")
    return [Route(path, _healthz, methods=["GET"]) for path in dict.fromkeys(("/healthz", f"/{base}/healthz".replace("//", "/")))]


def layers() -> list[Middleware]:
    """Return what stands between browsers and Streamlit: see ``messages``."""
    return [Middleware(messages.OnlyOurs)]


@asynccontextmanager
async def lifespan(_app: st.App) -> AsyncIterator[None]:
    """Start the pulse with the server, so that queue and backups go on while nobody looks; end both together.

    The first taking in may be long: it is not waited for, and ``/healthz`` says ``starting`` meanwhile.
    """
    threading.Thread(target=_start_pulse, name="pulse-start", daemon=True).start()
    yield
    await asyncio.to_thread(pulse.close_all)


def _healthz(_request: Request) -> Response:
    """Answer in a thread of Starlette's: a slow disk holds up nobody."""
    found = health.look()
    return JSONResponse(found.as_dict(), 200 if found.sound else 503, headers={"Cache-Control": "no-store"})


def _start_pulse() -> None:
    try:
        pulse.of()
    except Exception:  # the next page tries again, and shows what is wrong
        log.exception("while starting the pulse")
