"""What slow nodes of the twin say of themselves, and when it can be seen."""

import numpy as np

from tests.control_lambda.core.examples import fleet, unit
from twin.world.trace import CapacityTrace, Demand, DemandOptions, PriceTrace
from twin.world.trouble import Trouble
from twin.world.world import EPOCH, Scenario, World

FLEET = fleet(unit("neuron"), unit("idle"))
MINUTES = 12
SLOW = {"what": "node-slow", "pool": "neuron-on-demand", "nodes": 1, "factor": 1.5}


def world_with(*entries: dict[str, object]) -> World:
    """Two units with a node each under steady demand; all of it goes to the first."""
    trouble = Trouble.parse({"trouble": list(entries)}, FLEET, MINUTES)
    demand = Demand(np.full(MINUTES, 30), DemandOptions(), seed=1, epoch=EPOCH)
    world = World(Scenario(FLEET, demand, CapacityTrace({}), PriceTrace({}), trouble=trouble))
    world.weights = {"neuron": 100, "idle": 0}
    return world


def run(world: World, minutes: int) -> None:
    """Let so many minutes pass."""
    for _ in range(minutes):
        world.begin_minute()
        world.end_minute()


def test_a_slow_node_says_how_long_a_request_takes() -> None:
    """Two minutes after the minute's end it can be seen; none who is well says anything."""
    world = world_with({"at": 1, **SLOW})
    (node,) = world.nodes.ready("neuron-on-demand")
    run(world, 3)
    assert world.slow_nodes_visible() == {}
    assert world.slow_nodes(EPOCH + 60) == {node.id: 0.75}
    run(world, 2)
    assert world.slow_nodes_visible() == {node.id: {EPOCH + 60: 0.75, EPOCH + 120: 0.75}}


def test_a_node_that_is_hardly_slower_says_nothing() -> None:
    """Up to 1.3 times the profile is within what requests and hosts differ by."""
    world = world_with({"at": 0, **SLOW, "factor": 1.3})
    run(world, 6)
    assert world.slow_nodes_visible() == {}


def test_a_unit_that_is_slow_whole_says_so_on_every_node_that_has_traffic() -> None:
    """Each server knows only itself."""
    slow: dict[str, object] = {"at": 0, "what": "unit-slow", "factor": 2}
    world = world_with({**slow, "unit": "neuron"}, {**slow, "unit": "idle"})
    run(world, 4)
    assert [list(seconds.values()) for seconds in world.slow_nodes_visible().values()] == [[1.0, 1.0]]
