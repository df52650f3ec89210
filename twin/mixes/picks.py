"""Which mix the planner takes for the laboratory's models, without having seen a measurement."""

from dataclasses import dataclass
from math import floor

from control_lambda.core.mix import best_mix
from control_lambda.core.mix_bound import rank
from control_lambda.core.mix_model import InstanceType, Problem
from twin.mixes.jobs import model_of
from twin.mixes.samples import BUDGET_USD_PER_HOUR, SIZES, TYPES, Latencies, load
from twin.mixes.search import Mix
from twin.plan_sizes import kairos_sizes


@dataclass(frozen=True, slots=True)
class Picks:
    """The planner's choice within the budget, and the first of the paper's ranking by its upper bound."""

    model: str
    planner: Mix
    paper: Mix


def picks(model: str) -> Picks:
    """Both choices for one model.

    Raises:
        InputError: there is no such model, or the recorded data is absent.
    """
    problem = problem_of(load(model_of(model)))
    return Picks(
        model=model,
        planner=best_mix(problem, BUDGET_USD_PER_HOUR).mix,
        paper=rank(problem, BUDGET_USD_PER_HOUR)[0].mix,
    )


def problem_of(latencies: Latencies) -> Problem:
    """What the planner is told: mean latencies, their spread, prices, KAIROS' sizes and the target."""
    sizes = kairos_sizes()
    means = latencies.seconds.mean(axis=2)
    spreads = (latencies.seconds.std(axis=2) / means).mean(axis=1)
    places = [SIZES.tolist().index(size) for size in sizes.values]
    types = tuple(
        InstanceType(
            name=kind.name,
            price_usd_per_hour=kind.usd_per_hour,
            seconds=tuple(means[index, places].tolist()),
            spread=float(spreads[index]),
            most=floor(BUDGET_USD_PER_HOUR / kind.usd_per_hour) + 1,
        )
        for index, kind in enumerate(TYPES)
    )
    return Problem(sizes, types, latencies.target_seconds, percentile=99.0, base=TYPES[0].name)
