"""The laboratory against queueing theory and by hand."""

from math import exp, inf

import numpy as np
import pytest

from twin.mixes.central import Rules, Score, Stream
from twin.mixes.simulator import Distributor, Loss, serve

SERVICE = 0.5
EVERYTHING = Score(0, 10**9)
NO_LOSS = Loss(0, inf)


def latencies(
    distributor: Distributor,
    arrivals: list[float],
    service: list[list[float]],
    kinds: list[int],
    *,
    target: float = 10.0,
    loss: Loss = NO_LOSS,
    threshold: float = 0.0,
) -> list[float]:
    """Seconds from arrival to answer; `service` is queries × types and what is predicted too.

    Under weights small queries go to the first type and large ones to the last.
    """
    seconds = np.array(service)
    count, types = seconds.shape
    sizes = seconds[:, 0].copy()
    stream = Stream(np.array(arrivals), sizes, np.linspace(0, 0.99, count), seconds, seconds)
    rows = np.eye(types)[[0, -1]]
    rules = Rules(target, np.ones(types), np.zeros(types), threshold, rows)
    latency = np.zeros(count)
    serve(int(distributor), np.array(kinds), stream, rules, EVERYTHING, loss, latency)
    return latency.tolist()


def mean_wait(distributor: Distributor, servers: int, load: float, count: int = 300_000) -> float:
    """The mean seconds of waiting in front of equal instances, each its own type, with constant service."""
    gaps = np.random.default_rng(5).exponential(SERVICE / (servers * load), count)
    service = np.full((count, servers), SERVICE)
    choice = np.random.default_rng(6).random(count)
    stream = Stream(np.cumsum(gaps), np.ones(count), choice, service, service)
    rules = Rules(1e9, np.ones(servers), np.zeros(servers), 0.0, np.ones((2, servers)))
    latency = np.zeros(count)
    serve(int(distributor), np.arange(servers), stream, rules, EVERYTHING, NO_LOSS, latency)
    return float(latency.mean()) - SERVICE


@pytest.mark.parametrize(
    "distributor", [one for one in Distributor if one not in {Distributor.THRESHOLD, Distributor.KAIROS}]
)
@pytest.mark.parametrize("load", [0.3, 0.7])
def test_one_instance_waits_as_m_d_1(distributor: Distributor, load: float) -> None:
    """Pollaczek-Khinchine: the mean wait is ρ·s / (2·(1 - ρ)), whoever distributes; within 3 %."""
    theory = load * SERVICE / (2 * (1 - load))
    assert mean_wait(distributor, 1, load) == pytest.approx(theory, rel=0.03)


def test_weights_wait_as_separate_queues() -> None:
    """A Poisson process thinned at random stays one: each of four instances is an M/D/1 queue; within 4 %."""
    theory = 0.6 * SERVICE / (2 * (1 - 0.6))
    assert mean_wait(Distributor.WEIGHTS, 4, 0.6) == pytest.approx(theory, rel=0.04)


def test_one_queue_waits_less_than_a_queue_each() -> None:
    """First come, first served < least outstanding < weights."""
    central, least, drawn = (
        mean_wait(one, 4, 0.8)
        for one in (Distributor.FIRST_COME, Distributor.LEAST_OUTSTANDING, Distributor.WEIGHTS)
    )
    assert central < least < drawn


def test_weights_choose_the_type_and_the_shortest_queue_the_instance() -> None:
    """Three small queries: the second type stays idle while both instances of the first one have some."""
    found = latencies(Distributor.WEIGHTS, [0.0] * 3, [[1.0, 1.0]] * 3, [0, 1, 0], threshold=1.5)
    assert found == pytest.approx([1.0, 1.0, 2.0])


def test_large_queries_have_weights_of_their_own() -> None:
    """Sizes are the first type's seconds here: above 1.5 is large."""
    found = latencies(Distributor.WEIGHTS, [0.0, 0.0], [[1.0, 9.0], [2.0, 0.5]], [0, 1], threshold=1.5)
    assert found == pytest.approx([1.0, 0.5])


def test_first_come_takes_the_base_first() -> None:
    """The idle instance that stands first, here the slow one."""
    found = latencies(Distributor.FIRST_COME, [0.0, 0.1], [[3.0, 1.0]] * 2, [0, 1])
    assert found == pytest.approx([3.0, 1.0])


