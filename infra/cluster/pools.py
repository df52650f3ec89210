"""One managed node group per pool of the fleet, empty until the loop sizes it.

Every pool declares the same limits, whatever the fleet says: CloudFormation resends the desired size
when a limit changes, and would undo what the loop has set. The loop enforces the fleet's own limits.
Groups have generated names, so that CloudFormation can replace one: the new one stands before the old
one is drained.
"""

from collections.abc import Mapping
from typing import Final

from aws_cdk import aws_eks_v2 as eks
from constructs import Construct

from control_lambda.core.fleet import MAX_NODES, Market, Pool, Unit
from infra import tags
from infra.accelerators import ACCELERATORS
from infra.cluster import nodes
from infra.cluster.cluster import Cluster
from infra.network import Network
from infra.settings import Settings

VOLUME_GIB: Final = 150  # a model, its compiled artifacts and an image of ten and more GB
CAPACITY_TYPES: Final[Mapping[Market, str]] = {"on-demand": "ON_DEMAND", "spot": "SPOT"}


class Pools(Construct):
    """`node_groups` maps each pool's name to its node group, in the order of the fleet."""

    def __init__(
        self, scope: Construct, id: str, *, settings: Settings, cluster: Cluster, network: Network
    ) -> None:
        super().__init__(scope, id)
        self._settings = settings
        self._cluster = cluster
        self._network = network
        self.node_groups: Mapping[str, eks.CfnNodegroup] = {
            pool.name: self._node_group(unit, pool) for unit in settings.fleet.units for pool in unit.pools
        }

    def _node_group(self, unit: Unit, pool: Pool) -> eks.CfnNodegroup:
        scope = Construct(self, pool.name)
        template = nodes.launch_template(
            scope, "Template", volume_gib=VOLUME_GIB, throughput=nodes.volume_throughput(unit.instance_type)
        )
        tags.tag_pool(scope, unit=unit.name, pool=pool.name)
        group = eks.CfnNodegroup(
            scope,
            "NodeGroup",
            cluster_name=self._cluster.cluster.cluster_name,
            node_role=self._cluster.node_role.role_arn,
            subnets=[subnet.subnet_id for subnet in self._network.subnets_for(unit.instance_type)],
            ami_type=ACCELERATORS[unit.accelerator].ami_type,
            release_version=nodes.ami_release(self._settings.kubernetes_version),
            capacity_type=CAPACITY_TYPES[pool.market],
            instance_types=[unit.instance_type],
            launch_template=nodes.specification(template),
            scaling_config=eks.CfnNodegroup.ScalingConfigProperty(
                min_size=0, desired_size=0, max_size=MAX_NODES
            ),
            labels=_labels(unit, pool),
            # A surge would ask for accelerators that can hardly be had, and count against the quota.
            update_config=nodes.update_config("MINIMAL"),
            node_repair_config=nodes.no_repair(),
            taints=[
                eks.CfnNodegroup.TaintProperty(key=nodes.POOL_LABEL, value=pool.name, effect="NO_SCHEDULE")
            ],
        )
        group.node.add_dependency(self._cluster.system_nodes)
        return group


def _labels(unit: Unit, pool: Pool) -> dict[str, str]:
    return {
        nodes.UNIT_LABEL: unit.name,
        nodes.POOL_LABEL: pool.name,
        **ACCELERATORS[unit.accelerator].node_labels,
    }
