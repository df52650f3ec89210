"""Where queries wait while there is no pod at all: a fleet that sleeps is woken by those that come."""

import asyncio
from typing import Final

from containers.router.errors import RefusedError

# A pod takes minutes to start; whoever comes back finds a place or is counted again.
RETRY_SECONDS: Final = 10


class Lobby:
    """Holds at most so many queries for the first pod; for one event loop."""

    def __init__(self, most: int) -> None:
        self._most = most
        self._held: set[asyncio.Future[None]] = set()

    def __len__(self) -> int:
        """How many queries are held."""
        return len(self._held)

    @property
    def is_full(self) -> bool:
        """Whether no further query is held."""
        return len(self._held) >= self._most

    async def wait(self, seconds: float) -> None:
        """Wait for the first pod, at most so long; who is cancelled frees the place.

        Raises:
            RefusedError: none came in that time, or the router is stopping.
        """
        place: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._held.add(place)
        try:
            async with asyncio.timeout(seconds):
                await place
        except TimeoutError:
            message = f"no pod became ready within {seconds:g} s"
            raise RefusedError(message, RETRY_SECONDS, code="no_capacity") from None
        finally:
            self._held.discard(place)

    def let_in(self) -> None:
        """There is a pod: nobody waits here any longer."""
        for place in self._held:
            if not place.done():
                place.set_result(None)

    def send_away(self) -> None:
        """The router stops, and another one may hold them: they are told to come back at once."""
        for place in self._held:
            if not place.done():
                place.set_exception(RefusedError("the router is stopping", 1, code="stopping"))
