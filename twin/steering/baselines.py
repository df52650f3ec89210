"""Other ways to steer a fleet, to compare with on the same requests, shortages and late metrics.

None of them looks ahead. They see demand as the loop does, two minutes late, and their groups are
refused and interrupted as its groups are. Where a unit has two markets, all of them take the cheaper
one first and the other for what it refuses. Rates are requests per minute (rpm).
"""

from collections import deque
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from math import ceil
from types import MappingProxyType
from typing import Final

from control_lambda.core.fleet import Pool, Unit
from control_lambda.core.record import Answer
from control_lambda.core.traffic.weights import to_weights
from twin.steering.steering import Steering
from twin.world.nodes import Event
from twin.world.plant import MINUTE_SECONDS
from twin.world.world import World

# A pool that refused a launch is asked for no more nodes for this long where another can take its place.
REFUSED_SECONDS: Final = 600.0
REACTIVE_UTILISATION: Final = 0.85
EQUAL_UTILISATION: Final = 0.70
# Of aws-samples/scalable-hw-agnostic-inference: how often its loop looks for capacity errors and how far
# back, and the share of the highest demand so far below which it returns to cost mode.
SAMPLE_POLL_SECONDS: Final = 300.0
SAMPLE_FAILBACK_SHARE: Final = 0.05
# The Horizontal Pod Autoscaler's default stabilizationWindowSeconds for scaling down.
SCALE_DOWN_SECONDS: Final = 300.0


class BaselineError(ValueError):
    """A baseline that the fleet has no units for; one line says which it needs."""


@dataclass(frozen=True, slots=True)
class SampleUnit:
    """What the sample sets for one of its units: its weight and its targets, rpm per pod."""

    weight: int
    cost_rpm: float
    capacity_rpm: float


# By instance family and framework; weights and targets of aws-samples/scalable-hw-agnostic-inference.
SAMPLE: Final[Mapping[tuple[str, str], SampleUnit]] = MappingProxyType(
    {
        ("inf2", "neuronx"): SampleUnit(weight=40, cost_rpm=100, capacity_rpm=70),
        ("trn1", "neuronx"): SampleUnit(weight=20, cost_rpm=110, capacity_rpm=70),
        ("g5", "inductor"): SampleUnit(weight=15, cost_rpm=90, capacity_rpm=63),
        ("g6", "inductor"): SampleUnit(weight=10, cost_rpm=60, capacity_rpm=64),
        ("g5", "eager"): SampleUnit(weight=15, cost_rpm=60, capacity_rpm=63),
    }
)


class EqualShares:
    """Equal weights over the units with a ready node.

    Every unit has at least one node, and ceil(share · demand · service_seconds / 60 / 0.7) of them, where
    share is one over the number of units with a ready node and demand the highest of 15 minutes.
    """

    def __init__(self, world: World) -> None:
        self._world = world

    def schedule(self) -> Answer | None:
        """Size every unit for its share, and share equally."""
        world = self._world
        ready = [unit for unit in world.fleet.units if _ready(world, unit)]
        demand = highest_rpm(world) / max(len(ready), 1)
        for unit in world.fleet.units:
            _size_unit(world, unit, max(1, ceil(demand / _rpm_per_node(unit) / EQUAL_UTILISATION)))
        _weigh(world, {unit.name: 1.0 for unit in ready})
        return None

    def react(self, events: Sequence[Event]) -> Answer | None:  # noqa: ARG002 - the protocol's
        """Do at once what the next minute would."""
        return self.schedule()


class Reactive:
    """Merit order for the highest demand of the last 15 minutes, at 0.85 of the throughput.

    The pools of `units` are filled by price per request, cheapest first. A pool that refused a launch in
    the last 10 minutes gets no node beyond those it has. Nodes stay until cheaper ones that are ready
    carry the demand. Weights follow what is ready.
    """

    def __init__(self, world: World, units: Sequence[Unit]) -> None:
        self._world = world
        self._units = tuple(units)

    def schedule(self) -> Answer | None:
        """Size the pools in the order of their price, and share by ready capacity."""
        world, demand = self._world, highest_rpm(self._world)
        steps = [
            _Step(pool, unit.profile.throughput_rpm * REACTIVE_UTILISATION, _obtainable(world, pool))
            for unit, pool in self._merit_order()
        ]
        sizes = _filled(world, steps, demand)
        for pool in world.fleet.pools:
            _size_pool(world, pool, sizes.get(pool.name, 0))
        _weigh(world, {unit.name: _ready(world, unit) * _rpm_per_node(unit) for unit in self._units})
        return None

    def react(self, events: Sequence[Event]) -> Answer | None:  # noqa: ARG002 - the protocol's
        """Do at once what the next minute would: a refusal moves the order to the next pool."""
        return self.schedule()

    def _merit_order(self) -> list[tuple[Unit, Pool]]:
        pairs = [(unit, pool) for unit in self._units for pool in unit.pools]
        return sorted(pairs, key=lambda pair: _usd_per_request(self._world, *pair))


