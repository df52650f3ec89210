"""Requests as users send them: when they are due, whether or not earlier ones were answered."""

import asyncio
import http.client
import json
import random
import threading
import time
import urllib.error
import urllib.request
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from http import HTTPStatus
from math import inf
from typing import Any, Final, Protocol

PATH: Final = "/v1/images/generations"
NO_ANSWER: Final = 0
# Requests on their way at a time; what is due beyond it counts as lost.
MOST_IN_FLIGHT: Final = 256
# What is not answered by then, nobody waits for any more.
TIMEOUT_SECONDS: Final = 30.0

# Sends one request and returns the HTTP status, or NO_ANSWER.
Send = Callable[[], int]


@dataclass(frozen=True, slots=True)
class Answer:
    """One request: when it was due (epoch seconds), how long it took from then on, and its status."""

    at: float
    seconds: float
    status: int

    @property
    def lost(self) -> bool:
        """Whether it got no picture."""
        return self.status != HTTPStatus.OK

    def within(self, seconds: float) -> bool:
        """Whether its picture came within so many seconds."""
        return not self.lost and self.seconds <= seconds


class Load(Protocol):
    """Requests from `begin` until `end`."""

    def begin(self, rpm: float) -> None:
        """Start sending so many requests a minute."""
        ...

    def change(self, rpm: float) -> None:
        """Send so many a minute from now on."""
        ...

    def end(self) -> list[Answer]:
        """Send no more; what became of every request, in the order in which they were due."""
        ...


class PoissonLoad:
    """Poisson arrivals, sent by a thread of its own."""

    def __init__(self, send: Send, seed: int = 0, most_in_flight: int = MOST_IN_FLIGHT) -> None:
        self._send = send
        self._rpm = 0.0
        self._random = random.Random(seed)  # noqa: S311 - arrivals are no secret
        self._free = threading.Semaphore(most_in_flight)
        self._pool = ThreadPoolExecutor(most_in_flight)
        self._ended = threading.Event()
        self._answers: list[Answer] = []
        self._thread = threading.Thread(target=lambda: asyncio.run(self._offer()), daemon=True)

    def begin(self, rpm: float) -> None:
        """Start sending so many requests a minute."""
        self._rpm = rpm
        self._thread.start()

    def change(self, rpm: float) -> None:
        """Send so many a minute from the next request on."""
        self._rpm = rpm

    def end(self) -> list[Answer]:
        """Send no more, wait for what is on its way; the answers in the order in which they were due."""
        self._ended.set()
        self._thread.join()
        self._pool.shutdown()
        return sorted(self._answers, key=lambda answer: answer.at)

    async def _offer(self) -> None:
        loop = asyncio.get_running_loop()
        due, sent = time.time(), set()
        while not self._ended.is_set():
            due += self._random.expovariate(self._rpm / 60)
            await asyncio.sleep(max(0.0, due - time.time()))
            if self._free.acquire(blocking=False):
                sent.add(loop.run_in_executor(self._pool, self._one, due))
            else:
                self._answers.append(Answer(due, inf, NO_ANSWER))
        if sent:
            await asyncio.wait(sent)

    def _one(self, due: float) -> None:
        try:
            status = self._send()
        finally:
            self._free.release()
        self._answers.append(Answer(due, time.time() - due, status))


@dataclass(frozen=True, slots=True)
class Reply:
    """An HTTP answer: its status, and its body where that is a JSON object."""

    status: int
    body: dict[str, Any]


def request_picture(url: str, steps: int | None = None, timeout: float = TIMEOUT_SECONDS) -> Reply:
    """Ask for one picture; status NO_ANSWER where nobody answers in time."""
    body = {"prompt": "a lighthouse at dusk", "seed": 7, **({"steps": steps} if steps else {})}
    request = urllib.request.Request(  # noqa: S310 - the scheme was checked, or is the load balancer's
        url + PATH, json.dumps(body).encode(), {"Content-Type": "application/json"}
    )
    try:
        with urllib.request.urlopen(request, timeout=timeout) as response:  # noqa: S310 - as above
            return Reply(response.status, _object(response.read()))
    except urllib.error.HTTPError as error:
        with error:
            return Reply(error.code, _object(error.read()))
    except (OSError, http.client.HTTPException):
        return Reply(NO_ANSWER, {})


def _object(text: bytes) -> dict[str, Any]:
    try:
        read = json.loads(text)
    except ValueError:
        return {}
    return read if isinstance(read, dict) else {}