def test_large_queries_wait_for_the_base_under_a_threshold() -> None:
    """Sizes are the base's seconds here: 2.0 is large, 1.0 is small; each waits for its side."""
    found = latencies(
        Distributor.THRESHOLD, [0.0, 0.0, 0.0], [[2.0, 9.0], [2.0, 9.0], [1.0, 0.5]], [0, 1], threshold=1.5
    )
    assert found == pytest.approx([2.0, 4.0, 0.5])


def test_clockwork_refuses_what_it_predicts_to_be_late() -> None:
    """The third query would end 3 s after it came, later than 2.5 s."""
    found = latencies(Distributor.CLOCKWORK, [0.0, 0.0, 0.0], [[1.0]] * 3, [0], target=2.5)
    assert found == [1.0, 2.0, inf]


def test_clockwork_chooses_the_earliest_completion() -> None:
    """Behind one query on the fast type is earlier than at once on the slow one."""
    found = latencies(Distributor.CLOCKWORK, [0.0, 0.0], [[1.0, 5.0]] * 2, [0, 1])
    assert found == pytest.approx([1.0, 2.0])


def test_ours_refuses_and_the_refused_has_no_answer() -> None:
    """Of three queries for one instance the last cannot be in time once the others are placed before it."""
    found = latencies(Distributor.LEAST_LAXITY, [0.0, 0.0, 0.0], [[1.0]] * 3, [0], target=2.5)
    assert found == [1.0, 2.0, inf]


@pytest.mark.parametrize(
    "distributor", [Distributor.FIRST_COME, Distributor.KAIROS, Distributor.LEAST_LAXITY]
)
def test_a_lost_instance_gives_its_query_back(distributor: Distributor) -> None:
    """The query begins anew on what is left: lost at 0.5 s, free at 1 s, done at 2 s."""
    found = latencies(distributor, [0.0, 0.0], [[1.0]] * 2, [0, 0], loss=Loss(1, 0.5))
    assert found == pytest.approx([1.0, 2.0])


def test_queries_that_nothing_serves_are_missed_and_the_run_ends() -> None:
    """Large queries without a base count as missed."""
    stream = Stream(np.array([0.0]), np.array([5.0]), np.zeros(1), np.ones((1, 2)), np.ones((1, 2)))
    rules = Rules(10.0, np.ones(2), np.zeros(2), 1.0, np.ones((2, 2)))
    missed = serve(int(Distributor.THRESHOLD), np.array([1]), stream, rules, EVERYTHING, NO_LOSS, np.zeros(1))
    assert missed == 1


def test_a_run_ends_when_too_many_have_missed() -> None:
    """More than the allowed number is not counted to the end."""
    count = 1000
    stream = Stream(
        np.zeros(count), np.ones(count), np.zeros(count), np.ones((count, 1)), np.ones((count, 1))
    )
    rules = Rules(1.5, np.ones(1), np.zeros(1), 0.0, np.ones((2, 1)))
    latency = np.zeros(count)
    missed = serve(0, np.array([0]), stream, rules, Score(0, 10), NO_LOSS, latency)
    assert missed == 11
    assert (latency > 0).sum() == 12


def test_what_came_during_the_warm_up_is_not_scored() -> None:
    """Only queries from the first scored one on can miss."""
    stream = Stream(np.zeros(4), np.ones(4), np.zeros(4), np.ones((4, 1)), np.ones((4, 1)))
    rules = Rules(0.5, np.ones(1), np.zeros(1), 0.0, np.ones((2, 1)))
    assert serve(0, np.array([0]), stream, rules, Score(3, 100), NO_LOSS, np.zeros(4)) == 1


def test_the_tail_of_m_m_1_is_exponential() -> None:
    """P(latency > t) = exp(-(1 - ρ)·t / s) with exponential service; at 3 s within 4 %."""
    count, load = 400_000, 0.6
    random = np.random.default_rng(9)
    arrivals = np.cumsum(random.exponential(SERVICE / load, count))
    service = random.exponential(SERVICE, (count, 1))
    stream = Stream(arrivals, np.ones(count), np.zeros(count), service, service)
    rules = Rules(3.0, np.ones(1), np.zeros(1), 0.0, np.ones((2, 1)))
    missed = serve(0, np.array([0]), stream, rules, EVERYTHING, NO_LOSS, np.zeros(count))
    assert missed / count == pytest.approx(exp(-(1 - load) * 3.0 / SERVICE), rel=0.04)
