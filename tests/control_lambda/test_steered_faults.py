"""The real core under faults: a world with demand, steered through an embedded AWS that is starved.

`test_faults` says what the shell does about each fault, whatever is decided; here stands what becomes of
the fleet. All tests share one world: each finds it healed and settled, and may leave it as it likes.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass, replace

import numpy as np
import pytest

from control_lambda import handler, signals
from control_lambda.core.fleet import Fleet, parse_fleet
from control_lambda.core.model import Evidence, Snapshot
from control_lambda.core.reasons import Code, Failure, Skip
from control_lambda.core.traffic.survival import VitalSigns
from control_lambda.ports import Actuators, Settings
from control_lambda.trigger import iso_time
from tests.control_lambda.fake_world import Record
from tests.control_lambda.steered_site import DAYS, FAST, FAST_SPOT, RPM, SETTLED, SLOW, Site
from twin.steering.aws import AwsSteering
from twin.world.trace import CapacityTrace, Demand, PriceTrace
from twin.world.world import EPOCH, Scenario, World

PRICES = {FAST: 1.0, FAST_SPOT: 0.3, SLOW: 0.8}
MORE_RPM = 450  # the four settled nodes only just survive it
MINUTE = 60.0
DAY = 86_400.0


@pytest.fixture(scope="module")
def quick_fleet(fleet: Fleet) -> Fleet:
    """The shell's fleet with nodes that start within two minutes, and at least four cheap spot nodes."""
    raw = fleet.model_dump(mode="json", exclude_defaults=True)
    for unit in raw["units"]:
        unit["profile"]["start_seconds"] = 1.5 * MINUTE
        for pool in unit["pools"]:
            pool["price_usd_per_hour"] = PRICES[f"{unit['name']}-{pool['market']}"]
            pool["nodes"]["min"] = SETTLED[f"{unit['name']}-{pool['market']}"]
    return parse_fleet(raw)


@pytest.fixture(scope="module")
def shared_site(quick_fleet: Fleet) -> Iterator[Site]:
    """The module's world, at its beginning."""
    demand = Demand(np.full(DAYS * 1440, RPM, np.int64), epoch=EPOCH)
    world = World(Scenario(quick_fleet, demand, CapacityTrace({}), PriceTrace({})))
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


def with_more_minimum(fleet: Fleet) -> Fleet:
    """The fleet with one on-demand node more at least in every unit."""
    raw = fleet.model_dump(mode="json", exclude_defaults=True)
    for unit in raw["units"]:
        unit["pools"][0]["nodes"]["min"] = 1
    return parse_fleet(raw)


def resized(records: list[Record]) -> set[str]:
    """The pools whose size was written."""
    return {write["subject"] for record in records for write in record["writes"] if write["what"] == "size"}


def has_grown(record: Record) -> bool:
    """Whether more nodes serve than when it was settled."""
    ready = sum(int(pool["ready"]) for pool in record["pools"].values())
    return ready > sum(SETTLED.values())


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
    assert Code.STALE in codes(blind[-1])
    assert blind[-1]["signal_age_seconds"] >= 9 * MINUTE
    assert all(("metrics: Throttling" in record["failures"]) == (fault == "throttled") for record in blind)
    site.heal_calls()
    site.demand(MORE_RPM)
    after = site.minutes(12)
    assert after[-1]["failures"] == []
    assert Code.STALE not in codes(after[-1])
    assert has_grown(after[-1])


def test_a_node_group_that_is_busy_for_an_hour_is_held_while_the_others_grow(site: Site) -> None:
    """It keeps its nodes and its traffic, and is told to be held; then it is sized again."""
    site.steering.cloud.busy(FAST_SPOT, site.world.now + 60 * MINUTE)
    held = site.sizes()[FAST_SPOT]
    site.demand(MORE_RPM)
    busy = site.minutes(15)
    for _ in range(40):
        site.lost_minute()
    busy += site.minutes(5)
    assert all(Code.HELD in codes(record) for record in busy)
    assert FAST_SPOT not in resized(busy)
    assert site.sizes()[FAST_SPOT] == held
    assert has_grown(busy[-1])
    assert FAST_SPOT in resized(site.minutes(10))


