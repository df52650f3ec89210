"""The frozen values that flow through a tick: what was sensed, remembered and decided.

Times are seconds since the epoch (UTC); rates requests per minute (rpm); money USD per hour. Every
value compares with `==` and goes to and from JSON.
"""

import json
from collections.abc import Mapping
from dataclasses import dataclass, field, fields, is_dataclass
from enum import StrEnum
from functools import cached_property
from types import MappingProxyType
from typing import Any, Final

NOTHING: Final[Mapping[str, Any]] = MappingProxyType({})


class Mode(StrEnum):
    """The paper's two modes; the metric Mode is 0 for cost and 1 for capacity."""

    COST = "cost"
    CAPACITY = "capacity"


class EvidenceKind(StrEnum):
    """What a piece of evidence says about a pool."""

    SHORTAGE = "shortage"  # AWS has none left: the only kind that may flip the mode
    QUOTA = "quota"  # a quota of the account is used up, mostly that of the family's vCPUs
    UNSUPPORTED = "unsupported"  # the zone does not offer the type
    NO_ADDRESSES = "no-addresses"  # the subnet has no free address
    PERMISSION = "permission"  # a role, a key, the account's plan or the launch template forbids the launch
    NEVER_READY = "never-ready"  # launched, but given up, or not ready within twice its start time
    UNKNOWN = "unknown"  # refused for a reason we cannot read
    INTERRUPTION = "interruption"  # AWS takes the named node away within two minutes


@dataclass(frozen=True, slots=True)
class Evidence:
    """One observation about a pool's capacity.

    `node` (an instance id) goes with INTERRUPTION alone; `zone` is empty where unknown. `text` is what AWS
    said where we cannot read it, for people: the same observation with and without it is one.
    """

    pool: str
    kind: EvidenceKind
    at: float
    zone: str = ""
    node: str = ""
    text: str = field(default="", compare=False)


@dataclass(frozen=True, slots=True)
class Minute:
    """What the load balancer counted for one unit in the minute that starts at `at`.

    None means that CloudWatch holds no datum. `latency_seconds` is the objective's percentile of the
    target response time over `samples` requests, `mean_seconds` their mean.
    """

    at: int
    requests: float | None = None
    errors: float | None = None
    latency_seconds: float | None = None
    samples: float | None = None
    healthy_hosts: float | None = None
    mean_seconds: float | None = None


class TargetHealth(StrEnum):
    """How a node's target fares at its load balancer; of several targets the best counts."""

    NONE = "none"  # no target has an address of the node, or its target group is in no rule
    INITIAL = "initial"
    HEALTHY = "healthy"
    UNHEALTHY = "unhealthy"
    DRAINING = "draining"


class Suspension(StrEnum):
    """Who suspended a process of an Auto Scaling group; NONE, which is false, when nobody did."""

    NONE = ""
    PERSON = "person"
    AWS = "aws"  # after about a day of refused launches
    LOOP_OR_PERSON = "loop-or-person"  # AWS words both alike: only memory tells who it was


@dataclass(frozen=True, slots=True)
class NodeSignal:
    """A node that its Auto Scaling group holds, Pending or InService.

    `anomalous` says that its target answers more errors than the others of its target group.
    """

    launched_at: float
    zone: str = ""
    in_service: bool = True
    target: TargetHealth = TargetHealth.NONE
    anomalous: bool = False

    @property
    def is_ready(self) -> bool:
        """Whether it serves: InService, and its target is healthy."""
        return self.in_service and self.target is TargetHealth.HEALTHY


# EKS's words, and one of ours for a node group that is gone. In every other status the Auto Scaling group of
# a node group can be sized; an update replaces its nodes.
CHANGING: Final = frozenset({"CREATING", "UPDATING", "DELETING"})
DELETED: Final = "DELETED"


