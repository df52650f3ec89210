"""How much of a possible demand is worth carrying: where the supply curve meets the value of requests.

Capacity for rare peaks costs the same per hour as capacity for everyday, and serves far less. The next
request per minute of capacity is bought while the requests that it saves are worth more than it costs
(the news-vendor rule; Arrow, Harris and Marschak, "Optimal Inventory Policy", 1951). Cheap pools
therefore get wide margins, dear ones narrow ones.
"""

from collections.abc import Callable, Sequence
from typing import Final

from control_lambda.core.fleet import Fleet
from control_lambda.core.plan.sizes import start_premium
from control_lambda.core.supply.supply import Supply, Tables

# What a request answered late costs, in multiples of what one costs on the fleet's cheapest unit. At 4 the
# evaluation's D2L, D2s, D3c and D4 miss their attainment (docs/evaluation.md).
WORTH: Final = 12.0
# In a minute whose demand is above capacity the backlog grows from nothing, so not every request in it
# is late: a margin may leave this many times the allowed share of requests in such minutes.
MINUTES_PER_LATE: Final = 4.0


def demand_worth_carrying(
    late_usd: float,
    supplies: Sequence[Supply],
    tables: Tables,
    saving_up_to: Callable[[float], float],
    most: float,
) -> float:
    """Up to which demand (rpm) capacity is worth its price, `most` at most.

    `late_usd` is what a request answered late costs. `saving_up_to` gives the demand up to which a further
    rpm of capacity saves at least so many requests per minute (`demand.saving_up_to`).
    """
    value = 60 * late_usd  # USD per hour for a request in every minute
    reached = 0.0
    for price, rpm in _supply_curve(supplies, tables):
        wanted = min(saving_up_to(min(1.0, price / value)), most)
        if wanted <= reached + rpm:
            return max(reached, wanted)
        reached += rpm
    return most


def _supply_curve(supplies: Sequence[Supply], tables: Tables) -> list[tuple[float, float]]:
    """What can be had, cheapest first: (USD per hour for one rpm, rpm).

    As the planner counts: with the risk, and new nodes pay for their start.
    """
    steps = []
    for supply in supplies:
        each = _rpm_per_node(tables[supply.unit.name])
        if each > 0:
            running = min(supply.in_service, supply.most)
            kept_price = supply.price + supply.risk
            new_price = kept_price + supply.price * start_premium(supply)
            steps.append((kept_price / each, running * each))
            steps.append((new_price / each, max(0, supply.most - running) * each))
    return sorted(steps)


def usd_per_late_request(fleet: Fleet, tables: Tables) -> float:
    """What a request answered late costs."""
    return WORTH * reference_price(fleet, tables) / 60


def reference_price(fleet: Fleet, tables: Tables) -> float:
    """USD per hour for one rpm on the cheapest unit at fleet.yaml's prices, on demand where it is sold so."""
    per_rpm = {
        (pool.market, pool.name): pool.price_usd_per_hour / each
        for pool in fleet.pools
        if (each := _rpm_per_node(tables[fleet.unit_of[pool.name].name])) > 0
    }
    on_demand = [price for (market, _), price in per_rpm.items() if market == "on-demand"]
    return min(on_demand or per_rpm.values(), default=0.0)


def _rpm_per_node(table: Sequence[float]) -> float:
    return table[-1] / (len(table) - 1) if len(table) > 1 else 0.0
