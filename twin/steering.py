"""How a world is steered: by the loop over in-memory ports, as Lambda would run it on the same facts."""

from collections.abc import Mapping, Sequence
from typing import Any, Protocol

from control_lambda import loop
from control_lambda.core.fleet import Fleet
from control_lambda.core.model import Evidence, Kind, PoolSignals, Snapshot, State
from control_lambda.ports import Remembered, Settings
from twin.nodes import Event, Refused
from twin.world import World

Record = dict[str, Any]


class Steering(Protocol):
    """Someone who steers a world."""

    def schedule(self) -> Record | None:
        """Act as every minute; the decision record, None when nothing was decided."""
        ...

    def react(self, events: Sequence[Event]) -> Record | None:
        """Act on what AWS has just announced."""
        ...


class CoreSteering:
    """`loop.tick` over in-memory ports."""

    def __init__(self, world: World) -> None:
        self._world = world
        self._ports = WorldPorts(world)

    def schedule(self) -> Record | None:
        """Run a scheduled tick."""
        return self._tick({"time": loop.iso_time(self._world.now), "cause": "schedule"})

    def react(self, events: Sequence[Event]) -> Record | None:
        """Run a tick with the events as evidence."""
        evidence = [plain_evidence(event) for event in events]
        return self._tick({"time": loop.iso_time(self._world.now), "cause": "event", "evidence": evidence})

    def _tick(self, event: Mapping[str, Any]) -> Record:
        return loop.tick(event, self._ports, self._ports, self._ports)


def plain_evidence(event: Event) -> dict[str, Any]:
    """An announcement as the evidence of a tick event."""
    if isinstance(event, Refused):
        return {"pool": event.pool, "kind": event.kind.value, "at": event.at}
    return {"pool": event.pool, "kind": Kind.INTERRUPTION.value, "at": event.at, "node": event.node}


class WorldPorts:
    """Sensors, actuators and memory over a world, without AWS in between."""

    def __init__(self, world: World) -> None:
        self._world = world
        self._settings = Settings(fleet_json=world.fleet.to_json(), observe=False)
        self._state: State | None = None

    def settings(self) -> Settings:
        """The fleet, never paused."""
        return self._settings

    def sense(self, fleet: Fleet, at: float, evidence: Sequence[Evidence]) -> Snapshot:
        """What AWS would show at `at`."""
        world = self._world
        return Snapshot(
            at=at,
            minutes={unit.name: world.minutes_visible(unit.name) for unit in fleet.units},
            untargeted=world.untargeted_visible(),
            pools={pool.name: self._signals(pool.name) for pool in fleet.pools},
            weights=dict(world.weights),
            evidence=tuple(evidence),
        )

    def set_weights(self, weights: Mapping[str, int]) -> Mapping[str, int]:
        """Write the rule."""
        self._world.weights = dict(weights)
        return self._world.weights

    def set_desired(self, pool: str, nodes: int) -> None:
        """Size the group."""
        self._world.nodes.set_desired(pool, nodes, self._world.now)

    def resume_launches(self, pool: str) -> None:
        """Let the group launch again."""
        self._world.nodes.resume(pool)

    def acquire(self, at: float) -> Remembered:  # noqa: ARG002 the port's signature
        """The state; nobody else ticks here."""
        return Remembered(state=self._state, evidence=())

    def save(self, state: State, seen: Sequence[Evidence]) -> None:  # noqa: ARG002 the port's signature
        """Keep the state."""
        self._state = state

    def release(self) -> None:
        """Nothing to give back: nobody else ticks here."""

    def _signals(self, pool: str) -> PoolSignals:
        nodes = self._world.nodes
        return PoolSignals(
            desired=nodes.desired(pool),
            ready=frozenset(node.id for node in nodes.ready(pool)),
            starting={node.id: node.launched_at for node in nodes.starting(pool)},
            suspended=nodes.suspended(pool),
            price=self._world.price(pool),
        )
