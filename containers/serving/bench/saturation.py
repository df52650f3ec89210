"""Throughput at saturation: what the server costs over the bare pipeline, and what batching gains.

The two sides of a comparison take turns in short slices, many times, and the result is the median of the
slices' ratios: whatever else the machine does falls on both.
"""

import asyncio
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from statistics import median
from typing import Any, Final

import httpx2
import numpy as np
import torch
from prometheus_client.parser import text_string_to_metric_families

from containers.serving.backends.loading import load_backend
from containers.serving.backends.protocol import Backend
from containers.serving.bench.setting import ANSWER_TIMEOUT_SECONDS, Setting
from containers.serving.load import ImageClient, saturate

ROUNDS: Final = 12
IMAGES_PER_SLICE: Final = 24
# Enough to fill a batch while another is made, and one to spare.
CLIENTS_PER_BATCH: Final = 3

# Makes a slice's images and returns the images per second.
Slice = Callable[[int], float]


class BenchError(RuntimeError):
    """A measurement that went wrong; the message says how."""


@dataclass(frozen=True, slots=True)
class Comparison:
    """Images per second of both sides by slice, in turns, and the median of `second / first`.

    `low` and `high` are the quartiles of the ratio.
    """

    first: tuple[float, ...]
    second: tuple[float, ...]
    ratio: float
    low: float
    high: float


def compare(first: Slice, second: Slice, rounds: int = ROUNDS) -> Comparison:
    """Run both sides in turns; the first slice of each is warm-up."""
    first(0), second(0)
    pairs = [(first(number), second(number)) for number in range(1, rounds + 1)]
    ratios = [later / earlier for earlier, later in pairs]
    low, high = np.quantile(ratios, [0.25, 0.75])
    return Comparison(
        first=tuple(pair[0] for pair in pairs),
        second=tuple(pair[1] for pair in pairs),
        ratio=median(ratios),
        low=float(low),
        high=float(high),
    )


def overhead(setting: Setting, batch: int) -> dict[str, Any]:
    """The bare pipeline in batches of `batch` against the server that makes at most as many at once."""
    torch.set_num_threads(1)
    backend = load_backend(setting.settings())
    with setting.ours(f"overhead-{batch}", max_batch=batch) as server:
        compared = compare(_direct(setting, backend, batch), _through(setting, server.url, batch))
        made = mean_batch(server.url)
    return {
        "batch": batch,
        "direct_images_per_second": median(compared.first),
        "server_images_per_second": median(compared.second),
        "overhead": 1 - compared.ratio,
        "overhead_quartiles": [1 - compared.high, 1 - compared.low],
        "mean_batch": made,
    }


def batching(setting: Setting) -> dict[str, Any]:
    """The server one by one against the server that batches."""
    with setting.ours("batching-1", max_batch=1) as single, setting.ours("batching-n") as batched:
        compared = compare(
            _through(setting, single.url, setting.max_batch),
            _through(setting, batched.url, setting.max_batch),
        )
        made = mean_batch(batched.url)
    return {
        "max_batch": setting.max_batch,
        "mean_batch": made,
        "single_images_per_second": median(compared.first),
        "batched_images_per_second": median(compared.second),
        "gain": compared.ratio,
        "gain_quartiles": [compared.low, compared.high],
    }


def _direct(setting: Setting, backend: Backend, batch: int) -> Slice:
    def measure(number: int) -> float:
        began = time.perf_counter()
        for start in range(0, IMAGES_PER_SLICE, batch):
            indices = range(number * IMAGES_PER_SLICE + start, number * IMAGES_PER_SLICE + start + batch)
            backend.generate([setting.picture(index, backend.served.shapes[0]) for index in indices])
        return IMAGES_PER_SLICE / (time.perf_counter() - began)

    return measure


def _through(setting: Setting, url: str, batch: int) -> Slice:
    def measure(number: int) -> float:
        return asyncio.run(_saturated(setting, url, batch, number))

    return measure


async def _saturated(setting: Setting, url: str, batch: int, number: int) -> float:
    offset = number * IMAGES_PER_SLICE
    async with ImageClient(url, lambda index: setting.body(offset + index), ANSWER_TIMEOUT_SECONDS) as client:
        answers = await saturate(client, CLIENTS_PER_BATCH * batch, IMAGES_PER_SLICE)
    check_all_answered([answer.status for answer in answers])
    return IMAGES_PER_SLICE / max(answer.answered for answer in answers)


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
