"""What a mix really carries: a chain of stations, each taking what it can answer in time.

KAIROS's bound treats instances as a fluid: it forgets that queries wait. This estimate keeps its picture
(small queries on the cheap types, large ones on the base) and adds the queue, without any trial:

1. Each type is one station of n_j instances. A good distributor gives a query to the most specialised
   type that will answer it in time and passes it on otherwise, so the stations form a chain, ordered by how
   many sizes they serve and then by what a query costs there; the last is a base. What the last cannot
   answer in time is late.
2. A station offered rho n_j of work loses a query whose wait would exceed its slack t to the next. For
   M/G/c with such impatient customers the lost share is (1 - rho) P / (1 - rho P), P = P(W > t) without
   impatience (Boots and Tijms, Management Science 45, 1999; exact for M/M/c and M/G/1). It goes on
   smoothly beyond rho = 1, where at least 1 - 1/rho is lost.
3. P(W > t) = C exp(-2 c (1 - rho) t / (E[S] (1 + v))), v the squared coefficient of variation of the
   service times: exponential with Sakasegawa's (1977) chance of a wait C = rho^(sqrt(2 (c + 1)) - 1) and
   the two-moment mean (Allen-Cunneen) for a query that has to wait.
4. Slack is counted from the promised percentile of the service time, mean x (1 + z spread), so a type with
   a heavy tail takes fewer sizes than its mean allows. The last station has to take all: there a query is
   also late when its service alone, taken as normal, overruns the latency.

The throughput is the rate at which the late share is the promised one. Nothing here is fitted.
"""

import math
from bisect import bisect_left
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import pairwise
from operator import mul
from statistics import NormalDist
from typing import Final

from control_lambda.core.mix.bound import SECONDS_PER_MINUTE, bound_rpm, linear_bounds
from control_lambda.core.mix.model import Mix, Problem

GROUPS: Final = 16  # of sizes, by equal shares of queries; the types' limits are borders as well
BORDERED_TYPES: Final = 12  # with more types than this, limits are rounded down to a group's border
HALVINGS: Final = 12  # of the range below the bound: to 0.03 %
HIGHEST_EXPONENT: Final = 50.0  # keeps an overloaded station's wait within floats
LEAST_RATE: Final = 1e-30  # queries per second; below it squares underflow, and nothing hangs on them
NEAR_ONE: Final = 1e-9  # the formula is 0/0 at rho = 1; beside it, it is smooth


@dataclass(frozen=True, slots=True)
class Station:
    """One type of a mix at a given rate: what it was offered, and the share of all queries it passed on."""

    index: int
    instances: int
    utilisation: float
    offered_share: float
    passed_share: float


@dataclass(frozen=True, slots=True)
class _Station:
    """A type as a station, by group of sizes: seconds, their squares, and slack.

    `overrun` is the chance that service alone takes longer than the promise. `accepted` counts the groups,
    smallest first, whose promised percentile of service is in time.
    """

    seconds: tuple[float, ...]
    squares: tuple[float, ...]
    slack: tuple[float, ...]
    overrun: tuple[float, ...]
    accepted: int


@dataclass(frozen=True, slots=True)
class _Visit:
    """What comes to a station and what it leaves, queries per second by group of sizes."""

    index: int
    servers: int
    accepted: int
    before: Sequence[float]
    after: Sequence[float]


class Estimator:
    """Estimates mixes of one problem; groups of sizes and bounds are computed once.

    `largest` holds each group's largest size, ascending; groups begin at the sizes `starts` as well.
    """

    def __init__(self, problem: Problem, starts: Sequence[float] = ()) -> None:
        self.problem = problem
        self.bounds = linear_bounds(problem)
        borders = _borders(problem, starts)
        self._shares = tuple(math.fsum(problem.sizes.shares[low:high]) for low, high in pairwise(borders))
        self.largest = tuple(problem.sizes.values[border - 1] for border in borders[1:])
        self._stations = tuple(_grouped(problem, index, borders) for index in range(len(problem.types)))
        costs = [problem.prices[index] * problem.mean_seconds(index) for index in range(len(problem.types))]
        self._order = sorted(
            range(len(problem.types)),
            key=lambda index: (index in problem.bases, self._stations[index].accepted, costs[index], index),
        )

    def rpm(self, mix: Mix) -> float:
        """The highest rate (rpm) at which no more than the promised share is late; 0 without a base."""
        if not self.problem.has_base(mix):
            return 0.0
        low, high = 0.0, bound_rpm(self.bounds, mix)
        present = self._present(mix)
        for _ in range(HALVINGS):
            middle = (low + high) / 2.0
            if self._late_share(present, middle / SECONDS_PER_MINUTE) <= self.problem.miss_share:
                low = middle
            else:
                high = middle
        return low

    def late_share(self, mix: Mix, rpm: float) -> float:
        """The share of queries that are late at `rpm`, above 0."""
        return self._late_share(self._present(mix), rpm / SECONDS_PER_MINUTE)

    def stations(self, mix: Mix, rpm: float) -> list[Station]:
        """The chain at `rpm`, in the order in which queries try it; its last passes on what is late."""
        rate = rpm / SECONDS_PER_MINUTE
        told = []
        for visit in self._visits(self._present(mix), rate):
            offered = visit.before[: visit.accepted]
            work = math.fsum(map(mul, offered, self._stations[visit.index].seconds))
            passed = math.fsum(visit.after[: visit.accepted])
            told.append(
                Station(
                    visit.index, visit.servers, work / visit.servers, math.fsum(offered) / rate, passed / rate
                )
            )
        return told

    def served(self, mix: Mix, rpm: float) -> dict[int, tuple[float, ...]]:
        """For each type of the mix, the share of all queries that it answers at `rpm`, by group of sizes."""
        rate = rpm / SECONDS_PER_MINUTE
        return {
            visit.index: tuple(
                (before - after) / rate for before, after in zip(visit.before, visit.after, strict=True)
            )
            for visit in self._visits(self._present(mix), rate)
        }

    def _present(self, mix: Mix) -> list[tuple[int, int]]:
        return [(index, mix[index]) for index in self._order if mix[index]]

    def _late_share(self, present: Sequence[tuple[int, int]], rate: float) -> float:
        *_, last = self._visits(present, rate)
        late = sum(last.after)
        station = self._stations[last.index]
        for group in range(station.accepted, len(station.overrun)):
            late += (last.before[group] - last.after[group]) * station.overrun[group]
        return late / rate

    def _visits(self, present: Sequence[tuple[int, int]], rate: float) -> Iterator[_Visit]:
        """The chain, station by station; the last one has to take every size."""
        flow: Sequence[float] = [rate * share for share in self._shares]
        last = len(present) - 1
        for position, (index, servers) in enumerate(present):
            station = self._stations[index]
            accepted = len(flow) if position == last else station.accepted
            after = _passed_on(station, servers, flow, accepted)
            yield _Visit(index, servers, accepted, flow, after)
            flow = after


