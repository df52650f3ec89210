"""The shell's tests run against the embedded AWS: a fresh account with a provisioned fleet for each."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import pytest

from control_lambda.core.fleet import Fleet, parse_fleet

if TYPE_CHECKING:
    from control_lambda.aws.memory import DynamoMemory
    from control_lambda.aws.world import AwsActuators, AwsSensors, Clients
    from control_lambda.environment import Environment
    from twin.cloud.embedded import Cloud

NOON = 1_769_860_800.0  # 2026-01-31 12:00 UTC


def _unit(name: str, instance_type: str, price: float, markets: Mapping[str, int]) -> dict[str, Any]:
    return {
        "name": name,
        "instance_type": instance_type,
        "accelerator": "nvidia",
        "framework": "inductor",
        "profile": {
            "service_seconds": 0.5,
            "throughput_rpm": 105,
            "latency_seconds": 0.67,
            "start_seconds": 600,
        },
        "pools": [
            {"market": market, "nodes": {"max": most}, "price_usd_per_hour": price}
            for market, most in markets.items()
        ],
    }


@pytest.fixture(scope="session")
def fleet() -> Fleet:
    """Two units, three pools: `fast` on demand and spot, `slow` on demand."""
    return parse_fleet(
        {
            "fleet": "shell",
            "model": "some/model",
            "objective": {"latency_seconds": 2.0},
            "budget_usd_per_hour": 100,
            "units": [
                _unit("fast", "g5.xlarge", 1.006, {"on-demand": 20, "spot": 20}),
                _unit("slow", "g6.xlarge", 0.805, {"on-demand": 20}),
            ],
        }
    )


@dataclass(frozen=True)
class Shell:
    """The boto3 ports over an embedded cloud that holds the fleet."""

    cloud: Cloud
    fleet: Fleet
    environment: Environment
    clients: Clients
    sensors: AwsSensors
    actuators: AwsActuators
    memory: DynamoMemory
    another_memory: Callable[[], DynamoMemory]

    def put_fleet_parameter(self, text: str) -> None:
        """Replace what the fleet parameter holds."""
        name = self.environment.fleet_parameter
        self.clients.ssm.put_parameter(Name=name, Value=text, Type="String", Overwrite=True, Tier="Advanced")

    def put_pause_parameter(self, text: str) -> None:
        """Create the pause parameter."""
        name = self.environment.pause_parameter
        self.clients.ssm.put_parameter(Name=name, Value=text, Type="String", Overwrite=True)

    def item(self) -> dict[str, Any]:
        """The state's item as DynamoDB holds it."""
        key = {"fleet": {"S": self.environment.cluster_name}}
        found = self.clients.dynamodb.get_item(TableName=self.environment.state_table, Key=key)
        item: dict[str, Any] = found.get("Item", {})
        return item


@pytest.fixture(autouse=True)
def _retry_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """Tests wait for nothing: botocore retries without backing off."""
    monkeypatch.setattr("botocore.retries.standard.ExponentialBackoff.delay_amount", lambda *_: 0.0)


@pytest.fixture
def variables(fleet: Fleet, monkeypatch: pytest.MonkeyPatch) -> Iterator[tuple[Cloud, dict[str, str]]]:
    """An embedded cloud at noon, and the environment of its Lambda, set for this process."""
    from twin.cloud import embedded  # noqa: PLC0415 - seconds of imports that the core's tests do not need

    with embedded.start() as cloud:
        cloud.advance(NOON)
        environ = cloud.provision(fleet)
        for name, value in environ.items():
            monkeypatch.setenv(name, value)
        yield cloud, environ


@pytest.fixture
def shell(variables: tuple[Cloud, dict[str, str]], fleet: Fleet) -> Shell:
    """The ports over a fresh embedded cloud."""
    from control_lambda.aws.memory import DynamoMemory  # noqa: PLC0415 - see above
    from control_lambda.aws.world import AwsActuators, AwsSensors, Clients  # noqa: PLC0415 - see above
    from control_lambda.environment import Environment  # noqa: PLC0415 - see above

    cloud, environ = variables
    environment = Environment.from_environ(environ)
    clients = Clients.connect()
    sensors = AwsSensors(clients, environment)

    def memory() -> DynamoMemory:
        return DynamoMemory(clients.dynamodb, environment.state_table, environment.cluster_name)

    return Shell(
        cloud,
        fleet,
        environment,
        clients,
        sensors,
        AwsActuators(clients, environment, sensors),
        memory(),
        memory,
    )
