"""The nodes of the twin's fleet: one Auto Scaling group per pool, launched, refused and interrupted.

Times are absolute seconds. Nothing here draws a random number: the same calls give the same nodes.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from math import ceil, inf
from typing import Final

from control_lambda.core.fleet import MAX_NODES, Fleet, Market
from control_lambda.core.model import EvidenceKind
from control_lambda.core.supply.refusals import family
from twin.world.group import (
    LAUNCH,
    REBALANCE,
    REFUSALS_KEPT,
    ZONES,
    Group,
    Refused,
    Swap,
    vcpus,
)
from twin.world.node import DRAIN_SECONDS, Node

__all__ = [
    "DRAIN_SECONDS",
    "LAUNCH",
    "MAX_NODES",
    "NOTICE_SECONDS",
    "REBALANCE",
    "REFUSALS_KEPT",
    "RETRY_SECONDS",
    "ZONES",
    "CallRefusedError",
    "Event",
    "Interrupted",
    "Node",
    "Nodes",
    "Refused",
]

# EC2 announces a spot interruption two minutes ahead.
NOTICE_SECONDS: Final = 120.0
# An Auto Scaling group tries a refused launch again about once a minute, as long as desired asks for it.
RETRY_SECONDS: Final = 60.0
# Zone rebalancing replaces nodes one by one, and terminates each a minute after its replacement's launch.
SWAP_SECONDS: Final = 120.0
SWAPPED_AFTER_SECONDS: Final = 60.0
USER_SUSPENDED: Final = "User suspended at launch"


@dataclass(frozen=True, slots=True)
class Interrupted:
    """The node with id `node` was told at `at` that it is taken away `NOTICE_SECONDS` later."""

    pool: str
    at: float
    node: str


Event = Refused | Interrupted


class CallRefusedError(Exception):
    """Auto Scaling refuses the call: `code` and `message` as AWS answers them."""

    def __init__(self, code: str, message: str) -> None:
        super().__init__(f"{code}: {message}")
        self.code = code
        self.message = message


class Nodes:
    """Every pool's Auto Scaling group and nodes, from `at` on.

    Every method that takes `at` first advances to it, and raises ValueError for a time before `now`, for
    a pool that the fleet lacks and for a negative number. `version` rises whenever the membership,
    readiness, condition or planned end of any node changes. `launches` counts launched nodes (`start`
    aside), `launches_refused` the tries that were not granted whole.
    """

    def __init__(self, fleet: Fleet, at: float) -> None:
        self.now = at
        self.version = 0
        self.launches = 0
        self.launches_refused = 0
        self._groups = {
            pool.name: Group(
                pool.name,
                pool.market,
                fleet.unit_of[pool.name].instance_type,
                fleet.unit_of[pool.name].profile.start_seconds,
            )
            for pool in fleet.pools
        }
        self._quotas: dict[tuple[str, Market], int] = {}
        self._events: list[Event] = []
        self._due_at = inf
        self._created = 0

    # --- What AWS is asked to do -----------------------------------------------------------------------

    def start(self, pool: str, nodes: int, at: float) -> None:
        """Have the pool hold that many nodes, all ready, whatever capacity says: an initial condition."""
        group = self._changing(pool, at)
        group.desired = _count("nodes", nodes)
        group.retry_at = inf
        self._terminate_surplus(group)
        for node in group.members(at):
            node.ready_at = min(node.ready_at, at)
        for zone in group.destinations(group.desired - len(group.members(at)), at):
            self._create(group, zone, ready_at=at)
        self._changed(group)

    def set_desired(self, pool: str, nodes: int, at: float) -> None:
        """Do as SetDesiredCapacity: launch what is missing, or drain the oldest of what is too much.

        What capacity does not admit is one `Refused` per zone, retried every `RETRY_SECONDS`. Oldest first,
        since EKS managed node groups terminate by OldestInstance.

        Raises:
            CallRefusedError: ValidationError, above the group's maximum or without the group.
        """
        group = self._changing(pool, at)
        _require_existing(group)
        if _count("nodes", nodes) > group.maximum:
            raise CallRefusedError(
                "ValidationError",
                f"New SetDesiredCapacity value {nodes} is above max value {group.maximum} "
                "for the AutoScalingGroup.",
            )
        group.desired = nodes
        if self._terminate_surplus(group):
            self._changed(group)
        self._launch_missing(group)
        self._schedule(group)

    def terminate(self, node: str, decrement: bool, at: float) -> None:  # noqa: FBT001 - as AWS names it
        """Do as TerminateInstanceInAutoScalingGroup: have that very node leave, and with it its place or not.

        Without `decrement` its replacement is launched at once.

        Raises:
            CallRefusedError: ValidationError, when no group holds the node.
        """
        self.advance(at)
        group, leaving = self._member(node)
        leaving.leave(at)
        if decrement:
            group.desired = max(0, group.desired - 1)
        self._changed(group)
        self._launch_missing(group)
        self._schedule(group)

    def take(self, node: str, at: float) -> None:
        """Terminate that node behind its group's back, as EC2 does when asked; the group replaces it.

        Raises:
            CallRefusedError: ValidationError, when no group holds the node.
        """
        self.advance(at)
        group, taken = self._member(node)
        taken.gone_at = at
        self._changed(group)
        self.advance(at)

    def suspend(
        self,
        pool: str,
        process: str = LAUNCH,
        reason: str = USER_SUSPENDED,
        at: float | None = None,
    ) -> None:
        """Suspend a process of the group: `Launch` stops launches, retries included."""
        group = self._changing(pool, self.now if at is None else at)
        _require_existing(group)
        group.suspensions[process] = reason
        if process == LAUNCH:
            group.retry_at = inf
        self._schedule(group)

    def resume(self, pool: str, process: str = LAUNCH, at: float | None = None) -> None:
        """Let the process run again; what is missing is asked for at once."""
        group = self._changing(pool, self.now if at is None else at)
        _require_existing(group)
        group.suspensions.pop(process, None)
        if process == LAUNCH:
            self._launch_missing(group)
        self._schedule(group)

    # --- What happens to the fleet ---------------------------------------------------------------------

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
        self._interrupt(group, staying[: max(0, len(staying) - group.capacity)])

    def interrupt(self, pool: str, share: float, until: float, at: float) -> None:
        """Announce the end of that share of the pool's nodes, oldest first; launch none before `until`."""
        group = self._changing(pool, at)
        staying = [node for node in group.members(at) if node.noticed_at == inf]
        group.closed_until = until
        self._interrupt(group, staying[: ceil(share * len(staying))])

    def set_refusal(self, pool: str, kind: EvidenceKind) -> None:
        """Name what later refusals of the pool say; a shortage unless set."""
        self._group(pool).refusal = kind

    def refuse_zones(self, pool: str, zones: Iterable[str], kind: EvidenceKind, until: float) -> None:
        """Have these zones refuse the pool's launches before `until`."""
        group = self._group(pool)
        group.refusing.update((zone, (kind, until)) for zone in zones)

    def set_quota(self, family_name: str, market: Market, limit: int | None) -> None:
        """Let the family's nodes in the market have at most that many vCPUs together; None = unlimited."""
        if limit is None:
            self._quotas.pop((family_name, market), None)
        else:
            self._quotas[family_name, market] = _count("vcpus", limit)

    def set_start_seconds(self, pool: str, seconds: float) -> None:
        """Make later launches of the pool take that long (default: its profile's); inf = never ready."""
        if not seconds >= 0:
            raise ValueError(f"start seconds of {pool}: {seconds}; valid: 0 or more")
        self._group(pool).start_seconds = seconds

    def set_start_factor(self, pool: str, factor: float) -> None:
        """Make later launches of the pool take that many times as long; 1 = as long as they should."""
        self._group(pool).start_factor = factor

    def hang_next(self, pool: str, nodes: int, until: float) -> None:
        """Let the next so many launches of the pool before `until` never become ready."""
        group = self._group(pool)
        group.hanging, group.hanging_until = nodes, until

    def set_checks(self, pools: Iterable[str], *, fail: bool) -> None:
        """Have the health checks of the pools' targets fail, or pass again."""
        for name in pools:
            group = self._group(name)
            group.checks_fail = fail
            for node in group.nodes:
                node.checks_fail = fail
        self.version += 1

    def touched(self) -> None:
        """Tell that a node's condition was changed from outside."""
        self.version += 1

    def swap(self, pool: str, nodes: int, at: float) -> None:
        """Rebalance the oldest so many members: each is replaced and then terminated, one after another.

        In an on-demand pool a swap is left out while the process AZRebalance is suspended.
        """
        group = self._changing(pool, at)
        oldest = group.members(at)[:nodes]
        group.swaps += [Swap(at + SWAP_SECONDS * place, node) for place, node in enumerate(oldest)]
        self._swap_due(group)
        self._schedule(group)

    def set_maximum(self, pool: str, nodes: int, at: float) -> None:
        """Change the group's MaxSize: desired above it falls to it, and the surplus drains."""
        group = self._changing(pool, at)
        group.maximum = _count("nodes", nodes)
        group.desired = min(group.desired, group.maximum)
        if self._terminate_surplus(group):
            self._changed(group)
        self._launch_missing(group)
        self._schedule(group)

    def set_status(self, pool: str, status: str) -> None:
        """Have EKS say that about the pool's node group; its Auto Scaling group works all the same."""
        self._group(pool).status = status

    def delete_group(self, pool: str, at: float) -> None:
        """Delete the pool's node group and its Auto Scaling group; their nodes are gone at once."""
        group = self._changing(pool, at)
        group.exists, group.status, group.desired = False, "", 0
        group.swaps, group.retry_at = [], inf
        for node in group.nodes:
            node.gone_at = min(node.gone_at, at)
        self.version += 1
        self._settle(group)

    # --- Time, and what is to be seen --------------------------------------------------------------------

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

    def maximum(self, pool: str) -> int:
        """The group's MaxSize."""
        return self._group(pool).maximum

    def status(self, pool: str) -> str:
        """What EKS says about the pool's node group; empty when it was deleted."""
        return self._group(pool).status

    def exists(self, pool: str) -> bool:
        """Whether the pool has its node group and Auto Scaling group."""
        return self._group(pool).exists

    def suspension(self, pool: str, process: str) -> str | None:
        """Why the group's process is suspended; None: it runs."""
        return self._group(pool).suspensions.get(process)

    def suspensions(self, pool: str) -> Mapping[str, str]:
        """The group's suspended processes, and why each is."""
        return dict(self._group(pool).suspensions)

    def suspended(self, pool: str) -> bool:
        """Whether the group's launches are suspended."""
        return self.suspension(pool, LAUNCH) is not None

    def members(self, pool: str) -> list[Node]:
        """The nodes that the group holds, oldest first: neither draining nor gone."""
        return list(self._looked_over(pool).held)

    def existing(self, pool: str) -> list[Node]:
        """The nodes that are billed, oldest first: all that are not gone."""
        return list(self._group(pool).nodes)

    def ready(self, pool: str) -> list[Node]:
        """The nodes that answer new requests now, oldest first."""
        return list(self._looked_over(pool).answering)

    def healthy_hosts(self, pool: str) -> int | None:
        """How many of the pool's targets are healthy now; None while the group holds no node."""
        group = self._looked_over(pool)
        return group.healthy(self.now) if group.held else None

    def terminating(self, pool: str) -> list[Node]:
        """The nodes that were terminated and are still billed, oldest first."""
        return [node for node in self._group(pool).nodes if node.leaving_at <= self.now]

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

    def _group(self, pool: str) -> Group:
        group = self._groups.get(pool)
        if group is None:
            raise ValueError(f"no pool {pool!r}; valid: {', '.join(self._groups)}")
        return group

    def _looked_over(self, pool: str) -> Group:
        group = self._group(pool)
        group.look(self.now, self.version)
        return group

    def _member(self, node: str) -> tuple[Group, Node]:
        for group in self._groups.values():
            for member in group.members(self.now):
                if member.id == node:
                    return group, member
        raise CallRefusedError(
            "ValidationError", f"Instance Id not found - No managed instance found for instance ID: {node}"
        )

    def _changing(self, pool: str, at: float) -> Group:
        """The pool's group at `at`, everything due until then done."""
        group = self._group(pool)
        self.advance(at)
        return group

    def _settle(self, group: Group) -> None:
        """Do what is due in the group now: readiness, removals, replacements, retries."""
        gone = [node for node in group.nodes if node.gone_at <= self.now]
        if gone or any(node.ready_at == self.now for node in group.nodes):
            self.version += 1
        group.billed_before += sum(node.gone_at - node.launched_at for node in gone)
        group.nodes = [node for node in group.nodes if node.gone_at > self.now]
        self._swap_due(group)
        replaced = any(node.leaving_at == inf for node in gone)
        if replaced or group.retry_at <= self.now:
            self._launch_missing(group)
        self._schedule(group)

    def _swap_due(self, group: Group) -> None:
        """Launch and terminate what zone rebalancing swaps now."""
        due = [swap for swap in group.swaps if swap.at <= self.now]
        for swap in due:
            if swap.launched:
                group.swaps.remove(swap)
                if swap.old.is_member(self.now):
                    swap.old.leave(self.now)
                    self._changed(group)
            elif self._may_swap(group, swap) and self._launch(group, 1):
                swap.launched, swap.at = True, self.now + SWAPPED_AFTER_SECONDS
            else:
                group.swaps.remove(swap)

    def _may_swap(self, group: Group, swap: Swap) -> bool:
        rebalances = group.market == "spot" or REBALANCE not in group.suspensions
        return rebalances and LAUNCH not in group.suspensions and swap.old.is_member(self.now)

    def _launch_missing(self, group: Group) -> None:
        """Launch what desired asks for, as far as it is granted; the rest is refused and retried."""
        group.retry_at = inf
        missing = group.wanted(self.now) - len(group.members(self.now))
        if missing <= 0:
            group.tried.clear()
            return
        if not group.exists or LAUNCH in group.suspensions:
            return
        if self._launch(group, missing) < missing:
            group.retry_at = self.now + RETRY_SECONDS
        else:
            group.tried.clear()

    def _launch(self, group: Group, wanted: int) -> int:
        """Launch so many nodes where they are granted; how many were. Each zone's refusal is told once."""
        room = min(group.room(self.now), self._quota_room(group))
        refused: dict[str, EvidenceKind] = {}
        granted: list[str] = []
        for zone in group.destinations(wanted, self.now):
            kind = group.refused_in(zone, self.now)
            if kind is not None:
                refused[zone] = kind
            elif len(granted) < room:
                granted.append(zone)
        group.remember_tried(refused)
        for zone in granted:
            self._create(group, zone, ready_at=group.next_start(self.now))
        self.launches += len(granted)
        if granted:
            self._changed(group)
        if len(granted) == room < wanted:
            refused |= self._beyond_room(group)
        self._refuse(group, refused)
        return len(granted)

    def _beyond_room(self, group: Group) -> dict[str, EvidenceKind]:
        """What refuses launches beyond the room there is: a quota, naming no zone, or every zone."""
        if self._quota_room(group) < group.room(self.now):
            return {"": EvidenceKind.QUOTA}
        return dict.fromkeys(ZONES, group.refusal)

    def _quota_room(self, group: Group) -> float:
        """How many more nodes the vCPU quota of the group's family admits; existing ones all count."""
        key = family(group.instance_type), group.market
        if key not in self._quotas:
            return inf
        used = sum(
            len(other.nodes) * vcpus(other.instance_type)
            for other in self._groups.values()
            if (family(other.instance_type), other.market) == key
        )
        return max(0, self._quotas[key] - used) // vcpus(group.instance_type)

    def _refuse(self, group: Group, refused: Mapping[str, EvidenceKind]) -> None:
        for zone, kind in sorted(refused.items()):
            told = Refused(group.pool, self.now, kind, zone)
            group.refusals.append(told)
            self._events.append(told)
        self.launches_refused += bool(refused)

    def _interrupt(self, group: Group, nodes: Sequence[Node]) -> None:
        for node in nodes:
            node.noticed_at, node.gone_at = self.now, self.now + NOTICE_SECONDS
            self._events.append(Interrupted(group.pool, self.now, node.id))
        if nodes:
            self._changed(group)

    def _terminate_surplus(self, group: Group) -> bool:
        members = group.members(self.now)
        surplus = members[: max(0, len(members) - group.wanted(self.now))]
        for node in surplus:
            node.leave(self.now)
        return bool(surplus)

    def _create(self, group: Group, zone: str, ready_at: float) -> None:
        self._created += 1
        node = Node(f"i-{self._created:017x}", group.pool, self.now, ready_at, zone)
        node.checks_fail = group.checks_fail
        group.nodes.append(node)

    def _changed(self, group: Group) -> None:
        self.version += 1
        self._schedule(group)

    def _schedule(self, group: Group) -> None:
        """Note when the group next needs attention, so that advancing over quiet time costs nothing."""
        group.due_at = group.next_due(self.now)
        self._due_at = min(other.due_at for other in self._groups.values())


def _require_existing(group: Group) -> None:
    if not group.exists:
        raise CallRefusedError("ValidationError", f"AutoScalingGroup name not found - {group.pool}")


def _count(what: str, value: int) -> int:
    if value < 0:
        raise ValueError(f"{what}: {value}; valid: 0 or more")
    return value
