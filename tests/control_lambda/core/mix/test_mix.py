import pytest

from control_lambda.core.mix.estimate import Estimator
from control_lambda.core.mix.mix import best_mix, best_mixes, cheapest_mix, homogeneous
from control_lambda.core.mix.model import MixError, Problem, mixes_within
from control_lambda.core.mix.search import undominated
from tests.control_lambda.core.mix.examples import SIZES, base_and_cheap, linear, random_problem

# "One more instance never hurts" is taken for granted; the estimate breaks it by a thousandth now and then.
NEVER_HURTS = 0.005


@pytest.mark.parametrize("seed", range(15))
def test_the_search_finds_what_trying_every_mix_finds(seed: int) -> None:
    """On small catalogues the search is exact and says so."""
    problem = random_problem(seed, 2 + seed % 3)
    budget = problem.least_base_usd() + 0.1 * seed
    estimator = Estimator(problem)
    best = max(estimator.rpm(mix) for mix in mixes_within(problem, budget))
    found = best_mix(problem, budget)
    assert found.throughput_rpm >= (1 - NEVER_HURTS) * best
    assert found.gap == 0
    assert found.cost_usd_per_hour <= budget + 1e-9


@pytest.mark.parametrize("seed", range(15))
def test_the_cheapest_mix_is_the_cheapest_of_all_that_carry_the_demand(seed: int) -> None:
    """On small catalogues against every mix within a budget that is known to suffice."""
    problem = random_problem(seed, 2 + seed % 3)
    budget = problem.least_base_usd() + 0.1 * seed
    demand = 0.7 * best_mix(problem, budget).throughput_rpm
    estimator = Estimator(problem)
    least = min(problem.cost(mix) for mix in mixes_within(problem, budget) if estimator.rpm(mix) >= demand)
    found = cheapest_mix(problem, demand)
    assert found.cost_usd_per_hour == pytest.approx(least)
    assert estimator.late_share(found.mix, demand) <= problem.miss_share


def test_a_cheap_type_for_small_queries_beats_bases_alone() -> None:
    """The point of mixing."""
    problem = base_and_cheap()
    mixed, alone = best_mix(problem, 3.0), homogeneous(problem, 3.0)
    assert mixed.throughput_rpm > alone.throughput_rpm
    assert alone.mix == (3, 0)
    assert mixed.mix[1] > 0


def test_two_bases_where_the_bound_would_have_one() -> None:
    """Where one base takes all large queries, queueing costs more than the fluid bound sees."""
    small_and_large = Problem(
        SIZES, (linear("base", 1.0, 0.05, 0.018), linear("cheap", 0.1, 0.05, 0.028)), latency_seconds=0.9
    )
    assert best_mix(small_and_large, 4.0).mix[0] > 1


def test_the_runners_up_follow_in_the_order_of_what_they_carry() -> None:
    """The first is the best mix; none stands twice."""
    problem = base_and_cheap()
    choices = best_mixes(problem, 4.0, 5)
    carried = [choice.throughput_rpm for choice in choices]
    assert choices[0] == best_mix(problem, 4.0)
    assert carried == sorted(carried, reverse=True)
    assert len({choice.mix for choice in choices}) == len(choices)


def test_a_type_that_another_replaces_is_left_out() -> None:
    """No dearer and no slower at any size; a limit on the better one keeps the worse one."""
    good, bad = linear("good", 1.0, 0.05, 0.01), linear("bad", 1.0, 0.06, 0.01)
    assert undominated(Problem(SIZES, (bad, good), 1.0), 10.0) == (1,)
    few = linear("few", 1.0, 0.05, 0.01, most=3)
    assert undominated(Problem(SIZES, (bad, few), 1.0), 10.0) == (0, 1)


def test_the_named_base_is_never_left_out() -> None:
    """Even where a better type could be the base: the owner asked for it."""
    good, bad = linear("good", 1.0, 0.05, 0.01), linear("bad", 1.0, 0.06, 0.01)
    problem = Problem(SIZES, (bad, good), 1.0, base="bad")
    assert best_mix(problem, 5.0).mix[0] >= 1


def test_a_search_that_ends_early_states_its_gap() -> None:
    """With one estimate the rest is unknown, and the gap covers what the whole search finds."""
    problem = random_problem(5, 8)
    budget = problem.least_base_usd() + 3.0
    short, long = best_mix(problem, budget, limit=2), best_mix(problem, budget)
    assert short.gap > 0
    assert long.throughput_rpm <= short.throughput_rpm * (1 + short.gap)


def test_a_large_catalogue_is_searched_with_a_stated_gap() -> None:
    """A thousand types: a better mix than of any type alone, and how far it may be from the best."""
    problem = random_problem(7, 1000)
    found = best_mix(problem, 2.5, limit=300)
    assert found.throughput_rpm > homogeneous(problem, 2.5).throughput_rpm
    assert 0 <= found.gap < 1


def test_the_same_question_gets_the_same_answer() -> None:
    """Nothing is drawn, nothing depends on an order of hashing."""
    problem = random_problem(4, 5)
    assert best_mix(problem, 2.0) == best_mix(problem, 2.0)


@pytest.mark.parametrize("demand", [0.0, -1.0, float("inf")])
def test_a_demand_that_is_none_is_refused(demand: float) -> None:
    """Requests per minute above 0."""
    with pytest.raises(MixError, match=r"demand: .* valid: requests per minute above 0"):
        cheapest_mix(base_and_cheap(), demand)


def test_a_demand_beyond_all_instances_is_refused_with_what_they_carry() -> None:
    """The message names the most that could be asked for."""
    problem = Problem(SIZES, (linear("base", 1.0, 0.05, 0.01, most=2),), 1.0)
    most = Estimator(problem).rpm((2,))
    with pytest.raises(MixError, match=f"more than all instances carry; valid: at most {most:.4g}"):
        cheapest_mix(problem, 2 * most)
