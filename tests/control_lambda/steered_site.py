"""A world with demand that is steered through the embedded AWS, and every way to starve it."""

from collections.abc import Mapping
from dataclasses import dataclass, field, replace

import numpy as np
import pytest

from control_lambda import handler
from control_lambda.aws.metrics import MINUTE_SECONDS, WINDOW_SECONDS
from control_lambda.aws.nodes import REBALANCE
from control_lambda.trigger import iso_time
from tests.control_lambda.fake_world import Record, as_json
from twin.steering.aws import AwsSteering
from twin.world.trace import Demand
from twin.world.world import EPOCH, World

FAST, FAST_SPOT, SLOW = "fast-on-demand", "fast-spot", "slow-on-demand"
SETTLED = {FAST: 0, FAST_SPOT: 5, SLOW: 0}
RPM = 300  # three nodes would do
DAYS = 3
LONGEST_SETTLING = 5


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
        record = as_json(self.steering.schedule())
        for event in announced + self.world.events():
            self.steering.react([event])
        self.failed = self.world.end_minute().failed
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
        """End every fault, and have the loop begin anew with four nodes ready and the usual demand."""
        cloud, world, environment = self.steering.cloud, self.world, self.steering.ports.environment
        self.heal_calls()
        cloud.silence(until=0.0)
        for pool in world.fleet.pools:
            cloud.set_capacity(pool.name, None)
            cloud.set_ready(pool.name, SETTLED[pool.name])
            cloud.busy(pool.name, world.now)
        self.put_fleet(world.fleet.to_json())
        self.demand(RPM)
        for _ in range(WINDOW_SECONDS // MINUTE_SECONDS):
            self.lost_minute()
        self.steering.ports.actuators.set_weights({"fast": 1, "slow": 0})
        key = {"fleet": {"S": environment.cluster_name}}
        cloud.client("dynamodb").delete_item(TableName=environment.state_table, Key=key)

    def settle(self) -> None:
        """Let minutes pass until demand is known, and the settled sizes stand and are not written."""
        for _ in range(LONGEST_SETTLING):
            record = self.minute()
            known = record["demand_rpm"] == pytest.approx(RPM, rel=0.05)
            quiet = not (record["writes"] or record["failures"])
            if known and self.sizes() == SETTLED and quiet and self.rebalancing_is_suspended():
                return
        raise AssertionError(f"not settled: {record}")

    def rebalancing_is_suspended(self) -> bool:
        """Whether the loop has suspended it in every group, as it does in its second tick."""
        return all(self.world.nodes.suspension(pool.name, REBALANCE) for pool in self.world.fleet.pools)

    def lost_minute(self) -> None:
        """One minute without its tick."""
        self.world.begin_minute()
        self.world.end_minute()

    def sizes(self) -> dict[str, int]:
        """Every group's desired size."""
        return {pool.name: self.world.nodes.desired(pool.name) for pool in self.world.fleet.pools}

    def put_fleet(self, text: str) -> None:
        """Replace what the fleet parameter holds."""
        name = self.steering.ports.environment.fleet_parameter
        self.steering.cloud.client("ssm").put_parameter(Name=name, Value=text, Type="String", Overwrite=True)

    def tick(self, at: float, ports: handler.Ports | None = None) -> Record:
        """One more tick, for `at`."""
        return as_json(handler.run({"time": iso_time(at), "cause": "schedule"}, ports or self.steering.ports))
