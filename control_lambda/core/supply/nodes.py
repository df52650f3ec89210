"""In which state is every node: starting, serving, suspect, dead, hung or slow?

Only nodes that do not serve are remembered, and of a node that memory lacks it is known that it served when
it was last seen. So the memory stays small while all is well, and a look at a thousand nodes that serve costs
nothing.
"""

from collections.abc import Mapping, Sequence
from enum import StrEnum
from typing import Final, NamedTuple

from control_lambda.core.fleet import Fleet, Unit
from control_lambda.core.model import (
    NodeSignal,
    NodesMemory,
    PoolSignals,
    ServiceMemory,
    Snapshot,
    State,
    TargetHealth,
)
from control_lambda.core.supply.service import planned_seconds

# A node that is not ready after this many start times will not be.
NEVER_READY_STARTS: Final = 2.0
# The load balancer has by then failed its checks for minutes, and a container that crashed is back. Waiting
# longer leaves requests without a node; waiting less pays a whole start for a hiccup.
DEAD_SECONDS: Final = 120.0
# From a launch until the Auto Scaling group is seen to hold the node.
APPEARS_SECONDS: Final = 60.0
# Slower by this factor than what its unit is planned with a node refuses much of what others would answer.
SLOW_FACTOR: Final = 1.5
# Seen so in three ticks, a minute apart: no hiccup.
SLOW_SECONDS: Final = 120.0
# Where more of a unit's nodes than this share are slow, it is the unit that is, and its profile is learned.
MOST_SLOW: Final = 0.5


class NodeState(StrEnum):
    """What is to be expected of a node."""

    STARTING = "starting"  # has not served yet, and is expected to
    SERVING = "serving"
    SUSPECT = "suspect"  # has served, does not now, and may recover
    DEAD = "dead"  # has served, and will not again
    HUNG = "hung"  # has not served within twice its start
    SLOW = "slow"  # serves far worse than it should


class Census(NamedTuple):
    """The nodes of a pool that are in another state than serving; ids, oldest launch first."""

    starting: tuple[str, ...] = ()
    suspect: tuple[str, ...] = ()
    dead: tuple[str, ...] = ()
    hung: tuple[str, ...] = ()
    slow: tuple[str, ...] = ()

    @property
    def useless(self) -> tuple[str, ...]:
        """The nodes that are paid for and of no use."""
        return self.hung + self.dead


def remember(
    memory: NodesMemory,
    signals: PoolSignals,
    unit: Unit,
    at: float,
    limping: frozenset[str] = frozenset(),
) -> NodesMemory:
    """The memory brought up to what is seen now; as it was where it is not known who serves.

    `limping` are the nodes of any pool that serve far worse than they should.
    """
    if not signals.health_known:
        return memory
    unserved: list[str] = []
    unhealthy: dict[str, float] = {}
    for identity in signals.starting:
        if identity in memory.unhealthy:
            unhealthy[identity] = min(memory.unhealthy[identity], at)
        elif identity in memory.unserved or _is_new(signals.nodes[identity], memory, unit, at):
            unserved.append(identity)
        else:
            unhealthy[identity] = at
    worse = {node: min(memory.limping.get(node, at), at) for node in sorted(limping & signals.ready)}
    return NodesMemory(at, tuple(unserved), unhealthy, worse, memory.terminated)


def learn(before: State, snapshot: Snapshot, fleet: Fleet) -> dict[str, NodesMemory]:
    """What is remembered of every pool's nodes after the snapshot."""
    limping = limping_nodes(snapshot, before.service, fleet)
    return {
        pool.name: remember(
            before.nodes.get(pool.name, NodesMemory()),
            snapshot.pools[pool.name],
            fleet.unit_of[pool.name],
            snapshot.at,
            limping,
        )
        if pool.name in snapshot.pools
        else before.nodes.get(pool.name, NodesMemory())
        for pool in fleet.pools
    }