@dataclass(frozen=True)  # no slots: what is derived from the nodes is derived once
class PoolSignals:
    """A pool's Auto Scaling group and nodes, now.

    `desired` and `maximum` (MaxSize; None when not read) are the group's, `nodes` maps the ids of its Pending
    or InService members; `terminating` more are billed and serve nobody. Unless `health_known`, nothing is
    known of a node but that the group holds it, and since when is not. `status` is the node group's, empty
    when not read. `price` is the live price, None when none is known. `zones` are those in which the group
    may launch, empty when not read.
    """

    desired: int
    nodes: Mapping[str, NodeSignal] = field(default_factory=dict)
    terminating: int = 0
    maximum: int | None = None
    status: str = ""
    launch_suspended: Suspension = Suspension.NONE
    rebalance_suspended: Suspension = Suspension.NONE
    health_known: bool = True
    price: float | None = None
    zones: tuple[str, ...] = ()

    @cached_property
    def ready(self) -> frozenset[str]:
        """The ids of the nodes that are known to serve."""
        if not self.health_known:
            return frozenset()
        return frozenset(identity for identity, node in self.nodes.items() if node.is_ready)

    @cached_property
    def starting(self) -> Mapping[str, float]:
        """The nodes that are known not to serve: id to launch time."""
        if not self.health_known:
            return {}
        return {identity: node.launched_at for identity, node in self.nodes.items() if not node.is_ready}

    @cached_property
    def anomalous(self) -> frozenset[str]:
        """The ids of the ready nodes that answer more errors than the others."""
        return frozenset(identity for identity in self.ready if self.nodes[identity].anomalous)

    @property
    def in_service(self) -> int:
        """Nodes that the group holds, ready or not."""
        return len(self.nodes)

    @property
    def updating(self) -> bool:
        """Whether the node group is being changed, and is better left alone."""
        return self.status in CHANGING

    @property
    def deleted(self) -> bool:
        """Whether the node group is gone."""
        return self.status == DELETED

    @property
    def sizable(self) -> bool:
        """Whether its size may be changed: the group is there for it, and it is known who serves."""
        return self.health_known and not self.updating and not self.deleted


@dataclass(frozen=True, slots=True)
class Snapshot:
    """Everything a tick sensed at `at`.

    `minutes` holds each unit's recent minutes, oldest first; `untargeted` the requests per minute
    (keyed by the minute's start) that found no target: what the load balancer or the router answered
    itself. A pool whose sizes could not be sensed is absent; so is a unit without counts from `minutes`,
    and one without target health from `healthy` and `targets`, the healthy and all registered targets
    (draining ones are not). `node_seconds` maps a node that is slower than its unit's profile to the
    seconds that it says a request takes there.
    `weights` is the rule as it stands: empty when there is none, None when it could not be read.
    `class_weights` holds the rules of the query classes before the last that could be read. `unbuilt` maps a
    unit whose image or artifact has never been built to the builds that it waits for, in words. `failures`
    names what was not sensed.
    """

    at: float
    cause: str = "schedule"
    minutes: Mapping[str, tuple[Minute, ...]] = field(default_factory=dict)
    untargeted: Mapping[int, float] = field(default_factory=dict)
    pools: Mapping[str, PoolSignals] = field(default_factory=dict)
    healthy: Mapping[str, int] = field(default_factory=dict)
    targets: Mapping[str, int] = field(default_factory=dict)
    node_seconds: Mapping[str, float] = field(default_factory=dict)
    weights: Mapping[str, int] | None = None
    class_weights: Mapping[str, Mapping[str, int]] = field(default_factory=dict)
    evidence: tuple[Evidence, ...] = ()
    unbuilt: Mapping[str, str] = field(default_factory=dict)
    failures: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Reason:
    """One step's contribution to a decision: a stable code, and the words for whoever is paged."""

    code: str
    text: str
    subject: str = ""


@dataclass(frozen=True, slots=True)
class Forecast:
    """Demand in rpm, now and at the horizon.

    `now` is the latest known demand, `mean` the expected demand at the horizon, `upper` what
    capacity has to carry there. `age` is the seconds since the end of the last counted minute.
    """

    now: float
    mean: float
    upper: float
    age: float
    stale: bool = False


@dataclass(frozen=True, slots=True)
class MarginMemory:
    """How far counts strayed from their forecasts; all sums are discounted.

    `squares` and `means` give the dispersion. `errors` and `requests` are histograms over the
    standardised error: of its standard error (rpm), and of the requests that came with it; `demanded`
    is the sum of the latter.
    """

    squares: float = 0.0
    means: float = 0.0
    minutes: float = 0.0
    errors: tuple[float, ...] = ()
    requests: tuple[float, ...] = ()
    demanded: float = 0.0


