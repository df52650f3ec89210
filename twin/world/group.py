"""A pool's Auto Scaling group: its zones, its limits, and what keeps it from launching."""

import re
from collections import deque
from collections.abc import Iterable
from dataclasses import dataclass, field
from math import inf
from typing import Final

from control_lambda.core.fleet import MAX_NODES, Market
from control_lambda.core.model import EvidenceKind
from twin.world.node import Node

ZONES: Final = ("us-east-1a", "us-east-1b", "us-east-1c")
LAUNCH: Final = "Launch"
REBALANCE: Final = "AZRebalance"
ACTIVE: Final = "ACTIVE"
# Scaling activities are read a page at a time; older refusals are of no use to anybody.
REFUSALS_KEPT: Final = 100
# vCPUs by size where the size does not say them: `2xlarge` says 8.
SMALL_VCPUS: Final = {"large": 2, "xlarge": 4}


@dataclass(frozen=True, slots=True)
class Refused:
    """A group asked for nodes in `zone` at `at` and did not get all of them; no zone: none was named."""

    pool: str
    at: float
    kind: EvidenceKind
    zone: str = ""


@dataclass(slots=True)
class Swap:
    """A zone rebalancing of one node: at `at` its replacement is launched, or it itself is terminated."""

    at: float
    old: Node
    launched: bool = False


@dataclass(slots=True)
class Group:
    """`nodes` are those not gone, oldest first; `tried` the zones that refused since all was granted.

    `refusing` maps a zone to the kind of its refusals and their end, `suspensions` a process to the reason.
    `held`, `answering` and `ailing` (whether targets may be unhealthy) are what `look` found.
    """

    pool: str
    market: Market
    instance_type: str
    start_seconds: float
    nodes: list[Node] = field(default_factory=list)
    desired: int = 0
    maximum: int = MAX_NODES
    status: str = ACTIVE
    exists: bool = True
    capacity: int | None = None
    refusal: EvidenceKind = EvidenceKind.SHORTAGE
    closed_until: float = -inf
    refusing: dict[str, tuple[EvidenceKind, float]] = field(default_factory=dict)
    tried: set[str] = field(default_factory=set)
    suspensions: dict[str, str] = field(default_factory=dict)
    start_factor: float = 1.0
    hanging: int = 0
    hanging_until: float = -inf
    checks_fail: bool = False
    swaps: list[Swap] = field(default_factory=list)
    retry_at: float = inf
    due_at: float = inf
    refusals: deque[Refused] = field(default_factory=lambda: deque(maxlen=REFUSALS_KEPT))
    billed_before: float = 0.0
    held: list[Node] = field(default_factory=list)
    answering: list[Node] = field(default_factory=list)
    ailing: bool = False
    looked_at: int = -1

    def members(self, at: float) -> list[Node]:
        """The nodes that the group holds."""
        return [node for node in self.nodes if node.is_member(at)]

    def look(self, at: float, version: int) -> None:
        """Look the nodes over, once for each version of them: nothing changes in between."""
        if self.looked_at != version:
            self.looked_at = version
            self.held = self.members(at)
            self.answering = [node for node in self.nodes if node.is_ready(at)]
            self.ailing = self.checks_fail or any(node.dead_at < inf for node in self.held)

    def healthy(self, at: float) -> int:
        """How many of the nodes looked over are healthy targets."""
        if not self.ailing:
            return len(self.answering)
        return sum(node.target_state(at) == "healthy" for node in self.held)

    def wanted(self, at: float) -> int:
        """How many members the group is to have: desired, and one more for each swap under way."""
        return self.desired + sum(swap.launched and swap.old.is_member(at) for swap in self.swaps)

    def room(self, at: float) -> float:
        """How many more nodes the market admits; draining and noticed ones still take their place."""
        if at < self.closed_until:
            return 0
        return inf if self.capacity is None else max(0, self.capacity - len(self.nodes))

    def destinations(self, count: int, at: float) -> list[str]:
        """The zones that so many launches go to, one by one the one with the fewest members.

        Zones that have refused are left out until all have.
        """
        held = dict.fromkeys(ZONES, 0)
        for node in self.members(at):
            held[node.zone] += 1
        open_zones = [zone for zone in ZONES if zone not in self.tried] or list(ZONES)
        chosen = []
        for _ in range(count):
            zone = min(open_zones, key=lambda name: held[name])
            held[zone] += 1
            chosen.append(zone)
        return chosen

    def refused_in(self, zone: str, at: float) -> EvidenceKind | None:
        """Why the zone refuses launches at `at`; None: it does not."""
        kind, until = self.refusing.get(zone, (None, -inf))
        return kind if at < until else None

    def remember_tried(self, zones: Iterable[str]) -> None:
        """Leave these zones out of the next try; once all have refused, none is."""
        self.tried.update(zones)
        if self.tried.issuperset(ZONES):
            self.tried.clear()

    def next_start(self, at: float) -> float:
        """When a node launched at `at` is ready; inf for one that hangs."""
        if self.hanging and at < self.hanging_until:
            self.hanging -= 1
            return inf
        return at + self.start_seconds * self.start_factor

    def next_due(self, now: float) -> float:
        """The next second after `now` at which something here happens by itself."""
        readying = (node.ready_at for node in self.nodes if node.ready_at > now)
        going = (node.gone_at for node in self.nodes)
        swapping = (swap.at for swap in self.swaps)
        return min(
            self.retry_at, min(readying, default=inf), min(going, default=inf), min(swapping, default=inf)
        )


def vcpus(instance_type: str) -> int:
    """The vCPUs that a type counts against a quota: an xlarge 4, a 2xlarge 8."""
    size = instance_type.rpartition(".")[2]
    times = re.fullmatch(r"(\d+)xlarge", size)
    return 4 * int(times[1]) if times else SMALL_VCPUS.get(size, 1)
