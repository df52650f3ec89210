"""Gap: the Auto Scaling groups behind EKS node groups.

Moto names such a group but does not create it, and its scaling activities are always empty. Restored:
groups whose instances are the pool's nodes, found by name or tag; SetDesiredCapacity within the group's
limits; suspended launches; refused launches as failed scaling activities with the texts of AWS.
"""

from collections.abc import Mapping, Sequence
from typing import Final

from control_lambda.core.fleet import Pool
from control_lambda.core.names import CLUSTER_TAG, NODE_GROUP_TAG
from twin.cloud.moto_gaps.deployment import Deployment
from twin.cloud.moto_gaps.launch_failures import activity
from twin.cloud.moto_gaps.protocol import (
    ZONE,
    AwsError,
    Operation,
    Parameters,
    Result,
    not_implemented,
    page,
    refuse_unknown,
)
from twin.world.nodes import Node

PAGE: Final = 100  # the most records that Auto Scaling answers with
LAUNCH: Final = "Launch"


class AutoScaling:
    """Auto Scaling over the deployment's nodes."""

    service = "autoscaling"

    def __init__(self, deployment: Deployment) -> None:
        self._deployment = deployment

    @property
    def operations(self) -> Mapping[str, Operation]:
        """What is answered here; nothing of this service is left to moto."""
        return {
            "DescribeAutoScalingGroups": self.describe_auto_scaling_groups,
            "DescribeScalingActivities": self.describe_scaling_activities,
            "ResumeProcesses": self.resume_processes,
            "SetDesiredCapacity": self.set_desired_capacity,
            "SuspendProcesses": self.suspend_processes,
        }

    def describe_auto_scaling_groups(self, parameters: Parameters) -> Result:
        """Groups by name and by tag filters (`tag:<key>`, `tag-key`, `tag-value`), in pages."""
        known = ("AutoScalingGroupNames", "Filters", "MaxRecords", "NextToken")
        refuse_unknown(parameters, "DescribeAutoScalingGroups", *known)
        names = parameters.get("AutoScalingGroupNames")
        pools = [
            pool
            for name, pool in self._deployment.pool_of_group.items()
            if (not names or name in names) and self._matches(pool, parameters.get("Filters", ()))
        ]
        size = min(int(parameters.get("MaxRecords", 50)), PAGE)
        shown, token = page(pools, parameters.get("NextToken"), size, "InvalidNextToken")
        return {"AutoScalingGroups": [self._group(pool) for pool in shown], "NextToken": token}

    def set_desired_capacity(self, parameters: Parameters) -> Result:
        """Have the group launch or terminate at once; refused outside its limits.

        Raises:
            AwsError: ValidationError for an unknown group or a size outside its limits.
        """
        refuse_unknown(
            parameters, "SetDesiredCapacity", "AutoScalingGroupName", "DesiredCapacity", "HonorCooldown"
        )
        pool = self._pool(parameters["AutoScalingGroupName"])
        desired = int(parameters["DesiredCapacity"])
        limits = self._deployment.limits[pool.name]
        if desired < limits.min:
            raise _invalid_size(desired, f"below min value {limits.min}")
        if desired > limits.max:
            raise _invalid_size(desired, f"above max value {limits.max}")
        self._deployment.nodes.set_desired(pool.name, desired, self._deployment.time)
        return {}

    def suspend_processes(self, parameters: Parameters) -> Result:
        """Suspend the group's launches, as AWS does by itself when they have failed for about a day."""
        self._deployment.nodes.suspend(self._launching_pool(parameters))
        return {}

    def resume_processes(self, parameters: Parameters) -> Result:
        """Let the group launch again."""
        self._deployment.nodes.resume(self._launching_pool(parameters))
        return {}

    def describe_scaling_activities(self, parameters: Parameters) -> Result:
        """The failed launches of one group or of all, latest first, in pages."""
        refuse_unknown(
            parameters, "DescribeScalingActivities", "AutoScalingGroupName", "MaxRecords", "NextToken"
        )
        deployment = self._deployment
        name = parameters.get("AutoScalingGroupName")
        pools = [self._pool(name)] if name else deployment.fleet.pools
        refusals = [refusal for pool in pools for refusal in deployment.nodes.refusals(pool.name)]
        refusals.sort(key=lambda refusal: refusal.at, reverse=True)
        size = min(int(parameters.get("MaxRecords", PAGE)), PAGE)
        shown, token = page(refusals, parameters.get("NextToken"), size, "InvalidNextToken")
        return {"Activities": [activity(deployment, refusal) for refusal in shown], "NextToken": token}

    def _pool(self, group: str) -> Pool:
        pool = self._deployment.pool_of_group.get(group)
        if pool is None:
            raise AwsError("ValidationError", f"AutoScalingGroup name not found - {group}")
        return pool

    def _launching_pool(self, parameters: Parameters) -> str:
        pool = self._pool(parameters["AutoScalingGroupName"])
        processes = parameters.get("ScalingProcesses") or [LAUNCH]
        if processes != [LAUNCH]:
            raise not_implemented(f"processes {', '.join(processes)}; only {LAUNCH}")
        return pool.name

    def _tags(self, pool: Pool) -> Mapping[str, str]:
        return {CLUSTER_TAG: self._deployment.cluster, NODE_GROUP_TAG: pool.name}

    def _matches(self, pool: Pool, filters: Sequence[Parameters]) -> bool:
        tags = self._tags(pool)
        return all(_tag_filter_admits(tags, item["Name"], item["Values"]) for item in filters)

    def _group(self, pool: Pool) -> Result:
        deployment = self._deployment
        name, limits = deployment.group(pool.name), deployment.limits[pool.name]
        nodes = deployment.nodes
        suspended = {"ProcessName": LAUNCH, "SuspensionReason": "User suspended"}
        return {
            "AutoScalingGroupName": name,
            "AutoScalingGroupARN": deployment.group_arn(pool.name),
            "MinSize": limits.min,
            "MaxSize": limits.max,
            "DesiredCapacity": nodes.desired(pool.name),
            "DefaultCooldown": 300,
            "AvailabilityZones": [ZONE],
            "HealthCheckType": "EC2",
            "CreatedTime": 0,
            "Instances": [self._instance(pool, node) for node in nodes.existing(pool.name)],
            "SuspendedProcesses": [suspended] if nodes.suspended(pool.name) else [],
            "Tags": [
                {"ResourceId": name, "ResourceType": "auto-scaling-group", "PropagateAtLaunch": True}
                | {"Key": key, "Value": value}
                for key, value in self._tags(pool).items()
            ],
        }

    def _instance(self, pool: Pool, node: Node) -> Result:
        return {
            "InstanceId": node.id,
            "InstanceType": self._deployment.fleet.unit_of[pool.name].instance_type,
            "AvailabilityZone": ZONE,
            "LifecycleState": self._lifecycle_state(node),
            "HealthStatus": "Healthy",
            "ProtectedFromScaleIn": False,
        }

    def _lifecycle_state(self, node: Node) -> str:
        if not node.is_member(self._deployment.time):
            return "Terminating"
        return "Pending" if self._deployment.is_pending(node) else "InService"


def _invalid_size(desired: int, why: str) -> AwsError:
    return AwsError(
        "ValidationError", f"New SetDesiredCapacity value {desired} is {why} for the AutoScalingGroup."
    )


def _tag_filter_admits(tags: Mapping[str, str], name: str, values: Sequence[str]) -> bool:
    if name.startswith("tag:"):
        return tags.get(name.removeprefix("tag:")) in values
    if name == "tag-key":
        return any(key in values for key in tags)
    if name == "tag-value":
        return any(value in values for value in tags.values())
    raise AwsError("ValidationError", f"Filter type {name} is not correct.")
