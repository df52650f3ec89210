"""Reads node groups, their Auto Scaling groups, instances and targets, each as `joining` takes it.

The number of calls grows with the pools and units of the fleet, and with pages, never with its nodes.
"""

import json
from collections.abc import Mapping
from typing import Any, Final

from botocore.exceptions import ClientError

from control_lambda.aws.joining import Group, Instance, Issue, Member, NodeGroup, Target, best_of
from control_lambda.core import names
from control_lambda.core.model import DELETED, Evidence, Suspension, TargetHealth
from control_lambda.core.supply.refusal_kinds import read_refusal, refused_launch
from control_lambda.environment import Environment
from control_lambda.errors import is_missing

ACTIVITY_SECONDS: Final = 900.0  # older refusals have been seen by an earlier tick
ACTIVITIES_READ: Final = 10  # latest first; one refusal tells as much as many

HEALTHY: Final = "healthy"
ANOMALOUS: Final = "anomalous"
IN_SERVICE: Final = "InService"
PENDING: Final = "Pending"
TERMINATING: Final = "Terminating"
LAUNCH: Final = "Launch"
REBALANCE: Final = "AZRebalance"
# What AWS writes for SuspendProcesses, whoever called it; anything else was AWS's own doing.
USER_SUSPENDED: Final = "User suspended"

_HEALTHS: Final[Mapping[str, TargetHealth]] = {
    "initial": TargetHealth.INITIAL,
    HEALTHY: TargetHealth.HEALTHY,
    "unhealthy": TargetHealth.UNHEALTHY,
    "unhealthy.draining": TargetHealth.DRAINING,
    "draining": TargetHealth.DRAINING,
}


class NodesReader:
    """Reads the nodes of one cluster."""

    def __init__(
        self,
        ec2: Any,
        autoscaling: Any,
        elbv2: Any,
        eks: Any,
        environment: Environment,
    ) -> None:
        self._ec2 = ec2
        self._autoscaling = autoscaling
        self._elbv2 = elbv2
        self._eks = eks
        self._environment = environment
        self._of_cluster = {"Name": f"tag:{names.CLUSTER_TAG}", "Values": [environment.cluster_name]}

    def instances(self) -> dict[str, Instance]:
        """Every pending or running instance of the cluster, by id."""
        states = {"Name": "instance-state-name", "Values": ["pending", "running"]}
        pages = self._ec2.get_paginator("describe_instances").paginate(
            Filters=[self._of_cluster, states], PaginationConfig={"PageSize": 1000}
        )
        return {
            raw["InstanceId"]: Instance(_addresses(raw), raw["LaunchTime"].timestamp())
            for page in pages
            for reservation in page["Reservations"]
            for raw in reservation["Instances"]
        }

    def groups(self) -> dict[str, Group]:
        """Every Auto Scaling group of the cluster that belongs to a pool, by pool."""
        pages = self._autoscaling.get_paginator("describe_auto_scaling_groups").paginate(
            Filters=[self._of_cluster], PaginationConfig={"PageSize": 100}
        )
        found: dict[str, Group] = {}
        for page in pages:
            for raw in page["AutoScalingGroups"]:
                tags = {tag["Key"]: tag["Value"] for tag in raw["Tags"]}
                pool = self._environment.pool_of.get(tags.get(names.NODE_GROUP_TAG, ""))
                if pool is not None:
                    found[pool] = group_of(raw)
        return found

    def targets(self, unit: str) -> dict[str, Target]:
        """The unit's targets by address."""
        answer = self._elbv2.describe_target_health(
            TargetGroupArn=self._environment.units[unit].target_group_arn, Include=["AnomalyDetection"]
        )
        found: dict[str, Target] = {}
        for raw in answer["TargetHealthDescriptions"]:
            address, target = raw["Target"]["Id"], _target(raw)
            found[address] = best_of((found[address], target)) if address in found else target
        return found

    def node_group(self, pool: str) -> NodeGroup:
        """The pool's EKS node group."""
        try:
            answer = self._eks.describe_nodegroup(
                clusterName=self._environment.cluster_name,
                nodegroupName=self._environment.node_group_of[pool],
            )
        except ClientError as error:
            if is_missing(error):
                return NodeGroup(DELETED)
            raise
        raw = answer["nodegroup"]
        issues = raw.get("health", {}).get("issues", [])
        return NodeGroup(
            raw["status"],
            tuple(
                Issue(*read_refusal(issue.get("message") or "", issue.get("code") or "")) for issue in issues
            ),
        )

    def refusals(self, pool: str, group: str, at: float) -> tuple[Evidence, ...]:
        """The launches of the pool's group that failed within the last quarter of an hour, latest first."""
        answer = self._autoscaling.describe_scaling_activities(
            AutoScalingGroupName=group, MaxRecords=ACTIVITIES_READ
        )
        return tuple(
            refused_launch(
                pool,
                activity.get("StatusMessage") or "",
                activity["StartTime"].timestamp(),
                zone=_zone(activity),
            )
            for activity in answer["Activities"]
            if activity["StatusCode"] == "Failed"
            and activity["StartTime"].timestamp() > at - ACTIVITY_SECONDS
        )


def group_of(raw: Mapping[str, Any]) -> Group:
    """An Auto Scaling group as DescribeAutoScalingGroups shows it."""
    states = [member["LifecycleState"] for member in raw["Instances"]]
    reasons = {
        process["ProcessName"]: process.get("SuspensionReason", "") for process in raw["SuspendedProcesses"]
    }
    return Group(
        name=raw["AutoScalingGroupName"],
        desired=raw["DesiredCapacity"],
        maximum=raw["MaxSize"],
        members={
            member["InstanceId"]: Member(member.get("AvailabilityZone", ""), state == IN_SERVICE)
            for member, state in zip(raw["Instances"], states, strict=True)
            if state == IN_SERVICE or state.startswith(PENDING)
        },
        terminating=sum(state.startswith(TERMINATING) for state in states),
        launch_suspended=suspension(reasons.get(LAUNCH), Suspension.PERSON),
        rebalance_suspended=suspension(reasons.get(REBALANCE), Suspension.LOOP_OR_PERSON),
        zones=tuple(sorted(raw.get("AvailabilityZones", ()))),
    )


def suspension(reason: str | None, by_call: Suspension) -> Suspension:
    """Who suspended a process for that reason (None: it is not); `by_call` are those who may have called."""
    if reason is None:
        return Suspension.NONE
    return by_call if reason.startswith(USER_SUSPENDED) else Suspension.AWS


def _target(raw: Mapping[str, Any]) -> Target:
    health = _HEALTHS.get(raw["TargetHealth"]["State"], TargetHealth.NONE)
    return Target(health, raw.get("AnomalyDetection", {}).get("Result") == ANOMALOUS)


def _addresses(raw: Mapping[str, Any]) -> frozenset[str]:
    """Pods have secondary addresses of the node's interfaces, those in the host's network its first."""
    first = {raw["PrivateIpAddress"]} if raw.get("PrivateIpAddress") else set()
    return frozenset(first).union(
        address["PrivateIpAddress"]
        for interface in raw.get("NetworkInterfaces", [])
        for address in interface.get("PrivateIpAddresses", [])
    )


def _zone(activity: Mapping[str, Any]) -> str:
    """The zone that refused; empty where AWS does not say, for evidence without one counts for every zone."""
    try:
        details = json.loads(activity.get("Details") or "{}")
    except ValueError:
        return ""
    return str(details.get("Availability Zone") or "") if isinstance(details, dict) else ""
