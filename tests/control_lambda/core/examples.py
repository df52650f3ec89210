"""The fleets, groups and snapshots that the core's tests start from."""

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from control_lambda.core.fleet import Fleet, parse_fleet
from control_lambda.core.model import Minute, NodeSignal, PoolSignals, Snapshot, TargetHealth

NOON = 1_769_860_800
START = 600.0  # seconds from launch to ready, unless a test says otherwise

# arXiv 2503.20074: instance type, USD per hour, throughput (rpm) and latency (seconds) at the break
# point, idle latency (figure 4).
PAPER = {
    "inf2-neuron": ("inf2.xlarge", 0.7582, 105.0, 0.67, 0.50),
    "trn1-neuron": ("trn1.2xlarge", 1.3438, 130.0, 0.51, 0.46),
    "g5-inductor": ("g5.xlarge", 1.0060, 90.0, 0.68, 0.60),
    "g6-inductor": ("g6.xlarge", 0.8048, 61.0, 0.96, 0.84),
    "g5-eager": ("g5.xlarge", 1.0060, 60.0, 0.92, 0.85),
}


def unit(  # noqa: PLR0913, keywords all: what tests want to differ
    name: str,
    *,
    price: float = 0.76,
    markets: Sequence[str] = ("on-demand",),
    type: str = "inf2.xlarge",  # noqa: A002, the word of fleet.yaml
    accelerator: str = "neuron",
    service: float = 0.5,
    throughput: float | None = None,
    latency: float | None = None,
    start: float = START,
    least: int = 0,
    most: int = 10,
) -> dict[str, Any]:
    """A unit of half a second per request, with `least` to `most` nodes in each of its pools."""
    return {
        "name": name,
        "instance_type": type,
        "accelerator": accelerator,
        "framework": "neuronx",
        "profile": {
            "service_seconds": service,
            "throughput_rpm": 54.0 / service if throughput is None else throughput,
            "latency_seconds": 1.3 * service if latency is None else latency,
            "start_seconds": start,
        },
        "pools": [
            {
                "market": market,
                "nodes": {"min": least, "max": most},
                "price_usd_per_hour": price * (0.4 if market == "spot" else 1.0),
            }
            for market in markets
        ],
    }


def fleet(*units: Mapping[str, Any], **settings: Any) -> Fleet:
    """A fleet of these units with an open budget."""
    return parse_fleet(
        {
            "fleet": "test-fleet",
            "model": "some/model",
            "objective": {"latency_seconds": 2.0},
            "budget_usd_per_hour": 1000.0,
            "units": list(units),
            **settings,
        }
    )


def paper_fleet(**settings: Any) -> Fleet:
    """The paper's five units."""
    return fleet(
        *(
            unit(name, type=kind, price=price, throughput=throughput, latency=latency, service=idle)
            for name, (kind, price, throughput, latency, idle) in PAPER.items()
        ),
        **settings,
    )


def nodes(pool: str, count: int) -> frozenset[str]:
    """Instance ids of a pool."""
    return frozenset(f"i-{pool}-{number}" for number in range(count))


def group(pool: str, ready: int = 0, starting: Sequence[float] = (), **told: Any) -> PoolSignals:
    """A pool's group with that many ready nodes, and starting ones launched at the given times."""
    launched = {f"i-{pool}-starting-{number}": at for number, at in enumerate(starting)}
    desired = told.pop("desired", ready + len(launched))
    return PoolSignals(desired, {**serving(sorted(nodes(pool, ready))), **booting(launched)}, **told)


def serving(identities: Iterable[str]) -> dict[str, NodeSignal]:
    """Nodes that serve, launched long ago."""
    return {identity: NodeSignal(0.0, target=TargetHealth.HEALTHY) for identity in identities}


def booting(launched: Mapping[str, float]) -> dict[str, NodeSignal]:
    """Nodes that do not serve yet, by launch time."""
    return {identity: NodeSignal(at, target=TargetHealth.INITIAL) for identity, at in launched.items()}


def minutes(
    at: float, rpm: float, *, hosts: int = 1, latency: float = 0.6, errors: float = 0.0
) -> tuple[Minute, ...]:
    """The quarter of an hour of counts that is visible at `at`, oldest first."""
    latest = int(at - 180) // 60 * 60
    return tuple(
        Minute(start, rpm, errors, latency, rpm, hosts) for start in range(latest - 840, latest + 60, 60)
    )


def snapshot(steered: Fleet, ready: Mapping[str, int], rpm: float, at: float = NOON, **told: Any) -> Snapshot:
    """Ready nodes by pool under `rpm`, all of it counted at the first unit; `told` replaces any field."""
    assert ready.keys() <= steered.pool_named.keys(), "the fleet has no such pool"
    first = steered.units[0].name
    fields: dict[str, Any] = {
        "minutes": {first: minutes(at, rpm)},
        "pools": {pool.name: group(pool.name, ready.get(pool.name, 0)) for pool in steered.pools},
        "weights": {},
        **told,
    }
    return Snapshot(at, **fields)
