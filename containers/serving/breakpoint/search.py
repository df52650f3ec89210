"""The search for a server's break point: the highest load at which it keeps its promise.

The promise is kept at a rate while the wanted share of requests (the percentile) is answered within the
objective and answers come as fast as requests. Refused and failed requests are not within it. Rates rise
until the promise breaks; then the gap between the last kept rate and the first broken one is halved a few
times. Every rate is measured several times, with other arrivals each time.
"""

import logging
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from typing import Final

import httpx2
import numpy as np
from numpy.typing import NDArray
from scipy import stats

from containers.serving.load import Figures, Send, figures, offer, poisson_arrivals, saturate

# Below this share of the offered rate, throughput no longer follows it: the plateau.
FOLLOWS: Final = 0.95
# A load generator whose own delay passes this share of the objective measures itself.
LATENESS_ALLOWED: Final = 0.1
IDLE_REQUESTS: Final = 12
# The first ones open connections and fill caches.
IDLE_WARM_UP_REQUESTS: Final = 2
FIRST_UTILISATION: Final = 0.5
CONFIDENCE: Final = 0.95

log = logging.getLogger(__name__)

# Offers load at a rate (requests per second) with a seed, and tells what it showed.
Measure = Callable[[float, int], Awaitable[Figures]]


class MeasurementError(RuntimeError):
    """Nothing could be measured; the message says why."""


@dataclass(frozen=True, slots=True)
class Method:
    """How to measure. `seconds` count after `warm_up_seconds` in each of the `repeats` at a rate.

    `growth` is the factor from one rate to the next; `halvings` says how often the gap is then halved.
    """

    objective_seconds: float
    percentile: float = 95.0
    seconds: float = 120.0
    warm_up_seconds: float = 20.0
    repeats: int = 3
    growth: float = 1.25
    halvings: int = 3
    seed: int = 0

    def margin(self, shown: Figures) -> float:
        """How far the promise was kept: 0 on the edge, below 0 where it was broken.

        Throughput may lack what arrived within the objective of the end and may still wait.
        """
        promise = shown.within_objective / (self.percentile / 100)
        waiting = self.objective_seconds / self.seconds
        following = (shown.throughput / shown.offered + waiting) / FOLLOWS
        return min(promise, following) - 1


@dataclass(frozen=True, slots=True)
class Point:
    """A rate (requests per second) and what every repeat at it showed."""

    rate: float
    repeats: tuple[Figures, ...]


@dataclass(frozen=True, slots=True)
class BreakPoint:
    """The highest rate that keeps the promise and what holds there: requests per minute, seconds.

    `spread_rpm` is half the width of the rate's 95 % confidence interval over the repeats.
    """

    service_seconds: float
    rate_rpm: float
    spread_rpm: float
    throughput_rpm: float
    latency_seconds: float
    points: tuple[Point, ...]


async def find_break_point(send: Send, method: Method) -> BreakPoint:
    """Measure the idle server, raise the load until the promise breaks, and close in on where.

    Raises:
        MeasurementError: the idle server fails or is slower than the objective, it breaks at the lowest
            rate, or the load generator cannot keep up.
    """
    service_seconds = await idle_seconds(send, method)
    points = await rising_rates(_measuring(send, method), method, FIRST_UTILISATION / service_seconds)
    return break_point(points, method, service_seconds)


async def idle_seconds(send: Send, method: Method) -> float:
    """The median time of one request on the idle server, one after the other.

    Raises:
        MeasurementError: it fails, or is slower than the objective.
    """
    median = await alone_seconds(send)
    if median > method.objective_seconds:
        raise MeasurementError(
            f"the idle server takes {median:.3g} s, longer than the objective of "
            f"{method.objective_seconds:g} s"
        )
    return median


async def alone_seconds(send: Send) -> float:
    """The median time of a request while there is no other, however long.

    Raises:
        MeasurementError: the server fails.
    """
    answers = await saturate(send, clients=1, requests=IDLE_REQUESTS)
    failed = [answer.status for answer in answers if answer.status != httpx2.codes.OK]
    if failed:
        raise MeasurementError(
            f"{len(failed)} of {IDLE_REQUESTS} requests to the idle server failed, status {failed[0]}"
        )
    return float(np.median([answer.seconds for answer in answers[IDLE_WARM_UP_REQUESTS:]]))


