"""Which unit gets which share of traffic this tick: the policy's wish, the ramp, the integers."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final

from control_lambda.core import ramp, weights
from control_lambda.core.model import Mode
from control_lambda.core.outlook import Outlook
from control_lambda.core.supply import ready_by_unit, rpm_of

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
    staying = _carrying_after(outlook, sizes)
    if not any(staying.values()):
        staying = outlook.carrying
    standing = standing_shares(outlook)
    wanted = _wish(outlook, mode, staying)
    shares, jumped = ramp.step(standing, wanted, outlook.carrying, outlook.forecast.now)
    names = [unit.name for unit in outlook.fleet.units]
    if _is_settled(standing, shares):
        return Traffic(standing, _standing_weights(outlook), jumped=False)
    return Traffic(shares, weights.to_weights(shares, names), jumped)


def standing_shares(outlook: Outlook) -> weights.Shares:
    """The shares that we last decided; on the first tick those of the rule as it stands."""
    return weights.to_shares(_standing_weights(outlook))


def overloaded(outlook: Outlook, traffic: Traffic, sizes: Mapping[str, int]) -> list[str]:
    """The units whose share is more than the nodes that stay under `sizes` carry."""
    after = _carrying_after(outlook, sizes)
    now = outlook.forecast.now
    return [
        name
        for name, share in traffic.shares.items()
        if share > 0 and (share * now > after[name] or after[name] <= 0)
    ]


def _standing_weights(outlook: Outlook) -> Mapping[str, int]:
    return outlook.before.weights or outlook.snapshot.weights or {}


def _is_settled(standing: Mapping[str, float], shares: Mapping[str, float]) -> bool:
    """Whether the same units carry about the same shares."""
    carrying = {name for name, share in standing.items() if share > 0}
    return carrying == set(shares) and all(
        abs(share - standing[name]) < DEADBAND for name, share in shares.items()
    )


def _carrying_after(outlook: Outlook, sizes: Mapping[str, int]) -> dict[str, float]:
    """What each unit's ready nodes carry (rpm) once the groups have shrunk to `sizes`."""
    ready = ready_by_unit(outlook.supplies)
    for supply in outlook.supplies:
        removed = max(0, supply.in_service - sizes[supply.pool.name]) if supply.sensed else 0
        ready[supply.unit.name] -= min(removed, supply.ready)
    return {name: rpm_of(outlook.tables[name], count) for name, count in ready.items()}


def _wish(outlook: Outlook, mode: Mode, carrying: Mapping[str, float]) -> weights.Shares:
    units, policy = outlook.fleet.units, outlook.fleet.policy
    prices = {unit.name: _price(outlook, unit.name) for unit in units}
    available = {name: rpm > 0 for name, rpm in carrying.items()}
    if policy == "merit-order":
        order = sorted(carrying, key=lambda name: (_price_per_request(outlook, name, prices), name))
        if mode is Mode.CAPACITY:
            return weights.spread(carrying, outlook.forecast.now)
        if outlook.forecast.now > sum(carrying.values()):
            return weights.spread(carrying, outlook.forecast.now)
        return weights.merit_order(carrying, order, min(outlook.demand_to_carry, sum(carrying.values())))
    if policy in {"equal", "paper-capacity"} or mode is Mode.CAPACITY:
        return weights.equal(available)
    formula = weights.paper_optimal if policy == "paper-optimal" else weights.paper_cost
    return formula(units, prices, available)


def _price(outlook: Outlook, unit: str) -> float:
    return min(supply.price for supply in outlook.supplies if supply.unit.name == unit)


def _price_per_request(outlook: Outlook, unit: str, prices: Mapping[str, float]) -> float:
    full = outlook.tables[unit][-1]
    nodes = len(outlook.tables[unit]) - 1
    return prices[unit] * nodes / full if full > 0 else float("inf")
