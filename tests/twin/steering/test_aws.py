"""The same seed gives the same decisions, whether the loop runs over memory or through AWS."""

from collections.abc import Iterator, Sequence
from contextlib import closing
from dataclasses import replace
from functools import partial
from itertools import groupby
from operator import attrgetter
from typing import Any, Final

import numpy as np
import pytest
from botocore.exceptions import EndpointConnectionError

from control_lambda.core.fleet import Fleet, parse_fleet
from control_lambda.core.model import Snapshot, State
from control_lambda.core.reasons import Code, Skip
from control_lambda.core.record import Skipped, record_without_decision
from control_lambda.core.traffic.survival import NO_SIGNS
from twin.errors import InputError
from twin.steering.answers import Failing, evidence_of, nothing_fails
from twin.steering.aws import AwsSteering
from twin.steering.policies import run_policy
from twin.steering.replay import Run
from twin.steering.steering import WorldPorts, the_decision
from twin.world.nodes import Event
from twin.world.trace import CapacityTrace, Demand, DemandOptions, PriceTrace
from twin.world.trouble import Trouble
from twin.world.world import EPOCH, Scenario, World

MINUTES = 120
CASE_MINUTES = 45
NEURON_SPOT, NEURON, GPU_SPOT, GPU = "neuron-spot", "neuron-on-demand", "gpu-spot", "gpu-on-demand"


def unit(name: str, instance_type: str, service_seconds: float, prices: dict[str, float]) -> dict[str, Any]:
    """A unit that is offered in each market that has a price."""
    profile = {"service_seconds": service_seconds, "throughput_rpm": 100, "latency_seconds": 0.7}
    return {
        "name": name,
        "instance_type": instance_type,
        "accelerator": "nvidia" if name == "gpu" else "neuron",
        "framework": "inductor" if name == "gpu" else "neuronx",
        "profile": {**profile, "start_seconds": 180},
        "pools": [
            {"market": market, "nodes": {"max": 20}, "price_usd_per_hour": price}
            for market, price in prices.items()
        ],
    }


def fleet_of(*units: dict[str, Any]) -> Fleet:
    """A fleet of these units."""
    return parse_fleet(
        {
            "fleet": "two-ways",
            "model": "some/model",
            "objective": {"latency_seconds": 2.0},
            "budget_usd_per_hour": 100,
            "reserve": {"spot": 0.5},
            "units": list(units),
        }
    )


TWINS = fleet_of(
    unit("neuron", "inf2.xlarge", 0.5, {"spot": 0.15, "on-demand": 0.76}),
    unit("gpu", "g5.xlarge", 0.6, {"spot": 0.43, "on-demand": 1.0}),
)


def scenario_of(fleet: Fleet, minutes: int, limits: dict[str, list[int]], prices: PriceTrace) -> Scenario:
    """Demand that rises and falls within two hours and is absent in the first minutes."""
    requests = (700 + 500 * np.sin(np.arange(minutes) / 20)).astype(np.int64)
    requests[:3] = 0
    demand = Demand(requests, DemandOptions(), seed=3, epoch=EPOCH)
    return Scenario(fleet, demand, CapacityTrace(limits), prices, seed=3)


@pytest.fixture(scope="module")
def scenario() -> Scenario:
    """Two hours: spot nodes are taken back twice, on-demand launches are refused, a price changes."""
    limits = {
        NEURON_SPOT: [20] * 35 + [2] * 15 + [20] * 30 + [0] * 40,
        GPU_SPOT: [20] * 35 + [0] * 25 + [20] * 60,
        NEURON: [2] * 50 + [20] * 70,
    }
    prices = PriceTrace({NEURON_SPOT: [(0, 0.15), (45, 0.3333333333)], GPU: [(20, 1.1)]})
    return scenario_of(TWINS, MINUTES, limits, prices)


@pytest.fixture(scope="module")
def runs(scenario: Scenario) -> tuple[Run, Run]:
    """The scenario over memory and through AWS."""
    ignore_progress = partial(lambda *_: None)
    core = run_policy(scenario, "merit-order", "core", ignore_progress)
    return core, run_policy(scenario, "merit-order", "aws", ignore_progress)


def test_both_ways_decide_alike(runs: tuple[Run, Run]) -> None:
    """Every key of every decision record is equal, failures and writes included."""
    core, aws = runs
    assert len(aws.records) >= MINUTES
    assert aws.records == core.records


def test_users_and_the_bill_see_the_same_both_ways(runs: tuple[Run, Run]) -> None:
    """Every request's latency, every node and every dollar."""
    core, aws = runs
    for one, other in zip(core.past, aws.past, strict=True):
        assert np.array_equal(one.latency, other.latency)
        assert (one.cost_usd, one.nodes, one.ready) == (other.cost_usd, other.nodes, other.ready)
        assert dict(one.weights) == dict(other.weights)


