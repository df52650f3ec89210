"""The real core under faults: a world with demand, steered through an embedded AWS that is starved.

`test_faults` says what the shell does about each fault, whatever is decided; here stands what becomes of
the fleet. All tests share one world: each finds it healed and settled, and may leave it as it likes.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import closing
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest

from control_lambda import handler, signals
from control_lambda.core.fleet import Fleet, parse_fleet
from control_lambda.loop import Record, iso_time

if TYPE_CHECKING:
    from twin.aws_steering import AwsSteering
    from twin.world import World

FAST, FAST_SPOT, SLOW = "fast-on-demand", "fast-spot", "slow-on-demand"
PRICES = {FAST: 1.0, FAST_SPOT: 0.3, SLOW: 0.8}
RPM = 300
MORE_RPM = 450
MINUTE = 60.0
DAY = 86_400.0
DAYS = 3
LONGEST_SETTLING = 30


@pytest.fixture(scope="module")
def quick_fleet(fleet: Fleet) -> Fleet:
    """The shell's fleet with nodes that start within a minute, and cheap spot nodes."""
    raw = fleet.model_dump(mode="json", exclude_defaults=True)
    for unit in raw["units"]:
        unit["profile"]["start_seconds"] = MINUTE
        for pool in unit["pools"]:
            pool["price_usd_per_hour"] = PRICES[f"{unit['name']}-{pool['market']}"]
    return parse_fleet(raw)


@dataclass
class Site:
    """A world under way: `record` is the last scheduled tick's, `failed` counts requests without answer."""

    world: World
    steering: AwsSteering
    failing: set[str] = field(default_factory=set)
    record: Record = field(default_factory=dict)
    failed: int = 0

    def minute(self) -> Record:
        """One minute: the scheduled tick, what AWS announces, and the requests."""
        self.world.begin_minute()
        announced = self.world.events()
        record = self.steering.schedule()
        for event in announced + self.world.events():
            self.steering.react([event])
        self.failed = self.world.end_minute().failed
        assert record is not None
        self.record = record
        return record

    def minutes(self, count: int) -> list[Record]:
        """Some minutes, none of which fails a request."""
        return [self.minute() for _ in range(count) if not self.failed]

    def demand(self, rpm: int) -> None:
        """From now on so many requests come in every minute."""
        from twin.trace import Demand  # noqa: PLC0415 - seconds of imports that the core's tests do not need
        from twin.world import EPOCH  # noqa: PLC0415 - see above

        requests = np.full(DAYS * 1440, rpm, np.int64)
        self.world.scenario = replace(self.world.scenario, demand=Demand(requests, epoch=EPOCH))

    def fail(self, action: str, code: str) -> None:
        """Answer every call of the action with the error until healed."""
        self.failing.add(action)
        self.steering.cloud.fail(action, code, -1)

    def heal(self) -> None:
        """End every fault, and have the loop begin anew with four nodes ready."""
        cloud, world, environment = self.steering.cloud, self.world, self.steering.ports.environment
        for action in self.failing:
            cloud.fail(action, "", 0)
        self.failing.clear()
        cloud.silence(until=0.0)
        for pool in world.fleet.pools:
            cloud.set_capacity(pool.name, None)
            cloud.set_ready(pool.name, 4 if pool.name == FAST_SPOT else 0)
            cloud.busy(pool.name, world.now)
        self.put_fleet(world.fleet.to_json())
        key = {"fleet": {"S": environment.cluster_name}}
        cloud.client("dynamodb").delete_item(TableName=environment.state_table, Key=key)

    def settle(self) -> None:
        """Let minutes pass until nothing is written, nothing fails and no node starts."""
        self.demand(RPM)
        quiet = 0
        for _ in range(LONGEST_SETTLING):
            record = self.minute()
            calm = not (record["writes"] or record["failures"] or self.failed or self.starting())
            quiet = quiet + 1 if calm else 0
            if quiet == 2:  # noqa: PLR2004 - one may be by chance
                return
        raise AssertionError(f"not settled: {record}")

    def starting(self) -> int:
        """How many nodes are not ready yet."""
        return sum(len(self.world.nodes.starting(pool.name)) for pool in self.world.fleet.pools)

    def sizes(self) -> dict[str, int]:
        """Every group's desired size."""
        return {pool.name: self.world.nodes.desired(pool.name) for pool in self.world.fleet.pools}

    def put_fleet(self, text: str) -> None:
        """Replace what the fleet parameter holds."""
        name = self.steering.ports.environment.fleet_parameter
        self.steering.cloud.client("ssm").put_parameter(Name=name, Value=text, Type="String", Overwrite=True)

    def tick(self, at: float, ports: handler.Ports | None = None) -> Record:
        """One more tick, for `at`."""
        return handler.run({"time": iso_time(at), "cause": "schedule"}, ports or self.steering.ports)


