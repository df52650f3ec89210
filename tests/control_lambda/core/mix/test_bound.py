import math

import pytest

from control_lambda.core.mix.bound import PaperBound, bound_rpm, linear_bounds, rank
from control_lambda.core.mix.estimate import Estimator
from control_lambda.core.mix.model import MixError, mixes_within
from tests.control_lambda.core.mix.examples import base_and_cheap, random_problem

# By hand for base_and_cheap: base seconds 0.15, 0.25, 0.45; cheap seconds 0.35, 0.65, 1.25 (too late).
BASE_QPS = 1 / (0.5 * 0.15 + 0.3 * 0.25 + 0.2 * 0.45)
CHEAP_QPS = 0.8 / (0.5 * 0.35 + 0.3 * 0.65)
SMALL_TIME = (0.5 * 0.15 + 0.3 * 0.25) / (0.5 * 0.15 + 0.3 * 0.25 + 0.2 * 0.45)


def test_bases_alone_carry_what_they_serve() -> None:
    """No auxiliary: UB = n_b Q_b."""
    assert PaperBound(base_and_cheap()).rpm((3, 0)) == pytest.approx(60 * 3 * BASE_QPS)


def test_spare_bases_help_full_auxiliaries() -> None:
    """G < n_b Q_L: UB = A / f + n_b Q_b (1 - G / (n_b Q_L))."""
    small = 1 * CHEAP_QPS
    large = small / 0.8 - small
    large_qps = BASE_QPS * 0.2 / (1 - SMALL_TIME)
    expected = small / 0.8 + BASE_QPS * (1 - large / large_qps)
    assert PaperBound(base_and_cheap()).rpm((1, 1)) == pytest.approx(60 * expected)


def test_bases_full_of_large_queries_bound_the_rest() -> None:
    """G >= n_b Q_L: UB = n_b Q_L / (1 - f), whatever is added to the auxiliaries."""
    bound = PaperBound(base_and_cheap())
    expected = BASE_QPS * 0.2 / (1 - SMALL_TIME) / 0.2
    assert bound.rpm((1, 40)) == bound.rpm((1, 80)) == pytest.approx(60 * expected)


def test_without_a_base_nothing_is_carried() -> None:
    """Every mix needs a base instance."""
    assert PaperBound(base_and_cheap()).rpm((0, 9)) == 0


def test_an_auxiliary_that_serves_every_size_adds_all_it_does() -> None:
    """The bound is UB = A + n_b Q_b: no size is left to the base alone."""
    problem = base_and_cheap(latency_seconds=1.3)
    cheap_qps = 1 / (0.5 * 0.35 + 0.3 * 0.65 + 0.2 * 1.25)
    assert PaperBound(problem).rpm((1, 2)) == pytest.approx(60 * (BASE_QPS + 2 * cheap_qps))


def test_the_ranking_holds_every_mix_highest_bound_first() -> None:
    """The paper's choice is the first."""
    problem = base_and_cheap()
    ranked = rank(problem, 4.0)
    assert sorted(item.mix for item in ranked) == sorted(mixes_within(problem, 4.0))
    bounds = [item.bound_rpm for item in ranked]
    assert bounds == sorted(bounds, reverse=True)


def test_a_budget_without_a_base_cannot_be_ranked() -> None:
    """The refusal is the search's own."""
    with pytest.raises(MixError, match="budget"):
        rank(base_and_cheap(), 0.5)


def test_a_linear_bound_prices_all_money_alike_at_best() -> None:
    """One USD of any type adds no more than one USD spent where every size is cheapest; 1 % may be late."""
    problem = base_and_cheap()
    cheapest = 0.5 * min(0.15, 0.3 * 0.35) + 0.3 * min(0.25, 0.3 * 0.65) + (0.2 - 0.01) * 0.45
    densities = [
        value / price for value, price in zip(linear_bounds(problem)[0], problem.prices, strict=True)
    ]
    assert max(densities) == pytest.approx(60 / cheapest)


@pytest.mark.parametrize("seed", range(12))
def test_no_estimate_exceeds_the_linear_bounds(seed: int) -> None:
    """Otherwise the search would cut away the best mix."""
    problem = random_problem(seed, 4)
    estimator = Estimator(problem)
    bounds = linear_bounds(problem)
    mixes = list(mixes_within(problem, problem.least_base_usd() + 1.0))[:200]
    for mix in mixes:
        late_just_below = estimator.late_share(mix, 1.001 * bound_rpm(bounds, mix))
        assert late_just_below > problem.miss_share
    assert not any(math.isnan(estimator.rpm(mix)) for mix in mixes)
