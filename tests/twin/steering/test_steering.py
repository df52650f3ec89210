"""The loop over in-memory ports, from a shortage to where steady demand leaves it."""

import numpy as np

from control_lambda.fleet_file import load_fleet
from twin.bench.scenarios import ROOT
from twin.steering.replay import replay
from twin.steering.steering import CoreSteering
from twin.world.trace import CapacityTrace, Demand, DemandOptions, PriceTrace
from twin.world.world import EPOCH, Scenario

CHEAPEST = "inf2-neuron-on-demand"
SHORT_MINUTES, MINUTES = 180, 420


def test_under_steady_demand_the_loop_comes_back_to_the_cheapest_pool() -> None:
    """A shortage that is over is noticed although demand never moves: dearer nodes do not stay for ever."""
    limits = [0] * SHORT_MINUTES + [40] * (MINUTES - SHORT_MINUTES)
    demand = Demand(np.full(MINUTES, 400), DemandOptions(), seed=1, epoch=EPOCH)
    capacity = CapacityTrace({CHEAPEST: limits})
    scenario = Scenario(load_fleet(ROOT / "fleet.yaml"), demand, capacity, PriceTrace({}), seed=1)
    records = replay(scenario, "merit-order", CoreSteering).records
    sizes = {name: pool.desired for name, pool in records[-1].pools.items()}

    assert sizes.pop(CHEAPEST) > 0
    assert not any(sizes.values())
