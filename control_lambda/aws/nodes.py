"""What the node groups, their Auto Scaling groups and their targets hold, joined into pools.

A node is ready when it is InService in its group and a target with one of its addresses is healthy.
"""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final

from control_lambda.aws.calls import Asked, Calls
from control_lambda.core import names
from control_lambda.core.fleet import Fleet
from control_lambda.core.model import Evidence, PoolSignals
from control_lambda.core.supply.refusal_kinds import refused_launch
from control_lambda.environment import Environment

ACTIVITY_SECONDS: Final = 900.0  # older refusals have been seen by an earlier tick
ACTIVITIES_READ: Final = 10  # latest first; one refusal tells as much as many
# A health issue carries no time: it counts as observed once in this period, not anew in every tick.
ISSUE_SECONDS: Final = 900.0

HEALTHY: Final = "healthy"
IN_SERVICE: Final = "InService"
PENDING: Final = "Pending"
LAUNCH: Final = "Launch"


@dataclass(frozen=True, slots=True)
class Instance:
    """An EC2 instance of the cluster: every private address of it, and when it was launched."""

    addresses: frozenset[str]
    launched_at: float


@dataclass(frozen=True, slots=True)
class Group:
    """A pool's Auto Scaling group; `members` maps instance ids to whether they are InService."""

    name: str
    desired: int
    members: Mapping[str, bool]
    suspended: bool


@dataclass(frozen=True, slots=True)
class NodeGroup:
    """A pool's EKS node group: whether it can be changed, and EKS's health issues (code, text)."""

    active: bool
    issues: tuple[tuple[str, str], ...]


@dataclass(frozen=True, slots=True)
class Nodes:
    """Every pool that could be read: its signals, its Auto Scaling group's name, and refused launches."""

    pools: Mapping[str, PoolSignals]
    group_names: Mapping[str, str]
    evidence: tuple[Evidence, ...]


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

    def read(self, calls: Calls, fleet: Fleet, asked_prices: Asked[Mapping[str, float]], at: float) -> Nodes:
        """Read every pool of the fleet; a pool of which something essential is missing is left out."""
        asked_instances = calls.ask("instances", self.instances)
        asked_groups = calls.ask("groups", self.groups)
        asked_healthy = self._ask_healthy(calls, fleet)
        asked_node_groups = self._ask_node_groups(calls, fleet)
        prices = calls.answer(asked_prices) or {}
        instances, groups = calls.answer(asked_instances), calls.answer(asked_groups)
        healthy = {unit: calls.answer(asked) for unit, asked in asked_healthy.items()}
        node_groups = {pool: calls.answer(asked) for pool, asked in asked_node_groups.items()}
        if instances is None or groups is None:
            return Nodes({}, {}, ())
        missing = [pool.name for pool in fleet.pools if pool.name not in groups]
        calls.failures.extend(f"{pool}: no Auto Scaling group" for pool in missing)
        pools = {
            pool.name: pool_signals(
                groups[pool.name], node_groups[pool.name], instances, targets, prices.get(pool.name), at
            )
            for pool in fleet.pools
            if pool.name in groups and (targets := healthy.get(pool.unit)) is not None
        }
        return Nodes(
            pools,
            {pool: group.name for pool, group in groups.items()},
            self._refusals(calls, pools, groups, node_groups, at),
        )

    def _ask_healthy(self, calls: Calls, fleet: Fleet) -> dict[str, Asked[frozenset[str]]]:
        return {
            unit.name: calls.ask(f"target-health {unit.name}", self.healthy_addresses, unit.name)
            for unit in fleet.units
            if unit.name in self._environment.units
        }

    def _ask_node_groups(self, calls: Calls, fleet: Fleet) -> dict[str, Asked[NodeGroup]]:
        return {
            pool.name: calls.ask(f"node-group {pool.name}", self.node_group, pool.name)
            for pool in fleet.pools
            if pool.name in self._environment.node_group_of
        }

    def _refusals(
        self,
        calls: Calls,
        pools: Mapping[str, PoolSignals],
        groups: Mapping[str, Group],
        node_groups: Mapping[str, NodeGroup | None],
        at: float,
    ) -> tuple[Evidence, ...]:
        """Why the pools that hold fewer nodes than they want do: the group's word, or else EKS's."""
        asked = {
            pool: calls.ask(f"scaling-activities {pool}", self.refusals, pool, groups[pool].name, at)
            for pool, signals in pools.items()
            if signals.desired > signals.in_service
        }
        found: list[Evidence] = []
        for pool, waiting in asked.items():
            node_group = node_groups[pool]
            told = () if node_group is None else health_evidence(pool, node_group, at)
            refused = calls.answer(waiting)
            found.extend(refused or told)
        return tuple(found)

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
                    found[pool] = _group(raw)
        return found

    def healthy_addresses(self, unit: str) -> frozenset[str]:
        """The addresses of the unit's healthy targets."""
        arn = self._environment.units[unit].target_group_arn
        answer = self._elbv2.describe_target_health(TargetGroupArn=arn)
        return frozenset(
            target["Target"]["Id"]
            for target in answer["TargetHealthDescriptions"]
            if target["TargetHealth"]["State"] == HEALTHY
        )

    def node_group(self, pool: str) -> NodeGroup:
        """The pool's EKS node group."""
        answer = self._eks.describe_nodegroup(
            clusterName=self._environment.cluster_name, nodegroupName=self._environment.node_group_of[pool]
        )
        raw = answer["nodegroup"]
        issues = raw.get("health", {}).get("issues", [])
        return NodeGroup(
            raw["status"] == "ACTIVE",
            tuple((issue.get("code") or "", issue.get("message") or "") for issue in issues),
        )

    def refusals(self, pool: str, group: str, at: float) -> tuple[Evidence, ...]:
        """The launches of the pool's group that failed within the last quarter of an hour."""
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


