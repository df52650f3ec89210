"""Which mix we take for the laboratory's models, without having seen a measurement."""

from dataclasses import dataclass
from math import floor

from control_lambda.core.mix.bound import rank
from control_lambda.core.mix.mix import best_mix
from control_lambda.core.mix.model import InstanceType, Problem
from twin.mixes.jobs import model_of
from twin.mixes.samples import BUDGET_USD_PER_HOUR, SIZES, TYPES, Latencies, load
from twin.mixes.search import Mix
from twin.plan.sizes import kairos_sizes


@dataclass(frozen=True, slots=True)
class Picks:
    """Our choice within the budget, by the estimate, and the first of the paper's ranking, by its bound."""

    model: str
    ours: Mix
    paper: Mix


def picks(model: str, budget: float = BUDGET_USD_PER_HOUR) -> Picks:
    """Both choices for one model and a budget, USD per hour.

    Raises:
        InputError: there is no such model, or the recorded data is absent.
    """
    problem = problem_of(load(model_of(model)), budget)
    return Picks(
        model=model,
        ours=best_mix(problem, budget).mix,
        paper=rank(problem, budget)[0].mix,
    )


def problem_of(latencies: Latencies, budget: float = BUDGET_USD_PER_HOUR) -> Problem:
    """What the choice is made from: mean latencies, their spread, prices, KAIROS' sizes and the target."""
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
            most=floor(budget / kind.usd_per_hour) + 1,
        )
        for index, kind in enumerate(TYPES)
    )
    return Problem(sizes, types, latencies.target_seconds, percentile=99.0, base=TYPES[0].name)
