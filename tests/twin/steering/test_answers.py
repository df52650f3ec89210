"""The loop's ports over a world in memory: what they refuse, and what fails."""

from functools import cache

import numpy as np
import pytest
from botocore.exceptions import ClientError

from control_lambda.core.fleet import Fleet
from control_lambda.core.model import State, Suspension
from control_lambda.errors import NotDeployedError, code_of
from control_lambda.fleet_file import load_fleet
from twin.bench.scenarios import ROOT
from twin.steering.answers import Failing, nothing_fails
from twin.steering.steering import WorldPorts
from twin.world.trace import CapacityTrace, Demand, PriceTrace
from twin.world.world import EPOCH, Scenario, World

POOL = "inf2-neuron-on-demand"


@cache
def fleet() -> Fleet:
    """The default fleet."""
    return load_fleet(ROOT / "fleet.yaml")


def ports(failing: Failing = nothing_fails) -> tuple[World, WorldPorts]:
    """A quiet world with one ready node per pool, and the ports over it."""
    demand = Demand(np.full(60, 10, np.int64), epoch=EPOCH)
    world = World(Scenario(fleet(), demand, CapacityTrace({}), PriceTrace({})))
    return world, WorldPorts(world, failing)


@pytest.mark.parametrize(("decrement", "desired"), [(True, 0), (False, 1)])
def test_a_node_that_is_terminated_leaves_its_place_or_takes_it_along(
    decrement: bool,  # noqa: FBT001 - a parameter of the test
    desired: int,
) -> None:
    """Without its place another one starts; the old one is billed until it is gone."""
    world, hand = ports()
    [node] = hand.sense(fleet(), world.now, ()).pools[POOL].nodes
    hand.terminate(node, decrement=decrement)
    signals = hand.sense(fleet(), world.now, ()).pools[POOL]
    assert (signals.desired, signals.in_service, signals.terminating) == (desired, desired, 1)
    assert node not in signals.nodes


def test_rebalancing_is_suspended_and_resumed() -> None:
    """And read back; launches go on."""
    world, hand = ports()
    hand.sense(fleet(), world.now, ())
    hand.suspend_rebalancing(POOL)
    suspended = hand.sense(fleet(), world.now, ()).pools[POOL]
    hand.resume_rebalancing(POOL)
    resumed = hand.sense(fleet(), world.now, ()).pools[POOL]
    assert suspended.rebalance_suspended is Suspension.LOOP_OR_PERSON
    assert (suspended.launch_suspended, resumed.rebalance_suspended) == (Suspension.NONE, Suspension.NONE)


def test_a_size_above_the_groups_maximum_is_refused_as_aws_refuses_it() -> None:
    """With AWS's code."""
    world, hand = ports()
    world.nodes.set_maximum(POOL, 2, world.now)
    hand.sense(fleet(), world.now, ())
    with pytest.raises(ClientError) as refused:
        hand.set_desired(POOL, 3)
    assert code_of(refused.value) == "ValidationError"


def test_a_pool_whose_group_was_not_found_cannot_be_sized() -> None:
    """Its group has no name then, as in AWS."""
    _, hand = ports()
    with pytest.raises(NotDeployedError, match=f"{POOL}: no Auto Scaling group"):
        hand.set_desired(POOL, 3)


def test_a_table_that_does_not_answer_lets_no_memory_method_through() -> None:
    """Neither lease nor state nor release."""
    world, hand = ports(lambda action, _: "InternalServerError" if action == "UpdateItem" else None)
    for call in (lambda: hand.acquire(world.now), lambda: hand.save(State(), ()), hand.release):
        with pytest.raises(ClientError, match="InternalServerError"):
            call()


def test_what_stands_is_not_joined_again() -> None:
    """The very same pools, until a node, a setting or an answer changes."""
    world, hand = ports()
    first, second = (hand.sense(fleet(), world.now, ()).pools for _ in range(2))
    assert first[POOL] is second[POOL]
    hand.set_desired(POOL, 2)
    third = hand.sense(fleet(), world.now, ()).pools
    assert (third[POOL].desired, third[POOL].in_service) == (2, 2)
    world.now += 40
    world.nodes.advance(world.now)
    states = [node.in_service for node in third[POOL].nodes.values()]
    later = [node.in_service for node in hand.sense(fleet(), world.now, ()).pools[POOL].nodes.values()]
    assert (states, later) == ([True, False], [True, True])
