"""From the plan to desired sizes: grow at once, shrink only what ready nodes can spare.

A node that replaces another is waited for: the plan's surplus leaves when the ready rest carries what
is needed now, or where the budget is full to make room for it. A pool with starting nodes is not shrunk,
because the Auto Scaling group would terminate its oldest nodes, which serve, and keep the starting ones.
"""

import bisect
import math
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Final

from control_lambda.core.fleet import Fleet
from control_lambda.core.plan.memory import PlanMemory, PlanQuestion
from control_lambda.core.plan.planner import Need, Plan, PoolOption
from control_lambda.core.plan.swaps import exchanged, in_flight, price_per_request, shed, swapped
from control_lambda.core.supply.supply import Supply, Tables, cost_per_hour, rpm_of, spendable

Sizes = dict[str, int]

# A new node's start is paid for without service. Spread over the half hour that it is expected to stay
# at least, it is the premium that a new node has to earn against one that already runs.
EXPECTED_STAY_SECONDS: Final = 1800.0

# The survival is asked for in twentieths of the demand, so that the same plan serves for minutes.
SURVIVAL_STEP: Final = 0.05

# Of a market's reserve, the share of the demand that is carried after any one of its pools is lost whole.
OUTLIVED: Final = 0.5

# Where the budget does not pay for all, shares are sized for this much less demand, again and again.
BUDGET_STEP: Final = 0.95


def target(supplies: Sequence[Supply], tables: Tables, fleet: Fleet, demand: float, survival: float) -> Plan:
    """The cheapest sizes that carry `demand` and, after the loss of the reserve, `survival` (rpm).

    With a probe node in each refused pool that may have one and would grow, could it be had: one node
    rarely replaces anything, so the cheapest sizes alone would never ask for the proof. Where the budget
    has no room for the probe, surplus over what could be had makes it, once all nodes serve.
    """
    plan = _cheapest(supplies, tables, fleet, demand, survival)
    doubted = [supply for supply in supplies if _may_be_probed(supply)]
    if not doubted:
        return plan
    hopeful = [_had(supply) if supply in doubted else supply for supply in supplies]
    hoped = _cheapest(hopeful, tables, fleet, demand, survival)
    nodes = dict(plan.nodes)
    for supply in doubted:
        name, probed = supply.pool.name, supply.in_service + 1
        if nodes[name] < probed <= hoped.nodes[name]:
            nodes = _with_probe(supplies, nodes, hoped, tables, fleet, supply) or nodes
    return replace(plan, nodes=nodes, cost_usd_per_hour=cost_per_hour(supplies, nodes))


def _with_probe(
    supplies: Sequence[Supply],
    nodes: Mapping[str, int],
    hoped: Plan,
    tables: Tables,
    fleet: Fleet,
    supply: Supply,
) -> Sizes | None:
    """The sizes with a node more than in service, in place of surplus where the budget is full."""
    budget = fleet.budget_usd_per_hour
    probing = {**nodes, supply.pool.name: supply.in_service + 1}
    if cost_per_hour(supplies, probing) <= budget:
        return probing
    if in_flight(supplies):
        return None
    probing[supply.pool.name] -= 1
    kept = {other.pool.name: max(hoped.nodes[other.pool.name], _option(other).low) for other in supplies}
    return exchanged(supplies, probing, kept, tables, budget, supply)


def _cheapest(
    supplies: Sequence[Supply], tables: Tables, fleet: Fleet, demand: float, survival: float
) -> Plan:
    options = tuple(_option(supply) for supply in supplies)
    return _plans.plan(_question(options, tables, _need(supplies, tables, fleet, demand, survival)))


def _need(supplies: Sequence[Supply], tables: Tables, fleet: Fleet, demand: float, survival: float) -> Need:
    surviving = demand * (1 - max(fleet.reserve.values(), default=0.0))
    needed = 0.0 if surviving >= survival else min(demand, _rounded_up(survival, demand * SURVIVAL_STEP))
    reserve = {str(market): share for market, share in fleet.reserve.items()}
    outlived = {
        market: _outlived(share * OUTLIVED, supplies, tables, survival) for market, share in reserve.items()
    }
    return Need(demand, needed, reserve, spendable(supplies, fleet), outlived)


def _outlived(share: float, supplies: Sequence[Supply], tables: Tables, survival: float) -> float:
    """The share of the demand that any one pool's loss has to leave carried.

    None where that share of what is expected, `survival` (rpm), fills less than half of the smallest node:
    nodes come whole, and such a fleet would pay for one that stands by for next to nothing.
    """
    smallest = min((rpm_of(tables[supply.unit.name], 1) for supply in supplies), default=0.0)
    return 0.0 if share * survival < smallest / 2 else share


