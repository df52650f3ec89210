"""The nodes of the twin's fleet: one Auto Scaling group per pool, launched, refused and interrupted.

Times are absolute seconds. Nothing here draws a random number: the same calls give the same nodes.
"""

from collections import deque
from collections.abc import Mapping
from dataclasses import dataclass, field
from math import inf
from typing import Final

from control_lambda.core.fleet import Fleet, Market
from control_lambda.core.model import EvidenceKind

# The target group's deregistration delay: the longest that a shrinking pool's nodes finish their work.
DRAIN_SECONDS: Final = 75.0
# EC2 announces a spot interruption two minutes ahead.
NOTICE_SECONDS: Final = 120.0
# An Auto Scaling group tries a refused launch again about once a minute, as long as desired asks for it.
RETRY_SECONDS: Final = 60.0
# Scaling activities are read a page at a time; older refusals are of no use to anybody.
REFUSALS_KEPT: Final = 100


@dataclass(slots=True)
class Node:
    """One instance. It takes new requests from `ready_at` until `leaving_at` (drain began) or `gone_at`.

    It is billed from `launched_at` to `gone_at`. `noticed_at` is when its interruption was announced; a
    noticed node keeps serving until it is gone, and what it has in flight then is lost.
    """

    id: str
    pool: str
    launched_at: float
    ready_at: float
    leaving_at: float = inf
    gone_at: float = inf
    noticed_at: float = inf

    def is_ready(self, at: float) -> bool:
        """Whether it takes new requests at `at`."""
        return self.ready_at <= at < self.leaving_at and at < self.gone_at

    def is_member(self, at: float) -> bool:
        """Whether its Auto Scaling group holds it at `at`: neither draining nor gone."""
        return at < self.leaving_at and at < self.gone_at


@dataclass(frozen=True, slots=True)
class Refused:
    """A group asked for nodes at `at` and did not get all of them."""

    pool: str
    at: float
    kind: EvidenceKind


@dataclass(frozen=True, slots=True)
class Interrupted:
    """The node with id `node` was told at `at` that it is taken away `NOTICE_SECONDS` later."""

    pool: str
    at: float
    node: str


Event = Refused | Interrupted


@dataclass(slots=True)
class _Group:
    """A pool's Auto Scaling group; `nodes` are those not gone, oldest first."""

    pool: str
    market: Market
    start_seconds: float
    nodes: list[Node] = field(default_factory=list)
    desired: int = 0
    capacity: int | None = None
    refusal: EvidenceKind = EvidenceKind.SHORTAGE
    suspended: bool = False
    retry_at: float = inf
    due_at: float = inf
    refusals: deque[Refused] = field(default_factory=lambda: deque(maxlen=REFUSALS_KEPT))
    billed_before: float = 0.0

    def members(self, at: float) -> list[Node]:
        return [node for node in self.nodes if node.is_member(at)]

    def room(self) -> float:
        """How many more nodes the market admits; draining and noticed ones still take their place."""
        return inf if self.capacity is None else max(0, self.capacity - len(self.nodes))

    def next_due(self, now: float) -> float:
        """The next second after `now` at which something here happens by itself."""
        readying = (node.ready_at for node in self.nodes if node.ready_at > now)
        going = (node.gone_at for node in self.nodes)
        return min(self.retry_at, min(readying, default=inf), min(going, default=inf))


