"""One decision: from what was sensed and remembered to mode, sizes and weights, each with its reason.

Pure: the same snapshot, state and fleet always give the same decision. `snapshot.at` is now.
"""

from collections.abc import Iterator, Mapping
from typing import Final

from control_lambda.core import record, why
from control_lambda.core.demand import idle, worth
from control_lambda.core.fleet import Fleet
from control_lambda.core.model import Decision, Mode, Snapshot, State, Termination
from control_lambda.core.outlook import Outlook, look
from control_lambda.core.plan import planner, sizes
from control_lambda.core.plan.bridging import bridged
from control_lambda.core.supply import rebalancing, replacing
from control_lambda.core.supply.refusal_kinds import REFUSAL_KINDS
from control_lambda.core.supply.supply import Supply, cost_per_hour
from control_lambda.core.traffic.policies import POLICIES
from control_lambda.core.traffic.shares import (
    Traffic,
    choose_class_weights,
    choose_traffic,
    formula_shares,
    overloaded,
)

# Markets flap: in the evaluation's capacity traces a shortage that ends is back within hours. A day in
# capacity mode costs nothing but the shares' order, and keeps the mode from flapping with the market.
LEAST_DWELL_SECONDS: Final = 86400.0
# Back to cost mode only with this much more than the threshold that led to capacity mode.
HYSTERESIS: Final = 1.1


def decide(snapshot: Snapshot, state: State, fleet: Fleet) -> tuple[Decision, State]:
    """Decide on mode, sizes and weights; return the decision and the state to remember."""
    outlook = look(snapshot, state, fleet)
    mode = choose_mode(outlook)
    plan = choose_plan(outlook, mode)
    wanted = choose_sizes(outlook, plan)
    traffic = choose_traffic(outlook, mode, wanted)
    kept = within_members(outlook, keep_what_serves(outlook, wanted, traffic))
    rows = choose_class_weights(outlook, traffic, kept)
    leaving = choose_terminations(outlook, kept)
    swaps = rebalancing.choose(snapshot.pools, state.rebalancing)
    choice = record.Choice(mode, plan.nodes, kept, traffic.weights, rows, leaving, swaps)
    told = why.tell(outlook, choice, plan, traffic)
    return record.decision(outlook, choice, told), record.remembered(outlook, choice)


def choose_mode(outlook: Outlook) -> Mode:
    """Capacity mode while the cheapest units, ready or launchable, fall short of the forecast.

    The switch of arXiv 2503.20074 (capacity against A_threshold), with hysteresis and a least dwell.
    """
    before = outlook.before
    if outlook.forecast.stale:
        return before.mode
    dwelling = outlook.snapshot.at - before.mode_since < LEAST_DWELL_SECONDS
    if before.mode is Mode.CAPACITY and dwelling:
        return Mode.CAPACITY
    needed = outlook.fleet.threshold * outlook.forecast.upper
    if before.mode is Mode.CAPACITY:
        needed *= HYSTERESIS
    return Mode.COST if _cheapest_carry(outlook, needed) else Mode.CAPACITY


def choose_plan(outlook: Outlook, mode: Mode) -> planner.Plan:
    """The sizes to aim for: the cheapest that carry the forecast, or those of the policy's shares.

    As they stand while demand is stale, and while everything that served is unhealthy at once.
    """
    if outlook.forecast.stale or outlook.all_unhealthy:
        return sizes.unchanged_plan(outlook.supplies, outlook.tables, outlook.fleet)
    formula = POLICIES[outlook.fleet.policy].formula
    if formula is not None:
        shares = formula_shares(outlook, formula, mode, _available(outlook))
        return sizes.shared_plan(
            outlook.supplies, outlook.tables, shares, outlook.fleet, outlook.demand_to_carry
        )
    plan = sizes.target(
        outlook.supplies, outlook.tables, outlook.fleet, outlook.demand_to_carry, outlook.forecast.mean
    )
    late_usd = worth.usd_per_late_request(outlook.fleet, outlook.tables)
    budget = outlook.fleet.budget_usd_per_hour
    return bridged(outlook.supplies, plan, outlook.tables, budget, outlook.forecast.now, late_usd)


def choose_sizes(outlook: Outlook, plan: planner.Plan) -> dict[str, int]:
    """The sizes of this tick on the way to the plan; while nothing comes, not far below what is there."""
    wanted = sizes.desired(outlook.supplies, plan, outlook.tables, outlook.fleet, outlook.demand_to_carry)
    kept = idle.kept_nodes(outlook.state.idle)
    return sizes.kept_at_least(outlook.supplies, wanted, kept, outlook.fleet.budget_usd_per_hour)


