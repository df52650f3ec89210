"""What was read of instances, groups, node groups and targets, as typed answers, and how these join.

Pure: the twin gives the same answers without AWS in between. Each answer may be missing, and takes with it
only what it alone can tell: without the groups no size is known; without the instances, or the targets of
its unit, a pool's size is known, but not who serves; without the node group its status is not known.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Final, NamedTuple

from control_lambda.core.fleet import Fleet
from control_lambda.core.model import (
    DELETED,
    EvidenceKind,
    NodeSignal,
    PoolSignals,
    Suspension,
    TargetHealth,
)


@dataclass(frozen=True, slots=True)
class Instance:
    """An EC2 instance of the cluster: every private address of it, and when it was launched."""

    addresses: frozenset[str]
    launched_at: float


class Member(NamedTuple):
    """A Pending or InService member of an Auto Scaling group."""

    zone: str
    in_service: bool


@dataclass(frozen=True, slots=True)
class Group:
    """A pool's Auto Scaling group; `members` by instance id, `terminating` more are on their way out.

    `zones` are those in which it launches.
    """

    name: str
    desired: int
    maximum: int
    members: Mapping[str, Member] = field(default_factory=dict)
    terminating: int = 0
    launch_suspended: Suspension = Suspension.NONE
    rebalance_suspended: Suspension = Suspension.NONE
    zones: tuple[str, ...] = ()


class Issue(NamedTuple):
    """What a node group's health issue means; `text` is what EKS said where we cannot read it."""

    kind: EvidenceKind
    text: str = ""


@dataclass(frozen=True, slots=True)
class NodeGroup:
    """A pool's EKS node group: its status, DELETED when there is none, and what its health issues say."""

    status: str
    issues: tuple[Issue, ...] = ()


class Target(NamedTuple):
    """What stands behind one address of a target group."""

    health: TargetHealth
    anomalous: bool = False


@dataclass(frozen=True, slots=True)
class Answers:
    """What came back of one round of reading; what did not is None, or absent from its mapping.

    `groups`, `node_groups` and `prices` (USD per node and hour) go by pool, `targets` by unit and address.
    """

    instances: Mapping[str, Instance] | None
    groups: Mapping[str, Group] | None
    node_groups: Mapping[str, NodeGroup]
    targets: Mapping[str, Mapping[str, Target]]
    prices: Mapping[str, float]


@dataclass(frozen=True, slots=True)
class Joined:
    """What the answers say together: the pools, and by unit the healthy and all registered targets."""

    pools: Mapping[str, PoolSignals]
    healthy: Mapping[str, int]
    registered: Mapping[str, int]


NO_NODE_GROUP: Final = NodeGroup("")
# The best of a node's targets counts: its pods come and go, and each has a target of its own.
_BEST_FIRST: Final = (
    TargetHealth.HEALTHY,
    TargetHealth.INITIAL,
    TargetHealth.UNHEALTHY,
    TargetHealth.DRAINING,
)


def join(answers: Answers, fleet: Fleet, at: float) -> Joined:
    """Join what was read; draining targets are no longer registered."""
    return Joined(
        _pools(answers, fleet, at),
        {unit: healthy_of(found) for unit, found in answers.targets.items()},
        {unit: len(found) - _count(found, TargetHealth.DRAINING) for unit, found in answers.targets.items()},
    )


def healthy_of(targets: Mapping[str, Target]) -> int:
    """How many of a unit's targets are healthy."""
    return _count(targets, TargetHealth.HEALTHY)


def _count(targets: Mapping[str, Target], health: TargetHealth) -> int:
    return sum(target.health is health for target in targets.values())


def _pools(answers: Answers, fleet: Fleet, at: float) -> dict[str, PoolSignals]:
    """Every pool whose sizes are known, or that is known to be gone."""
    if answers.groups is None:
        return {}
    pools: dict[str, PoolSignals] = {}
    for pool in fleet.pools:
        node_group = answers.node_groups.get(pool.name, NO_NODE_GROUP)
        group = answers.groups.get(pool.name)
        price = answers.prices.get(pool.name)
        if group is not None:
            targets = answers.targets.get(pool.unit)
            pools[pool.name] = pool_signals(group, node_group, answers.instances, targets, price, at)
        elif node_group.status == DELETED:
            pools[pool.name] = PoolSignals(0, maximum=0, status=DELETED, price=price)
    return pools


def pool_signals(
    group: Group,
    node_group: NodeGroup,
    instances: Mapping[str, Instance] | None,
    targets: Mapping[str, Target] | None,
    price: float | None,
    at: float,
) -> PoolSignals:
    """Join what was read of one pool; an instance that EC2 does not show yet was launched just now."""
    shown, registered = instances or {}, targets or {}
    return PoolSignals(
        desired=group.desired,
        nodes={
            identity: _node(member, shown.get(identity), registered, at)
            for identity, member in group.members.items()
        },
        terminating=group.terminating,
        maximum=group.maximum,
        status=node_group.status,
        launch_suspended=group.launch_suspended,
        rebalance_suspended=group.rebalance_suspended,
        health_known=instances is not None and targets is not None,
        price=price,
        zones=group.zones,
    )


def by_node(said: Mapping[str, float], instances: Mapping[str, Instance] | None) -> dict[str, float]:
    """What is said of addresses, by the instances that have them; of several the most."""
    if not said:
        return {}
    return {
        identity: max(said[address] for address in found)
        for identity, instance in (instances or {}).items()
        if (found := instance.addresses.intersection(said))
    }


def best_of(targets: Iterable[Target]) -> Target:
    """Targets of one node as one: the best health, anomalous where any of them is."""
    found = tuple(targets)
    healths = {target.health for target in found}
    best = next((health for health in _BEST_FIRST if health in healths), TargetHealth.NONE)
    return Target(best, any(target.anomalous for target in found))


def _node(member: Member, instance: Instance | None, targets: Mapping[str, Target], at: float) -> NodeSignal:
    if instance is None:
        return NodeSignal(at, member.zone, member.in_service)
    found = [targets[address] for address in instance.addresses if address in targets]
    health, anomalous = found[0] if len(found) == 1 else best_of(found)
    return NodeSignal(instance.launched_at, member.zone, member.in_service, health, anomalous)
