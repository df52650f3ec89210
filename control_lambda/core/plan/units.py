"""What the planner's search works on: units as two pools that share a queue, and their merit order."""

import math
from bisect import bisect_right
from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import lru_cache
from itertools import accumulate, repeat
from typing import Final, NamedTuple

RPM_TOLERANCE: Final = 1e-6  # a target counts as met this close to it


@dataclass(frozen=True, slots=True)
class Pool:
    """One pool of `low` to `high` nodes: compared at `kept_price` up to `kept`, at `new_price` beyond.

    `position` is the pool's place in the planner's input, `survives` the share of its capacity that
    counts after a loss, `costs` what 0 to `high` nodes cost in comparisons (USD per hour).
    """

    position: int
    low: int
    high: int
    kept: int
    price: float
    kept_price: float
    new_price: float
    survives: float
    costs: tuple[float, ...]


# Steps and units are compared by identity: what is derived from them is cached, and hashing by value
# would cost more than it saves.
@dataclass(frozen=True, slots=True, eq=False)
class Step:
    """Nodes of one pool at one price: a stretch of the merit order."""

    of_first: bool
    position: int
    nodes: int
    price: float
    survives: float


@dataclass(frozen=True, slots=True, eq=False)
class Unit:
    """Two pools that share a queue (the second is empty where there is one); `table` gives rpm by size.

    `first_most` and `second_most` are how much each pool counts for at most, in rpm beyond what the unit
    carries without it; infinite unless the loss of that pool has to be outlived.
    """

    first: Pool
    second: Pool
    table: Sequence[float]
    low: int
    high: int
    steps: tuple[Step, ...]
    first_most: float = math.inf
    second_most: float = math.inf

    @property
    def is_capped(self) -> bool:
        """Whether a pool's contribution is limited, so that it matters how nodes are split."""
        return min(self.first_most, self.second_most) < math.inf


@dataclass(frozen=True, slots=True)
class Target:
    """What a plan has to reach, in rpm."""

    carried: float
    surviving: float


class Multipliers(NamedTuple):
    """Lagrange multipliers: USD per hour for each rpm carried and for each rpm surviving."""

    carried: float
    surviving: float


@lru_cache(maxsize=64)
def capped(unit: Unit, first_most: float, second_most: float) -> Unit:
    """The unit whose pools count for no more than this, in rpm beyond what it carries without them."""
    return replace(unit, first_most=first_most, second_most=second_most)


def counted_rpm(unit: Unit, first: int, second: int) -> float:
    """What so many nodes in the two pools count for, in rpm: what they carry, less what is above a cap."""
    return min(
        unit.table[first + second],
        unit.table[second] + unit.first_most,
        unit.table[first] + unit.second_most,
    )


def most_below_cap(unit: Unit, second: int) -> int:
    """How many nodes of the first pool count whole beside `second` nodes of the other."""
    return bisect_right(unit.table, unit.table[second] + unit.first_most) - 1 - second


def full_rate(unit: Unit) -> float:
    """The highest rpm per node, which the unit reaches with all its nodes."""
    return unit.table[unit.high] / unit.high if unit.high else 0.0


def surviving_share(unit: Unit, first: int, size: int) -> float:
    """The share of a unit of `size` nodes, `first` of them in the first pool, that counts after a loss."""
    if not size:
        return 1.0
    return (unit.first.survives * first + unit.second.survives * (size - first)) / size


def merit_order(unit: Unit, worth: float) -> tuple[Step, ...]:
    """The unit's steps, cheapest first, where a node that survives a loss is `worth` its USD per hour."""
    return tuple(sorted(unit.steps, key=lambda step: (step.price - worth * step.survives, step.position)))


class Filling(NamedTuple):
    """A unit filled in one order of its steps; each column has an entry for each size from `low` on.

    `firsts` are the nodes of the first pool, `costs` are in USD per hour, `carried` and `surviving` in
    rpm. `corners` are the indices at which a step ends, the first size included.
    """

    firsts: tuple[int, ...]
    costs: tuple[float, ...]
    carried: tuple[float, ...]
    surviving: tuple[float, ...]
    corners: tuple[int, ...]


@lru_cache(maxsize=256)
def filled(unit: Unit, order: tuple[Step, ...]) -> Filling:
    """The unit as it grows from its fewest nodes when the steps are taken in `order`."""
    firsts, costs = [unit.first.low], [unit.first.costs[unit.first.low] + unit.second.costs[unit.second.low]]
    for step in order:
        first, second = firsts[-1], unit.low + len(firsts) - 1 - firsts[-1]
        if step.of_first:
            fixed, grown = unit.second.costs[second], unit.first.costs[first + 1 : first + 1 + step.nodes]
            firsts.extend(range(first + 1, first + 1 + step.nodes))
        else:
            fixed, grown = unit.first.costs[first], unit.second.costs[second + 1 : second + 1 + step.nodes]
            firsts.extend(repeat(first, step.nodes))
        costs.extend([fixed + cost for cost in grown])
    carried = unit.table[unit.low : unit.high + 1]
    return Filling(
        firsts=tuple(firsts),
        costs=tuple(costs),
        carried=tuple(carried),
        surviving=_surviving(unit, firsts, carried),
        corners=tuple(accumulate((step.nodes for step in order), initial=0)),
    )


def _surviving(unit: Unit, firsts: Sequence[int], carried: Sequence[float]) -> tuple[float, ...]:
    """What each size still carries after a loss, in rpm."""
    of_all, of_first = unit.second.survives, unit.first.survives - unit.second.survives
    if not of_first:
        return tuple([rpm * of_all for rpm in carried])
    sizes = range(unit.low, unit.low + len(firsts))
    return tuple(
        [
            rpm * (of_all + of_first * first / (size or 1))
            for size, first, rpm in zip(sizes, firsts, carried, strict=True)
        ]
    )
