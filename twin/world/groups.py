"""What Auto Scaling groups do by themselves: they launch, are refused, retry, replace and swap nodes."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from math import inf
from typing import Final

from control_lambda.core.fleet import Fleet, Market
from control_lambda.core.model import EvidenceKind
from control_lambda.core.supply.refusals import family
from twin.world.group import LAUNCH, REBALANCE, ZONES, Group, Refused, Swap, vcpus
from twin.world.node import Node

# EC2 announces a spot interruption two minutes ahead.
NOTICE_SECONDS: Final = 120.0
# An Auto Scaling group tries a refused launch again about once a minute, as long as desired asks for it.
RETRY_SECONDS: Final = 60.0
# Zone rebalancing replaces nodes one by one, and terminates each a minute after its replacement's launch.
SWAP_SECONDS: Final = 120.0
SWAPPED_AFTER_SECONDS: Final = 60.0


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


class Groups:
    """Every pool's group from `at` on; see `nodes.Nodes`, which says what is asked of them."""

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
