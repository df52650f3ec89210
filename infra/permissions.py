"""What each handler may do: one grant per subject, none wider than AWS forces it to be.

`tests/infra/test_least_privilege.py` holds every grant against the calls that the handlers make.
"""

import json
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Final

from aws_cdk import Acknowledgment, Fn, Stack, Validations
from aws_cdk import aws_iam as iam
from constructs import Construct

from control_lambda.core import names

ANYTHING: Final = "*"
NO_RESOURCE: Final = "AWS knows no resource for these reading calls"


@dataclass(frozen=True, slots=True, kw_only=True)
class Grant:
    """Actions on resources. `forced` says why a resource holds a wildcard, where one does."""

    sid: str
    actions: Sequence[str]
    resources: Sequence[str]
    conditions: Mapping[str, Mapping[str, str]] = field(default_factory=dict)
    forced: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Steered:
    """What the loop reads and changes; names and ARNs, most of them tokens.

    `node_groups` maps a node group's name to its ARN.
    """

    cluster_name: str
    listener_arn: str
    load_balancer_name: str
    node_groups: Mapping[str, str]
    fleet_parameter_arn: str
    pause_parameter_arn: str
    table_arn: str
    metric_namespace: str


def tick_grants(scope: Construct, steered: Steered) -> list[Grant]:
    """The rights of the tick: read the world, write the rule, the sizes and its own item."""
    return [
        Grant(
            sid="ReadParameters",
            actions=["ssm:GetParameter"],
            resources=[steered.fleet_parameter_arn, steered.pause_parameter_arn],
        ),
        Grant(sid="KeepState", actions=["dynamodb:UpdateItem"], resources=[steered.table_arn]),
        Grant(
            sid="ReadTheWorld",
            actions=[
                "autoscaling:DescribeAutoScalingGroups",
                "autoscaling:DescribeScalingActivities",
                "cloudwatch:GetMetricData",
                "ec2:DescribeInstances",
                "elasticloadbalancing:DescribeRules",
                "elasticloadbalancing:DescribeTargetHealth",
            ],
            resources=[ANYTHING],
            forced=NO_RESOURCE,
        ),
        Grant(
            sid="ReadNodeGroups",
            actions=["eks:DescribeNodegroup"],
            resources=list(steered.node_groups.values()),
        ),
        Grant(
            sid="CreateTheRule",
            actions=["elasticloadbalancing:CreateRule"],
            resources=[steered.listener_arn],
        ),
        Grant(
            sid="WriteTheRule",
            actions=["elasticloadbalancing:ModifyRule"],
            resources=[_rules_of_listener(steered.listener_arn)],
            forced="The loop creates the rule, and AWS chooses its id; the listener is this stack's",
        ),
        Grant(
            sid="SizePools",
            actions=[
                "autoscaling:ResumeProcesses",
                "autoscaling:SetDesiredCapacity",
                "autoscaling:SuspendProcesses",
                "autoscaling:TerminateInstanceInAutoScalingGroup",
            ],
            resources=_groups_of(scope, steered.node_groups),
            conditions={"StringEquals": {f"aws:ResourceTag/{names.CLUSTER_TAG}": steered.cluster_name}},
            forced="EKS makes the pools' Auto Scaling groups and chooses their ids; the name holds the node "
            "group's, and a condition asks for this cluster's tag",
        ),
    ]


def signals_grants(steered: Steered, tick_arn: str) -> list[Grant]:
    """The rights of signals: know whose node it is, write evidence and metrics, invoke a tick."""
    return [
        Grant(sid="ReadFleet", actions=["ssm:GetParameter"], resources=[steered.fleet_parameter_arn]),
        Grant(sid="AddEvidence", actions=["dynamodb:UpdateItem"], resources=[steered.table_arn]),
        Grant(
            sid="ReadNodesAndPrices",
            actions=["ec2:DescribeInstances", "ec2:DescribeSpotPriceHistory", "pricing:GetProducts"],
            resources=[ANYTHING],
            forced=NO_RESOURCE,
        ),
        Grant(
            sid="PutMetrics",
            actions=["cloudwatch:PutMetricData"],
            resources=[ANYTHING],
            conditions={"StringEquals": {"cloudwatch:namespace": steered.metric_namespace}},
            forced="PutMetricData knows no resource; a condition asks for this project's namespace",
        ),
        Grant(sid="TickAtOnce", actions=["lambda:InvokeFunction"], resources=[tick_arn]),
    ]


