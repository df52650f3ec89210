"""Distributors that keep one queue and decide when an instance is idle, compiled.

Each fills `plan` with what to do with the waiting queries: an instance's index, `WAIT` or `REFUSE`.
`matching` and `least_laxity` are those of containers/router/matching.py, in compiled arithmetic; a test
holds them against it.
"""

from typing import Final, NamedTuple

import numpy as np
from numpy.typing import NDArray

from containers.router.matching import LATE_PENALTY, SLACK, SLACK_PENALTY
from twin.mixes.assignment import assign, compiled

Floats = NDArray[np.float64]
Integers = NDArray[np.int64]

WAIT: Final = -1
REFUSE: Final = -2


class Stream(NamedTuple):
    """Queries in order of arrival; seconds of service, predicted and true, are queries × types."""

    arrival: Floats
    size: Floats
    choice: Floats
    predicted: Floats
    service: Floats


class Rules(NamedTuple):
    """What a distributor knows beside predictions.

    `price` is what a second of each type is worth to it, `allowance` how far a type's tail lies from its
    mean, as a share of it, `threshold` the size above which a query is large; `weights` has a row of every
    type's weight for small queries and one for large ones.
    """

    target: float
    price: Floats
    allowance: Floats
    threshold: float
    weights: Floats


class Score(NamedTuple):
    """What is counted: misses from query `first` on; a run ends when there are more than `allowed`."""

    first: int
    allowed: int


class Pool(NamedTuple):
    """The instances; `free_at` is predicted and counts while not idle, `done_at` is the truth."""

    kind: Integers
    idle: NDArray[np.bool_]
    free_at: Floats
    done_at: Floats
    query: Integers


@compiled
def first_come(waiting: Integers, pool: Pool, plan: Integers) -> None:
    """First come, first served, on the idle instance that stands first: base before others (Ribbon)."""
    following = 0
    for instance in range(len(pool.kind)):
        if pool.idle[instance] and following < len(waiting):
            plan[following] = instance
            following += 1


@compiled
def by_threshold(waiting: Integers, stream: Stream, rules: Rules, pool: Pool, plan: Integers) -> None:
    """Larger queries than the threshold to the base, the others to the rest, in order (DeepRecSys)."""
    following = 0
    for large in (True, False):
        following = 0
        for instance in range(len(pool.kind)):
            if not pool.idle[instance] or (pool.kind[instance] == 0) != large:
                continue
            while following < len(waiting) and (stream.size[waiting[following]] > rules.threshold) != large:
                following += 1
            if following == len(waiting):
                break
            plan[following] = instance
            following += 1


@compiled
def matching(now: float, waiting: Integers, stream: Stream, rules: Rules, pool: Pool, plan: Integers) -> None:
    """`KairosMatching.decide`."""
    count, instances = min(len(waiting), 2 * len(pool.kind)), len(pool.kind)
    costs = np.empty((count, instances))
    for row in range(count):
        query = waiting[row]
        left = stream.arrival[query] + rules.target - now
        for column in range(instances):
            kind = pool.kind[column]
            wait = 0.0 if pool.idle[column] else max(pool.free_at[column] - now, 0.0)
            end = wait + stream.predicted[query, kind]
            costs[row, column] = rules.price[kind] * end
            if left > 0 and end > left:
                costs[row, column] = LATE_PENALTY * rules.target
            elif left > 0 and end > left - (1.0 - SLACK) * rules.target:
                costs[row, column] = SLACK_PENALTY * rules.target
    if count <= instances:
        columns = assign(costs)
        for row in range(count):
            if pool.idle[columns[row]]:
                plan[row] = columns[row]
    else:
        rows = assign(costs.T.copy())
        for column in range(instances):
            if pool.idle[column]:
                plan[rows[column]] = column


@compiled
def least_laxity(
    now: float, waiting: Integers, stream: Stream, rules: Rules, pool: Pool, plan: Integers
) -> None:
    """`LeastLaxity.decide`."""
    free = np.where(pool.idle, now, np.maximum(pool.free_at, now))
    lanes = np.array([_earliest(free, pool, kind) for kind in range(len(rules.price))])
    starts, laxity = _latest_starts(waiting, stream, rules, free, lanes, plan)
    idle = pool.idle.sum()
    for row in np.argsort(laxity, kind="mergesort"):
        if idle == 0:
            return
        if plan[row] == REFUSE:
            continue
        predicted = stream.predicted[waiting[row]]
        kind = _cheapest(now, predicted, starts[row], rules, free, lanes)
        if kind == WAIT:
            continue
        instance = lanes[kind]
        if pool.idle[instance] and free[instance] == now:
            plan[row] = instance
            idle -= 1
        free[instance] += predicted[kind]
        lanes[kind] = _earliest(free, pool, kind)


@compiled
def _latest_starts(
    waiting: Integers, stream: Stream, rules: Rules, free: Floats, lanes: Integers, plan: Integers
) -> tuple[Floats, Floats]:
    """The latest start of each query on each type, and what decides the order; refuses the hopeless."""
    starts = np.full((len(waiting), len(lanes)), -np.inf)
    laxity = np.full(len(waiting), np.inf)
    lucky = np.maximum(1.0 - rules.allowance, 0.0)
    for row in range(len(waiting)):
        deadline = stream.arrival[waiting[row]] + rules.target
        predicted = stream.predicted[waiting[row]]
        if _in_time(deadline - predicted * (1.0 + rules.allowance), free, lanes, starts[row]):
            laxity[row] = starts[row].max()
        elif not _in_time(deadline - predicted * lucky, free, lanes, starts[row]):
            plan[row] = REFUSE
    return starts, laxity


@compiled
def _in_time(latest: Floats, free: Floats, lanes: Integers, starts: Floats) -> bool:
    """Keep the latest starts on the types that there are; whether one of them is free by then."""
    any_in_time = False
    for kind in range(len(lanes)):
        if lanes[kind] != WAIT:
            starts[kind] = latest[kind]
            any_in_time |= free[lanes[kind]] <= latest[kind]
    return any_in_time


@compiled
def _cheapest(
    now: float, predicted: Floats, latest_start: Floats, rules: Rules, free: Floats, lanes: Integers
) -> int:
    """The type where wait + service costs least among those that are free in time, `WAIT` without one."""
    chosen, least = WAIT, np.inf
    for kind in range(len(lanes)):
        if lanes[kind] == WAIT:
            continue
        at = free[lanes[kind]]
        cost = rules.price[kind] * (at - now + predicted[kind])
        if at <= latest_start[kind] and cost < least:
            chosen, least = kind, cost
    return chosen


@compiled
def _earliest(free: Floats, pool: Pool, kind: int) -> int:
    """The instance of a type that is free first, `WAIT` without one."""
    earliest = WAIT
    for instance in range(len(free)):
        if pool.kind[instance] == kind and (earliest == WAIT or free[instance] < free[earliest]):
            earliest = instance
    return earliest
