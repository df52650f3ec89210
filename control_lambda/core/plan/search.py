"""The exact search behind `planner`: the cheapest choice of nodes in each unit that meets a target.

Pools of one unit share its queue, so what a unit carries depends on the sum of their nodes and grows
faster than it; rounding a linear program misses the optimum, and a solver is too heavy for the Lambda.
The search rests on Lagrange multipliers (Everett 1963, Operations Research 11). Put a price on each rpm
carried and on each rpm that survives a loss. At these prices every choice of nodes in a unit has an
`excess` over that unit's best choice, never negative, and

    cost of a plan = bound + the excesses of its units + the prices of what it has beyond the target.

So a plan within `gap` of the bound is made of choices whose excesses add up to `gap` at most, and these
are few. All their combinations are tried; of the two units with most choices only those that just close
the plan. The gap widens until the best plan found lies within it, which proves it optimal.
"""

import math
from bisect import bisect_left, bisect_right
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Final, NamedTuple

from control_lambda.core.plan.prices import prices_for
from control_lambda.core.plan.units import (
    RPM_TOLERANCE,
    Filling,
    Multipliers,
    Pool,
    Step,
    Target,
    Unit,
    counted_rpm,
    filled,
    merit_order,
    surviving_share,
)

USD_TOLERANCE: Final = 1e-9  # costs this close are equal
OFF_LINE_TOLERANCE: Final = 1e-3  # of products of rpm as large as 1e9
FIRST_GAP: Final = 1.5  # of the lowest price: about what rounding to whole nodes costs, and some more
# Any prices give a valid bound, and good ones stay good while the target moves a little: they are found
# for a target rounded down to a power of this, and so serve for many ticks.
ROUGHNESS: Final = 1.03


class UnitChoice(NamedTuple):
    """The nodes of one unit's pools and what they count for, with the excess over the unit's best choice."""

    excess: float
    cost: float
    carried: float
    surviving: float
    first: int
    second: int


@dataclass(frozen=True, slots=True)
class Best:
    """The cheapest plan: one choice for each unit, in their order."""

    cost: float
    choices: tuple[UnitChoice, ...]

    @property
    def carried(self) -> float:
        """What the plan's nodes count for, in rpm: what they carry, where no unit is capped."""
        return math.fsum(choice.carried for choice in self.choices)

    @property
    def surviving(self) -> float:
        """What the plan carries after the loss of each market's reserve, in rpm."""
        return math.fsum(choice.surviving for choice in self.choices)


def solve(units: Sequence[Unit], target: Target) -> Best:
    """The cheapest plan that meets the `target`.

    Of equally cheap plans the one with the fewest nodes, then with more nodes in earlier pools.

    Raises:
        ValueError: no plan meets the target.
    """
    splits = _splits_matter(units, target)
    if not splits:
        target = Target(target.carried, 0.0)
    views = _views(tuple(units), Target(_rough(target.carried), _rough(target.surviving)))
    prices = views[0].prices if views else Multipliers(0.0, 0.0)
    bound = _priced(target, prices) + math.fsum(view.least for view in views)
    gap = FIRST_GAP * min((step.price for unit in units for step in unit.steps), default=1.0)
    widest = math.fsum(view.unit.first.costs[-1] + view.unit.second.costs[-1] - view.least for view in views)
    while True:
        best = _Search(views, target, prices, bound, gap, splits=splits).run()
        excess = best.cost - bound if best else math.inf
        if best and excess <= gap + USD_TOLERANCE:
            return best
        if best is None and gap > widest:
            raise ValueError(f"target: no plan carries {target.carried:g} rpm within the bounds")
        gap = min(2.0 * gap, excess + USD_TOLERANCE)


def _rough(rpm: float) -> float:
    return ROUGHNESS ** math.floor(math.log(rpm, ROUGHNESS)) if rpm > 1.0 else rpm


@lru_cache(maxsize=32)
def _views(units: tuple[Unit, ...], target: Target) -> tuple["_View | _CappedView", ...]:
    """The units at the prices for about this target."""
    prices = prices_for(units, target)
    highest = Target(ROUGHNESS * target.carried, ROUGHNESS * target.surviving)
    return tuple(
        (_CappedView if unit.is_capped else _View)(unit, prices, _enough(unit, highest)) for unit in units
    )


