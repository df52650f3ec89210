"""How often a pool's nodes are taken away, and what that makes a node there worth less.

A node that is lost leaves its requests waiting or failing until another one has started. A pool whose
nodes last for half an hour is therefore dearer than its price says; one whose nodes last for days is not.
"""

import math
from typing import Final

from control_lambda.core.fleet import Unit
from control_lambda.core.model import Losses, NodesMemory, Snapshot, State

# What happened this long ago counts half: a market that was restless this morning may be calm tonight.
HALF_LIFE_SECONDS: Final = 21600.0
# Before anything is known: one node lost in 100 node-hours of spot, held with the weight of two. AWS gives
# monthly frequencies of less than 5 to more than 20 % (Spot Instance Advisor): far rarer, so two calm
# hours already count for more.
PRIOR_LOST: Final = 0.02
PRIOR_NODE_HOURS: Final = 2.0
# A gap between ticks says nothing about how long the nodes were there.
LONGEST_TICK_SECONDS: Final = 300.0
# Rates are told in steps of a quarter, so that they do not change the plan every minute.
RATE_STEP: Final = 1.25
# From the loss to the launch of another node: the next tick.
NOTICE_SECONDS: Final = 60.0
# The share of a lost node's requests that comes late: what is ready elsewhere takes the rest. Chosen on the
# evaluation's D4: none of it makes a third more flips, all of it costs a third more (decision 0010).
LATE_SHARE: Final = 1 / 3


def learn(before: State, snapshot: Snapshot) -> dict[str, Losses]:
    """Count the nodes that went although they were wanted, and the hours that all were there."""
    seconds = min(max(snapshot.at - before.at, 0.0), LONGEST_TICK_SECONDS)
    kept = 0.5 ** (seconds / HALF_LIFE_SECONDS)
    learned = dict(before.losses)
    for name, signals in snapshot.pools.items():
        known, held = learned.get(name, Losses()), before.in_service.get(name, 0)
        wanted = min(held, before.desired.get(name, held)) - _terminated(before, name)
        if held or name in learned:
            learned[name] = Losses(
                lost=known.lost * kept + max(0, wanted - signals.in_service),
                node_hours=known.node_hours * kept + held * seconds / 3600,
            )
    return learned


def _terminated(before: State, pool: str) -> int:
    """The nodes that the last tick itself took away."""
    return before.nodes.get(pool, NodesMemory()).terminated.count(before.at)


def rate_per_hour(known: Losses | None, market: str) -> float:
    """The nodes lost in a node-hour, rounded to a step; 0 on demand, where nodes are not taken away."""
    if market != "spot":
        return 0.0
    known = known or Losses()
    rate = (known.lost + PRIOR_LOST) / (known.node_hours + PRIOR_NODE_HOURS)
    return RATE_STEP ** round(math.log(rate, RATE_STEP))


def risk_usd_per_hour(rate: float, unit: Unit, usd_per_late_request: float) -> float:
    """What a node's losses cost in an hour: the requests that come late until it is replaced."""
    outage_minutes = (unit.profile.start_seconds + NOTICE_SECONDS) / 60
    rpm = 60 / unit.profile.service_seconds
    return rate * outage_minutes * rpm * LATE_SHARE * usd_per_late_request
