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
from control_lambda.core.model import Snapshot
from control_lambda.loop import Record, iso_time
from control_lambda.ports import Settings

if TYPE_CHECKING:
    from control_lambda.aws import AwsActuators
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

    @property
    def environ(self) -> Mapping[str, str]:
        """The environment of the Lambdas."""
        return self.steering.environ

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
        """Some minutes, none of which may fail a request."""
        records = []
        for _ in range(count):
            records.append(self.minute())
            assert self.failed == 0
        return records

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

    def heal_calls(self) -> None:
        """Have every action answer again."""
        for action in self.failing:
            self.steering.cloud.fail(action, "", 0)
        self.failing.clear()

    def heal(self) -> None:
        """End every fault, and have the loop begin anew with four nodes ready."""
        cloud, world, environment = self.steering.cloud, self.world, self.steering.ports.environment
        self.heal_calls()
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
            moving = record["writes"] or record["failures"] or self.failed or self.starting()
            quiet = 0 if moving or record["demand_rpm"] < RPM else quiet + 1
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


def assert_stands(site: Site) -> None:
    """What the last record says is what AWS holds, and no weight lies where nothing is ready."""
    units, pools = site.record["units"], site.record["pools"]
    assert dict(site.world.weights) == {name: unit["weight"] for name, unit in units.items()}
    assert site.sizes() == {name: pool["desired"] for name, pool in pools.items()}
    assert all(unit["ready"] or not unit["weight"] for unit in units.values())


def with_minimum(fleet: Fleet, nodes: int) -> Fleet:
    """The fleet with so many nodes at least in every pool."""
    raw = fleet.model_dump(mode="json", exclude_defaults=True)
    for unit in raw["units"]:
        for pool in unit["pools"]:
            pool["nodes"]["min"] = nodes
    return parse_fleet(raw)


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
    assert blind[-1]["signal_age_seconds"] >= 9 * MINUTE
    assert all(("metrics: Throttling" in record["failures"]) == (fault == "throttled") for record in blind)
    site.heal_calls()
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
    assert FAST_SPOT not in resized(busy)
    assert site.sizes()[FAST_SPOT] == held
    assert is_carried(busy[-1])
    assert FAST_SPOT in resized(site.minutes(10))


def test_weights_that_cannot_be_written_keep_ready_nodes_in_service(site: Site) -> None:
    """The resize went through before; while the rule is uncertain nothing shrinks; then both are as decided."""
    site.steering.cloud.set_ready(SLOW, 6)
    site.fail("ModifyRule", "InternalFailure")
    site.steering.ports.actuators.set_desired(FAST, 1)
    refused = site.minutes(6)
    assert "weights: InternalFailure" in refused[-1]["failures"]
    assert min(site.sizes()[SLOW], site.sizes()[FAST_SPOT]) > 0
    site.heal_calls()
    after = site.minutes(8)
    assert after[-1]["failures"] == []
    assert_stands(site)


@dataclass
class Mortal:
    """Actuators whose process dies after `writes` writes."""

    actuators: AwsActuators
    writes: int

    def _write(self) -> None:
        if not self.writes:
            raise Killed
        self.writes -= 1

    def set_weights(self, weights: Mapping[str, int]) -> Mapping[str, int]:
        """Write the weights while alive."""
        self._write()
        return self.actuators.set_weights(weights)

    def set_desired(self, pool: str, nodes: int) -> None:
        """Set a size while alive."""
        self._write()
        self.actuators.set_desired(pool, nodes)

    def resume_launches(self, pool: str) -> None:
        """Resume launches while alive."""
        self._write()
        self.actuators.resume_launches(pool)


class Killed(BaseException):
    """The process ends here, as when Lambda kills it."""


@pytest.mark.parametrize("writes", range(3))
def test_a_crash_between_any_two_writes_is_repaired_by_the_next_tick(site: Site, writes: int) -> None:
    """Weights are wrong and every group is too small; nobody notices that a tick died in between."""
    site.steering.ports.actuators.set_weights({"fast": 1, "slow": 1})
    site.put_fleet(with_minimum(site.world.fleet, 1).to_json())
    ports = site.steering.ports
    mortal = replace(ports, actuators=Mortal(ports.actuators, writes))
    with pytest.raises(Killed):
        site.tick(site.world.now + 1, mortal)
    assert site.tick(site.world.now + 2) == {"skipped": "lease-held: another tick is running"}
    record = site.minute()
    assert record["failures"] == []
    assert record["tick"] == site.ticks + 1
    assert_stands(site)


def test_of_two_ticks_at_once_one_acts_and_the_other_touches_nothing(site: Site) -> None:
    """The second starts while the first senses."""
    ports = site.steering.ports
    other = handler.Ports.connect(site.environ, site.steering.cloud.connect)
    skipped: list[Record] = []

    class Interleaved:
        """Sensors during whose work another tick starts."""

        def settings(self) -> Settings:
            """As the sensors say."""
            skipped.append(site.tick(site.world.now + 1, other))
            return ports.sensors.settings()

        def sense(self, *arguments: Any) -> Snapshot:
            """As the sensors say."""
            return ports.sensors.sense(*arguments)

    site.steering.ports.actuators.set_weights({"fast": 1, "slow": 1})
    acting = site.tick(site.world.now, replace(ports, sensors=Interleaved()))
    assert skipped == [{"skipped": "lease-held: another tick is running"}]
    assert acting["failures"] == []
    assert [write["what"] for write in acting["writes"]] == ["weights"]


