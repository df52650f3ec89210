"""Pods that are killed and come back under load: what becomes of the queries."""

import asyncio
import random
import subprocess
import time
from collections import Counter
from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from typing import Any, Final

import httpx2

from containers.router.bench import pod, processes
from containers.router.bench.load import OK, Client, poisson_load
from containers.serving.server_process import ServerError

POLL_SECONDS: Final = 0.05


@dataclass(frozen=True, slots=True)
class Setting:
    """10,000 queries while every `kill_seconds` a pod dies without warning, and comes back as fast as it can.

    Two units of `pods` pods each. A query may take `timeout_seconds`, so that what is refused is refused by
    fault and not for lack of time.
    """

    rate: float = 100.0
    queries: int = 10_000
    pods: int = 6
    service_seconds: float = 0.05
    answer_bytes: int = 1000
    kill_seconds: float = 1.0
    timeout_seconds: float = 30.0
    seed: int = 1


class _Pod:
    """One pod in a process of its own."""

    def __init__(self, port: int, setting: Setting) -> None:
        self._command = pod.command([port], setting.service_seconds, setting.answer_bytes)
        self.url = f"http://127.0.0.1:{port}"
        self.process = self._start()

    def _start(self) -> "subprocess.Popen[bytes]":
        return subprocess.Popen(self._command)  # noqa: S603 - a command of this folder

    def die_and_come_back(self) -> None:
        """SIGKILL, and a new process at once."""
        self.end()
        self.process = self._start()

    def wait_until_ready(self) -> None:
        """Return once it serves.

        Raises:
            ServerError: it did not come to.
        """
        give_up = time.monotonic() + processes.PATIENCE_SECONDS
        while not self._is_ready():
            if time.monotonic() > give_up:
                raise ServerError(f"{self.url} gave no 200 in time")
            time.sleep(POLL_SECONDS)

    def _is_ready(self) -> bool:
        try:
            return httpx2.get(f"{self.url}/health/ready").status_code == OK
        except httpx2.TransportError:
            return False

    def end(self) -> None:
        """SIGKILL."""
        self.process.kill()
        self.process.wait()


def measure(setting: Setting) -> dict[str, Any]:
    """How many queries ended in which status (0: no answer), pods killed, and queries sent again."""
    ports = processes.free_ports(2 * setting.pods)
    units = {"first": ports[: setting.pods], "second": ports[setting.pods :]}
    with ExitStack() as stack:
        pods = [_Pod(port, setting) for port in ports]
        for one in pods:
            stack.callback(one.end)
            one.wait_until_ready()
        router = stack.enter_context(processes.router(units, setting.service_seconds))
        statuses, kills = asyncio.run(_under_load(router.url, pods, setting))
        sent_again = _counted(router.url, "fulcrum_router_retries_total")
    return {
        "queries": setting.queries,
        "answered": statuses.pop(OK, 0),
        "not_answered": {str(status): count for status, count in sorted(statuses.items())},
        "pods_killed": kills,
        "sent_again": sent_again,
    }


async def _under_load(url: str, pods: Sequence[_Pod], setting: Setting) -> tuple["Counter[int]", int]:
    killed: list[_Pod] = []
    killing = asyncio.create_task(_kill(pods, setting, killed))
    client = Client(setting.timeout_seconds)
    outcomes = await poisson_load(
        client, [url], rate=setting.rate, queries=setting.queries, seed=setting.seed
    )
    client.close()
    killing.cancel()
    return Counter(outcome.status for outcome in outcomes), len(killed)


async def _kill(pods: Sequence[_Pod], setting: Setting, killed: list[_Pod]) -> None:
    dice = random.Random(setting.seed)
    while True:
        await asyncio.sleep(setting.kill_seconds)
        one = dice.choice(pods)
        one.die_and_come_back()
        killed.append(one)


def _counted(url: str, sample: str) -> int:
    """The sum of a counter over its labels, from /metrics."""
    lines = httpx2.get(f"{url}/metrics").text.splitlines()
    return sum(round(float(line.rsplit(" ", 1)[1])) for line in lines if line.startswith(sample))
