"""What is left of steering when little is known: weight leaves what has nothing healthy.

It needs neither memory, fleet nor sizes. Of two ticks that do it at a time both write the same.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final

from control_lambda.core.traffic.weights import Shares, to_shares, to_weights


@dataclass(frozen=True, slots=True)
class VitalSigns:
    """All that survival needs.

    `rows` are the weights of each rule that forwards to units, by its priority, None when they could not
    be read. A unit whose target health was not read is absent from `healthy`. `failures` names what was
    not read.
    """

    rows: Mapping[str, Mapping[str, int]] | None
    healthy: Mapping[str, int]
    failures: tuple[str, ...] = ()


NO_SIGNS: Final = VitalSigns(None, {})


def without_the_dead(row: Mapping[str, int], healthy: Mapping[str, int]) -> dict[str, int] | None:
    """The row, with the weight of units that have nothing healthy given to those that have; None: as it is.

    These share it in proportion to what they had, or by their healthy targets where none of them had any. A
    unit whose health is unknown keeps its share. With nothing healthy anywhere nothing changes, because
    the load balancer then sends each unit's requests to all of its targets.
    """
    alive = {unit: healthy[unit] for unit in row if healthy.get(unit, 0) > 0}
    dead = {unit for unit in row if healthy.get(unit) == 0}
    in_force = to_shares(row)
    freed = sum(in_force.get(unit, 0.0) for unit in dead) if in_force else 1.0
    if not alive or not freed:
        return None
    kept = {unit: in_force.get(unit, 0.0) for unit in row if unit not in dead}
    return to_weights(_with(kept, freed, alive), list(row))


def _with(kept: Shares, freed: float, alive: Mapping[str, int]) -> Shares:
    """The kept shares, and the freed one divided among those that are alive."""
    had = {unit: kept[unit] for unit in alive if kept[unit] > 0}
    claims: Mapping[str, float] = had or alive
    total = sum(claims.values())
    return {unit: share + freed * claims.get(unit, 0) / total for unit, share in kept.items()}
