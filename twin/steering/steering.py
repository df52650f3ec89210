"""How a world is steered: by the loop over in-memory ports, as Lambda would run it on the same facts."""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from math import inf
from typing import Any, Protocol

from control_lambda import loop
from control_lambda.aws import sensing
from control_lambda.aws.calls import Calls
from control_lambda.aws.nodes import LAUNCH, REBALANCE
from control_lambda.core.fleet import Fleet
from control_lambda.core.model import Evidence, Snapshot, State, plain
from control_lambda.core.record import Answer, DecisionRecord, Skipped
from control_lambda.core.traffic.survival import VitalSigns
from control_lambda.errors import FAILED_CALL, NotDeployedError, code_of
from control_lambda.ports import Remembered, Settings
from control_lambda.trigger import iso_time
from twin.steering.answers import (
    AtOnce,
    Failing,
    Joining,
    WorldSources,
    evidence_of,
    nothing_fails,
    refused_call,
    require,
)
from twin.world.lease import Lease
from twin.world.nodes import CallRefusedError, Event
from twin.world.world import World


class Steering(Protocol):
    """Someone who steers a world."""

    def schedule(self) -> Answer | None:
        """Act as every minute; what the tick answers, None from who keeps no records."""
        ...

    def react(self, events: Sequence[Event]) -> Answer | None:
        """Act on what AWS has announced for one and the same second; the answer as from `schedule`."""
        ...


class CoreSteering:
    """`loop.tick` over in-memory ports."""

    def __init__(self, world: World) -> None:
        self._world = world
        self._ports = WorldPorts(world, world.failing)

    def schedule(self) -> Answer:
        """Run a scheduled tick."""
        return self._tick({"time": iso_time(self._world.tick_time), "cause": "schedule"})

    def react(self, events: Sequence[Event]) -> Answer | None:
        """Do as signals: write all evidence down, then invoke a tick for each event."""
        announced = [evidence_of(event) for event in events]
        self._ports.add_evidence(announced)
        return the_decision(
            self._tick({"time": iso_time(item.at), "cause": "event", "evidence": [plain(item)]})
            for item in announced
        )

    def _tick(self, event: Mapping[str, Any]) -> Answer:
        return self._world.strikes.run(lambda: self._run(event))

    def _run(self, event: Mapping[str, Any]) -> Answer:
        """One invocation of the tick; what it raises ends it, as in Lambda, and nothing else."""
        try:
            return loop.tick(event, self._ports, self._ports, self._ports)
        except FAILED_CALL as error:
            return Skipped(f"failed: {code_of(error)}")


def the_decision(answers: Iterable[Answer]) -> DecisionRecord | None:
    """The record that decided; the other ticks of its second found their evidence taken and were skipped.

    Ticks that know too little to decide may be several.

    Raises:
        RuntimeError: two of them decided, and one would be lost.
    """
    decided = [
        answer for answer in answers if isinstance(answer, DecisionRecord) and answer.demand_rpm is not None
    ]
    if len(decided) > 1:
        raise RuntimeError(f"{len(decided)} ticks of one second decided: {decided[0].at}")
    return decided[0] if decided else None


def plain_evidence(event: Event) -> dict[str, Any]:
    """An announcement as the evidence of a tick event."""
    told: dict[str, Any] = plain(evidence_of(event))
    return told