@dataclass(frozen=True, slots=True)
class DemandMemory:
    """What the forecast remembers.

    `minute` is the start of the last counted minute, `averages` the moving averages (rpm), `day` the
    daily profile (rpm by quarter of an hour), `quarter` the current one (position, requests, minutes),
    `pending` the forecasts not yet due (due minute, one value per forecaster), `losses` each
    forecaster's mean squared error.
    """

    minute: int = 0
    averages: tuple[float, ...] = ()
    day: tuple[float, ...] = ()
    quarter: tuple[int, float, int] | None = None
    pending: tuple[tuple[int, tuple[float, ...]], ...] = ()
    losses: tuple[float, ...] = ()
    margin: MarginMemory = MarginMemory()


@dataclass(frozen=True, slots=True)
class Refusal:
    """What is remembered of refused launches.

    No launch until `until`, then one probe. `count` is the number of episodes in a row (0: capacity
    has been proven since); `pool` is who was refused, `at` the latest evidence taken.
    """

    kind: EvidenceKind
    pool: str
    at: float
    until: float
    count: int


@dataclass(frozen=True, slots=True)
class CountMemory:
    """What is remembered of counts that may still change.

    `shown` has for each minute (its start) that will be read again the counts shown so far, each with its
    age in minutes; `growth` by age how many times its count a minute ended with; `estimates` what the
    forecast was told of those minutes.
    """

    shown: tuple[tuple[int, tuple[tuple[int, float], ...]], ...] = ()
    growth: tuple[float, ...] = ()
    estimates: tuple[tuple[int, float], ...] = ()


@dataclass(frozen=True, slots=True)
class ServiceMemory:
    """A unit's service time over its profile's: in its recent minutes, and as it is planned with."""

    recent: tuple[float, ...] = ()
    ratio: float = 1.0


@dataclass(frozen=True, slots=True)
class Idleness:
    """Since when nothing at all has come (0: something does), and the nodes kept until `at`.

    `run` counts the empty minutes up to `minute`, the last one known; `longest` is the longest run before,
    faded over a day.
    """

    since: float = 0.0
    nodes: int = 0
    at: float = 0.0
    minute: int = 0
    run: int = 0
    longest: float = 0.0


@dataclass(frozen=True, slots=True)
class Losses:
    """A pool's nodes that were taken away, and the node-hours in which that happened; both discounted."""

    lost: float = 0.0
    node_hours: float = 0.0


@dataclass(frozen=True, slots=True)
class Health:
    """A unit's healthy targets, as last read `at`, and when some were last healthy (0: never)."""

    at: float
    nodes: int
    served_at: float = 0.0


@dataclass(frozen=True, slots=True)
class ZoneRefusal:
    """The latest launch that was refused in a zone."""

    kind: EvidenceKind
    at: float


@dataclass(frozen=True, slots=True)
class NodesMemory:
    """What is remembered of a pool's nodes, as of `at` (0: nothing).

    `unserved` were seen before they ever served, `unhealthy` ones have served and do not now, since the time
    given; every other node of the pool served when it was last seen. `limping` ones serve far worse than
    others, since the time given. `terminated` are the times at which nodes were terminated by id lately.
    """

    at: float = 0.0
    unserved: tuple[str, ...] = ()
    unhealthy: Mapping[str, float] = field(default_factory=dict)
    limping: Mapping[str, float] = field(default_factory=dict)
    terminated: tuple[float, ...] = ()


@dataclass(frozen=True, slots=True)
class Trial:
    """The one replacement while the breaker is open: the pool whose node was terminated at `at`."""

    pool: str
    at: float


@dataclass(frozen=True, slots=True)
class Limit:
    """What a refused write teaches: the pool gets no more than `nodes` until then."""

    nodes: int
    until: float


