from collections.abc import Mapping, Sequence
from math import ceil
from pathlib import Path

import numpy as np
import pytest

from control_lambda.core.fleet import Fleet, parse_fleet
from control_lambda.fleet_file import load_fleet
from twin.steering.baselines import BASELINES, REFUSED_SECONDS, BaselineError, highest_rpm, latest_rpm
from twin.steering.replay import replay
from twin.steering.steering import Steering
from twin.world.trace import CapacityTrace, Demand, PriceTrace
from twin.world.world import EPOCH, Scenario, World

ROOT = Path(__file__).parents[3]
PAPER = load_fleet(ROOT / "fleet.yaml")
TWINS = load_fleet(ROOT / "fleets" / "spot-twins.yaml")
LAPTOP = load_fleet(ROOT / "fleets" / "cpu-laptop.yaml")


def world_of(
    fleet: Fleet, requests: Sequence[int], capacity: Mapping[str, Sequence[int]] | None = None
) -> World:
    """A world whose minutes bring so many requests."""
    demand = Demand(np.array(requests, dtype=np.int64), seed=3, epoch=EPOCH)
    return World(Scenario(fleet, demand, CapacityTrace(capacity or {}), PriceTrace({}), seed=3))


def steer(policy: str, world: World, minutes: int) -> Steering:
    """The policy's controller, after it has steered the world's first minutes and the next one's start."""
    steering = BASELINES[policy](world)
    for _ in range(minutes):
        steer_minute(world, steering)
        world.end_minute()
    steer_minute(world, steering)
    return steering


def steer_minute(world: World, steering: Steering) -> None:
    """Do as the replay: the scheduled call, then one on what it brought about."""
    world.begin_minute()
    world.events()
    steering.schedule()
    announced = world.events()
    if announced:
        world.advance(world.now + 2)
        steering.react(announced)


def desired(world: World) -> dict[str, int]:
    """The desired size of every pool that has one."""
    sizes = {pool.name: world.nodes.desired(pool.name) for pool in world.fleet.pools}
    return {pool: nodes for pool, nodes in sizes.items() if nodes}


def without(fleet: Fleet, *names: str) -> Fleet:
    """The fleet without the units of those names."""
    raw = fleet.model_dump(mode="json", exclude_defaults=True)
    raw["units"] = [unit for unit in raw["units"] if unit["name"] not in names]
    return parse_fleet(raw)


def test_demand_is_seen_as_late_as_the_loop_sees_it() -> None:
    """A minute is visible two minutes after its end; requests without a target count too."""
    world = world_of(PAPER, [100, 700, 300, 0, 0])
    world.weights = {}  # nobody serves: all of it is untargeted
    seen = []
    for _ in range(5):
        world.begin_minute()
        seen.append((highest_rpm(world), latest_rpm(world)))
        world.end_minute()
    assert seen == [(0, 0), (0, 0), (0, 0), (100, 100), (700, 700)]


def test_equal_shares_go_to_units_with_a_ready_node_alone() -> None:
    """A unit that lost its nodes gets no weight; the others share equally."""
    short = {"trn1-neuron-on-demand": [0]}
    world = world_of(PAPER, [300] * 10, short)
    steer("equal-shares", world, 6)
    assert world.weights["trn1-neuron"] == 0
    others = [weight for unit, weight in world.weights.items() if unit != "trn1-neuron"]
    assert max(others) - min(others) <= 1
    assert min(others) > 0


def test_equal_sizes_every_unit_for_its_share() -> None:
    """ceil(demand / 5 · service_seconds / 60 / 0.7) nodes, at least one."""
    world = world_of(PAPER, [900] * 10)
    steer("equal-shares", world, 6)
    expected = {
        f"{unit.name}-on-demand": ceil(900 / 5 * unit.profile.service_seconds / 60 / 0.7)
        for unit in PAPER.units
    }
    assert desired(world) == expected


@pytest.mark.parametrize("policy", ["sample-static", "sample-loop"])
def test_the_sample_keeps_its_static_weights_in_cost_mode(policy: str) -> None:
    """40, 20, 15, 10 and 15, and at least one pod each."""
    world = world_of(PAPER, [0] * 10)
    steer(policy, world, 6)
    assert world.weights == {
        "inf2-neuron": 40,
        "trn1-neuron": 20,
        "g5-inductor": 15,
        "g6-inductor": 10,
        "g5-eager": 15,
    }
    assert set(desired(world).values()) == {1}
    assert len(desired(world)) == 5


