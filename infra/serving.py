"""The model servers in the cluster: for each unit its Service and binding, for each pool its pods."""

from collections.abc import Mapping, Sequence
from typing import Final, cast

from aws_cdk import aws_eks_v2 as eks
from aws_cdk import aws_elasticloadbalancingv2 as elbv2
from constructs import Construct, IConstruct

from control_lambda.core import names
from control_lambda.core.fleet import Pool, Unit
from infra import catalog, permissions
from infra.builds.images import Images
from infra.builds.model_store import ModelStore
from infra.cluster.cluster import NAMESPACE, Cluster
from infra.manifests.common import PORT, ROUTER, SERVER, Manifest, labels, manifest
from infra.manifests.network_policies import network_policies, router_network_policies
from infra.manifests.pool import deployment
from infra.manifests.pool_autoscaler import autoscaler, shared_manifests
from infra.manifests.router import router_bindings, router_workload
from infra.manifests.server_environment import server_environment
from infra.manifests.unit import unit_manifests
from infra.permissions import ANYTHING, Grant
from infra.settings import Settings

PUT_METRICS: Final = Grant(
    sid="PutMetrics",
    actions=["cloudwatch:PutMetricData"],
    resources=[ANYTHING],
    conditions={"StringEquals": {"cloudwatch:namespace": names.NAMESPACE}},
    forced="PutMetricData knows no resource; a condition asks for this project's namespace",
)


class Serving(Construct):
    """What runs in the namespace, in three layers; each stands before the next one and goes after it.

    First what all share: accounts, rights, network policies. Then, per unit, Service, binding to the target
    group and disruption budget: with these in place a new pod is given its readiness gate. Last, once the
    images are built, the pods: per pool a Deployment and the autoscaler that keeps one pod per node. All
    of it depends on the load balancer controller, which must outlive the bindings to remove their
    finalizers.

    One manifest per unit and layer, so that CloudFormation deletes what a unit leaves behind:
    `kubectl apply --prune` would leave bindings and budgets.
    """

    def __init__(
        self,
        scope: Construct,
        id: str,
        *,
        settings: Settings,
        cluster: Cluster,
        target_groups: Mapping[str, elbv2.ITargetGroup],
        images: Images,
        model_store: ModelStore,
    ) -> None:
        super().__init__(scope, id)
        self._settings = settings
        self._cluster = cluster
        self._images = images
        self._model = model_store.model
        self._cidrs = [str(settings.vpc_cidr)]  # the load balancer stands in subnets of this VPC
        self._shared = self._apply("Shared", self._shared_manifests(), after=[cluster.namespace])
        role = self._role(SERVER, [*self._reading(model_store), PUT_METRICS])
        for unit in settings.fleet.units:
            arn = target_groups[unit.name].target_group_arn
            bound = self._apply(
                f"Unit-{unit.name}",
                unit_manifests(unit=unit.name, target_group_arn=arn),
                after=[self._shared],
            )
            self._apply(f"Pods-{unit.name}", self._pods(unit), after=[bound, *role, images.run.built])

    def add_router(self, target_group: elbv2.ITargetGroup) -> None:
        """Put the query router in front of the units, for a fleet with `routing: router`."""
        role = self._role(ROUTER, [PUT_METRICS])
        bindings = router_bindings(target_group_arn=target_group.target_group_arn)
        policies = router_network_policies(load_balancer_cidrs=self._cidrs)
        bound = self._apply("RouterBinding", [*bindings, *policies], after=[self._shared])
        workload = router_workload(
            image=self._images.uri_of("router"),
            fleet_json=self._settings.fleet.to_json(),
            variables={
                "PORT": str(PORT),
                "NAMESPACE": NAMESPACE,
                "METRIC_NAMESPACE": names.NAMESPACE,
                "FLEET": self._cluster.cluster.cluster_name,
                "AWS_REGION": self._settings.region,
                "STEPS": str(self._model.steps),
                "SHAPES": ",".join(self._model.shapes),
                "HOLD_SECONDS": f"{self._settings.fleet.hold_seconds:g}",
            },
        )
        self._apply("RouterPods", workload, after=[bound, *role, self._images.run.built])

    def _apply(self, id: str, manifests: Sequence[Manifest], *, after: Sequence[IConstruct]) -> Construct:
        cluster = cast("eks.ICluster", self._cluster.cluster)
        applied = eks.KubernetesManifest(self, id, cluster=cluster, manifest=list(manifests))
        applied.node.add_dependency(*after)
        return applied

    def _role(self, account: str, grants: Sequence[Grant]) -> list[IConstruct]:
        """The account's role and its association, both of which pods must find when they are made."""
        name = f"{account.capitalize()}Role"
        role = self._cluster.pod_role(name, namespace=NAMESPACE, service_account=account)
        permissions.grant(role, grants)
        return [role, self._cluster.node.find_child(f"{name}Association")]

    def _reading(self, store: ModelStore) -> list[Grant]:
        if not store.model.bucket:
            return []
        return [store.reading(store.model.weights), store.reading(store.model.artifacts_prefix)]

    def _shared_manifests(self) -> list[Manifest]:
        fleet = self._settings.fleet
        return [
            manifest("v1", "ServiceAccount", SERVER, {}, labelled=labels(SERVER)),
            *shared_manifests(pools=[pool.name for pool in fleet.pools]),
            *network_policies(load_balancer_cidrs=self._cidrs),
        ]

    def _pods(self, unit: Unit) -> list[Manifest]:
        """The Deployments of the unit's pools, and their autoscalers."""
        return [
            made for pool in unit.pools for made in (self._servers(unit, pool), autoscaler(pool=pool.name))
        ]

    def _servers(self, unit: Unit, pool: Pool) -> Manifest:
        variables = server_environment(
            fleet=self._settings.fleet,
            unit=unit,
            pool=pool,
            model=self._model,
            cluster_name=self._cluster.cluster.cluster_name,
        )
        return deployment(
            unit=unit,
            pool=pool,
            instance_type=catalog.instance_type(unit.instance_type),
            image=self._images.uri_of(unit.accelerator),
            variables={**variables, "AWS_REGION": self._settings.region},
        )
