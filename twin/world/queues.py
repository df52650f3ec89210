"""The compiled part of the plant: the draws and the queues of single requests, in numba.

Everything here is arrays of numbers; `plant` gives them their meaning. Times are seconds.
"""

from collections.abc import Callable
from math import ceil, cos, exp, inf, log, nan, pi, sqrt
from typing import Final, NamedTuple, TypeVar, cast

import numpy as np
from numba import njit
from numpy.typing import NDArray

from containers.serving.deadline import fits

CLIENT_SECONDS: Final = 60.0  # a client gives up on a request that has waited this long

# Outcomes of a request
SERVED: Final = 0
DROPPED: Final = 1  # its client gave up before a node turned to it
LOST: Final = 2  # it was on a node when that was taken away: a 5xx from the target
NO_TARGET: Final = 3  # the unit that it was sent to had no ready node: the load balancer's 503
NO_UNIT: Final = 4  # no unit had any weight: the load balancer's fixed 503
REFUSED: Final = 5  # its node answered 5xx at once: out of time, out of order or out of luck

Floats = NDArray[np.float64]
Function = TypeVar("Function", bound=Callable[..., object])

ROW: Final = np.dtype(
    [
        ("ready_at", np.float64),
        ("healthy_until", np.float64),
        ("registered_until", np.float64),
        ("dead_at", np.float64),
        ("gone_at", np.float64),
        ("slow_factor", np.float64),
        ("error_share", np.float64),
        ("free_at", np.float64),
        ("next_done", np.float64),
        ("first", np.int64),
        ("outstanding", np.int64),
        ("asked", np.int64),
        ("refused", np.int64),
    ]
)
SHORTEST_RING: Final = 64  # a power of two, so that doubling keeps index masks valid
_ERROR_STREAM: Final = np.uint64(0xD1B54A32D192ED03)
# A request's independent uniform numbers
_DRAWS: Final = np.uint64(4)
_UNIT_DRAW: Final = np.uint64(1)
_TIE_DRAW: Final = np.uint64(2)
_SERVICE_DRAW: Final = np.uint64(3)
_SECOND_SERVICE_DRAW: Final = np.uint64(4)


class Requests(NamedTuple):
    """Requests in order of arrival, and the arrays that take what becomes of them."""

    arrival: Floats
    unit: NDArray[np.int8]
    latency: NDArray[np.float32]
    outcome: NDArray[np.int8]


class Servers(NamedTuple):
    """Nodes unit by unit: those of unit u are the rows offsets[u] to offsets[u + 1].

    `done` holds each row's unfinished requests as a ring of completion seconds, from column `first` on.
    """

    rows: NDArray[np.void]
    done: Floats
    offsets: NDArray[np.int64]


class Law(NamedTuple):
    """How requests are drawn and answered: `first` is the index of the first one in the whole stream.

    A node refuses what it cannot answer within `allowed` seconds; inf: it queues whatever comes.
    """

    seed: np.uint64
    first: np.uint64
    seconds: Floats
    sigma: float
    exponential: bool
    central: bool
    allowed: float


def _compiled(function: Function) -> Function:
    """Compile a function, keeping its type, which numba's decorator loses."""
    return cast("Function", njit(cache=True)(function))


_fits: Final = _compiled(fits)


