"""Before the first request: every kernel run, every graph compiled, and the batch size that pays measured."""

import logging
import time
from collections.abc import Iterable
from typing import Final

from containers.serving.admission import ServiceTimes
from containers.serving.backends.protocol import Backend, Picture, Work

log = logging.getLogger(__name__)

# Steps of the first, unmeasured pass: enough for every kernel and every branch of a scheduler.
_FIRST_PASS_STEPS: Final = 2
# A measurement ends after so many rounds, or so much time.
_ROUNDS: Final = 5
_MEASURING_SECONDS: Final = 1.0
# A larger batch pays when it makes each picture at least this much faster; it makes the first one wait.
_GAIN: Final = 0.05


def warm_up(backend: Backend, work: Work, times: ServiceTimes) -> int:
    """Run the work in growing batches for as long as a larger one pays; the largest that did.

    What was measured goes to `times`.
    """
    best = 0
    for size in backend.batch_sizes:
        first_pass = Work(work.shape, min(_FIRST_PASS_STEPS, work.steps), work.guidance_scale)
        backend.generate([sample(first_pass)] * size)
        least = _least_seconds(backend, work, {best, size} - {0})
        for measured, seconds in least.items():
            times.record(work, measured, seconds)
        log.info("warmed up %s in batches of %d: %.3f s", work.shape, size, least[size])
        if best and least[size] / size > (1 - _GAIN) * least[best] / best:
            break
        best = size
    return best


def sample(work: Work) -> Picture:
    """A picture of nobody's."""
    return Picture("a lighthouse at dusk", "", 0, work)


def _least_seconds(backend: Backend, work: Work, sizes: Iterable[int]) -> dict[int, float]:
    """The least time of each batch size over a few rounds.

    The least, because what else the machine does makes a pass slower, never faster; in turns, so that a
    slow second tells against both.
    """
    least: dict[int, float] = {}
    began = time.monotonic()
    for _ in range(_ROUNDS):
        for size in sizes:
            passed = time.monotonic()
            backend.generate([sample(work)] * size)
            least[size] = min(least.get(size, float("inf")), time.monotonic() - passed)
        if time.monotonic() - began > _MEASURING_SECONDS:
            break
    return least
