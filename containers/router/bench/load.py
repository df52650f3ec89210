"""An open load: queries at random moments, whether or not the earlier ones are answered."""

import asyncio
import json
import random
import time
from collections import defaultdict
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Final
from urllib.parse import urlsplit

from containers.router.bench.pod import POD_SECONDS

PATH: Final = "/v1/images/generations"
BODY: Final = {"prompt": "a lighthouse at dawn, oil on canvas", "n": 1, "size": "512x512"}
OK: Final = 200
# Given to what has passed its own deadline, before it counts as not answered.
PATIENCE_SECONDS: Final = 60.0

Connection = tuple[asyncio.StreamReader, asyncio.StreamWriter]


@dataclass(frozen=True, slots=True)
class Outcome:
    """One query: its status (0: no whole answer), its seconds, and those that the pod had it."""

    status: int
    seconds: float
    pod_seconds: float

    @property
    def added_seconds(self) -> float:
        """What client, network and proxy took."""
        return self.seconds - self.pod_seconds


class Client:
    """Sends queries over connections that it keeps.

    Plain streams, and only what the bench needs of HTTP: a general client takes twice the processor time,
    which the queries beside it would wait for, and a proxy be blamed for.
    """

    def __init__(self, timeout_seconds: float) -> None:
        """A query may take `timeout_seconds`, and says so."""
        self._timeout_seconds = timeout_seconds
        self._idle: defaultdict[str, list[Connection]] = defaultdict(list)

    async def ask(self, url: str) -> Outcome:
        """One query, timed from just before it is sent until its answer is whole."""
        status, pod_seconds = 0, 0.0
        began = time.perf_counter()
        try:
            async with asyncio.timeout(self._timeout_seconds + PATIENCE_SECONDS):
                status, pod_seconds = await self._exchange(url)
        except (OSError, EOFError):
            pass  # status 0: no connection, half an answer, or none in time
        return Outcome(status, time.perf_counter() - began, pod_seconds)

    def close(self) -> None:
        """Give up all connections."""
        for connections in self._idle.values():
            for _, writer in connections:
                writer.close()
        self._idle.clear()

    async def _exchange(self, url: str) -> tuple[int, float]:
        """The status of the answer, and for how many seconds the pod had the query."""
        async with self._connection(url) as (reader, writer):
            writer.write(self._request(url))
            head = await reader.readuntil(b"\r\n\r\n")
            status, *lines = head.decode("latin-1").rstrip().split("\r\n")
            headers = dict(line.lower().split(": ", 1) for line in lines)
            await reader.readexactly(int(headers["content-length"]))
        return int(status.split()[1]), float(headers.get(POD_SECONDS.lower(), "0"))

    @asynccontextmanager
    async def _connection(self, url: str) -> AsyncIterator[Connection]:
        """An idle connection or a new one; kept only if its answer was read to the end."""
        idle = self._idle[url]
        place = urlsplit(url)
        reader, writer = idle.pop() if idle else await asyncio.open_connection(place.hostname, place.port)
        try:
            yield reader, writer
        except BaseException:
            writer.close()
            raise
        idle.append((reader, writer))

    def _request(self, url: str) -> bytes:
        """The query with the headers of a usual client."""
        body = json.dumps(BODY).encode()
        lines = (
            f"POST {PATH} HTTP/1.1",
            f"Host: {urlsplit(url).netloc}",
            f"X-Request-Timeout: {self._timeout_seconds:g}",
            "Accept: */*",
            "Accept-Encoding: gzip, deflate",
            "User-Agent: fulcrum-bench",
            f"Content-Length: {len(body)}",
            "Content-Type: application/json",
        )
        return "\r\n".join(lines).encode() + b"\r\n\r\n" + body


async def poisson_load(
    client: Client, urls: Sequence[str], *, rate: float, queries: int, seed: int
) -> list[Outcome]:
    """Send queries at `rate` per second with exponential gaps, to the addresses in turn.

    A thread tells when, because an event loop's timers are whole milliseconds: queries would leave in
    clumps, and wait for each other wherever they come.
    """
    dice = random.Random(seed)
    gaps = [dice.expovariate(rate) for _ in range(queries)]
    loop = asyncio.get_running_loop()
    tasks: list[asyncio.Task[Outcome]] = []

    def send(number: int) -> None:
        tasks.append(loop.create_task(client.ask(urls[number % len(urls)])))

    await asyncio.to_thread(_pace, gaps, lambda number: loop.call_soon_threadsafe(send, number))
    return await asyncio.gather(*tasks)


def _pace(gaps: Sequence[float], begin: Callable[[int], object]) -> None:
    """Call `begin` with each number at its moment."""
    at = time.perf_counter()
    for number, gap in enumerate(gaps):
        at += gap
        time.sleep(max(0.0, at - time.perf_counter()))
        begin(number)