def census(
    memory: NodesMemory,
    signals: PoolSignals,
    unit: Unit,
    at: float,
    limping: frozenset[str] = frozenset(),
) -> Census:
    """The pool's nodes by state; `limping` are those of any pool that serve far worse than they should."""
    if not signals.health_known:
        return Census()
    known = remember(memory, signals, unit, at, limping)
    by_state: dict[NodeState, list[str]] = {state: [] for state in NodeState}
    oldest_first = sorted(signals.starting.items(), key=lambda item: (item[1], item[0]))
    for identity, launched_at in oldest_first:
        since = known.unhealthy.get(identity)
        if since is None:
            state = _unserved_state(launched_at, unit, at)
        else:
            state = _unhealthy_state(signals.nodes[identity], since, unit, at)
        by_state[state].append(identity)
    slow = sorted(
        (node for node, since in known.limping.items() if at - since >= SLOW_SECONDS),
        key=lambda identity: (signals.nodes[identity].launched_at, identity),
    )
    return Census(
        starting=tuple(by_state[NodeState.STARTING]),
        suspect=tuple(by_state[NodeState.SUSPECT]),
        dead=tuple(by_state[NodeState.DEAD]),
        hung=tuple(by_state[NodeState.HUNG]),
        slow=tuple(slow),
    )


def censuses(snapshot: Snapshot, state: State, fleet: Fleet) -> dict[str, Census]:
    """The census of every pool that was sensed."""
    limping = limping_nodes(snapshot, state.service, fleet)
    return {
        name: census(state.nodes.get(name, NodesMemory()), signals, fleet.unit_of[name], snapshot.at, limping)
        for name, signals in snapshot.pools.items()
        if name in fleet.unit_of
    }


def limping_nodes(snapshot: Snapshot, known: Mapping[str, ServiceMemory], fleet: Fleet) -> frozenset[str]:
    """The nodes that serve far worse than they should: slower than `known` of their unit, or erring."""
    return frozenset(
        node
        for unit in fleet.units
        for node in _limping(
            [snapshot.pools[pool.name] for pool in unit.pools if pool.name in snapshot.pools],
            snapshot.node_seconds,
            planned_seconds(unit, known),
        )
    )


def _limping(pools: Sequence[PoolSignals], told: Mapping[str, float], planned: float) -> frozenset[str]:
    ready = frozenset[str]().union(*(signals.ready for signals in pools))
    slow = frozenset(node for node in ready.intersection(told) if told[node] > SLOW_FACTOR * planned)
    if len(slow) > MOST_SLOW * len(ready):
        slow = frozenset()
    return slow.union(*(signals.anomalous for signals in pools))


def _is_new(node: NodeSignal, memory: NodesMemory, unit: Unit, at: float) -> bool:
    """Whether a node that memory lacks, and that does not serve, has never served.

    Without any memory an unhealthy target is taken for one that was healthy, and so spared by the breaker,
    unless the node is still young.
    """
    if memory.at:
        return node.launched_at > memory.at - APPEARS_SECONDS
    young = node.launched_at >= at - NEVER_READY_STARTS * unit.profile.start_seconds
    return young or node.target is not TargetHealth.UNHEALTHY


def _unserved_state(launched_at: float, unit: Unit, at: float) -> NodeState:
    late = launched_at < at - NEVER_READY_STARTS * unit.profile.start_seconds
    return NodeState.HUNG if late else NodeState.STARTING


def _unhealthy_state(node: NodeSignal, since: float, unit: Unit, at: float) -> NodeState:
    """Whether it is given up: a target that fails its checks is believed sooner than one that is gone.

    One that is gone, drains or only starts may be a pod that is being replaced: no longer than a whole start.
    """
    patience = DEAD_SECONDS if node.target is TargetHealth.UNHEALTHY else unit.profile.start_seconds
    return NodeState.DEAD if at - since >= patience else NodeState.SUSPECT
