"""The chosen mix in words: what to have, what it carries, and why the runners-up lost."""

from collections.abc import Iterator, Sequence
from typing import Final

from control_lambda.core.mix.bound import SECONDS_PER_MINUTE
from control_lambda.core.mix.estimate import Estimator, Station
from control_lambda.core.mix.model import Mix, Problem
from control_lambda.core.mix.search import MixChoice
from twin.plan.plan import MixPlan

MOSTLY: Final = 0.5  # of a base's work; from there on large queries are what it can't carry
FEW: Final = 0.9  # a type that answers less than this share of the queries in time is called slow
FULL: Final = 0.98  # of what an instance can do


def named(problem: Problem, mix: Mix) -> str:
    """The mix as `2 × g4dn.xlarge, 9 × r5n.large`."""
    return ", ".join(f"{count} × {name}" for count, name in zip(mix, problem.names, strict=True) if count)


def headline(plan: MixPlan) -> str:
    """What to have and what that brings, in one line."""
    chosen, alone = plan.chosen, plan.homogeneous
    told = (
        f"{named(plan.problem, chosen.mix)}: {chosen.throughput_rpm:,.0f} requests per minute within "
        f"{plan.problem.latency_seconds:g} s at {chosen.cost_usd_per_hour:.2f} USD per hour"
    )
    if alone.mix == chosen.mix or not alone.throughput_rpm:
        return f"{told}; one type alone does it best"
    times = chosen.throughput_rpm / alone.throughput_rpm
    return f"{told}, {times:.2f} times what one type alone brings ({named(plan.problem, alone.mix)})"


def certainty(plan: MixPlan) -> str:
    """How sure the answer is the best one, and what the figures are."""
    told = "An estimate by queueing arithmetic: nothing was tried. "
    if plan.chosen.gap:
        return (
            told
            + f"The search ended early; a mix it did not look at may be up to {plan.chosen.gap:.0%} better."
        )
    return told + "No other mix is estimated to be better."


def why_less(problem: Problem, chosen: MixChoice, other: MixChoice) -> str:
    """Why `other` is worse, told by what would happen to it at the chosen mix's rate."""
    estimator = Estimator(problem)
    rpm = chosen.throughput_rpm
    stations = estimator.stations(other.mix, rpm)
    causes = [*_base_cause(problem, stations, rpm), *_slow_types(problem, stations)]
    unspent = chosen.cost_usd_per_hour - other.cost_usd_per_hour
    if unspent >= min(problem.prices):
        causes.append(f"{unspent:.2f} USD per hour less is spent")
    late = estimator.late_share(other.mix, rpm)
    return f"at the chosen mix's rate {_percent(late)} would be late: {'; '.join(causes)}"


def _base_cause(problem: Problem, stations: Sequence[Station], rpm: float) -> Iterator[str]:
    """What keeps the last station, the base, from answering what comes to it."""
    last = stations[-1]
    base = f"{last.instances} × {problem.names[last.index]}"
    large = _large_load(problem, stations, rpm)
    if large >= MOSTLY * last.utilisation:
        yield (
            f"the {_percent(_large_share(problem, stations))} of queries that only a base answers in time "
            f"keep {base} {large:.0%} busy, so that they wait for each other"
        )
        return
    full = [item for item in stations[:-1] if item.utilisation >= FULL]
    if full:
        passed = full[-1].passed_share
        names = " and ".join(f"{item.instances} × {problem.names[item.index]}" for item in full)
        yield (
            f"{names} would be full and pass {passed:.0%} of all queries on to {base}, "
            f"{last.utilisation:.0%} busy then"
        )
    else:
        yield f"{base} would be {last.utilisation:.0%} busy"


def _slow_types(problem: Problem, stations: Sequence[Station]) -> Iterator[str]:
    for item in stations[:-1]:
        kind = problem.types[item.index]
        if item.offered_share < FEW and kind.spread * problem.tail > 1 - FEW:
            yield f"{kind.name} is irregular (spread {kind.spread:.0%}): it is given small queries only"


def _large_share(problem: Problem, stations: Sequence[Station]) -> float:
    """The share of queries that no type before the last answers in time."""
    limit = max((problem.served_in_time(item.index) for item in stations[:-1]), default=0)
    return sum(problem.sizes.shares[limit:])


def _large_load(problem: Problem, stations: Sequence[Station], rpm: float) -> float:
    """How busy those queries alone keep the last type's instances; 0 where it is the only type."""
    if len(stations) == 1:
        return 0.0
    last = stations[-1]
    limit = max(problem.served_in_time(item.index) for item in stations[:-1])
    seconds = problem.types[last.index].seconds
    work = sum(
        share * time for share, time in zip(problem.sizes.shares[limit:], seconds[limit:], strict=True)
    )
    return work * rpm / SECONDS_PER_MINUTE / last.instances


def _percent(share: float) -> str:
    return f"{share:.1%}" if share < 0.1 else f"{share:.0%}"  # noqa: PLR2004 - two digits either way
