"""Traffic weights: the papers' formulas by name, and merit order; shares first, then integers.

A share is a unit's part of all requests, 0 to 1; shares sum to 1 where any unit may carry traffic.
Symbols follow arXiv 2503.20074: T throughput, C cost, L latency, A availability.
"""

from collections.abc import Collection, Mapping, Sequence
from typing import Final

from control_lambda.core.fleet import Unit

# The highest weight that an ALB target group takes; all of a rule's weights sum to it.
WEIGHT_TOTAL: Final = 999

# Where no demand is expected the first request still needs a unit to go to.
LEAST_DEMAND: Final = 1e-6

Shares = dict[str, float]


def paper_optimal(
    units: Sequence[Unit], prices: Mapping[str, float], available: Mapping[str, bool]
) -> Shares:
    """The paper's general weights: w_i = (T_i / (C_i L_i)) A_i / sum_j (T_j / (C_j L_j)) A_j."""
    worth = {
        unit.name: unit.profile.throughput_rpm / (prices[unit.name] * unit.profile.latency_seconds)
        for unit in units
        if available[unit.name]
    }
    return _normalised(worth)


def paper_cost(units: Sequence[Unit], costs: Mapping[str, float], available: Mapping[str, bool]) -> Shares:
    """The paper's cost mode as printed: w_i = (C_i / L_i) / sum_j (C_j / L_j), over available units.

    `costs` holds C, the paper's "cost of inference": price over throughput. The formula is inverted: the
    dearer a unit, the more it gets. Kept as a baseline by that name.
    """
    return _normalised(
        {unit.name: costs[unit.name] / unit.profile.latency_seconds for unit in units if available[unit.name]}
    )


def equal(available: Mapping[str, bool]) -> Shares:
    """The paper's capacity mode: w_i = A_i / sum_j A_j, an equal share for each available unit."""
    return _normalised({name: 1.0 for name, is_available in available.items() if is_available})


def merit_order(capacity: Mapping[str, float], order: Sequence[str], demand: float) -> Shares:
    """Cheapest first: each unit in `order` takes what it can carry until `demand` (rpm) is carried.

    `capacity` is what each unit's ready nodes carry within the objective (rpm). For demand beyond all
    of it see `spread`.
    """
    left = max(demand, LEAST_DEMAND)
    taken: Shares = {}
    for name in order:
        taken[name] = min(capacity[name], max(left, 0.0))
        left -= taken[name]
    return _normalised(taken) if left <= 0 else spread(capacity, demand)


def spread(capacity: Mapping[str, float], demand: float, queueing: Collection[str] = ()) -> Shares:
    """In proportion to what each unit's ready nodes carry.

    Demand beyond all of it goes to those that refuse what they cannot answer in time, in proportion too: they
    answer the rest. Where all are `queueing` it goes to the smallest unit: in an overloaded queue every
    request is late, so one unit is given up to keep the promise on the others.
    """
    able = {name: rpm for name, rpm in capacity.items() if rpm > 0}
    excess = demand - sum(able.values())
    if len(able) > 1 and excess > 0:
        refusing = {name: rpm for name, rpm in able.items() if name not in queueing}
        smallest = min(able, key=lambda name: (able[name], name))
        takers = refusing or {smallest: able[smallest]}
        room = sum(takers.values())
        able |= {name: rpm + excess * rpm / room for name, rpm in takers.items()}
    return _normalised(able)


def to_weights(shares: Mapping[str, float], units: Sequence[str]) -> dict[str, int]:
    """Integer weights by largest remainder, every unit listed; they sum to 999, or 0 without shares.

    A unit with any share keeps at least weight 1.
    """
    total = sum(shares.values())
    if total <= 0:
        return dict.fromkeys(units, 0)
    exact = {name: WEIGHT_TOTAL * shares.get(name, 0.0) / total for name in units}
    weights = {name: max(int(value), 1 if value > 0 else 0) for name, value in exact.items()}
    missing = WEIGHT_TOTAL - sum(weights.values())
    by_remainder = sorted(units, key=lambda name: (weights[name] - exact[name], units.index(name)))
    for name in by_remainder[: max(missing, 0)]:
        weights[name] += 1
    if missing < 0:
        weights[max(units, key=lambda name: weights[name])] += missing
    return weights


def to_shares(weights: Mapping[str, int]) -> Shares:
    """The shares that integer weights stand for."""
    return _normalised({name: float(weight) for name, weight in weights.items()})


def _normalised(values: Mapping[str, float]) -> Shares:
    total = sum(values.values())
    return {name: value / total for name, value in values.items()} if total > 0 else {}
