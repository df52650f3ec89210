"""The compiled distributors against the router's own."""

from collections.abc import Callable

import numpy as np
import pytest
from scipy.optimize import linear_sum_assignment

from containers.router.matching import (
    DEVIATIONS,
    Decision,
    Instance,
    KairosMatching,
    LeastLaxity,
    Query,
    heterogeneity,
    price_of_time,
)
from containers.router.predictors import LatencyModel
from twin.mixes import central
from twin.mixes.assignment import assign
from twin.mixes.central import REFUSE, WAIT, Pool, Rules, Stream

MODELS = {
    "base": LatencyModel(0.0007, 0.0000019, 0.05),
    "middle": LatencyModel(0.0003, 0.0000055, 0.03),
    "small": LatencyModel(0.0006, 0.0000118, 0.25),
}
# Times are multiples of a power of two, so that no sum of them is rounded and equal costs are equal.
TICK = 2.0**-30
TARGET, TYPICAL, LARGEST = 5 * 2.0**-10, 250.0, 1000.0
Told = tuple[set[tuple[int, int]], set[int]]


class Case:
    """Random waiting queries and a random pool, as the router and as the laboratory hold them; now is 0."""

    def __init__(self, seed: int) -> None:
        random = np.random.default_rng(seed)
        count, instances = int(random.integers(1, 40)), int(random.integers(1, 15))
        arrival = np.float64(TICK) * np.sort(random.integers(-int(1.2 * TARGET / TICK), 0, count))
        size = random.uniform(1, LARGEST, count)
        kind = random.integers(0, len(MODELS), instances)
        idle = random.random(instances) < random.choice([0.1, 0.5, 1.0])
        free_at = random.uniform(-0.001, TARGET, instances)
        predicted = np.array([one.intercept + size * one.slope for one in MODELS.values()]).T.copy()
        self.waiting = [Query(one, at, at + TARGET) for one, at in zip(size, arrival, strict=True)]
        self.instances = [
            Instance(list(MODELS)[place], bool(now), at)
            for place, now, at in zip(kind, idle, free_at, strict=True)
        ]
        self.stream = Stream(arrival, size, np.zeros(count), predicted, predicted)
        self.pool = Pool(kind, idle, free_at, np.zeros(instances), np.zeros(instances, np.int64))

    def compiled(self, distributor: Callable[..., None], price: list[float]) -> Told:
        """What the compiled distributor decides."""
        allowance = np.array([DEVIATIONS * model.spread for model in MODELS.values()])
        plan = np.full(len(self.waiting), WAIT)
        rules = Rules(TARGET, np.array(price), allowance, 0.0, np.ones((2, len(price))))
        distributor(0.0, np.arange(len(plan)), self.stream, rules, self.pool, plan)
        pairs = {(query, int(place)) for query, place in enumerate(plan) if place >= 0}
        return pairs, set(np.flatnonzero(plan == REFUSE).tolist())


def told(decision: Decision) -> Told:
    """The router's decision in the same form."""
    return {(one.query, one.instance) for one in decision.dispatches}, set(decision.sheds)


@pytest.mark.parametrize("seed", range(200))
def test_compiled_least_laxity_decides_as_the_router_does(seed: int) -> None:
    """The same dispatches and the same refusals, on random queues and pools."""
    case = Case(seed)
    counts = np.maximum(np.bincount(case.pool.kind, minlength=len(MODELS)), 1).tolist()
    price = [price_of_time(one, TYPICAL, n) for one, n in zip(MODELS.values(), counts, strict=True)]
    expected = LeastLaxity(TYPICAL).decide(0.0, case.waiting, case.instances, MODELS)
    assert case.compiled(central.least_laxity, price) == told(expected)


@pytest.mark.parametrize("seed", range(200))
def test_compiled_matching_decides_as_the_router_does(seed: int) -> None:
    """The same dispatches, though penalties and equal instances make many assignments optimal."""
    case = Case(seed)
    price = [heterogeneity(one, MODELS["base"], LARGEST) for one in MODELS.values()]
    expected = KairosMatching("base", LARGEST).decide(0.0, case.waiting, case.instances, MODELS)
    assert case.compiled(central.matching, price) == told(expected)


@pytest.mark.parametrize("seed", range(100))
def test_the_compiled_assignment_is_scipys(seed: int) -> None:
    """The same one of many optimal ones, on random matrices with equal entries."""
    random = np.random.default_rng(seed)
    rows = int(random.integers(1, 20))
    columns = rows + int(random.integers(0, 20))
    costs = random.integers(0, 8, (rows, columns)).astype(np.float64)
    assert assign(costs).tolist() == linear_sum_assignment(costs)[1].tolist()
