"""How many nodes in each pool: the cheapest counts that carry the demand, exactly.

Pools of one unit share its queue, so what a unit carries depends on the sum of their nodes and grows
faster than it; rounding a linear program misses the optimum, and a solver is too heavy for the Lambda.
The search rests on Lagrange's bound. Give each carried and each surviving rpm a price. At these prices
every number of nodes of a unit has an excess over the unit's best choice, at least zero, and

    cost of a plan = bound + excesses of its units + price of what it carries beyond the need.

So a plan within `gap` of the bound is made of choices whose excesses add up to `gap` at most, and those
are few. They are enumerated for all units but the widest, which then closes the plan with its cheapest
sufficient choice; `gap` doubles until the best plan found lies within it, which proves it optimal
(Everett 1963, generalized Lagrange multipliers; Geoffrion 1974 for the bound).
"""

import math
from bisect import bisect_left, bisect_right
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import lru_cache
from typing import Final

RPM_TOLERANCE: Final = 1e-6  # a need counts as met this close to it
USD_TOLERANCE: Final = 1e-9  # costs this close are equal


@dataclass(frozen=True, slots=True)
class PoolOption:
    """What the planner may do with one pool: between `low` and `high` nodes, of which `held` run already.

    Each node beyond `held` costs `start_premium` (a share of the price) more while plans are compared:
    its start cost, spread over the time it is expected to stay.
    """

    name: str
    unit: str
    market: str
    price_usd_per_hour: float
    low: int
    high: int
    held: int = 0
    start_premium: float = 0.0


@dataclass(frozen=True, slots=True)
class Need:
    """What a plan has to carry, in rpm: `demand_rpm` with every node, `survival_rpm` after a loss.

    `reserve` is the share of each market's capacity whose loss must be survivable (0 where absent).
    """

    demand_rpm: float
    survival_rpm: float = 0.0
    reserve: Mapping[str, float] = field(default_factory=dict)
    budget_usd_per_hour: float = math.inf


@dataclass(frozen=True, slots=True)
class Plan:
    """Nodes per pool. The cost is what the nodes cost per hour, without any start premium.

    `shortfall_rpm` is what the demand or, where that is more, the survival need lacks.
    """

    nodes: Mapping[str, int]
    carried_rpm: float
    surviving_rpm: float
    cost_usd_per_hour: float
    shortfall_rpm: float


@dataclass(frozen=True, slots=True)
class _Pool:
    """One pool of a unit; `costs` and `prices` (USD per hour) by node count, `kept` where new nodes begin."""

    position: int
    low: int
    high: int
    kept: int
    price: float
    new_price: float
    survives: float
    costs: Sequence[float]


@dataclass(frozen=True, slots=True)
class _Unit:
    """One or two pools that share a queue; `first` survives no more than `second` (empty where absent)."""

    first: _Pool
    second: _Pool
    table: Sequence[float]
    low: int
    high: int


@dataclass(frozen=True, slots=True)
class _Choice:
    """What one unit contributes to a plan."""

    excess: float
    cost: float
    carried: float
    surviving: float
    first: int
    second: int