def _passed_on(station: _Station, servers: int, flow: Sequence[float], accepted: int) -> Sequence[float]:
    """The queries per second of each group that a station leaves to the next one."""
    offered = flow[:accepted]
    rate = sum(offered)
    if rate <= LEAST_RATE:
        return flow
    work = sum(map(mul, offered, station.seconds))
    utilisation = work / servers
    if abs(utilisation - 1.0) < NEAR_ONE:
        utilisation = 1.0 - NEAR_ONE
    wait_chance = utilisation ** (math.sqrt(2.0 * (servers + 1)) - 1.0)
    decay = 2.0 * servers * (1.0 - utilisation) * work / sum(map(mul, offered, station.squares))
    idle, exp = 1.0 - utilisation, math.exp
    passed = []
    for amount, slack in zip(offered, station.slack, strict=False):
        waits = wait_chance * exp(min(HIGHEST_EXPONENT, -decay * slack))
        passed.append(amount * idle * waits / (1.0 - utilisation * waits))
    return [*passed, *flow[accepted:]]


def _borders(problem: Problem, starts: Sequence[float]) -> list[int]:
    """Where groups of sizes begin, as positions in the sizes, and their end."""
    borders = {0, len(problem.sizes.values)}
    borders |= {bisect_left(problem.sizes.values, size) for size in starts}
    if len(problem.types) <= BORDERED_TYPES:
        borders |= {_accepted(problem, index) for index in range(len(problem.types))}
    counted, next_border = 0.0, 1.0 / GROUPS
    for position, share in enumerate(problem.sizes.shares):
        counted += share
        if counted >= next_border:
            borders.add(position + 1)
            next_border = (math.floor(counted * GROUPS) + 1) / GROUPS
    return sorted(borders)


def _accepted(problem: Problem, index: int) -> int:
    """How many sizes, smallest first, have their promised percentile of service time within the latency."""
    kind = problem.types[index]
    longest = problem.latency_seconds / (1.0 + problem.tail * kind.spread)
    return next(
        (position for position, seconds in enumerate(kind.seconds) if seconds > longest), len(kind.seconds)
    )


def _grouped(problem: Problem, index: int, borders: Sequence[int]) -> _Station:
    kind = problem.types[index]
    stretch = 1.0 + problem.tail * kind.spread
    scatter = 1.0 + kind.spread**2
    accepted = _accepted(problem, index)
    seconds, squares = [], []
    for low, high in pairwise(borders):
        shares = problem.sizes.shares[low:high]
        share = math.fsum(shares)
        times = kind.seconds[low:high]
        seconds.append(math.fsum(map(mul, shares, times)) / share)
        squares.append(math.fsum(map(mul, shares, (time * time for time in times))) / share * scatter)
    return _Station(
        seconds=tuple(seconds),
        squares=tuple(squares),
        slack=tuple(max(0.0, problem.latency_seconds - stretch * mean) for mean in seconds),
        overrun=tuple(_overrun(problem.latency_seconds, mean, kind.spread) for mean in seconds),
        accepted=sum(1 for border in borders[1:] if border <= accepted),
    )


def _overrun(latency_seconds: float, mean_seconds: float, spread: float) -> float:
    """The chance that one service takes longer than the latency, its time being normal."""
    if not spread:
        return float(mean_seconds > latency_seconds)
    return 1.0 - NormalDist(mean_seconds, spread * mean_seconds).cdf(latency_seconds)
