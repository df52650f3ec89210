"""The data plane of the twin: every request meets a load balancer, a queue and a node.

Discrete and per request. The load balancer draws a unit by weight, then sends the request to that unit's
ready node with the least outstanding requests. A node serves one request at a time, first come first
served, and refuses at once what it could not answer in time, unless it is told to queue everything.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from math import inf, isnan, log, sqrt
from typing import Final, Literal

import numpy as np
from numpy.typing import NDArray

from control_lambda.core.fleet import Fleet
from control_lambda.core.model import Minute
from twin.world.metrics import AVERAGE_DIGITS
from twin.world.nodes import Node, Nodes
from twin.world.queues import (
    NO_TARGET,
    NO_UNIT,
    ROW,
    SERVED,
    SHORTEST_RING,
    Law,
    Requests,
    Servers,
    serve,
    tally,
)

SPREAD: Final = 0.05  # coefficient of variation of the service time
MINUTE_SECONDS: Final = 60

Floats = NDArray[np.float64]
Join = Literal["least-outstanding", "central"]
Service = Literal["lognormal", "exponential"]


@dataclass(frozen=True, slots=True)
class Served:
    """What became of requests, in order of arrival.

    `arrival` in absolute seconds; `unit` the index of the unit in the fleet that a target was chosen
    from, -1 when none was; `latency` in seconds, inf when failed; `outcome` one of SERVED, DROPPED, LOST,
    NO_TARGET, NO_UNIT and REFUSED.
    """

    arrival: Floats
    unit: NDArray[np.int8]
    latency: NDArray[np.float32]
    outcome: NDArray[np.int8]

    @property
    def failed(self) -> NDArray[np.bool_]:
        """Which requests got no answer, or a 5xx."""
        failed: NDArray[np.bool_] = self.outcome != SERVED
        return failed

    @classmethod
    def joined(cls, parts: Sequence["Served"]) -> "Served":
        """Parts, in order of time, as one; at least one."""
        return cls(
            np.concatenate([part.arrival for part in parts]),
            np.concatenate([part.unit for part in parts]),
            np.concatenate([part.latency for part in parts]),
            np.concatenate([part.outcome for part in parts]),
        )

    def between(self, begin: float, end: float) -> "Served":
        """The requests that arrived in [begin, end)."""
        first, last = np.searchsorted(self.arrival, (begin, end))
        part = slice(int(first), int(last))
        return Served(self.arrival[part], self.unit[part], self.latency[part], self.outcome[part])


class Plant:
    """The load balancer and the queues of a fleet from the second `at` on; queues carry over between calls.

    `variation` is the service time's coefficient of variation. `service` and `join` exist to compare the
    plant with queueing theory: "central" sends a request to the node that is free first. Two plants with
    one seed give the request at the same place of the stream the same random numbers. Nodes take
    whatever comes until `refuse` is called.
    """

    def __init__(
        self,
        fleet: Fleet,
        nodes: Nodes,
        seed: int,
        at: float,
        *,
        variation: float = SPREAD,
        service: Service = "lognormal",
        join: Join = "least-outstanding",
    ) -> None:
        self.now = at
        self._fleet = fleet
        self._nodes = nodes
        self._unit_index = {unit.name: index for index, unit in enumerate(fleet.units)}
        self._law = Law(
            seed=np.random.SeedSequence(seed).generate_state(1, np.uint64)[0],
            first=np.uint64(0),
            seconds=np.array([unit.profile.service_seconds for unit in fleet.units]),
            sigma=sqrt(log(1 + variation**2)),
            exponential=service == "exponential",
            central=join == "central",
            allowed=inf,
        )
        self._known: list[Node] = []
        self._version = -1
        offsets = np.zeros(len(fleet.units) + 1, dtype=np.int64)
        self._servers = Servers(np.zeros(0, dtype=ROW), np.zeros((0, SHORTEST_RING)), offsets)
        self._refresh()

    def set_service_factor(self, unit: str, factor: float) -> None:
        """Let later requests of the unit take `factor` times the service seconds of its profile.

        Raises:
            ValueError: no such unit, or the factor is not above 0.
        """
        if not factor > 0:
            raise ValueError(f"service factor of {unit}: {factor}; valid: a number above 0")
        index = self._index(unit)
        self._law.seconds[index] = self._fleet.units[index].profile.service_seconds * factor

    def service_seconds(self, unit: str) -> float:
        """The mean time (seconds) that a request takes on a node of the unit that is not slow."""
        return float(self._law.seconds[self._index(unit)])

    def refuse(self, beyond_seconds: float) -> None:
        """Have nodes answer 503 at once to what they could not answer within so many seconds."""
        self._law = self._law._replace(allowed=beyond_seconds)

    def serve(self, arrivals: Floats, to: float, weights: Mapping[str, int] | None) -> Served:
        """Handle the requests that arrive in [now, to), sorted, under constant weights (None: no rule).

        Nodes may be advanced to `to` before the call or after it. Before, the plant sees what their groups
        launch meanwhile, and the call may span at most `DRAIN_SECONDS`, the shortest life of a node.
        What a node is told after the call does not undo an answer that the call gave; that matters only
        for service times above `DRAIN_SECONDS - CLIENT_SECONDS`.

        Raises:
            ValueError: arrivals outside the interval or not sorted, an unknown unit, a negative weight.
        """
        self._require_sorted(arrivals, to)
        cumulated = self._cumulated(weights or {})
        if self._version != self._nodes.version:
            self._refresh()
        count = len(arrivals)
        traffic = Requests(
            arrivals, np.empty(count, np.int8), np.empty(count, np.float32), np.empty(count, np.int8)
        )
        begin = serve(traffic, self._servers, self._law, cumulated, 0)
        while begin < count:
            self._lengthen_rings()
            begin = serve(traffic, self._servers, self._law, cumulated, begin)
        self._law = self._law._replace(first=np.uint64(int(self._law.first) + count))
        self.now = to
        return Served(*traffic)

    def drain_refusals(self) -> dict[str, tuple[int, int]]:
        """By node's id the requests that it got and those that it refused since the last call."""
        rows = self._servers.rows
        told = zip(self._known, rows["asked"].tolist(), rows["refused"].tolist(), strict=True)
        counted = {node.id: (asked, refused) for node, asked, refused in told}
        rows["asked"], rows["refused"] = 0, 0
        return counted

    def _index(self, unit: str) -> int:
        if unit not in self._unit_index:
            raise ValueError(f"no unit {unit!r}; valid: {', '.join(self._unit_index)}")
        return self._unit_index[unit]

    def _require_sorted(self, arrivals: Floats, to: float) -> None:
        if to < self.now:
            raise ValueError(f"cannot serve to {to}, before now ({self.now})")
        if not len(arrivals):
            return
        if arrivals[0] < self.now or arrivals[-1] >= to or np.any(arrivals[1:] < arrivals[:-1]):
            raise ValueError(f"arrivals must be sorted and lie in [{self.now}, {to})")

    def _cumulated(self, weights: Mapping[str, int]) -> Floats:
        shares = [0] * len(self._unit_index)
        for unit, weight in weights.items():
            if weight < 0:
                raise ValueError(f"weight of {unit}: {weight}; valid: 0 or more")
            shares[self._index(unit)] = weight
        return np.cumsum(shares, dtype=np.float64)

    def _refresh(self) -> None:
        """Take over the nodes as they are now, with the queues of those already known.

        A known node stays until the plant itself is past its end, in case the nodes ran ahead.
        """
        place = {node.id: row for row, node in enumerate(self._known)}
        by_unit: dict[str, dict[str, Node]] = {unit.name: {} for unit in self._fleet.units}
        for node in self._known:
            if node.gone_at > self.now:
                by_unit[self._fleet.unit_of[node.pool].name][node.id] = node
        for pool, unit in self._fleet.unit_of.items():
            by_unit[unit.name].update((node.id, node) for node in self._nodes.existing(pool))
        self._known = [node for nodes in by_unit.values() for node in nodes.values()]
        self._servers = self._with_rows([place.get(node.id, -1) for node in self._known])
        self._servers.offsets[1:] = np.cumsum([len(nodes) for nodes in by_unit.values()])
        self._version = self._nodes.version

    def _with_rows(self, previous: Sequence[int]) -> Servers:
        """Servers for the known nodes; `previous` holds each one's row so far, -1 for a new one."""
        old = np.array(previous, dtype=np.int64)
        kept = old >= 0
        rows = np.zeros(len(old), dtype=ROW)
        done = np.zeros((len(old), self._servers.done.shape[1]))
        rows["free_at"] = -inf
        rows[kept] = self._servers.rows[old[kept]]
        done[kept] = self._servers.done[old[kept]]
        rows["ready_at"] = [node.ready_at for node in self._known]
        rows["healthy_until"] = [node.healthy_until for node in self._known]
        rows["registered_until"] = [min(node.leaving_at, node.gone_at) for node in self._known]
        rows["dead_at"] = [node.dead_at for node in self._known]
        rows["gone_at"] = [node.gone_at for node in self._known]
        rows["slow_factor"] = [node.slow_factor for node in self._known]
        rows["error_share"] = [node.error_share for node in self._known]
        rows["outstanding"][rows["dead_at"] <= self.now] = 0
        return Servers(rows, done, self._servers.offsets)

    def _lengthen_rings(self) -> None:
        rows, done, offsets = self._servers
        columns = np.arange(done.shape[1])
        unrolled = (rows["first"][:, np.newaxis] + columns) % done.shape[1]
        longer = np.zeros((len(rows), 2 * done.shape[1]))
        longer[:, : done.shape[1]] = np.take_along_axis(done, unrolled, axis=1)
        rows["first"] = 0
        self._servers = Servers(rows, longer, offsets)


