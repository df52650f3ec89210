"""The scenarios of a game day: what the stack's experiments are tagged with, and which pools they concern."""

from enum import StrEnum
from typing import Final

from control_lambda.core.fleet import Fleet, Market, Pool

SCENARIO_TAG: Final = "fulcrum:scenario"
POOL_TAG: Final = "fulcrum:pool"
# The alarms, as their names end, that mean harm to users; no scenario has to ring one, and each ends it.
HARM_TO_USERS: Final = ("objective-missed", "no-ready-unit")


class Experiment(StrEnum):
    """The Fault Injection experiments that a stack holds as templates."""

    SHORTAGE = "shortage"
    SPOT_LOSS = "spot-loss"
    NODE_TERMINATED = "node-terminated"


def cheapest(fleet: Fleet, market: Market | None = None) -> Pool | None:
    """The pool that serves a request for least, of one market or of all; None: the fleet has none there."""

    def usd_per_request(pool: Pool) -> float:
        return pool.price_usd_per_hour * fleet.unit_of[pool.name].profile.service_seconds

    pools = [pool for pool in fleet.pools if market in (None, pool.market) and pool.nodes.max]
    return min(pools, key=usd_per_request, default=None)
