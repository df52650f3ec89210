"""HTTP/1.1 that lets no client hold a connection by being slow: uvicorn's own waits for ever."""

import asyncio
from collections.abc import Callable
from typing import Any, Final

import h11
from uvicorn.protocols.http.h11_impl import H11Protocol

# For a request's head, from the connection or the head's first byte on.
HEAD_SECONDS: Final = 30.0
# For an answer to leave, while the client's system takes no more of it.
WRITE_SECONDS: Final = 60.0


class ImpatientProtocol(H11Protocol):
    """Drops connections on which no request comes to an end, and such that do not take their answer."""

    def __init__(self, *arguments: Any, **more: Any) -> None:
        super().__init__(*arguments, **more)
        self._head = _Timer(HEAD_SECONDS, self._drop)
        self._write = _Timer(WRITE_SECONDS, self._drop)

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override] # as uvicorn's
        """Wait for the first request."""
        super().connection_made(transport)
        self._head.start()

    def handle_events(self) -> None:
        """See whether the head is whole now, or another one has begun."""
        super().handle_events()
        if self.conn.their_state is not h11.IDLE:
            self._head.stop()
        elif self.conn.trailing_data[0]:
            self._head.start()

    def on_response_complete(self) -> None:
        """The next request's head is awaited from its first byte on."""
        super().on_response_complete()
        self._head.stop()

    def pause_writing(self) -> None:
        """The client takes nothing for now."""
        super().pause_writing()
        self._write.start()

    def resume_writing(self) -> None:
        """It does again."""
        super().resume_writing()
        self._write.stop()

    def connection_lost(self, exc: Exception | None) -> None:
        """Nobody is left to wait for."""
        self._head.stop()
        self._write.stop()
        super().connection_lost(exc)

    def _drop(self) -> None:
        self.transport.abort()


class _Timer:
    """Does something unless it is stopped within its time; started twice, it counts from the first."""

    def __init__(self, seconds: float, ring: Callable[[], None]) -> None:
        self._seconds = seconds
        self._ring = ring
        self._handle: asyncio.TimerHandle | None = None

    def start(self) -> None:
        if self._handle is None:
            self._handle = asyncio.get_running_loop().call_later(self._seconds, self._ring)

    def stop(self) -> None:
        if self._handle is not None:
            self._handle.cancel()
            self._handle = None
