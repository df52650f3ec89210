"""The sensors and actuators over boto3; `memory` is the memory."""

from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any, Final, Self

import boto3
from botocore.config import Config
from botocore.exceptions import ClientError

from control_lambda.aws import sensing
from control_lambda.aws.calls import Calls
from control_lambda.aws.metrics import MetricsReader
from control_lambda.aws.nodes import LAUNCH, REBALANCE, NodesReader
from control_lambda.aws.rule import ListenerRule
from control_lambda.core.fleet import Fleet
from control_lambda.core.model import Evidence, Snapshot
from control_lambda.core.traffic.survival import VitalSigns
from control_lambda.environment import Environment
from control_lambda.errors import NotDeployedError, is_missing
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


class AwsSources:
    """`sensing.Sources` over boto3."""

    def __init__(self, clients: Clients, environment: Environment) -> None:
        self._ssm = clients.ssm
        self._environment = environment
        nodes = NodesReader(clients.ec2, clients.autoscaling, clients.elbv2, clients.eks, environment)
        metrics = MetricsReader(clients.cloudwatch, environment)
        rule = ListenerRule(clients.elbv2, environment)
        self.units: Sequence[str] = tuple(environment.units)
        self.pools: Sequence[str] = tuple(environment.node_group_of)
        self.traffic, self.prices = metrics.traffic, metrics.prices
        self.weights, self.class_weights, self.rows = rule.weights, rule.class_weights, rule.rows
        self.instances, self.groups, self.targets = nodes.instances, nodes.groups, nodes.targets
        self.node_group, self.refusals = nodes.node_group, nodes.refusals

    def fleet_json(self) -> str:
        """The fleet parameter."""
        return self._parameter(self._environment.fleet_parameter)

    def pause(self) -> str:
        """What the pause parameter holds; empty when there is none."""
        try:
            return self._parameter(self._environment.pause_parameter)
        except ClientError as error:
            if is_missing(error):
                return sensing.NO_PAUSE
            raise

    def _parameter(self, name: str) -> str:
        return str(self._ssm.get_parameter(Name=name)["Parameter"]["Value"])


class AwsSensors:
    """`ports.Sensors` over boto3; it keeps what the actuators need to know of the last round."""

    def __init__(self, clients: Clients, environment: Environment) -> None:
        self._sources = AwsSources(clients, environment)
        self._executor = ThreadPoolExecutor(WORKERS, thread_name_prefix="aws")
        self.group_names: Mapping[str, str] = {}
        self.fleet: Fleet | None = None

    def settings(self) -> Settings:
        """The fleet parameter and the pause parameter; each may fail without the other."""
        return sensing.settings(self._sources, Calls(self._executor, SENSE_SECONDS))

    def sense(self, fleet: Fleet, at: float, evidence: Sequence[Evidence]) -> Snapshot:
        """Read everything side by side; what fails is left out and named."""
        sensed = sensing.sense(self._sources, Calls(self._executor, SENSE_SECONDS), fleet, at, evidence)
        self.group_names = sensed.group_names
        self.fleet = fleet
        return sensed.snapshot

    def vital_signs(self) -> VitalSigns:
        """What survival needs, read side by side."""
        return sensing.vital_signs(self._sources, Calls(self._executor, SENSE_SECONDS))


class AwsActuators:
    """`ports.Actuators` over boto3; it acts on the fleet and the groups that `sensors` found last."""

    def __init__(self, clients: Clients, environment: Environment, sensors: AwsSensors) -> None:
        self._autoscaling = clients.autoscaling
        self._rule = ListenerRule(clients.elbv2, environment)
        self._sensors = sensors

    def set_weights(self, weights: Mapping[str, int]) -> Mapping[str, int]:
        """Write the weighted rule and read it back."""
        return self._rule.write(weights, self._sensors.fleet)

    def set_row(self, row: str, weights: Mapping[str, int]) -> Mapping[str, int]:
        """Write the weights of the rule with that priority and read it back."""
        return self._rule.write_row(row, weights)

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

    def terminate(self, node: str, *, decrement: bool) -> None:
        """Terminate one instance of whatever group holds it."""
        self._autoscaling.terminate_instance_in_auto_scaling_group(
            InstanceId=node, ShouldDecrementDesiredCapacity=decrement
        )

    def resume_launches(self, pool: str) -> None:
        """Resume the launches that AWS suspended after a day of refusals."""
        self._resume(pool, LAUNCH)

    def suspend_rebalancing(self, pool: str) -> None:
        """Suspend AZRebalance, which would replace nodes to even out zones."""
        self._autoscaling.suspend_processes(
            AutoScalingGroupName=self._group(pool), ScalingProcesses=[REBALANCE]
        )

    def resume_rebalancing(self, pool: str) -> None:
        """Resume AZRebalance, which EKS's own updates need."""
        self._resume(pool, REBALANCE)

    def _resume(self, pool: str, process: str) -> None:
        self._autoscaling.resume_processes(AutoScalingGroupName=self._group(pool), ScalingProcesses=[process])

    def _group(self, pool: str) -> str:
        try:
            return self._sensors.group_names[pool]
        except KeyError:
            raise NotDeployedError(f"{pool}: no Auto Scaling group") from None
