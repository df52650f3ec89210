"""A thousand requests, some malformed or cancelled: is every accepted one answered, and does nothing leak?"""

import asyncio
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Final, Literal

import httpx2
import numpy as np

from containers.serving.bench.setting import ANSWER_TIMEOUT_SECONDS, OBSERVED_SERVER, Setting
from containers.serving.load import GENERATIONS_PATH, NO_ANSWER, saturate

REQUESTS: Final = 1000
MALFORMED_SHARE: Final = 0.05
CANCELLED_SHARE: Final = 0.10
BLOCKS: Final = 5
CLIENTS: Final = 16
# A client that cancels does so at a random moment of up to so many times the pipeline's own time.
LATEST_CANCELLATION: Final = 4.0
SETTLE_SECONDS: Final = 30.0
# Cyclic garbage and the allocator's slack; a leak of one picture a request would be many times that.
RESIDENT_GROWTH_ALLOWED: Final = 0.05

ClientKind = Literal["good", "malformed", "cancelled"]

# Each breaks another rule of the API: no JSON, wrong types, limits passed, unknown keys, too long a body.
MALFORMED: Final[Sequence[bytes]] = (
    b"{",
    b"[]",
    b'{"prompt": 5}',
    b'{"prompt": ""}',
    b'{"prompt": "x", "n": 0}',
    b'{"prompt": "x", "n": 1000}',
    b'{"prompt": "x", "size": "17x17"}',
    b'{"prompt": "x", "steps": 100000}',
    b'{"prompt": "x", "seed": -1}',
    b'{"prompt": "x", "colour": "red"}',
    b'{"prompt": "' + b"x" * 200_000 + b'"}',
)


@dataclass(frozen=True, slots=True)
class Soak:
    """The statuses of every kind of request, and the server's state after each block of them."""

    statuses: dict[ClientKind, list[int]]
    states: list[dict[str, int]]
    exit_code: int
    seconds: float


def kinds(seed: int) -> list[ClientKind]:
    """What each request is, in a random order."""
    malformed, cancelled = round(MALFORMED_SHARE * REQUESTS), round(CANCELLED_SHARE * REQUESTS)
    number: dict[ClientKind, int] = {
        "malformed": malformed,
        "cancelled": cancelled,
        "good": REQUESTS - malformed - cancelled,
    }
    all_kinds = [kind for kind, times in number.items() for _ in range(times)]
    order = np.random.default_rng(seed).permutation(REQUESTS)
    return [all_kinds[index] for index in order]


def soak(setting: Setting) -> dict[str, Any]:
    """Run the requests against a server of ours, and tell what came of them."""
    began = time.monotonic()
    with setting.ours("soak", module=OBSERVED_SERVER) as server:
        statuses, states = asyncio.run(_send_all(setting, server.url))
    return told(Soak(statuses, states, server.process.returncode, time.monotonic() - began))


async def _send_all(setting: Setting, url: str) -> tuple[dict[ClientKind, list[int]], list[dict[str, int]]]:
    wanted = kinds(setting.seed)
    statuses: dict[ClientKind, list[int]] = {"good": [], "malformed": [], "cancelled": []}
    size = REQUESTS // BLOCKS
    async with httpx2.AsyncClient(base_url=url, timeout=ANSWER_TIMEOUT_SECONDS) as client:
        patience = await _patience(setting, client)
        sender = _Sender(setting, client, wanted, patience, statuses)
        states = []
        for block in range(BLOCKS):
            sender.offset = block * size
            await saturate(sender, CLIENTS, size)
            states.append(await _settled(client))
    return statuses, states


async def _patience(setting: Setting, client: httpx2.AsyncClient) -> float:
    """The longest that a cancelling client waits: a few times what one picture takes now."""
    began = time.monotonic()
    (await client.post(GENERATIONS_PATH, json=dict(setting.body(0)))).raise_for_status()
    return LATEST_CANCELLATION * (time.monotonic() - began)


