"""Which unit gets which share of traffic this tick: the policy's wish, the ramp, the integers."""

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final

from control_lambda.core.fleet import QueryClass
from control_lambda.core.model import Mode
from control_lambda.core.outlook import Outlook
from control_lambda.core.supply.overload import queueing
from control_lambda.core.supply.supply import rpm_of
from control_lambda.core.traffic import ramp, weights
from control_lambda.core.traffic.policies import POLICIES, Formula

# Below this move of every share the rule is left alone: it would be written for nothing.
DEADBAND: Final = 0.02


@dataclass(frozen=True, slots=True)
class Traffic:
    """The shares and weights of a tick; `jumped` says that survival took precedence over the ramp."""

    shares: Mapping[str, float]
    weights: Mapping[str, int]
    jumped: bool


def choose_traffic(outlook: Outlook, mode: Mode, sizes: Mapping[str, int]) -> Traffic:
    """Shares for the nodes that are ready now and stay under the given sizes."""
    if not outlook.anything_serves:
        return _as_it_stands(outlook)
    able = _able(outlook)
    staying = {name: min(able[name], rpm) for name, rpm in _carrying_after(outlook, sizes).items()}
    wanted = _wish(outlook, mode, staying if any(staying.values()) else able)
    current = shares_in_force(outlook)
    shares, jumped = ramp.step(current, wanted, able, outlook.forecast.now)
    names = [unit.name for unit in outlook.fleet.units]
    if _is_settled(current, shares) and set(_weights_in_force(outlook)) == set(names):
        return Traffic(current, _weights_in_force(outlook), jumped=False)
    return Traffic(shares, weights.to_weights(shares, names), jumped)


def _as_it_stands(outlook: Outlook) -> Traffic:
    """The weights in the rule: with nothing healthy the load balancer sends requests to every target."""
    read = outlook.snapshot.weights
    known = _weights_in_force(outlook) if read is None else read
    stands = {unit.name: known[unit.name] for unit in outlook.fleet.units if unit.name in known}
    return Traffic(weights.to_shares(stands), stands, jumped=False)


def choose_class_weights(
    outlook: Outlook, traffic: Traffic, sizes: Mapping[str, int]
) -> dict[str, dict[str, int]]:
    """A row of weights for each query class before the last, for the nodes that stay under `sizes`.

    A planned weight holds for the unit's maximum of nodes, so it shrinks with the share of them that is
    ready. A class without a plan, or none of whose units is ready, is shared like all other traffic. With
    nothing ready at all every row stays.
    """
    if not outlook.anything_serves:
        return {}
    carrying = _carrying_after(outlook, sizes)
    return {
        item.name: _class_row(outlook, item, carrying) or dict(traffic.weights)
        for item in outlook.fleet.classes[:-1]
    }


def _class_row(outlook: Outlook, item: QueryClass, carrying: Mapping[str, float]) -> dict[str, int]:
    """The class's planned row, ramped from the one that stands; empty where no planned unit is ready."""
    wanted = {
        unit.name: item.weights[unit.name]
        * outlook.ready[unit.name]
        / max(1, sum(pool.nodes.max for pool in unit.pools))
        for unit in outlook.fleet.units
        if item.weights.get(unit.name) and carrying[unit.name] > 0
    }
    total = sum(wanted.values())
    if total <= 0:
        return {}
    shares = {name: share / total for name, share in wanted.items()}
    row = outlook.snapshot.class_weights.get(item.name, {})
    current = weights.to_shares(row)
    moved, _ = ramp.step(current, shares, carrying, outlook.forecast.now)
    if row and _is_settled(current, moved):
        return dict(row)
    return weights.to_weights(moved, [unit.name for unit in outlook.fleet.units])


def shares_in_force(outlook: Outlook) -> weights.Shares:
    """The shares that we last decided; on the first tick those of the rule as it stands."""
    return weights.to_shares(_weights_in_force(outlook))


