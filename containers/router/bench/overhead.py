"""What the router adds to a query, side by side with haproxy and with no proxy at all.

Of each query the client's seconds, less those for which the pod says that it had it, are what the way there
and back took. The routes take turns of a few seconds, with the same moments of arrival in a round, so that a
slow minute of the machine meets them all. What a proxy adds is the difference between its 99th percentile
over all rounds and the direct way's, which holds the harness's own delays. Rounds drawn anew with replacement
(the bootstrap) tell how far to trust it: the harness cannot resolve a difference whose interval holds 0.

Client, pods and proxies share this machine, and what they take of each other's processors is in the figures.
The proxies have one thread each: haproxy's second one, on two cores that others need, costs it 4 ms at p99.
"""

import asyncio
from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from containers.router.bench import processes
from containers.router.bench.load import OK, Client, Outcome, poisson_load
from containers.serving.server_process import Server

DIRECT: Final = "direct"
HAPROXY: Final = "haproxy"
ROUTER: Final = "router"
WARM_UP_QUERIES: Final = 100
TIMEOUT_SECONDS: Final = 30.0
RESAMPLES: Final = 1000
INTERVAL: Final = (2.5, 97.5)


@dataclass(frozen=True, slots=True)
class Setting:
    """A load of `rate` queries per second on `pods` pods that take `service_seconds` for each.

    Each route has `rounds` turns of `queries` queries, after `WARM_UP_QUERIES` that do not count.
    """

    rate: float = 300.0
    queries: int = 1000
    rounds: int = 10
    pods: int = 24
    service_seconds: float = 0.02
    answer_bytes: int = 1000
    seed: int = 1


@dataclass(slots=True)
class Route:
    """A way to the pods, its connections, and what was measured of it, by round."""

    urls: Sequence[str]
    proxy: Server | None = None
    client: Client = field(default_factory=lambda: Client(TIMEOUT_SECONDS))
    rounds: list[list[Outcome]] = field(default_factory=list)
    asked: int = 0
    processor_seconds: float = 0.0

    def added_milliseconds(self) -> list[NDArray[np.float64]]:
        """What the way added to each answered query, by round."""
        return [
            np.array([1000 * one.added_seconds for one in outcomes if one.status == OK])
            for outcomes in self.rounds
        ]


def measure(setting: Setting) -> dict[str, Any]:
    """Added milliseconds by route, and what each proxy adds to the direct way's 99th percentile.

    Raises:
        ServerError: something did not start.
    """
    ports = processes.free_ports(setting.pods)
    with ExitStack() as stack:
        folder = Path(stack.enter_context(TemporaryDirectory()))
        stack.enter_context(processes.pods(ports, setting.service_seconds, setting.answer_bytes))
        haproxy = stack.enter_context(processes.haproxy(ports, folder))
        router = stack.enter_context(processes.router({"bench": ports}, setting.service_seconds))
        routes = {
            DIRECT: Route(processes.urls(ports)),
            HAPROXY: Route([haproxy.url], haproxy),
            ROUTER: Route([router.url], router),
        }
        asyncio.run(_take_turns(list(routes.values()), setting))
    return summary(routes)


async def _take_turns(routes: Sequence[Route], setting: Setting) -> None:
    for number in range(setting.rounds):
        first = number % len(routes)
        for route in (*routes[first:], *routes[:first]):
            await _turn(route, setting, setting.seed + number)
    for route in routes:
        route.client.close()


async def _turn(route: Route, setting: Setting, seed: int) -> None:
    queries = WARM_UP_QUERIES + setting.queries
    before = processes.processor_seconds(route.proxy) if route.proxy else 0.0
    outcomes = await poisson_load(route.client, route.urls, rate=setting.rate, queries=queries, seed=seed)
    if route.proxy:
        route.processor_seconds += processes.processor_seconds(route.proxy) - before
    route.asked += queries
    route.rounds.append(outcomes[WARM_UP_QUERIES:])


def summary(routes: Mapping[str, Route]) -> dict[str, Any]:
    """Percentiles by route, and each proxy's 99th over the direct one with its interval; milliseconds."""
    added = {name: route.added_milliseconds() for name, route in routes.items()}
    return {
        "routes": {name: _percentiles(route) for name, route in routes.items()},
        "over_direct_ms_p99": {name: _over(added[name], added[DIRECT]) for name in added if name != DIRECT},
    }


def _percentiles(route: Route) -> dict[str, Any]:
    rounds = route.added_milliseconds()
    added = np.concatenate(rounds)
    queries = sum(map(len, route.rounds))
    median, high, highest = np.percentile(added, [50, 99, 99.9])
    processor = 1000 * route.processor_seconds / route.asked if route.proxy else None
    return {
        "queries": queries,
        "failed": queries - len(added),
        "added_ms_p50": round(float(median), 3),
        "added_ms_p99": round(float(high), 3),
        "added_ms_p999": round(float(highest), 3),
        "added_ms_p99_by_round": [round(float(np.percentile(one, 99)), 3) for one in rounds],
        "processor_ms": None if processor is None else round(processor, 3),
    }


def _over(rounds: Sequence[NDArray[np.float64]], direct: Sequence[NDArray[np.float64]]) -> dict[str, Any]:
    """The difference of the 99th percentiles, and the interval that rounds drawn anew give it."""

    def difference(picked: Sequence[int]) -> float:
        added, base = (np.concatenate([one[index] for index in picked]) for one in (rounds, direct))
        return float(np.percentile(added, 99) - np.percentile(base, 99))

    dice = np.random.default_rng(1)
    drawn = dice.integers(len(rounds), size=(RESAMPLES, len(rounds))).tolist()
    low, high = np.percentile([difference(picked) for picked in drawn], INTERVAL)
    return {
        "difference": round(difference(range(len(rounds))), 3),
        "interval_95": [round(float(low), 3), round(float(high), 3)],
        "is_resolved": bool(low > 0 or high < 0),
    }
