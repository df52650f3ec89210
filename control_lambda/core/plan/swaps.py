"""A limit is no deadlock: where the budget is full, nodes are exchanged towards the plan, the old one first.

Growth would wait for room, and what fills it for replacements. So the surplus node that frees most money for
what it carries leaves, the room it leaves pays for a node of the plan, and the next pair waits until that one
serves. At most a tenth of the nodes, at least one, are under way at a time.
"""

import math
from collections.abc import Mapping, Sequence
from typing import Final

from control_lambda.core.supply.supply import Supply, Tables, cost_per_hour, rpm_of

Sizes = dict[str, int]

SWAPPED_SHARE: Final = 0.1
USD_TOLERANCE: Final = 1e-9


def in_flight(supplies: Sequence[Supply]) -> bool:
    """Whether a node is expected to serve that does not yet."""
    return any(supply.starting for supply in supplies)


def swapped(
    supplies: Sequence[Supply],
    sizes: Mapping[str, int],
    plan: Mapping[str, int],
    tables: Tables,
    budget: float,
) -> Sizes:
    """`sizes` with nodes exchanged towards the plan, cheapest first, each for what it takes to pay for it."""
    found = dict(sizes)
    left = max(1, int(sum(found.values()) * SWAPPED_SHARE))
    wanted = [supply for supply in sorted(supplies, key=price_per_request) if not supply.fixed]
    while left > 0:
        trials = (
            exchanged(supplies, found, plan, tables, budget, supply)
            for supply in wanted
            if found[supply.pool.name] < plan[supply.pool.name]
        )
        trial = next((trial for trial in trials if trial), None)
        if trial is None:
            break
        left -= max(1, sum(max(0, found[name] - trial[name]) for name in found))
        found = trial
    return found


def exchanged(
    supplies: Sequence[Supply],
    sizes: Mapping[str, int],
    plan: Mapping[str, int],
    tables: Tables,
    budget: float,
    entering: Supply,
) -> Sizes | None:
    """`sizes` with one node more in a pool and so much less surplus that the budget pays, if it can."""
    grown = {**sizes, entering.pool.name: sizes[entering.pool.name] + 1}
    found = shed(supplies, grown, {**plan, entering.pool.name: grown[entering.pool.name]}, tables, budget)
    return found if cost_per_hour(supplies, found) <= budget + USD_TOLERANCE else None


def shed(
    supplies: Sequence[Supply],
    sizes: Mapping[str, int],
    plan: Mapping[str, int],
    tables: Tables,
    budget: float,
) -> Sizes:
    """`sizes` less surplus over the plan until the budget pays; first what frees most money for its rpm."""
    found = dict(sizes)
    while cost_per_hour(supplies, found) > budget + USD_TOLERANCE:
        surplus = [
            supply
            for supply in supplies
            if not supply.fixed and found[supply.pool.name] > plan[supply.pool.name]
        ]
        if not surplus:
            break
        leaving = max(surplus, key=lambda supply: _usd_per_rpm(supplies, found, tables, supply))
        found[leaving.pool.name] -= 1
    return found


def price_per_request(supply: Supply) -> tuple[float, str]:
    """What merit goes by: price and risk for the time that a request takes; then the name."""
    return (supply.price + supply.risk) * supply.unit.profile.service_seconds, supply.pool.name


def _usd_per_rpm(
    supplies: Sequence[Supply], sizes: Mapping[str, int], tables: Tables, supply: Supply
) -> tuple[float, str]:
    """What the pool's last node costs (USD per hour) for each rpm that is lost with it."""
    nodes = sum(sizes[other.pool.name] for other in supplies if other.unit.name == supply.unit.name)
    table = tables[supply.unit.name]
    lost = rpm_of(table, nodes) - rpm_of(table, nodes - 1)
    return (supply.price + supply.risk) / lost if lost > 0 else math.inf, supply.pool.name
