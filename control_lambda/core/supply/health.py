"""How many nodes of each unit serve, from whatever source still answers; a belief expires.

Target health tells it alone. Where that was not read, the newest of two counts: the load balancer's count of
healthy hosts, unless the unit answered nothing but errors, and what target health said last.
"""

from collections.abc import Mapping, Sequence
from enum import StrEnum
from typing import Final, NamedTuple

from control_lambda.core.fleet import Fleet, Unit
from control_lambda.core.model import Health, Minute, Snapshot, State, TargetHealth
from control_lambda.core.supply.supply import Supply

# A node dies within a minute, and counts are two to three minutes old when they come.
BELIEF_SECONDS: Final = 300.0

NEVER: Final = Health(0.0, 0)


class Source(StrEnum):
    """Whence it is known how many nodes of a unit serve; UNKNOWN: it is not."""

    NODES = "its nodes"
    TARGETS = "target health"
    COUNTS = "the load balancer's counts"
    MEMORY = "memory"
    UNKNOWN = "nothing"


class Serving(NamedTuple):
    """How many of a unit's nodes serve (0 where that is unknown), as `source` said it at `at`."""

    nodes: int
    source: Source
    at: float


def serving_by_unit(
    snapshot: Snapshot, state: State, supplies: Sequence[Supply], fleet: Fleet
) -> dict[str, Serving]:
    """What is known of each unit's nodes now."""
    return {
        unit.name: _of_nodes(unit, snapshot, supplies) or _of_targets(unit, snapshot, state)
        for unit in fleet.units
    }


def remember(known: Mapping[str, Health], snapshot: Snapshot) -> dict[str, Health]:
    """What target health said last of each unit."""
    return {
        **known,
        **{unit: _seen(unit, nodes, known, snapshot.at) for unit, nodes in snapshot.healthy.items()},
    }


def as_known(supplies: Sequence[Supply], serving: Mapping[str, Serving]) -> tuple[Supply, ...]:
    """The supplies; of pools whose nodes were not seen, those are ready that their unit's others are not."""
    left = {unit: found.nodes for unit, found in serving.items()}
    for supply in supplies:
        left[supply.unit.name] -= supply.ready if supply.sensed else 0
    corrected = []
    for supply in supplies:
        ready = supply.ready
        if not supply.sensed:
            ready = min(max(left[supply.unit.name], 0), supply.in_service)
            left[supply.unit.name] -= ready
        corrected.append(supply._replace(ready=ready))
    return tuple(corrected)


def all_unhealthy(snapshot: Snapshot, state: State, serving: Mapping[str, Serving]) -> bool:
    """Whether no node serves, and some that did are there, unhealthy: the checks may be to blame."""
    if any(found.nodes for found in serving.values()):
        return False
    last = max((health.served_at for health in state.health.values()), default=0.0)
    return any(
        node.in_service and node.target is TargetHealth.UNHEALTHY and node.launched_at < last
        for pool in snapshot.pools.values()
        for node in pool.nodes.values()
    )


def _seen(unit: str, nodes: int, known: Mapping[str, Health], at: float) -> Health:
    return Health(at, nodes, at if nodes else known.get(unit, NEVER).served_at)


def _of_nodes(unit: Unit, snapshot: Snapshot, supplies: Sequence[Supply]) -> Serving | None:
    """The unit's nodes one by one, without those about to go; None unless each pool's were seen."""
    mine = [supply for supply in supplies if supply.unit.name == unit.name]
    if not all(supply.sensed for supply in mine):
        return None
    return Serving(sum(supply.ready for supply in mine), Source.NODES, snapshot.at)


def _of_targets(unit: Unit, snapshot: Snapshot, state: State) -> Serving:
    if unit.name in snapshot.healthy:
        staying = max(0, snapshot.healthy[unit.name] - _leaving(unit, snapshot, state))
        return Serving(staying, Source.TARGETS, snapshot.at)
    unknown = Serving(0, Source.UNKNOWN, snapshot.at)
    told = [_counted(snapshot.minutes.get(unit.name, ())), _remembered(state.health.get(unit.name))]
    fresh = [found for found in told if found and snapshot.at - found.at < BELIEF_SECONDS]
    return max(fresh, key=lambda found: found.at, default=unknown)


def _leaving(unit: Unit, snapshot: Snapshot, state: State) -> int:
    """The unit's nodes that are about to be taken away, as far as its groups are known."""
    return sum(
        node in state.leaving
        for pool in unit.pools
        if pool.name in snapshot.pools
        for node in snapshot.pools[pool.name].nodes
    )


def _counted(minutes: Sequence[Minute]) -> Serving | None:
    """What the newest minute with any count says, at its end."""
    for minute in reversed(minutes):
        if minute.errors and not minute.samples:
            return Serving(0, Source.COUNTS, minute.at + 60)
        if minute.healthy_hosts is not None:
            return Serving(int(minute.healthy_hosts), Source.COUNTS, minute.at + 60)
    return None


def _remembered(health: Health | None) -> Serving | None:
    return None if health is None else Serving(health.nodes, Source.MEMORY, health.at)
