"""Which waiting query goes to which instance, now: pure arithmetic on values, without clock or network.

A distributor is asked whenever a query has arrived or an instance has become idle, and answers with the
queries to dispatch now, each to an idle instance, and those to refuse. Every other query keeps waiting and
is part of the next question::

    models = {"base": LatencyModel(...), "small": LatencyModel(...)}     # of predictors.py
    distributor = LeastLaxity(typical_size=250)
    decision = distributor.decide(now, waiting, instances, models)
    for dispatch in decision.dispatches:      # waiting[dispatch.query] -> instances[dispatch.instance]
        ...
    for query in decision.sheds:              # waiting[query] cannot be answered in time: refuse it
        ...

All times are seconds on one clock of the caller's choice. `waiting` is in order of arrival. An instance
serves one query at a time; `idle` says whether it can begin now, and `free_at` when the query on it is
predicted to be done (dispatch time + `models[type].seconds(size)`; ignored when idle, and taken for `now`
when it has passed). Decisions depend on nothing but their arguments.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from heapq import heapify, heapreplace
from math import inf, sqrt
from operator import le
from typing import Final, Protocol

import numpy as np
from numpy.typing import NDArray
from scipy.optimize import linear_sum_assignment

from containers.router.predictors import LatencyModel

__all__ = [
    "Decision",
    "Dispatch",
    "Distributor",
    "Instance",
    "KairosMatching",
    "LatencyModel",
    "LeastLaxity",
    "Query",
    "heterogeneity",
    "price_of_time",
]

# KAIROS' slack: a query has to end within this share of its latency target.
SLACK: Final = 0.98
# Penalties as multiples of the query's target: ends inside the slack; ends beyond the target.
SLACK_PENALTY: Final = 5.0
LATE_PENALTY: Final = 10.0

# Our allowance for a query that takes longer than predicted, in standard deviations.
DEVIATIONS: Final = 1.0
# Square-root staffing (Halfin and Whitt 1981): of n servers some multiple of √n must be spare, so that time
# on the few is dearer than on the many. 0.3 to 0.8 carry the same in the laboratory.
SAFETY: Final = 0.5

Floats = NDArray[np.float64]
# One value for each lane.
Row = tuple[float, ...]


@dataclass(frozen=True, slots=True)
class Query:
    """A waiting query: its size (any unit that latency is linear in), when it came, when it must be done."""

    size: float
    arrived: float
    deadline: float


@dataclass(frozen=True, slots=True)
class Instance:
    """An instance that serves one query at a time: its type's name, whether it is idle, when it will be."""

    type: str
    idle: bool
    free_at: float


@dataclass(frozen=True, slots=True)
class Dispatch:
    """`waiting[query]` starts on `instances[instance]` now."""

    query: int
    instance: int


@dataclass(frozen=True, slots=True)
class Decision:
    """What to do now; `sheds` are indices into `waiting`. Who is in neither keeps waiting."""

    dispatches: tuple[Dispatch, ...] = ()
    sheds: tuple[int, ...] = ()


class Distributor(Protocol):
    """A way to distribute queries over instances."""

    def decide(
        self,
        now: float,
        waiting: Sequence[Query],
        instances: Sequence[Instance],
        models: Mapping[str, LatencyModel],
    ) -> Decision:
        """What to dispatch and what to refuse now; `models` holds every type among the instances."""
        ...


def heterogeneity(model: LatencyModel, base: LatencyModel, largest_size: float) -> float:
    """KAIROS' coefficient C_j of a type: the largest query's latency on the base over that on the type."""
    return base.seconds(largest_size) / model.seconds(largest_size)


def price_of_time(model: LatencyModel, typical_size: float, instances: int) -> float:
    """What a second of a type is worth to `LeastLaxity`, among so many instances of it.

    (1 + SAFETY / √n) / seconds of a typical query: what the type could do instead, and how badly it may be
    needed the next moment.
    """
    return (1.0 + SAFETY / sqrt(instances)) / model.seconds(typical_size)


