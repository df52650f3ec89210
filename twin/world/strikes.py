"""What trouble does to a world: each entry strikes at its minute and ends at another."""

import random
from collections import Counter
from collections.abc import Callable, Mapping
from math import ceil, inf, prod
from typing import Final

from control_lambda.core.fleet import Fleet
from control_lambda.core.model import EvidenceKind
from control_lambda.core.record import Answer, Skipped
from twin.world.metrics import MINUTE_SECONDS, Disturbance, Visibility
from twin.world.node import Node
from twin.world.nodes import LAUNCH, MAX_NODES, REBALANCE, Nodes
from twin.world.plant import Plant
from twin.world.trouble import Entry, Trouble

# What a tick writes; DynamoDB is not counted.
WRITES: Final = frozenset(
    {"CreateRule", "ModifyRule", "SetDesiredCapacity", "ResumeProcesses", "SuspendProcesses"}
    | {"TerminateInstanceInAutoScalingGroup"}
)
SUSPENDED_BY: Final[Mapping[str, str]] = {
    "person": "User suspended at 2026-01-01T00:00:00Z",
    "aws": "Administrative suspension: the group has failed to launch instances for more than 24 hours",
}
TABLE_ACTIONS: Final = frozenset({"GetItem", "PutItem", "UpdateItem"})
TABLE_ERROR: Final = "InternalServerError"


class KilledError(BaseException):
    """The function dies after a write. No `except Exception` catches it, as none would in Lambda."""


