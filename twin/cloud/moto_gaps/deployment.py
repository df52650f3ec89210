"""The deployed fleet as AWS holds it: names and identifiers over the twin's `Nodes`."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field

from control_lambda.core.fleet import Fleet, Pool
from control_lambda.core.names import LOAD_BALANCER, TARGET_GROUP
from twin.cloud.moto_gaps.protocol import REGION, stable_id
from twin.world.nodes import Node, Nodes


@dataclass(slots=True)
class Deployment:
    """One fleet in one account.

    A node group is named as its pool. `target_groups` maps a unit to its target group's ARN,
    `busy_until` a pool to when its node group is ACTIVE again, `minimum` a pool to its group's MinSize, which
    the stack declares as 0. `ringing` names the alarms that ring, `unreachable` the nodes with interfaces in
    the security group that no request reaches.
    """

    account: str
    fleet: Fleet
    nodes: Nodes
    cluster: str
    target_groups: Mapping[str, str]
    load_balancer: str
    minimum: dict[str, int] = field(init=False)
    busy_until: dict[str, float] = field(init=False, default_factory=dict)
    pool_of_group: Mapping[str, Pool] = field(init=False)
    ringing: set[str] = field(init=False, default_factory=set)
    unreachable: set[str] = field(init=False, default_factory=set)

    def __post_init__(self) -> None:
        self.minimum = {pool.name: 0 for pool in self.fleet.pools}
        self.pool_of_group = {self.group(pool.name): pool for pool in self.fleet.pools}

    @property
    def time(self) -> float:
        """Now (epoch seconds): the nodes' clock is the cloud's."""
        return self.nodes.now

    def pool(self, name: str) -> Pool:
        """The fleet's pool of that name.

        Raises:
            ValueError: there is none.
        """
        if name not in self.fleet.pool_named:
            raise ValueError(f"no pool {name!r}; valid: {', '.join(self.fleet.pool_named)}")
        return self.fleet.pool_named[name]

    def group(self, pool: str) -> str:
        """The name that EKS gives the node group's Auto Scaling group."""
        return f"eks-{pool}-{stable_id(self.cluster, pool)}"

    def group_arn(self, pool: str) -> str:
        """The ARN of the pool's Auto Scaling group."""
        identity = stable_id(self.account, self.cluster, pool)
        return (
            f"arn:aws:autoscaling:{REGION}:{self.account}:autoScalingGroup:{identity}"
            f":autoScalingGroupName/{self.group(pool)}"
        )

    def is_busy(self, pool: str) -> bool:
        """Whether the pool's node group is UPDATING."""
        return self.status(pool) == "UPDATING"

    def status(self, pool: str) -> str:
        """What EKS says about the pool's node group."""
        updating = self.time < self.busy_until.get(pool, self.time)
        return "UPDATING" if updating else self.nodes.status(pool)

    def hosts(self, unit: str) -> list[Node]:
        """The unit's nodes, of all its pools, that are registered or draining as targets."""
        pools = [pool.name for pool in self.fleet.pools if pool.unit == unit]
        return [node for pool in pools for node in self.nodes.existing(pool)]

    def dimensions(self, unit: str) -> Mapping[str, str]:
        """The dimensions of the unit's load balancer metrics.

        Raises:
            ValueError: the fleet has no such unit.
        """
        if unit not in self.target_groups:
            raise ValueError(f"no unit {unit!r}; valid: {', '.join(self.target_groups)}")
        group = self.target_groups[unit].rpartition(":")[2]
        return {LOAD_BALANCER: metric_dimension(self.load_balancer), TARGET_GROUP: group}

    def unit_of_group(self, dimension: str) -> str | None:
        """The unit whose target group has that metric dimension; None: no unit's has."""
        arns = self.target_groups.items()
        return next((unit for unit, arn in arns if arn.rpartition(":")[2] == dimension), None)

    def existing(self) -> Iterator[Node]:
        """Every node that EC2 still shows."""
        for pool in self.fleet.pools:
            yield from self.nodes.existing(pool.name)

    def is_pending(self, node: Node) -> bool:
        """Whether EC2 has not reported the node running yet."""
        return node.lifecycle(self.time) == "Pending"


def metric_dimension(load_balancer: str) -> str:
    """The load balancer's name in its metrics: what follows `loadbalancer/` in its ARN."""
    return load_balancer.partition(":loadbalancer/")[2]


def address(node: Node) -> str:
    """The node's private IP address, by its number; its one pod's target has the same."""
    number = int(node.id.removeprefix("i-"), 16)
    return f"10.{number >> 16 & 255}.{number >> 8 & 255}.{number & 255}"
