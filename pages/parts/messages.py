"""What a browser may say to the server: what our pages make it say. The rest of Streamlit's messages is not heard.

Reads: messages of live connections. Writes: nothing. Never: what is in a page.
"""

from __future__ import annotations

from google.protobuf.message import DecodeError  # type: ignore[import-untyped]
from starlette.types import ASGIApp, Message, Receive, Scope, Send
from streamlit.proto.BackMsg_pb2 import BackMsg

# left out: clear_cache (anybody could stop the pulse of everybody with it), load_git_info, set_run_on_save, file_urls_request
# (no page takes files)
SAID = {"rerun_script", "stop_script", "app_heartbeat", "backend_operation_request"}
OPERATIONS = {"deferred_file", "dataframe_chunk"}  # left out: what writes files beside the app


class OnlyOurs:
    """A layer around the server that drops what no page of ours makes a browser say."""

    def __init__(self, app: ASGIApp) -> None:
        self.app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass everything on but messages that are not ours."""

        async def hear() -> Message:
            while True:
                message = await receive()
                if message["type"] != "websocket.receive" or is_ours(message.get("bytes") or b""):
                    return message

        await self.app(scope, hear if scope["type"] == "websocket" else receive, send)


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
