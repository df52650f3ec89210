"""Load on a server under test: open loop with Poisson arrivals, and closed loop for saturation.

Open loop: a request is sent when it is due, whether or not earlier ones were answered, and its latency
counts from when it was due. A closed loop slows down with the server and hides its queue (coordinated
omission). Everything here reads the running event loop's clock and no other.
"""

import asyncio
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass
from math import inf
from types import TracebackType
from typing import Any, Final, Self

import httpx2
import numpy as np
from numpy.typing import NDArray

NO_ANSWER: Final = 0
GENERATIONS_PATH: Final = "/v1/images/generations"

# Sends one request, by its index, and returns the HTTP status, or NO_ANSWER.
Send = Callable[[int], Awaitable[int]]


@dataclass(frozen=True, slots=True)
class Answer:
    """One request: when it was due, sent and answered (seconds since the load began), and its status."""

    due: float
    sent: float
    answered: float
    status: int

    @property
    def seconds(self) -> float:
        """From when it was due until its answer was there; infinite where there was no good answer."""
        return self.answered - self.due if self.status == httpx2.codes.OK else inf


@dataclass(frozen=True, slots=True)
class Figures:
    """What a window of load showed: rates in requests per second, times in seconds.

    Percentiles are over all requests, those without a good answer taken as infinitely late; the mean is
    over good answers alone (nan when there is none). `lateness` is the 95th percentile of how long after
    they were due requests were sent: the load generator's own delay, which latencies include.
    """

    requests: int
    failed: int
    offered: float
    throughput: float
    mean: float
    p50: float
    p95: float
    within_objective: float
    lateness: float


def poisson_arrivals(rate: float, seconds: float, seed: int) -> list[float]:
    """Moments of a Poisson process with `rate` per second over `seconds`, in seconds since its start."""
    random = np.random.default_rng(seed)
    # Given their number, the arrivals of a Poisson process are uniform over the time.
    number = random.poisson(rate * seconds)
    return sorted(random.uniform(0, seconds, number).tolist())


async def offer(send: Send, moments: Sequence[float]) -> list[Answer]:
    """Send a request at each moment (seconds from now, ascending) and wait for every answer."""
    loop = asyncio.get_running_loop()
    began = loop.time()
    tasks = []
    async with asyncio.TaskGroup() as requests:
        for index, due in enumerate(moments):
            await asyncio.sleep(began + due - loop.time())
            tasks.append(requests.create_task(_timed(send, index, began, due)))
    return [task.result() for task in tasks]


async def saturate(send: Send, clients: int, requests: int) -> list[Answer]:
    """Have `clients` each send one request after the other, `requests` in all."""
    began = asyncio.get_running_loop().time()
    indices = iter(range(requests))

    async def client() -> list[Answer]:
        return [await _timed(send, index, began, None) for index in indices]

    async with asyncio.TaskGroup() as group:
        tasks = [group.create_task(client()) for _ in range(clients)]
    return [answer for task in tasks for answer in task.result()]


async def _timed(send: Send, index: int, began: float, due: float | None) -> Answer:
    """Send one request; in a closed loop (`due` None) it is due when it is sent."""
    loop = asyncio.get_running_loop()
    sent = loop.time() - began
    status = await send(index)
    return Answer(sent if due is None else due, sent, loop.time() - began, status)


def figures(answers: Sequence[Answer], since: float, until: float, objective: float) -> Figures:
    """The figures of the window [since, until), in seconds since the load began.

    Latencies are those of requests due in the window; throughput counts the good answers given in it.
    `objective` is the latency in seconds that counts as kept.

    Raises:
        ValueError: no request was due in the window.
    """
    due = [answer for answer in answers if since <= answer.due < until]
    if not due:
        raise ValueError(f"no request was due from {since:g} s to {until:g} s; valid: a longer window")
    latencies = np.array([answer.seconds for answer in due])
    good = latencies[np.isfinite(latencies)]
    answered = sum(since <= answer.answered < until for answer in answers if answer.seconds < inf)
    return Figures(
        requests=len(due),
        failed=len(due) - len(good),
        offered=len(due) / (until - since),
        throughput=answered / (until - since),
        mean=float(good.mean()) if len(good) else float("nan"),
        p50=_percentile(latencies, 50),
        p95=_percentile(latencies, 95),
        within_objective=float(np.mean(latencies <= objective)),
        lateness=_percentile(np.array([answer.sent - answer.due for answer in due]), 95),
    )


def _percentile(values: NDArray[np.float64], percent: float) -> float:
    """The smallest value that so many percent do not exceed: defined with infinite values too."""
    return float(np.percentile(values, percent, method="inverted_cdf"))


class ImageClient:
    """Sends generation requests to one server; an asynchronous context manager around its connections.

    `body_of` gives the JSON body of the request with an index. A request that times out or breaks off
    has NO_ANSWER.
    """

    def __init__(self, url: str, body_of: Callable[[int], Mapping[str, Any]], timeout_seconds: float) -> None:
        self._body_of = body_of
        self._client = httpx2.AsyncClient(
            base_url=url,
            timeout=timeout_seconds,
            # Open loop: a request must never wait for an earlier one's connection.
            limits=httpx2.Limits(max_connections=None, max_keepalive_connections=None),
        )

    async def __aenter__(self) -> Self:
        await self._client.__aenter__()
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        await self._client.__aexit__(kind, error, traceback)

    async def __call__(self, index: int) -> int:
        """Send the request with this index; its HTTP status, or NO_ANSWER."""
        try:
            response = await self._client.post(GENERATIONS_PATH, json=dict(self._body_of(index)))
        except httpx2.TransportError:
            return NO_ANSWER
        return response.status_code