async def _settled(client: httpx2.AsyncClient) -> dict[str, int]:
    """The server's state once its tasks no longer grow fewer, so that work still under way isn't a leak."""
    deadline = time.monotonic() + SETTLE_SECONDS
    seen = await _state(client)
    while time.monotonic() < deadline:
        await asyncio.sleep(0.5)
        later = await _state(client)
        if later["tasks"] >= seen["tasks"]:
            return later
        seen = later
    return seen


async def _state(client: httpx2.AsyncClient) -> dict[str, int]:
    state: dict[str, int] = (await client.get("/bench/state")).json()
    return state


class _Sender:
    """Sends the request with an index in the way that its kind says."""

    def __init__(
        self,
        setting: Setting,
        client: httpx2.AsyncClient,
        wanted: Sequence[ClientKind],
        patience: float,
        statuses: dict[ClientKind, list[int]],
    ) -> None:
        self._setting = setting
        self._client = client
        self._wanted = wanted
        self._statuses = statuses
        self._patience = np.random.default_rng(setting.seed).uniform(0, patience, len(wanted))
        self.offset = 0

    async def __call__(self, index: int) -> int:
        """Send one request; its status, or NO_ANSWER."""
        number = self.offset + index
        kind = self._wanted[number]
        status = await {"good": self._good, "malformed": self._malformed, "cancelled": self._cancelled}[kind](
            number
        )
        self._statuses[kind].append(status)
        return status

    async def _good(self, number: int) -> int:
        try:
            response = await self._client.post(GENERATIONS_PATH, json=dict(self._setting.body(number)))
        except httpx2.TransportError:
            return NO_ANSWER
        return response.status_code if response.json().get("data") else NO_ANSWER

    async def _malformed(self, number: int) -> int:
        body = MALFORMED[number % len(MALFORMED)]
        response = await self._client.post(
            GENERATIONS_PATH, content=body, headers={"Content-Type": "application/json"}
        )
        return response.status_code

    async def _cancelled(self, number: int) -> int:
        try:
            async with asyncio.timeout(float(self._patience[number])):
                return await self._good(number)
        except TimeoutError:
            return NO_ANSWER


def told(run: Soak) -> dict[str, Any]:
    """The figures, and what is wrong with them (nothing, when all is well)."""
    good, malformed, cancelled = (run.statuses[kind] for kind in ("good", "malformed", "cancelled"))
    return {
        "requests": len(good) + len(malformed) + len(cancelled),
        "good": len(good),
        "good_answered": good.count(httpx2.codes.OK),
        "malformed": len(malformed),
        "malformed_refused": sum(httpx2.codes.is_client_error(status) for status in malformed),
        "cancelled": cancelled.count(NO_ANSWER),
        "answered_before_cancelled": len(cancelled) - cancelled.count(NO_ANSWER),
        "states": run.states,
        "seconds": run.seconds,
        "problems": list(_problems(run)),
    }


def _problems(run: Soak) -> Iterator[str]:
    unanswered = [status for status in run.statuses["good"] if status != httpx2.codes.OK]
    if unanswered:
        yield f"{len(unanswered)} good requests not answered, the first with status {unanswered[0]}"
    accepted = [status for status in run.statuses["malformed"] if not httpx2.codes.is_client_error(status)]
    if accepted:
        yield f"{len(accepted)} malformed requests not refused, the first with status {accepted[0]}"
    first, last = run.states[0], run.states[-1]
    yield from (
        f"{name} grew from {first[name]} to {last[name]}"
        for name in ("tasks", "threads", "files")
        if last[name] > first[name]
    )
    growth = last["resident_bytes"] / first["resident_bytes"] - 1
    if growth > RESIDENT_GROWTH_ALLOWED:
        yield f"resident memory grew by {100 * growth:.1f} % from the first block to the last"
    if run.exit_code != 0:
        yield f"the server ended with exit code {run.exit_code}"