def keep_what_serves(outlook: Outlook, wanted: Mapping[str, int], traffic: Traffic) -> dict[str, int]:
    """`wanted`, but no pool shrinks whose unit still gets more traffic than the rest of it carries.

    Where that costs more than the budget, nodes that are swapped do leave; what it still costs beyond the
    budget is not grown elsewhere.
    """
    now = {supply.pool.name: sizes.current(supply) for supply in outlook.supplies}
    kept = dict(wanted)
    for swapping in (False, True):
        busy = overloaded(outlook, traffic, wanted, swapping=swapping)
        kept = {
            supply.pool.name: max(wanted[supply.pool.name], now[supply.pool.name])
            if supply.unit.name in busy
            else wanted[supply.pool.name]
            for supply in outlook.supplies
        }
        if kept == wanted or cost_per_hour(outlook.supplies, kept) <= outlook.fleet.budget_usd_per_hour:
            return kept
    return {name: min(nodes, now[name]) for name, nodes in kept.items()}


def choose_terminations(outlook: Outlook, wanted: Mapping[str, int]) -> tuple[Termination, ...]:
    """The nodes that leave by id: those of no use, slow ones, and the worst where a pool with such shrinks.

    A node gives up its place where the group is to want less: it may not grow there, or need not.
    """
    return tuple(
        item
        for supply in outlook.supplies
        if supply.sensed and not supply.fixed
        for item in _leaving(outlook, supply, wanted[supply.pool.name])
    )


def _leaving(outlook: Outlook, supply: Supply, wanted: int) -> Iterator[Termination]:
    signals = outlook.snapshot.pools[supply.pool.name]
    too_many = max(0, signals.desired - supply.group_size(wanted))
    decrements = min(too_many, len(supply.doomed))
    surplus = min(too_many - decrements, max(0, supply.in_service - wanted))
    left = replacing.allowance(supply.pool.name, outlook.snapshot, outlook.state) - len(supply.doomed)
    chosen = bool(supply.census.slow or supply.useless or supply.doomed) and 0 < surplus <= left
    first = replacing.leaving_first(supply.census, signals, surplus, supply.doomed) if chosen else ()
    return replacing.terminations(supply.pool.name, supply.census, supply.doomed, first, decrements)


def within_members(outlook: Outlook, sizes_of_use: Mapping[str, int]) -> dict[str, int]:
    """The sizes, but no group with nodes of no use grows where nothing may: such a node makes place instead.

    Nothing may grow while demand is stale, nor beyond the budget.
    """
    cost = cost_per_hour(outlook.supplies, sizes_of_use)
    if not outlook.forecast.stale and cost <= outlook.fleet.budget_usd_per_hour:
        return dict(sizes_of_use)
    return {
        supply.pool.name: min(sizes_of_use[supply.pool.name], _held_of_use(supply))
        if supply.useless
        else sizes_of_use[supply.pool.name]
        for supply in outlook.supplies
    }


def _held_of_use(supply: Supply) -> int:
    """How many nodes of use the group has room for as it is wanted now, within its owner's minimum."""
    return max(supply.members - supply.useless, supply.desired, supply.pool.nodes.min - supply.useless)


def _cheapest_carry(outlook: Outlook, needed: float) -> bool:
    """Whether the pools that would carry the forecast at least cost can be had to `needed` rpm."""
    if not any(_is_short(supply) for supply in outlook.supplies):
        return True
    free = sizes.unconstrained_plan(outlook.supplies, outlook.tables, outlook.fleet, outlook.demand_to_carry)
    obtainable = {
        supply.pool.name: _obtainable(supply) if free.nodes[supply.pool.name] else 0
        for supply in outlook.supplies
    }
    wanted = min(needed, sizes.carried(outlook.supplies, _most(outlook), outlook.tables))
    return sizes.carried(outlook.supplies, obtainable, outlook.tables) >= wanted


def _most(outlook: Outlook) -> dict[str, int]:
    return {supply.pool.name: supply.pool.nodes.max for supply in outlook.supplies}


def _available(outlook: Outlook) -> dict[str, bool]:
    """The paper's A_i: whether a unit has nodes or may get some."""
    units = {
        supply.unit.name
        for supply in outlook.supplies
        if supply.coming or (supply.most and not (supply.refusal or supply.awaits_build))
    }
    return {name: name in units for name in outlook.tables}


def _is_short(supply: Supply) -> bool:
    return supply.refusal is not None and REFUSAL_KINDS[supply.refusal.kind].flips_mode


def _obtainable(supply: Supply) -> int:
    return supply.coming if _is_short(supply) else supply.pool.nodes.max