class SampleStatic:
    """The sample in cost mode for ever: its static weights, its autoscaling and at least one pod each.

    A unit keeps its weight when it has no ready pod, as a weighted target group does.
    """

    def __init__(self, world: World) -> None:
        self._autoscaler = PodAutoscaler(world)
        self._world = world
        self._units = _sample_units(world, "sample-static")
        _empty_others(world, self._units)

    def schedule(self) -> Answer | None:
        """Scale every unit by its own traffic."""
        self._world.weights = _static_weights(self._world, self._units)
        for unit, sample in self._units:
            self._autoscaler.scale(unit, sample.cost_rpm)
        return None

    def react(self, events: Sequence[Event]) -> Answer | None:  # noqa: ARG002 - the protocol's
        """Nothing: the sample does not listen."""
        return None


class SampleLoop:
    """The control loop of aws-samples/scalable-hw-agnostic-inference (arXiv 2503.20074).

    Every 300 s, any capacity error of the last 300 s switches to capacity mode: round robin over all
    ready pods, with lower targets. It goes back to cost mode, static weights, once its load generator
    runs at 1 to 5 of 100 replicas, read here as demand below 5 % of the highest so far.
    """

    def __init__(self, world: World) -> None:
        self._autoscaler = PodAutoscaler(world)
        self._world = world
        self._units = _sample_units(world, "sample-loop")
        self._in_capacity_mode = False
        self._polled_at = world.now - SAMPLE_POLL_SECONDS
        self._highest_rpm = 0.0
        _empty_others(world, self._units)

    def schedule(self) -> Answer | None:
        """Poll when it is time, scale every unit by its own traffic, and weigh."""
        demand = latest_rpm(self._world)
        self._highest_rpm = max(self._highest_rpm, demand)
        if self._world.now - self._polled_at >= SAMPLE_POLL_SECONDS:
            self._polled_at = self._world.now
            self._in_capacity_mode = self._next_mode(demand)
        for unit, sample in self._units:
            target = sample.capacity_rpm if self._in_capacity_mode else sample.cost_rpm
            self._autoscaler.scale(unit, target)
        if self._in_capacity_mode:
            _weigh(self._world, {unit.name: float(_ready(self._world, unit)) for unit, _ in self._units})
        else:
            self._world.weights = _static_weights(self._world, self._units)
        return None

    def react(self, events: Sequence[Event]) -> Answer | None:  # noqa: ARG002 - the protocol's
        """Nothing: the sample polls."""
        return None

    def _next_mode(self, demand: float) -> bool:
        """Whether capacity mode holds from this poll on."""
        pools = (pool for unit, _ in self._units for pool in unit.pools)
        if any(_refused_within(self._world, pool, SAMPLE_POLL_SECONDS) for pool in pools):
            return True
        return self._in_capacity_mode and demand >= SAMPLE_FAILBACK_SHARE * self._highest_rpm


class PodAutoscaler:
    """KEDA over the Horizontal Pod Autoscaler: ceil(the unit's rpm / its target), at least one pod.

    It scales up at once, and down to the highest of what it wanted in the last 300 s.
    """

    def __init__(self, world: World) -> None:
        self._world = world
        self._wanted: dict[str, deque[tuple[float, int]]] = {unit.name: deque() for unit in world.fleet.units}

    def scale(self, unit: Unit, target_rpm: float) -> None:
        """Size the unit by the traffic of its last visible minute."""
        minutes = self._world.minutes_visible(unit.name)
        rpm = (minutes[-1].requests or 0.0) if minutes else 0.0
        wanted = self._wanted[unit.name]
        wanted.append((self._world.now, max(1, ceil(rpm / target_rpm))))
        while wanted[0][0] <= self._world.now - SCALE_DOWN_SECONDS:
            wanted.popleft()
        _size_unit(self._world, unit, max(nodes for _, nodes in wanted))


def highest_rpm(world: World) -> float:
    """The highest demand of the minutes that are visible, the last 15; 0 while none is."""
    return max(_rpm_by_minute(world).values(), default=0.0)


def latest_rpm(world: World) -> float:
    """The demand of the last visible minute; 0 while none is."""
    counted = _rpm_by_minute(world)
    return counted[max(counted)] if counted else 0.0


def _rpm_by_minute(world: World) -> dict[int, float]:
    """All requests that came, with a target or without, by the start of their minute."""
    counted: dict[int, float] = {}
    for unit in world.fleet.units:
        for minute in world.minutes_visible(unit.name):
            counted[minute.at] = counted.get(minute.at, 0.0) + (minute.requests or 0.0)
    for at, requests in world.untargeted_visible().items():
        counted[at] = counted.get(at, 0.0) + requests
    return counted


def _cheapest_only(world: World) -> Reactive:
    cheapest = min(
        world.fleet.units,
        key=lambda unit: min(_usd_per_request(world, unit, pool) for pool in unit.pools),
    )
    return Reactive(world, [cheapest])


