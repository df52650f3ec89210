"""The plant against queueing theory."""

from math import factorial, inf
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from control_lambda.core.fleet import Fleet, parse_fleet
from twin.world.nodes import Nodes
from twin.world.plant import Plant

SERVICE = 0.5
POOL = "fast-spot"
Floats = NDArray[np.float64]
FLEET: Fleet = parse_fleet(
    {
        "fleet": "small",
        "model": "any",
        "objective": {"latency_seconds": 2.0},
        "budget_usd_per_hour": 10,
        "units": [
            {
                "name": "fast",
                "instance_type": "g5.xlarge",
                "accelerator": "nvidia",
                "framework": "eager",
                "profile": {
                    "service_seconds": SERVICE,
                    "throughput_rpm": 100,
                    "latency_seconds": 0.6,
                    "start_seconds": 100,
                },
                "pools": [{"market": "spot", "nodes": {"max": 100}, "price_usd_per_hour": 0.4}],
            }
        ],
    }
)


def poisson(rate: float, count: int, seed: int = 7) -> Floats:
    """Arrival seconds of a Poisson process with `rate` requests per second."""
    return np.cumsum(np.random.default_rng(seed).exponential(1 / rate, count))


def mean_wait(servers: int, load: float, count: int = 1_500_000, **options: Any) -> float:
    """The mean seconds that a request waits on `servers` nodes of the fast unit at that utilisation."""
    nodes = Nodes(FLEET, 0.0)
    nodes.start(POOL, servers, 0.0)
    plant = Plant(FLEET, nodes, 1, 0.0, **options)
    arrivals = poisson(load * servers / SERVICE, count)
    served = plant.serve(arrivals, inf, {"fast": 1})
    assert not served.failed.any()
    return float(served.latency.mean(dtype=np.float64)) - SERVICE


def erlang_c(servers: int, load: float) -> float:
    """The probability that a request waits in M/M/c (Erlang 1917), `load` per server."""
    offered = servers * load
    waiting = offered**servers / factorial(servers) / (1 - load)
    return waiting / (sum(offered**k / factorial(k) for k in range(servers)) + waiting)


@pytest.mark.parametrize("load", [0.3, 0.6, 0.8])
def test_one_node_with_constant_service_waits_as_m_d_1(load: float) -> None:
    """Pollaczek-Khinchine: the mean wait is ρ·s / (2·(1 - ρ)); within 3 %."""
    theory = load * SERVICE / (2 * (1 - load))
    assert mean_wait(1, load, variation=0.0) == pytest.approx(theory, rel=0.03)


def test_one_node_with_lognormal_service_waits_as_m_g_1() -> None:
    """Pollaczek-Khinchine: the mean wait is ρ·s·(1 + cv²) / (2·(1 - ρ)); within 3 %."""
    theory = 0.6 * SERVICE * (1 + 0.5**2) / (2 * (1 - 0.6))
    assert mean_wait(1, 0.6, variation=0.5) == pytest.approx(theory, rel=0.03)


@pytest.mark.parametrize("load", [0.3, 0.6, 0.8])
def test_one_node_with_exponential_service_waits_as_m_m_1(load: float) -> None:
    """The mean wait is ρ·s / (1 - ρ); within 3 %."""
    assert mean_wait(1, load, service="exponential") == pytest.approx(load * SERVICE / (1 - load), rel=0.03)


@pytest.mark.parametrize(("servers", "load"), [(2, 0.7), (5, 0.8), (20, 0.9)])
def test_nodes_behind_one_queue_wait_as_m_m_c(servers: int, load: float) -> None:
    """Erlang C: the mean wait is C(c, ρ)·s / (c·(1 - ρ)); within 3 %."""
    theory = erlang_c(servers, load) * SERVICE / (servers * (1 - load))
    measured = mean_wait(servers, load, service="exponential", join="central")
    assert measured == pytest.approx(theory, rel=0.03)


@pytest.mark.parametrize(("servers", "load"), [(2, 0.7), (5, 0.8)])
def test_least_outstanding_requests_waits_between_one_queue_and_random_choice(
    servers: int, load: float
) -> None:
    """Joining the shortest queue is worse than M/M/c and better than c separate M/M/1."""
    central = erlang_c(servers, load) * SERVICE / (servers * (1 - load))
    separate = load * SERVICE / (1 - load)
    assert 1.05 * central < mean_wait(servers, load, service="exponential") < 0.7 * separate


def shortest_of_two_wait(load: float, longest: int = 30) -> float:
    """The mean wait, in service times, in the shorter of two exponential queues at that utilisation.

    Solves the Markov chain of both queue lengths, cut off at `longest`; Little's law gives the wait.
    """
    rate = np.zeros((longest, longest, longest, longest))
    for i, j in np.ndindex(longest, longest):
        for k, m, share in ((i + 1, j, (i < j) + (i == j) / 2), (i, j + 1, (j < i) + (i == j) / 2)):
            if k < longest and m < longest:
                rate[i, j, k, m] += 2 * load * share
        rate[i, j, max(i - 1, 0), j] += i > 0
        rate[i, j, i, max(j - 1, 0)] += j > 0
    states = longest**2
    balance = rate.reshape(states, states).T
    balance -= np.diag(balance.sum(axis=0))
    balance[0] = 1.0
    stationary = np.linalg.solve(balance, np.eye(states)[0]).reshape(longest, longest)
    return float(2 * stationary.sum(axis=1) @ np.arange(longest)) / (2 * load) - 1


@pytest.mark.parametrize("load", [0.5, 0.8])
def test_two_nodes_wait_as_the_shorter_of_two_queues(load: float) -> None:
    """Least outstanding requests is join-the-shortest-queue: its exact solution, within 3 %."""
    theory = shortest_of_two_wait(load) * SERVICE
    assert mean_wait(2, load, service="exponential") == pytest.approx(theory, rel=0.03)