@dataclass(frozen=True, slots=True)
class State:
    """What one tick leaves to the next.

    `weights` and `desired` are what the tick decided, `in_service` the nodes by pool that it saw, `health`
    what each unit's targets were last seen to be, `prices` the last good live price by pool, `demand` what
    the forecast knows and `settled` what of that will not change any more, `peaks` the recent maxima of the
    forecast (time, rpm; falling), `losses` how the nodes of each pool last, `service` what each unit's
    requests take, `trust` the share of its throughput that it is trusted with, `leaving` the interrupted
    nodes and until when they are left out, `queueing` whether each unit's servers queue under overload, as
    far as that is known, `served` the units that have ever had a ready node. By pool: `nodes`, what is
    remembered of its nodes; `refused_zones`, the zones that refused a launch; `unmet`, since when the group
    has held fewer nodes than it wants and got none; `limits`, what refused writes taught. `rebalancing` are
    the pools whose zone rebalancing the loop suspends, `trial` the last replacement under the breaker.
    """

    tick: int = 0
    at: float = 0.0
    mode: Mode = Mode.COST
    mode_since: float = 0.0
    weights: Mapping[str, int] = field(default_factory=dict)
    desired: Mapping[str, int] = field(default_factory=dict)
    in_service: Mapping[str, int] = field(default_factory=dict)
    prices: Mapping[str, float] = field(default_factory=dict)
    demand: DemandMemory = DemandMemory()
    settled: DemandMemory = DemandMemory()
    counts: CountMemory = CountMemory()
    idle: Idleness = Idleness()
    peaks: tuple[tuple[float, float], ...] = ()
    refusals: Mapping[str, Refusal] = field(default_factory=dict)
    losses: Mapping[str, Losses] = field(default_factory=dict)
    service: Mapping[str, ServiceMemory] = field(default_factory=dict)
    trust: Mapping[str, float] = field(default_factory=dict)
    health: Mapping[str, Health] = field(default_factory=dict)
    queueing: Mapping[str, bool] = field(default_factory=dict)
    leaving: Mapping[str, float] = field(default_factory=dict)
    served: tuple[str, ...] = ()
    nodes: Mapping[str, NodesMemory] = field(default_factory=dict)
    refused_zones: Mapping[str, Mapping[str, ZoneRefusal]] = field(default_factory=dict)
    unmet: Mapping[str, float] = field(default_factory=dict)
    limits: Mapping[str, Limit] = field(default_factory=dict)
    rebalancing: tuple[str, ...] = ()
    trial: Trial | None = None
    last_good_fleet: str = ""


@dataclass(frozen=True, slots=True)
class UnitReport:
    """A unit's line in the decision record; `latency_seconds` is the objective's percentile, if trusted."""

    ready: int
    weight: int
    previous_weight: int
    latency_seconds: float | None
    trusted_rpm: float
    signal_age_seconds: float | None


@dataclass(frozen=True, slots=True)
class PoolReport:
    """A pool's line in the decision record."""

    ready: int
    desired: int
    planned: int
    price: float
    available: bool
    evidence: str


@dataclass(frozen=True, slots=True)
class Report:
    """What is told of a tick, in the order of the decision record; None where nothing is known."""

    tick: int
    at: float
    mode: Mode
    reasons: tuple[Reason, ...]
    demand_rpm: float | None
    forecast_rpm: float | None
    cost_usd_per_hour: float | None
    savings_usd_per_hour: float | None
    budget_usd_per_hour: float | None
    signal_age_seconds: float | None
    units: Mapping[str, UnitReport]
    pools: Mapping[str, PoolReport]


class Cause(StrEnum):
    """Why a node is terminated by id."""

    DEAD = "dead"
    HUNG = "hung"
    SLOW = "slow"
    SURPLUS = "surplus"


@dataclass(frozen=True, slots=True)
class Termination:
    """A node to be terminated; with `decrement` its group wants one less, else it launches another."""

    pool: str
    node: str
    decrement: bool
    why: Cause


@dataclass(frozen=True, slots=True)
class Decision(Report):
    """What a tick decided: everything that is told about it, and the weights and sizes to write.

    `weights` is None when they stay as they are; `sizes` holds only the pools whose desired size
    changes, once the nodes of `terminate` are gone; `resume` the pools whose suspended launches are to be
    resumed; `suspend_rebalancing` and `resume_rebalancing` those whose groups are to stop and to go on
    evening out their zones; `class_weights` the query classes whose weights change.
    """

    demand_rpm: float
    forecast_rpm: float
    cost_usd_per_hour: float
    savings_usd_per_hour: float
    budget_usd_per_hour: float
    weights: Mapping[str, int] | None
    sizes: Mapping[str, int]
    resume: tuple[str, ...] = ()
    class_weights: Mapping[str, Mapping[str, int]] = field(default_factory=dict)
    terminate: tuple[Termination, ...] = ()
    suspend_rebalancing: tuple[str, ...] = ()
    resume_rebalancing: tuple[str, ...] = ()


