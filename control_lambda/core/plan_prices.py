"""Prices for the planner's search: the multipliers of its relaxation.

In the relaxation a unit may stop anywhere between two corners of the lower hull of cost over rpm. For
given prices of survival and budget it is solved by walking those hulls in the order of their slopes;
the best such prices are the top of a concave function, found by intersecting tangents (Kelley 1960).
"""

import math
from collections.abc import Callable, Sequence
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

HIGHEST_BUDGET_PRICE: Final = 100.0  # USD of cost for a dollar of budget: as good as infinite
TANGENT_STEPS: Final = 12  # a concave function with a handful of kinks: 4 to 6 tangents suffice


class _Relaxed(NamedTuple):
    """The relaxation solved at given prices of survival and budget.

    `short_rpm` is what the solution lacks of the surviving target, `over_usd` its spend over the budget.
    """

    value: float
    prices: Prices
    short_rpm: float
    over_usd: float


class _Corner(NamedTuple):
    """A size at which the unit's merit order changes price; `cost` less what the given prices pay."""

    carried: float
    cost: float
    surviving: float
    spend: float


def prices_for(units: Sequence[Unit], target: Target) -> Prices:
    """Prices that make the bound high; the bound is valid at any."""
    steps = [(unit, step) for unit in units for step in unit.steps]
    if not steps:
        return Prices(0.0, 0.0)
    dearest = max(step.price / full_rate(unit) / (step.survives or 1.0) for unit, step in steps)

    def at_budget_price(budget: float) -> _Relaxed:
        return _highest(
            lambda surviving: _relaxed(units, target, surviving, budget),
            lambda relaxed: relaxed.short_rpm,
            2.0 * dearest * (1.0 + budget),
        )

    if target.budget == math.inf:
        return at_budget_price(0.0).prices
    return _highest(at_budget_price, lambda relaxed: relaxed.over_usd, HIGHEST_BUDGET_PRICE).prices


def _highest(
    relax: Callable[[float], _Relaxed], slope: Callable[[_Relaxed], float], limit: float
) -> _Relaxed:
    """The top of a concave, piecewise linear function on [0, `limit`], by intersecting tangents."""
    low, high = 0.0, limit
    left = relax(low)
    if slope(left) <= RPM_TOLERANCE:
        return left
    right = relax(high)
    best = max(left, right)
    for _ in range(TANGENT_STEPS):
        rise, fall = slope(left), slope(right)
        if fall >= 0.0:
            break
        middle = (right.value - left.value + rise * low - fall * high) / (rise - fall)
        ceiling = left.value + rise * (middle - low)
        point = relax(middle)
        best = max(best, point)
        if point.value >= ceiling - 1e-7 * abs(ceiling):
            break
        if slope(point) > 0.0:
            low, left = middle, point
        else:
            high, right = middle, point
    return best


def _relaxed(units: Sequence[Unit], target: Target, surviving: float, budget: float) -> _Relaxed:
    """Carry the target at least cost from corner to corner of the units' lower hulls, cheapest first."""
    value = short = over = 0.0
    left = target.carried
    edges = []
    for unit in units:
        hull = _hull(unit, surviving, budget)
        start = hull[0]
        left -= start.carried
        value, short, over = value + start.cost, short - start.surviving, over + start.spend
        for here, there in pairwise(hull):
            edges.append(((there.cost - here.cost) / (there.carried - here.carried), here, there))
    price = 0.0
    for slope, here, there in sorted(edges):
        if slope > 0.0:
            if left <= RPM_TOLERANCE:
                break
            price = slope
        length = there.carried - here.carried
        part = 1.0 if slope <= 0.0 or left >= length else left / length
        left -= part * length
        value += part * length * slope
        short -= part * (there.surviving - here.surviving)
        over += part * (there.spend - here.spend)
    value += surviving * target.surviving - (budget * target.budget if budget else 0.0)
    return _Relaxed(value, Prices(price, surviving, budget), short + target.surviving, over - target.budget)


def _hull(unit: Unit, surviving: float, budget: float) -> list[_Corner]:
    """The lower hull of cost over rpm through the corners of the unit's merit order."""
    first, second = unit.first.low, unit.second.low
    hull = [_corner(unit, first, second, surviving, budget)]
    for step in merit_order(unit, surviving * full_rate(unit), budget):
        if step.of_first:
            first += step.nodes
        else:
            second += step.nodes
        corner = _corner(unit, first, second, surviving, budget)
        while len(hull) > 1 and _is_above(hull[-1], hull[-2], corner):
            hull.pop()
        if corner.carried > hull[-1].carried:
            hull.append(corner)
    return hull


def _corner(unit: Unit, first: int, second: int, surviving: float, budget: float) -> _Corner:
    size = first + second
    carried = unit.table[size]
    survives = surviving_share(unit, first, size)
    spend = unit.first.price * first + unit.second.price * second
    cost = (
        unit.first.costs[first] + unit.second.costs[second] + budget * spend - surviving * carried * survives
    )
    return _Corner(carried, cost, carried * survives, spend)


def _is_above(middle: _Corner, left: _Corner, right: _Corner) -> bool:
    """Whether `middle` lies on or above the line from `left` to `right`."""
    rise = (right.cost - left.cost) * (middle.carried - left.carried)
    return (middle.cost - left.cost) * (right.carried - left.carried) >= rise
