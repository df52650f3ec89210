"""The router's process: serves until told to stop, and a stop that loses nothing."""

import asyncio
import gc
import signal
from collections.abc import Coroutine
from typing import Any, Final

from aiohttp import web

from containers.router.app import create_app
from containers.router.cloudwatch import Publisher
from containers.router.discovery import in_cluster, watch_endpoints
from containers.router.endpoints import Discovered
from containers.router.router import Router
from containers.router.settings import Settings

# Longer than the load balancer keeps an idle connection (120 s, and the hold on top): else it sends into one
# that just closed.
KEEP_ALIVE_SECONDS: Final = 130


async def serve(settings: Settings) -> None:
    """Serve until SIGTERM or SIGINT; what happens then: not ready at once, then finish, then return.

    Raises:
        InvalidSettingsError: pods are to be found by Kubernetes, and this is no pod.
        OSError: the port is taken.
        Exception: whatever ended the discovery of pods or the putting of metrics, after a drain as above.
    """
    router = Router(settings)
    work = _background(router, settings)
    stop = asyncio.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        asyncio.get_running_loop().add_signal_handler(number, stop.set)
    runner = web.AppRunner(
        create_app(router),
        access_log=None,
        auto_decompress=False,  # a body is passed on as it came
        handler_cancellation=True,  # who leaves makes room
        keepalive_timeout=KEEP_ALIVE_SECONDS + settings.hold_seconds,
        shutdown_timeout=settings.grace_seconds,
    )
    await runner.setup()
    background = [asyncio.create_task(coroutine) for coroutine in work]
    try:
        gc.freeze()  # what stands now stays: a full collection would look at all of it, and every query wait
        await web.TCPSite(runner, settings.host, settings.port, backlog=1024).start()
        stopping = asyncio.create_task(stop.wait())
        await asyncio.wait([stopping, *background], return_when=asyncio.FIRST_COMPLETED)
        stopping.cancel()
        router.drain()
        await asyncio.sleep(settings.drain_seconds)
    finally:
        await runner.cleanup()
        for task in background:
            task.cancel()
        _raise_first(await asyncio.gather(*background, return_exceptions=True))


def _background(router: Router, settings: Settings) -> list[Coroutine[Any, Any, None]]:
    """What runs beside the server; a fixed list of pods is known at once."""
    work: list[Coroutine[Any, Any, None]] = []
    if settings.endpoints:
        router.discover(Discovered(settings.endpoints))
    else:
        work.append(watch_endpoints(in_cluster(), settings.namespace, router.discover))
    if settings.aws_region:
        work.append(Publisher(router.telemetry, settings).run())
    return work


def _raise_first(results: list[BaseException | None]) -> None:
    for result in results:
        if isinstance(result, Exception):
            raise result