def test_the_samples_static_weights_stay_on_a_dead_unit() -> None:
    """A weighted target group keeps its weight without a target: those requests fail."""
    world = world_of(PAPER, [200] * 6, {"inf2-neuron-on-demand": [0]})
    steer("sample-static", world, 1)
    assert world.weights["inf2-neuron"] == 40
    past = world.end_minute()
    assert past.failed == pytest.approx(80, abs=25)


def test_the_sample_scales_each_unit_by_its_own_traffic() -> None:
    """Of 1,000 requests a minute inf2 gets 40 %: four pods at its target of 100."""
    world = world_of(PAPER, [1000] * 12)
    steer("sample-static", world, 10)
    counted = world.minutes_visible("inf2-neuron")[-1].requests
    assert counted is not None
    assert world.nodes.desired("inf2-neuron-on-demand") in {4, 5}
    assert counted == pytest.approx(400, abs=60)


def test_the_samples_pods_scale_down_after_five_minutes() -> None:
    """The autoscaler keeps the highest of what it wanted in the last 300 s."""
    world = world_of(PAPER, [1000] * 5 + [0] * 20)
    steering = steer("sample-static", world, 7)
    sizes = []
    for _ in range(6):
        world.end_minute()
        steer_minute(world, steering)
        sizes.append(world.nodes.desired("inf2-neuron-on-demand"))
    # The last busy minute, the fifth, is visible in the eighth; five minutes on it no longer counts.
    assert min(sizes[:4]) >= 4
    assert sizes[-1] == 1


