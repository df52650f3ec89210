"""From the shares that stand to the shares that are wanted, without jolts.

A unit's share moves by at most 20 points a tick, so that a recovered or new unit proves itself on
little traffic. Survival precedes ramp: when the ready rest cannot carry demand, shares jump.
"""

from collections.abc import Mapping
from typing import Final

from control_lambda.core.traffic.weights import Shares

MOST_A_TICK: Final = 0.20
MOST_FOR_NEW: Final = 0.05
# Integer weights may round a share up by half a point of a thousand.
ROUNDING: Final = 0.001


def step(
    current: Mapping[str, float], wanted: Mapping[str, float], capacity: Mapping[str, float], demand: float
) -> tuple[Shares, bool]:
    """The shares of this tick, and whether they had to jump.

    `current` are the shares in force (empty when nothing is), `capacity` what each unit's ready nodes
    carry (rpm; 0 = no ready node), `demand` what comes now (rpm).
    """
    if not wanted:
        return {}, False
    base = _alive(current, capacity)
    if not base:
        return dict(wanted), bool(current)
    moved = _toward(base, wanted, _reach(current, base, wanted))
    if _overload(moved, capacity, demand) <= _overload(wanted, capacity, demand):
        return moved, False
    relieved = _relieved(moved, base, current, capacity, demand)
    return (dict(wanted), True) if relieved is None else (relieved, False)


def _alive(current: Mapping[str, float], capacity: Mapping[str, float]) -> Shares:
    """The current shares of units with ready nodes, scaled up to make a whole."""
    alive = {name: share for name, share in current.items() if share > 0 and capacity.get(name, 0.0) > 0}
    total = sum(alive.values())
    return {name: share / total for name, share in alive.items()}


def _reach(current: Mapping[str, float], base: Mapping[str, float], wanted: Mapping[str, float]) -> float:
    """How much of the way from `base` to `wanted` no unit exceeds its step on."""
    reach = 1.0
    for name in {*base, *wanted}:
        move = wanted.get(name, 0.0) - base.get(name, 0.0)
        most = (MOST_A_TICK if name in current or move < 0 else MOST_FOR_NEW) - ROUNDING
        if abs(move) > most:
            reach = min(reach, most / abs(move))
    return reach


def _toward(base: Mapping[str, float], wanted: Mapping[str, float], reach: float) -> Shares:
    names = sorted({*base, *wanted})
    moved = {name: (1 - reach) * base.get(name, 0.0) + reach * wanted.get(name, 0.0) for name in names}
    return {name: share for name, share in moved.items() if share > 0}


def _relieved(
    moved: Mapping[str, float],
    base: Mapping[str, float],
    current: Mapping[str, float],
    capacity: Mapping[str, float],
    demand: float,
) -> Shares | None:
    """`moved` with what overloads a unit given to those with room within their step; None without room."""
    able = {name: rpm / demand for name, rpm in capacity.items() if rpm > 0}
    excess = {name: max(0.0, share - able.get(name, 0.0)) for name, share in moved.items()}
    room = {}
    for name, most in able.items():
        within_step = base.get(name, 0.0) + (MOST_A_TICK if name in current else MOST_FOR_NEW) - ROUNDING
        room[name] = max(0.0, min(within_step, most) - moved.get(name, 0.0))
    lacking, spare = sum(excess.values()), sum(room.values())
    if spare < lacking:
        return None
    names = sorted({*moved, *room})
    shares = {
        name: moved.get(name, 0.0) - excess.get(name, 0.0) + lacking * room.get(name, 0.0) / spare
        for name in names
    }
    return {name: share for name, share in shares.items() if share > 0}


def _overload(shares: Mapping[str, float], capacity: Mapping[str, float], demand: float) -> float:
    """Requests per minute beyond what the units they are sent to carry."""
    return sum(max(0.0, share * demand - capacity.get(name, 0.0)) for name, share in shares.items())
