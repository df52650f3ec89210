"""Gap: the cluster and its node groups.

Moto's node groups accept a desired size above the maximum, are ACTIVE at once, always healthy, and name an
Auto Scaling group that does not exist. Restored: node groups over the pools' groups, which may be gone; their
statuses, UPDATING while one is busy, when every update is refused as ResourceInUseException; the health issue
AsgInstanceLaunchFailures with the text of AWS while launches are refused. The cluster is answered here too,
since moto takes half a second to create one.
"""

from collections.abc import Mapping
from typing import Any, Final

from control_lambda.core.fleet import MAX_NODES, Pool
from control_lambda.core.names import CLUSTER_TAG, NODE_GROUP_TAG
from twin.cloud.moto_gaps.deployment import Deployment
from twin.cloud.moto_gaps.launch_failures import SUBNET, status_message
from twin.cloud.moto_gaps.protocol import (
    REGION,
    AwsError,
    Operation,
    Parameters,
    Result,
    page,
    refuse_unknown,
    stable_id,
)

PAGE: Final = 100
# EKS checks a group's health every few minutes: an issue outlives its last refusal by that long.
ISSUE_SECONDS: Final = 300.0
# A size update takes EKS about a minute, during which the group takes no other.
UPDATE_SECONDS: Final = 60.0


class Eks:
    """The deployment's cluster."""

    service = "eks"

    def __init__(self, deployment: Deployment) -> None:
        self._deployment = deployment

    @property
    def operations(self) -> Mapping[str, Operation]:
        """What is answered here; nothing of this service is left to moto."""
        return {
            "DescribeCluster": self.describe_cluster,
            "DescribeNodegroup": self.describe_nodegroup,
            "ListNodegroups": self.list_nodegroups,
            "UpdateNodegroupConfig": self.update_nodegroup_config,
        }

    def describe_cluster(self, parameters: Parameters) -> Result:
        """The cluster, as far as a loop that only sizes its node groups can care."""
        self._check_cluster(parameters["name"])
        name = self._deployment.cluster
        arn = f"arn:aws:eks:{REGION}:{self._deployment.account}:cluster/{name}"
        return {"cluster": {"name": name, "arn": arn, "status": "ACTIVE"}}

    def list_nodegroups(self, parameters: Parameters) -> Result:
        """The names of the cluster's node groups, in pages."""
        self._check_cluster(parameters["clusterName"])
        pools = self._deployment.fleet.pools
        names = [pool.name for pool in pools if self._deployment.nodes.exists(pool.name)]
        size = int(parameters.get("maxResults", PAGE))
        shown, token = page(names, parameters.get("nextToken"), size, "InvalidParameterException")
        return {"nodegroups": list(shown), "nextToken": token}

    def describe_nodegroup(self, parameters: Parameters) -> Result:
        """One node group: status, sizes, its Auto Scaling group and health."""
        return {"nodegroup": self._nodegroup(self._pool(parameters))}

    def update_nodegroup_config(self, parameters: Parameters) -> Result:
        """Change the group's sizes; it is UPDATING for a minute.

        Raises:
            AwsError: ResourceInUseException while UPDATING, InvalidParameterException for sizes that do
                not fit each other or EKS's limit.
        """
        known = ("clusterName", "nodegroupName", "scalingConfig", "clientRequestToken")
        refuse_unknown(parameters, "UpdateNodegroupConfig", *known)
        deployment, pool = self._deployment, self._pool(parameters)
        if deployment.is_busy(pool.name):
            raise AwsError(
                "ResourceInUseException",
                f"Nodegroup cannot be updated as it is currently not in Active State: {pool.name}",
            )
        current = self._scaling(pool)
        wanted = {**current, **parameters.get("scalingConfig", {})}
        _check_sizes(wanted)
        deployment.minimum[pool.name] = wanted["minSize"]
        deployment.nodes.set_maximum(pool.name, wanted["maxSize"], deployment.time)
        deployment.nodes.set_desired(pool.name, wanted["desiredSize"], deployment.time)
        deployment.busy_until[pool.name] = deployment.time + UPDATE_SECONDS
        return {"update": self._update(pool, wanted)}

    def _pool(self, parameters: Parameters) -> Pool:
        self._check_cluster(parameters["clusterName"])
        pool = self._deployment.fleet.pool_named.get(parameters["nodegroupName"])
        if pool is None or not self._deployment.nodes.exists(pool.name):
            name = parameters["nodegroupName"]
            raise AwsError("ResourceNotFoundException", f"No node group found for name: {name}.", 404)
        return pool

    def _check_cluster(self, cluster: str) -> None:
        if cluster != self._deployment.cluster:
            raise AwsError("ResourceNotFoundException", f"No cluster found for name: {cluster}.", 404)

    def _scaling(self, pool: Pool) -> dict[str, int]:
        nodes = self._deployment.nodes
        return {
            "minSize": self._deployment.minimum[pool.name],
            "maxSize": nodes.maximum(pool.name),
            "desiredSize": nodes.desired(pool.name),
        }

    def _nodegroup(self, pool: Pool) -> dict[str, Any]:
        deployment = self._deployment
        unit = deployment.fleet.unit_of[pool.name]
        identity = stable_id(deployment.account, deployment.cluster, "node group", pool.name)
        arn = f"arn:aws:eks:{REGION}:{deployment.account}:nodegroup/{deployment.cluster}/{pool.name}"
        return {
            "nodegroupName": pool.name,
            "nodegroupArn": f"{arn}/{identity}",
            "clusterName": deployment.cluster,
            "status": deployment.status(pool.name),
            "capacityType": "SPOT" if pool.market == "spot" else "ON_DEMAND",
            "scalingConfig": self._scaling(pool),
            "instanceTypes": [unit.instance_type],
            "subnets": [SUBNET],
            "resources": {"autoScalingGroups": [{"name": deployment.group(pool.name)}]},
            "health": {"issues": self._issues(pool)},
            "tags": {CLUSTER_TAG: deployment.cluster, NODE_GROUP_TAG: pool.name},
        }

    def _issues(self, pool: Pool) -> list[Result]:
        deployment = self._deployment
        refusals = deployment.nodes.refusals(pool.name)
        if not refusals or deployment.time - refusals[-1].at > ISSUE_SECONDS:
            return []
        return [
            {
                "code": "AsgInstanceLaunchFailures",
                "message": status_message(deployment, refusals[-1]),
                "resourceIds": [deployment.group(pool.name)],
            }
        ]

    def _update(self, pool: Pool, sizes: Mapping[str, int]) -> Result:
        deployment = self._deployment
        kinds = {"minSize": "MinSize", "maxSize": "MaxSize", "desiredSize": "DesiredSize"}
        return {
            "id": stable_id(deployment.cluster, pool.name, deployment.time),
            "status": "InProgress",
            "type": "ConfigUpdate",
            "params": [{"type": kinds[key], "value": str(size)} for key, size in sizes.items()],
            "createdAt": deployment.time,
            "errors": [],
        }


def _check_sizes(sizes: Mapping[str, int]) -> None:
    low, high, desired = sizes["minSize"], sizes["maxSize"], sizes["desiredSize"]
    if low > desired:
        raise _invalid(f"Minimum capacity {low} can't be greater than desired size {desired}")
    if desired > high:
        raise _invalid(f"desired capacity {desired} can't be greater than max size {high}")
    if low < 0 or not 1 <= high <= MAX_NODES:
        raise _invalid(f"sizes must lie between 0 and {MAX_NODES}, and max size must be at least 1")


def _invalid(message: str) -> AwsError:
    return AwsError("InvalidParameterException", message)
