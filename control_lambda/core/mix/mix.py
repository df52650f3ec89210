"""Which mix of accelerators to have at all: the best for a budget, the cheapest for a demand.

KAIROS (arXiv 2210.05889) ranks all mixes by an upper bound (`bound.rank`); here a better estimate
(`estimate`) decides, still without trying any mix. Both questions are answered by `search`:

- a type is left out if another one costs no more and is no slower at any size (where it may be had as often);
- a local search from the most efficient mix of each base gives a good mix to start with;
- branch and bound then looks at every mix that the bounds leave open.

It is exact, relative to the estimate and to "one more instance never hurts", unless it ends early: after
`limit` estimates or a multiple of branches. Then `gap` says by how much a better mix might still differ.
"""

import math
from dataclasses import replace
from typing import Final

from control_lambda.core.mix.estimate import Estimator
from control_lambda.core.mix.model import MixError, Problem, affordable, check_budget
from control_lambda.core.mix.search import BestSearch, CheapestSearch, Field, MixChoice, field_for

ESTIMATES: Final = 2000  # a second or two; the paper's 331 mixes need some 70
FIRST_ESTIMATES: Final = 200  # to find a first mix that carries a demand
BUDGET_STEP: Final = 1.05  # between the budgets tried for that


def best_mix(problem: Problem, budget_usd_per_hour: float, limit: int = ESTIMATES) -> MixChoice:
    """The mix within the budget that is estimated to carry most; equal ones: the cheapest.

    Raises:
        MixError: the budget does not pay for one base instance.
    """
    return best_mixes(problem, budget_usd_per_hour, 1, limit)[0]


def best_mixes(
    problem: Problem, budget_usd_per_hour: float, count: int, limit: int = ESTIMATES
) -> list[MixChoice]:
    """The best mix, then the best of the others that the search has estimated, at most `count` in all.

    Raises:
        MixError: the budget does not pay for one base instance.
    """
    check_budget(problem, budget_usd_per_hour)
    field = field_for(problem, budget_usd_per_hour)
    return BestSearch(field, budget_usd_per_hour, limit).run(count)


def cheapest_mix(problem: Problem, demand_rpm: float, limit: int = ESTIMATES) -> MixChoice:
    """The cheapest mix that is estimated to carry the demand.

    Raises:
        MixError: the demand is not above 0, or all instances that may be had do not carry it.
    """
    if not 0 < demand_rpm < math.inf:
        raise MixError(f"demand: {demand_rpm:g}; valid: requests per minute above 0")
    most = Estimator(problem).rpm(tuple(kind.most for kind in problem.types))
    if most < demand_rpm:
        raise MixError(
            f"demand: {demand_rpm:g} requests per minute is more than all instances carry; "
            f"valid: at most {most:.4g}, or more instances of a type"
        )
    first, field = _first(problem, demand_rpm)
    search = CheapestSearch(field, demand_rpm, first.cost_usd_per_hour, limit)
    return replace(search.run() or first, gap=search.gap)


def homogeneous(problem: Problem, budget_usd_per_hour: float) -> MixChoice:
    """The best mix within the budget that is of one base type alone.

    Raises:
        MixError: the budget does not pay for one base instance.
    """
    check_budget(problem, budget_usd_per_hour)
    estimator = Estimator(problem)
    choices = []
    for index in problem.bases:
        count = affordable(budget_usd_per_hour, problem.types[index])
        mix = tuple(count if other == index else 0 for other in range(len(problem.types)))
        choices.append(MixChoice(mix, problem.cost(mix), estimator.rpm(mix)))
    return max(choices, key=lambda choice: (choice.throughput_rpm, -choice.cost_usd_per_hour))


def _first(problem: Problem, demand_rpm: float) -> tuple[MixChoice, Field]:
    """A mix that carries the demand, not far from the cheapest, and the field that it was found in."""
    densities = [max(values) for values in _densities(problem)]
    budget = max(problem.least_base_usd(), *(demand_rpm / density for density in densities))
    while True:
        field = field_for(problem, budget)
        found = BestSearch(field, budget, FIRST_ESTIMATES).run(1)[0]
        if found.throughput_rpm >= demand_rpm:
            return found, field
        budget *= BUDGET_STEP


def _densities(problem: Problem) -> list[list[float]]:
    """What one USD of each type adds to each bound (rpm)."""
    bounds = Estimator(problem).bounds
    return [[value / price for value, price in zip(values, problem.prices, strict=True)] for values in bounds]
