"""What AWS would answer about a world, as the typed answers that `control_lambda.aws.sensing` reads.

The one place where the loop in memory reads the world's nodes. An action that fails raises what boto3 would.
"""

from collections import deque
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from math import inf
from typing import Final, Generic, NamedTuple, ParamSpec, TypeVar, cast

from botocore.exceptions import ClientError

from control_lambda.aws.joining import (
    Answers,
    Group,
    Instance,
    Issue,
    Joined,
    Member,
    NodeGroup,
    Target,
    join,
)
from control_lambda.aws.metrics import (
    MINUTE_SECONDS,
    WINDOW_SECONDS,
    Counts,
    Prices,
    latest_reports,
    valid_prices,
)
from control_lambda.aws.nodes import (
    ACTIVITIES_READ,
    ACTIVITY_SECONDS,
    IN_SERVICE,
    LAUNCH,
    REBALANCE,
    suspension,
)
from control_lambda.aws.sensing import NO_PAUSE
from control_lambda.core.fleet import Fleet
from control_lambda.core.model import DELETED, Evidence, EvidenceKind, Suspension, TargetHealth
from control_lambda.errors import FAILED_CALL
from twin.cloud.moto_gaps.eks import ISSUE_SECONDS
from twin.world.node import ANOMALY_SECONDS, DRAIN_SECONDS, PENDING_SECONDS, UNHEALTHY_SECONDS
from twin.world.nodes import ZONES, Event, Node, Nodes, Refused
from twin.world.world import PRICE_MINUTES, World

Answer = TypeVar("Answer")
Arguments = ParamSpec("Arguments")

# The error code that a call of an AWS action gets now, None where it is answered; the subject is the unit,
# the pool or the parameter that it asks about.
Failing = Callable[[str, str], str | None]

HEALTHY: Final = Target(TargetHealth.HEALTHY)


def nothing_fails(action: str, subject: str) -> str | None:  # noqa: ARG001 - every action is answered alike
    """AWS on a good day."""
    return None


def require(failing: Failing, action: str, subject: str = "") -> None:
    """Go on if the call is answered.

    Raises:
        ClientError: it fails.
    """
    code = failing(action, subject)
    if code is not None:
        raise refused_call(action, code)


def refused_call(action: str, code: str) -> ClientError:
    """What boto3 raises for an error code."""
    return ClientError({"Error": {"Code": code, "Message": ""}}, action)


class AtOnce:
    """An executor that makes each call as it is asked for."""

    def submit(
        self, call: Callable[Arguments, Answer], /, *args: Arguments.args, **kwargs: Arguments.kwargs
    ) -> "Made[Answer]":
        """Make the call."""
        try:
            return Made(call(*args, **kwargs), None)
        except FAILED_CALL as error:
            return Made(None, error)


class Made(NamedTuple, Generic[Answer]):
    """A call that was made: its answer, or what it raised."""

    answer: Answer | None
    error: Exception | None

    def result(self, timeout: float | None = None) -> Answer:  # noqa: ARG002 - it took no time
        """The answer, or what the call raised."""
        if self.error is not None:
            raise self.error
        return cast("Answer", self.answer)

    def cancel(self) -> bool:
        """Nothing is under way."""
        return True


class Joining:
    """`joining.join`, but what has been joined of the very same answers is not joined again."""

    def __init__(self) -> None:
        self._answers: Answers | None = None
        self._joined = Joined({}, {}, {})

    def join(self, answers: Answers, fleet: Fleet, at: float) -> Joined:
        """Join what was read, or give what was joined of it before."""
        if self._answers is None or not _same(self._answers, answers):
            self._answers, self._joined = answers, join(answers, fleet, at)
        return self._joined


def _same(one: Answers, other: Answers) -> bool:
    """Whether two rounds brought the same, told by identity where that is the work of comparing."""
    return (
        one.instances is other.instances
        and one.instances is not None
        and one.groups is other.groups
        and one.node_groups == other.node_groups
        and one.prices == other.prices
        and one.targets.keys() == other.targets.keys()
        and all(found is other.targets[unit] for unit, found in one.targets.items())
    )


def evidence_of(event: Event) -> Evidence:
    """An announcement as the evidence that signals makes of it: a refused launch names its zone."""
    if isinstance(event, Refused):
        return Evidence(event.pool, event.kind, event.at, zone=event.zone)
    return Evidence(event.pool, EvidenceKind.INTERRUPTION, event.at, node=event.node)


