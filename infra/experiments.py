"""What a game day may do to this stack: experiments that wait, and a group that cuts nodes off.

Nothing here runs by itself; `python -m infra gameday` starts and ends it. CloudFormation cannot name the Auto
Scaling groups that EKS makes, so templates find them, and the instances in them, by the tags that EKS gives
them (docs/decisions/0014).
"""

from collections.abc import Mapping, Sequence
from typing import Final

from aws_cdk import Stack
from aws_cdk import aws_cloudwatch as cloudwatch
from aws_cdk import aws_ec2 as ec2
from aws_cdk import aws_eks_v2 as eks
from aws_cdk import aws_fis as fis
from aws_cdk import aws_iam as iam
from constructs import Construct

from control_lambda.core import names
from control_lambda.core.fleet import Pool
from infra import permissions
from infra.cluster.cluster import Cluster
from infra.network import Network
from infra.routing import POD_PORT
from infra.scenarios import POOL_TAG, SCENARIO_TAG, Experiment, cheapest
from infra.settings import Settings

# An experiment ends by itself after this long, whatever became of who started it.
LONGEST: Final = "PT1H"
# The least that EC2 takes: from the rebalance recommendation to the interruption.
BEFORE_INTERRUPTION: Final = "PT2M"
LAST_PORT: Final = 65535

Template = fis.CfnExperimentTemplate


