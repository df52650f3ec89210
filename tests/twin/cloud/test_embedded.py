import json
import shlex
import socket
from collections.abc import Iterator
from typing import Any

import pytest

from control_lambda.core.fleet import Fleet, fleet_from_json, parse_fleet
from control_lambda.core.model import EvidenceKind
from twin.cloud.embedded import BEGINNING, Cloud, serve_forever, start
from twin.world.nodes import ZONES, Nodes

G5 = {"service_seconds": 0.6, "throughput_rpm": 90, "latency_seconds": 0.68, "start_seconds": 300}
MARKETS = [
    {"market": "on-demand", "nodes": {"max": 10}, "price_usd_per_hour": 1.006},
    {"market": "spot", "nodes": {"max": 10}, "price_usd_per_hour": 0.4},
]
UNIT = {"name": "g5", "instance_type": "g5.xlarge", "accelerator": "nvidia", "framework": "inductor"}
FLEET: Fleet = parse_fleet(
    {
        "fleet": "small",
        "model": "tiny",
        "objective": {"latency_seconds": 2.0},
        "budget_usd_per_hour": 40,
        "units": [{**UNIT, "profile": G5, "pools": MARKETS}],
    }
)


@pytest.fixture
def cloud() -> Iterator[Cloud]:
    """A cloud without a fleet."""
    with start() as started:
        yield started


def test_provision_creates_what_its_environment_names(cloud: Cloud) -> None:
    """The environment of the Lambda leads to a whole stack; only the pause parameter is not there yet."""
    environment = cloud.provision(FLEET)
    parameter = cloud.client("ssm").get_parameter(Name=environment["FLEET_PARAMETER"])["Parameter"]
    assert fleet_from_json(parameter["Value"]) == FLEET
    with pytest.raises(cloud.client("ssm").exceptions.ParameterNotFound):
        cloud.client("ssm").get_parameter(Name=environment["PAUSE_PARAMETER"])
    table = cloud.client("dynamodb").describe_table(TableName=environment["STATE_TABLE"])["Table"]
    assert table["KeySchema"] == [{"AttributeName": "fleet", "KeyType": "HASH"}]
    cluster = cloud.client("eks").describe_cluster(name=environment["CLUSTER_NAME"])["cluster"]
    assert cluster["status"] == "ACTIVE"
    topics = cloud.client("sns").list_topics()["Topics"]
    assert {"TopicArn": environment["TOPIC_ARN"]} in topics
    assert environment["AWS_ENDPOINT_URL"] == cloud.endpoint_url


def test_every_unit_has_a_target_group_that_the_last_rule_uses(cloud: Cloud) -> None:
    """The rule that never matches keeps every target group checked, and the rest answers 503."""
    environment = cloud.provision(FLEET)
    units = json.loads(environment["UNITS"])
    arn = units["g5"]["target_group_arn"]
    assert units["g5"]["pools"] == {"g5-on-demand": "g5-on-demand", "g5-spot": "g5-spot"}
    elbv2 = cloud.client("elbv2")
    last, default = elbv2.describe_rules(ListenerArn=environment["LISTENER_ARN"])["Rules"]
    assert last["Conditions"][0]["SourceIpConfig"] == {"Values": ["192.0.2.1/32"]}
    assert [group["TargetGroupArn"] for group in last["Actions"][0]["ForwardConfig"]["TargetGroups"]] == [arn]
    assert default["Actions"][0]["FixedResponseConfig"]["StatusCode"] == "503"
    attributes = elbv2.describe_target_group_attributes(TargetGroupArn=arn)["Attributes"]
    assert {"Key": "load_balancing.algorithm.type", "Value": "least_outstanding_requests"} in attributes


def test_a_throttled_action_answers_again_after_as_many_calls(cloud: Cloud) -> None:
    """Throttling lasts for the calls that it was told to, in the words of the service."""
    cloud.provision(FLEET)
    cloud.throttle("DescribeInstances", 2)
    ec2 = cloud.client("ec2")
    for _ in range(2):
        with pytest.raises(ec2.exceptions.ClientError, match="RequestLimitExceeded"):
            ec2.describe_instances()
    assert ec2.describe_instances()["Reservations"] == []


@pytest.mark.parametrize(
    ("service", "action", "call", "code"),
    [
        ("autoscaling", "DescribeAutoScalingGroups", "describe_auto_scaling_groups", "Throttling"),
        ("cloudwatch", "PutMetricData", "put_metric_data", "Throttling"),
        ("eks", "ListNodegroups", "list_nodegroups", "ThrottlingException"),
        ("elbv2", "DescribeRules", "describe_rules", "Throttling"),
        ("ssm", "GetParameter", "get_parameter", "ThrottlingException"),
        ("dynamodb", "ListTables", "list_tables", "ThrottlingException"),
    ],
)
def test_every_protocol_carries_the_error_code(
    cloud: Cloud, service: str, action: str, call: str, code: str
) -> None:
    """A client reads the same code from XML and from JSON, whether moto or a gap would have answered."""
    arguments: dict[str, dict[str, Any]] = {
        "PutMetricData": {"Namespace": "Fulcrum", "MetricData": []},
        "ListNodegroups": {"clusterName": "fulcrum-small"},
        "GetParameter": {"Name": "/fulcrum/small/fleet"},
    }
    cloud.throttle(action, -1)
    for _ in range(3):
        client = cloud.client(service)
        with pytest.raises(client.exceptions.ClientError) as refused:
            getattr(client, call)(**arguments.get(action, {}))
        assert refused.value.response["Error"]["Code"] == code


