"""How many nodes in each pool: the cheapest counts that carry the demand, exactly.

This module states the problem and what happens when the money or the pools do not suffice;
`search` solves it, at the prices that `prices` finds.
"""

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import lru_cache
from operator import gt
from typing import Final

from control_lambda.core.plan.outliving import (
    MOST_SHARE,
    UnitLosses,
    carried_by,
    losses_of,
    outlived_rpm,
    solve_outliving,
)
from control_lambda.core.plan.search import USD_TOLERANCE, Best, solve
from control_lambda.core.plan.units import RPM_TOLERANCE, Pool, Step, Target, Unit, surviving_share

RATE_TOLERANCE: Final = 1e-9  # relative: rounding may make the rate per node fall by as much
MAX_POOLS: Final = 2  # per unit: on-demand and spot

# What a budget pays for is found to this much: far less than any node carries.
BUDGET_RPM: Final = 0.05


@dataclass(frozen=True, slots=True)
class PoolOption:
    """What the planner may do with one pool: between `low` and `high` nodes.

    While plans are compared each node beyond those `in_service` costs `start_premium` (a share of the price)
    more: its start cost, spread over the time it is expected to stay. Each node costs `risk_usd_per_hour`
    more, for what happens when it is taken away.
    """

    name: str
    unit: str
    market: str
    price_usd_per_hour: float
    low: int
    high: int
    in_service: int = 0
    start_premium: float = 0.0
    risk_usd_per_hour: float = 0.0


@dataclass(frozen=True, slots=True)
class Need:
    """What a plan has to reach, in requests per minute, and what it may spend.

    All nodes together carry `demand_rpm`; what is left after each market loses its share `reserve` (0
    where absent) of every unit's capacity carries `survival_rpm`. After losing any one pool whole, the rest
    carries its market's share `outlived` (0 where absent) of the demand.
    """

    demand_rpm: float
    survival_rpm: float = 0.0
    reserve: Mapping[str, float] = field(default_factory=dict)
    budget_usd_per_hour: float = math.inf
    outlived: Mapping[str, float] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Plan:
    """Nodes by pool name, and what they bring (rpm) and cost (USD per hour, without start premiums).

    `shortfall_rpm` is what is missing of the demand or of the survival, whichever lacks more. A plan is
    `thrifty` when the budget was short, so that premiums and risks did not count. `outlives_rpm` is the
    highest demand of which every loss of a pool leaves the share that its market asks for.
    """

    nodes: Mapping[str, int]
    carried_rpm: float
    surviving_rpm: float
    cost_usd_per_hour: float
    shortfall_rpm: float
    thrifty: bool = False
    outlives_rpm: float = math.inf


def plan(options: Sequence[PoolOption], tables: Mapping[str, Sequence[float]], need: Need) -> Plan:
    """The cheapest plan that carries the demand and survives, within bounds and budget; exact.

    `tables` gives the rpm that a unit carries by the number of nodes in all its pools; no entry may
    have a lower rate per node than the one before (`staffing.carried_table` has none). What is
    compared is (price + risk) x nodes plus the premiums of new nodes. Equal costs: fewest nodes, then more
    nodes in earlier options.

    Where the pools or the budget do not suffice, four things count, in this order: as much of the
    demand as possible, then as much of the survival as possible, then the highest demand of which the
    losses of pools leave their shares (each as far as the pools allow), then the least cost. Once that
    comparison's plan is over the budget, premiums and risks no longer count: money is what is short.
    `low` nodes are kept even when they alone exceed the budget; then nothing is added.

    Raises:
        ValueError: an option, a table or the need is out of range; the message names it.
    """
    _check_need(need)
    units = _units(tuple(options), tables, need.reserve)
    target = Target(
        min(need.demand_rpm, math.fsum(unit.table[unit.high] for unit in units)),
        min(need.survival_rpm, math.fsum(_surviving_at_most(unit) for unit in units)),
    )
    floor = math.fsum(option.low * option.price_usd_per_hour for option in options)
    if floor > need.budget_usd_per_hour - USD_TOLERANCE:
        fewest = solve([_floored(unit) for unit in units], Target(0.0, 0.0))
        return _described(options, fewest, units, need, thrifty=True)
    losses = losses_of(units, [option.market for option in options], need.outlived)
    best = solve_outliving(units, target, losses, target.carried)
    if _spend(units, best) <= need.budget_usd_per_hour + USD_TOLERANCE:
        return _described(options, best, units, need)
    best = _affordable(units, target, losses, need.budget_usd_per_hour)
    return _described(options, best, units, need, thrifty=True)