@_compiled
def _uniform(seed: np.uint64, index: np.uint64, draw: np.uint64) -> float:
    """A number in [0, 1) that depends on nothing but its arguments.

    The finaliser of SplitMix64 (Steele, Lea, Flood: Fast splittable pseudorandom number generators,
    OOPSLA 2014) over a counter, so that request `index` meets the same chance under every policy.
    """
    bits = seed + (index * _DRAWS + draw) * np.uint64(0x9E3779B97F4A7C15)
    bits = (bits ^ (bits >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    bits = (bits ^ (bits >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    bits = bits ^ (bits >> np.uint64(31))
    return float(bits >> np.uint64(11)) * 2.0**-53


@_compiled
def _service_factor(law: Law, index: np.uint64) -> float:
    """A request's service time over its mean: lognormal (by Box-Muller) or exponential, mean 1."""
    radius = -log(1.0 - _uniform(law.seed, index, _SERVICE_DRAW))
    if law.exponential:
        return radius
    angle = 2.0 * pi * _uniform(law.seed, index, _SECOND_SERVICE_DRAW)
    normal = sqrt(2.0 * radius) * cos(angle)
    return exp(law.sigma * normal - law.sigma * law.sigma / 2.0)


@_compiled
def _pick_unit(cumulated: Floats, uniform: float) -> int:
    """The unit that a weighted rule draws, -1 when every weight is zero."""
    point = uniform * cumulated[-1]
    for unit in range(len(cumulated)):
        if point < cumulated[unit]:
            return unit
    return -1


@_compiled
def _finish(servers: Servers, row: int, at: float) -> None:
    """Take what the node has completed by `at` out of its ring."""
    node = servers.rows[row]
    while node.outstanding > 0 and node.next_done <= at:
        node.first = (node.first + 1) & (servers.done.shape[1] - 1)
        node.outstanding -= 1
        node.next_done = servers.done[row, node.first]


@_compiled
def _pick_node(servers: Servers, law: Law, unit: int, at: float, uniform: float) -> int:
    """The unit's healthy target with the least outstanding requests, ties at random; -1 without a target.

    Without a healthy one the load balancer fails open: it takes all for healthy that are registered. A
    `central` law takes the node that is free first instead, which equals one queue before all nodes.
    """
    first, last = servers.offsets[unit], servers.offsets[unit + 1]
    chosen = _least_loaded(servers, law, first, last, at, uniform, False)
    if chosen < 0:
        chosen = _least_loaded(servers, law, first, last, at, uniform, True)
    return chosen


@_compiled
def _least_loaded(
    servers: Servers,
    law: Law,
    first: int,
    last: int,
    at: float,
    uniform: float,
    fails_open: bool,  # noqa: FBT001 - numba knows no keyword-only arguments
) -> int:
    """The target with the least outstanding requests among the rows; -1 when there is none."""
    ties, best, chosen = 0, inf, -1
    for row in range(first, last):
        node = servers.rows[row]
        until = node.registered_until if fails_open else node.healthy_until
        if not node.ready_at <= at < until:
            continue
        _finish(servers, row, at)
        load = max(node.free_at, at) if law.central else float(node.outstanding)
        if load < best:
            ties, best, chosen = 1, load, row
        elif load == best:
            ties += 1
            # Each of the first k tied nodes is chosen with probability 1/k: rescaling reuses one uniform.
            uniform *= ties
            if uniform < 1.0:
                chosen = row
            else:
                uniform = (uniform - 1.0) / (ties - 1)
    return chosen


@_compiled
def _refuses(servers: Servers, row: int, law: Law, unit: int, index: np.uint64, at: float) -> bool:
    """Whether the node answers 5xx at once: it is dead, it errs, or it could not answer in time."""
    node = servers.rows[row]
    if at >= node.dead_at:
        return True
    if node.error_share > 0 and _uniform(law.seed ^ _ERROR_STREAM, index, _UNIT_DRAW) < node.error_share:
        return True
    return not _fits(max(node.free_at - at, 0.0), law.seconds[unit] * node.slow_factor, law.allowed)


@_compiled
def _enqueue(servers: Servers, row: int, at: float, seconds: float) -> tuple[int, float]:
    """Put a request into a node's queue; its outcome, and its latency in seconds (inf = failed)."""
    node = servers.rows[row]
    begin = max(node.free_at, at)
    if begin - at > CLIENT_SECONDS:
        return DROPPED, inf
    end = min(node.gone_at, node.dead_at)
    done = min(begin + seconds, end)
    if node.outstanding == 0:
        node.next_done = done
    servers.done[row, (node.first + node.outstanding) & (servers.done.shape[1] - 1)] = done
    node.outstanding += 1
    node.free_at = done
    if begin + seconds > end:
        return LOST, inf
    return SERVED, done - at


@_compiled
def serve(traffic: Requests, servers: Servers, law: Law, cumulated: Floats, begin: int) -> int:
    """Serve the requests from `begin` on; the first one not served, because a node's ring is full."""
    for request in range(begin, len(traffic.arrival)):
        at = traffic.arrival[request]
        index = law.first + np.uint64(request)
        traffic.unit[request], traffic.latency[request] = -1, inf
        unit = _pick_unit(cumulated, _uniform(law.seed, index, _UNIT_DRAW))
        if unit < 0:
            traffic.outcome[request] = NO_UNIT
            continue
        row = _pick_node(servers, law, unit, at, _uniform(law.seed, index, _TIE_DRAW))
        if row < 0:
            traffic.outcome[request] = NO_TARGET
            continue
        node = servers.rows[row]
        traffic.unit[request] = unit
        if _refuses(servers, row, law, unit, index, at):
            traffic.outcome[request] = REFUSED
            node.asked += 1
            node.refused += 1
            continue
        if node.outstanding == servers.done.shape[1]:
            return request
        node.asked += 1
        seconds = law.seconds[unit] * node.slow_factor * _service_factor(law, index)
        outcome, latency = _enqueue(servers, row, at, seconds)
        traffic.outcome[request] = outcome
        traffic.latency[request] = latency
    return len(traffic.arrival)


@_compiled
def tally(
    unit: NDArray[np.int8], outcome: NDArray[np.int8], latency: NDArray[np.float32], units: int, share: float
) -> Floats:
    """A row per unit: requests, errors, served, the latency at `share` of these (nearest rank), its mean."""
    table = np.zeros((units, 5))
    for index in range(units):
        mine = unit == index
        served = np.sort(latency[mine & (outcome == SERVED)])
        table[index, 0] = mine.sum()
        table[index, 1] = (mine & ((outcome == LOST) | (outcome == REFUSED))).sum()
        table[index, 2] = len(served)
        table[index, 3] = served[ceil(share * len(served)) - 1] if len(served) else nan
        table[index, 4] = served.astype(np.float64).mean() if len(served) else nan
    return table