def test_weights_that_cannot_be_written_keep_ready_nodes_in_service(site: Site) -> None:
    """Somebody else sends half of the requests to dear nodes: they stay until the rule is right again."""
    site.steering.cloud.set_ready(SLOW, 6)
    site.steering.ports.actuators.set_weights({"fast": 1, "slow": 1})
    site.fail("ModifyRule", "InternalFailure")
    for record in site.minutes(6):
        assert "weights: InternalFailure" in record["failures"]
        assert record["pools"][SLOW]["ready"] == 6
    site.heal_calls()
    after = site.minutes(8)
    assert after[-1]["failures"] == []
    assert site.sizes()[SLOW] < 6
    assert_stands(site)


@dataclass
class Watched:
    """Actuators that call `before` ahead of every write."""

    actuators: Actuators
    before: Callable[[], None]

    def set_weights(self, weights: Mapping[str, int]) -> Mapping[str, int]:
        """Write the weights."""
        self.before()
        return self.actuators.set_weights(weights)

    def set_row(self, row: str, weights: Mapping[str, int]) -> Mapping[str, int]:
        """Write one row's weights."""
        self.before()
        return self.actuators.set_row(row, weights)

    def set_class_weights(self, name: str, weights: Mapping[str, int]) -> Mapping[str, int]:
        """Write the weights of a query class."""
        self.before()
        return self.actuators.set_class_weights(name, weights)

    def set_desired(self, pool: str, nodes: int) -> None:
        """Set a size."""
        self.before()
        self.actuators.set_desired(pool, nodes)

    def resume_launches(self, pool: str) -> None:
        """Resume launches."""
        self.before()
        self.actuators.resume_launches(pool)

    def terminate(self, node: str, *, decrement: bool) -> None:
        """Terminate a node."""
        self.before()
        self.actuators.terminate(node, decrement=decrement)

    def suspend_rebalancing(self, pool: str) -> None:
        """Suspend rebalancing."""
        self.before()
        self.actuators.suspend_rebalancing(pool)

    def resume_rebalancing(self, pool: str) -> None:
        """Resume rebalancing."""
        self.before()
        self.actuators.resume_rebalancing(pool)


class Killed(BaseException):
    """The process ends here, as when Lambda kills it."""


@pytest.mark.parametrize("writes", range(3))
def test_a_crash_between_any_two_writes_is_repaired_by_the_next_tick(site: Site, writes: int) -> None:
    """Somebody else changed the weights and the owner raised the minimum: three writes are due."""
    site.steering.ports.actuators.set_weights({"fast": 1, "slow": 1})
    site.put_fleet(with_more_minimum(site.world.fleet).to_json())
    ports, left = site.steering.ports, iter(range(writes))

    def die_when_all_are_made() -> None:
        if next(left, None) is None:
            raise Killed

    mortal = replace(ports, actuators=Watched(ports.actuators, die_when_all_are_made))
    with pytest.raises(Killed):
        site.tick(site.world.now, mortal)
    assert site.tick(site.world.now + 1) == {"skipped": Skip.LEASE_HELD.told()}
    site.lost_minute()
    record = site.minute()
    assert record["failures"] == []
    assert len(record["writes"]) == 3 - writes
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

        def sense(self, fleet: Fleet, at: float, evidence: Sequence[Evidence]) -> Snapshot:
            """As the sensors say."""
            return ports.sensors.sense(fleet, at, evidence)

        def vital_signs(self) -> VitalSigns:
            """As the sensors say."""
            return ports.sensors.vital_signs()

    site.steering.ports.actuators.set_weights({"fast": 1, "slow": 1})
    acting = site.tick(site.world.now, replace(ports, sensors=Interleaved()))
    assert skipped == [{"skipped": Skip.LEASE_HELD.told()}]
    assert acting["failures"] == []
    assert [write["what"] for write in acting["writes"]] == ["weights"]


def test_a_foreign_hand_on_the_weights_is_reported_and_corrected_at_once(site: Site) -> None:
    """Half of the requests went to a unit without nodes; one tick later none does."""
    site.steering.ports.actuators.set_weights({"fast": 1, "slow": 1})
    record = site.minute()
    assert Code.FOREIGN_WEIGHTS in codes(record)
    assert record["writes"][0]["before"] == {"fast": 1, "slow": 1}
    assert site.failed == 0
    assert_stands(site)


