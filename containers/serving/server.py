"""uvicorn, and a stop that loses nothing: not ready at once, then finish, then exit."""

import asyncio
import time
from types import FrameType
from typing import Any, Final

import uvicorn

from containers.serving.engine import Engine
from containers.serving.impatience import ImpatientProtocol
from containers.serving.settings import Settings

# Longer than the load balancer keeps an idle connection (120 s): else it sends into one that just closed.
KEEP_ALIVE_SECONDS: Final = 130


class Server(uvicorn.Server):
    """Stops in two steps: no longer ready while still serving, then closed once nothing is in flight."""

    def __init__(self, config: uvicorn.Config, engine: Engine) -> None:
        super().__init__(config)
        self._engine = engine
        self._told_to_stop_at: float | None = None

    def handle_exit(self, sig: int, frame: FrameType | None) -> None:
        """SIGTERM or SIGINT: drain first. A second one stops at once.

        uvicorn's own handler would close the listening socket now, and end the process by raising the
        signal again; an orchestrator expects exit code 0.
        """
        if self._told_to_stop_at is not None:
            super().handle_exit(sig, frame)
            return
        self._told_to_stop_at = time.monotonic()
        self._engine.health.draining()

    async def on_tick(self, counter: int) -> bool:
        """Every 0.1 s: whether to close."""
        if self._engine.worker.error is not None:
            return True
        if self._told_to_stop_at is not None:
            drained = time.monotonic() - self._told_to_stop_at >= self._engine.settings.drain_seconds
            self.should_exit = self.should_exit or drained
        return await super().on_tick(counter)


def make_server(settings: Settings, app: Any, engine: Engine) -> Server:
    """A server for the application on the settings' port."""
    config = uvicorn.Config(
        app,
        host=settings.host,
        port=settings.port,
        timeout_keep_alive=KEEP_ALIVE_SECONDS,
        timeout_graceful_shutdown=max(1, round(settings.grace_seconds)),
        http=ImpatientProtocol,
        access_log=False,
        server_header=False,
        log_config=None,
    )
    return Server(config, engine)


def serve(server: Server) -> None:
    """Run until told to stop."""
    asyncio.run(server.serve())
