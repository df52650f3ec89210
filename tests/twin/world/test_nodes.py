from collections.abc import Callable
from math import inf

import pytest
from hypothesis import given
from hypothesis import strategies as st

from control_lambda.core.fleet import Fleet, parse_fleet
from control_lambda.core.model import EvidenceKind
from twin.world.nodes import (
    DRAIN_SECONDS,
    NOTICE_SECONDS,
    RETRY_SECONDS,
    ZONES,
    Interrupted,
    Nodes,
    Refused,
)

FLEET: Fleet = parse_fleet(
    {
        "fleet": "small",
        "model": "any",
        "objective": {"latency_seconds": 2.0},
        "budget_usd_per_hour": 10,
        "units": [
            {
                "name": "gpu",
                "instance_type": "g5.xlarge",
                "accelerator": "nvidia",
                "framework": "eager",
                "profile": {
                    "service_seconds": 0.5,
                    "throughput_rpm": 100,
                    "latency_seconds": 0.6,
                    "start_seconds": 300,
                },
                "pools": [
                    {"market": "on-demand", "nodes": {"max": 10}, "price_usd_per_hour": 1.0},
                    {"market": "spot", "nodes": {"max": 10}, "price_usd_per_hour": 0.4},
                ],
            }
        ],
    }
)
STEADY, SPOT = "gpu-on-demand", "gpu-spot"


def refused_everywhere(pool: str, at: float, kind: EvidenceKind = EvidenceKind.SHORTAGE) -> list[Refused]:
    """What a pool without capacity tells: each of its zones refuses."""
    return [Refused(pool, at, kind, zone) for zone in ZONES]


def started(pool: str, count: int) -> Nodes:
    """A fleet with that many ready nodes in one pool at second 0."""
    nodes = Nodes(FLEET, 0.0)
    nodes.start(pool, count, 0.0)
    return nodes


def test_nodes_at_the_start_are_ready_at_once_and_count_as_no_launch() -> None:
    """The initial condition is no decision of the loop."""
    nodes = started(STEADY, 2)
    assert len(nodes.ready(STEADY)) == nodes.desired(STEADY) == 2
    assert nodes.launches == 0


def test_starting_a_pool_again_readies_what_starts_and_drains_what_is_too_much() -> None:
    """`start` sets what the pool holds, whatever it held before."""
    nodes = Nodes(FLEET, 0.0)
    nodes.set_desired(STEADY, 3, 0.0)
    nodes.start(STEADY, 2, 10.0)
    assert len(nodes.ready(STEADY)) == len(nodes.members(STEADY)) == 2
    assert len(nodes.existing(STEADY)) == 3


def test_a_launched_node_is_ready_after_its_start_time() -> None:
    """A node starts for the profile's start_seconds and is ready from that very second on."""
    nodes = Nodes(FLEET, 0.0)
    nodes.set_desired(STEADY, 1, 10.0)
    nodes.advance(309.9)
    assert len(nodes.starting(STEADY)) == 1
    assert nodes.ready(STEADY) == []
    nodes.advance(310.0)
    assert nodes.starting(STEADY) == []
    assert len(nodes.ready(STEADY)) == 1


def test_start_seconds_hold_for_later_launches_only() -> None:
    """A node already starting keeps its time; an endless start never becomes ready."""
    nodes = Nodes(FLEET, 0.0)
    nodes.set_desired(STEADY, 1, 0.0)
    nodes.set_start_seconds(STEADY, inf)
    nodes.set_desired(STEADY, 2, 0.0)
    nodes.advance(1e6)
    assert [node.ready_at for node in nodes.members(STEADY)] == [300.0, inf]
    assert len(nodes.ready(STEADY)) == 1


