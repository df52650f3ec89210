"""How much demand a unit carries: queue-aware staffing, because big units may run hotter than small ones.

A unit of c nodes serves one request per node at a time, in nearly deterministic service time s, and
the load balancer hands each request to a node with the fewest outstanding requests (LOR). The rate
that a unit carries is the highest Poisson rate at which all but a `miss_share` of the requests wait
no longer than t = latency - s. Waits below are in services (t / s), rho is the utilisation.

One node is an M/D/1 queue, whose wait is known exactly (Erlang 1909). For c >= 2 two steps lead to the
wait:

1. The number N in an M/D/c system has P(N >= c + i) ~ C(c, c rho) tau^-i with Erlang's C and the
   decay ln tau = rho (tau - 1), tau > 1 (Tijms, A First Course in Stochastic Models, 2003, sec. 9.6).
2. LOR holds the nodes level: of N = j c + m requests (m < c) every node has j and m of them one more.
   The c - m nodes that a new request may join are those that finished a request last, so with evenly
   spread phases the rest of the service they are in is uniform on (m / c, 1) services, and the request
   waits j - 1 services longer than that. This step is our own approximation.

   The spread of the service times blurs the border, so t is taken `BORDER_SERVICES` shorter (fitted).

Simulated with LOR and 5 % spread of the service times (1 to 120 nodes, miss shares 0.005 to 0.05, waits
of 1.2 services and more) the rate is off by at most 5 % for one node, 4 % for two (9 % at 1.2 services),
3 % for four and 1 % from ten on. Limits that leave less than 1.2 services to wait: up to 10 % too low.
"""

import math
from functools import lru_cache
from typing import Final

LONG_WAIT_SERVICES: Final = 12.0  # beyond it Erlang's alternating series loses digits, the asymptote none
BORDER_SERVICES: Final = 0.03  # fitted to simulations with a spread of 5 %
EXACT_NODES: Final = 12  # up to here every entry of the table is solved, above it a ladder of sizes
LADDER_STEP: Final = 1.25  # ratio between the sizes of the ladder
NEWTON_STEPS: Final = 7  # to 1e-12 up to a utilisation of 0.9999, to 1e-6 up to 1 - 1e-10
UTILISATION_STEPS: Final = 34  # halvings: the utilisation is solved to 1e-10


def carried_rpm(nodes: int, service_seconds: float, latency_seconds: float, miss_share: float) -> float:
    """The highest demand, in requests per minute, that a unit of `nodes` answers within the latency.

    All but `miss_share` of the requests wait and are served within `latency_seconds`. Zero when one
    service alone takes longer, or when there is no node.

    Raises:
        ValueError: an argument is outside its range.
    """
    _check(nodes, service_seconds, latency_seconds, miss_share)
    if nodes == 0 or service_seconds > latency_seconds:
        return 0.0
    wait = latency_seconds / service_seconds - 1.0
    return nodes * _highest_utilisation(nodes, wait, miss_share, 0.0) * 60.0 / service_seconds


@lru_cache(maxsize=256)
def carried_table(
    service_seconds: float, latency_seconds: float, miss_share: float, nodes_max: int
) -> tuple[float, ...]:
    """`carried_rpm` of 0 to `nodes_max` nodes, by node count.

    Entries above `EXACT_NODES` are interpolated between sizes that grow by `LADDER_STEP`. The rate per
    node never falls with the number of nodes, which `planner` relies on.

    Raises:
        ValueError: an argument is outside its range.
    """
    _check(nodes_max, service_seconds, latency_seconds, miss_share)
    if service_seconds > latency_seconds:
        return (0.0,) * (nodes_max + 1)
    wait = latency_seconds / service_seconds - 1.0
    table = [0.0]
    utilisation = 0.0
    for size in _ladder(nodes_max):
        utilisation = _highest_utilisation(size, wait, miss_share, utilisation)
        _extend(table, size, size * utilisation * 60.0 / service_seconds)
    return tuple(table)


def erlang_c(servers: int, offered_load: float) -> float:
    """The share of arrivals that find all of `servers` busy in an M/M/c queue (Erlang 1917).

    `offered_load` (arrival rate times service time) is below `servers`.
    """
    blocked = 1.0
    for count in range(1, servers + 1):
        blocked = offered_load * blocked / (count + offered_load * blocked)
    idle = 1.0 - offered_load / servers
    return blocked / (idle + (1.0 - idle) * blocked)