def test_throttling_without_end_stops_when_told(cloud: Cloud) -> None:
    """Negative is until told otherwise; zero is otherwise."""
    cloud.provision(FLEET)
    ec2 = cloud.client("ec2")
    cloud.throttle("DescribeInstances", -1)
    with pytest.raises(ec2.exceptions.ClientError):
        ec2.describe_instances()
    cloud.throttle("DescribeInstances", 0)
    ec2.describe_instances()


def test_a_call_fails_with_the_code_it_was_told(cloud: Cloud) -> None:
    """Any error can be injected, with the HTTP status of the service's model."""
    environment = cloud.provision(FLEET)
    cloud.fail("PutItem", "ConditionalCheckFailedException")
    dynamodb = cloud.client("dynamodb")
    item = {"fleet": {"S": "small"}}
    with pytest.raises(dynamodb.exceptions.ConditionalCheckFailedException):
        dynamodb.put_item(TableName=environment["STATE_TABLE"], Item=item)
    dynamodb.put_item(TableName=environment["STATE_TABLE"], Item=item)


def test_an_action_that_does_not_exist_cannot_be_throttled(cloud: Cloud) -> None:
    """A misspelt action would never be throttled, and its test prove nothing."""
    with pytest.raises(ValueError, match="GetMetricDate"):
        cloud.throttle("GetMetricDate", 1)


@pytest.mark.parametrize(
    ("service", "call", "arguments"),
    [
        ("autoscaling", "describe_policies", {}),
        ("eks", "describe_update", {"name": "small", "updateId": "1"}),
        ("elbv2", "register_targets", {"TargetGroupArn": "a", "Targets": [{"Id": "10.0.0.1"}]}),
        ("s3", "list_buckets", {}),
    ],
)
def test_what_is_not_supported_fails_loudly(
    cloud: Cloud, service: str, call: str, arguments: dict[str, Any]
) -> None:
    """No action is answered by a stub: it is answered rightly or refused as NotImplemented."""
    cloud.provision(FLEET)
    client = cloud.client(service)
    with pytest.raises(client.exceptions.ClientError) as refused:
        getattr(client, call)(**arguments)
    assert refused.value.response["ResponseMetadata"]["HTTPStatusCode"] == 501


def test_two_clouds_do_not_see_each_other(cloud: Cloud) -> None:
    """Each cloud is an account of its own: what happens in one stays there."""
    with start() as other:
        environment, others = cloud.provision(FLEET), other.provision(FLEET)
        cloud.set_ready("g5-spot", 2)
        cloud.advance(BEGINNING + 600)
        cloud.client("ssm").put_parameter(Name=environment["PAUSE_PARAMETER"], Value="observe", Type="String")
        cloud.throttle("DescribeInstances", -1)
        assert other.client("ec2").describe_instances()["Reservations"] == []
        assert other.time == BEGINNING
        assert environment["LISTENER_ARN"] != others["LISTENER_ARN"]
        with pytest.raises(other.client("ssm").exceptions.ParameterNotFound):
            other.client("ssm").get_parameter(Name=others["PAUSE_PARAMETER"])


def test_calls_are_counted_by_action(cloud: Cloud) -> None:
    """Provisioning does not count; what follows does, refused calls included."""
    cloud.provision(FLEET)
    assert not cloud.calls
    cloud.throttle("DescribeInstances", 1)
    with pytest.raises(cloud.client("ec2").exceptions.ClientError):
        cloud.client("ec2").describe_instances()
    cloud.client("ec2").describe_instances()
    assert cloud.calls == {"DescribeInstances": 2}


def test_an_event_invocation_is_kept_for_whoever_plays_lambda(cloud: Cloud) -> None:
    """Invoke of type Event is accepted, and its payload handed over once."""
    function = cloud.provision(FLEET)["TICK_FUNCTION"]
    payload = {"cause": "event", "evidence": []}
    answer = cloud.client("lambda").invoke(
        FunctionName=function, InvocationType="Event", Payload=json.dumps(payload)
    )
    assert (answer["StatusCode"], answer["Payload"].read()) == (202, b"")
    assert cloud.invocations() == [payload]
    assert cloud.invocations() == []


