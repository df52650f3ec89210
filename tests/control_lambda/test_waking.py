"""A fleet that may sleep is woken by those that come while nothing serves; through the embedded AWS."""

from collections.abc import Iterator
from contextlib import closing

import numpy as np
import pytest

from control_lambda.aws.rule import FIRST_PRIORITY
from control_lambda.core.fleet import Fleet, parse_fleet
from tests.control_lambda.steered_site import Site
from twin.steering.aws import AwsSteering
from twin.world.trace import CapacityTrace, Demand, PriceTrace
from twin.world.world import EPOCH, Scenario, World

QUIET = 6  # minutes without a request
RPM = 60
LONGEST_WAKING = 10  # minutes: counts are up to four late, a node starts in two


@pytest.fixture(scope="module")
def sleepy_fleet(fleet: Fleet) -> Fleet:
    """The shell's fleet, every pool from 0 nodes on, with nodes that start within two minutes."""
    raw = fleet.model_dump(mode="json", exclude_defaults=True)
    for unit in raw["units"]:
        unit["profile"]["start_seconds"] = 90.0
    return parse_fleet(raw)


@pytest.fixture
def asleep(sleepy_fleet: Fleet) -> Iterator[Site]:
    """A world in which no node runs and no rule stands; requests come after some quiet minutes."""
    requests = np.full(180, RPM, np.int64)
    requests[:QUIET] = 0
    world = World(Scenario(sleepy_fleet, Demand(requests, epoch=EPOCH), CapacityTrace({}), PriceTrace({})))
    with closing(AwsSteering(world)) as steering:
        for pool in sleepy_fleet.pools:
            steering.cloud.set_ready(pool.name, 0)
        delete_the_rule(steering)
        yield Site(world, steering)


def delete_the_rule(steering: AwsSteering) -> None:
    """As before the first node was ever ready: the listener's default action answers every request."""
    elbv2, listener = steering.cloud.client("elbv2"), steering.ports.environment.listener_arn
    rules = elbv2.describe_rules(ListenerArn=listener)["Rules"]
    (ours,) = (rule["RuleArn"] for rule in rules if rule["Priority"] == str(FIRST_PRIORITY))
    elbv2.delete_rule(RuleArn=ours)


def test_requests_that_nothing_serves_wake_the_first_pool(asleep: Site) -> None:
    """Fixed responses, each counted once, launch a node; it makes the rule when it is ready, and serves."""
    world = asleep.world
    for _ in range(QUIET):
        assert not any(write["what"] in {"size", "weights"} for write in asleep.minute()["writes"])
    assert world.weights == {}
    sizes: list[int] = []
    ruled: list[bool] = []
    failed: list[int] = []
    demands: list[float] = []
    for _ in range(LONGEST_WAKING):
        record = asleep.minute()
        assert record["failures"] == []
        sizes.append(sum(asleep.sizes().values()))
        ruled.append(any(world.weights.values()))
        failed.append(asleep.failed)
        demands.append(record["demand_rpm"])
    launched, served = next(minute for minute, nodes in enumerate(sizes) if nodes), ruled.index(True)
    assert launched < served
    assert failed[:served] == [RPM] * served
    assert failed[-1] == 0
    assert max(demands) == pytest.approx(RPM, rel=0.05)
