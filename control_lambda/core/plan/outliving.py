"""Plans that outlive the loss of any one pool: what is left carries a share of the demand, exactly.

The search knows two sums, the rpm carried and the rpm surviving. The losses of pools need no further one.
With D the demand, T what a unit carries by its nodes and W the rpm to be left after the loss of a pool that
holds n of its unit's s nodes,

    what the other units carry + T(s - n) >= W,

and as the others have to bring D - T(s) anyway, this is what counting the unit for

    min(T(s), T(s - n) + D - W)

asks for: the pool counts for D - W at most. Capping every unit at once asks for no more than that, as long as
W <= D / 2: two units that both reach their caps bring D already, and each outlives the other. A cap takes
from a unit its merit order, so only those are capped whose pools would not be outlived without.
"""

import math
from collections.abc import Mapping, Sequence
from typing import Final, NamedTuple

from control_lambda.core.plan.search import Best, solve
from control_lambda.core.plan.units import RPM_TOLERANCE, Target, Unit, capped

MOST_SHARE: Final = 0.5  # of the demand that can be asked to be left


class PoolLoss(NamedTuple):
    """What the loss of a pool may have to leave: the `share` of the demand, `most` rpm where pools end."""

    share: float
    most: float

    def asked(self, rpm: float) -> float:
        """What has to be left, in rpm, where the demand is `rpm`."""
        return min(self.share * rpm, self.most)


class UnitLosses(NamedTuple):
    """Of a unit's two pools."""

    first: PoolLoss
    second: PoolLoss


def losses_of(
    units: Sequence[Unit], markets: Sequence[str], outlived: Mapping[str, float]
) -> list[UnitLosses]:
    """What each unit's losses have to leave; `markets` are those of the pools, by position."""
    most = math.fsum(unit.table[unit.high] for unit in units)
    shares = [outlived.get(market, 0.0) for market in markets] + [0.0] * len(units)
    losses = []
    for unit in units:
        others = most - unit.table[unit.high]
        losses.append(
            UnitLosses(
                PoolLoss(shares[unit.first.position], others + unit.table[unit.second.high]),
                PoolLoss(shares[unit.second.position], others + unit.table[unit.first.high]),
            )
        )
    return losses


def solve_outliving(units: Sequence[Unit], target: Target, losses: Sequence[UnitLosses], rpm: float) -> Best:
    """The cheapest plan that meets the `target` and, after any loss, carries its share of `rpm`.

    Raises:
        ValueError: no plan meets the target.
    """
    free = list(units)
    while True:
        best = solve(free, target)
        exposed = [
            index
            for index, (loss, rest) in enumerate(zip(losses, rests(units, best), strict=True))
            if not free[index].is_capped and _falls_short(loss, rest, rpm)
        ]
        if not exposed:
            return best
        for index in exposed:
            caps = (target.carried - loss.asked(rpm) if loss.share else math.inf for loss in losses[index])
            free[index] = capped(units[index], *caps)


def outlived_rpm(units: Sequence[Unit], best: Best, losses: Sequence[UnitLosses], *, bounded: bool) -> float:
    """The highest demand of which every loss leaves its share; `bounded`: as far as the pools allow."""
    pairs = [
        (loss, rest)
        for of_unit, left in zip(losses, rests(units, best), strict=True)
        for loss, rest in zip(of_unit, left, strict=True)
        if loss.share and not (bounded and rest > loss.most - RPM_TOLERANCE)
    ]
    return min((rest / loss.share for loss, rest in pairs), default=math.inf)


def carried_by(units: Sequence[Unit], best: Best) -> float:
    """What the plan's nodes carry, in rpm."""
    return math.fsum(
        unit.table[choice.first + choice.second] for unit, choice in zip(units, best.choices, strict=True)
    )


def rests(units: Sequence[Unit], best: Best) -> list[tuple[float, float]]:
    """By unit, what is carried after the loss of its first pool, and of its second."""
    carried = carried_by(units, best)
    left = []
    for unit, choice in zip(units, best.choices, strict=True):
        others = carried - unit.table[choice.first + choice.second]
        left.append((others + unit.table[choice.second], others + unit.table[choice.first]))
    return left


def _falls_short(losses: UnitLosses, left: tuple[float, float], rpm: float) -> bool:
    return any(
        loss.share and rest < loss.asked(rpm) - RPM_TOLERANCE for loss, rest in zip(losses, left, strict=True)
    )
