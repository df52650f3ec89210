"""What the embedded AWS answers under trouble."""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from botocore.config import Config
from botocore.exceptions import ClientError

from control_lambda.core import names
from control_lambda.core.fleet import Fleet
from control_lambda.core.metrics import Metric
from control_lambda.fleet_file import load_fleet
from twin.cloud.embedded import Cloud, start
from twin.world.nodes import LAUNCH, REBALANCE, ZONES
from twin.world.plant import MINUTE_SECONDS, Served
from twin.world.queues import SERVED
from twin.world.trace import CapacityTrace, Demand, PriceTrace
from twin.world.trouble import Trouble
from twin.world.world import Scenario, World

FLEET: Fleet = load_fleet(Path(__file__).parents[3] / "fleet.yaml")
POOL, UNIT = "inf2-neuron-on-demand", "inf2-neuron"
MINUTES = 40


class Account:
    """A cloud over a world under trouble, and what a test asks of it."""

    def __init__(self, cloud: Cloud, *entries: dict[str, object]) -> None:
        trouble = Trouble.parse({"trouble": list(entries)}, FLEET, MINUTES)
        demand = Demand(np.full(MINUTES, 300), seed=3, epoch=1767225600)
        self.world = World(Scenario(FLEET, demand, CapacityTrace({}), PriceTrace({}), 3, trouble))
        self.world.nodes.start(POOL, 6, self.world.now)
        self.world.weights = {UNIT: 1}
        self.cloud = cloud
        self.environment = cloud.provision(FLEET, self.world.nodes)
        cloud.befall(self.world.strikes)
        self.cluster = self.environment["CLUSTER_NAME"]
        self.world.observe(self._report)

    def live(self, minutes: int) -> None:
        """Let minutes pass, and the next one begin."""
        for _ in range(minutes):
            self.world.begin_minute()
            self.world.end_minute()
        self.world.begin_minute()

    def client(self, service: str) -> Any:
        """A client as the handlers have it, without waiting between its attempts."""
        return self.cloud.connect(service, config=Config(retries={"total_max_attempts": 1}))

    def targets(self, **options: Any) -> list[Any]:
        """The unit's targets as DescribeTargetHealth describes them."""
        arn = json.loads(self.environment["UNITS"])[UNIT]["target_group_arn"]
        described = self.client("elbv2").describe_target_health(TargetGroupArn=arn, **options)
        return list(described["TargetHealthDescriptions"])

    def group(self) -> Any:
        """The pool's Auto Scaling group."""
        tagged = [{"Name": "tag:eks:nodegroup-name", "Values": [POOL]}]
        found = self.client("autoscaling").describe_auto_scaling_groups(Filters=tagged)["AutoScalingGroups"]
        return found[0] if found else None

    def node_group(self) -> Any:
        """The pool's node group."""
        described = self.client("eks").describe_nodegroup(clusterName=self.cluster, nodegroupName=POOL)
        return described["nodegroup"]

    def sums(self, metric: Metric, statistic: str = "Sum") -> list[float]:
        """The unit's values of the metric that can be seen now, oldest first."""
        arn = json.loads(self.environment["UNITS"])[UNIT]["target_group_arn"]
        balancer = self.environment["LISTENER_ARN"].split("listener/")[1].rpartition("/")[0]
        dimensions = {names.LOAD_BALANCER: balancer, names.TARGET_GROUP: arn.rpartition(":")[2]}
        stat = {
            "Metric": {
                "Namespace": names.LOAD_BALANCER_NAMESPACE,
                "MetricName": metric.metric_name,
                "Dimensions": [{"Name": key, "Value": value} for key, value in dimensions.items()],
            },
            "Period": 60,
            "Stat": statistic,
        }
        answer = self.client("cloudwatch").get_metric_data(
            MetricDataQueries=[{"Id": "m", "MetricStat": stat}],
            StartTime=self.world.now - 1800,
            EndTime=self.world.now,
            ScanBy="TimestampAscending",
        )
        return list(answer["MetricDataResults"][0]["Values"])

    def _report(self, begun: int, served: Served) -> None:
        self.cloud.advance(begun + MINUTE_SECONDS)
        answered = served.latency[served.outcome == SERVED]
        self.cloud.put_minute(UNIT, begun, answered, unanswered=len(served.latency) - len(answered))


@pytest.fixture
def cloud() -> Iterator[Cloud]:
    """A cloud without a fleet."""
    with start() as started:
        yield started


