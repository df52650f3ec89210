"""Throughput at saturation: what the server costs over the bare pipeline, and what batching gains.

The two sides of a comparison take turns, many times: whatever else the machine does falls on both.
"""

import asyncio
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from statistics import mean
from typing import Any, Final

import httpx2
import numpy as np
from prometheus_client.parser import text_string_to_metric_families
from scipy import stats

from containers.serving.bench.direct import Turn
from containers.serving.bench.setting import ANSWER_TIMEOUT_SECONDS, OBSERVED_SERVER, Setting
from containers.serving.load import Answer, ImageClient, saturate

# Batches that count on each side of the overhead: about two minutes with the default steps.
TURNS: Final = 50
# Slices of pictures on each side of the gain by batching, and pictures in a slice.
ROUNDS: Final = 10
IMAGES_PER_SLICE: Final = 12
CONFIDENCE: Final = 0.95

# Has a slice's pictures made and returns the seconds for each.
Slice = Callable[[int], float]


class BenchError(RuntimeError):
    """A measurement that went wrong; the message says how."""


@dataclass(frozen=True, slots=True)
class Comparison:
    """Seconds per picture on both sides, turn by turn."""

    first: tuple[float, ...]
    second: tuple[float, ...]

    @property
    def ratio(self) -> float:
        """The second side's pictures per second over those of the first, all turns together."""
        return sum(self.first) / sum(self.second)

    @property
    def quartiles(self) -> tuple[float, float]:
        """The quartiles of the ratio, turn by turn."""
        low, high = np.quantile(np.divide(self.first, self.second), [0.25, 0.75])
        return float(low), float(high)

    @property
    def interval(self) -> tuple[float, float]:
        """The ratio's 95 % confidence interval, by bootstrap over the turns."""
        found = stats.bootstrap(
            (self.first, self.second),
            lambda first, second, axis: first.sum(axis) / second.sum(axis),
            paired=True,
            confidence_level=CONFIDENCE,
            method="percentile",
            rng=np.random.default_rng(0),
        ).confidence_interval
        return float(found.low), float(found.high)


def compare(first: Slice, second: Slice, rounds: int = ROUNDS) -> Comparison:
    """Run both sides in turns; the first slice of each is warm-up."""
    first(0), second(0)
    pairs = [(first(number), second(number)) for number in range(1, rounds + 1)]
    return Comparison(tuple(pair[0] for pair in pairs), tuple(pair[1] for pair in pairs))


def overhead(setting: Setting, batch: int) -> dict[str, Any]:
    """The bare pipeline in batches of `batch` against the server that makes at most as many at once."""
    with setting.ours(f"overhead-{batch}", module=OBSERVED_SERVER, max_batch=batch) as server:
        turns = asyncio.run(_turns(setting, server.url, batch))
    compared = Comparison(
        tuple(turn.direct / batch for turn in turns), tuple(turn.served / batch for turn in turns)
    )
    return {
        "batch": batch,
        "turns": turns,
        "direct_images_per_second": 1 / mean(compared.first),
        "server_images_per_second": 1 / mean(compared.second),
        "overhead": 1 - compared.ratio,
        "waiting": sum(turn.waited for turn in turns) / sum(turn.served for turn in turns),
        "overhead_interval": [1 - bound for bound in reversed(compared.interval)],
        "overhead_quartiles": [1 - bound for bound in reversed(compared.quartiles)],
    }


async def _turns(setting: Setting, url: str, batch: int) -> list[Turn]:
    """Saturate the server while it takes turns with its own pipeline."""
    async with httpx2.AsyncClient(base_url=url) as observer:
        (await observer.post("/bench/turns")).raise_for_status()
        await _saturated(setting, url, clients_of(batch), 2 * batch * TURNS)
        turns = [Turn(*seconds) for seconds in (await observer.get("/bench/turns")).json()]
    # The first batches may not be full, nor the last.
    if len(turns) < TURNS - 2:
        raise BenchError(
            f"only {len(turns)} of {TURNS} turns had full batches of {batch}; a busy machine may have made "
            "larger batches look useless when the server warmed up"
        )
    return turns


def batching(setting: Setting) -> dict[str, Any]:
    """The server one by one against the server that batches."""
    with setting.ours("batching-1", max_batch=1) as single, setting.ours("batching-n") as batched:
        compared = compare(_through(setting, single.url), _through(setting, batched.url))
        made = mean_batch(batched.url)
    return {
        "max_batch": setting.max_batch,
        "mean_batch": made,
        "single_images_per_second": 1 / mean(compared.first),
        "batched_images_per_second": 1 / mean(compared.second),
        "gain": compared.ratio,
        "gain_interval": list(compared.interval),
        "gain_quartiles": list(compared.quartiles),
    }


def _through(setting: Setting, url: str) -> Slice:
    clients = clients_of(setting.max_batch)

    def measure(number: int) -> float:
        requests = IMAGES_PER_SLICE + 2 * clients
        return steady_seconds(asyncio.run(_saturated(setting, url, clients, requests, number)), clients)

    return measure


def clients_of(batch: int) -> int:
    """How many saturate a server: a batch on the device, a batch that waits for it, and one to spare."""
    return 2 * batch + 1


async def _saturated(
    setting: Setting, url: str, clients: int, requests: int, number: int = 0
) -> list[Answer]:
    """Answers to so many requests, whose bodies are others for every `number`."""
    async with ImageClient(
        url, lambda index: setting.body(number * requests + index), ANSWER_TIMEOUT_SECONDS
    ) as client:
        answers = await saturate(client, clients, requests)
    check_all_answered([answer.status for answer in answers])
    return answers


def steady_seconds(answers: Sequence[Answer], clients: int) -> float:
    """Seconds per answer of a closed loop while all its clients had a request under way.

    That leaves out the first answers, while the loop filled up, and the last ones, while it ran empty.
    """
    moments = sorted(answer.answered for answer in answers)
    return (moments[-clients - 1] - moments[clients - 1]) / (len(moments) - 2 * clients)


def check_all_answered(statuses: Sequence[int]) -> None:
    """Throughput of failures is none.

    Raises:
        BenchError: a status is not 200.
    """
    failed = [status for status in statuses if status != httpx2.codes.OK]
    if failed:
        raise BenchError(
            f"{len(failed)} of {len(statuses)} requests failed, the first with status {failed[0]}"
        )


def mean_batch(url: str) -> float:
    """The mean size of the batches that a server of ours has made for requests."""
    text = httpx2.get(url + "/metrics").text
    samples = {
        sample.name: sample.value
        for family in text_string_to_metric_families(text)
        for sample in family.samples
    }
    return samples["fulcrum_batch_size_sum"] / samples["fulcrum_batch_size_count"]