def _measuring(send: Send, method: Method) -> Measure:
    async def measure(rate: float, seed: int) -> Figures:
        until = method.warm_up_seconds + method.seconds
        answers = await offer(send, poisson_arrivals(rate, until, seed))
        return figures(answers, method.warm_up_seconds, until, method.objective_seconds)

    return measure


async def rising_rates(measure: Measure, method: Method, first_rate: float) -> list[Point]:
    """Measure rising rates until one breaks the promise, then halve the gap; sorted by rate."""
    points = [await _point(measure, method, first_rate)]
    if not _holds(points[0], method):
        raise MeasurementError(
            f"the promise breaks at the lowest rate, {60 * first_rate:.3g} requests per minute; "
            "valid: a longer objective, or a longer measurement"
        )
    while _holds(points[-1], method):
        points.append(await _point(measure, method, points[-1].rate * method.growth))
    kept, broken = points[-2].rate, points[-1].rate
    for _ in range(method.halvings):
        points.append(await _point(measure, method, (kept + broken) / 2))
        if _holds(points[-1], method):
            kept = points[-1].rate
        else:
            broken = points[-1].rate
    return sorted(points, key=lambda point: point.rate)


async def _point(measure: Measure, method: Method, rate: float) -> Point:
    repeats = tuple([await measure(rate, method.seed + repeat) for repeat in range(method.repeats)])
    lateness = max(shown.lateness for shown in repeats)
    if lateness > LATENESS_ALLOWED * method.objective_seconds:
        raise MeasurementError(
            f"the load generator sent {lateness:.3g} s late at {60 * rate:.4g} requests per minute; "
            "valid: a machine with idle processors, or a lower load"
        )
    point = Point(rate, repeats)
    log.info(
        "%.4g requests per minute: %.1f %% within the objective, %s",
        60 * rate,
        100 * float(np.mean([shown.within_objective for shown in repeats])),
        "kept" if _holds(point, method) else "broken",
    )
    return point


def _holds(point: Point, method: Method) -> bool:
    return bool(np.mean([method.margin(shown) for shown in point.repeats]) >= 0)


def break_point(points: Sequence[Point], method: Method, service_seconds: float) -> BreakPoint:
    """Where the promise breaks, from points sorted by rate; `service_seconds` is that of the idle server.

    Each repeat gives its own break point, by linear interpolation of its margin between rates; the
    result is their mean, with Student's t interval.
    """
    rates = np.array([point.rate for point in points])
    margins = np.array([[method.margin(shown) for shown in point.repeats] for point in points])
    broken = np.array([_crossing(rates, repeat) for repeat in margins.T])
    rate = float(broken.mean())
    throughput = [np.mean([shown.throughput for shown in point.repeats]) for point in points]
    latency = np.array([np.mean([shown.mean for shown in point.repeats]) for point in points])
    answered = np.isfinite(latency)
    return BreakPoint(
        service_seconds=service_seconds,
        rate_rpm=60 * rate,
        spread_rpm=60 * _half_interval(broken),
        throughput_rpm=60 * float(np.interp(rate, rates, throughput)),
        latency_seconds=float(np.interp(rate, rates[answered], latency[answered])),
        points=tuple(points),
    )


def _crossing(rates: NDArray[np.float64], margins: NDArray[np.float64]) -> float:
    """The rate at which the margin first falls through 0, within the measured rates."""
    broken = np.flatnonzero(margins < 0)
    if len(broken) == 0:
        return float(rates[-1])
    first = int(broken[0])
    if first == 0:
        return float(rates[0])
    kept = slice(first - 1, first + 1)
    return float(np.interp(0, -margins[kept], rates[kept]))


def _half_interval(values: NDArray[np.float64]) -> float:
    """Half the width of the confidence interval of the mean; nan for a single value."""
    if len(values) == 1:
        return float("nan")
    quantile = float(stats.t.ppf((1 + CONFIDENCE) / 2, len(values) - 1))
    return quantile * float(values.std(ddof=1)) / float(np.sqrt(len(values)))
