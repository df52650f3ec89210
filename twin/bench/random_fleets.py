"""Random fleets for random histories: small, valid, and of every shape that fleet.yaml allows."""

import random
from typing import Any, Final, get_args

from control_lambda.core.fleet import DEFAULT_POLICY, Fleet, Policy, parse_fleet

# Two units of one type share its shortages, two of one family its quota.
TYPES: Final = ("inf2.xlarge", "trn1.2xlarge", "g5.xlarge", "g5.xlarge", "g6.xlarge")
OTHER_POLICIES: Final = tuple(name for name in get_args(Policy) if name != DEFAULT_POLICY)
OTHER_POLICY_SHARE: Final = 0.3
# Of what all nodes together cost; above 1 even prices that rise leave it open.
BUDGET_SHARES: Final = (0.3, 0.7, 2.0, 2.0, 2.0)


def random_fleet(draw: random.Random) -> Fleet:
    """A valid fleet of one to five small units, in either market or both."""
    units = [_random_unit(draw, number) for number in range(draw.randint(1, 5))]
    pools = [pool for unit in units for pool in unit["pools"]]
    floor = sum(pool["nodes"]["min"] * pool["price_usd_per_hour"] for pool in pools)
    most = sum(pool["nodes"]["max"] * pool["price_usd_per_hour"] for pool in pools)
    return parse_fleet(
        {
            "fleet": "random-fleet",
            "model": "some/model",
            "objective": {"latency_seconds": draw.choice((1.0, 2.0, 2.0, 4.0))},
            "budget_usd_per_hour": max(floor, draw.choice(BUDGET_SHARES) * most) + 0.01,
            "policy": _random_policy(draw),
            "reserve": {"spot": draw.choice((0.0, 0.3, 0.5)), "on-demand": draw.choice((0.0, 0.0, 0.2))},
            "threshold": draw.choice((0.5, 1.0, 1.0, 1.5)),
            "units": units,
        }
    )


def _random_policy(draw: random.Random) -> str:
    return draw.choice(OTHER_POLICIES) if draw.random() < OTHER_POLICY_SHARE else DEFAULT_POLICY


def _random_unit(draw: random.Random, number: int) -> dict[str, Any]:
    service = draw.uniform(0.3, 1.1)
    markets = draw.choice((("on-demand",), ("spot",), ("on-demand", "spot")))
    return {
        "name": f"unit-{number}",
        "instance_type": draw.choice(TYPES),
        "accelerator": draw.choice(("neuron", "nvidia")),
        "framework": "eager",
        "profile": {
            "service_seconds": service,
            "throughput_rpm": 54.0 / service,
            "latency_seconds": 1.2 * service,
            "start_seconds": draw.choice((60.0, 180.0, 600.0)),
        },
        "pools": [_random_pool(draw, market) for market in markets],
    }


def _random_pool(draw: random.Random, market: str) -> dict[str, Any]:
    most = draw.choice((1, 2, 5, 10))
    least = draw.choice((0, 0, 0, 1, most))
    price = draw.uniform(0.3, 1.5)
    return {"market": market, "nodes": {"min": least, "max": most}, "price_usd_per_hour": price}


def edited(fleet: Fleet) -> Fleet:
    """The fleet after its owner took out the last unit, and halved the pools of the others."""
    raw = fleet.model_dump()
    if len(raw["units"]) > 1:
        raw["units"] = raw["units"][:-1]
    for unit in raw["units"]:
        for pool in unit["pools"]:
            pool["nodes"]["max"] = max(pool["nodes"]["min"], -(-pool["nodes"]["max"] // 2))
    return parse_fleet(raw)


def most_rpm(fleet: Fleet) -> float:
    """What the fleet serves at the most with every node busy all the time."""
    return sum(
        pool.nodes.max * 60.0 / fleet.unit_of[pool.name].profile.service_seconds for pool in fleet.pools
    )
