"""The nodes of the twin's fleet: one Auto Scaling group per pool, launched, refused and interrupted.

Times are absolute seconds. Nothing here draws a random number: the same calls give the same nodes.
"""

from collections.abc import Iterable, Mapping
from math import ceil, inf
from typing import Final

from control_lambda.core.fleet import MAX_NODES, Market
from control_lambda.core.model import EvidenceKind
from twin.world.group import LAUNCH, REBALANCE, REFUSALS_KEPT, ZONES, Group, Refused, Swap
from twin.world.groups import (
    NOTICE_SECONDS,
    RETRY_SECONDS,
    SWAP_SECONDS,
    CallRefusedError,
    Event,
    Groups,
    Interrupted,
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

USER_SUSPENDED: Final = "User suspended at launch"


class Nodes(Groups):
    """Every pool's Auto Scaling group and nodes, from `at` on.

    Every method that takes `at` first advances to it, and raises ValueError for a time before `now`, for
    a pool that the fleet lacks and for a negative number. `version` rises whenever the membership,
    readiness, condition or planned end of any node changes. `launches` counts launched nodes (`start`
    aside), `launches_refused` the tries that were not granted whole.
    """

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

    # --- What is to be seen ----------------------------------------------------------------------------

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


def _require_existing(group: Group) -> None:
    if not group.exists:
        raise CallRefusedError("ValidationError", f"AutoScalingGroup name not found - {group.pool}")


def _count(what: str, value: int) -> int:
    if value < 0:
        raise ValueError(f"{what}: {value}; valid: 0 or more")
    return value