def test_targets_are_unhealthy_and_healthy_ones_anomalous(cloud: Cloud) -> None:
    """The dead after 20 s; who answers errors after two minutes, and only when it is asked for."""
    account = Account(
        cloud,
        {"at": 0, "what": "node-errors", "pool": POOL, "nodes": 1, "share": 0.5},
        {"at": 1, "what": "node-dead", "pool": POOL, "nodes": 2},
    )
    account.live(3)
    states = [target["TargetHealth"]["State"] for target in account.targets()]
    assert states == ["unhealthy"] * 2 + ["healthy"] * 4
    assert all("AnomalyDetection" not in target for target in account.targets())
    found = [target.get("AnomalyDetection") for target in account.targets(Include=["AnomalyDetection"])]
    assert [None if item is None else item["Result"] for item in found] == [None] * 2 + ["normal"] * 4
    assert {target["Target"]["AvailabilityZone"] for target in account.targets()} == set(ZONES)


def test_an_erring_target_is_anomalous(cloud: Cloud) -> None:
    """The oldest node answers errors and lives."""
    account = Account(cloud, {"at": 0, "what": "node-errors", "pool": POOL, "nodes": 1, "share": 0.5})
    account.live(3)
    results = [
        target["AnomalyDetection"]["Result"] for target in account.targets(Include=["AnomalyDetection"])
    ]
    assert results == ["anomalous"] + ["normal"] * 5


def test_a_dead_node_terminated_by_id_waits_while_its_replacement_starts(cloud: Cloud) -> None:
    """Terminating:Wait, with its zone; with decrement nothing replaces it; an unknown id is refused."""
    account = Account(cloud, {"at": 0, "what": "node-dead", "pool": POOL, "nodes": 2})
    account.live(1)
    scaling = account.client("autoscaling")
    first, second = (member["InstanceId"] for member in account.group()["Instances"][:2])
    for node, decrement in ((first, False), (second, True)):
        answer = scaling.terminate_instance_in_auto_scaling_group(
            InstanceId=node, ShouldDecrementDesiredCapacity=decrement
        )
        assert answer["Activity"]["AutoScalingGroupName"] == account.group()["AutoScalingGroupName"]
    states = [member["LifecycleState"] for member in account.group()["Instances"]]
    assert states == ["Terminating:Wait"] * 2 + ["InService"] * 4 + ["Pending"]
    assert account.group()["DesiredCapacity"] == 5
    with pytest.raises(ClientError, match="ValidationError"):
        scaling.terminate_instance_in_auto_scaling_group(
            InstanceId="i-1", ShouldDecrementDesiredCapacity=True
        )


def test_a_lowered_maximum_and_suspensions_are_shown_with_their_reasons(cloud: Cloud) -> None:
    """A person's maximum refuses growth; who suspends AZRebalance finds it suspended."""
    account = Account(
        cloud,
        {"at": 0, "what": "group-max", "pool": POOL, "nodes": 4},
        {"at": 0, "what": "group-suspended", "pool": POOL, "by": "aws"},
        {"at": 0, "what": "group-status", "pool": POOL, "status": "DEGRADED"},
    )
    account.live(1)
    scaling, name = account.client("autoscaling"), account.group()["AutoScalingGroupName"]
    assert (account.group()["MaxSize"], account.group()["DesiredCapacity"]) == (4, 4)
    assert (account.node_group()["status"], account.node_group()["scalingConfig"]["maxSize"]) == (
        "DEGRADED",
        4,
    )
    with pytest.raises(ClientError, match=r"ValidationError.*above max value 4"):
        scaling.set_desired_capacity(AutoScalingGroupName=name, DesiredCapacity=5)
    scaling.suspend_processes(AutoScalingGroupName=name, ScalingProcesses=[REBALANCE])
    reasons = {
        item["ProcessName"]: item["SuspensionReason"].split()[0]
        for item in account.group()["SuspendedProcesses"]
    }
    assert reasons == {LAUNCH: "Administrative", REBALANCE: "User"}
    scaling.resume_processes(AutoScalingGroupName=name, ScalingProcesses=[REBALANCE, LAUNCH])
    assert account.group()["SuspendedProcesses"] == []


