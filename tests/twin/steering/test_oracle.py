from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from control_lambda.core.fleet import Fleet, parse_fleet
from twin.steering.baselines import BASELINES
from twin.steering.oracle import Oracle, least_cost
from twin.steering.replay import UNSCORED_MINUTES, replay, summarise
from twin.steering.steering import CoreSteering
from twin.world.trace import CapacityTrace, Demand, PriceTrace
from twin.world.world import EPOCH, Scenario

START_MINUTES = 2
STEERING = {**BASELINES, "ours": CoreSteering}


def fleet_of(*pools: tuple[str, str, float, float, int]) -> Fleet:
    """A fleet with a unit for each (name, market, USD per hour, service seconds, nodes.max)."""
    return parse_fleet(
        {
            "fleet": "small",
            "model": "any",
            "objective": {"latency_seconds": 2.0},
            "budget_usd_per_hour": 1000,
            "units": [_unit(*pool) for pool in pools],
        }
    )


def _unit(name: str, market: str, price: float, seconds: float, most: int) -> dict[str, Any]:
    return {
        "name": name,
        "instance_type": {"gpu": "g5.xlarge", "chip": "inf2.xlarge"}[name],
        "accelerator": {"gpu": "nvidia", "chip": "neuron"}[name],
        "framework": {"gpu": "eager", "chip": "neuronx"}[name],
        "profile": {
            "service_seconds": seconds,
            "throughput_rpm": 60,
            "latency_seconds": 1.0,
            "start_seconds": 60.0 * START_MINUTES,
        },
        "pools": [{"market": market, "nodes": {"max": most}, "price_usd_per_hour": price}],
    }


def scenario_of(
    fleet: Fleet,
    scored: Sequence[int],
    capacity: Mapping[str, Sequence[int]] | None = None,
    prices: PriceTrace | None = None,
) -> Scenario:
    """The scored minutes' requests after an unscored beginning without any; limits from minute 0."""
    counts = np.array([0] * UNSCORED_MINUTES + list(scored), dtype=np.int64)
    demand = Demand(counts, seed=7, epoch=EPOCH)
    return Scenario(fleet, demand, CapacityTrace(capacity or {}), prices or PriceTrace({}), seed=7)


# What waits when a replay ends is answered on nodes that nobody bills; a quiet end leaves nothing waiting.
QUIET = [0, 0]
GPU = ("gpu", "on-demand", 3.6, 1.0, 10)  # 60 requests a minute, 0.06 USD a minute
SPOT = ("gpu", "spot", 3.6, 1.0, 10)


def test_steady_demand_costs_its_node_time() -> None:
    """120 requests of one second in a minute are two nodes' minute: 0.12 USD; starts are unscored."""
    bound = least_cost(scenario_of(fleet_of(GPU), [120] * 5 + QUIET))
    assert bound.cost_usd == pytest.approx(5 * 0.12)
    assert bound.served == bound.requests == 600
    assert bound.cost_per_thousand_usd == pytest.approx(1.0)


def test_no_requests_cost_nothing() -> None:
    """An empty scenario has a bound of zero, and no cost per thousand."""
    bound = least_cost(scenario_of(fleet_of(GPU), [0] * 4))
    assert (bound.cost_usd, bound.requests, bound.served) == (0.0, 0, 0)
    assert bound.cost_per_thousand_usd is None


def test_the_cheaper_request_counts_not_the_cheaper_node() -> None:
    """A node at twice the price that serves four times as fast is taken."""
    fleet = fleet_of(GPU, ("chip", "on-demand", 7.2, 0.25, 10))
    bound = least_cost(scenario_of(fleet, [240, 240, 0, 0]))
    assert bound.cost_usd == pytest.approx(2 * 0.12)


def test_a_shortage_leaves_the_dearer_pool() -> None:
    """What the cheap pool's single node cannot carry is paid at the dear pool's price."""
    fleet = fleet_of(("chip", "spot", 0.6, 1.0, 1), SPOT)
    bound = least_cost(scenario_of(fleet, [120] * 6 + QUIET))
    # The cheap node works a minute longer, on those that wait: 7 minutes of it, 5 of the dear one.
    assert bound.cost_usd == pytest.approx(7 * 0.01 + 5 * 0.06, rel=0.02)
    plenty = fleet_of(("chip", "spot", 0.6, 1.0, 10), SPOT)
    assert least_cost(scenario_of(plenty, [120] * 6 + QUIET)).cost_usd == pytest.approx(6 * 2 * 0.01)


def test_idling_is_paid_up_to_the_price_of_a_start() -> None:
    """Between two bursts a node idles where that is cheaper than its start of two minutes."""
    near = least_cost(scenario_of(fleet_of(GPU), [60, 60, 0, 0, 60, 60, *QUIET]))
    far = least_cost(scenario_of(fleet_of(GPU), [60, 60] + [0] * 60 + [60, 60, *QUIET]))
    # Requests may wait a minute: two minutes' work fills two thirds of a node for three minutes.
    work, start = 4 * 0.06, START_MINUTES * 0.06 * 2 / 3
    assert far.cost_usd == pytest.approx(work + start, rel=0.02)
    assert work < near.cost_usd < far.cost_usd


def test_on_demand_nodes_stay_through_a_shortage_and_spot_nodes_do_not() -> None:
    """A limit of zero from the scored beginning on refuses launches; only spot nodes are taken away."""
    limits = [10] * UNSCORED_MINUTES + [0] * 30
    requests = [60] * 20 + QUIET
    kept = least_cost(scenario_of(fleet_of(GPU), requests, {"gpu-on-demand": limits}))
    lost = least_cost(scenario_of(fleet_of(SPOT), requests, {"gpu-spot": limits}))
    assert kept.served == 20 * 60
    # Two minutes of notice; then nothing is left that could answer.
    assert lost.served == 2 * 60