class WorldPorts:
    """Sensors, actuators and memory over a world: what AWS would show, without AWS in between.

    `failing` says which calls of AWS actions fail now, and how.
    """

    def __init__(self, world: World, failing: Failing = nothing_fails) -> None:
        self._world = world
        self._failing = failing
        self._sources = WorldSources(world, failing)
        self._joining = Joining()
        self._group_names: Mapping[str, str] = {}
        self._state: State | None = None
        self._waiting: tuple[Evidence, ...] = ()
        self._lease = Lease()

    def settings(self) -> Settings:
        """The fleet, never paused."""
        return sensing.settings(self._sources, self._calls())

    def sense(self, fleet: Fleet, at: float, evidence: Sequence[Evidence]) -> Snapshot:
        """What AWS would show at `at`."""
        sensed = sensing.sense(self._sources, self._calls(), fleet, at, evidence, self._joining.join)
        self._group_names = sensed.group_names
        return sensed.snapshot

    def vital_signs(self) -> VitalSigns:
        """What of it survival needs."""
        return sensing.vital_signs(self._sources, self._calls())

    def set_weights(self, weights: Mapping[str, int]) -> Mapping[str, int]:
        """Write the rule and read it back."""
        with self._rewriting_a_rule():
            self._world.weights = dict(weights)
        return self._world.weights

    def set_class_weights(self, name: str, weights: Mapping[str, int]) -> Mapping[str, int]:
        """Write a query class's rule; the simulated requests are all of the last class."""
        with self._rewriting_a_rule():
            self._sources.keep_class_weights(name, dict(weights))
        return weights

    def set_row(self, row: str, weights: Mapping[str, int]) -> Mapping[str, int]:
        """Write the rule with that priority."""
        if row in self._sources.class_of_row:
            return self.set_class_weights(self._sources.class_of_row[row], weights)
        return self.set_weights(weights)

    def set_desired(self, pool: str, nodes: int) -> None:
        """Size the group."""
        with self._writing("SetDesiredCapacity", pool):
            self._world.nodes.set_desired(self._group(pool), nodes, self._world.now)

    def terminate(self, node: str, *, decrement: bool) -> None:
        """Terminate the node."""
        with self._writing("TerminateInstanceInAutoScalingGroup"):
            self._world.nodes.terminate(node, decrement, self._world.now)

    def resume_launches(self, pool: str) -> None:
        """Let the group launch again."""
        with self._writing("ResumeProcesses", pool):
            self._world.nodes.resume(self._group(pool), LAUNCH)

    def suspend_rebalancing(self, pool: str) -> None:
        """Have the group swap no nodes to even out its zones."""
        with self._writing("SuspendProcesses", pool):
            self._world.nodes.suspend(self._group(pool), REBALANCE)

    def resume_rebalancing(self, pool: str) -> None:
        """Let the group even out its zones again."""
        with self._writing("ResumeProcesses", pool):
            self._world.nodes.resume(self._group(pool), REBALANCE)

    def acquire(self, at: float) -> Remembered:
        """Take the lease; the state, and the evidence that waits."""
        require(self._failing, "UpdateItem")
        self._lease.take(at)
        return Remembered(state=self._state, evidence=self._waiting)

    def save(self, state: State, seen: Sequence[Evidence]) -> None:  # noqa: ARG002 the port's signature
        """Keep the state; all evidence that waited was seen."""
        require(self._failing, "UpdateItem")
        self._state, self._waiting = state, ()
        self._lease.give_back()

    def add_evidence(self, announced: Sequence[Evidence]) -> None:
        """Do as signals: let the evidence wait for a tick, and count the refused launches."""
        self._waiting += tuple(announced)
        self._sources.count(announced)

    def release(self) -> None:
        """Give the lease back."""
        require(self._failing, "UpdateItem")
        self._lease.give_back()

    def _calls(self) -> Calls:
        return Calls(AtOnce(), inf)

    def _group(self, pool: str) -> str:
        """The pool, where the last round found its Auto Scaling group."""
        if pool not in self._group_names:
            raise NotDeployedError(f"{pool}: no Auto Scaling group")
        return pool

    @contextmanager
    def _rewriting_a_rule(self) -> Iterator[None]:
        """One write of a rule, found before and read back after it."""
        require(self._failing, "DescribeRules")
        with self._writing("ModifyRule"):
            yield
        require(self._failing, "DescribeRules")

    @contextmanager
    def _writing(self, action: str, subject: str = "") -> Iterator[None]:
        """One write, unless it fails or is refused; the function may die of it."""
        require(self._failing, action, subject)
        try:
            yield
        except CallRefusedError as error:
            raise refused_call(action, error.code) from None
        self._world.strikes.wrote()