def test_a_pool_without_capacity_refuses_the_launch_and_is_asked_again_every_minute() -> None:
    """A refused launch is one event, repeated while desired exceeds what the group holds."""
    nodes = Nodes(FLEET, 0.0)
    nodes.set_capacity(STEADY, 1, 0.0)
    nodes.set_desired(STEADY, 3, 5.0)
    nodes.advance(5.0 + 2 * RETRY_SECONDS)
    refused = [item for k in range(3) for item in refused_everywhere(STEADY, 5.0 + k * RETRY_SECONDS)]
    assert nodes.drain_events() == refused
    assert nodes.refusals(STEADY) == refused
    assert nodes.drain_events() == []
    assert (nodes.launches, nodes.launches_refused) == (1, 3)


def test_a_retry_launches_once_capacity_is_back() -> None:
    """The group keeps asking by itself; nobody has to set desired again."""
    nodes = Nodes(FLEET, 0.0)
    nodes.set_capacity(STEADY, 0, 0.0)
    nodes.set_desired(STEADY, 2, 0.0)
    nodes.set_capacity(STEADY, None, 30.0)
    nodes.advance(59.9)
    assert nodes.existing(STEADY) == []
    nodes.advance(60.0)
    assert [node.launched_at for node in nodes.existing(STEADY)] == [60.0, 60.0]


def test_lowering_desired_to_what_is_held_stops_the_retries() -> None:
    """Nothing is terminated and nothing is asked for any more."""
    nodes = started(STEADY, 1)
    nodes.set_capacity(STEADY, 1, 0.0)
    nodes.set_desired(STEADY, 2, 0.0)
    nodes.set_desired(STEADY, 1, 10.0)
    nodes.drain_events()
    nodes.advance(1000.0)
    assert nodes.drain_events() == []
    assert len(nodes.ready(STEADY)) == 1


def test_a_refusal_says_the_kind_that_was_chosen() -> None:
    """Tests of the loop need every kind of evidence."""
    nodes = Nodes(FLEET, 0.0)
    nodes.set_refusal(STEADY, EvidenceKind.QUOTA)
    nodes.set_capacity(STEADY, 0, 0.0)
    nodes.set_desired(STEADY, 1, 0.0)
    assert nodes.drain_events() == refused_everywhere(STEADY, 0.0, EvidenceKind.QUOTA)


def test_shrinking_drains_the_oldest_nodes_and_bills_them_until_they_are_gone() -> None:
    """EKS managed node groups terminate the oldest instance; it takes no new request while it drains."""
    nodes = started(STEADY, 1)
    nodes.set_start_seconds(STEADY, 0.0)
    nodes.set_desired(STEADY, 2, 50.0)
    oldest = nodes.members(STEADY)[0]
    nodes.set_desired(STEADY, 1, 100.0)
    assert oldest not in nodes.ready(STEADY)
    assert oldest not in nodes.members(STEADY)
    assert oldest in nodes.existing(STEADY)
    nodes.advance(100.0 + DRAIN_SECONDS)
    assert oldest not in nodes.existing(STEADY)
    assert nodes.billed_seconds(STEADY) == (100 + DRAIN_SECONDS) + (50 + DRAIN_SECONDS)


def test_a_draining_node_takes_the_place_of_a_launch() -> None:
    """Capacity counts what exists, so that a replacement waits until the drained node is gone."""
    nodes = started(STEADY, 2)
    nodes.set_capacity(STEADY, 2, 0.0)
    nodes.set_desired(STEADY, 1, 0.0)
    nodes.set_desired(STEADY, 2, 10.0)
    assert nodes.launches_refused == 1
    nodes.advance(10.0 + 2 * RETRY_SECONDS)
    assert nodes.launches == 1


def test_a_spot_pool_that_loses_capacity_has_its_oldest_nodes_interrupted() -> None:
    """A noticed node serves on until it is gone; then the group asks for another and is refused."""
    nodes = started(SPOT, 3)
    oldest, *others = nodes.ready(SPOT)
    nodes.set_capacity(SPOT, 2, 60.0)
    assert nodes.drain_events() == [Interrupted(SPOT, 60.0, oldest.id)]
    assert len(nodes.ready(SPOT)) == 3
    nodes.advance(60.0 + NOTICE_SECONDS)
    assert nodes.ready(SPOT) == others
    assert nodes.drain_events() == refused_everywhere(SPOT, 180.0)
    assert nodes.desired(SPOT) == 3


