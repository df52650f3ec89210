"""Before the first request: every kernel run, every graph compiled, and the batch size that pays measured."""

import logging
import time
from collections.abc import Iterable, Mapping
from typing import Final

from containers.serving.admission import Clock, ServiceTimes
from containers.serving.backends.protocol import Backend, Picture, Work
from containers.serving.checks import checked

log = logging.getLogger(__name__)

# Steps of the first, unmeasured pass: enough for every kernel and every branch of a scheduler.
_FIRST_PASS_STEPS: Final = 2
# A measurement ends after so many rounds, or so much time.
_ROUNDS: Final = 5
_MEASURING_SECONDS: Final = 1.0
# A larger batch pays when it makes each picture at least this much faster; it makes the first one wait.
_GAIN: Final = 0.05


def warm_up(
    backend: Backend, work: Work, times: ServiceTimes, objective_seconds: float, clock: Clock = time.monotonic
) -> int:
    """Run the work in growing batches for as long as a larger one pays; the largest that did.

    A batch may take half of the objective, because a request can come just as another batch begins. What
    was measured goes to `times`.
    """
    best = 0
    for size in backend.batch_sizes:
        first_pass = Work(work.shape, min(_FIRST_PASS_STEPS, work.steps), work.guidance_scale)
        checked(backend, [sample(first_pass)] * size)
        least = _least_seconds(backend, work, {best, size} - {0}, clock)
        for measured, seconds in least.items():
            times.record(work, measured, seconds)
        log.info("warmed up %s in batches of %d: %.3f s", work.shape, size, least[size])
        if best and not _pays(least, best, size, objective_seconds):
            break
        best = size
    return best


def _pays(least: Mapping[int, float], best: int, size: int, objective_seconds: float) -> bool:
    is_faster = least[size] / size <= (1 - _GAIN) * least[best] / best
    return is_faster and least[size] <= objective_seconds / 2


def sample(work: Work) -> Picture:
    """A picture of nobody's."""
    return Picture("a lighthouse at dusk", "", 0, work)


def _least_seconds(backend: Backend, work: Work, sizes: Iterable[int], clock: Clock) -> dict[int, float]:
    """The least time of each batch size over a few rounds.

    The least, because what else the machine does makes a pass slower, never faster; in turns, so that a
    slow second tells against both.
    """
    least: dict[int, float] = {}
    began = clock()
    for _ in range(_ROUNDS):
        for size in sizes:
            passed = clock()
            checked(backend, [sample(work)] * size)
            least[size] = min(least.get(size, float("inf")), clock() - passed)
        if clock() - began > _MEASURING_SECONDS:
            break
    return least