def health_evidence(pool: str, node_group: NodeGroup, at: float) -> tuple[Evidence, ...]:
    """EKS's health issues as evidence."""
    observed = at // ISSUE_SECONDS * ISSUE_SECONDS
    return tuple(refused_launch(pool, text, observed, issue_code=code) for code, text in node_group.issues)


def pool_signals(
    group: Group,
    node_group: NodeGroup | None,
    instances: Mapping[str, Instance],
    healthy: frozenset[str],
    price: float | None,
    at: float,
) -> PoolSignals:
    """Join what was read of one pool; an instance that EC2 does not show yet was launched just now."""
    ready = frozenset(
        identity
        for identity, in_service in group.members.items()
        if in_service and identity in instances and instances[identity].addresses & healthy
    )
    starting = {
        identity: instances[identity].launched_at if identity in instances else at
        for identity in group.members
        if identity not in ready
    }
    return PoolSignals(
        desired=group.desired,
        ready=ready,
        starting=starting,
        held=node_group is not None and not node_group.active,
        suspended=group.suspended,
        price=price,
    )


def _addresses(raw: Mapping[str, Any]) -> frozenset[str]:
    """Pods have secondary addresses of the node's interfaces, those in the host's network its first."""
    first = {raw["PrivateIpAddress"]} if raw.get("PrivateIpAddress") else set()
    return frozenset(first).union(
        address["PrivateIpAddress"]
        for interface in raw.get("NetworkInterfaces", [])
        for address in interface.get("PrivateIpAddresses", [])
    )


def _group(raw: Mapping[str, Any]) -> Group:
    members = {
        member["InstanceId"]: member["LifecycleState"] == IN_SERVICE
        for member in raw["Instances"]
        if member["LifecycleState"] == IN_SERVICE or member["LifecycleState"].startswith(PENDING)
    }
    suspended = any(process["ProcessName"] == LAUNCH for process in raw["SuspendedProcesses"])
    return Group(raw["AutoScalingGroupName"], raw["DesiredCapacity"], members, suspended)


def _zone(activity: Mapping[str, Any]) -> str:
    """The zone that refused; empty where AWS does not say, for evidence without one counts for every zone."""
    try:
        details = json.loads(activity.get("Details") or "{}")
    except ValueError:
        return ""
    return str(details.get("Availability Zone") or "") if isinstance(details, dict) else ""