def _enough(unit: Unit, target: Target) -> int:
    """The size with which the unit alone meets the target however it is split: none needs to be bigger."""
    survives = min(pool.survives for pool in (unit.first, unit.second) if pool.high or not unit.high)
    size = bisect_left(unit.table, max(target.carried, target.surviving / survives))
    return max(unit.low, min(size, unit.high))


def _splits_matter(units: Sequence[Unit], target: Target) -> bool:
    """Whether it matters how a unit's nodes are split over its pools, beyond their cost.

    It does not while every plan that carries enough also survives.
    """
    survives = [pool.survives for unit in units for pool in (unit.first, unit.second) if pool.high]
    safe = min(survives, default=1.0) * target.carried
    return target.surviving > safe + RPM_TOLERANCE


def _priced(target: Target, prices: Multipliers) -> float:
    """The part of the bound that the target fixes."""
    return prices.carried * target.carried + prices.surviving * target.surviving


class _View:
    """A unit at given prices: by size (`low` to `most`), the best split over its pools and its excess."""

    def __init__(self, unit: Unit, prices: Multipliers, most: int) -> None:
        self.unit = unit
        self.prices = prices
        self.sizes = most - unit.low + 1
        self.filling = _cheapest_filling(unit, prices)
        self.reduced = self._reduced()
        self.least = min(self.reduced)

    def _reduced(self) -> list[float]:
        """Cost less what the prices pay, of the best split of each size."""
        _, costs, carried, surviving, _ = self.filling
        price, safe = self.prices
        columns = zip(costs[: self.sizes], carried, surviving, strict=False)
        return [cost - price * rpm - safe * left for cost, rpm, left in columns]

    def within(self, gap: float, *, all_splits: bool) -> list[UnitChoice]:
        """The choices whose excess is at most `gap`; with `all_splits` not only each size's best."""
        most = self.least + gap
        near = [index for index, value in enumerate(self.reduced) if value <= most]
        choices = [self._choice(index) for index in near]
        if all_splits and self.unit.first.high and self.unit.second.high:
            for best in tuple(choices):
                self._add_splits(choices, best, gap)
        return choices

    def _add_splits(self, choices: list[UnitChoice], best: UnitChoice, gap: float) -> None:
        """Add the other splits of a size, from the best one outwards: the excess is convex in them."""
        unit, price = self.unit, self.prices.surviving
        of_first, of_second = unit.first.costs, unit.second.costs
        size = best.first + best.second
        rate = best.carried / (size or 1)
        paid = self.prices.carried * best.carried + self.least
        fewest = max(unit.first.low, size - unit.second.high)
        most = min(unit.first.high, size - unit.second.low)
        of_size = rate * unit.second.survives * size
        of_each = rate * (unit.first.survives - unit.second.survives)
        for step in (1, -1):
            first = best.first + step
            while fewest <= first <= most:
                surviving = of_size + of_each * first
                cost = of_first[first] + of_second[size - first]
                excess = cost - price * surviving - paid
                if excess > gap:
                    break
                choices.append(UnitChoice(excess, cost, best.carried, surviving, first, size - first))
                first += step

    def _choice(self, index: int) -> UnitChoice:
        firsts, costs, carried, surviving, _ = self.filling
        first = firsts[index]
        second = self.unit.low + index - first
        return UnitChoice(
            self.reduced[index] - self.least, costs[index], carried[index], surviving[index], first, second
        )