class KairosMatching:
    """The query distribution of KAIROS (HPDC'23, section 5.2).

    The m = min(waiting, 2·instances) oldest queries are matched to all n instances, busy ones included,
    so that Σ C_j·L_ij is least, where L_ij is the remaining busy time of instance j plus the predicted
    latency of query i on it, and C_j the heterogeneity coefficient: the latency of the largest query on
    the base type over that on j's type. An entry that would overrun the query's target, less a slack of
    2 %, is a penalty instead; a query already late carries none. Jonker and Volgenant's algorithm solves
    it. Only pairs with an idle instance are dispatched: the rest of an optimal assignment remains optimal
    for the rest, so that solving again at once would change nothing, and at the next event it will.
    """

    def __init__(self, base: str, largest_size: float) -> None:
        """`base` is the type that serves every size in time, `largest_size` the largest query's."""
        self._base = base
        self._largest_size = largest_size

    def decide(
        self,
        now: float,
        waiting: Sequence[Query],
        instances: Sequence[Instance],
        models: Mapping[str, LatencyModel],
    ) -> Decision:
        """Match, and dispatch the pairs whose instance is idle; nothing is ever refused."""
        if not waiting or not any(instance.idle for instance in instances):
            return Decision()
        oldest = waiting[: 2 * len(instances)]
        rows, columns = linear_sum_assignment(self._costs(now, oldest, instances, models))
        pairs = zip(rows.tolist(), columns.tolist(), strict=True)
        return Decision(tuple(Dispatch(i, j) for i, j in pairs if instances[j].idle))

    def _costs(
        self,
        now: float,
        queries: Sequence[Query],
        instances: Sequence[Instance],
        models: Mapping[str, LatencyModel],
    ) -> Floats:
        """The matrix, queries × instances."""
        of_instance = [models[instance.type] for instance in instances]
        base = models[self._base]
        coefficients = np.array([heterogeneity(model, base, self._largest_size) for model in of_instance])
        intercepts = np.array([model.intercept for model in of_instance])
        slopes = np.array([model.slope for model in of_instance])
        waits = np.array([0.0 if one.idle else max(one.free_at - now, 0.0) for one in instances])
        sizes = np.array([query.size for query in queries])
        targets = np.array([query.deadline - query.arrived for query in queries])[:, np.newaxis]
        left = np.array([query.deadline - now for query in queries])[:, np.newaxis]
        ends = waits + (intercepts + sizes[:, np.newaxis] * slopes)
        costs = coefficients * ends
        live = left > 0
        costs = np.where(live & (ends > left - (1.0 - SLACK) * targets), SLACK_PENALTY * targets, costs)
        return np.where(live & (ends > left), LATE_PENALTY * targets, costs)


