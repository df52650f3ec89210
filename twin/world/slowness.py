"""What servers say of themselves: a node that takes far longer than its unit's profile puts how long."""

from collections.abc import Mapping
from typing import Final

from control_lambda.core.fleet import Fleet
from twin.world.metrics import AVERAGE_DIGITS
from twin.world.nodes import Nodes
from twin.world.plant import Plant

# As containers/serving does: so much slower than the profile is beyond what requests and hosts differ by.
REPORTED_FACTOR: Final = 1.3


def slow_nodes(fleet: Fleet, nodes: Nodes, plant: Plant, weights: Mapping[str, int]) -> dict[str, float]:
    """The seconds that a request takes on each slow node that answers, by the node's id.

    Who gets no traffic measures nothing. The twin assumes that a minute is enough to tell.
    """
    found = {}
    for unit in fleet.units:
        if not weights.get(unit.name):
            continue
        for pool in unit.pools:
            for node in nodes.ready(pool.name):
                seconds = round(plant.service_seconds(unit.name) * node.slow_factor, AVERAGE_DIGITS)
                if seconds > REPORTED_FACTOR * unit.profile.service_seconds:
                    found[node.id] = seconds
    return found
