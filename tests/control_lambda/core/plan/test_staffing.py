"""Staffing against textbook values and against a simulation of the load balancer's discipline."""

import math
from collections.abc import Callable
from itertools import pairwise

import numba
import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from control_lambda.core.plan.staffing import (
    carried_rpm,
    carried_table,
    erlang_c,
    queue_decay,
    wait_exceeds,
    wait_exceeds_one_node,
)

REQUESTS = 600_000
WARM_UP = 60_000
SPREAD = 0.05  # coefficient of variation of the service time


def _waits(rng: np.random.Generator, nodes: int, utilisation: float) -> npt.NDArray[np.float64]:
    """Waits, in services, under least outstanding requests with ties broken at random."""
    sigma = math.sqrt(math.log(1.0 + SPREAD**2))
    leaving = np.zeros((nodes, 64))  # per node, when the requests it holds leave: a ring
    heads = np.zeros(nodes, np.int64)
    counts = np.zeros(nodes, np.int64)
    free_at = np.zeros(nodes)
    waits = np.empty(REQUESTS)
    now = 0.0
    for request in range(REQUESTS):
        now += rng.exponential(1.0 / (nodes * utilisation))
        chosen, ties = 0, 0
        for node in range(nodes):
            while counts[node] and leaving[node, heads[node]] <= now:
                heads[node] = (heads[node] + 1) % 64
                counts[node] -= 1
            if ties == 0 or counts[node] < counts[chosen]:
                chosen, ties = node, 1
            elif counts[node] == counts[chosen]:
                ties += 1
                if rng.random() * ties < 1.0:
                    chosen = node
        start = max(now, free_at[chosen])
        waits[request] = start - now
        free_at[chosen] = start + rng.lognormal(-sigma * sigma / 2.0, sigma)
        leaving[chosen, (heads[chosen] + counts[chosen]) % 64] = free_at[chosen]
        counts[chosen] += 1
    return waits


compiled_waits: Callable[..., npt.NDArray[np.float64]] = numba.njit()(_waits)


def simulated_miss_share(nodes: int, rpm: float, service: float, latency: float) -> float:
    """The share of simulated requests that wait longer than the latency leaves them."""
    utilisation = rpm * service / 60.0 / nodes
    waits = compiled_waits(np.random.default_rng(7), nodes, utilisation)[WARM_UP:]
    return float(np.mean(waits > latency / service - 1.0))


@pytest.mark.parametrize("nodes", [1, 2, 4, 10, 40])
@pytest.mark.parametrize("service", [0.46, 0.50, 0.60, 0.84, 0.85])
def test_a_unit_carries_what_the_simulated_load_balancer_carries(nodes: int, service: float) -> None:
    """For the paper's units at 2 s: a little less keeps the promise, a little more breaks it."""
    error = 0.05 if nodes <= 2 else 0.02
    rpm = carried_rpm(nodes, service, 2.0, 0.005)
    assert simulated_miss_share(nodes, (1.0 - error) * rpm, service, 2.0) <= 0.005
    if (1.0 + error) * rpm * service / 60.0 < 0.98 * nodes:
        assert simulated_miss_share(nodes, (1.0 + error) * rpm, service, 2.0) > 0.005


@pytest.mark.parametrize(
    ("servers", "load", "expected"),
    [(1, 0.5, 0.5), (2, 1.0, 1.0 / 3.0), (10, 8.0, 0.409_180)],
)
def test_erlang_c_agrees_with_its_closed_forms(servers: int, load: float, expected: float) -> None:
    """C(1, a) = a and C(2, 1) = 1/3; C(10, 8) summed from the definition."""
    terms = [load**k / math.factorial(k) for k in range(servers)]
    last = load**servers / math.factorial(servers) * servers / (servers - load)
    assert last / (sum(terms) + last) == pytest.approx(expected, rel=1e-5)
    assert erlang_c(servers, load) == pytest.approx(expected, rel=1e-5)


@given(st.floats(1e-3, 0.999))
def test_the_decay_solves_its_equation(utilisation: float) -> None:
    """The root ln tau = rho (tau - 1) above 1."""
    tau = queue_decay(utilisation)
    assert tau > 1.0
    assert math.log(tau) == pytest.approx(utilisation * (tau - 1.0), rel=1e-9)