def _gpu_only(world: World) -> Reactive:
    units = [unit for unit in world.fleet.units if unit.accelerator == "nvidia"]
    if not units:
        raise BaselineError(
            f"policy gpu-only: the fleet {world.fleet.fleet} has no unit with the accelerator nvidia; "
            "valid: a fleet with one, or another policy"
        )
    return Reactive(world, units)


def _reactive(world: World) -> Reactive:
    return Reactive(world, world.fleet.units)


def _sample_units(world: World, policy: str) -> list[tuple[Unit, SampleUnit]]:
    """The fleet's units that the sample has too."""
    keyed = [((unit.instance_type.partition(".")[0], unit.framework), unit) for unit in world.fleet.units]
    found = [(unit, SAMPLE[key]) for key, unit in keyed if key in SAMPLE]
    if not found:
        valid = ", ".join(f"{family} with {framework}" for family, framework in SAMPLE)
        raise BaselineError(
            f"policy {policy}: the fleet {world.fleet.fleet} has none of the sample's units; valid: {valid}"
        )
    return found


def _static_weights(world: World, units: Sequence[tuple[Unit, SampleUnit]]) -> dict[str, int]:
    weights = {unit.name: sample.weight for unit, sample in units}
    return {unit.name: weights.get(unit.name, 0) for unit in world.fleet.units}


def _empty_others(world: World, units: Sequence[tuple[Unit, SampleUnit]]) -> None:
    """Give back the nodes of the units that the sample does not have."""
    used = {unit.name for unit, _ in units}
    for unit in world.fleet.units:
        if unit.name not in used:
            _size_unit(world, unit, 0)


def _weigh(world: World, shares: Mapping[str, float]) -> None:
    world.weights = to_weights(shares, [unit.name for unit in world.fleet.units])


@dataclass(frozen=True, slots=True)
class _Step:
    """A pool in the order in which pools are filled: what a node of it carries, and how many to ask for."""

    pool: Pool
    carried: float
    most: int


def _filled(world: World, steps: Sequence[_Step], demand: float) -> dict[str, int]:
    """Sizes that carry the demand, first steps first; nodes stay until earlier ready ones carry it.

    Without the stay, asking a refused pool again would take away the nodes that are to replace it.
    """
    sizes = {}
    missing = unserved = demand
    for step in steps:
        name = step.pool.name
        wanted = min(ceil(max(missing, 0.0) / step.carried), step.most)
        kept = min(ceil(max(unserved, 0.0) / step.carried), len(world.nodes.members(name)))
        sizes[name] = max(wanted, kept)
        missing -= wanted * step.carried
        unserved -= len(world.nodes.ready(name)) * step.carried
    return sizes


def _size_unit(world: World, unit: Unit, nodes: int) -> None:
    """Put the nodes into the unit's cheapest pools; the dearest one keeps asking for what it lacks."""
    *cheaper, dearest = sorted(unit.pools, key=lambda pool: world.price(pool.name))
    steps = [_Step(pool, 1.0, _obtainable(world, pool)) for pool in cheaper]
    sizes = _filled(world, [*steps, _Step(dearest, 1.0, dearest.nodes.max)], nodes)
    for pool in unit.pools:
        _size_pool(world, pool, sizes[pool.name])


def _size_pool(world: World, pool: Pool, nodes: int) -> None:
    """Ask for so many nodes, within nodes.min and nodes.max, unless they are asked for already."""
    allowed = max(pool.nodes.min, min(nodes, pool.nodes.max))
    if world.nodes.desired(pool.name) != allowed:
        world.nodes.set_desired(pool.name, allowed, world.now)


def _obtainable(world: World, pool: Pool) -> int:
    """How many nodes the pool is believed to give: those it has, after a refusal."""
    if _refused_within(world, pool, REFUSED_SECONDS):
        return min(len(world.nodes.members(pool.name)), pool.nodes.max)
    return pool.nodes.max


def _refused_within(world: World, pool: Pool, seconds: float) -> bool:
    refusals = world.nodes.refusals(pool.name)
    return bool(refusals) and refusals[-1].at > world.now - seconds


def _ready(world: World, unit: Unit) -> int:
    return sum(len(world.nodes.ready(pool.name)) for pool in unit.pools)


def _rpm_per_node(unit: Unit) -> float:
    return MINUTE_SECONDS / unit.profile.service_seconds


def _usd_per_request(world: World, unit: Unit, pool: Pool) -> float:
    return world.price(pool.name) / 60 / unit.profile.throughput_rpm


BASELINES: Final[Mapping[str, Callable[[World], Steering]]] = MappingProxyType(
    {
        "equal-shares": EqualShares,
        "sample-static": SampleStatic,
        "sample-loop": SampleLoop,
        "cheapest-only": _cheapest_only,
        "gpu-only": _gpu_only,
        "reactive": _reactive,
    }
)