def test_the_two_hours_hold_what_makes_decisions_differ(runs: tuple[Run, Run]) -> None:
    """A shortage, refused launches, interruptions and a new price; else their equality proves little."""
    _, aws = runs
    told = {reason.code for record in aws.records for reason in record.reasons}
    assert {Code.INTERRUPTED, Code.REFUSED} <= told
    assert aws.launches_refused > 3
    assert any(record.pools[NEURON].evidence == "shortage" for record in aws.records)
    prices = {record.pools[NEURON_SPOT].price for record in aws.records}
    assert prices == {0.15, 0.333333}


def test_a_price_is_known_from_the_next_full_hour_on(runs: tuple[Run, Run]) -> None:
    """Signals reads prices hourly; until then the last one is in force."""
    _, aws = runs
    changed = [record.at for record in aws.records if record.pools[NEURON_SPOT].price > 0.3]
    assert min(changed) == EPOCH + 3600


def deliver(steering: AwsSteering, ports: WorldPorts, announced: Sequence[Event]) -> None:
    """Let both ways learn of the events."""
    ports.add_evidence([evidence_of(event) for event in announced])
    for _, together in groupby(announced, key=attrgetter("at")):
        steering.react(list(together))


def snapshots(scenario: Scenario, failing: Failing = nothing_fails) -> Iterator[tuple[Snapshot, Snapshot]]:
    """What both ways show of one world, minute by minute, while it is steered through AWS."""
    world = World(scenario)
    ports = WorldPorts(world, world.failing if scenario.trouble.entries else failing)
    with closing(AwsSteering(world)) as steering:
        for action in ACTIONS:
            code = failing(action, "")
            steering.cloud.fail(action, code or "", -1 if code else 0)
        for _ in range(scenario.demand.minutes):
            world.begin_minute()
            announced = world.events()
            steering.schedule()
            at = world.now
            yield ports.sense(world.fleet, at, ()), steering.ports.sensors.sense(world.fleet, at, ())
            deliver(steering, ports, announced + world.events())
            world.end_minute()


def canonical(snapshot: Snapshot) -> Snapshot:
    """The snapshot with its evidence in a fixed order, each piece once: it is a set."""
    found = sorted(set(snapshot.evidence), key=lambda item: (item.at, item.pool, item.zone))
    return replace(snapshot, evidence=tuple(found))


def test_the_in_memory_ports_show_what_aws_shows() -> None:
    """Counts, absent ones included, nodes, sizes, weights, prices and refused launches."""
    limits = {NEURON_SPOT: [20] * 8 + [0] * 12, NEURON: [1] * 20, GPU_SPOT: [2] * 20}
    kinds = set()
    for ours, theirs in snapshots(scenario_of(TWINS, 20, limits, PriceTrace({}))):
        assert canonical(ours) == canonical(theirs)
        kinds |= {(item.kind.value, bool(item.zone)) for item in ours.evidence}
    assert kinds == {("shortage", True), ("shortage", False)}


ACTIONS: Final = (
    "DescribeInstances",
    "DescribeAutoScalingGroups",
    "DescribeTargetHealth",
    "DescribeNodegroup",
    "DescribeScalingActivities",
    "GetMetricData",
)


@pytest.mark.parametrize("action", ACTIONS)
def test_an_action_that_fails_leaves_both_ways_with_the_same_snapshot(action: str) -> None:
    """And with the same words about it."""
    minutes, told = 8, set[str]()
    limits = dict.fromkeys((NEURON_SPOT, NEURON, GPU_SPOT), [1] * minutes)

    def failing(called: str, _: str) -> str | None:
        return "InternalFailure" if called == action else None

    for ours, theirs in snapshots(scenario_of(TWINS, minutes, limits, PriceTrace({})), failing):
        assert canonical(ours) == canonical(theirs)
        told.update(ours.failures)
    assert any(failure.endswith(": InternalFailure") for failure in told)


TROUBLES: Final = (
    {"at": 1, "what": "node-slow", "pool": GPU_SPOT, "nodes": 1, "factor": 3},
    {"at": 1, "minutes": 9, "what": "node-errors", "pool": NEURON, "nodes": 1, "share": 0.5},
    {"at": 2, "what": "node-dead", "pool": GPU, "nodes": 1},
    {"at": 2, "minutes": 2, "what": "group-status", "pool": NEURON_SPOT, "status": "DEGRADED"},
    {"at": 10, "what": "group-max", "pool": NEURON_SPOT, "nodes": 2},
    {"at": 3, "what": "group-suspended", "pool": NEURON, "by": "aws"},
    {"at": 4, "minutes": 3, "what": "zone-refuses", "pool": GPU_SPOT, "zones": ["us-east-1a"]}
    | {"kind": "shortage"},
    {"at": 5, "what": "group-deleted", "pool": GPU},
    {"at": 8, "minutes": 1, "what": "api-fails", "action": "DescribeTargetHealth"}
    | {"code": "Throttling", "share": 1},
)