def _described(
    options: Sequence[PoolOption],
    best: Best,
    units: Sequence[Unit],
    need: Need,
    *,
    thrifty: bool = False,
) -> Plan:
    counts = {}
    for unit, choice in zip(units, best.choices, strict=True):
        counts[unit.first.position] = choice.first
        counts[unit.second.position] = choice.second
    carried = carried_by(units, best)
    shortfall = max(need.demand_rpm - carried, need.survival_rpm - best.surviving)
    losses = losses_of(units, [option.market for option in options], need.outlived)
    return Plan(
        nodes={option.name: counts[position] for position, option in enumerate(options)},
        carried_rpm=carried,
        surviving_rpm=best.surviving,
        cost_usd_per_hour=_spend(units, best),
        shortfall_rpm=shortfall if shortfall > RPM_TOLERANCE else 0.0,
        thrifty=thrifty,
        outlives_rpm=outlived_rpm(units, best, losses, bounded=False),
    )


# --- Too little money ----------------------------------------------------------------------------------


def _affordable(units: Sequence[Unit], target: Target, losses: Sequence[UnitLosses], budget: float) -> Best:
    """The plan with less asked of it, as the budget pays for: first of losses, then survival, then demand."""
    thrifty = [_without_premiums(unit) for unit in units]

    def within_budget(reduced: Target, outlived: float) -> Best | None:
        best = solve_outliving(thrifty, reduced, losses, outlived)
        return best if best.cost <= budget + USD_TOLERANCE else None

    def carried(rpm: float) -> float | None:
        best = within_budget(Target(rpm, 0.0), 0.0)
        return best.carried if best else None

    most = _highest(carried, target.carried)

    def surviving(rpm: float) -> float | None:
        best = within_budget(Target(most, rpm), 0.0)
        return best.surviving if best else None

    reached = Target(most, _highest(surviving, target.surviving))

    def outlived(rpm: float) -> float | None:
        best = within_budget(reached, rpm)
        return outlived_rpm(thrifty, best, losses, bounded=True) if best else None

    return solve_outliving(thrifty, reached, losses, _highest(outlived, most))


def _spend(units: Sequence[Unit], best: Best) -> float:
    """What the plan's nodes cost per hour, without premiums and risks."""
    return math.fsum(
        unit.first.price * choice.first + unit.second.price * choice.second
        for unit, choice in zip(units, best.choices, strict=True)
    )


def _highest(reached: Callable[[float], float | None], limit: float) -> float:
    """The most rpm up to `limit` that can be asked for, to within `BUDGET_RPM`.

    `reached` tells what comes of asking, None where it cannot be had.
    """
    if reached(limit) is not None:
        return limit
    low, high, most = 0.0, limit, 0.0
    while high - low > BUDGET_RPM:
        middle = (low + high) / 2.0
        got = reached(middle)
        if got is None:
            high = middle
        else:
            low, most = max(middle, got), min(limit, got)
    return most


def _without_premiums(unit: Unit) -> Unit:
    first, second = (
        replace(
            pool, kept_price=pool.price, new_price=pool.price, costs=_costs(pool.price, 0.0, 0, pool.high)
        )
        for pool in (unit.first, unit.second)
    )
    return _unit(first, second, unit.table)


def _floored(unit: Unit) -> Unit:
    first, second = (replace(pool, high=pool.low, kept=pool.low) for pool in (unit.first, unit.second))
    return _unit(first, second, unit.table)


# --- Options to units ----------------------------------------------------------------------------------


def _units(
    options: tuple[PoolOption, ...], tables: Mapping[str, Sequence[float]], reserve: Mapping[str, float]
) -> list[Unit]:
    members: dict[str, list[tuple[int, PoolOption]]] = {}
    for position, option in enumerate(options):
        members.setdefault(option.unit, []).append((position, option))
    units: list[Unit] = []
    for name, pools in members.items():
        if len(pools) > MAX_POOLS:
            raise ValueError(f"options: unit {name} has {len(pools)} pools; at most {MAX_POOLS}")
        if name not in tables:
            raise ValueError(f"tables: no unit {name}; every unit of the options needs a table")
        survives = tuple(1.0 - reserve.get(option.market, 0.0) for _, option in pools)
        units.append(_shared(tuple(pools), survives, len(options) + len(units), tuple(tables[name])))
    return units


@lru_cache(maxsize=64)
def _shared(
    members: tuple[tuple[int, PoolOption], ...],
    survives: tuple[float, ...],
    free_position: int,
    table: tuple[float, ...],
) -> Unit:
    """The unit of one or two pools with their positions; from tick to tick most units stay as they are."""
    pools = [
        _pool(position, option, share) for (position, option), share in zip(members, survives, strict=True)
    ]
    absent = Pool(free_position, 0, 0, 0, 0.0, 0.0, 0.0, survives[0], (0.0,))
    first, second = sorted([*pools, absent][:MAX_POOLS], key=lambda pool: pool.survives)
    return _unit(first, second, _checked(members[0][1].unit, table, first.high + second.high))


