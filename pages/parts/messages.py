"""Who may open a live connection, and what they may say: pages of this host, what our pages make a browser say.

Reads: the headers and messages of live connections. Writes: nothing. Never: what is in a page; a foreign host.
"""

from __future__ import annotations

from collections.abc import Collection

import streamlit as st
from google.protobuf.message import DecodeError  # type: ignore[import-untyped]
from starlette.datastructures import Headers
from starlette.types import ASGIApp, Message, Receive, Scope, Send
from streamlit.proto.BackMsg_pb2 import BackMsg

# left out: clear_cache (anybody could stop the pulse of everybody with it), load_git_info, set_run_on_save, file_urls_request
# (no page takes files)
SAID = {"rerun_script", "stop_script", "app_heartbeat", "backend_operation_request"}
OPERATIONS = {"deferred_file", "dataframe_chunk"}  # left out: what writes files beside the app


class OnlyOurs:
    """A layer around the server that refuses foreign pages, and drops what no page of ours makes a browser say."""

    def __init__(self, app: ASGIApp) -> None:
        self.app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass everything on but live connections of foreign pages, and messages that are not ours."""
        if scope["type"] != "websocket":
            await self.app(scope, receive, send)
            return
        headers = Headers(scope=scope)
        if st.get_option("server.enableCORS") and is_foreign(
            headers.get("origin"), headers.get("host"), st.get_option("server.corsAllowedOrigins")
        ):
            await send({"type": "websocket.close", "code": 1008})
            return

        async def hear() -> Message:
            while True:
                message = await receive()
                if message["type"] != "websocket.receive" or is_ours(message.get("bytes") or b""):
                    return message

        await self.app(scope, hear, send)


def is_foreign(origin: str | None, host: str | None, known: Collection[str]) -> bool:
    """Say whether the page of a connection stands elsewhere: under another name or port, and is not ``known``.

    Streamlit also lets in pages of any server on this machine, and before it refuses others it asks a foreign host for the
    address of this one, while everybody waits.
    """
    return origin is not None and origin.partition("://")[2] != host and origin not in known


def is_ours(data: bytes) -> bool:
    """Say whether a message is to be heard. One that is no message is: Streamlit ends the connection then."""
    try:
        message = BackMsg.FromString(data)
    except DecodeError:
        return True
    kind = message.WhichOneof("type")
    if kind == "backend_operation_request":
        return message.backend_operation_request.WhichOneof("payload") in OPERATIONS
    return kind is None or kind in SAID