def test_nodes_that_cannot_be_launched_do_not_serve() -> None:
    """Without capacity all requests are given up."""
    bound = least_cost(scenario_of(fleet_of(GPU), [60] * 5 + QUIET, {"gpu-on-demand": [0]}))
    assert (bound.served, bound.cost_usd) == (0, 0.0)


def test_an_on_demand_pool_cannot_grow_beyond_its_limit() -> None:
    """With a limit of one node throughout, demand for two is half given up."""
    bound = least_cost(scenario_of(fleet_of(GPU), [120] * 30 + QUIET, {"gpu-on-demand": [1]}))
    # One node for 30 minutes, and for one more on those that wait.
    assert bound.served == pytest.approx(31 * 60, rel=0.01)


def test_a_launch_takes_its_start_time() -> None:
    """A spot pool that was empty until the scored beginning answers nobody in its first two minutes."""
    limits = [0] * UNSCORED_MINUTES + [10] * 30
    late = least_cost(scenario_of(fleet_of(SPOT), [60] * 5 + QUIET, {"gpu-spot": limits}))
    # Of the second minute's requests, who are still waiting when the node is ready.
    assert late.served == pytest.approx(4 * 60, abs=3)
    assert late.cost_usd == pytest.approx(4 * 0.06 + START_MINUTES * 0.06, rel=0.3)


def test_prices_are_those_of_the_minute() -> None:
    """A price that doubles in the fourth scored minute doubles what is billed from there on."""
    prices = PriceTrace({"gpu-on-demand": [(0, 3.6), (UNSCORED_MINUTES + 3, 7.2)]})
    bound = least_cost(scenario_of(fleet_of(GPU), [60] * 6 + QUIET, prices=prices))
    assert bound.cost_usd == pytest.approx(3 * 0.06 + 3 * 0.12)


@pytest.mark.parametrize("served", [0, 100, 300, 599, 600])
def test_fewer_answers_cost_less(served: int) -> None:
    """In steady demand every answered request costs the same."""
    oracle = Oracle(scenario_of(fleet_of(GPU), [60] * 10 + QUIET))
    bound = oracle.least_cost(served=served)
    assert bound.served == served
    assert bound.cost_usd == pytest.approx(served * 0.001, rel=1e-3, abs=1e-9)


def test_questions_do_not_depend_on_earlier_ones() -> None:
    """An oracle that has answered others gives the bound that a fresh one gives, within its tolerance."""
    asked = scenario_of(fleet_of(GPU), [60, 300, 0, 0, 10, 500, 20, 0, 0, 0, 90, 0, 0])
    oracle = Oracle(asked)
    for served in (980, 300, 700, 500, 820):
        fresh = least_cost(asked, served=served).cost_usd
        assert oracle.least_cost(served=served).cost_usd == pytest.approx(fresh, rel=1e-3)


@pytest.mark.parametrize("served", [-1, 61])
def test_more_answers_than_requests_are_refused(served: int) -> None:
    """The message names what would be valid."""
    with pytest.raises(ValueError, match=f"served: {served}; valid: 0 to 60, the scored requests"):
        least_cost(scenario_of(fleet_of(GPU), [60]), served=served)


COUNTS = st.lists(st.integers(0, 400), min_size=10, max_size=25)
MARKETS = st.sampled_from(["on-demand", "spot"])
LIMITS = st.lists(st.integers(0, 4), min_size=2, max_size=12)


@given(counts=COUNTS, markets=st.tuples(MARKETS, MARKETS), limits=st.tuples(LIMITS, LIMITS))
def test_no_policy_costs_less_than_the_bound(
    counts: list[int], markets: tuple[str, str], limits: tuple[list[int], list[int]]
) -> None:
    """Whatever a policy answers, answering as much costs at least the bound."""
    fleet = fleet_of(("chip", markets[0], 0.8, 0.5, 4), ("gpu", markets[1], 1.0, 0.8, 4))
    capacity = {pool.name: column for pool, column in zip(fleet.pools, limits, strict=True)}
    oracle = Oracle(scenario_of(fleet, counts, capacity))
    for policy, steer in STEERING.items():
        summary = summarise(replay(scenario_of(fleet, counts, capacity), policy, steer))
        bound = oracle.least_cost(served=summary["served"])
        assert bound.served == summary["served"], policy
        assert bound.cost_usd <= summary["cost_usd"] + 1e-6, policy


@given(counts=COUNTS, markets=st.tuples(MARKETS, MARKETS), limits=LIMITS, more=st.integers(1, 3))
def test_more_capacity_never_costs_more(
    counts: list[int], markets: tuple[str, str], limits: list[int], more: int
) -> None:
    """What can be answered at a cost can be answered at that cost when more nodes are to be had."""
    fleet = fleet_of(("chip", markets[0], 0.8, 0.5, 7), ("gpu", markets[1], 1.0, 0.8, 7))
    assume(limits[0] > 0)  # the world starts a node where there is capacity, none where there is not
    name = fleet.pools[0].name
    scarce = least_cost(scenario_of(fleet, counts, {name: limits}))
    ample = Oracle(scenario_of(fleet, counts, {name: [limit + more for limit in limits]}))
    assert ample.least_cost().served >= scarce.served
    assert ample.least_cost(served=scarce.served).cost_usd <= scarce.cost_usd + 1e-6