def _pool(position: int, option: PoolOption, survives: float) -> Pool:
    _check_option(option)
    kept_price = option.price_usd_per_hour + option.risk_usd_per_hour
    premium = option.price_usd_per_hour * option.start_premium
    return Pool(
        position=position,
        low=option.low,
        high=option.high,
        kept=min(max(option.in_service, option.low), option.high),
        price=option.price_usd_per_hour,
        kept_price=kept_price,
        new_price=kept_price + premium,
        survives=survives,
        costs=_costs(kept_price, premium, option.in_service, option.high),
    )


@lru_cache(maxsize=1024)
def _costs(price: float, premium: float, in_service: int, high: int) -> tuple[float, ...]:
    """What 0 to `high` nodes cost in comparisons: those beyond `in_service` with the premium."""
    running = [price * nodes for nodes in range(min(in_service, high) + 1)]
    started = [price * nodes + premium * (nodes - in_service) for nodes in range(in_service + 1, high + 1)]
    return (*running, *started)


def _unit(first: Pool, second: Pool, table: Sequence[float]) -> Unit:
    steps = []
    for pool in (first, second):
        for nodes, price in (
            (pool.kept - pool.low, pool.kept_price),
            (pool.high - pool.kept, pool.new_price),
        ):
            if nodes:
                steps.append(Step(pool is first, pool.position, nodes, price, pool.survives))
    return Unit(first, second, table, first.low + second.low, first.high + second.high, tuple(steps))


def _surviving_at_most(unit: Unit) -> float:
    return unit.table[unit.high] * surviving_share(unit, unit.first.high, unit.high)


def _checked(unit: str, table: Sequence[float], high: int) -> tuple[float, ...]:
    """The table up to `high` nodes, once it is known to serve."""
    if len(table) <= high:
        raise ValueError(f"tables: {unit} ends at {len(table) - 1} nodes; its pools may have {high}")
    known = tuple(table[: high + 1])
    if known[0] != 0.0 or min(known) < 0.0:
        raise ValueError(f"tables: {unit} must start with 0 rpm for no node and never be negative")
    fallen = _falling_rate(known)
    if fallen:
        raise ValueError(
            f"tables: {unit} carries less per node with {fallen} nodes than with {fallen - 1}; "
            "the rate per node must not fall"
        )
    return known


@lru_cache(maxsize=64)
def _falling_rate(table: tuple[float, ...]) -> int:
    """The first size whose rate per node is below that of the size before; 0 where there is none."""
    rates = [rpm / nodes for nodes, rpm in enumerate(table[1:], 1)]
    allowed = [rate * (1.0 - RATE_TOLERANCE) for rate in rates]
    falls = map(gt, allowed, rates[1:])
    return next((size for size, falling in enumerate(falls, 2) if falling), 0)


def _check_option(option: PoolOption) -> None:
    if not 0 <= option.low <= option.high:
        raise ValueError(f"{option.name}: low {option.low}, high {option.high}; must be 0 <= low <= high")
    if option.in_service < 0:
        raise ValueError(f"{option.name}: in_service {option.in_service}; must be at least 0")
    if not 0.0 < option.price_usd_per_hour < math.inf:
        raise ValueError(f"{option.name}: price {option.price_usd_per_hour:g}; must be positive and finite")
    if not 0.0 <= option.start_premium < math.inf:
        raise ValueError(f"{option.name}: start_premium {option.start_premium:g}; must be at least 0")
    if not 0.0 <= option.risk_usd_per_hour < math.inf:
        raise ValueError(f"{option.name}: risk {option.risk_usd_per_hour:g}; must be at least 0 and finite")


def _check_need(need: Need) -> None:
    for name, rpm in (("demand_rpm", need.demand_rpm), ("survival_rpm", need.survival_rpm)):
        if not 0.0 <= rpm < math.inf:
            raise ValueError(f"{name}: {rpm:g}; must be finite and at least 0")
    for market, share in need.reserve.items():
        if not 0.0 <= share < 1.0:
            raise ValueError(f"reserve: {market} {share:g}; must be at least 0 and below 1")
    for market, share in need.outlived.items():
        if not 0.0 <= share <= MOST_SHARE:
            raise ValueError(f"outlived: {market} {share:g}; must be at least 0 and at most {MOST_SHARE:g}")
    if not need.budget_usd_per_hour >= 0.0:
        raise ValueError(f"budget_usd_per_hour: {need.budget_usd_per_hour:g}; must be at least 0")
