"""AWS's answers about nodes as typed ones, and the writes to groups, against the service models alone."""

import datetime as dt
from collections.abc import Callable, Mapping
from typing import Any, Final

import boto3
import pytest
from botocore.stub import Stubber

from control_lambda.aws.joining import Issue, Member, NodeGroup, Target
from control_lambda.aws.nodes import ACTIVITIES_READ, NodesReader, group_of
from control_lambda.aws.world import AwsActuators, AwsSensors, Clients, MakeClient
from control_lambda.core.model import DELETED, Evidence, EvidenceKind, Suspension, TargetHealth
from control_lambda.environment import Deployment, Environment
from tests.control_lambda.conftest import NOON

ARN: Final = "arn:aws:elasticloadbalancing:us-east-1:1:targetgroup/fast/1"
ENVIRONMENT: Final = Environment(
    fleet_parameter="/fleet",
    pause_parameter="/pause",
    cluster_name="cluster",
    listener_arn="arn:aws:elasticloadbalancing:us-east-1:1:listener/app/front/1/2",
    units={"fast": Deployment(ARN, {"fast-spot": "spot-nodes"})},
    state_table="state",
)
POOL: Final = "fast-spot"
BY_CALL: Final = "User suspended at 2026-01-31T12:00:00Z"


def connect(service: str, **options: Any) -> Any:
    """A client that is never connected."""
    make: MakeClient = boto3.client
    return make(
        service,
        region_name="us-east-1",
        aws_access_key_id="test",
        aws_secret_access_key="test",
        **options,
    )


def answered(
    service: str,
    operation: str,
    answer: Mapping[str, Any],
    asked: Mapping[str, Any],
    read: Callable[..., Any],
) -> Any:
    """What `read` makes of AWS's answer to exactly what was `asked`."""
    client = connect(service)
    clients = dict.fromkeys(("ec2", "autoscaling", "elbv2", "eks")) | {service: client}
    with Stubber(client) as stub:
        stub.add_response(operation, dict(answer), dict(asked))
        return read(NodesReader(**clients, environment=ENVIRONMENT))


def target(address: str, state: str, result: str | None = None) -> dict[str, Any]:
    """A target as DescribeTargetHealth shows it."""
    anomaly = {} if result is None else {"AnomalyDetection": {"Result": result, "MitigationInEffect": "no"}}
    return {"Target": {"Id": address}, "TargetHealth": {"State": state}, **anomaly}


def test_every_target_has_its_health_and_whether_it_is_anomalous() -> None:
    """Anomalies are told only when they are asked for; states that say nothing of health are none."""
    shown = [
        target("1", "healthy", "anomalous"),
        target("2", "healthy", "normal"),
        target("3", "unhealthy"),
        target("4", "unhealthy.draining"),
        target("5", "draining"),
        target("6", "initial"),
        target("7", "unused"),
        target("8", "unhealthy"),
        target("8", "healthy"),
    ]
    asked = {"TargetGroupArn": ARN, "Include": ["AnomalyDetection"]}
    found = answered(
        "elbv2",
        "describe_target_health",
        {"TargetHealthDescriptions": shown},
        asked,
        lambda reader: reader.targets("fast"),
    )
    assert found == {
        "1": Target(TargetHealth.HEALTHY, anomalous=True),
        "2": Target(TargetHealth.HEALTHY),
        "3": Target(TargetHealth.UNHEALTHY),
        "4": Target(TargetHealth.DRAINING),
        "5": Target(TargetHealth.DRAINING),
        "6": Target(TargetHealth.INITIAL),
        "7": Target(TargetHealth.NONE),
        "8": Target(TargetHealth.HEALTHY),
    }


@pytest.mark.parametrize(
    ("issue", "read"),
    [
        (
            {"code": "AsgInstanceLaunchFailures", "message": "VcpuLimitExceeded - no more"},
            Issue(EvidenceKind.QUOTA),
        ),
        ({"code": "NodeCreationFailure"}, Issue(EvidenceKind.NEVER_READY)),
        ({"message": "Tea is out."}, Issue(EvidenceKind.UNKNOWN, "Tea is out.")),
        (
            {"code": "ClusterUnreachable", "message": "Tea is out."},
            Issue(EvidenceKind.UNKNOWN, "Tea is out."),
        ),
        ({"code": "ClusterUnreachable"}, Issue(EvidenceKind.UNKNOWN)),
    ],
)
def test_a_node_group_has_its_status_and_what_its_issues_say(issue: Mapping[str, str], read: Issue) -> None:
    """In EKS's words, which may be a code alone; what cannot be read brings its text."""
    found = answered(
        "eks",
        "describe_nodegroup",
        {"nodegroup": {"status": "DEGRADED", "health": {"issues": [issue]}}},
        {"clusterName": "cluster", "nodegroupName": "spot-nodes"},
        lambda reader: reader.node_group(POOL),
    )
    assert found == NodeGroup("DEGRADED", (read,))


def test_a_node_group_that_is_not_found_is_deleted() -> None:
    """Somebody took it away: that is an answer, not a failure."""
    eks = connect("eks")
    with Stubber(eks) as stub:
        stub.add_client_error("describe_nodegroup", "ResourceNotFoundException")
        assert NodesReader(None, None, None, eks, ENVIRONMENT).node_group(POOL) == NodeGroup(DELETED)