def queue_decay(utilisation: float) -> float:
    """The decay tau > 1 with ln tau = rho (tau - 1), rho being the `utilisation`.

    Each further request in an M/D/c queue is tau times rarer (Tijms 2003, sec. 9.6). Newton's method on
    a convex function: the first step passes the root, the others descend to it.
    """
    beyond = 2.0 / utilisation - 2.0
    for _ in range(NEWTON_STEPS):
        slope = utilisation - 1.0 / (1.0 + beyond)
        beyond -= (utilisation * beyond - math.log1p(beyond)) / slope
    return 1.0 + beyond


def wait_exceeds_one_node(utilisation: float, services: float) -> float:
    """P(W > `services` service times) in an M/D/1 queue: Erlang's series (1909), exact.

    P(W <= t) = (1 - rho) sum over k <= t of (-rho (t - k))^k / k! exp(rho (t - k)). For long waits its
    exact asymptote (1 - rho) / (rho tau - 1) exp(-rho (tau - 1) t) (Tijms 2003, sec. 9.6).
    """
    if services > LONG_WAIT_SERVICES:
        tau = queue_decay(utilisation)
        start = (1.0 - utilisation) / (utilisation * tau - 1.0)
        return start * math.exp(-utilisation * (tau - 1.0) * services)
    total = 0.0
    for count in range(int(services) + 1):
        load = utilisation * (services - count)
        total += (-load) ** count / math.factorial(count) * math.exp(load)
    return 1.0 - (1.0 - utilisation) * total


def wait_exceeds(nodes: int, utilisation: float, services: float) -> float:
    """P(W > `services` service times) in a unit of `nodes` under LOR; see the module's two steps.

    With t = k + f (k whole services): every request that finds (k + 2) c in the unit waits longer; of
    those that find (k + 1) c + m the share min(1, (1 - f) / (1 - m / c)).
    """
    if nodes == 1:
        return wait_exceeds_one_node(utilisation, services)
    rarer = 1.0 / queue_decay(utilisation)
    whole = int(services)
    rest = services - whole
    certain = math.ceil(rest * nodes)
    total = rarer**certain
    probability = 1.0 - rarer
    for ahead in range(certain):
        total += probability * (1.0 - rest) * nodes / (nodes - ahead)
        probability *= rarer
    return erlang_c(nodes, nodes * utilisation) * rarer ** (nodes * whole) * total


def _highest_utilisation(nodes: int, wait: float, miss_share: float, at_least: float) -> float:
    """The highest utilisation, from `at_least` on, at which no more than `miss_share` wait longer."""
    limit = wait if nodes == 1 else max(0.0, wait - BORDER_SERVICES)
    low, high = at_least, 1.0
    for _ in range(UTILISATION_STEPS):
        middle = (low + high) / 2.0
        if wait_exceeds(nodes, middle, limit) > miss_share:
            high = middle
        else:
            low = middle
    return low


def _ladder(nodes_max: int) -> list[int]:
    """The node counts that are solved, in order; `nodes_max` is the last."""
    sizes = list(range(1, min(nodes_max, EXACT_NODES) + 1))
    while sizes and sizes[-1] < nodes_max:
        sizes.append(min(nodes_max, math.ceil(sizes[-1] * LADDER_STEP)))
    return sizes


def _extend(table: list[float], size: int, carried: float) -> None:
    """Append the entries up to `size`, on a straight line from the last one to `carried`."""
    first, start = len(table) - 1, table[-1]
    slope = (carried - start) / (size - first)
    table.extend(start + slope * (count - first) for count in range(first + 1, size))
    table.append(carried)


def _check(nodes: int, service_seconds: float, latency_seconds: float, miss_share: float) -> None:
    if nodes < 0:
        raise ValueError(f"nodes: {nodes}; must be at least 0")
    if not 0.0 < service_seconds < math.inf or not 0.0 < latency_seconds < math.inf:
        raise ValueError(
            f"service_seconds: {service_seconds:g}, latency_seconds: {latency_seconds:g}; "
            "both must be positive and finite"
        )
    if not 0.0 < miss_share < 1.0:
        raise ValueError(f"miss_share: {miss_share:g}; must be between 0 and 1")
