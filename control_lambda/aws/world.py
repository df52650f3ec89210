"""The sensors and actuators over boto3; `memory` is the memory."""

from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any, Final, Self

import boto3
from botocore.config import Config
from botocore.exceptions import ClientError

from control_lambda.aws.calls import Calls
from control_lambda.aws.metrics import Counts, MetricsReader
from control_lambda.aws.nodes import NodesReader
from control_lambda.aws.rule import ListenerRule
from control_lambda.core.fleet import Fleet
from control_lambda.core.model import Evidence, Snapshot
from control_lambda.environment import Environment
from control_lambda.errors import InvalidParameterError, NotDeployedError, is_missing
from control_lambda.ports import Settings

# At worst a call takes two attempts of 1 + 2 s and a back-off of at most 1 s.
SLOWEST_CALL_SECONDS: Final = 7.0
CONFIG: Final = Config(
    connect_timeout=1,
    read_timeout=2,
    retries={"mode": "standard", "total_max_attempts": 2},
    max_pool_connections=16,
)
SENSE_SECONDS: Final = 5.0  # AWS answers everything in less than one, unless something is wrong with it
WORKERS: Final = 16
OBSERVE: Final = "observe"

MakeClient = Callable[..., Any]  # as boto3.client; clients are classes made at run time


@dataclass(frozen=True, slots=True)
class Clients:
    """The boto3 clients of a tick, made once and shared by all its calls."""

    autoscaling: Any
    cloudwatch: Any
    dynamodb: Any
    ec2: Any
    eks: Any
    elbv2: Any
    ssm: Any

    @classmethod
    def connect(cls, client: MakeClient = boto3.client) -> Self:
        """Make the clients; boto3 itself goes by the environment, `AWS_ENDPOINT_URL` included."""
        return cls(**{service: client(service, config=CONFIG) for service in cls.__slots__})


class AwsSensors:
    """`ports.Sensors` over boto3."""

    def __init__(self, clients: Clients, environment: Environment) -> None:
        self._ssm = clients.ssm
        self._environment = environment
        self._metrics = MetricsReader(clients.cloudwatch, environment)
        self._rule = ListenerRule(clients.elbv2, environment)
        self._nodes = NodesReader(clients.ec2, clients.autoscaling, clients.elbv2, clients.eks, environment)
        self._executor = ThreadPoolExecutor(WORKERS, thread_name_prefix="aws")
        self.group_names: Mapping[str, str] = {}
        self.fleet: Fleet | None = None

    def settings(self) -> Settings:
        """The fleet parameter and the pause parameter; each may fail without the other."""
        calls = Calls(self._executor, SENSE_SECONDS)
        fleet = calls.ask("fleet-parameter", self._parameter, self._environment.fleet_parameter)
        pause = calls.ask("pause-parameter", self._paused)
        fleet_json, paused = calls.answer(fleet), calls.answer(pause)
        return Settings(fleet_json, observe=paused is not False, problems=tuple(calls.failures))

    def sense(self, fleet: Fleet, at: float, evidence: Sequence[Evidence]) -> Snapshot:
        """Read everything side by side; what fails is left out and named."""
        calls = Calls(self._executor, SENSE_SECONDS)
        asked_traffic = calls.ask("metrics", self._metrics.traffic, fleet, at)
        asked_prices = calls.ask("prices", self._metrics.prices, fleet, at)
        asked_weights = calls.ask("weights", self._rule.weights, fleet)
        has_rows = len(fleet.classes) > 1
        asked_rows = calls.ask("weights of classes", self._rule.class_weights, fleet) if has_rows else None
        nodes = self._nodes.read(calls, fleet, asked_prices, at)
        traffic = calls.answer(asked_traffic) or Counts({}, {}, ())
        self.group_names = nodes.group_names
        self.fleet = fleet
        return Snapshot(
            at=at,
            minutes=traffic.minutes,
            untargeted=traffic.untargeted,
            pools=nodes.pools,
            weights=calls.answer(asked_weights),
            class_weights=(calls.answer(asked_rows) or {}) if asked_rows else {},
            evidence=(*evidence, *traffic.refused, *nodes.evidence),
            failures=tuple(calls.failures),
        )

    def _parameter(self, name: str) -> str:
        return str(self._ssm.get_parameter(Name=name)["Parameter"]["Value"])

    def _paused(self) -> bool:
        """Whether the pause parameter exists and holds `observe`.

        Raises:
            InvalidParameterError: it holds something else.
        """
        try:
            value = self._parameter(self._environment.pause_parameter)
        except ClientError as error:
            if is_missing(error):
                return False
            raise
        if value != OBSERVE:
            raise InvalidParameterError(f"{self._environment.pause_parameter}: {value!r}; valid: {OBSERVE}")
        return True


class AwsActuators:
    """`ports.Actuators` over boto3; it acts on the fleet and the groups that `sensors` found last."""

    def __init__(self, clients: Clients, environment: Environment, sensors: AwsSensors) -> None:
        self._autoscaling = clients.autoscaling
        self._rule = ListenerRule(clients.elbv2, environment)
        self._sensors = sensors

    def set_weights(self, weights: Mapping[str, int]) -> Mapping[str, int]:
        """Write the weighted rule and read it back."""
        return self._rule.write(weights, self._sensors.fleet)

    def set_class_weights(self, name: str, weights: Mapping[str, int]) -> Mapping[str, int]:
        """Write the rule of one query class and read it back."""
        if self._sensors.fleet is None:
            raise NotDeployedError(f"{name}: no query classes are known")
        return self._rule.write_class(name, weights, self._sensors.fleet)

    def set_desired(self, pool: str, nodes: int) -> None:
        """Set the desired size of the pool's Auto Scaling group, as cluster-autoscaler does."""
        self._autoscaling.set_desired_capacity(
            AutoScalingGroupName=self._group(pool), DesiredCapacity=nodes, HonorCooldown=False
        )

    def resume_launches(self, pool: str) -> None:
        """Resume the launches that AWS suspended after a day of refusals."""
        self._autoscaling.resume_processes(
            AutoScalingGroupName=self._group(pool), ScalingProcesses=["Launch"]
        )

    def _group(self, pool: str) -> str:
        try:
            return self._sensors.group_names[pool]
        except KeyError:
            raise NotDeployedError(f"{pool}: no Auto Scaling group") from None