class LeastLaxity:
    """List scheduling by least laxity, with deadline admission.

    The waiting queries are placed one after the other on the instances' predicted timelines, as many to an
    instance as fit: first the query whose latest start, on the type that is fastest for it, comes first.
    Among the places from which it ends by its deadline, so many standard deviations over its mean included,
    it takes the one where wait + service costs least (`price_of_time`). A query without such a place holds
    none, and waits for a better moment. One that could not have such a place even if it came next everywhere
    takes its chance after all others, and is refused, before it delays others, once it would be late even
    as many deviations below its mean.

    Against KAIROS: several queries deep instead of one an instance, the tail instead of the mean, nothing
    spent on lost causes, and time priced at the typical query instead of the largest, dearer on the few.
    """

    def __init__(self, typical_size: float, deviations: float = DEVIATIONS) -> None:
        """`typical_size` is the mean query size; `deviations` the allowance, in standard deviations.

        Raises:
            ValueError: the size is not above 0, or the allowance is negative.
        """
        if not typical_size > 0:
            raise ValueError(f"typical_size: {typical_size}; valid: a number above 0")
        if not deviations >= 0:
            raise ValueError(f"deviations: {deviations}; valid: a number of 0 or more")
        self._typical_size = typical_size
        self._deviations = deviations

    def decide(
        self,
        now: float,
        waiting: Sequence[Query],
        instances: Sequence[Instance],
        models: Mapping[str, LatencyModel],
    ) -> Decision:
        """Place the waiting queries, and dispatch those whose place begins now on an idle instance."""
        if not waiting or not instances:
            return Decision()
        lanes = self._lanes(now, instances, models)
        means, starts = self._seconds(waiting, lanes)
        order, sheds = self._order(waiting, lanes, means, starts)
        idle = {index for index, instance in enumerate(instances) if instance.idle}
        dispatches = _place(now, order, means, starts, lanes, idle)
        return Decision(tuple(dispatches), tuple(sheds))

    def _lanes(
        self, now: float, instances: Sequence[Instance], models: Mapping[str, LatencyModel]
    ) -> list["_Lane"]:
        """One for each type among the instances, in the order of the models."""
        timelines: dict[str, list[tuple[float, int]]] = {name: [] for name in models}
        for index, instance in enumerate(instances):
            free_at = now if instance.idle else max(instance.free_at, now)
            timelines[instance.type].append((free_at, index))
        lanes = []
        for name, timeline in timelines.items():
            if timeline:
                heapify(timeline)
                price = price_of_time(models[name], self._typical_size, len(timeline))
                lanes.append(_Lane(models[name], price, timeline))
        return lanes

    def _seconds(self, waiting: Sequence[Query], lanes: Sequence["_Lane"]) -> tuple[list[Row], list[Row]]:
        """Mean service seconds, and the latest start that is in time: a row a query, a column a lane.

        Lists, column by column: numpy is slower below some forty queries, and most decisions are about one.
        """
        means, starts = [], []
        for lane in lanes:
            intercept, slope = lane.model.intercept, lane.model.slope
            tail = 1.0 + self._deviations * lane.model.spread
            column = [intercept + query.size * slope for query in waiting]
            means.append(column)
            starts.append([query.deadline - mean * tail for query, mean in zip(waiting, column, strict=True)])
        return list(zip(*means, strict=True)), list(zip(*starts, strict=True))

    def _order(
        self, waiting: Sequence[Query], lanes: Sequence["_Lane"], means: Sequence[Row], starts: list[Row]
    ) -> tuple[list[int], list[int]]:
        """Whom to place, in order, and whom to refuse; `starts` of who needs luck become those with luck."""
        earliest = [lane.timelines[0][0] for lane in lanes]
        placed, refused = [], []
        for index, latest in enumerate(starts):
            if any(map(le, earliest, latest)):
                placed.append((max(latest), index))
                continue
            starts[index] = self._last_chances(waiting[index], means[index], lanes)
            if any(map(le, earliest, starts[index])):
                placed.append((inf, index))
            else:
                refused.append(index)
        return [index for _, index in sorted(placed)], refused

    def _last_chances(self, query: Query, means: Row, lanes: Sequence["_Lane"]) -> Row:
        """The latest start on each lane that is in time with luck."""
        lucky = (max(1.0 - self._deviations * lane.model.spread, 0.0) for lane in lanes)
        return tuple(query.deadline - mean * share for mean, share in zip(means, lucky, strict=True))


@dataclass(frozen=True, slots=True)
class _Lane:
    """The instances of one type.

    `price` is that of a second; `timelines` is a heap of (when free by the schedule so far, index).
    """

    model: LatencyModel
    price: float
    timelines: list[tuple[float, int]]


def _place(
    now: float,
    order: Sequence[int],
    means: Sequence[Row],
    starts: Sequence[Row],
    lanes: Sequence[_Lane],
    idle: set[int],
) -> Iterator[Dispatch]:
    """Schedule the queries in this order, until nothing is idle; yields what begins on an idle instance.

    Each goes where wait + service costs least among the lanes that are free in time. Plain lists and one
    loop, because this is where the time of a decision goes.
    """
    free_at = [lane.timelines[0][0] for lane in lanes]
    prices = [lane.price for lane in lanes]
    for query in order:
        if not idle:
            return
        seconds, latest = means[query], starts[query]
        chosen, least = None, inf
        for index, at in enumerate(free_at):
            if at <= latest[index] and (cost := prices[index] * (at - now + seconds[index])) < least:
                chosen, least = index, cost
        if chosen is None:
            continue
        timelines = lanes[chosen].timelines
        at, instance = timelines[0]
        heapreplace(timelines, (at + seconds[chosen], instance))
        free_at[chosen] = timelines[0][0]
        if instance in idle:
            idle.remove(instance)
            yield Dispatch(query, instance)
