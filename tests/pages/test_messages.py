"""What a browser may say: what our pages need is heard, and nothing else that Streamlit would do for anybody."""

from __future__ import annotations

import asyncio

import pytest
from starlette.types import Message, Receive, Scope, Send
from streamlit.proto.BackMsg_pb2 import BackendOperationRequest, BackMsg

from pages.parts import messages

KINDS = [field.name for field in BackMsg.DESCRIPTOR.fields]
OPERATIONS = [field.name for field in BackendOperationRequest.DESCRIPTOR.oneofs_by_name["payload"].fields]


def said(kind: str, operation: str = "") -> bytes:
    message = BackMsg()
    value = getattr(message, kind)
    if isinstance(value, bool):
        setattr(message, kind, True)
    else:
        value.SetInParent()
    if operation:
        getattr(message.backend_operation_request, operation).SetInParent()
    return message.SerializeToString()


@pytest.mark.parametrize("kind", KINDS)
def test_of_streamlits_messages_only_ours_are_heard(kind: str) -> None:
    heard = {"rerun_script", "stop_script", "app_heartbeat"}
    assert messages.is_ours(said(kind)) is (kind in heard), "a new release of Streamlit says more: decide whether pages need it"


@pytest.mark.parametrize("operation", OPERATIONS)
def test_of_its_operations_only_downloads_and_tables_are_done(operation: str) -> None:
    assert messages.is_ours(said("backend_operation_request", operation)) is (operation in {"deferred_file", "dataframe_chunk"})


def test_what_is_no_message_is_left_to_streamlit_which_ends_the_connection() -> None:
    assert messages.is_ours(b"\xff\xff\xff") and messages.is_ours(b"")


def test_what_is_not_ours_is_passed_over_and_the_rest_arrives_in_order() -> None:
    assert heard_through([b"", said("clear_cache"), said("stop_script"), said("load_git_info"), said("rerun_script")]) == [
        b"", said("stop_script"), said("rerun_script"),
    ]  # fmt: skip


def test_requests_pass_untouched() -> None:
    assert heard_through([said("clear_cache")], "http") == [said("clear_cache")]


@pytest.mark.parametrize(("origin", "foreign"), [
    (None, False), ("http://localhost:8501", False), ("https://localhost:8501", False), ("https://kd.example.org", False),
    ("https://evil.example", True), ("http://localhost:3000", True), ("http://127.0.0.1:8501", True), ("null", True), ("", True),
    ("https://localhost:8501.evil.example", True), ("https://kd.example.org:444", True), ("https://[", True),
])  # fmt: skip
def test_only_pages_of_this_host_may_speak(origin: str | None, foreign: bool) -> None:
    assert messages.is_foreign(origin, "localhost:8501", ["https://kd.example.org"]) is foreign


def test_a_foreign_page_is_refused_without_a_look_at_the_network(monkeypatch: pytest.MonkeyPatch) -> None:
    said: list[Message] = []

    async def send(message: Message) -> None:
        said.append(message)

    async def server(scope: Scope, receive: Receive, send: Send) -> None:
        raise AssertionError("let in")

    async def receive() -> Message:
        raise AssertionError("heard")

    headers = [(b"host", b"localhost:8501"), (b"origin", b"https://evil.example")]
    asyncio.run(messages.OnlyOurs(server)({"type": "websocket", "headers": headers}, receive, send))
    assert [message["type"] for message in said] == ["websocket.close"]


def heard_through(sent: list[bytes], kind: str = "websocket") -> list[bytes]:
    """Return what of ``sent`` reaches the server."""
    waiting: list[Message] = [{"type": f"{kind}.receive", "bytes": data} for data in sent] + [{"type": f"{kind}.disconnect"}]
    heard: list[bytes] = []

    async def receive() -> Message:
        return waiting.pop(0)

    async def send(message: Message) -> None:
        raise AssertionError(message)

    async def server(scope: Scope, receive: Receive, send: Send) -> None:
        while (message := await receive())["type"] != f"{kind}.disconnect":
            heard.append(message["bytes"])

    asyncio.run(messages.OnlyOurs(server)({"type": kind, "headers": []}, receive, send))
    return heard
