"""What the planner's search works on: units as two pools that share a queue, and their merit order."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final, NamedTuple

RPM_TOLERANCE: Final = 1e-6  # a target counts as met this close to it


@dataclass(frozen=True, slots=True)
class Pool:
    """One pool: `low` to `high` nodes, nodes beyond `kept` at `new_price`.

    `position` is the pool's place in the planner's input, `survives` the share of its capacity that
    counts after a loss, `costs` what 0 to `high` nodes cost (USD per hour, premium included).
    """

    position: int
    low: int
    high: int
    kept: int
    price: float
    new_price: float
    survives: float
    costs: tuple[float, ...]


@dataclass(frozen=True, slots=True)
class Step:
    """Nodes of one pool at one price: a stretch of the merit order."""

    of_first: bool
    position: int
    nodes: int
    price: float
    survives: float


@dataclass(frozen=True, slots=True)
class Unit:
    """Two pools that share a queue (the second is empty where there is one); `table` gives rpm by size."""

    first: Pool
    second: Pool
    table: Sequence[float]
    low: int
    high: int
    steps: tuple[Step, ...]


@dataclass(frozen=True, slots=True)
class Target:
    """What a plan has to reach, in rpm."""

    carried: float
    surviving: float


class Prices(NamedTuple):
    """Lagrange multipliers: USD per hour for each rpm carried and for each rpm surviving."""

    carried: float
    surviving: float


def full_rate(unit: Unit) -> float:
    """The highest rpm per node, which the unit reaches with all its nodes."""
    return unit.table[unit.high] / unit.high if unit.high else 0.0


def surviving_share(unit: Unit, first: int, size: int) -> float:
    """The share of a unit of `size` nodes, `first` of them in the first pool, that counts after a loss."""
    if not size:
        return 1.0
    return (unit.first.survives * first + unit.second.survives * (size - first)) / size


def merit_order(unit: Unit, worth: float) -> list[Step]:
    """The unit's steps, cheapest first, where a node that survives a loss is `worth` its USD per hour."""
    return sorted(unit.steps, key=lambda step: (step.price - worth * step.survives, step.position))