class _CappedView:
    """A unit one of whose pools is capped, at given prices: every split counts, `most` in a pool at most.

    A pool that meets the target alone needs no further node.
    """

    def __init__(self, unit: Unit, prices: Multipliers, most: int) -> None:
        self.unit = unit
        self.prices = prices
        self.most = most
        self.rows = {second: self._reduced(second) for second in self._sizes(unit.second)}
        self.least = min(map(min, self.rows.values()))

    def within(self, gap: float, *, all_splits: bool) -> list[UnitChoice]:  # noqa: ARG002 - as `_View`'s
        """The choices whose excess is at most `gap`."""
        most = self.least + gap
        return [
            self._choice(value - self.least, first, second)
            for second, row in self.rows.items()
            for first, value in enumerate(row, self.unit.first.low)
            if value <= most
        ]

    def _sizes(self, pool: Pool) -> range:
        return range(pool.low, max(pool.low, min(pool.high, self.most)) + 1)

    def _reduced(self, second: int) -> list[float]:
        """Cost less what the prices pay, of `second` nodes in the second pool, by those in the first."""
        unit, (price, safe) = self.unit, self.prices
        table, costs, beyond = unit.table, unit.first.costs, unit.second_most
        fixed, below = unit.second.costs[second], table[second] + unit.first_most
        of_first, of_second = safe * unit.first.survives, safe * unit.second.survives * second
        return [
            costs[first]
            + fixed
            - price * min(table[first + second], below, table[first] + beyond)
            - table[first + second] * (of_first * first + of_second) / (first + second or 1)
            for first in self._sizes(unit.first)
        ]

    def _choice(self, excess: float, first: int, second: int) -> UnitChoice:
        unit, size = self.unit, first + second
        return UnitChoice(
            excess,
            unit.first.costs[first] + unit.second.costs[second],
            counted_rpm(unit, first, second),
            unit.table[size] * surviving_share(unit, first, size),
            first,
            second,
        )


def _cheapest_filling(unit: Unit, prices: Multipliers) -> Filling:
    """The unit with each size split over its pools as is cheapest for that size."""

    def order(size: int) -> tuple[Step, ...]:
        return merit_order(unit, prices.surviving * unit.table[size] / size if size else 0.0)

    start = order(max(unit.low, 1)) if unit.steps else ()
    if not unit.steps or start == order(unit.high):
        return filled(unit, start)  # the rate per node never falls: the order is the same in between
    fillings = [filled(unit, order(max(size, 1))) for size in range(unit.low, unit.high + 1)]
    picked = tuple(enumerate(fillings))
    return Filling(
        firsts=tuple(filling.firsts[index] for index, filling in picked),
        costs=tuple(filling.costs[index] for index, filling in picked),
        carried=fillings[0].carried,
        surviving=tuple(filling.surviving[index] for index, filling in picked),
        corners=(),
    )


class _Search:
    """Tries all combinations of choices whose excesses add up to `gap` at most."""

    def __init__(
        self,
        views: "Sequence[_View | _CappedView]",
        target: Target,
        prices: Multipliers,
        bound: float,
        gap: float,
        *,
        splits: bool,
    ) -> None:
        self.views = views
        self.target = target
        self.prices = prices
        self.bound = bound
        self.gap = gap
        listed = [view.within(gap, all_splits=splits) for view in views]
        self.order = sorted(range(len(views)), key=lambda index: len(listed[index]))
        self.lists = [sorted(listed[index]) for index in self.order[:-1]]
        self.by_surviving = prices.surviving > 0.0
        self.last = sorted(listed[self.order[-1]], key=self._closing)
        self.last_keys = [self._closing(choice) for choice in self.last]
        self.most = self._most_of_the_rest()
        self.completable = (
            _Completable(self.lists[-1], self.last, prices) if splits and self.lists and self.last else None
        )
        self.best_cost = math.inf
        self.best: tuple[UnitChoice, ...] | None = None

    def run(self) -> Best | None:
        """The cheapest plan within the gap, None where there is none."""
        target = self.target
        self._descend((), 0.0, target.carried - RPM_TOLERANCE, target.surviving - RPM_TOLERANCE)
        if self.best is None:
            return None
        placed = dict(zip(self.order, self.best, strict=True))
        return Best(self.best_cost, tuple(placed[index] for index in range(len(placed))))

    def _closing(self, choice: UnitChoice) -> float:
        return choice.surviving if self.by_surviving else choice.carried

    def _most_of_the_rest(self) -> list[tuple[float, float]]:
        """By depth, the most that the units from there on carry, and that survives."""
        most = [(0.0, 0.0)]
        for choices in (self.last, *reversed(self.lists)):
            carried = max((choice.carried for choice in choices), default=-math.inf)
            surviving = max((choice.surviving for choice in choices), default=-math.inf)
            most.append((most[-1][0] + carried, most[-1][1] + surviving))
        return most[::-1]

    def _limit(self) -> float:
        """The highest sum of excesses that is still of interest."""
        return min(self.gap, self.best_cost - self.bound) + USD_TOLERANCE

    def _descend(
        self, taken: tuple[UnitChoice, ...], excess: float, carried: float, surviving: float
    ) -> None:
        """Try every choice of the next unit; the units from there on have to bring what is left."""
        depth = len(taken)
        if depth == len(self.lists):
            self._close(taken, excess, carried, surviving)
            return
        carries, survives = self.most[depth + 1]
        choices = self.lists[depth]
        if self.completable and depth == len(self.lists) - 1:
            choices = self.completable.within(carried, surviving, self._limit() - excess)
        for choice in choices:
            if excess + choice.excess > self._limit():
                break
            left, safe = carried - choice.carried, surviving - choice.surviving
            if left <= carries and safe <= survives:
                self._descend((*taken, choice), excess + choice.excess, left, safe)

    def _close(self, taken: tuple[UnitChoice, ...], excess: float, carried: float, surviving: float) -> None:
        """Complete the plan with the last unit: of its choices only those that waste little matter."""
        spare = self._limit() - excess
        need, price = carried, self.prices.carried
        if self.by_surviving:
            need, price = surviving, self.prices.surviving
        most = need + spare / price + RPM_TOLERANCE if price else math.inf
        for index in range(bisect_left(self.last_keys, need), len(self.last)):
            choice = self.last[index]
            if self.last_keys[index] > most:
                break
            if choice.carried >= carried and choice.surviving >= surviving:
                self._offer((*taken, choice))

    def _offer(self, choices: tuple[UnitChoice, ...]) -> None:
        """Keep the plan where it is cheaper than the best, or as cheap and preferred."""
        cost = math.fsum(choice.cost for choice in choices)
        if cost > self.best_cost + USD_TOLERANCE:
            return
        if cost < self.best_cost - USD_TOLERANCE or self._preferred(choices):
            self.best_cost, self.best = min(cost, self.best_cost), choices

    def _preferred(self, choices: tuple[UnitChoice, ...]) -> bool:
        """Whether an equally cheap plan has fewer nodes, or more in earlier pools."""
        return self.best is None or self._rank(choices) < self._rank(self.best)

    def _rank(self, choices: tuple[UnitChoice, ...]) -> tuple[int, list[tuple[int, int]]]:
        nodes = []
        for index, choice in zip(self.order, choices, strict=True):
            unit = self.views[index].unit
            nodes += [(unit.first.position, -choice.first), (unit.second.position, -choice.second)]
        return sum(choice.first + choice.second for choice in choices), sorted(nodes)