def test_a_foreign_hand_on_the_weights_is_reported_and_corrected_at_once(site: Site) -> None:
    """Half of the requests went to a unit without nodes; one tick later none does."""
    site.steering.ports.actuators.set_weights({"fast": 1, "slow": 1})
    record = site.minute()
    assert "foreign-weights" in codes(record)
    assert record["writes"][0]["before"] == {"fast": 1, "slow": 1}
    assert site.failed == 0
    assert_stands(site)


def test_a_lost_lease_loses_only_the_memory_of_one_tick(site: Site) -> None:
    """DynamoDB refuses to save; what was written stands, and the next tick knows it."""
    ports = site.steering.ports
    site.steering.ports.actuators.set_weights({"fast": 1, "slow": 1})

    class Losing:
        """Actuators during whose write another tick takes the lease."""

        def set_weights(self, weights: Mapping[str, int]) -> Mapping[str, int]:
            """Write, and lose the lease."""
            site.steering.cloud.fail("UpdateItem", "ConditionalCheckFailedException", 1)
            return ports.actuators.set_weights(weights)

    record = site.tick(site.world.now, replace(ports, actuators=Losing()))
    assert [failure.split(":")[0] for failure in record["failures"]] == ["lease-lost"]
    after = site.minute()
    assert (after["tick"], after["writes"]) == (record["tick"], [])
    assert_stands(site)


def test_a_clock_that_jumps_a_day_ahead_and_back_does_not_freeze_the_loop(site: Site) -> None:
    """Launches were refused and nodes were starting when it jumped; an hour later all is forgotten."""
    site.steering.cloud.set_capacity(FAST_SPOT, 4)
    site.steering.cloud.set_capacity(FAST, 0)
    site.demand(MORE_RPM)
    site.minutes(4)
    site.tick(site.world.now + DAY)
    back = site.minute()
    assert back["failures"][0].startswith("clock-jumped: ")
    assert back["at"] < site.world.now
    site.steering.cloud.set_capacity(FAST_SPOT, None)
    site.steering.cloud.set_capacity(FAST, None)
    after = site.minutes(20)
    assert after[-1]["failures"] == []
    assert [pool["evidence"] for pool in after[-1]["pools"].values()] == ["", "", ""]
    assert is_carried(after[-1])
    assert after[-1]["pools"][FAST_SPOT]["ready"] > 4


def test_every_pool_short_at_once_keeps_every_ready_node_serving(site: Site) -> None:
    """No refusal takes weight or nodes away; it is told, probed for, and made good when capacity is back."""
    for pool, nodes in site.sizes().items():
        site.steering.cloud.set_capacity(pool, nodes)
    site.demand(MORE_RPM)
    short = site.minutes(15)
    assert {pool["evidence"] for pool in short[-1]["pools"].values()} == {"shortage"}
    assert "shortfall" in set().union(*(codes(record) for record in short))
    assert all(record["units"]["fast"]["weight"] > 0 for record in short)
    assert all(record["pools"][FAST_SPOT]["ready"] == 4 for record in short)
    for pool in site.sizes():
        site.steering.cloud.set_capacity(pool, None)
    assert is_carried(site.minutes(15)[-1])


def test_without_a_price_feed_the_last_good_price_stays(site: Site) -> None:
    """Signals read it once; then neither it nor CloudWatch answers."""
    cloud = site.steering.cloud
    lambda_ = signals.Signals.connect(site.environ, cloud.connect)
    cloud.set_price(FAST_SPOT, 0.37)
    signals.run({"prices": True, "time": iso_time(site.world.now)}, lambda_)
    cloud.set_price(FAST_SPOT, PRICES[FAST_SPOT])
    assert site.minute()["pools"][FAST_SPOT]["price"] == 0.37
    site.fail("DescribeSpotPriceHistory", "RequestLimitExceeded")
    with pytest.raises(signals.PricesMissingError):
        signals.run({"prices": True, "time": iso_time(site.world.now)}, lambda_)
    site.fail("GetMetricData", "Throttling")
    assert site.minute()["pools"][FAST_SPOT]["price"] == 0.37


def test_garbage_in_the_fleet_parameter_keeps_the_last_good_fleet_in_force(site: Site) -> None:
    """It alarms in every tick, and demand is still followed."""
    site.put_fleet("garbage")
    site.demand(MORE_RPM)
    records = site.minutes(8)
    assert all("fleet-invalid" in codes(record) for record in records)
    assert all(record["failures"][0].startswith("fleet-invalid: ") for record in records)
    assert is_carried(records[-1])


def test_while_nobody_can_tell_whether_it_is_paused_the_loop_only_observes(site: Site) -> None:
    """Demand grows and is reported; nothing is written until the parameters can be read."""
    site.fail("GetParameter", "AccessDeniedException")
    site.demand(MORE_RPM)
    before = site.sizes()
    observed = site.minutes(6)
    assert all("paused" in codes(record) and record["failures"] for record in observed)
    assert all(record["writes"] == [] for record in observed)
    assert observed[-1]["demand_rpm"] > RPM
    assert site.sizes() == before
    site.heal_calls()
    assert is_carried(site.minutes(3)[-1])