def release_grants(scope: Construct, steered: Steered, tick_arn: str) -> list[Grant]:
    """The rights of release: stop the loop, take its rules away, tick once."""
    return [
        Grant(
            sid="Pause",
            actions=["ssm:DeleteParameter", "ssm:PutParameter"],
            resources=[steered.pause_parameter_arn],
        ),
        Grant(sid="TakeLease", actions=["dynamodb:UpdateItem"], resources=[steered.table_arn]),
        Grant(
            sid="ReadTargets",
            actions=["elasticloadbalancing:DescribeRules", "elasticloadbalancing:DescribeTargetHealth"],
            resources=[ANYTHING],
            forced=NO_RESOURCE,
        ),
        Grant(
            sid="ReleaseRules",
            actions=["elasticloadbalancing:DeleteRule", "elasticloadbalancing:ModifyRule"],
            resources=[_arn(scope, "elasticloadbalancing", f"listener-rule/{steered.load_balancer_name}/*")],
            forced="The loop creates the rules, and AWS chooses their ids; of any listener of this load "
            "balancer, since another one serves after a certificate came or went",
        ),
        Grant(sid="TickOnce", actions=["lambda:InvokeFunction"], resources=[tick_arn]),
    ]


def scheduler_grants(functions: Sequence[str], dead_letters: str) -> list[Grant]:
    """The rights of EventBridge Scheduler: invoke the functions, keep what could not be delivered."""
    return [
        Grant(sid="Invoke", actions=["lambda:InvokeFunction"], resources=functions),
        Grant(sid="KeepDeadLetters", actions=["sqs:SendMessage"], resources=[dead_letters]),
    ]


def function_grants(log_group_arn: str, dead_letters: str) -> list[Grant]:
    """The rights that Lambda itself needs of every function's role."""
    return [
        Grant(
            sid="WriteLogs",
            actions=["logs:CreateLogStream", "logs:PutLogEvents"],
            resources=[log_group_arn],
        ),
        Grant(
            sid="WriteTraces",
            actions=["xray:PutTelemetryRecords", "xray:PutTraceSegments"],
            resources=[ANYTHING],
            forced="X-Ray knows no resource for them",
        ),
        Grant(sid="KeepDeadLetters", actions=["sqs:SendMessage"], resources=[dead_letters]),
    ]


def grant(role: iam.Role, grants: Iterable[Grant]) -> iam.Policy:
    """Put the grants into a policy of the role, and tell cdk-nag why their wildcards stand."""
    policy = iam.Policy(role, "Policy", roles=[role])
    reasons: dict[str, list[str]] = defaultdict(list)
    for granted in grants:
        policy.add_statements(
            iam.PolicyStatement(
                sid=granted.sid,
                actions=granted.actions,
                resources=granted.resources,
                conditions=granted.conditions,
            )
        )
        for resource in granted.resources if granted.forced else ():
            reasons[_shown(policy.stack.resolve(resource))].append(f"{granted.sid}: {granted.forced}.")
    for resource, told in reasons.items():
        acknowledge(policy, f"AwsSolutions-IAM5[Resource::{resource}]", " ".join(told))
    return policy


def acknowledge(construct: Construct, finding: str, reason: str) -> None:
    """Tell cdk-nag why one finding of its AwsSolutions pack stands."""
    Validations.of(construct).acknowledge(Acknowledgment(id=f"AwsSolutions::{finding}", reason=reason))


def _rules_of_listener(listener_arn: str) -> str:
    return f"{Fn.join(':listener-rule/', Fn.split(':listener/', listener_arn, 2))}/*"


def _groups_of(scope: Construct, node_groups: Iterable[str]) -> list[str]:
    """The ARNs of the Auto Scaling groups that EKS makes for node groups: `eks-<node group>-<id>`."""
    return [
        _arn(scope, "autoscaling", f"autoScalingGroup:*:autoScalingGroupName/eks-{name}-*")
        for name in node_groups
    ]


def _arn(scope: Construct, service: str, resource: str) -> str:
    stack = Stack.of(scope)
    return f"arn:{stack.partition}:{service}:{stack.region}:{stack.account}:{resource}"


def _shown(value: Any) -> str:
    """A resolved value as cdk-nag writes it into the id of a finding."""
    match value:
        case str():
            return value
        case {"Ref": name}:
            return f"<{name}>"
        case {"Fn::GetAtt": [name, attribute]}:
            return f"<{name}.{attribute}>"
        case {"Fn::Join": [str() as between, list() as parts]}:
            return between.join(map(_shown, parts))
        case _:
            return json.dumps(value, separators=(",", ":"))