@pytest.mark.parametrize("utilisation", [0.3, 0.6, 0.9])
def test_one_node_waits_at_all_while_it_is_busy(utilisation: float) -> None:
    """In M/D/1 P(W > 0) is the utilisation, and the mean wait rho / (2 (1 - rho)) services."""
    assert wait_exceeds_one_node(utilisation, 0.0) == pytest.approx(utilisation)
    grid = np.arange(0.0, 200.0, 0.01)
    mean = sum(wait_exceeds_one_node(utilisation, float(wait)) for wait in grid) * 0.01
    assert mean == pytest.approx(utilisation / (2.0 * (1.0 - utilisation)), rel=0.02)


@pytest.mark.parametrize("utilisation", [0.2, 0.5, 0.8, 0.95])
def test_the_asymptote_of_one_node_joins_its_series(utilisation: float) -> None:
    """Where the series stops the asymptote goes on."""
    assert wait_exceeds_one_node(utilisation, 12.000_001) == pytest.approx(
        wait_exceeds_one_node(utilisation, 11.999_999), rel=1e-3, abs=1e-12
    )


@given(st.integers(2, 60), st.floats(0.05, 0.99), st.floats(0.0, 8.0), st.floats(0.0, 2.0))
def test_longer_waits_are_rarer(nodes: int, utilisation: float, wait: float, more: float) -> None:
    """P(W > t) never rises with t."""
    assert wait_exceeds(nodes, utilisation, wait + more) <= wait_exceeds(nodes, utilisation, wait) * (
        1 + 1e-9
    )


@settings(deadline=None, max_examples=40)
@given(st.floats(0.05, 2.5), st.floats(1e-4, 0.2), st.integers(0, 60))
def test_each_node_more_carries_no_less_per_node(service: float, miss_share: float, nodes: int) -> None:
    """The planner relies on it: the rate per node never falls, and stays below one node's saturation."""
    table = carried_table(service, 2.0, miss_share, nodes)
    rates = [rpm / size for size, rpm in enumerate(table[1:], 1)]
    assert table[0] == 0.0
    assert len(table) == nodes + 1
    assert all(bigger >= rate * (1.0 - 1e-9) for rate, bigger in pairwise(rates))
    assert all(0.0 <= rate <= 60.0 / service for rate in rates)


@pytest.mark.parametrize("service", [0.46, 0.50, 0.60, 0.84, 0.85])
def test_the_table_holds_what_each_size_carries(service: float) -> None:
    """Interpolated entries are within 0.05 % of the solved ones for the paper's units."""
    table = carried_table(service, 2.0, 0.005, 450)
    for nodes in (1, 2, 7, 13, 21, 34, 77, 150, 333, 449, 450):
        assert table[nodes] == pytest.approx(carried_rpm(nodes, service, 2.0, 0.005), rel=5e-4)


def test_a_service_longer_than_the_latency_carries_nothing() -> None:
    """No number of nodes helps."""
    assert carried_rpm(100, 2.1, 2.0, 0.005) == 0.0
    assert carried_table(2.1, 2.0, 0.005, 3) == (0.0, 0.0, 0.0, 0.0)


def test_no_node_carries_nothing() -> None:
    """The first entry of every table."""
    assert carried_rpm(0, 0.5, 2.0, 0.005) == 0.0


@pytest.mark.parametrize(
    ("nodes", "service", "latency", "miss_share", "word"),
    [
        (-1, 0.5, 2.0, 0.005, "nodes"),
        (1, 0.0, 2.0, 0.005, "service_seconds"),
        (1, 0.5, math.inf, 0.005, "latency_seconds"),
        (1, 0.5, 2.0, 0.0, "miss_share"),
        (1, 0.5, 2.0, 1.0, "miss_share"),
    ],
)
def test_arguments_out_of_range_are_refused_by_name(
    nodes: int, service: float, latency: float, miss_share: float, word: str
) -> None:
    """One line that names the argument and what would be valid."""
    with pytest.raises(ValueError, match=word):
        carried_rpm(nodes, service, latency, miss_share)
