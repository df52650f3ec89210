"""Multipliers for the planner's search: the multipliers of its relaxation.

In the relaxation a unit may stop anywhere between two corners of the lower hull of cost over rpm. For
a given price of survival it is solved by walking those hulls in the order of their slopes; the best
such price is at the top of a concave function, found by intersecting tangents (Kelley 1960).
"""

from collections.abc import Iterator, Sequence
from itertools import pairwise
from typing import Final, NamedTuple

from control_lambda.core.plan.units import (
    RPM_TOLERANCE,
    Multipliers,
    Target,
    Unit,
    counted_rpm,
    filled,
    full_rate,
    merit_order,
    most_below_cap,
    surviving_share,
)

CLOSE_ENOUGH: Final = 1e-4  # relative: what is left to gain in the bound
TANGENT_STEPS: Final = 12  # a concave function with a handful of kinks: 4 to 6 tangents suffice


class _Relaxed(NamedTuple):
    """The relaxation at a given price of survival: `short_rpm` is what its solution lacks of survival."""

    value: float
    prices: Multipliers
    short_rpm: float


# A size at which the unit's merit order changes price: the rpm carried, the cost less what the price of
# survival pays, the rpm surviving. A plain tuple: thousands are made for every plan.
_Corner = tuple[float, float, float]


def prices_for(units: Sequence[Unit], target: Target) -> Multipliers:
    """Multipliers that make the bound high; the bound is valid at any."""
    steps = [(unit, step) for unit in units for step in unit.steps]
    if not steps:
        return Multipliers(0.0, 0.0)
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
    value = price * target.surviving
    short, left = target.surviving, target.carried
    for carried, cost, surviving in (hull[0] for hull in hulls):
        value += cost
        short -= surviving
        left -= carried
    edges = [_edge(*corners) for hull in hulls for corners in pairwise(hull)]
    paid = 0.0
    for slope, length, surviving in sorted(edges):
        if slope > 0.0:
            if left <= RPM_TOLERANCE:
                break
            paid = slope
        part = 1.0 if slope <= 0.0 or left >= length else left / length
        left -= part * length
        value += part * length * slope
        short -= part * surviving
    return _Relaxed(value, Multipliers(paid, price), short)


def _hull(unit: Unit, price: float) -> list[_Corner]:
    """The lower hull of cost over rpm through the corners of the unit's merit order."""
    hull: list[_Corner] = []
    for corner in _corners_of_capped(unit, price) if unit.is_capped else _corners(unit, price):
        while len(hull) > 1 and _is_above(hull[-1], hull[-2], corner):
            hull.pop()
        if not hull or corner[0] > hull[-1][0]:
            hull.append(corner)
    return hull


def _corners(unit: Unit, price: float) -> Iterator[_Corner]:
    filling = filled(unit, merit_order(unit, price * full_rate(unit)))
    for index in filling.corners:
        surviving = filling.surviving[index]
        yield filling.carried[index], filling.costs[index] - price * surviving, surviving


def _corners_of_capped(unit: Unit, price: float) -> list[_Corner]:
    """Where a price changes or a cap is reached, least rpm first: there is no one merit order."""
    found = []
    for second in {unit.second.low, unit.second.kept, unit.second.high}:
        below = min(max(most_below_cap(unit, second), unit.first.low), unit.first.high)
        for first in {unit.first.low, unit.first.kept, unit.first.high, below}:
            surviving = unit.table[first + second] * surviving_share(unit, first, first + second)
            cost = unit.first.costs[first] + unit.second.costs[second] - price * surviving
            found.append((counted_rpm(unit, first, second), cost, surviving))
    return sorted(found)


def _edge(here: _Corner, there: _Corner) -> tuple[float, float, float]:
    """The slope from corner to corner (USD per hour for one rpm), and the rpm carried and surviving."""
    carried = there[0] - here[0]
    return (there[1] - here[1]) / carried, carried, there[2] - here[2]


def _is_above(middle: _Corner, left: _Corner, right: _Corner) -> bool:
    """Whether `middle` lies on or above the line from `left` to `right`."""
    rise = (right[1] - left[1]) * (middle[0] - left[0])
    return (middle[1] - left[1]) * (right[0] - left[0]) >= rise
