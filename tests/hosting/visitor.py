"""A visitor without a browser: opens the live connection of a page, asks for it once, and keeps what is sent.

Reads / writes: the connection. Never: runs scripts, so what only a browser does is not seen here.
"""

from __future__ import annotations

import asyncio
import ssl
from collections.abc import Iterable, Mapping

from streamlit.proto.BackMsg_pb2 import BackMsg
from streamlit.proto.ForwardMsg_pb2 import ForwardMsg
from websockets.asyncio.client import ClientConnection, connect

TIMEOUT_S = 60

Headers = Mapping[str, str] | list[tuple[str, str]]


def look(url: str, headers: Headers = (), page: str = "", xsrf: str = "", says: Iterable[bytes] = ()) -> str:
    """Open a page of the app at ``url`` (http or https) and return all that is sent until it is drawn, as text.

    ``xsrf``: the token that goes with a cookie. ``says``: what is sent besides, when the page is there.

    Raises:
        TimeoutError: it is not drawn within 60 s. InvalidStatus: the connection was refused.
    """
    return asyncio.run(asyncio.wait_for(_look(url, headers, page, xsrf, says), TIMEOUT_S))


async def _look(url: str, headers: Headers, page: str, xsrf: str, says: Iterable[bytes]) -> str:
    protocols = ["streamlit", *([xsrf] if xsrf else [])]
    context = ssl._create_unverified_context() if url.startswith("https") else None  # a certificate of the test's own
    address = url.replace("http", "ws", 1) + "/_stcore/stream"
    more = {"additional_headers": headers, "subprotocols": protocols, "ssl": context}
    async with connect(address, max_size=None, open_timeout=TIMEOUT_S, proxy=None, **more) as link:
        seen = await _drawn(link, page)
        for message in says:
            await link.send(message)
        return seen


async def _drawn(link: ClientConnection, page: str) -> str:
    message = BackMsg()
    message.rerun_script.page_name = page
    await link.send(message.SerializeToString())
    seen = []
    while True:
        answer = ForwardMsg.FromString(await link.recv())
        seen.append(str(answer))
        if answer.WhichOneof("type") == "script_finished" and answer.script_finished == ForwardMsg.FINISHED_SUCCESSFULLY:
            return "\n".join(seen)
