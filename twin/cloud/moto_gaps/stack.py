"""What a deployed stack holds, created in the embedded AWS through its API."""

import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Final

from control_lambda.core import names
from control_lambda.core.fleet import Fleet
from twin.cloud.moto_gaps.protocol import REGION

TICK_FUNCTION: Final = "fulcrum-tick"
# A documentation address (RFC 5737) that no request comes from: the rule matches nothing, but it has the
# load balancer check the health of every target group, which it does only for groups that a rule uses.
NOWHERE: Final = "192.0.2.1/32"
# The embedded AWS checks no credentials, but an SDK does not start without any.
ACCESS: Final[Mapping[str, str]] = {
    "AWS_ACCESS_KEY_ID": "embedded",
    "AWS_SECRET_ACCESS_KEY": "embedded",
    "AWS_DEFAULT_REGION": REGION,
    "AWS_REGION": REGION,
}
NO_CAPACITY: Final = json.dumps(
    {
        "error": {
            "message": "no node is ready yet; try again",
            "type": "server_error",
            "param": None,
            "code": "no_capacity",
            "retry_after_seconds": 60,
        }
    }
)


@dataclass(frozen=True, slots=True)
class Stack:
    """The resources that a fleet's control loop needs, by name or ARN; `environment` is its Lambda's."""

    cluster: str
    load_balancer: str
    target_groups: Mapping[str, str]
    environment: Mapping[str, str]


def create_stack(fleet: Fleet, endpoint_url: str, client: Callable[[str], Any]) -> Stack:
    """Create what moto keeps: everything but the cluster, its node groups and the Lambda function.

    `client` gives a boto3 client of the embedded AWS at `endpoint_url`.
    """
    cluster = f"fulcrum-{fleet.fleet}"
    subnets = client("ec2").describe_subnets()["Subnets"]
    subnet_ids = [subnet["SubnetId"] for subnet in subnets[:2]]
    elbv2 = client("elbv2")
    load_balancer = _create_load_balancer(elbv2, subnet_ids)
    target_groups = {
        unit.name: _create_target_group(elbv2, unit.name, subnets[0]["VpcId"]) for unit in fleet.units
    }
    environment = {
        names.FLEET_PARAMETER: _put_fleet(client("ssm"), fleet),
        names.PAUSE_PARAMETER: f"/fulcrum/{fleet.fleet}/pause",
        names.CLUSTER_NAME: cluster,
        names.LISTENER_ARN: _create_listener(elbv2, load_balancer, list(target_groups.values())),
        names.UNITS: json.dumps(_units(fleet, target_groups)),
        names.STATE_TABLE: _create_table(client("dynamodb")),
        names.METRIC_NAMESPACE: names.NAMESPACE,
        names.TOPIC_ARN: client("sns").create_topic(Name="fulcrum")["TopicArn"],
        names.TICK_FUNCTION: TICK_FUNCTION,
        "AWS_ENDPOINT_URL": endpoint_url,
        **ACCESS,
    }
    return Stack(cluster, load_balancer, target_groups, environment)


def _create_load_balancer(elbv2: Any, subnet_ids: list[str]) -> str:
    created = elbv2.create_load_balancer(Name="fulcrum", Subnets=subnet_ids, Type="application")
    return str(created["LoadBalancers"][0]["LoadBalancerArn"])


def _create_target_group(elbv2: Any, unit: str, vpc: str) -> str:
    created = elbv2.create_target_group(
        Name=unit, Protocol="HTTP", Port=80, VpcId=vpc, TargetType="ip", HealthCheckPath="/readiness"
    )
    arn = str(created["TargetGroups"][0]["TargetGroupArn"])
    elbv2.modify_target_group_attributes(
        TargetGroupArn=arn,
        Attributes=[
            {"Key": "load_balancing.algorithm.type", "Value": "least_outstanding_requests"},
            {"Key": "deregistration_delay.timeout_seconds", "Value": "75"},
        ],
    )
    return arn


def _create_listener(elbv2: Any, load_balancer: str, target_groups: list[str]) -> str:
    answer = {"StatusCode": "503", "ContentType": "application/json", "MessageBody": NO_CAPACITY}
    created = elbv2.create_listener(
        LoadBalancerArn=load_balancer,
        Protocol="HTTP",
        Port=80,
        DefaultActions=[{"Type": "fixed-response", "FixedResponseConfig": answer}],
    )
    listener = str(created["Listeners"][0]["ListenerArn"])
    groups = [{"TargetGroupArn": arn} for arn in target_groups]
    elbv2.create_rule(
        ListenerArn=listener,
        Priority=names.STACK_RULE_PRIORITY,
        Conditions=[{"Field": "source-ip", "SourceIpConfig": {"Values": [NOWHERE]}}],
        Actions=[{"Type": "forward", "ForwardConfig": {"TargetGroups": groups}}],
    )
    return listener


def _put_fleet(ssm: Any, fleet: Fleet) -> str:
    name = f"/fulcrum/{fleet.fleet}/fleet"
    ssm.put_parameter(Name=name, Value=fleet.to_json(), Type="String", Tier="Advanced")
    return name


def _create_table(dynamodb: Any) -> str:
    name = "fulcrum-state"
    dynamodb.create_table(
        TableName=name,
        AttributeDefinitions=[{"AttributeName": "fleet", "AttributeType": "S"}],
        KeySchema=[{"AttributeName": "fleet", "KeyType": "HASH"}],
        BillingMode="PAY_PER_REQUEST",
    )
    return name


def _units(fleet: Fleet, target_groups: Mapping[str, str]) -> Mapping[str, Any]:
    return {
        unit.name: {
            "target_group_arn": target_groups[unit.name],
            "pools": {pool.name: pool.name for pool in unit.pools},
        }
        for unit in fleet.units
    }