@dataclass(frozen=True, slots=True)
class MinuteCounts:
    """What the load balancer's metrics hold about one minute.

    `units` has a `Minute` per unit; of the requests without a target `fixed_responses` met no weight, and
    `without_target` no target. Both are answered 503 by the load balancer, which counts them as its own.
    """

    units: Mapping[str, Minute]
    fixed_responses: float
    without_target: float

    @property
    def untargeted(self) -> float:
        """All requests that found no target."""
        return self.fixed_responses + self.without_target


def count_minute(fleet: Fleet, nodes: Nodes, at: int, served: Sequence[Served]) -> MinuteCounts:
    """Count the minute that starts at `at`: the requests of `served` that arrived in it.

    A count of zero is None, as CloudWatch is without a datum then. Healthy hosts are the targets that are
    healthy now (so call it at the minute's end), None when the target group has no target.
    """
    minute = Served.joined(served).between(at, at + MINUTE_SECONDS) if served else _NOTHING
    share = fleet.objective.percentile / 100
    table = tally(minute.unit, minute.outcome, minute.latency, len(fleet.units), share).tolist()
    units = {}
    for unit, (requests, lost, samples, latency, mean) in zip(fleet.units, table, strict=True):
        pools = [pool.name for pool in unit.pools]
        hosts = [count for pool in pools if (count := nodes.healthy_hosts(pool)) is not None]
        units[unit.name] = Minute(
            at=at,
            requests=requests or None,
            errors=lost or None,
            latency_seconds=None if isnan(latency) else latency,
            samples=samples or None,
            mean_seconds=None if isnan(mean) else round(mean, AVERAGE_DIGITS),
            healthy_hosts=float(sum(hosts)) if hosts else None,
        )
    return MinuteCounts(
        units,
        fixed_responses=float(np.count_nonzero(minute.outcome == NO_UNIT)),
        without_target=float(np.count_nonzero(minute.outcome == NO_TARGET)),
    )


_NOTHING: Final = Served(np.empty(0), np.empty(0, np.int8), np.empty(0, np.float32), np.empty(0, np.int8))