def test_the_samples_loop_notices_a_shortage_when_it_polls() -> None:
    """A refusal switches to round robin over the ready pods, no sooner than the next poll."""
    requests = [900] * 16
    world = world_of(PAPER, requests, {"inf2-neuron-on-demand": [1]})
    steering = BASELINES["sample-loop"](world)
    weights = []
    for _ in requests:
        steer_minute(world, steering)
        weights.append(world.weights["inf2-neuron"])
        world.end_minute()
    refused_minute = int((world.nodes.refusals("inf2-neuron-on-demand")[0].at - EPOCH) // 60)
    next_poll = 5 * ceil(refused_minute / 5) if refused_minute % 5 else refused_minute + 5
    assert set(weights[:next_poll]) == {40}
    ready = {unit: len(world.nodes.ready(f"{unit}-on-demand")) for unit in world.weights}
    assert weights[next_poll] == pytest.approx(999 / 5, abs=1), "one ready pod in each of five units"
    assert ready["inf2-neuron"] == 1


def test_the_samples_loop_returns_when_demand_is_low() -> None:
    """Back to static weights below 5 % of the highest demand, not when capacity is back."""
    scarce = [1] * 10 + [40] * 60
    world = world_of(PAPER, [900] * 30 + [10] * 30, {"inf2-neuron-on-demand": scarce})
    steering = steer("sample-loop", world, 28)
    assert world.weights["inf2-neuron"] != 40, "capacity has been back for 18 minutes, demand is high"
    for _ in range(12):
        world.end_minute()
        steer_minute(world, steering)
    assert world.weights["inf2-neuron"] == 40


def test_reactive_fills_the_cheapest_pool_for_the_highest_demand() -> None:
    """1,000 requests a minute at 0.85 · 105 per inf2 node are 12 nodes, and they stay for 15 minutes."""
    world = world_of(PAPER, [0, 1000] + [0] * 30)
    steering = steer("reactive", world, 6)
    assert world.nodes.desired("inf2-neuron-on-demand") == 12
    for _ in range(20):
        world.end_minute()
        steer_minute(world, steering)
    assert desired(world) == {}


def test_reactive_turns_to_the_next_pool_at_once_when_refused() -> None:
    """The rest of the demand goes to the second cheapest in the same minute."""
    world = world_of(PAPER, [1000] * 10, {"inf2-neuron-on-demand": [2]})
    steer("reactive", world, 4)
    sizes = desired(world)
    assert sizes["inf2-neuron-on-demand"] == 2
    assert sizes["trn1-neuron-on-demand"] == ceil((1000 - 2 * 105 * 0.85) / (130 * 0.85))


def test_reactive_asks_a_refused_pool_again_after_ten_minutes() -> None:
    """Until then it keeps to what the pool has, afterwards it tries the whole size."""
    world = world_of(PAPER, [1000] * 30, {"inf2-neuron-on-demand": [2]})
    replayed = replay(world.scenario, "reactive", BASELINES["reactive"])
    assert replayed.launches_refused == 3, "in the minutes 3, 13 and 23"
    assert REFUSED_SECONDS == 600


def test_reactive_keeps_nodes_until_cheaper_ones_are_ready() -> None:
    """When cheap capacity returns, the dear nodes carry on while the cheap ones start."""
    scarce = [2] * 15 + [40] * 60
    world = world_of(PAPER, [1000] * 60, {"inf2-neuron-on-demand": scarce})
    steering = steer("reactive", world, 17)
    dear = world.nodes.desired("trn1-neuron-on-demand")
    for _ in range(8):
        world.end_minute()
        steer_minute(world, steering)
    assert dear > 0
    assert world.nodes.starting("inf2-neuron-on-demand"), "asked again, and now granted"
    assert world.nodes.desired("trn1-neuron-on-demand") == dear
    for _ in range(12):
        world.end_minute()
        steer_minute(world, steering)
    assert desired(world) == {"inf2-neuron-on-demand": 12}


@pytest.mark.parametrize(
    ("policy", "used"),
    [
        ("cheapest-only", {"inf2-neuron"}),
        ("gpu-only", {"g5-inductor", "g6-inductor", "g5-eager"}),
    ],
)
def test_a_restricted_policy_uses_no_other_unit(policy: str, used: set[str]) -> None:
    """All weight and all nodes lie with the units that the policy allows, whatever the demand."""
    world = world_of(PAPER, [3000] * 20)
    steer(policy, world, 17)
    assert {unit for unit, weight in world.weights.items() if weight} <= used
    assert {pool.removesuffix("-on-demand") for pool in desired(world)} == used


def test_the_cheaper_market_comes_first_and_the_other_takes_the_rest() -> None:
    """A refused spot pool keeps what it has; its on-demand twin gets what is missing."""
    world = world_of(TWINS, [1000] * 12, {"inf2-neuron-spot": [2]})
    steer("sample-static", world, 10)
    assert world.nodes.desired("inf2-neuron-spot") == 2
    assert world.nodes.desired("inf2-neuron-on-demand") in {2, 3}
    assert world.nodes.desired("trn1-neuron-on-demand") == 0


def test_an_on_demand_twin_becomes_ready_while_spot_is_tried_again() -> None:
    """Asking the refused spot pool again after ten minutes does not take its replacement away."""
    world = world_of(TWINS, [100] * 30, {"inf2-neuron-spot": [0]})
    steer("sample-static", world, 25)
    assert len(world.nodes.ready("inf2-neuron-on-demand")) == 1
    assert world.nodes.launches == 0, "the one that the world started with has served throughout"
    later = world_of(TWINS, [1000] * 30, {"inf2-neuron-spot": [1]})
    steer("sample-static", later, 25)
    assert len(later.nodes.ready("inf2-neuron-on-demand")) >= 2


@pytest.mark.parametrize("policy", ["sample-static", "sample-loop"])
def test_units_that_the_sample_lacks_get_nothing(policy: str) -> None:
    """Units are matched by instance family and framework, not by name."""
    raw = PAPER.model_dump(mode="json", exclude_defaults=True)
    raw["units"][0]["name"] = "cheap"
    raw["units"][1]["instance_type"] = "p4d.24xlarge"
    world = world_of(parse_fleet(raw), [0] * 5)
    steer(policy, world, 2)
    assert world.weights["cheap"] == 40
    assert world.weights["trn1-neuron"] == 0
    assert world.nodes.desired("trn1-neuron-on-demand") == 0


@pytest.mark.parametrize("policy", ["sample-static", "sample-loop", "gpu-only"])
def test_a_fleet_without_the_policys_units_is_refused(policy: str) -> None:
    """One line names the policy, the fleet and what it would need."""
    with pytest.raises(BaselineError, match=rf"policy {policy}: the fleet {LAPTOP.fleet} has no.*; valid: "):
        BASELINES[policy](world_of(LAPTOP, [0] * 3))


@pytest.mark.parametrize("policy", BASELINES)
@pytest.mark.parametrize("fleet", [PAPER, TWINS, without(PAPER, "inf2-neuron")])
def test_sizes_and_weights_stay_within_what_aws_allows(policy: str, fleet: Fleet) -> None:
    """Desired sizes lie within nodes.min and nodes.max and weights within 0 to 999, every minute."""
    capacity = {pool.name: [pool.nodes.max] * 9 + [pool.nodes.max // 4] * 7 for pool in fleet.pools[:2]}
    world = world_of(fleet, [40, 4000, 900, 0, 10] * 8, capacity)
    steering = BASELINES[policy](world)
    for _ in range(40):
        steer_minute(world, steering)
        for pool in fleet.pools:
            assert pool.nodes.min <= world.nodes.desired(pool.name) <= pool.nodes.max
        assert list(world.weights) == [unit.name for unit in fleet.units]
        assert all(0 <= weight <= 999 for weight in world.weights.values())
        world.end_minute()