def test_an_invocation_of_another_function_is_refused(cloud: Cloud) -> None:
    """Only the tick function exists."""
    cloud.provision(FLEET)
    client = cloud.client("lambda")
    with pytest.raises(client.exceptions.ResourceNotFoundException):
        client.invoke(FunctionName="other", InvocationType="Event", Payload=b"{}")
    assert cloud.invocations() == []


def test_a_refused_launch_is_an_event_of_auto_scaling(cloud: Cloud) -> None:
    """It names the group and the zone and tells the reason in the words of AWS, once for each zone."""
    cloud.provision(FLEET)
    cloud.set_capacity("g5-on-demand", 0)
    cloud.nodes.set_desired("g5-on-demand", 1, cloud.time)
    event, *others = cloud.events()
    assert [other["detail"]["Details"]["Availability Zone"] for other in others] == list(ZONES[1:])
    assert (event["source"], event["detail-type"]) == ("aws.autoscaling", "EC2 Instance Launch Unsuccessful")
    assert event["time"] == "2024-01-01T00:00:00Z"
    assert event["detail"]["AutoScalingGroupName"].startswith("eks-g5-on-demand-")
    message = event["detail"]["StatusMessage"]
    assert message.startswith("Could not launch On-Demand Instances. InsufficientInstanceCapacity - We curr")
    assert "g5.xlarge capacity in the Availability Zone you requested (us-east-1a)" in message
    assert cloud.events() == []


def test_an_interruption_and_a_recommendation_name_only_the_instance(cloud: Cloud) -> None:
    """As EC2 sends them: the pool has to be found by the instance's tag."""
    cloud.provision(FLEET)
    cloud.set_ready("g5-spot", 2)
    first, second = cloud.nodes.ready("g5-spot")
    cloud.recommend_rebalance(second.id)
    cloud.set_capacity("g5-spot", 1)
    warning, recommendation = sorted(cloud.events(), key=lambda event: event["detail-type"], reverse=True)
    assert warning["detail-type"] == "EC2 Spot Instance Interruption Warning"
    assert warning["detail"] == {"instance-id": first.id, "instance-action": "terminate"}
    assert recommendation["detail-type"] == "EC2 Instance Rebalance Recommendation"
    assert recommendation["detail"] == {"instance-id": second.id}
    assert warning["source"] == recommendation["source"] == "aws.ec2"


def test_the_cloud_shows_the_nodes_it_is_given(cloud: Cloud) -> None:
    """A replay and the cloud share one set of nodes and one clock."""
    nodes = Nodes(FLEET, at=1_000.0)
    cloud.provision(FLEET, nodes)
    nodes.set_refusal("g5-spot", EvidenceKind.QUOTA)
    nodes.set_desired("g5-spot", 3, at=1_060.0)
    assert cloud.time == 1_060.0
    group = cloud.client("autoscaling").describe_auto_scaling_groups()["AutoScalingGroups"][1]
    assert group["DesiredCapacity"] == len(group["Instances"]) == 3


def test_a_cloud_holds_one_fleet(cloud: Cloud) -> None:
    """A second fleet needs a second cloud."""
    cloud.provision(FLEET)
    with pytest.raises(RuntimeError, match="small"):
        cloud.provision(FLEET)


def test_what_concerns_a_fleet_needs_one(cloud: Cloud) -> None:
    """Before provisioning there are no nodes to speak of, and the error says what to do."""
    with pytest.raises(RuntimeError, match="provision"):
        cloud.set_ready("g5-spot", 1)


@pytest.mark.parametrize("call", ["set_ready", "set_capacity", "set_price", "busy"])
def test_an_unknown_pool_is_refused_with_the_known_ones(cloud: Cloud, call: str) -> None:
    """A misspelt pool is an error that lists the valid names."""
    cloud.provision(FLEET)
    with pytest.raises(ValueError, match="g5-on-demand, g5-spot"):
        getattr(cloud, call)("g6-spot", 1)


def test_a_taken_port_is_an_error() -> None:
    """The caller hears of it, instead of a process that ends or hangs."""
    with socket.create_server(("127.0.0.1", 0)) as taken, pytest.raises(OSError, match="in use"):
        start(taken.getsockname()[1])


def test_a_closed_cloud_no_longer_answers() -> None:
    """Its port is free again."""
    cloud = start()
    cloud.close()
    with pytest.raises(ConnectionRefusedError):
        socket.create_connection(("127.0.0.1", int(cloud.endpoint_url.rpartition(":")[2])))


def test_serving_prints_the_environment_to_export(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """What is printed can be sourced by a shell; an interrupt ends the cloud without a trace."""

    def interrupt(_: float) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr("time.sleep", interrupt)
    serve_forever(0, FLEET)
    printed = capsys.readouterr().out
    exported = dict(shlex.split(line)[1].split("=", 1) for line in printed.splitlines() if line[0] != "#")
    assert exported["FLEET_PARAMETER"] == "/fulcrum/small/fleet"
    assert list(json.loads(exported["UNITS"])) == ["g5"]
    assert exported["AWS_ENDPOINT_URL"] in printed.splitlines()[0]
