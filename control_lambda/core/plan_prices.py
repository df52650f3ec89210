"""Prices for the planner's search: the multipliers of its relaxation.

In the relaxation a unit may stop anywhere between two corners of the lower hull of cost over rpm. For
a given price of survival it is solved by walking those hulls in the order of their slopes; the best
such price is at the top of a concave function, found by intersecting tangents (Kelley 1960).
"""

import math
from collections.abc import Sequence
from itertools import pairwise
from typing import Final, NamedTuple

from control_lambda.core.plan_units import (
    RPM_TOLERANCE,
    Prices,
    Target,
    Unit,
    full_rate,
    merit_order,
    surviving_share,
)

CLOSE_ENOUGH: Final = 1e-7  # relative: what is left to gain in the bound
TANGENT_STEPS: Final = 12  # a concave function with a handful of kinks: 4 to 6 tangents suffice


class _Relaxed(NamedTuple):
    """The relaxation at a given price of survival: `short_rpm` is what its solution lacks of survival."""

    value: float
    prices: Prices
    short_rpm: float


class _Corner(NamedTuple):
    """A size at which the unit's merit order changes price; `cost` less what the price of survival pays."""

    carried: float
    cost: float
    surviving: float


def prices_for(units: Sequence[Unit], target: Target) -> Prices:
    """Prices that make the bound high; the bound is valid at any."""
    steps = [(unit, step) for unit in units for step in unit.steps]
    if not steps:
        return Prices(0.0, 0.0)
    dearest = max(
        (step.price / full_rate(unit) / step.survives for unit, step in steps if full_rate(unit) > 0),
        default=0.0,
    )
    low, high = 0.0, 2.0 * dearest
    left = _relaxed(units, target, low)
    if left.short_rpm <= RPM_TOLERANCE:
        return left.prices
    right = _relaxed(units, target, high)
    best = max(left, right)
    for _ in range(TANGENT_STEPS):
        if right.short_rpm >= 0.0:
            break
        rise = left.value - right.value - left.short_rpm * low + right.short_rpm * high
        middle = rise / (right.short_rpm - left.short_rpm)
        ceiling = left.value + left.short_rpm * (middle - low)
        point = _relaxed(units, target, middle)
        best = max(best, point)
        if point.value >= ceiling - CLOSE_ENOUGH * abs(ceiling):
            break
        if point.short_rpm > 0.0:
            low, left = middle, point
        else:
            high, right = middle, point
    return best.prices


def _relaxed(units: Sequence[Unit], target: Target, price: float) -> _Relaxed:
    """Carry the target at least cost along the units' lower hulls; each surviving rpm pays `price`."""
    hulls = [_hull(unit, price) for unit in units]
    value = price * target.surviving + math.fsum(hull[0].cost for hull in hulls)
    short = target.surviving - math.fsum(hull[0].surviving for hull in hulls)
    left = target.carried - math.fsum(hull[0].carried for hull in hulls)
    edges = [(_slope(*edge), *edge) for hull in hulls for edge in pairwise(hull)]
    paid = 0.0
    for slope, here, there in sorted(edges):
        if slope > 0.0:
            if left <= RPM_TOLERANCE:
                break
            paid = slope
        length = there.carried - here.carried
        part = 1.0 if slope <= 0.0 or left >= length else left / length
        left -= part * length
        value += part * length * slope
        short -= part * (there.surviving - here.surviving)
    return _Relaxed(value, Prices(paid, price), short)


def _hull(unit: Unit, price: float) -> list[_Corner]:
    """The lower hull of cost over rpm through the corners of the unit's merit order."""
    first, second = unit.first.low, unit.second.low
    hull = [_corner(unit, first, second, price)]
    for step in merit_order(unit, price * full_rate(unit)):
        if step.of_first:
            first += step.nodes
        else:
            second += step.nodes
        corner = _corner(unit, first, second, price)
        while len(hull) > 1 and _is_above(hull[-1], hull[-2], corner):
            hull.pop()
        if corner.carried > hull[-1].carried:
            hull.append(corner)
    return hull


def _corner(unit: Unit, first: int, second: int, price: float) -> _Corner:
    size = first + second
    carried = unit.table[size]
    surviving = carried * surviving_share(unit, first, size)
    cost = unit.first.costs[first] + unit.second.costs[second]
    return _Corner(carried, cost - price * surviving, surviving)


def _slope(here: _Corner, there: _Corner) -> float:
    return (there.cost - here.cost) / (there.carried - here.carried)


def _is_above(middle: _Corner, left: _Corner, right: _Corner) -> bool:
    """Whether `middle` lies on or above the line from `left` to `right`."""
    rise = (right.cost - left.cost) * (middle.carried - left.carried)
    return (middle.cost - left.cost) * (right.carried - left.carried) >= rise