class Experiments(Construct):
    """Templates on the cheapest pools, and `unreachable`: the security group of a node that seems dead.

    Each alarm in `harm` stops every experiment: they
    mean that users are not served, and no scenario has to ring one.
    """

    def __init__(
        self,
        scope: Construct,
        id: str,
        *,
        settings: Settings,
        network: Network,
        cluster: Cluster,
        node_groups: Mapping[str, eks.CfnNodegroup],
        harm: Sequence[cloudwatch.IAlarm],
    ) -> None:
        super().__init__(scope, id)
        self._settings = settings
        self._cluster_name = cluster.cluster.cluster_name
        self._node_groups = node_groups
        self._stops = [
            Template.ExperimentTemplateStopConditionProperty(
                source="aws:cloudwatch:alarm", value=alarm.alarm_arn
            )
            for alarm in harm
        ]
        self.unreachable = self._create_unreachable(network.vpc, cluster.pod_security_group)
        self._role = self._create_role()
        if (pool := cheapest(settings.fleet)) is not None:
            self._shortage(pool)
            self._terminated_node(pool)
        if (spot := cheapest(settings.fleet, "spot")) is not None:
            self._spot_loss(spot)

    def _create_unreachable(self, vpc: ec2.IVpc, cluster_group: ec2.ISecurityGroup) -> ec2.CfnSecurityGroup:
        """Admits everything that a node needs from its cluster, and requests from nobody.

        A node whose interface is moved into it stays a member of the cluster for EC2 and for Kubernetes, and
        its target fails the load balancer's checks.
        """
        # The load balancer's group is in no rule, and the router's pods, in the cluster's group, reach all
        # ports but the one that serves.
        cluster = cluster_group.security_group_id
        ranges = [("tcp", 0, POD_PORT - 1), ("tcp", POD_PORT + 1, LAST_PORT), ("udp", 0, LAST_PORT)]
        group = ec2.CfnSecurityGroup(
            self,
            "Unreachable",
            group_description="Fulcrum game days: a node in it gets no requests",
            vpc_id=vpc.vpc_id,
            security_group_ingress=[
                ec2.CfnSecurityGroup.IngressProperty(
                    ip_protocol=protocol,
                    from_port=first,
                    to_port=last,
                    source_security_group_id=cluster,
                    description="the cluster, but for requests",
                )
                for protocol, first, last in ranges
            ],
            security_group_egress=[
                ec2.CfnSecurityGroup.EgressProperty(
                    ip_protocol="-1", cidr_ip="0.0.0.0/0", description="as any node"
                )
            ],
        )
        ec2.CfnSecurityGroupIngress(
            self,
            "UnreachableToCluster",
            group_id=cluster,
            ip_protocol="-1",
            source_security_group_id=group.attr_group_id,
            description="game days: a node that gets no requests stays in the cluster",
        )
        return group

    def _create_role(self) -> iam.Role:
        role = iam.Role(
            self,
            "Role",
            assumed_by=iam.ServicePrincipal(
                "fis.amazonaws.com",
                conditions={"StringEquals": {"aws:SourceAccount": Stack.of(self).account}},
            ),
            description="Fulcrum: what experiments may do to the fleet's nodes",
        )
        groups = {group.attr_nodegroup_name: group.attr_arn for group in self._node_groups.values()}
        granted = permissions.experiment_grants(self, self._cluster_name, groups)
        self._policy = permissions.grant(role, granted)
        return role

    def _shortage(self, pool: Pool) -> None:
        """Every launch of the pool is refused, in every zone."""
        zones = self._settings.zones_with(self._settings.fleet.unit_of[pool.name].instance_type)
        self._template(
            "Shortage",
            Experiment.SHORTAGE,
            pool,
            says=f"Launches of {pool.name} are refused with InsufficientInstanceCapacity",
            target=self._target(pool, "aws:ec2:autoscaling-group", "ALL"),
            action=("aws:ec2:asg-insufficient-instance-capacity-error", "AutoScalingGroups"),
            parameters={"availabilityZoneIdentifiers": ",".join(sorted(zones)), "duration": LONGEST},
        )

    def _spot_loss(self, pool: Pool) -> None:
        """Every node of the pool is interrupted, with EC2's notice of two minutes."""
        self._template(
            "SpotLoss",
            Experiment.SPOT_LOSS,
            pool,
            says=f"All nodes of {pool.name} are interrupted",
            target=self._target(pool, "aws:ec2:spot-instance", "ALL", running=True),
            action=("aws:ec2:send-spot-instance-interruptions", "SpotInstances"),
            parameters={"durationBeforeInterruption": BEFORE_INTERRUPTION},
        )

    def _terminated_node(self, pool: Pool) -> None:
        """One node of the pool is terminated, behind its group's back."""
        self._template(
            "TerminatedNode",
            Experiment.NODE_TERMINATED,
            pool,
            says=f"A node of {pool.name} is terminated",
            target=self._target(pool, "aws:ec2:instance", "COUNT(1)", running=True),
            action=("aws:ec2:terminate-instances", "Instances"),
            parameters={},
        )

    def _template(
        self,
        id: str,
        scenario: Experiment,
        pool: Pool,
        *,
        says: str,
        target: Template.ExperimentTemplateTargetProperty,
        action: tuple[str, str],
        parameters: Mapping[str, str],
    ) -> None:
        action_id, of = action
        template = Template(
            self,
            id,
            description=says,
            role_arn=self._role.role_arn,
            stop_conditions=self._stops,
            targets={"nodes": target},
            actions={
                scenario.value: Template.ExperimentTemplateActionProperty(
                    action_id=action_id, parameters=dict(parameters), targets={of: "nodes"}
                )
            },
            experiment_options=Template.ExperimentTemplateExperimentOptionsProperty(
                empty_target_resolution_mode="fail"
            ),
            tags={SCENARIO_TAG: scenario.value, POOL_TAG: pool.name},
        )
        template.node.add_dependency(self._policy)

    def _target(
        self, pool: Pool, kind: str, selection: str, *, running: bool = False
    ) -> Template.ExperimentTemplateTargetProperty:
        return Template.ExperimentTemplateTargetProperty(
            resource_type=kind,
            selection_mode=selection,
            resource_tags={
                names.CLUSTER_TAG: self._cluster_name,
                names.NODE_GROUP_TAG: self._node_groups[pool.name].attr_nodegroup_name,
            },
            filters=[Template.ExperimentTemplateTargetFilterProperty(path="State.Name", values=["running"])]
            if running
            else None,
        )
