"""Which mix to have: the mix, why the others lost, and throughput against budget."""

from dataclasses import dataclass
from typing import Final

from control_lambda.core.mix.bound import PaperBound, Ranked, rank
from control_lambda.core.mix.mix import best_mix, best_mixes, cheapest_mix, homogeneous
from control_lambda.core.mix.model import MixError, Problem
from control_lambda.core.mix.search import MixChoice

RUNNERS_UP: Final = 5
BUDGETS: Final = 24  # points of the picture
BEYOND_BUDGET: Final = 2.0  # the picture reaches to this multiple of what the mix costs
PICTURE_ESTIMATES: Final = 120  # a search for each point, not the answer itself
MOST_RANKED: Final = 20_000  # mixes beyond which the paper's ranking of all of them is left out


@dataclass(frozen=True, slots=True)
class Point:
    """What a budget buys: the best mix, the best homogeneous one, and the paper's bound on the best mix."""

    budget_usd_per_hour: float
    mix: MixChoice
    homogeneous: MixChoice
    bound_rpm: float


@dataclass(frozen=True, slots=True)
class MixPlan:
    """The answer to one question about mixes.

    `demand_rpm` is None when the question was a budget's best mix. `paper` is the paper's choice under the
    same budget, None where there are too many mixes to rank.
    """

    problem: Problem
    budget_usd_per_hour: float
    demand_rpm: float | None
    chosen: MixChoice
    runners_up: tuple[MixChoice, ...]
    homogeneous: MixChoice
    paper: Ranked | None
    points: tuple[Point, ...]


def plan_budget(problem: Problem, budget_usd_per_hour: float) -> MixPlan:
    """The best mix for a budget.

    Raises:
        MixError: the budget does not pay for one base instance, or no mix keeps the promise at any rate.
    """
    chosen, *others = best_mixes(problem, budget_usd_per_hour, RUNNERS_UP + 1)
    if not chosen.throughput_rpm:
        raise MixError(
            f"latency_seconds: {problem.latency_seconds:g} is too close to the largest query's own service "
            f"time; valid: a longer one, or --largest below {problem.sizes.values[-1]:g}"
        )
    return MixPlan(
        problem=problem,
        budget_usd_per_hour=budget_usd_per_hour,
        demand_rpm=None,
        chosen=chosen,
        runners_up=tuple(others),
        homogeneous=homogeneous(problem, budget_usd_per_hour),
        paper=_paper_choice(problem, budget_usd_per_hour),
        points=_points(problem, chosen.cost_usd_per_hour),
    )


def plan_demand(problem: Problem, demand_rpm: float) -> MixPlan:
    """The cheapest mix for a demand; its runners-up are what the same money would buy instead.

    Raises:
        MixError: the demand is not above 0, or all instances that may be had do not carry it.
    """
    chosen = cheapest_mix(problem, demand_rpm)
    budget = chosen.cost_usd_per_hour
    others = [item for item in best_mixes(problem, budget, RUNNERS_UP + 1) if item.mix != chosen.mix]
    return MixPlan(
        problem=problem,
        budget_usd_per_hour=budget,
        demand_rpm=demand_rpm,
        chosen=chosen,
        runners_up=tuple(others[:RUNNERS_UP]),
        homogeneous=homogeneous(problem, budget),
        paper=_paper_choice(problem, budget),
        points=_points(problem, budget),
    )


def _paper_choice(problem: Problem, budget: float) -> Ranked | None:
    mixes = 1.0
    for kind in problem.types:
        mixes *= 1 + min(kind.most, budget / kind.price_usd_per_hour)
    # The simplex below the budget holds about 1 / n! of the box around it.
    for number in range(2, len(problem.types) + 1):
        mixes /= number
    return rank(problem, budget)[0] if mixes <= MOST_RANKED else None


def _points(problem: Problem, cost: float) -> tuple[Point, ...]:
    """Budgets from one base instance to well beyond the chosen mix's cost, evenly spaced, and that cost."""
    least = problem.least_base_usd()
    most = max(BEYOND_BUDGET * cost, 2 * least)
    bound = PaperBound(problem)
    points = []
    spaced = [least + (most - least) * number / (BUDGETS - 1) for number in range(BUDGETS)]
    for budget in sorted({*spaced, cost}):
        best = best_mix(problem, budget, PICTURE_ESTIMATES)
        points.append(Point(budget, best, homogeneous(problem, budget), bound.rpm(best.mix)))
    return tuple(points)
