"""An open load: queries at random moments, whether or not the earlier ones are answered."""

import asyncio
import random
import time
from dataclasses import dataclass
from typing import Final

from aiohttp import ClientError, ClientSession, ClientTimeout, TCPConnector

from containers.router.bench.pod import POD_SECONDS

PATH: Final = "/v1/images/generations"
BODY: Final = {"prompt": "a lighthouse at dawn, oil on canvas", "n": 1, "size": "512x512"}
OK: Final = 200


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


async def poisson_load(
    urls: list[str], *, rate: float, queries: int, timeout_seconds: float, seed: int
) -> list[Outcome]:
    """Send queries at `rate` per second with exponential gaps, to the addresses in turn."""
    dice = random.Random(seed)
    at = time.perf_counter()
    tasks = []
    async with ClientSession(
        connector=TCPConnector(limit=0), timeout=ClientTimeout(total=timeout_seconds + 60)
    ) as session:
        for number in range(queries):
            at += dice.expovariate(rate)
            await asyncio.sleep(at - time.perf_counter())
            url = urls[number % len(urls)]
            tasks.append(asyncio.create_task(_ask(session, url, timeout_seconds)))
        return await asyncio.gather(*tasks)


async def _ask(session: ClientSession, url: str, timeout_seconds: float) -> Outcome:
    began = time.perf_counter()
    try:
        headers = {"X-Request-Timeout": f"{timeout_seconds:g}"}
        async with session.post(url + PATH, json=BODY, headers=headers) as answer:
            await answer.read()
            pod_seconds = float(answer.headers.get(POD_SECONDS, "0"))
            return Outcome(answer.status, time.perf_counter() - began, pod_seconds)
    except (ClientError, TimeoutError):
        return Outcome(0, time.perf_counter() - began, 0.0)