class Nodes:
    """Every pool's Auto Scaling group and nodes, from `at` on.

    Every method that takes `at` first advances to it, and raises ValueError for a time before `now`, for
    a pool that the fleet lacks and for a negative number. `version` rises whenever the membership,
    readiness or planned end of any node changes. `launches` counts launched nodes (`start` aside),
    `launches_refused` the `Refused` events.
    """

    def __init__(self, fleet: Fleet, at: float) -> None:
        self.now = at
        self.version = 0
        self.launches = 0
        self.launches_refused = 0
        self._groups = {
            pool.name: _Group(pool.name, pool.market, fleet.unit_of[pool.name].profile.start_seconds)
            for pool in fleet.pools
        }
        self._events: list[Event] = []
        self._due_at = inf
        self._created = 0

    def start(self, pool: str, nodes: int, at: float) -> None:
        """Have the pool hold that many nodes, all ready, whatever capacity says: an initial condition."""
        group = self._changing(pool, at)
        group.desired = _count("nodes", nodes)
        group.retry_at = inf
        self._terminate_surplus(group)
        for node in group.members(at):
            node.ready_at = min(node.ready_at, at)
        for _ in range(group.desired - len(group.members(at))):
            self._create(group, ready_at=at)
        self._changed(group)

    def set_desired(self, pool: str, nodes: int, at: float) -> None:
        """Do as SetDesiredCapacity: launch what is missing, or drain the oldest of what is too much.

        What capacity does not admit is one `Refused`, retried every `RETRY_SECONDS`. Oldest first, since
        EKS managed node groups terminate by OldestInstance.
        """
        group = self._changing(pool, at)
        group.desired = _count("nodes", nodes)
        if self._terminate_surplus(group):
            self._changed(group)
        self._launch_missing(group)
        self._schedule(group)

    def terminate(self, node: str, decrement: bool, at: float) -> None:  # noqa: FBT001 - as AWS names it
        """Do as TerminateInstanceInAutoScalingGroup: have that very node leave, and with it its place or not.

        Raises:
            LookupError: no group holds the node.
        """
        self.advance(at)
        for group in self._groups.values():
            for leaving in group.members(at):
                if leaving.id == node:
                    leaving.leaving_at = at
                    leaving.gone_at = min(leaving.gone_at, at + DRAIN_SECONDS)
                    group.desired = max(0, group.desired - 1) if decrement else group.desired
                    self._changed(group)
                    self._launch_missing(group)
                    self._schedule(group)
                    return
        raise LookupError(f"no group holds {node}")

    def set_capacity(self, pool: str, nodes: int | None, at: float) -> None:
        """Let at most that many nodes exist in the pool, draining ones included; None = unlimited.

        On a spot pool the oldest nodes beyond it that are not already on their way out are interrupted;
        an on-demand pool keeps its nodes and only refuses launches.
        """
        group = self._changing(pool, at)
        group.capacity = None if nodes is None else _count("nodes", nodes)
        if group.capacity is None or group.market != "spot":
            return
        staying = [node for node in group.members(at) if node.noticed_at == inf]
        surplus = staying[: max(0, len(staying) - group.capacity)]
        for node in surplus:
            node.noticed_at, node.gone_at = at, at + NOTICE_SECONDS
            self._events.append(Interrupted(pool, at, node.id))
        if surplus:
            self._changed(group)

    def set_refusal(self, pool: str, kind: EvidenceKind) -> None:
        """Name what later refusals of the pool say; a shortage unless set."""
        self._group(pool).refusal = kind

    def set_start_seconds(self, pool: str, seconds: float) -> None:
        """Make later launches of the pool take that long (default: its profile's); inf = never ready."""
        if not seconds >= 0:
            raise ValueError(f"start seconds of {pool}: {seconds}; valid: 0 or more")
        self._group(pool).start_seconds = seconds

    def suspend(self, pool: str) -> None:
        """Stop the group's launches, retries included."""
        group = self._group(pool)
        group.suspended, group.retry_at = True, inf
        self._schedule(group)

    def resume(self, pool: str) -> None:
        """Let the group launch again; what is missing is asked for at once."""
        group = self._group(pool)
        group.suspended = False
        self._launch_missing(group)
        self._schedule(group)

    def advance(self, to: float) -> None:
        """Move time: retries, replacements and removals happen in their order, those at `to` included."""
        if to < self.now:
            raise ValueError(f"cannot advance to {to}, before now ({self.now})")
        while self._due_at <= to:
            self.now = self._due_at
            for group in self._groups.values():
                if group.due_at <= self.now:
                    self._settle(group)
        self.now = to

    def drain_events(self) -> list[Event]:
        """Hand over the events since the last call, in time order."""
        events, self._events = self._events, []
        return events

    def desired(self, pool: str) -> int:
        """The desired size of the pool's group."""
        return self._group(pool).desired

    def suspended(self, pool: str) -> bool:
        """Whether the group's launches are suspended."""
        return self._group(pool).suspended

    def members(self, pool: str) -> list[Node]:
        """The nodes that the group holds, oldest first: neither draining nor gone."""
        return self._group(pool).members(self.now)

    def existing(self, pool: str) -> list[Node]:
        """The nodes that are billed, oldest first: all that are not gone."""
        return list(self._group(pool).nodes)

    def ready(self, pool: str) -> list[Node]:
        """The nodes that take new requests now, oldest first."""
        return [node for node in self._group(pool).nodes if node.is_ready(self.now)]

    def starting(self, pool: str) -> list[Node]:
        """The nodes that the group holds and that are not ready yet, oldest first."""
        return [node for node in self.members(pool) if node.ready_at > self.now]

    def refusals(self, pool: str) -> list[Refused]:
        """The last `REFUSALS_KEPT` refusals of the pool, oldest first."""
        return list(self._group(pool).refusals)

    def billed_seconds(self, pool: str) -> float:
        """Node seconds of the pool billed up to now, each node from its launch until it is gone."""
        group = self._group(pool)
        return group.billed_before + sum(self.now - node.launched_at for node in group.nodes)

    def cost(self, prices: Mapping[str, float]) -> float:
        """USD billed up to now at constant `prices` (pool -> USD per hour; every pool of the fleet)."""
        return sum(self.billed_seconds(pool) / 3600 * prices[pool] for pool in self._groups)

    def _group(self, pool: str) -> _Group:
        group = self._groups.get(pool)
        if group is None:
            raise ValueError(f"no pool {pool!r}; valid: {', '.join(self._groups)}")
        return group

    def _changing(self, pool: str, at: float) -> _Group:
        """The pool's group at `at`, everything due until then done."""
        group = self._group(pool)
        self.advance(at)
        return group

    def _settle(self, group: _Group) -> None:
        """Do what is due in the group now: readiness, removals, replacements, retries."""
        gone = [node for node in group.nodes if node.gone_at <= self.now]
        if gone or any(node.ready_at == self.now for node in group.nodes):
            self.version += 1
        group.billed_before += sum(node.gone_at - node.launched_at for node in gone)
        group.nodes = [node for node in group.nodes if node.gone_at > self.now]
        replaced = any(node.leaving_at == inf for node in gone)
        if replaced or group.retry_at <= self.now:
            self._launch_missing(group)
        self._schedule(group)

    def _launch_missing(self, group: _Group) -> None:
        """Launch what desired asks for, as far as capacity admits; the rest is refused and retried."""
        group.retry_at = inf
        missing = group.desired - len(group.members(self.now))
        if missing <= 0 or group.suspended:
            return
        launched = int(min(missing, group.room()))
        for _ in range(launched):
            self._create(group, ready_at=self.now + group.start_seconds)
        self.launches += launched
        if launched:
            self._changed(group)
        if launched < missing:
            self._refuse(group)

    def _refuse(self, group: _Group) -> None:
        refused = Refused(group.pool, self.now, group.refusal)
        group.refusals.append(refused)
        group.retry_at = self.now + RETRY_SECONDS
        self._events.append(refused)
        self.launches_refused += 1

    def _terminate_surplus(self, group: _Group) -> bool:
        members = group.members(self.now)
        surplus = members[: max(0, len(members) - group.desired)]
        for node in surplus:
            node.leaving_at = self.now
            node.gone_at = min(node.gone_at, self.now + DRAIN_SECONDS)
        return bool(surplus)

    def _create(self, group: _Group, ready_at: float) -> None:
        self._created += 1
        group.nodes.append(Node(f"i-{self._created:017x}", group.pool, self.now, ready_at))

    def _changed(self, group: _Group) -> None:
        self.version += 1
        self._schedule(group)

    def _schedule(self, group: _Group) -> None:
        """Note when the group next needs attention, so that advancing over quiet time costs nothing."""
        group.due_at = group.next_due(self.now)
        self._due_at = min(other.due_at for other in self._groups.values())


def _count(what: str, value: int) -> int:
    if value < 0:
        raise ValueError(f"{what}: {value}; valid: 0 or more")
    return value
