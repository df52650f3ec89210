"""Why a mix lost, in words that name what would happen to it at the chosen mix's rate."""

import pytest

from control_lambda.core.mix.estimate import Estimator
from control_lambda.core.mix.mix import best_mix
from control_lambda.core.mix.model import InstanceType, Mix, Problem, Sizes
from control_lambda.core.mix.search import MixChoice
from twin.plan.plan import plan_budget
from twin.plan.words import certainty, headline, named, why_less

SIZES = Sizes((10.0, 20.0, 40.0), (0.5, 0.3, 0.2))
BASE = InstanceType("base", 1.0, (0.15, 0.25, 0.45), 0.02)
CHEAP = InstanceType("cheap", 0.3, (0.35, 0.65, 1.25), 0.02)
PROBLEM = Problem(SIZES, (BASE, CHEAP), 1.0)


def choice(mix: Mix, problem: Problem = PROBLEM) -> MixChoice:
    """The mix with its cost and estimate."""
    return MixChoice(mix, problem.cost(mix), Estimator(problem).rpm(mix))


def test_a_mix_is_named_without_the_types_that_it_lacks() -> None:
    """Counts before names, in the order of the catalogue."""
    assert named(PROBLEM, (2, 0)) == "2 × base"
    assert named(PROBLEM, (1, 3)) == "1 × base, 3 × cheap"


def test_too_few_bases_are_told_by_the_large_queries_that_fill_them() -> None:
    """Cheap instances do not help a base that large queries alone overload."""
    told = why_less(PROBLEM, choice((3, 4)), choice((1, 10)))
    assert "the 20% of queries that only a base answers in time keep 1 × base" in told
    assert "so that they wait for each other" in told


def test_too_few_cheap_instances_are_told_by_what_they_pass_on() -> None:
    """The base then does what the cheap ones should."""
    told = why_less(PROBLEM, choice((3, 20)), choice((4, 1)))
    assert "1 × cheap would be full and pass" in told
    assert "of all queries on to 4 × base" in told


def test_bases_alone_are_told_by_how_busy_they_would_be() -> None:
    """There is nobody to pass anything on."""
    assert "3 × base would be" in why_less(PROBLEM, choice((3, 4)), choice((3, 0)))


def test_money_that_is_left_is_told() -> None:
    """From the price of one more instance on."""
    assert "1.60 USD per hour less is spent" in why_less(PROBLEM, choice((2, 2)), choice((1, 0)))


def test_an_irregular_type_is_named() -> None:
    """It is given small queries only, because its tail overruns with the others."""
    irregular = InstanceType("irregular", 0.2, (0.35, 0.75, 1.25), 0.25)
    problem = Problem(SIZES, (BASE, irregular), 1.0)
    told = why_less(problem, choice((4, 0), problem), choice((2, 6), problem))
    assert "irregular is irregular (spread 25%): it is given small queries only" in told


@pytest.mark.parametrize(("gap", "expected"), [(0.0, "No other mix"), (0.08, "may be up to 8% better")])
def test_the_certainty_states_the_gap(gap: float, expected: str) -> None:
    """An early end is not hidden."""
    plan = plan_budget(PROBLEM, 3.0)
    found = best_mix(PROBLEM, 3.0)
    uncertain = type(plan)(
        problem=PROBLEM,
        budget_usd_per_hour=3.0,
        demand_rpm=None,
        chosen=MixChoice(found.mix, found.cost_usd_per_hour, found.throughput_rpm, gap),
        runners_up=plan.runners_up,
        homogeneous=plan.homogeneous,
        paper=plan.paper,
        points=plan.points,
    )
    assert expected in certainty(uncertain)


def test_the_headline_says_when_one_type_alone_does_best() -> None:
    """Mixing is no end in itself."""
    alone = Problem(SIZES, (BASE,), 1.0)
    assert headline(plan_budget(alone, 3.0)).endswith("one type alone does it best")
