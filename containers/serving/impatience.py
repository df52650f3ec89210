"""HTTP/1.1 that lets no client hold a connection by being slow: uvicorn's own waits for ever."""

import asyncio
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
        self._heading: asyncio.TimerHandle | None = None
        self._writing: asyncio.TimerHandle | None = None

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override] # as uvicorn's
        """Wait for the first request."""
        super().connection_made(transport)
        self._await_head()

    def handle_events(self) -> None:
        """See whether the head is whole now, or another one has begun."""
        super().handle_events()
        if self.conn.their_state is not h11.IDLE:
            self._heading = _cancelled(self._heading)
        elif self.conn.trailing_data[0]:
            self._await_head()

    def on_response_complete(self) -> None:
        """The next request's head is awaited from its first byte on."""
        super().on_response_complete()
        self._heading = _cancelled(self._heading)

    def pause_writing(self) -> None:
        """The client takes nothing for now."""
        super().pause_writing()
        self._writing = self._writing or self.loop.call_later(WRITE_SECONDS, self.transport.abort)

    def resume_writing(self) -> None:
        """It does again."""
        super().resume_writing()
        self._writing = _cancelled(self._writing)

    def connection_lost(self, exc: Exception | None) -> None:
        """Nobody is left to wait for."""
        self._heading, self._writing = _cancelled(self._heading), _cancelled(self._writing)
        super().connection_lost(exc)

    def _await_head(self) -> None:
        self._heading = self._heading or self.loop.call_later(HEAD_SECONDS, self.transport.abort)


def _cancelled(timer: asyncio.TimerHandle | None) -> None:
    if timer is not None:
        timer.cancel()
