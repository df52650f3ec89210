"""Pods that failed: asked for their health until they are well, so that no query has to find out."""

import asyncio
from typing import Final

from aiohttp import ClientError, ClientSession, ClientTimeout

from containers.router.dispatcher import Dispatcher
from containers.router.endpoints import Endpoint

READY_PATH: Final = "/health/ready"
# Between two questions, in seconds: the first pause, and the longest of the doubling ones.
FIRST_PAUSE_SECONDS: Final = 0.1
LONGEST_PAUSE_SECONDS: Final = 5.0
# As the readiness probe of the pods.
ANSWER_SECONDS: Final = 5.0


class Recovery:
    """Restores a pod that was set aside once it says that it is ready."""

    def __init__(self, dispatcher: Dispatcher, session: ClientSession) -> None:
        self._dispatcher = dispatcher
        self._session = session
        self._watched: dict[str, asyncio.Task[None]] = {}

    def watch(self, endpoint: Endpoint) -> None:
        """Ask the pod until it is ready, or gone; once at a time for each."""
        if endpoint.url not in self._watched:
            task = asyncio.create_task(self._until_ready(endpoint))
            self._watched[endpoint.url] = task
            task.add_done_callback(lambda _: self._watched.pop(endpoint.url))

    def stop(self) -> None:
        """Ask no more."""
        for task in self._watched.values():
            task.cancel()

    async def _until_ready(self, endpoint: Endpoint) -> None:
        pause = FIRST_PAUSE_SECONDS
        while self._dispatcher.is_known(endpoint):
            await asyncio.sleep(pause)
            if await self._is_ready(endpoint):
                self._dispatcher.restore(endpoint)
                return
            pause = min(2 * pause, LONGEST_PAUSE_SECONDS)

    async def _is_ready(self, endpoint: Endpoint) -> bool:
        limit = ClientTimeout(total=ANSWER_SECONDS)
        try:
            async with self._session.get(endpoint.url + READY_PATH, timeout=limit) as answer:
                return answer.ok
        except (ClientError, TimeoutError):
            return False