@pytest.fixture(scope="module")
def shared_site(quick_fleet: Fleet) -> Iterator[Site]:
    """The module's world, at its beginning."""
    from twin.aws_steering import AwsSteering  # noqa: PLC0415 - seconds of imports, as above
    from twin.trace import CapacityTrace, Demand, Prices  # noqa: PLC0415 - see above
    from twin.world import EPOCH, Scenario, World  # noqa: PLC0415 - see above

    demand = Demand(np.full(DAYS * 1440, RPM, np.int64), epoch=EPOCH)
    world = World(Scenario(quick_fleet, demand, CapacityTrace({}), Prices({})))
    with closing(AwsSteering(world)) as steering:
        yield Site(world, steering)


@pytest.fixture
def site(shared_site: Site) -> Site:
    """The module's world, healed and settled."""
    shared_site.heal()
    shared_site.settle()
    return shared_site


def codes(record: Record) -> set[str]:
    """The reasons' codes."""
    return {reason["code"] for reason in record["reasons"]}


def resized(records: list[Record]) -> set[str]:
    """The pools whose size was written."""
    return {write["subject"] for record in records for write in record["writes"] if write["what"] == "size"}


def is_carried(record: Record) -> bool:
    """Whether the sizes that stand carry MORE_RPM, at 120 requests a minute and node when never idle."""
    return sum(pool["desired"] for pool in record["pools"].values()) * 120 > MORE_RPM


@pytest.mark.parametrize("fault", ["throttled", "empty"])
def test_ten_minutes_without_metrics_hold_the_sizes_and_alarm_and_end(site: Site, fault: str) -> None:
    """Demand grows unseen: nothing shrinks, nothing is guessed; afterwards the fleet catches up."""
    before = site.sizes()
    if fault == "throttled":
        site.fail("GetMetricData", "Throttling")
    else:
        site.steering.cloud.silence(until=site.world.now + 10 * MINUTE)
    blind = site.minutes(10)
    assert site.sizes() == before
    assert "demand-stale" in codes(blind[-1])
    assert blind[-1]["signal_age_seconds"] > 600
    assert all(("metrics: Throttling" in record["failures"]) == (fault == "throttled") for record in blind)
    site.steering.cloud.fail("GetMetricData", "", 0)
    site.demand(MORE_RPM)
    after = site.minutes(8)
    assert after[-1]["failures"] == []
    assert "demand-stale" not in codes(after[-1])
    assert is_carried(after[-1])


def test_a_node_group_that_is_busy_for_an_hour_is_held_while_the_others_grow(site: Site) -> None:
    """It keeps its nodes and its traffic, and is told to be held; then it is sized again."""
    site.steering.cloud.busy(FAST_SPOT, site.world.now + 60 * MINUTE)
    held = site.sizes()[FAST_SPOT]
    site.demand(MORE_RPM)
    busy = site.minutes(60)
    assert all("node-group-held" in codes(record) for record in busy)
    assert resized(busy) == {SLOW}
    assert site.sizes()[FAST_SPOT] == held
    assert FAST_SPOT in resized(site.minutes(10))
    assert site.sizes()[SLOW] == 0


def test_x(site: Site) -> None:
    """X."""
    for _ in range(3):
        r=site.minute(); print(r["at"], r["forecast_rpm"], r["writes"], [str(x["code"]) for x in r["reasons"]], site.failed, site.sizes())
    site.demand(MORE_RPM)
    for _ in range(15):
        r=site.minute(); print(r["at"], r["forecast_rpm"], r["writes"], [str(x["code"]) for x in r["reasons"]], site.failed, site.sizes())
    assert 0