def test_a_deleted_group_is_nowhere(cloud: Cloud) -> None:
    """EKS says ResourceNotFoundException, Auto Scaling a ValidationError."""
    account = Account(cloud, {"at": 1, "what": "group-deleted", "pool": POOL})
    name = account.group()["AutoScalingGroupName"]
    account.live(1)
    assert account.group() is None
    with pytest.raises(ClientError, match="ResourceNotFoundException"):
        account.node_group()
    assert POOL not in account.client("eks").list_nodegroups(clusterName=account.cluster)["nodegroups"]
    with pytest.raises(ClientError, match=r"ValidationError.*name not found"):
        account.client("autoscaling").set_desired_capacity(AutoScalingGroupName=name, DesiredCapacity=1)


def test_a_refusal_names_its_zone_in_text_and_details(cloud: Cloud) -> None:
    """One activity and one event for each refused zone, which suggest the others; a quota names none."""
    account = Account(
        cloud,
        {"at": 0, "what": "zone-refuses", "pool": POOL, "zones": [ZONES[1]], "kind": "shortage"},
        {"at": 0, "what": "quota", "family": "G and VT", "vcpus": 4},
    )
    account.live(0)
    account.world.nodes.set_desired(POOL, 9, account.world.now)
    account.world.nodes.set_desired("g5-inductor-on-demand", 3, account.world.now)
    told = account.client("autoscaling").describe_scaling_activities()["Activities"]
    by_zone = {json.loads(item["Details"]).get("Availability Zone"): item["StatusMessage"] for item in told}
    assert by_zone.keys() == {ZONES[1], None}
    assert f"requested ({ZONES[1]})" in by_zone[ZONES[1]]
    assert by_zone[ZONES[1]].count(f"{ZONES[0]}, {ZONES[2]}") == 1
    assert "VcpuLimitExceeded" in by_zone[None]
    assert len(cloud.events()) == 2


def test_calls_fail_as_the_file_says_and_tools_are_spared(cloud: Cloud) -> None:
    """With the code of the entry, once for all attempts of a call; the table with InternalServerError."""
    account = Account(
        cloud,
        {"at": 0, "minutes": 1, "what": "api-fails", "action": "DescribeInstances", "code": "X", "share": 1},
        {"at": 0, "minutes": 1, "what": "table-down"},
    )
    account.live(0)
    with pytest.raises(ClientError, match=r"\(X\)"):
        account.client("ec2").describe_instances()
    with pytest.raises(ClientError, match="InternalServerError"):
        account.client("dynamodb").get_item(TableName="fulcrum-state", Key={"fleet": {"S": "a"}})
    assert cloud.client("ec2").describe_instances()["Reservations"]
    account.world.end_minute()
    account.world.begin_minute()
    assert account.client("ec2").describe_instances()["Reservations"]


def test_half_of_the_calls_fail_alike_in_core_and_aws(cloud: Cloud) -> None:
    """The draw is the world's; a unit's call is told from the others by the unit."""
    entry = {"at": 0, "what": "api-fails", "action": "DescribeTargetHealth", "code": "X", "share": 0.5}
    account = Account(cloud, entry)
    account.live(0)
    through_aws: list[str | None] = []
    for _ in range(12):
        try:
            account.targets()
            through_aws.append(None)
        except ClientError as error:
            through_aws.append(error.response["Error"]["Code"])
    other = Account(start(), entry)
    other.live(0)
    in_core = [other.world.failing("DescribeTargetHealth", UNIT) for _ in range(12)]
    other.cloud.close()
    assert through_aws == in_core
    assert {None, "X"} == set(in_core)


def test_metrics_are_late_missing_and_partial_as_in_core(cloud: Cloud) -> None:
    """What CloudWatch shows of the unit equals what the world shows."""
    account = Account(
        cloud,
        {"at": 1, "minutes": 1, "what": "counts-late", "seconds": 300, "of": "requests"},
        {"at": 2, "minutes": 1, "what": "counts-missing", "of": "all", "unit": UNIT},
        {"at": 4, "minutes": 1, "what": "counts-partial", "share": 0.25, "of": "all"},
    )
    account.live(7)
    shown = account.world.minutes_visible(UNIT)
    assert account.sums(Metric.REQUEST_COUNT) == [minute.requests for minute in shown if minute.requests]
    assert account.sums(Metric.REQUEST_COUNT) == [300, 300, 75]
    samples = [minute.samples for minute in shown if minute.samples]
    assert account.sums(Metric.TARGET_RESPONSE_TIME, "SampleCount") == samples
    latency = [minute.latency_seconds for minute in shown if minute.latency_seconds]
    assert account.sums(Metric.TARGET_RESPONSE_TIME, "p95") == pytest.approx(latency)
    assert account.sums(Metric.HEALTHY_HOST_COUNT, "Maximum") == [6] * 4
