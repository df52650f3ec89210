import heapq
import math
import random
from itertools import accumulate

import pytest

from control_lambda.core.mix.estimate import Estimator
from control_lambda.core.mix.model import InstanceType, Mix, Problem, Sizes
from tests.control_lambda.core.mix.examples import base_and_cheap, linear, random_problem


def one_type(spread: float, percentile: float = 50.0) -> Problem:
    """One type, one size of 1 s, to be answered within 3 s."""
    return Problem(Sizes((1.0,), (1.0,)), (InstanceType("only", 1.0, (1.0,), spread),), 3.0, percentile)


def simulated_late_share(problem: Problem, mix: Mix, rpm: float, queries: int, seed: int) -> float:
    """What a distributor does that knows service times: the chain's first instance that is in time.

    Types are tried in the order of how many sizes they serve; a query that none answers in time is late and
    dropped. Poisson arrivals; service times have no spread.
    """
    source = random.Random(seed)
    order = sorted(
        (index for index in range(len(mix)) if mix[index]),
        key=lambda index: (index in problem.bases, problem.served_in_time(index)),
    )
    free = {index: [0.0] * mix[index] for index in order}
    cumulated = list(accumulate(problem.sizes.shares))
    now, late = 0.0, 0
    for _ in range(queries):
        now += source.expovariate(rpm / 60)
        drawn = source.random()
        size = next((place for place, share in enumerate(cumulated) if drawn <= share), len(cumulated) - 1)
        for index in order:
            begin = max(now, free[index][0])
            done = begin + problem.types[index].seconds[size]
            if done - now <= problem.latency_seconds:
                heapq.heapreplace(free[index], done)
                break
        else:
            late += 1
    return late / queries


@pytest.mark.parametrize("load", [0.3, 0.8, 1.0, 1.4])
def test_one_memoryless_instance_loses_what_theory_says(load: float) -> None:
    """M/M/1 with deadline t on the wait: (1 - rho) P / (1 - rho P) with P = rho exp(-(1 - rho) t)."""
    estimator = Estimator(one_type(spread=1.0))
    waits = load * math.exp(-(1 - load) * 2.0)
    expected = (1 - load) * waits / (1 - load * waits) if load != 1 else 1 / (1 + 1 + 2.0)
    assert estimator.late_share((1,), 60 * load) == pytest.approx(expected, rel=1e-4)


def test_overload_loses_at_least_what_cannot_be_served() -> None:
    """At rho > 1 a share of 1 - 1/rho finds no service, however long it may wait."""
    for load in (1.1, 2.0, 10.0):
        assert Estimator(one_type(spread=0.1)).late_share((4,), 60 * 4 * load) >= 1 - 1 / load - 1e-9


def test_the_throughput_is_where_the_promised_share_is_late() -> None:
    """A little more is too much, a little less is not."""
    problem = base_and_cheap()
    estimator = Estimator(problem)
    rpm = estimator.rpm((2, 5))
    assert estimator.late_share((2, 5), 1.002 * rpm) > problem.miss_share
    assert estimator.late_share((2, 5), 0.998 * rpm) < problem.miss_share


def test_without_a_base_nothing_is_promised() -> None:
    """Large queries would all be late."""
    assert Estimator(base_and_cheap()).rpm((0, 10)) == 0


def test_one_base_instance_is_worth_less_than_half_of_two() -> None:
    """Where one instance takes all large queries they wait for each other: pooling pays."""
    estimator = Estimator(base_and_cheap())
    assert estimator.rpm((2, 0)) > 2.2 * estimator.rpm((1, 0))


def test_a_heavy_tail_costs_throughput() -> None:
    """A type that is irregular is trusted with fewer sizes and less waiting."""
    base = linear("base", 1.0, 0.05, 0.01)
    regular = Problem(base_and_cheap().sizes, (base, linear("cheap", 0.3, 0.05, 0.03, spread=0.02)), 1.0)
    irregular = Problem(base_and_cheap().sizes, (base, linear("cheap", 0.3, 0.05, 0.03, spread=0.25)), 1.0)
    assert Estimator(irregular).rpm((1, 4)) < 0.9 * Estimator(regular).rpm((1, 4))


def test_a_base_that_barely_serves_the_largest_size_is_late_with_part_of_it() -> None:
    """Its mean is in time, its tail is not: with a spread of 5 % a mean of 0.97 s passes 1 s in 27 %."""
    sizes = Sizes((10.0, 20.0), (0.95, 0.05))
    problem = Problem(sizes, (InstanceType("base", 1.0, (0.1, 0.97), 0.05),), 1.0)
    assert Estimator(problem).late_share((9,), 0.001) == pytest.approx(0.05 * 0.268, rel=0.01)
    assert Estimator(problem).rpm((9,)) < 0.01


def test_the_stations_account_for_every_query() -> None:
    """Each station answers what it is offered less what it passes on; the last one's rest is late."""
    estimator = Estimator(base_and_cheap())
    stations = estimator.stations((2, 5), 900.0)
    assert [station.index for station in stations] == [1, 0]
    answered = sum(station.offered_share - station.passed_share for station in stations)
    assert answered + estimator.late_share((2, 5), 900.0) == pytest.approx(1.0)
    by_size = estimator.served((2, 5), 900.0)
    assert sum(map(sum, by_size.values())) == pytest.approx(answered)


def test_groups_begin_where_they_are_asked_to() -> None:
    """So that the shares of a query class can be told exactly."""
    problem = random_problem(3, 2)
    assert 170.0 in Estimator(problem, starts=(180.0,)).largest


@pytest.mark.parametrize(("seed", "mix"), [(1, (2, 6)), (2, (1, 4)), (3, (3, 9)), (4, (1, 9)), (5, (4, 2))])
def test_a_simulated_distributor_reaches_the_estimate(seed: int, mix: Mix) -> None:
    """At 80 % of the estimate it keeps the promise, at 140 % it does not."""
    problem = base_and_cheap()
    rpm = Estimator(problem).rpm(mix)
    assert simulated_late_share(problem, mix, 0.8 * rpm, 20_000, seed) <= problem.miss_share
    assert simulated_late_share(problem, mix, 1.4 * rpm, 20_000, seed) > problem.miss_share
