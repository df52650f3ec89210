"""How a world is steered: by the loop over in-memory ports, as Lambda would run it on the same facts."""

from collections import deque
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any, Protocol

from botocore.exceptions import ClientError

from control_lambda import loop
from control_lambda.aws.metrics import MINUTE_SECONDS, WINDOW_SECONDS
from control_lambda.aws.nodes import ACTIVITIES_READ, ACTIVITY_SECONDS
from control_lambda.core.fleet import Fleet
from control_lambda.core.model import Evidence, EvidenceKind, PoolSignals, Snapshot, State, plain
from control_lambda.ports import Remembered, Settings
from twin.world.lease import Lease
from twin.world.nodes import CallRefusedError, Event, Refused
from twin.world.world import World

Record = dict[str, Any]


class Steering(Protocol):
    """Someone who steers a world."""

    def schedule(self) -> Record | None:
        """Act as every minute; the decision record, None when nothing was decided."""
        ...

    def react(self, events: Sequence[Event]) -> Record | None:
        """Act on what AWS has announced for one and the same second; the record as from `schedule`."""
        ...


class CoreSteering:
    """`loop.tick` over in-memory ports."""

    def __init__(self, world: World) -> None:
        self._world = world
        self._ports = WorldPorts(world)

    def schedule(self) -> Record | None:
        """Run a scheduled tick."""
        return self._tick({"time": loop.iso_time(self._world.tick_time), "cause": "schedule"})

    def react(self, events: Sequence[Event]) -> Record | None:
        """Do as signals: write all evidence down, then invoke a tick for each event."""
        announced = [evidence_of(event) for event in events]
        self._ports.add_evidence(announced)
        return the_decision(
            self._tick({"time": loop.iso_time(item.at), "cause": "event", "evidence": [plain(item)]})
            for item in announced
        )

    def _tick(self, event: Mapping[str, Any]) -> Record:
        return self._world.strikes.run(lambda: loop.tick(event, self._ports, self._ports, self._ports))


def the_decision(records: Iterable[Record]) -> Record | None:
    """The record that decided; the other ticks of its second found their evidence taken and were skipped.

    Raises:
        RuntimeError: two of them decided, and one would be lost.
    """
    decided = [record for record in records if "skipped" not in record]
    if len(decided) > 1:
        raise RuntimeError(f"{len(decided)} ticks of one second decided: {decided[0]['at']}")
    return decided[0] if decided else None


def evidence_of(event: Event) -> Evidence:
    """An announcement as the evidence that signals makes of it: a refused launch names its zone."""
    if isinstance(event, Refused):
        return Evidence(event.pool, event.kind, event.at, zone=event.zone)
    return Evidence(event.pool, EvidenceKind.INTERRUPTION, event.at, node=event.node)


def plain_evidence(event: Event) -> dict[str, Any]:
    """An announcement as the evidence of a tick event."""
    told: dict[str, Any] = plain(evidence_of(event))
    return told


@contextmanager
def refused_as(action: str) -> Iterator[None]:
    """Raise what the world's groups refuse as boto3 would raise it.

    Raises:
        ClientError: the call is refused.
    """
    try:
        yield
    except CallRefusedError as refused:
        raise ClientError({"Error": {"Code": refused.code, "Message": refused.message}}, action) from refused


class WorldPorts:
    """Sensors, actuators and memory over a world: what AWS would show, without AWS in between."""

    def __init__(self, world: World) -> None:
        self._world = world
        self._settings = Settings(fleet_json=world.fleet.to_json(), observe=False)
        self._state: State | None = None
        self._waiting: tuple[Evidence, ...] = ()
        self._lease = Lease()
        self._counted: deque[Evidence] = deque()
        self._class_weights: dict[str, Mapping[str, int]] = {}

    def settings(self) -> Settings:
        """The fleet, never paused."""
        return self._settings

    def sense(self, fleet: Fleet, at: float, evidence: Sequence[Evidence]) -> Snapshot:
        """What AWS would show at `at`."""
        world = self._world
        pools = {pool.name: self._signals(pool.name) for pool in fleet.pools}
        return Snapshot(
            at=at,
            minutes={unit.name: world.minutes_visible(unit.name) for unit in fleet.units},
            untargeted=world.untargeted_visible(),
            pools=pools,
            weights=dict(world.weights),
            class_weights=dict(self._class_weights),
            evidence=(*evidence, *self._counted_refusals(at), *self._polled_refusals(pools, at)),
        )

    def set_weights(self, weights: Mapping[str, int]) -> Mapping[str, int]:
        """Write the rule."""
        self._world.weights = dict(weights)
        self._world.strikes.wrote()
        return self._world.weights

    def set_class_weights(self, name: str, weights: Mapping[str, int]) -> Mapping[str, int]:
        """Write a query class's rule; the simulated requests are all of the last class."""
        self._class_weights[name] = dict(weights)
        self._world.strikes.wrote()
        return self._class_weights[name]

    def set_desired(self, pool: str, nodes: int) -> None:
        """Size the group."""
        with refused_as("SetDesiredCapacity"):
            self._world.nodes.set_desired(pool, nodes, self._world.now)
        self._world.strikes.wrote()

    def resume_launches(self, pool: str) -> None:
        """Let the group launch again."""
        with refused_as("ResumeProcesses"):
            self._world.nodes.resume(pool)
        self._world.strikes.wrote()

    def acquire(self, at: float) -> Remembered:
        """Take the lease; the state, and the evidence that waits."""
        self._lease.take(at)
        return Remembered(state=self._state, evidence=self._waiting)

    def save(self, state: State, seen: Sequence[Evidence]) -> None:  # noqa: ARG002 the port's signature
        """Keep the state; all evidence that waited was seen."""
        self._state, self._waiting = state, ()
        self._lease.give_back()

    def add_evidence(self, announced: Sequence[Evidence]) -> None:
        """Do as signals: let the evidence wait for a tick, and count the refused launches."""
        self._waiting += tuple(announced)
        self._counted.extend(item for item in announced if item.kind is not EvidenceKind.INTERRUPTION)

    def release(self) -> None:
        """Give the lease back."""
        self._lease.give_back()

    def _signals(self, pool: str) -> PoolSignals:
        nodes = self._world.nodes
        return PoolSignals(
            desired=nodes.desired(pool),
            ready=frozenset(node.id for node in nodes.ready(pool)),
            starting={node.id: node.launched_at for node in nodes.starting(pool)},
            suspended=nodes.suspended(pool),
            price=self._world.quoted_price(pool),
        )

    def _counted_refusals(self, at: float) -> Iterator[Evidence]:
        """What the metric CapacityErrors says in the minutes of the window: no zone, and minutes only."""
        begun = at // MINUTE_SECONDS * MINUTE_SECONDS
        while self._counted and self._counted[0].at < begun - WINDOW_SECONDS:
            self._counted.popleft()
        for item in self._counted:
            if item.at < begun:
                yield Evidence(item.pool, item.kind, item.at // MINUTE_SECONDS * MINUTE_SECONDS)

    def _polled_refusals(self, pools: Mapping[str, PoolSignals], at: float) -> Iterator[Evidence]:
        """The scaling activities of the pools that hold fewer nodes than they want."""
        for pool, signals in pools.items():
            if signals.desired > signals.in_service:
                for refused in self._world.nodes.refusals(pool)[-ACTIVITIES_READ:]:
                    if refused.at > at - ACTIVITY_SECONDS:
                        yield evidence_of(refused)