def test_an_interrupted_node_is_replaced_where_capacity_is_back() -> None:
    """The notice stands, but the group still wants its nodes."""
    nodes = started(SPOT, 1)
    nodes.set_capacity(SPOT, 0, 0.0)
    nodes.set_capacity(SPOT, 1, 30.0)
    nodes.advance(NOTICE_SECONDS)
    assert [node.launched_at for node in nodes.members(SPOT)] == [NOTICE_SECONDS]


def test_a_node_is_interrupted_only_once() -> None:
    """Nodes already on their way out do not make others leave."""
    nodes = started(SPOT, 3)
    nodes.set_desired(SPOT, 2, 0.0)
    nodes.set_capacity(SPOT, 1, 10.0)
    nodes.set_capacity(SPOT, 1, 20.0)
    assert len(nodes.drain_events()) == 1


def test_draining_does_not_prolong_the_life_of_an_interrupted_node() -> None:
    """AWS takes the node at the announced second, whatever the group does with it."""
    nodes = started(SPOT, 1)
    nodes.set_capacity(SPOT, 0, 0.0)
    nodes.set_desired(SPOT, 0, 100.0)
    nodes.advance(NOTICE_SECONDS)
    assert nodes.existing(SPOT) == []
    assert nodes.billed_seconds(SPOT) == NOTICE_SECONDS


def test_an_on_demand_pool_keeps_its_nodes_when_capacity_falls() -> None:
    """On-demand capacity that is held stays; only launches are refused."""
    nodes = started(STEADY, 3)
    nodes.set_capacity(STEADY, 0, 0.0)
    nodes.advance(1000.0)
    assert len(nodes.ready(STEADY)) == 3
    assert nodes.drain_events() == []


def test_a_suspended_group_launches_nothing_until_it_is_resumed() -> None:
    """AWS suspends a group's launches after a day of failures."""
    nodes = Nodes(FLEET, 0.0)
    nodes.set_capacity(STEADY, 0, 0.0)
    nodes.set_desired(STEADY, 1, 0.0)
    nodes.suspend(STEADY)
    nodes.set_capacity(STEADY, None, 10.0)
    nodes.advance(500.0)
    assert nodes.suspended(STEADY)
    assert nodes.existing(STEADY) == []
    nodes.resume(STEADY)
    assert not nodes.suspended(STEADY)
    assert [node.launched_at for node in nodes.existing(STEADY)] == [500.0]


def test_the_version_rises_when_a_node_becomes_ready_or_is_gone_and_rests_otherwise() -> None:
    """Readers cache by version: it may not miss a change, nor rise by a mere refusal."""
    nodes = Nodes(FLEET, 0.0)
    seen = [nodes.version]
    nodes.set_capacity(STEADY, 1, 0.0)
    nodes.set_desired(STEADY, 2, 0.0)
    seen.append(nodes.version)
    nodes.advance(299.0)
    assert nodes.version == seen[-1]
    nodes.advance(300.0)
    seen.append(nodes.version)
    nodes.set_desired(STEADY, 0, 310.0)
    seen.append(nodes.version)
    nodes.advance(310.0 + DRAIN_SECONDS)
    seen.append(nodes.version)
    assert seen == sorted(set(seen))


def test_events_of_several_pools_come_in_the_order_of_time() -> None:
    """One long advance tells the same story as many short ones."""
    nodes = Nodes(FLEET, 0.0)
    for pool, at in ((STEADY, 0.0), (SPOT, 25.0)):
        nodes.set_capacity(pool, 0, at)
        nodes.set_desired(pool, 1, at)
    nodes.advance(200.0)
    times = [event.at for event in nodes.drain_events()]
    assert times == sorted(times)
    assert len(times) == 7 * len(ZONES)