def test_trouble_shows_alike_both_ways() -> None:
    """Zones, health, anomalies, limits, suspensions, statuses, groups that are gone and calls that fail."""
    minutes = 13
    trouble = Trouble.parse({"trouble": list(TROUBLES)}, TWINS, minutes)
    nodes, pools, slow = set(), set(), set()
    for ours, theirs in snapshots(replace(scenario_of(TWINS, minutes, {}, PriceTrace({})), trouble=trouble)):
        assert canonical(ours) == canonical(theirs)
        pools |= {(signals.status, signals.launch_suspended.value) for signals in ours.pools.values()}
        slow |= set(ours.node_seconds.values())
        nodes |= {node.target.value for signals in ours.pools.values() for node in signals.nodes.values()}
    assert {"healthy", "unhealthy", "initial"} <= nodes
    assert slow == {1.8}
    assert {("DEGRADED", ""), ("DELETED", ""), ("ACTIVE", "aws")} <= pools


# A case: what befalls the fleet, and the reasons that the loop gives because of it.
CASES: Final = {
    "nodes die and slow down": (
        (
            {"at": 15, "what": "node-dead", "pool": NEURON_SPOT, "nodes": 3},
            {"at": 15, "what": "node-slow", "pool": GPU_SPOT, "nodes": 1, "factor": 3},
        ),
        {Code.DEAD, Code.SLOW, Code.REPLACED},
    ),
    "calls fail and a zone refuses": (
        (
            {"at": 8, "minutes": 12, "what": "api-fails", "action": "DescribeTargetHealth"}
            | {"code": "Throttling", "share": 0.5},
            {"at": 15, "minutes": 20, "what": "zone-refuses", "pool": NEURON_SPOT}
            | {"zones": ["us-east-1a"], "kind": "shortage"},
        ),
        {Code.HEALTH_INFERRED, Code.ZONE_REFUSED},
    ),
}


@pytest.fixture(scope="module", params=CASES)
def troubled(request: pytest.FixtureRequest) -> tuple[Run, Run, set[str]]:
    """A case over memory and through AWS, and the reasons that it is to bring."""
    entries, codes = CASES[request.param]
    trouble = Trouble.parse({"trouble": list(entries)}, TWINS, CASE_MINUTES)
    told = replace(scenario_of(TWINS, CASE_MINUTES, {}, PriceTrace({})), trouble=trouble)
    core, aws = (run_policy(told, "merit-order", way, lambda *_: None) for way in ("core", "aws"))
    return core, aws, {str(code) for code in codes}


def test_a_case_is_decided_alike_both_ways(troubled: tuple[Run, Run, set[str]]) -> None:
    """Every key of every decision record, and the trouble does show in them."""
    core, aws, codes = troubled
    assert aws.records == core.records
    assert codes <= {reason.code for record in core.records for reason in record.reasons}


def test_prices_that_aws_cannot_quote_are_refused() -> None:
    """One instance type in one market has one price, whatever the pools say."""
    fleet = fleet_of(
        unit("gpu", "g5.xlarge", 0.6, {"on-demand": 1.0}), unit("eager", "g5.xlarge", 0.9, {"on-demand": 1.0})
    )
    prices = PriceTrace({"gpu-on-demand": [(0, 1.1)]})
    world = World(scenario_of(fleet, 20, {}, prices))
    with closing(AwsSteering(world)) as steering, pytest.raises(InputError) as caught:
        steering.schedule()
    assert str(caught.value) == (
        "prices: 1 for eager-on-demand and 1.1 for gpu-on-demand; valid through aws: one price for all pools "
        "of an instance type and market"
    )


def test_a_closed_steering_leaves_no_cloud_behind() -> None:
    """Its port no longer answers."""
    steering = AwsSteering(World(scenario_of(TWINS, 20, {}, PriceTrace({}))))
    steering.schedule()
    steering.close()
    with pytest.raises(EndpointConnectionError):
        steering.schedule()


def test_of_the_ticks_of_one_second_one_decides() -> None:
    """Two decisions would be one too many to report, and none is; ticks without memory may be several."""
    survival, skipped = record_without_decision(State(), 1.0, NO_SIGNS, (), (), ()), Skipped(Skip.NOT_LATER)
    decision = replace(survival, demand_rpm=1.0)
    assert the_decision([survival, survival]) is None
    assert the_decision([skipped, decision, skipped]) is decision
    assert the_decision([skipped]) is None
    with pytest.raises(RuntimeError, match="2 ticks of one second decided"):
        the_decision([decision, decision])