class Strikes:
    """The trouble of one replay under way, whose first minute starts at `begin` (epoch seconds)."""

    def __init__(
        self, trouble: Trouble, fleet: Fleet, seed: int, begin: float, nodes: Nodes, plant: Plant
    ) -> None:
        self._fleet = fleet
        self._seed = seed
        self._begin = begin
        self._nodes = nodes
        self._plant = plant
        self._entries = trouble.entries
        self._minute = -1
        self._struck: dict[int, tuple[Node, ...]] = {}
        self._calls: Counter[tuple[str, str]] = Counter()
        self._writes = 0
        self.foreign_weights: Mapping[str, int] | None = None
        self.visibility = Visibility(tuple(filter(None, map(self._disturbance, self._entries))))
        self._begins: Mapping[str, Callable[[Entry], None]] = {
            "node-dead": self._kill_nodes,
            "node-hangs": self._hang_launches,
            "node-slow": self._harm_nodes,
            "node-errors": self._harm_nodes,
            "unit-slow": lambda entry: self._plant.set_service_factor(entry["unit"], entry["factor"]),
            "start-slow": lambda entry: self._nodes.set_start_factor(entry["pool"], entry["factor"]),
            "zone-refuses": self._refuse_zones,
            "nodes-swapped": self._swap_nodes,
            "interrupted": self._interrupt,
            "checks-fail": lambda entry: self._nodes.set_checks(self._pools(entry), fail=True),
            "group-max": lambda entry: self._nodes.set_maximum(entry["pool"], entry["nodes"], self._now),
            "group-suspended": self._suspend,
            "group-deleted": lambda entry: self._nodes.delete_group(entry["pool"], self._now),
            "group-status": lambda entry: self._set_status(entry["pool"], entry["status"]),
            "quota": lambda entry: self._nodes.set_quota(entry["family"], entry["market"], entry["vcpus"]),
            "foreign-weights": self._write_weights,
        }
        self._ends: Mapping[str, Callable[[Entry], None]] = {
            "node-slow": self._heal_nodes,
            "node-errors": self._heal_nodes,
            "unit-slow": lambda entry: self._plant.set_service_factor(entry["unit"], 1.0),
            "start-slow": lambda entry: self._nodes.set_start_factor(entry["pool"], 1.0),
            "checks-fail": lambda entry: self._nodes.set_checks(self._pools(entry), fail=False),
            "group-max": lambda entry: self._nodes.set_maximum(entry["pool"], MAX_NODES, self._now),
            "group-suspended": self._resume,
            "group-status": lambda entry: self._set_status(entry["pool"], "ACTIVE"),
            "quota": lambda entry: self._nodes.set_quota(entry["family"], entry["market"], None),
        }

    @property
    def _now(self) -> float:
        return self._begin + self._minute * MINUTE_SECONDS

    def begin_minute(self, minute: int) -> None:
        """Let end what ends with the minute (from the replay's first), and begin what begins with it."""
        self._minute = minute
        self._calls.clear()
        self.foreign_weights = None
        for entry in self._entries:
            if entry.end == minute and entry.what in self._ends:
                self._ends[entry.what](entry)
        for entry in self._entries:
            if entry.at == minute and entry.what in self._begins:
                self._begins[entry.what](entry)

    # --- What is asked of it while the minute lasts ----------------------------------------------------

    def failing(self, action: str, subject: str = "") -> str | None:
        """The error code with which this call of the AWS action fails, None when it does not.

        `subject` tells apart calls that are made side by side: a unit, a pool or a parameter. The draw
        depends on nothing but the seed, the minute, both names and how many such calls there were in it.
        """
        if action in TABLE_ACTIONS and self.table_down():
            return TABLE_ERROR
        for entry in self._under_way("api-fails"):
            if entry["action"] == action:
                number = self._calls[action, subject]
                self._calls[action, subject] += 1
                key = f"{self._seed}/{self._minute}/{action}/{subject}/{number}"
                return str(entry["code"]) if random.Random(key).random() < entry["share"] else None
        return None

    def concerns(self, action: str) -> bool:
        """Whether calls of the AWS action fail at all now."""
        return any(entry["action"] == action for entry in self._under_way("api-fails"))

    def table_down(self) -> bool:
        """Whether every DynamoDB call fails now, with `TABLE_ERROR`."""
        return bool(self._under_way("table-down"))

    def quoted_price(self, pool: str, minute: int) -> float | str | None:
        """What the price feed says of the pool in that minute from the replay's first; None: the truth."""
        for entry in self._entries:
            if (
                entry.what == "price"
                and entry.at <= minute < entry.end
                and self._product(entry["pool"]) == self._product(pool)
            ):
                quoted: float | str = entry["usd_per_hour"]
                return quoted
        return None

    @property
    def quotes_prices(self) -> bool:
        """Whether the price feed is part of the trouble."""
        return any(entry.what == "price" for entry in self._entries)

    def ticks(self) -> int:
        """How often the schedule delivers this minute's tick."""
        if self._under_way("ticks-missing"):
            return 0
        return 2 if self._under_way("ticks-doubled") else 1

    def clock_seconds(self) -> float:
        """By how much the times of ticks are wrong."""
        return float(sum(entry["seconds"] for entry in self._under_way("clock")))

    def run(self, tick: Callable[[], Answer]) -> Answer:
        """Run a tick whose writes are told to `wrote`; one that dies answers nothing, and is skipped."""
        self._writes = 0
        try:
            return tick()
        except KilledError:
            return Skipped(f"killed: the function died after write {self._writes}")

    def wrote(self) -> None:
        """Count one write of the tick.

        Raises:
            KilledError: it was the tick's last, because the function dies.
        """
        self._writes += 1
        if any(self._writes >= entry["after_write"] for entry in self._under_way("killed")):
            raise KilledError

    # --- What the entries do ---------------------------------------------------------------------------

    def _under_way(self, what: str) -> list[Entry]:
        return [
            entry for entry in self._entries if entry.what == what and entry.at <= self._minute < entry.end
        ]

    def _until(self, entry: Entry) -> float:
        return self._begin + entry.end * MINUTE_SECONDS

    def _kill_nodes(self, entry: Entry) -> None:
        serving = self._nodes.ready(entry["pool"])
        count = ceil(entry["share"] * len(serving)) if entry["nodes"] is None else entry["nodes"]
        for node in serving[:count]:
            node.dead_at = self._now
        self._nodes.touched()

    def _hang_launches(self, entry: Entry) -> None:
        self._nodes.hang_next(entry["pool"], entry["nodes"], self._until(entry))

    def _harm_nodes(self, entry: Entry) -> None:
        self._struck[id(entry)] = tuple(self._nodes.ready(entry["pool"])[: entry["nodes"]])
        self._set_harm()

    def _heal_nodes(self, entry: Entry) -> None:
        healed = self._struck.pop(id(entry))
        for node in healed:
            node.slow_factor, node.error_share, node.errors_since = 1.0, 0.0, inf
        self._set_harm()

    def _set_harm(self) -> None:
        """Set the condition of every harmed node: factors multiply, and the most errors count."""
        for node in {node.id: node for nodes in self._struck.values() for node in nodes}.values():
            harming = [entry for entry in self._entries if node in self._struck.get(id(entry), ())]
            slow = [entry["factor"] for entry in harming if entry.what == "node-slow"]
            erring = [entry for entry in harming if entry.what == "node-errors"]
            node.slow_factor = prod(slow, start=1.0)
            node.error_share = max((entry["share"] for entry in erring), default=0.0)
            node.errors_since = min(
                (self._begin + entry.at * MINUTE_SECONDS for entry in erring), default=inf
            )
        self._nodes.touched()

    def _refuse_zones(self, entry: Entry) -> None:
        kind = EvidenceKind(entry["kind"])
        self._nodes.refuse_zones(entry["pool"], entry["zones"], kind, self._until(entry))

    def _swap_nodes(self, entry: Entry) -> None:
        """Spot pools always rebalance; others only where the entry says that AZRebalance runs."""
        pool = entry["pool"]
        if self._fleet.pool_named[pool].market != "spot":
            if entry["suspended"] or not self._nodes.exists(pool):
                return
            self._nodes.resume(pool, REBALANCE, self._now)
        self._nodes.swap(pool, entry["nodes"], self._now)

    def _interrupt(self, entry: Entry) -> None:
        self._nodes.interrupt(entry["pool"], entry["share"], self._until(entry), self._now)

    def _suspend(self, entry: Entry) -> None:
        if self._nodes.exists(entry["pool"]):
            self._nodes.suspend(entry["pool"], LAUNCH, SUSPENDED_BY[entry["by"]], self._now)

    def _resume(self, entry: Entry) -> None:
        if self._nodes.exists(entry["pool"]):
            self._nodes.resume(entry["pool"], LAUNCH, self._now)

    def _set_status(self, pool: str, status: str) -> None:
        if self._nodes.exists(pool):
            self._nodes.set_status(pool, status)

    def _write_weights(self, entry: Entry) -> None:
        self.foreign_weights = dict(entry["weights"])

    def _pools(self, entry: Entry) -> list[str]:
        return [pool.name for unit in self._fleet.units if unit.name in entry["units"] for pool in unit.pools]

    def _product(self, pool: str) -> tuple[str, str]:
        return self._fleet.unit_of[pool].instance_type, self._fleet.pool_named[pool].market

    def _disturbance(self, entry: Entry) -> Disturbance | None:
        begin, end = self._begin + entry.at * MINUTE_SECONDS, self._until(entry)
        if entry.what == "counts-late":
            return Disturbance(begin, end, entry["of"], late_seconds=entry["seconds"])
        if entry.what == "counts-missing":
            return Disturbance(begin, end, entry["of"], missing=True, unit=entry["unit"])
        if entry.what == "counts-partial":
            return Disturbance(begin, end, entry["of"], share=entry["share"])
        return None