def overloaded(
    outlook: Outlook, traffic: Traffic, sizes: Mapping[str, int], *, swapping: bool = False
) -> list[str]:
    """The units whose share is more than the nodes that stay under `sizes` carry.

    None where no request is expected at all: a fleet that nobody uses keeps no more than its minimum. While
    nodes are swapped all that stays may carry less than comes, and no other share helps: then only those that
    would have no node at all.
    """
    after = _carrying_after(outlook, sizes)
    now = outlook.forecast.now
    helpless = swapping and now > sum(after.values())
    if not now and not outlook.forecast.stale and not any(after.values()):
        return []
    return [
        name
        for name, share in traffic.shares.items()
        if share > 0 and (after[name] <= 0 or (share * now > after[name] and not helpless))
    ]


def _weights_in_force(outlook: Outlook) -> Mapping[str, int]:
    return outlook.before.weights or outlook.snapshot.weights or {}


def _is_settled(current: Mapping[str, float], shares: Mapping[str, float]) -> bool:
    """Whether the same units carry about the same shares."""
    carrying = {name for name, share in current.items() if share > 0}
    return carrying == set(shares) and all(
        abs(share - current[name]) < DEADBAND for name, share in shares.items()
    )


def _carrying_after(outlook: Outlook, sizes: Mapping[str, int]) -> dict[str, float]:
    """What each unit's ready nodes carry (rpm) once the groups have shrunk to `sizes`."""
    ready = dict(outlook.ready)
    for supply in outlook.supplies:
        removed = max(0, supply.in_service - sizes[supply.pool.name]) if supply.sensed else 0
        ready[supply.unit.name] -= min(removed, supply.ready)
    return {name: rpm_of(outlook.tables[name], count) for name, count in ready.items()}


def _able(outlook: Outlook) -> dict[str, float]:
    """What each unit that may get traffic carries (rpm): by its ready nodes, less those above its maximum.

    A group that is held keeps those too. Where no unit keeps the objective, one request per minute for each
    ready node, or where none is ready for each that is about to be taken away.
    """
    limits = {
        supply.pool.name: supply.in_service if supply.fixed else min(supply.in_service, supply.pool.nodes.max)
        for supply in outlook.supplies
    }
    able = _carrying_after(outlook, limits)
    if any(able.values()):
        return able
    if any(outlook.ready.values()):
        return {name: float(nodes) for name, nodes in outlook.ready.items()}
    leaving: dict[str, float] = dict.fromkeys(outlook.tables, 0.0)
    for supply in outlook.supplies:
        leaving[supply.unit.name] += supply.leaving
    return leaving


def _wish(outlook: Outlook, mode: Mode, carrying: Mapping[str, float]) -> weights.Shares:
    formula = POLICIES[outlook.fleet.policy].formula
    if formula is not None:
        return formula_shares(outlook, formula, mode, {name: rpm > 0 for name, rpm in carrying.items()})
    now = outlook.forecast.now
    if mode is Mode.CAPACITY or now > sum(carrying.values()):
        return weights.spread(carrying, now, queueing(outlook.state.queueing, outlook.fleet))
    order = sorted(carrying, key=lambda name: (_price_per_rpm(outlook, name), name))
    return weights.merit_order(carrying, order, min(outlook.demand_to_carry, sum(carrying.values())))


def formula_shares(
    outlook: Outlook, formula: Formula, mode: Mode, available: Mapping[str, bool]
) -> weights.Shares:
    """The shares that a policy's formula gives to the available units; equal ones in capacity mode."""
    if mode is Mode.CAPACITY:
        return weights.equal(available)
    units = outlook.fleet.units
    return formula(units, {unit.name: _price(outlook, unit.name) for unit in units}, available)


def _price(outlook: Outlook, unit: str) -> float:
    return min(supply.price for supply in outlook.supplies if supply.unit.name == unit)


def _price_per_rpm(outlook: Outlook, unit: str) -> float:
    """USD per hour for one rpm that the unit carries at full size."""
    table = outlook.tables[unit]
    return _price(outlook, unit) * (len(table) - 1) / table[-1] if table[-1] > 0 else math.inf
