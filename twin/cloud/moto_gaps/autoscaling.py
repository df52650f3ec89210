"""Gap: the Auto Scaling groups behind EKS node groups.

Moto names such a group but does not create it, and its scaling activities are always empty. Restored:
groups over three zones whose instances are the pool's nodes, found by name or tag; SetDesiredCapacity within
the group's limits; nodes that are terminated by id; suspended processes with their reasons; refused launches
as failed scaling activities with the texts of AWS.
"""

from collections.abc import Mapping, Sequence
from typing import Final

from control_lambda.core.fleet import Pool
from control_lambda.core.names import CLUSTER_TAG, NODE_GROUP_TAG
from twin.cloud.moto_gaps.deployment import Deployment
from twin.cloud.moto_gaps.launch_failures import activity
from twin.cloud.moto_gaps.protocol import (
    AwsError,
    Operation,
    Parameters,
    Result,
    iso,
    not_implemented,
    page,
    refuse_unknown,
    stable_id,
)
from twin.world.nodes import LAUNCH, REBALANCE, ZONES, CallRefusedError, Node

PAGE: Final = 100  # the most records that Auto Scaling answers with
PROCESSES: Final = (LAUNCH, REBALANCE)  # those that the cloud knows


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
            "TerminateInstanceInAutoScalingGroup": self.terminate_instance,
        }

    def describe_auto_scaling_groups(self, parameters: Parameters) -> Result:
        """Groups by name and by tag filters (`tag:<key>`, `tag-key`, `tag-value`), in pages."""
        known = ("AutoScalingGroupNames", "Filters", "MaxRecords", "NextToken")
        refuse_unknown(parameters, "DescribeAutoScalingGroups", *known)
        names = parameters.get("AutoScalingGroupNames")
        pools = [
            pool
            for name, pool in self._deployment.pool_of_group.items()
            if (not names or name in names)
            and self._deployment.nodes.exists(pool.name)
            and self._matches(pool, parameters.get("Filters", ()))
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
        least = self._deployment.minimum[pool.name]
        if desired < least:
            raise AwsError(
                "ValidationError",
                f"New SetDesiredCapacity value {desired} is below min value {least} "
                "for the AutoScalingGroup.",
            )
        try:
            self._deployment.nodes.set_desired(pool.name, desired, self._deployment.time)
        except CallRefusedError as error:
            raise AwsError(error.code, error.message) from None
        return {}

    def terminate_instance(self, parameters: Parameters) -> Result:
        """Have one node leave, and with it its place where ShouldDecrementDesiredCapacity says so.

        Raises:
            AwsError: ValidationError for an instance that no group holds.
        """
        known = ("InstanceId", "ShouldDecrementDesiredCapacity")
        refuse_unknown(parameters, "TerminateInstanceInAutoScalingGroup", *known)
        deployment, node = self._deployment, parameters["InstanceId"]
        group = next((item.pool for item in deployment.existing() if item.id == node), "")
        try:
            decrement = bool(parameters["ShouldDecrementDesiredCapacity"])
            deployment.nodes.terminate(node, decrement, deployment.time)
        except CallRefusedError as error:
            raise AwsError(error.code, error.message) from None
        at = iso(deployment.time)
        return {
            "Activity": {
                "ActivityId": stable_id(node, deployment.time),
                "AutoScalingGroupName": deployment.group(group),
                "Description": f"Terminating EC2 instance: {node}",
                "Cause": f"At {at} instance {node} was taken out of service in response to a user request.",
                "StartTime": deployment.time,
                "StatusCode": "InProgress",
                "Progress": 0,
            }
        }

    def suspend_processes(self, parameters: Parameters) -> Result:
        """Suspend processes of the group, as AWS does by itself when launches have failed for about a day."""
        pool = self._pool(parameters["AutoScalingGroupName"]).name
        time = self._deployment.time
        for process in _processes(parameters):
            self._deployment.nodes.suspend(pool, process, f"User suspended at {iso(time)}", time)
        return {}

    def resume_processes(self, parameters: Parameters) -> Result:
        """Let processes of the group run again."""
        pool = self._pool(parameters["AutoScalingGroupName"]).name
        for process in _processes(parameters):
            self._deployment.nodes.resume(pool, process, self._deployment.time)
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
        refusals = sorted(refusals, key=lambda refusal: refusal.at)[::-1]
        size = min(int(parameters.get("MaxRecords", PAGE)), PAGE)
        shown, token = page(refusals, parameters.get("NextToken"), size, "InvalidNextToken")
        return {"Activities": [activity(deployment, refusal) for refusal in shown], "NextToken": token}

    def _pool(self, group: str) -> Pool:
        pool = self._deployment.pool_of_group.get(group)
        if pool is None or not self._deployment.nodes.exists(pool.name):
            raise AwsError("ValidationError", f"AutoScalingGroup name not found - {group}")
        return pool

    def _tags(self, pool: Pool) -> Mapping[str, str]:
        return {CLUSTER_TAG: self._deployment.cluster, NODE_GROUP_TAG: pool.name}

    def _matches(self, pool: Pool, filters: Sequence[Parameters]) -> bool:
        tags = self._tags(pool)
        return all(_tag_filter_admits(tags, item["Name"], item["Values"]) for item in filters)

    def _group(self, pool: Pool) -> Result:
        deployment = self._deployment
        name, nodes = deployment.group(pool.name), deployment.nodes
        return {
            "AutoScalingGroupName": name,
            "AutoScalingGroupARN": deployment.group_arn(pool.name),
            "MinSize": deployment.minimum[pool.name],
            "MaxSize": nodes.maximum(pool.name),
            "DesiredCapacity": nodes.desired(pool.name),
            "DefaultCooldown": 300,
            "AvailabilityZones": list(ZONES),
            "HealthCheckType": "EC2",
            "CreatedTime": 0,
            "Instances": [self._instance(pool, node) for node in nodes.existing(pool.name)],
            "SuspendedProcesses": [
                {"ProcessName": process, "SuspensionReason": reason}
                for process, reason in nodes.suspensions(pool.name).items()
            ],
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
            "AvailabilityZone": node.zone,
            "LifecycleState": node.lifecycle(self._deployment.time),
            "HealthStatus": "Healthy",
            "ProtectedFromScaleIn": False,
        }


def _processes(parameters: Parameters) -> Sequence[str]:
    """The processes that a call names; all that the cloud knows when it names none."""
    processes: Sequence[str] = parameters.get("ScalingProcesses") or PROCESSES
    for process in processes:
        if process not in PROCESSES:
            raise not_implemented(f"the process {process}; only {', '.join(PROCESSES)}")
    return processes


def _tag_filter_admits(tags: Mapping[str, str], name: str, values: Sequence[str]) -> bool:
    if name.startswith("tag:"):
        return tags.get(name.removeprefix("tag:")) in values
    if name == "tag-key":
        return any(key in values for key in tags)
    if name == "tag-value":
        return any(value in values for value in tags.values())
    raise AwsError("ValidationError", f"Filter type {name} is not correct.")
