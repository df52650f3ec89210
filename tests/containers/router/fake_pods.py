"""Pods and a router on ports of this process, for tests of the way between them."""

import asyncio
import json
from collections.abc import AsyncIterator, Callable, Coroutine, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, field
from functools import wraps
from typing import Any

from aiohttp import ClientSession, web
from aiohttp.test_utils import TestServer

from containers.router.app import create_app
from containers.router.endpoints import Discovered, Endpoint
from containers.router.router import Router
from containers.router.settings import Settings

Scenario = Callable[..., Coroutine[Any, Any, None]]

PATH = "/v1/images/generations"
FLEET = {
    "objective": {"latency_seconds": 20.0},
    "units": [
        {"name": "fast", "profile": {"service_seconds": 0.1}},
        {"name": "slow", "profile": {"service_seconds": 0.2}},
    ],
}


def settings(**variables: str) -> Settings:
    """The router's settings over the fleet above, with some variables changed."""
    assert {name.lower() for name in variables} <= Settings.model_fields.keys(), (
        "the router reads no such one"
    )
    environ = {"FLEET_JSON": json.dumps(FLEET), "ENDPOINTS": "fast=http://127.0.0.1:1", "STEPS": "20"}
    return Settings.from_environ({**environ, **variables})


def scenario(test: Scenario) -> Callable[..., None]:
    """Run an asynchronous test in an event loop of its own."""

    @wraps(test)
    def run(*arguments: Any, **named: Any) -> None:
        asyncio.run(test(*arguments, **named))

    return run


@dataclass
class FakePod:
    """Answers when told to: `gate` holds its answers back, `dies` cuts the connection instead.

    With `stalls` it is silent after its first piece, whose place in a whole or streamed answer is told.

    `answers` is what it says, `pieces` how it is sent: whole, or streamed, without a length.
    """

    unit: str
    pool: str
    gate: asyncio.Event = field(default_factory=asyncio.Event)
    dies: bool = False
    dies_midway: bool = False
    stalls: bool = False
    is_ready: bool = True
    status: int = 200
    pieces: Sequence[bytes] = (b'{"data": []}',)
    is_streamed: bool = False
    asked: list[web.Request] = field(default_factory=list)
    bodies: list[bytes] = field(default_factory=list)
    server: TestServer | None = None

    @property
    def endpoint(self) -> Endpoint:
        """Where it is."""
        assert self.server is not None
        return Endpoint(self.unit, self.pool, str(self.server.make_url("")).rstrip("/"))

    def app(self) -> web.Application:
        """Its application."""
        app = web.Application(client_max_size=2**30)
        app.router.add_get("/health/ready", self._ready)
        app.router.add_route("*", "/{path:.*}", self._answer)
        return app

    async def _ready(self, _: web.Request) -> web.Response:
        return web.Response(status=200 if self.is_ready else 503)

    async def _answer(self, request: web.Request) -> web.StreamResponse:
        self.asked.append(request)
        self.bodies.append(await request.read())
        if self.dies:
            _cut(request)
            return web.Response()
        if not self.stalls:
            await self.gate.wait()
        headers = {"Content-Type": "application/json", "X-Pool": self.pool}
        if not self.is_streamed and not self.dies_midway and not self.stalls:
            return web.Response(status=self.status, body=b"".join(self.pieces), headers=headers)
        response = web.StreamResponse(status=self.status, headers=headers)
        if self.stalls and not self.is_streamed:
            response.content_length = sum(map(len, self.pieces))
        await response.prepare(request)
        for piece in self.pieces:
            await response.write(piece)
            if self.stalls:
                await self.gate.wait()
        if self.dies_midway:
            _cut(request)
        return response


def _cut(request: web.Request) -> None:
    assert request.transport is not None
    request.transport.abort()


@dataclass
class House:
    """A router over fake pods, and a client of it."""

    router: Router
    client: ClientSession
    url: str

    async def ask(self, body: Any = None, **headers: str) -> tuple[int, Any, Any]:
        """Ask for pictures: status, headers and JSON of the answer."""
        given = {"prompt": "a cat"} if body is None else body
        async with self.client.post(self.url + PATH, json=given, headers=headers) as answer:
            return answer.status, answer.headers, await answer.json(content_type=None)

    async def metrics(self) -> dict[str, float]:
        """The samples at /metrics."""
        async with self.client.get(f"{self.url}/metrics") as answer:
            lines = (await answer.text()).splitlines()
        return {
            name: float(value) for name, value in (line.rsplit(" ", 1) for line in lines if line[0] != "#")
        }

    async def counts(self, sample: str) -> None:
        """Wait until the sample at /metrics is 1."""
        async with asyncio.timeout(60):
            while (await self.metrics()).get(sample) != 1:  # noqa: ASYNC110 - told over HTTP alone
                await asyncio.sleep(0.005)


@asynccontextmanager
async def house(*pods: FakePod, **variables: str) -> AsyncIterator[House]:
    """The router over these pods, on real sockets."""
    async with AsyncExitStack() as stack:
        for pod in pods:
            pod.server = TestServer(pod.app())
            await pod.server.start_server()
            stack.push_async_callback(pod.server.close)
        router = Router(settings(**variables))
        router.discover(Discovered(tuple(pod.endpoint for pod in pods)))
        server = TestServer(create_app(router))
        await server.start_server(auto_decompress=False)
        stack.push_async_callback(server.close)
        client = await stack.enter_async_context(ClientSession())
        yield House(router, client, str(server.make_url("")).rstrip("/"))


def open_pod(unit: str, pool: str = "", **how: Any) -> FakePod:
    """A pod that answers at once."""
    pod = FakePod(unit, pool or unit, **how)
    pod.gate.set()
    return pod


async def eventually(condition: Any) -> None:
    """Wait until the condition holds, for as long as the busiest machine may take."""
    async with asyncio.timeout(60):
        while not condition():  # noqa: ASYNC110 - what is waited for has no event
            await asyncio.sleep(0.005)