class WorldSources:
    """`sensing.Sources` over a world."""

    def __init__(self, world: World, failing: Failing = nothing_fails) -> None:
        self._world = world
        self._failing = failing
        self._fleet_json = world.fleet.to_json()
        self._standing = _Standing()
        self._grouped = _Grouped(self._standing)
        self._counted: deque[Evidence] = deque()
        self._class_weights: dict[str, Mapping[str, int]] = {}
        self.units: Sequence[str] = tuple(unit.name for unit in world.fleet.units)
        self.pools: Sequence[str] = tuple(pool.name for pool in world.fleet.pools)

    def count(self, announced: Sequence[Evidence]) -> None:
        """Do as signals: count the refused launches."""
        self._counted.extend(item for item in announced if item.kind is not EvidenceKind.INTERRUPTION)

    def keep_class_weights(self, name: str, weights: Mapping[str, int]) -> None:
        """Write the rule of a query class; the simulated requests are all of the last one."""
        self._class_weights[name] = weights

    def fleet_json(self) -> str:
        """The world's fleet."""
        require(self._failing, "GetParameter", f"/fulcrum/{self._world.fleet.fleet}/fleet")
        return self._fleet_json

    def pause(self) -> str:
        """Nobody pauses a replay."""
        require(self._failing, "GetParameter", f"/fulcrum/{self._world.fleet.fleet}/pause")
        return NO_PAUSE

    def traffic(self, fleet: Fleet, at: float) -> Counts:
        """What CloudWatch shows by now."""
        require(self._failing, "GetMetricData")
        world = self._world
        return Counts(
            minutes={unit.name: world.minutes_visible(unit.name) for unit in fleet.units},
            untargeted=world.untargeted_visible(),
            refused=self._counted_refusals(at),
            node_seconds=latest_reports(world.slow_nodes_visible(), at),
        )

    def prices(self, fleet: Fleet, at: float) -> Prices:
        """What signals read at the full hour."""
        require(self._failing, "GetMetricData")
        quoted = {pool.name: self._world.quoted_price(pool.name) for pool in fleet.pools}
        read_at = int(at // (PRICE_MINUTES * MINUTE_SECONDS)) * PRICE_MINUTES * MINUTE_SECONDS
        return valid_prices(
            {pool: {read_at: price} for pool, price in quoted.items() if price is not None}, at
        )

    def weights(self, fleet: Fleet) -> Mapping[str, int]:  # noqa: ARG002 - the world's rule is the fleet's
        """The rule that requests follow."""
        require(self._failing, "DescribeRules")
        return dict(self._world.weights)

    def class_weights(self, fleet: Fleet) -> Mapping[str, Mapping[str, int]]:  # noqa: ARG002 - as above
        """The rules of query classes as they were written."""
        require(self._failing, "DescribeRules")
        return dict(self._class_weights)

    def rows(self) -> Mapping[str, Mapping[str, int]]:
        """The rules as they were written, by priority: the classes before the last, then the rest."""
        require(self._failing, "DescribeRules")
        written = {
            row: self._class_weights[name]
            for row, name in self.class_of_row.items()
            if name in self._class_weights
        }
        rest = {str(len(self.class_of_row) + 1): dict(self._world.weights)} if self._world.weights else {}
        return {**written, **rest}

    @property
    def class_of_row(self) -> Mapping[str, str]:
        """The query classes before the last, by the priorities of their rules."""
        return {str(row): item.name for row, item in enumerate(self._world.fleet.classes[:-1], 1)}

    def instances(self) -> Mapping[str, Instance]:
        """The nodes that are not gone."""
        require(self._failing, "DescribeInstances")
        return self._stands().instances

    def groups(self) -> Mapping[str, Group]:
        """The pools' groups."""
        require(self._failing, "DescribeAutoScalingGroups")
        stands, nodes = self._stands(), self._world.nodes
        settings = [_settings(nodes, pool) for pool in self.pools]
        if stands is not self._grouped.standing or settings != self._grouped.settings:
            self._grouped = _Grouped(stands, settings, _groups(stands, settings))
        return self._grouped.groups

    def node_group(self, pool: str) -> NodeGroup:
        """The pool's node group; EKS tells of the last refused launch for a while."""
        require(self._failing, "DescribeNodegroup", pool)
        nodes = self._world.nodes
        if not nodes.exists(pool):
            return NodeGroup(DELETED)
        recent = [Issue(item.kind) for item in nodes.refusals(pool) if item.at >= nodes.now - ISSUE_SECONDS]
        return NodeGroup(nodes.status(pool), tuple(recent[-1:]))

    def targets(self, unit: str) -> Mapping[str, Target]:
        """The unit's nodes as targets; a node's id stands for its address."""
        require(self._failing, "DescribeTargetHealth", unit)
        return self._stands().targets[unit]

    def refusals(self, pool: str, group: str, at: float) -> tuple[Evidence, ...]:  # noqa: ARG002 - one group
        """The recent refused launches of the pool, latest first."""
        require(self._failing, "DescribeScalingActivities", pool)
        latest = self._world.nodes.refusals(pool)[: -ACTIVITIES_READ - 1 : -1]
        return tuple(evidence_of(refused) for refused in latest if refused.at > at - ACTIVITY_SECONDS)

    def _counted_refusals(self, at: float) -> tuple[Evidence, ...]:
        """What the metric CapacityErrors says in the minutes of the window: no zone, and minutes only."""
        begun = at // MINUTE_SECONDS * MINUTE_SECONDS
        while self._counted and self._counted[0].at < begun - WINDOW_SECONDS:
            self._counted.popleft()
        return tuple(
            Evidence(item.pool, item.kind, item.at // MINUTE_SECONDS * MINUTE_SECONDS)
            for item in self._counted
            if item.at < begun
        )

    def _stands(self) -> "_Standing":
        nodes = self._world.nodes
        if not self._standing.holds(nodes):
            self._standing = _standing(nodes, self._world.fleet, self._standing.instances)
        return self._standing


@dataclass(frozen=True, slots=True)
class _Standing:
    """What does not change before `until`, nor while the nodes have that `version`."""

    version: int = -1
    until: float = -inf
    instances: Mapping[str, Instance] = field(default_factory=dict)
    members: Mapping[str, Mapping[str, Member]] = field(default_factory=dict)
    billed: Mapping[str, int] = field(default_factory=dict)
    targets: Mapping[str, Mapping[str, Target]] = field(default_factory=dict)

    def holds(self, nodes: Nodes) -> bool:
        return self.version == nodes.version and nodes.now < self.until


class _Settings(NamedTuple):
    """What can be set of a group without any node changing at once."""

    exists: bool
    desired: int
    maximum: int
    launch_suspended: str | None
    rebalance_suspended: str | None


def _settings(nodes: Nodes, pool: str) -> _Settings:
    return _Settings(
        nodes.exists(pool),
        nodes.desired(pool),
        nodes.maximum(pool),
        nodes.suspension(pool, LAUNCH),
        nodes.suspension(pool, REBALANCE),
    )


@dataclass(frozen=True, slots=True)
class _Grouped:
    """The groups of one standing under these settings."""

    standing: _Standing
    settings: Sequence[_Settings] = ()
    groups: Mapping[str, Group] = field(default_factory=dict)


def _groups(stands: _Standing, settings: Sequence[_Settings]) -> dict[str, Group]:
    return {
        pool: Group(
            name=pool,
            desired=now_set.desired,
            maximum=now_set.maximum,
            members=members,
            terminating=stands.billed[pool] - len(members),
            launch_suspended=suspension(now_set.launch_suspended, Suspension.PERSON),
            rebalance_suspended=suspension(now_set.rebalance_suspended, Suspension.LOOP_OR_PERSON),
            zones=ZONES,
        )
        for (pool, members), now_set in zip(stands.members.items(), settings, strict=True)
        if now_set.exists
    }


def _standing(nodes: Nodes, fleet: Fleet, known: Mapping[str, Instance]) -> _Standing:
    """What stands now; instances already `known` are kept, since nothing of them changes."""
    now, until = nodes.now, inf
    instances: dict[str, Instance] = {}
    members: dict[str, dict[str, Member]] = {}
    billed: dict[str, int] = {}
    erring: list[Node] = []
    targets: dict[str, dict[str, Target]] = {unit.name: {} for unit in fleet.units}
    for pool in fleet.pools:
        held, registered = members.setdefault(pool.name, {}), targets[pool.unit]
        existing = nodes.existing(pool.name)
        billed[pool.name] = len(existing)
        for node in existing:
            identity = node.id
            instances[identity] = known.get(identity) or Instance(frozenset((identity,)), node.launched_at)
            if _is_settled(node, now):
                registered[identity], held[identity] = HEALTHY, Member(node.zone, in_service=True)
                continue
            state = node.target_state(now)
            if state is not None:
                registered[identity] = Target(TargetHealth(state))
            if node.is_member(now):
                held[identity] = Member(node.zone, node.lifecycle(now) == IN_SERVICE)
            until = min(until, _next_change(node, now))
            erring.extend([node] if node.errors_since < inf else [])
    for node in erring:
        found = targets[fleet.unit_of[node.pool].name]
        healthy = sum(target.health is TargetHealth.HEALTHY for target in found.values())
        if node.target_state(now) == "healthy":
            found[node.id] = Target(TargetHealth.HEALTHY, node.anomalous(now, healthy))
    return _Standing(nodes.version, until, instances, members, billed, targets)


def _is_settled(node: Node, now: float) -> bool:
    """Whether it serves, and goes on to as long as nothing is done to it: most nodes, most of the time."""
    return node.ready_at <= now and node.healthy_until == inf and node.errors_since == inf


def _next_change(node: Node, now: float) -> float:
    """When any answer about the node changes by itself."""
    moments = (
        node.launched_at + PENDING_SECONDS,
        node.ready_at,
        node.dead_at + UNHEALTHY_SECONDS,
        node.errors_since + ANOMALY_SECONDS,
        node.leaving_at,
        node.leaving_at + DRAIN_SECONDS,
        node.gone_at,
    )
    return min((moment for moment in moments if moment > now), default=inf)