def refused(**shown: str) -> Evidence:
    """What is read of an activity that failed a minute ago, of which AWS shows that much."""
    activity = {
        "ActivityId": "1",
        "AutoScalingGroupName": "eks-spot-nodes",
        "Cause": "a call",
        "StartTime": dt.datetime.fromtimestamp(NOON - 60, dt.UTC),
        "StatusCode": "Failed",
        **shown,
    }
    found: tuple[Evidence, ...] = answered(
        "autoscaling",
        "describe_scaling_activities",
        {"Activities": [activity]},
        {"AutoScalingGroupName": "eks-spot-nodes", "MaxRecords": ACTIVITIES_READ},
        lambda reader: reader.refusals(POOL, "eks-spot-nodes", NOON),
    )
    (evidence,) = found
    return evidence


@pytest.mark.parametrize(
    ("shown", "zone"),
    [
        ({"Details": '{"Availability Zone": "us-east-1a"}'}, "us-east-1a"),
        ({"Details": '{"Subnet ID": "subnet-1"}'}, ""),
        ({"Details": '{"Availability Zone": null}'}, ""),
        ({"Details": "null"}, ""),
        ({"Details": "[]"}, ""),
        ({"Details": "{"}, ""),
        ({"Details": ""}, ""),
        ({}, ""),
    ],
)
def test_a_refused_launch_without_details_is_one_of_unknown_zone(shown: dict[str, str], zone: str) -> None:
    """The zone is a refinement: without it the refusal counts for every zone."""
    found = refused(StatusMessage="There is no Spot capacity available", **shown)
    assert found == Evidence(POOL, EvidenceKind.SHORTAGE, NOON - 60, zone=zone)


@pytest.mark.parametrize(
    ("shown", "text"),
    [({"StatusMessage": "Tea is out."}, "Tea is out."), ({}, "")],
)
def test_a_refusal_that_nobody_can_read_brings_its_text(shown: dict[str, str], text: str) -> None:
    """From the group's activities."""
    found = refused(**shown)
    assert (found.kind, found.text) == (EvidenceKind.UNKNOWN, text)


def group(suspended: Mapping[str, str], *states: str) -> dict[str, Any]:
    """An Auto Scaling group as DescribeAutoScalingGroups shows it."""
    return {
        "AutoScalingGroupName": "eks-spot-nodes",
        "DesiredCapacity": 2,
        "MaxSize": 9,
        "Instances": [
            {"InstanceId": f"i-{number}", "LifecycleState": state, "AvailabilityZone": "us-east-1b"}
            for number, state in enumerate(states)
        ],
        "SuspendedProcesses": [
            {"ProcessName": name, "SuspensionReason": reason} for name, reason in suspended.items()
        ],
    }


def test_a_groups_members_are_those_that_serve_or_will() -> None:
    """What terminates is counted apart; what is detached, in standby or warm is neither."""
    states = ("InService", "Pending:Wait", "Terminating:Wait", "Terminating", "Standby", "Warmed:Stopped")
    found = group_of(group({}, *states))
    assert found.members == {"i-0": Member("us-east-1b", True), "i-1": Member("us-east-1b", False)}
    assert (found.name, found.desired, found.maximum, found.terminating) == ("eks-spot-nodes", 2, 9, 2)


@pytest.mark.parametrize(
    ("suspended", "launch", "rebalance"),
    [
        ({}, Suspension.NONE, Suspension.NONE),
        ({"Launch": BY_CALL}, Suspension.PERSON, Suspension.NONE),
        ({"Launch": "Administrative suspension"}, Suspension.AWS, Suspension.NONE),
        (
            {"AZRebalance": BY_CALL},
            Suspension.NONE,
            Suspension.LOOP_OR_PERSON,
        ),
        ({"Terminate": BY_CALL}, Suspension.NONE, Suspension.NONE),
    ],
)
def test_a_suspension_says_whose_it_is(
    suspended: dict[str, str], launch: Suspension, rebalance: Suspension
) -> None:
    """AWS words every call of SuspendProcesses alike, and its own suspensions otherwise."""
    found = group_of(group(suspended))
    assert (found.launch_suspended, found.rebalance_suspended) == (launch, rebalance)


@pytest.mark.parametrize(
    ("operation", "asked", "write"),
    [
        (
            "terminate_instance_in_auto_scaling_group",
            {"InstanceId": "i-1", "ShouldDecrementDesiredCapacity": True},
            lambda hand: hand.terminate("i-1", decrement=True),
        ),
        (
            "suspend_processes",
            {"AutoScalingGroupName": "eks-spot-nodes", "ScalingProcesses": ["AZRebalance"]},
            lambda hand: hand.suspend_rebalancing(POOL),
        ),
        (
            "resume_processes",
            {"AutoScalingGroupName": "eks-spot-nodes", "ScalingProcesses": ["AZRebalance"]},
            lambda hand: hand.resume_rebalancing(POOL),
        ),
        (
            "resume_processes",
            {"AutoScalingGroupName": "eks-spot-nodes", "ScalingProcesses": ["Launch"]},
            lambda hand: hand.resume_launches(POOL),
        ),
    ],
)
def test_a_write_to_a_group_is_this_one_call(
    operation: str, asked: dict[str, Any], write: Callable[[AwsActuators], None]
) -> None:
    """Of a group that the sensors found, and nothing else with it."""
    clients = Clients.connect(connect)
    sensors = AwsSensors(clients, ENVIRONMENT)
    sensors.group_names = {POOL: "eks-spot-nodes"}
    with Stubber(clients.autoscaling) as stub:
        answer = {"Activity": ACTIVITY} if operation.startswith("terminate") else {}
        stub.add_response(operation, answer, asked)
        write(AwsActuators(clients, ENVIRONMENT, sensors))
        stub.assert_no_pending_responses()


ACTIVITY: Final = {
    "ActivityId": "1",
    "AutoScalingGroupName": "eks-spot-nodes",
    "Cause": "a call",
    "StartTime": 0,
    "StatusCode": "InProgress",
}