def price_of_outliving(
    supplies: Sequence[Supply], tables: Tables, fleet: Fleet, demand: float, survival: float
) -> float:
    """What it costs (USD per hour) that any one pool may be lost whole, were every node to be bought anew."""
    if not fleet.reserve:
        return 0.0
    options = tuple(replace(_option(supply), in_service=0, start_premium=0.0) for supply in supplies)
    need = _need(supplies, tables, fleet, demand, survival)
    without = _plans.plan(_question(options, tables, replace(need, outlived={})))
    outliving = _plans.plan(_question(options, tables, need))
    return max(0.0, outliving.cost_usd_per_hour - without.cost_usd_per_hour)


def _may_be_probed(supply: Supply) -> bool:
    return supply.refusal is not None and not supply.fixed and supply.most > supply.in_service


def _had(supply: Supply) -> Supply:
    """The pool as if its refusal no longer stood."""
    return supply._replace(most=supply.highest)


# Holds nothing that decides anything: with it or without, the plans are the same.
_plans: Final = PlanMemory()


def _question(options: tuple[PoolOption, ...], tables: Tables, need: Need) -> PlanQuestion:
    return PlanQuestion(options, {name: tuple(table) for name, table in tables.items()}, need)


def _rounded_up(value: float, step: float) -> float:
    return math.ceil(value / step) * step if step > 0 else value


def shared_plan(
    supplies: Sequence[Supply], tables: Tables, shares: Mapping[str, float], fleet: Fleet, demand: float
) -> Plan:
    """The sizes with which each unit carries its share of `demand` (rpm), its cheapest pool first.

    For the policies whose formula fixes the shares. What exceeds the budget is left out of all alike.
    """
    least = {supply.pool.name: _option(supply).low for supply in supplies}
    rpm, nodes = demand, _for_shares(supplies, tables, shares, demand)
    while nodes != least and cost_per_hour(supplies, nodes) > fleet.budget_usd_per_hour:
        rpm = rpm * BUDGET_STEP if rpm > 1.0 else 0.0
        nodes = _for_shares(supplies, tables, shares, rpm)
    reached = carried(supplies, nodes, tables)
    return Plan(nodes, reached, reached, cost_per_hour(supplies, nodes), max(0.0, demand - reached))


def _for_shares(supplies: Sequence[Supply], tables: Tables, shares: Mapping[str, float], rpm: float) -> Sizes:
    nodes: Sizes = {}
    left = {name: bisect.bisect_left(table, shares.get(name, 0.0) * rpm) for name, table in tables.items()}
    for supply in sorted(supplies, key=lambda supply: (supply.price, supply.pool.name)):
        option = _option(supply)
        size = min(max(left[supply.unit.name], option.low), option.high)
        left[supply.unit.name] -= size
        nodes[supply.pool.name] = size
    return nodes


def desired(supplies: Sequence[Supply], plan: Plan, tables: Tables, fleet: Fleet, demand: float) -> Sizes:
    """The sizes on the way to `plan`: what it adds now, less what the ready rest can spare.

    `demand` (rpm) is what ready nodes have to carry meanwhile. When both together cost more than the
    budget, growth takes the room that there is, and where there is none nodes are swapped.
    """
    grown = {supply.pool.name: max(plan.nodes[supply.pool.name], current(supply)) for supply in supplies}
    wanted = _without_surplus(supplies, plan, grown, tables, demand)
    if cost_per_hour(supplies, wanted) <= fleet.budget_usd_per_hour:
        return wanted
    return _within_budget(supplies, plan, tables, fleet, demand)


def kept_at_least(
    supplies: Sequence[Supply], wanted: Mapping[str, int], nodes: int, budget_usd_per_hour: float
) -> Sizes:
    """`wanted`, but of what is in service so much stays, cheapest first, that there are `nodes` in all.

    What exceeds the budget does not stay.
    """
    kept = dict(wanted)
    lacking = nodes - sum(kept.values())
    for supply in sorted(supplies, key=price_per_request):
        name = supply.pool.name
        affordable = int((budget_usd_per_hour - cost_per_hour(supplies, kept)) / supply.price + 1e-9)
        more = max(0, min(lacking, current(supply) - kept[name], affordable))
        kept[name] += more
        lacking -= more
    return kept


def current(supply: Supply) -> int:
    """The size as it stands: what is in service, within fleet.yaml's limits; as it is where fixed."""
    if supply.fixed:
        return supply.desired
    return min(max(supply.in_service, supply.least), supply.highest)