def test_cost_is_billed_node_time_at_the_price_per_hour() -> None:
    """A node is billed from its launch, ready or not."""
    nodes = Nodes(FLEET, 0.0)
    nodes.set_desired(STEADY, 2, 0.0)
    nodes.set_desired(SPOT, 1, 1800.0)
    nodes.advance(3600.0)
    assert nodes.cost({STEADY: 1.0, SPOT: 0.4}) == pytest.approx(2.0 + 0.2)


def test_node_ids_look_like_instance_ids_and_repeat_from_run_to_run() -> None:
    """The same calls give the same nodes."""
    assert [node.id for node in started(SPOT, 2).ready(SPOT)] == [
        "i-" + "0" * 16 + "1",
        "i-" + "0" * 16 + "2",
    ]


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda nodes: nodes.set_desired("gpu", 1, 5.0), "valid: gpu-on-demand, gpu-spot"),
        (lambda nodes: nodes.set_desired(SPOT, -1, 5.0), "nodes: -1"),
        (lambda nodes: nodes.set_capacity(SPOT, -1, 5.0), "nodes: -1"),
        (lambda nodes: nodes.set_start_seconds(SPOT, -1.0), "start seconds"),
        (lambda nodes: nodes.advance(4.0), "before now"),
    ],
)
def test_an_impossible_call_is_refused(call: Callable[[Nodes], None], message: str) -> None:
    """Time does not run backwards, counts are not negative, pools have to exist."""
    nodes = Nodes(FLEET, 5.0)
    with pytest.raises(ValueError, match=message):
        call(nodes)


ACTIONS = st.tuples(
    st.sampled_from(["desired", "capacity", "suspend", "resume"]),
    st.sampled_from([STEADY, SPOT]),
    st.integers(0, 6),
    st.floats(0, 400),
)


def act(nodes: Nodes, action: str, pool: str, count: int, at: float) -> None:
    """Do to a pool at `at` what the action says."""
    nodes.advance(at)
    if action == "desired":
        nodes.set_desired(pool, count, at)
    elif action == "capacity":
        nodes.set_capacity(pool, count, at)
    elif action == "suspend":
        nodes.suspend(pool)
    else:
        nodes.resume(pool)


@given(st.lists(ACTIONS, max_size=30))
def test_a_group_never_holds_more_than_desired_nor_launches_beyond_capacity(
    actions: list[tuple[str, str, int, float]],
) -> None:
    """What exists grows only by launches that capacity admits, and members never exceed desired."""
    nodes, at, limit = Nodes(FLEET, 0.0), 0.0, {STEADY: 99, SPOT: 99}
    for action, pool, count, wait in actions:
        at += wait
        before = len(nodes.existing(pool))
        act(nodes, action, pool, count, at)
        if action == "capacity":
            limit[pool] = count
        for name in (STEADY, SPOT):
            assert len(nodes.members(name)) <= nodes.desired(name)
        assert len(nodes.existing(pool)) <= max(before, limit[pool])


@given(st.lists(ACTIONS, max_size=20), st.lists(st.floats(0, 8000), max_size=20))
def test_advancing_in_small_steps_changes_nothing(
    actions: list[tuple[str, str, int, float]], stops: list[float]
) -> None:
    """Retries, replacements and removals happen at their own second, whoever looks in between."""

    def history(pauses: list[float]) -> list[object]:
        nodes, at = Nodes(FLEET, 0.0), 0.0
        for action, pool, count, wait in actions:
            for pause in sorted(pauses):
                if at < pause < at + wait:
                    nodes.advance(pause)
            at += wait
            act(nodes, action, pool, count, at)
        return [nodes.existing(STEADY), nodes.existing(SPOT), nodes.drain_events(), nodes.version]

    assert history(stops) == history([])