def test_a_lost_lease_loses_only_the_memory_of_one_tick(site: Site) -> None:
    """DynamoDB refuses to save; what was written stands, and the next tick knows it."""
    ports = site.steering.ports
    site.steering.ports.actuators.set_weights({"fast": 1, "slow": 1})

    def lose_the_lease() -> None:
        site.steering.cloud.fail("UpdateItem", "ConditionalCheckFailedException", 1)

    record = site.tick(site.world.now, replace(ports, actuators=Watched(ports.actuators, lose_the_lease)))
    assert [failure.split(":")[0] for failure in record["failures"]] == [Failure.LEASE_LOST]
    site.lost_minute()
    after = site.minute()
    assert (after["tick"], after["writes"]) == (record["tick"], [])
    assert_stands(site)


def test_a_clock_that_jumps_a_day_ahead_and_back_does_not_freeze_the_loop(site: Site) -> None:
    """Launches were refused and nodes were starting when it jumped: the pool is probed and grows again."""
    site.steering.cloud.set_capacity(FAST_SPOT, SETTLED[FAST_SPOT])
    site.steering.cloud.set_capacity(FAST, 0)
    site.demand(MORE_RPM)
    site.minutes(4)
    site.tick(site.world.now + DAY)
    back = site.minute()
    assert back["failures"][0].startswith(Failure.CLOCK_JUMPED)
    assert back["at"] < site.world.now
    site.steering.cloud.set_capacity(FAST_SPOT, None)
    site.demand(2 * RPM)
    after = [site.minute() for _ in range(15)]
    assert after[-1]["failures"] == []
    assert after[-1]["pools"][FAST_SPOT]["evidence"] == ""
    assert after[-1]["pools"][FAST_SPOT]["ready"] > SETTLED[FAST_SPOT]


def test_every_pool_short_at_once_keeps_every_ready_node_serving(site: Site) -> None:
    """No refusal takes weight or nodes away; it is told, probed for, and made good when capacity is back."""
    for pool, nodes in site.sizes().items():
        site.steering.cloud.set_capacity(pool, nodes)
    site.demand(MORE_RPM)
    short = site.minutes(15)
    assert {pool["evidence"] for pool in short[-1]["pools"].values()} == {"shortage"}
    assert Code.SHORTFALL in set().union(*(codes(record) for record in short))
    assert all(record["units"]["fast"]["weight"] > 0 for record in short)
    assert all(record["pools"][FAST_SPOT]["ready"] == SETTLED[FAST_SPOT] for record in short)
    for pool in site.sizes():
        site.steering.cloud.set_capacity(pool, None)
    assert has_grown(site.minutes(15)[-1])


def test_without_a_price_feed_the_last_good_price_stays(site: Site) -> None:
    """Signals read it once; then neither it nor CloudWatch answers."""
    cloud = site.steering.cloud
    lambda_ = signals.Signals.connect(site.environ, cloud.connect)
    cloud.set_price(FAST_SPOT, 0.37)
    signals.run({"prices": True, "time": iso_time(site.world.now)}, lambda_)
    cloud.set_price(FAST_SPOT, PRICES[FAST_SPOT])
    assert site.minutes(10)[-1]["pools"][FAST_SPOT]["price"] == 0.37  # prices are read in one minute of ten
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
    assert all(Code.FLEET_INVALID in codes(record) for record in records)
    assert all(record["failures"][0].startswith(Failure.FLEET_INVALID) for record in records)
    assert has_grown(records[-1])


def test_while_nobody_can_tell_whether_it_is_paused_the_loop_only_survives(site: Site) -> None:
    """Demand grows and is told; all is healthy: nothing is written until the parameters can be read."""
    site.fail("GetParameter", "AccessDeniedException")
    site.demand(MORE_RPM)
    before = site.sizes()
    observed = site.minutes(6)
    assert all(Code.PAUSE_UNREADABLE in codes(record) and record["failures"] for record in observed)
    assert all(record["writes"] == [] for record in observed)
    assert observed[-1]["demand_rpm"] > RPM
    assert site.sizes() == before
    site.heal_calls()
    assert has_grown(site.minutes(4)[-1])