def _asked_for(supply: Supply) -> int:
    """The desired size, within fleet.yaml's limits; as it is where fixed."""
    if supply.fixed:
        return supply.desired
    return min(max(supply.desired, supply.least), supply.highest)


def unchanged_plan(supplies: Sequence[Supply], tables: Tables, fleet: Fleet) -> Plan:
    """The plan that keeps every size; where launches are refused, or too dear by now, what is in service."""
    nodes = {
        supply.pool.name: current(supply) if supply.refusal or supply.stopped else _asked_for(supply)
        for supply in supplies
    }
    if cost_per_hour(supplies, nodes) > fleet.budget_usd_per_hour:
        nodes = {supply.pool.name: current(supply) for supply in supplies}
    rpm = carried(supplies, nodes, tables)
    return Plan(nodes, rpm, rpm, cost_per_hour(supplies, nodes), 0.0)


def unconstrained_plan(supplies: Sequence[Supply], tables: Tables, fleet: Fleet, demand: float) -> Plan:
    """The cheapest sizes that would carry `demand` (rpm) if every pool could be had."""
    options = tuple(
        replace(_option(supply), low=0, high=supply.pool.nodes.max, in_service=0, start_premium=0.0)
        for supply in supplies
    )
    need = Need(demand, budget_usd_per_hour=fleet.budget_usd_per_hour)  # nothing of no use is held there
    return _plans.plan(_question(options, tables, need))


def start_premium(supply: Supply) -> float:
    """The part of its price that a new node costs on top, for the start that it does not serve in."""
    return supply.unit.profile.start_seconds / EXPECTED_STAY_SECONDS


def carried(supplies: Sequence[Supply], nodes: Mapping[str, int], tables: Tables) -> float:
    """What the given nodes by pool carry within the objective, in rpm."""
    by_unit: dict[str, int] = {}
    for supply in supplies:
        name = supply.unit.name
        by_unit[name] = by_unit.get(name, 0) + nodes[supply.pool.name]
    return sum(rpm_of(tables[name], count) for name, count in by_unit.items())


def _option(supply: Supply) -> PoolOption:
    if supply.fixed:
        low = high = current(supply)
    else:
        low = max(supply.least, _irreplaceable(supply))
        high = max(supply.most, low)
    return PoolOption(
        name=supply.pool.name,
        unit=supply.unit.name,
        market=supply.pool.market,
        price_usd_per_hour=supply.price,
        low=low,
        high=high,
        in_service=min(supply.in_service, high),
        start_premium=start_premium(supply),
        risk_usd_per_hour=supply.risk,
    )


def _irreplaceable(supply: Supply) -> int:
    """1 for the last node of a pool that is short: given up, it could not be had again."""
    return 1 if supply.refusal is not None and supply.in_service else 0


def _without_surplus(
    supplies: Sequence[Supply], plan: Plan, sizes: Sizes, tables: Tables, demand: float
) -> Sizes:
    """`sizes` less the surplus over the plan that ready nodes can spare, dearest per request first."""
    wanted = dict(sizes)
    ready = {supply.pool.name: supply.ready for supply in supplies}
    for supply in sorted(supplies, key=price_per_request, reverse=True):
        name = supply.pool.name
        if supply.fixed or supply.starting or supply.spared:
            continue
        while wanted[name] > plan.nodes[name]:
            spared = {**ready, name: max(ready[name] - 1, 0)}
            if carried(supplies, spared, tables) < demand and spared != ready:
                break
            ready = spared
            wanted[name] -= 1
    return wanted


def _within_budget(
    supplies: Sequence[Supply], plan: Plan, tables: Tables, fleet: Fleet, demand: float
) -> Sizes:
    """What stands, less what can be spared, plus what the budget has room for; else nodes are swapped."""
    budget = fleet.budget_usd_per_hour
    now = {supply.pool.name: current(supply) for supply in supplies}
    kept = _without_surplus(supplies, plan, now, tables, demand)
    if cost_per_hour(supplies, kept) > budget:
        return shed(supplies, kept, plan.nodes, tables, budget)
    grown = dict(kept)
    for supply in sorted(supplies, key=price_per_request):
        name = supply.pool.name
        room = int((budget - cost_per_hour(supplies, grown)) / supply.price + 1e-9)
        grown[name] += max(0, min(plan.nodes[name] - grown[name], room))
    if grown != kept or in_flight(supplies):
        return grown
    return swapped(supplies, kept, plan.nodes, tables, budget)