def plain(value: Any) -> Any:
    """A frozen value as what `json` writes: dataclasses and mappings as objects, tuples as arrays."""
    if is_dataclass(value) and not isinstance(value, type):
        return {item.name: plain(getattr(value, item.name)) for item in fields(value)}
    if isinstance(value, Mapping):
        return {str(key): plain(item) for key, item in value.items()}
    if isinstance(value, tuple | list):
        return [plain(item) for item in value]
    if isinstance(value, frozenset):
        return sorted(value)
    return value


def evidence_from_plain(raw: Any) -> Evidence:
    """Evidence as a tick event or the state's item carries it.

    Raises:
        ValueError: a key is missing, unknown or of the wrong kind.
    """
    if not isinstance(raw, Mapping):
        raise ValueError(f"evidence: {raw!r} is no object with pool, kind and at")  # noqa: TRY004 bad input, not a bug
    try:
        return Evidence(
            pool=str(raw["pool"]),
            kind=EvidenceKind(raw["kind"]),
            at=float(raw["at"]),
            zone=str(raw.get("zone", "")),
            node=str(raw.get("node", "")),
            text=str(raw.get("text", "")),
        )
    except KeyError as missing:
        raise ValueError(f"evidence: {missing} is missing; valid: pool, kind, at, zone, node, text") from None


def state_to_json(state: State) -> str:
    """The state as compact JSON; `state_from_json` reads it back to an equal value."""
    return json.dumps(plain(state), separators=(",", ":"))


def state_from_json(text: str) -> State:
    """Read what `state_to_json` wrote.

    Raises:
        ValueError: the text is no state.
    """
    try:
        raw = json.loads(text)
        return State(
            **{
                **raw,
                "mode": Mode(raw["mode"]),
                "demand": _demand_memory(raw["demand"]),
                "settled": _demand_memory(raw.get("settled", raw["demand"])),
                "counts": CountMemory(
                    **{name: _tuples(value) for name, value in raw.get("counts", {}).items()}
                ),
                "idle": Idleness(**raw.get("idle", {})),
                "peaks": tuple((at, rpm) for at, rpm in raw["peaks"]),
                "served": tuple(raw.get("served", ())),
                "service": {
                    unit: ServiceMemory(tuple(known["recent"]), known["ratio"])
                    for unit, known in raw.get("service", {}).items()
                },
                "health": {unit: Health(**read) for unit, read in raw.get("health", {}).items()},
                "losses": {pool: Losses(**losses) for pool, losses in raw.get("losses", {}).items()},
                "refusals": {
                    key: Refusal(**{**refusal, "kind": EvidenceKind(refusal["kind"])})
                    for key, refusal in raw["refusals"].items()
                },
                "nodes": {pool: _nodes_memory(known) for pool, known in raw.get("nodes", {}).items()},
                "refused_zones": {
                    pool: {
                        zone: ZoneRefusal(EvidenceKind(refused["kind"]), refused["at"])
                        for zone, refused in zones.items()
                    }
                    for pool, zones in raw.get("refused_zones", {}).items()
                },
                "limits": {pool: Limit(**limit) for pool, limit in raw.get("limits", {}).items()},
                "rebalancing": tuple(raw.get("rebalancing", ())),
                "trial": Trial(**raw["trial"]) if raw.get("trial") else None,
            }
        )
    except (KeyError, TypeError, AttributeError, ValueError) as error:
        raise ValueError(f"state: {type(error).__name__}: {error}") from error


def _nodes_memory(raw: Mapping[str, Any]) -> NodesMemory:
    return NodesMemory(**{name: _tuples(value) for name, value in raw.items()})


def _demand_memory(raw: Mapping[str, Any]) -> DemandMemory:
    margin = {name: _tuples(value) for name, value in raw["margin"].items()}
    memory = {name: _tuples(value) for name, value in raw.items() if name != "margin"}
    return DemandMemory(**memory, margin=MarginMemory(**margin))


def _tuples(value: Any) -> Any:
    """JSON's arrays as tuples, all the way down."""
    return tuple(_tuples(item) for item in value) if isinstance(value, list) else value
