"""Distributors that send a query to an instance's own queue as it arrives, compiled.

They see of an instance what a load balancer sees: how many queries are on it, and what was predicted for
them.
"""

from typing import Final, NamedTuple

import numpy as np
from numpy.typing import NDArray

from twin.mixes.assignment import compiled
from twin.mixes.central import REFUSE, Rules, Score, Stream

Floats = NDArray[np.float64]
Integers = NDArray[np.int64]

EARLIEST_COMPLETION: Final = 0
LEAST_OUTSTANDING: Final = 1
WEIGHTS: Final = 2


class Queues(NamedTuple):
    """Each instance's queries in order: those at `first` to `last` of its row are not done yet.

    `backlog` is the predicted seconds of all of them.
    """

    kind: Integers
    query: Integers
    start: Floats
    end: Floats
    first: Integers
    last: Integers
    backlog: Floats


@compiled
def serve_queued(
    choose: int, kinds: Integers, stream: Stream, rules: Rules, score: Score, latency: Floats
) -> int:
    """Run all queries, or until too many have missed; the scored queries that missed the target.

    Fills `latency` with seconds from arrival to answer, infinite for refused queries.
    """
    queues = _new_queues(kinds, len(stream.arrival))
    missed = 0
    for query in range(len(stream.arrival)):
        now = stream.arrival[query]
        _complete(now, queues, stream)
        if choose == EARLIEST_COMPLETION:
            instance = _earliest_completion(now, query, queues, stream, rules)
        elif choose == LEAST_OUTSTANDING:
            instance = int(np.argmin(queues.last - queues.first))
        else:
            instance = _by_weights(query, queues, stream, rules)
        latency[query] = np.inf if instance == REFUSE else _enqueue(now, query, instance, queues, stream)
        missed += query >= score.first and latency[query] > rules.target
        if missed > score.allowed:
            return missed
    return missed


@compiled
def _new_queues(kinds: Integers, queries: int) -> Queues:
    count = len(kinds)
    return Queues(
        kinds,
        np.empty((count, queries), np.int64),
        np.empty((count, queries)),
        np.empty((count, queries)),
        np.zeros(count, np.int64),
        np.zeros(count, np.int64),
        np.zeros(count),
    )


@compiled
def _complete(now: float, queues: Queues, stream: Stream) -> None:
    """Take away what is done by now."""
    for instance in range(len(queues.kind)):
        first = queues.first[instance]
        while first < queues.last[instance] and queues.end[instance, first] <= now:
            query = queues.query[instance, first]
            queues.backlog[instance] -= stream.predicted[query, queues.kind[instance]]
            first += 1
        queues.first[instance] = first
        if first == queues.last[instance]:
            queues.backlog[instance] = 0.0


@compiled
def _earliest_completion(now: float, query: int, queues: Queues, stream: Stream, rules: Rules) -> int:
    """The instance where the query is predicted to end first; `REFUSE` if that is too late (Clockwork)."""
    best, least = REFUSE, rules.target
    for instance in range(len(queues.kind)):
        kind, first = queues.kind[instance], queues.first[instance]
        wait = 0.0
        if first < queues.last[instance]:
            running = stream.predicted[queues.query[instance, first], kind]
            remaining = max(queues.start[instance, first] + running - now, 0.0)
            wait = remaining + queues.backlog[instance] - running
        end = wait + stream.predicted[query, kind]
        if end <= least:
            best, least = instance, end
    return best


@compiled
def _by_weights(query: int, queues: Queues, stream: Stream, rules: Rules) -> int:
    """The instance with the fewest queries on it, of the type that the weights of the query's size draw."""
    shares = np.cumsum(rules.weights[int(stream.size[query] > rules.threshold)])
    kind = int(np.searchsorted(shares, stream.choice[query] * shares[-1], "right"))
    best, fewest = REFUSE, len(stream.arrival)
    for instance in range(len(queues.kind)):
        outstanding = queues.last[instance] - queues.first[instance]
        if queues.kind[instance] == kind and outstanding < fewest:
            best, fewest = instance, outstanding
    return best


@compiled
def _enqueue(now: float, query: int, instance: int, queues: Queues, stream: Stream) -> float:
    """Append the query to the instance's queue; its latency, which nobody knows yet."""
    kind, last = queues.kind[instance], queues.last[instance]
    start = now
    if last > queues.first[instance]:
        start = max(now, queues.end[instance, last - 1])
    queues.query[instance, last] = query
    queues.start[instance, last] = start
    queues.end[instance, last] = start + stream.service[query, kind]
    queues.last[instance] = last + 1
    queues.backlog[instance] += stream.predicted[query, kind]
    return float(queues.end[instance, last] - stream.arrival[query])