class _Completable:
    """The choices of the last unit but one, by whether the last unit can complete the plan without waste.

    In the plane of rpm carried and rpm surviving the last unit's choices lie along a line, from its smallest
    to its largest one. Off that line they hardly vary, so how far off it the choice before has to be, for
    both to add up to what is needed, is known closely.
    """

    def __init__(
        self, choices: Sequence[UnitChoice], last: Sequence[UnitChoice], prices: Multipliers
    ) -> None:
        self.prices = prices
        self.line_carried = max(0.0, last[-1].carried - last[0].carried)
        self.line_surviving = max(0.0, last[-1].surviving - last[0].surviving)
        off_line = [self._off_line(choice.carried, choice.surviving) for choice in last]
        self.least, self.most = min(off_line), max(off_line)
        placed = sorted((self._off_line(choice.carried, choice.surviving), choice) for choice in choices)
        self.keys = [key for key, _ in placed]
        self.choices = [choice for _, choice in placed]

    def within(self, carried: float, surviving: float, spare: float) -> list[UnitChoice]:
        """The choices, least excess first, after which the two needs can be met for `spare` USD in waste."""
        low = self._off_line(carried, surviving + _waste(spare, self.prices.surviving, self.line_carried))
        high = self._off_line(carried + _waste(spare, self.prices.carried, self.line_surviving), surviving)
        start = bisect_left(self.keys, low - self.most - OFF_LINE_TOLERANCE)
        stop = bisect_right(self.keys, high - self.least + OFF_LINE_TOLERANCE)
        return sorted(self.choices[start:stop])

    def _off_line(self, carried: float, surviving: float) -> float:
        """How far a point lies off the line, on the side of rpm carried; times the line's length."""
        return self.line_surviving * carried - self.line_carried * surviving


def _waste(spare: float, price: float, weight: float) -> float:
    """The rpm that may be wasted for `spare` USD per hour; irrelevant where its weight is 0."""
    if not weight:
        return 0.0
    return spare / price if price else math.inf
