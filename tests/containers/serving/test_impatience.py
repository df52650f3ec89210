"""Slow clients, in virtual time: none of them holds a connection for ever."""

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any

import pytest
import uvicorn
from starlette.types import Message, Receive, Scope, Send
from uvicorn.server import ServerState

from containers.serving.errors import ApiError
from containers.serving.impatience import HEAD_SECONDS, WRITE_SECONDS, ImpatientProtocol
from containers.serving.middleware import BODY_SECONDS, BodyLimit
from tests.containers.serving import virtual_time

REQUEST = b"GET / HTTP/1.1\r\nHost: test\r\n\r\n"


class FakeTransport:
    """A connection that keeps what was written, and when it was dropped."""

    def __init__(self) -> None:
        self.written = b""
        self.dropped_at: float | None = None

    def write(self, data: bytes) -> None:
        """Keep it."""
        self.written += data

    def abort(self) -> None:
        """Note when."""
        self.dropped_at = asyncio.get_running_loop().time()

    def is_closing(self) -> bool:
        """Whether it was dropped."""
        return self.dropped_at is not None

    close = abort

    def get_extra_info(self, _name: str) -> None:
        """It has no address."""

    def pause_reading(self) -> None:
        """Nothing is read by itself."""

    resume_reading = pause_reading


async def answer(_scope: Scope, _receive: Receive, send: Send) -> None:
    """Answer at once."""
    await send({"type": "http.response.start", "status": 204, "headers": []})
    await send({"type": "http.response.body"})


def dropped_at(client: Callable[[ImpatientProtocol], Awaitable[Any]]) -> float | None:
    """When the server drops a client that does this and then nothing for ten minutes."""

    async def connect() -> float | None:
        protocol = ImpatientProtocol(
            uvicorn.Config(answer, log_config=None, timeout_keep_alive=300), ServerState(), {}
        )
        transport = FakeTransport()
        protocol.connection_made(transport)  # type: ignore[arg-type]  # all that is used of one
        await client(protocol)
        await asyncio.sleep(600)
        dropped = transport.dropped_at
        protocol.connection_lost(ConnectionAbortedError())
        await asyncio.sleep(1)  # what waits for the client ends
        return dropped

    return virtual_time.run(connect())


def test_a_client_that_says_nothing_is_dropped() -> None:
    """A connection costs a file; thousands of silent ones cost all of them."""

    async def silent(_: ImpatientProtocol) -> None:
        pass

    assert dropped_at(silent) == HEAD_SECONDS


def test_a_client_that_trickles_its_head_is_dropped() -> None:
    """A byte now and then wins no time."""

    async def trickle(protocol: ImpatientProtocol) -> None:
        for byte in REQUEST[:10]:
            protocol.data_received(bytes([byte]))
            await asyncio.sleep(2)

    assert dropped_at(trickle) == HEAD_SECONDS


def test_a_client_that_asked_may_stay_idle_and_then_ask_again() -> None:
    """As long as keep-alive lasts; but its next head, once begun, has to come to its end."""

    async def ask_twice(protocol: ImpatientProtocol) -> None:
        for _ in range(2):
            protocol.data_received(REQUEST)
            await asyncio.sleep(100)

    async def begin_a_second(protocol: ImpatientProtocol) -> None:
        protocol.data_received(REQUEST)
        await asyncio.sleep(100)
        protocol.data_received(REQUEST[:5])

    assert dropped_at(ask_twice) == 100 + 300
    assert dropped_at(begin_a_second) == 100 + HEAD_SECONDS


def test_a_client_that_does_not_take_its_answer_is_dropped() -> None:
    """One that is slow but takes it stays."""

    async def stuck(protocol: ImpatientProtocol) -> None:
        protocol.data_received(REQUEST)
        protocol.pause_writing()

    async def slow(protocol: ImpatientProtocol) -> None:
        protocol.data_received(REQUEST)
        for _ in range(5):
            protocol.pause_writing()
            await asyncio.sleep(WRITE_SECONDS - 1)
            protocol.resume_writing()

    assert dropped_at(stuck) == WRITE_SECONDS
    assert (dropped_at(slow) or 0) >= 5 * (WRITE_SECONDS - 1)


def test_a_body_that_trickles_is_answered_408() -> None:
    """However many small parts it comes in; a whole one may be followed by a long silence."""

    async def slow() -> Message:
        await asyncio.sleep(BODY_SECONDS / 4)
        return {"type": "http.request", "body": b"x", "more_body": True}

    async def read_on(_scope: Scope, receive: Receive, _send: Send) -> None:
        while (await receive()).get("more_body"):
            pass
        await receive()

    async def status(receive: Receive) -> int:
        scope = {"type": "http", "path": "/", "headers": []}
        await BodyLimit(read_on)(scope, receive, receive)  # type: ignore[arg-type]  # nothing is sent
        return 200

    messages = iter([(0.0, {"type": "http.request"}), (500.0, {"type": "http.disconnect"})])

    async def whole() -> Message:
        seconds, message = next(messages)
        await asyncio.sleep(seconds)
        return message

    with pytest.raises(ApiError) as refused:
        virtual_time.run(status(slow))
    assert refused.value.status_code == 408
    assert refused.value.headers == {"Connection": "close"}
    assert virtual_time.run(status(whole)) == 200
