"""Peers side by side: the same pipeline behind our server, a plain loop, and Ray Serve, at equal load.

Rates are shares of what the plain loop answers when it is saturated. All servers run for the whole
measurement and are loaded in turns, round after round, each round with other arrivals.
"""

import asyncio
import contextlib
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import numpy as np

from containers.serving.bench.saturation import check_all_answered
from containers.serving.bench.setting import ANSWER_TIMEOUT_SECONDS, Setting
from containers.serving.load import Figures, ImageClient, figures, offer, poisson_arrivals, saturate

LOADS: Final = (0.5, 0.8, 1.2)
ROUNDS: Final = 3
WARM_UP_REQUESTS: Final = 16
CAPACITY_REQUESTS: Final = 48


@dataclass(frozen=True, slots=True)
class Peer:
    """A server to compare: its command, and a path that answers 200 once it serves."""

    name: str
    command: tuple[str, ...]
    ready_path: str


def peers(ray_python: Path | None) -> list[Peer]:
    """Our server, the plain loop, and Ray Serve where a Python that has it is given."""
    plain = (sys.executable, "-m", "containers.serving.bench.peers.blocking")
    found = [
        Peer("fulcrum", (sys.executable, "-m", "containers.serving"), "/health/ready"),
        Peer("plain loop", plain, "/health"),
    ]
    if ray_python is not None:
        command = (str(ray_python), "-m", "containers.serving.bench.peers.ray_serve")
        found.append(Peer("ray serve", command, "/health"))
    return found


def side_by_side(setting: Setting, seconds: float, ray_python: Path | None) -> list[dict[str, Any]]:
    """Offer every peer the same loads, `seconds` each and round; a row for every peer and load."""
    with _all_running(setting, peers(ray_python)) as urls:
        capacity = asyncio.run(_warm_up(setting, urls))
        shown: dict[tuple[str, float], list[Figures]] = {}
        for round_ in range(ROUNDS):
            for load in LOADS:
                for name, url in urls.items():
                    measured = _measure(setting, url, load * capacity, seconds, seed=setting.seed + round_)
                    shown.setdefault((name, load), []).append(measured)
    return [_row(name, load, load * capacity, runs) for (name, load), runs in shown.items()]


@contextmanager
def _all_running(setting: Setting, wanted: list[Peer]) -> Iterator[dict[str, str]]:
    """Every peer's address by its name."""
    with contextlib.ExitStack() as stack:
        yield {
            peer.name: stack.enter_context(
                setting.server(peer.name.replace(" ", "-"), peer.command, ready_path=peer.ready_path)
            ).url
            for peer in wanted
        }


async def _warm_up(setting: Setting, urls: Mapping[str, str]) -> float:
    """Send every peer some requests; the plain loop's requests per second when saturated."""
    for url in urls.values():
        await _saturate(setting, url, WARM_UP_REQUESTS)
    return await _saturate(setting, urls["plain loop"], CAPACITY_REQUESTS)


async def _saturate(setting: Setting, url: str, requests: int) -> float:
    async with ImageClient(url, setting.body, ANSWER_TIMEOUT_SECONDS) as client:
        answers = await saturate(client, 4, requests)
    check_all_answered([answer.status for answer in answers])
    return requests / max(answer.answered for answer in answers)


def _measure(setting: Setting, url: str, rate: float, seconds: float, seed: int) -> Figures:
    async def measure() -> Figures:
        async with ImageClient(url, setting.body, ANSWER_TIMEOUT_SECONDS) as client:
            answers = await offer(client, poisson_arrivals(rate, seconds, seed))
        return figures(answers, 0, seconds, objective=ANSWER_TIMEOUT_SECONDS)

    return asyncio.run(measure())


def _row(name: str, load: float, rate: float, runs: list[Figures]) -> dict[str, Any]:
    """Means over the rounds; requests per second, seconds."""
    return {
        "server": name,
        "load": load,
        "offered_per_second": rate,
        "answered_per_second": float(np.mean([run.throughput for run in runs])),
        "p50_seconds": float(np.mean([run.p50 for run in runs])),
        "p95_seconds": float(np.mean([run.p95 for run in runs])),
        "p95_lowest": min(run.p95 for run in runs),
        "p95_highest": max(run.p95 for run in runs),
        "failed": sum(run.failed for run in runs),
        "requests": sum(run.requests for run in runs),
    }
