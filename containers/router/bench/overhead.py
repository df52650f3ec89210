"""What the router adds to a query, side by side with haproxy and with no proxy at all."""

import asyncio
from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, Final

import numpy as np

from containers.router.bench import processes
from containers.router.bench.load import OK, Outcome, poisson_load

DIRECT: Final = "direct"
HAPROXY: Final = "haproxy"
ROUTER: Final = "router"
WARM_UP_QUERIES: Final = 300


@dataclass(frozen=True, slots=True)
class Setting:
    """A load of `rate` queries per second on `pods` pods that take `service_seconds` for each."""

    rate: float = 300.0
    queries: int = 3000
    rounds: int = 3
    pods: int = 24
    service_seconds: float = 0.02
    answer_bytes: int = 1000
    seed: int = 1


def measure(setting: Setting) -> dict[str, Any]:
    """Added milliseconds by route, over rounds in which each route has its turn.

    Before every round each route gets queries that do not count, so that connections stand.
    """
    ports = processes.free_ports(setting.pods)
    with ExitStack() as stack:
        folder = Path(stack.enter_context(TemporaryDirectory()))
        stack.enter_context(processes.pods(ports, setting.service_seconds, setting.answer_bytes))
        haproxy = stack.enter_context(processes.haproxy(ports, folder))
        router = stack.enter_context(processes.router({"bench": ports}, setting.service_seconds))
        routes = {DIRECT: processes.urls(ports), HAPROXY: [haproxy.url], ROUTER: [router.url]}
        found: dict[str, list[Outcome]] = {route: [] for route in routes}
        for number in range(setting.rounds):
            for route, urls in routes.items():
                found[route] += asyncio.run(_one_round(urls, setting, setting.seed + number))
    return _summary(found)


async def _one_round(urls: list[str], setting: Setting, seed: int) -> list[Outcome]:
    """The outcomes of one route's turn, without those that warm it up."""
    outcomes = await poisson_load(
        urls, rate=setting.rate, queries=WARM_UP_QUERIES + setting.queries, timeout_seconds=30, seed=seed
    )
    return outcomes[WARM_UP_QUERIES:]


def _summary(found: Mapping[str, Sequence[Outcome]]) -> dict[str, Any]:
    routes: dict[str, dict[str, float]] = {}
    for route, outcomes in found.items():
        added = 1000 * np.array([one.added_seconds for one in outcomes if one.status == OK])
        median, high, highest = np.percentile(added, [50, 99, 99.9])
        routes[route] = {
            "queries": len(outcomes),
            "failed": len(outcomes) - len(added),
            "added_ms_p50": round(float(median), 3),
            "added_ms_p99": round(float(high), 3),
            "added_ms_p999": round(float(highest), 3),
        }
    direct = routes[DIRECT]["added_ms_p99"]
    over = {
        f"{route}_over_direct_ms_p99": round(routes[route]["added_ms_p99"] - direct, 3)
        for route in (HAPROXY, ROUTER)
    }
    return {"routes": routes, **over}
