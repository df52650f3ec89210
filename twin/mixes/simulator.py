"""The events of one run, compiled: arrivals, completions, an instance lost, and the decisions on them.

What makes hundreds of mixes affordable: one compiled loop per run without an object in it, an assignment
solver compiled into it, one draw of every random number for all runs, and an end as soon as more queries
have missed the target than the percentile allows.
"""

from enum import IntEnum
from typing import Final, NamedTuple

import numpy as np
from numpy.typing import NDArray

from twin.mixes import central
from twin.mixes.assignment import compiled
from twin.mixes.central import REFUSE, WAIT, Pool, Rules, Score, Stream
from twin.mixes.queued import serve_queued

Floats = NDArray[np.float64]
Integers = NDArray[np.int64]

NOBODY: Final = -1


class Distributor(IntEnum):
    """Who decides: the first four keep one queue, the others a queue per instance."""

    FIRST_COME = 0
    THRESHOLD = 1
    KAIROS = 2
    LEAST_LAXITY = 3
    CLOCKWORK = 4
    LEAST_OUTSTANDING = 5
    WEIGHTS = 6


_QUEUED: Final = int(Distributor.CLOCKWORK)
_FIRST_COME: Final = int(Distributor.FIRST_COME)
_THRESHOLD: Final = int(Distributor.THRESHOLD)
_KAIROS: Final = int(Distributor.KAIROS)


class Loss(NamedTuple):
    """The instance that is lost, and the second when it is; its query goes back to the queue."""

    instance: int
    at: float


@compiled
def serve(
    distributor: int, kinds: Integers, stream: Stream, rules: Rules, score: Score, loss: Loss, latency: Floats
) -> int:
    """Run all queries, or until too many have missed; the scored queries that missed the target.

    Fills `latency`, zeros, with seconds from arrival to answer, infinite for refused queries.
    """
    if distributor >= _QUEUED:
        return serve_queued(distributor - _QUEUED, kinds, stream, rules, score, latency)
    return _serve_central(distributor, kinds, stream, rules, score, loss, latency)


@compiled
def _serve_central(
    distributor: int, kinds: Integers, stream: Stream, rules: Rules, score: Score, loss: Loss, latency: Floats
) -> int:
    pool = _new_pool(kinds)
    queue = np.empty(len(stream.arrival), np.int64)
    queued, following, missed, lost = 0, 0, 0, False
    while True:
        done = int(np.argmin(pool.done_at))
        arrival = stream.arrival[following] if following < len(stream.arrival) else np.inf
        now = min(arrival, pool.done_at[done])
        if now == np.inf:
            return missed + _scored(queue[:queued], score)
        if not lost and loss.at <= now:
            lost, now = True, loss.at
            pool, queued = _lose(pool, loss.instance, queue, queued)
        elif arrival == now:
            queue[queued] = following
            queued, following = queued + 1, following + 1
        else:
            pool.idle[done], pool.done_at[done] = True, np.inf
        if queued == 0 or not pool.idle.any():
            continue
        plan = _decide(distributor, now, queue[:queued], stream, rules, pool)
        before = _missed(queue[:queued], latency, rules.target, score)
        _apply(now, queue[:queued], plan, stream, pool, latency)
        missed += _missed(queue[:queued], latency, rules.target, score) - before
        queued = _keep_waiting(queue, queued, plan)
        if missed > score.allowed:
            return missed


@compiled
def _new_pool(kinds: Integers) -> Pool:
    count = len(kinds)
    return Pool(
        kinds.copy(),
        np.ones(count, np.bool_),
        np.zeros(count),
        np.full(count, np.inf),
        np.full(count, NOBODY),
    )


@compiled
def _lose(pool: Pool, instance: int, queue: Integers, queued: int) -> tuple[Pool, int]:
    """The pool without an instance, and how many wait once its query is first in the queue again."""
    if not pool.idle[instance]:
        queue[1 : queued + 1] = queue[:queued].copy()
        queue[0] = pool.query[instance]
        queued += 1
    kept = np.arange(len(pool.kind)) != instance
    left = Pool(pool.kind[kept], pool.idle[kept], pool.free_at[kept], pool.done_at[kept], pool.query[kept])
    return left, queued


@compiled
def _scored(queries: Integers, score: Score) -> int:
    """How many of the queries count."""
    return int((queries >= score.first).sum())


@compiled
def _decide(
    distributor: int, now: float, waiting: Integers, stream: Stream, rules: Rules, pool: Pool
) -> Integers:
    plan = np.full(len(waiting), WAIT)
    if distributor == _FIRST_COME:
        central.first_come(waiting, pool, plan)
    elif distributor == _THRESHOLD:
        central.by_threshold(waiting, stream, rules, pool, plan)
    elif distributor == _KAIROS:
        central.matching(now, waiting, stream, rules, pool, plan)
    else:
        central.least_laxity(now, waiting, stream, rules, pool, plan)
    return plan


@compiled
def _apply(
    now: float, waiting: Integers, plan: Integers, stream: Stream, pool: Pool, latency: Floats
) -> None:
    """Start what starts now, and refuse what is refused."""
    for row in range(len(waiting)):
        query, instance = waiting[row], plan[row]
        if instance == REFUSE:
            latency[query] = np.inf
        elif instance != WAIT:
            kind = pool.kind[instance]
            pool.idle[instance], pool.query[instance] = False, query
            pool.free_at[instance] = now + stream.predicted[query, kind]
            pool.done_at[instance] = now + stream.service[query, kind]
            latency[query] = pool.done_at[instance] - stream.arrival[query]


@compiled
def _missed(queries: Integers, latency: Floats, target: float, score: Score) -> int:
    """How many of the queries that count have an answer that comes too late, or none."""
    missed = 0
    for query in queries:
        missed += query >= score.first and latency[query] > target
    return missed


@compiled
def _keep_waiting(queue: Integers, queued: int, plan: Integers) -> int:
    """Close the gaps in the queue; how many still wait."""
    kept = 0
    for row in range(queued):
        if plan[row] == WAIT:
            queue[kept] = queue[row]
            kept += 1
    return kept
