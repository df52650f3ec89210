"""The EKS cluster: control plane, add-ons, system nodes, device plugins and the controller that binds
pods to target groups.

Order: networking add-ons, system nodes, what runs on them, the load balancer controller (waited
for), the namespace. Deletion runs the other way round, so that the controller outlives every object
whose finalizer it has to remove.
"""

from typing import Final, cast

from aws_cdk import Annotations
from aws_cdk import aws_ec2 as ec2
from aws_cdk import aws_eks_v2 as eks
from aws_cdk import aws_iam as iam
from aws_cdk import aws_kms as kms
from aws_cdk.lambda_layer_kubectl_v36 import KubectlV36Layer
from constructs import Construct

from infra import tags
from infra.accelerators import ACCELERATORS
from infra.cluster import charts, nodes
from infra.cluster.addons import networking_addons, pods, running_addons
from infra.cluster.kubectl import configure_kubectl
from infra.log_groups import log_group
from infra.nag import acknowledge_managed_policy
from infra.network import Network
from infra.permissions import acknowledge
from infra.removal import kept
from infra.settings import ANYWHERE, SYSTEM_INSTANCE_TYPE, Settings

NAMESPACE: Final = "fulcrum"
SYSTEM_NODES: Final = 2  # one may fail or be replaced
SYSTEM_VOLUME_GIB: Final = 50
CONTROLLER_ACCOUNT: Final = "aws-load-balancer-controller"


class Cluster(Construct):
    """Private nodes, all control plane logs, encrypted secrets, access entries instead of the aws-auth map.

    `cluster` is the cluster, `pod_security_group` the one that its nodes and pods are in,
    `controller` the load balancer controller's chart, `namespace` the manifest of the namespace
    `namespace_name`, in which readiness gates are injected and Pod Security is enforced.
    """

    namespace_name: Final = NAMESPACE

    def __init__(self, scope: Construct, id: str, *, settings: Settings, network: Network) -> None:
        super().__init__(scope, id)
        self._settings = settings
        self._network = network
        self.cluster = self._control_plane()
        self.pod_security_group: ec2.ISecurityGroup = self.cluster.cluster_security_group
        self.node_role = nodes.node_role(self, "NodeRole")
        self._grant_admins()
        self.system_nodes = self._system_nodes()
        self.system_nodes.node.add_dependency(*networking_addons(self, self.cluster, settings))
        for addon in running_addons(self, self.cluster, settings):
            addon.node.add_dependency(self.system_nodes)
        self.controller = self._load_balancer_controller()
        self._device_plugins()
        self.namespace = self._namespace()

    def pod_role(self, id: str, *, namespace: str, service_account: str) -> iam.Role:
        """A role without rights that only pods of this service account take, through Pod Identity."""
        role = iam.Role(self, id, assumed_by=pods())
        eks.CfnPodIdentityAssociation(
            self,
            f"{id}Association",
            cluster_name=self.cluster.cluster_name,
            namespace=namespace,
            service_account=service_account,
            role_arn=role.role_arn,
        )
        return role

    def _control_plane(self) -> eks.Cluster:
        settings = self._settings
        logged = log_group(
            self, "ControlPlaneLogs", settings=settings, name=f"/aws/eks/{settings.stack_name}/cluster"
        )
        cluster = eks.Cluster(
            self,
            "Eks",
            # A name of our own: EKS would make the log group of a generated one without retention, and
            # CloudFormation refuses to replace what has a name, whatever a change asks for.
            cluster_name=settings.stack_name,
            version=eks.KubernetesVersion.of(settings.kubernetes_version),
            vpc=self._network.vpc,
            vpc_subnets=[ec2.SubnetSelection(subnet_type=ec2.SubnetType.PRIVATE_WITH_EGRESS)],
            endpoint_access=_endpoint_access(settings),
            cluster_logging=list(eks.ClusterLoggingTypes),
            secrets_encryption_key=self._secrets_key(),
            default_capacity_type=eks.DefaultCapacityType.NODEGROUP,
            default_capacity=0,
            bootstrap_cluster_creator_admin_permissions=False,
            bootstrap_self_managed_addons=False,
            kubectl_provider_options=eks.KubectlProviderOptions(
                kubectl_layer=KubectlV36Layer(self, "Kubectl")
            ),
        )
        cluster.node.add_dependency(logged)
        # EXTENDED, which is EKS's default, and said: STANDARD would upgrade the control plane by itself on
        # the day that support ends, past the pinned add-ons and AMIs. `python -m infra pins` gives three
        # months' notice, and the estimate says what extended support costs.
        resource = cast("eks.CfnCluster", cluster.node.default_child)
        resource.upgrade_policy = eks.CfnCluster.UpgradePolicyProperty(support_type="EXTENDED")
        configure_kubectl(cluster, settings)
        _acknowledge(cluster)
        return cluster

    def _secrets_key(self) -> kms.Key:
        return kms.Key(
            self,
            "SecretsKey",
            description=f"Kubernetes secrets of {self._settings.stack_name}",
            enable_key_rotation=True,
            removal_policy=kept(self._settings),
        )

    def _grant_admins(self) -> None:
        policy = eks.AccessPolicy.from_access_policy_name(
            "AmazonEKSClusterAdminPolicy", access_scope_type=eks.AccessScopeType.CLUSTER
        )
        for arn in self._settings.admin_arns:
            self.cluster.grant_access(f"Admin{arn.rsplit('/')[-1]}", arn, [policy])

    def _system_nodes(self) -> eks.CfnNodegroup:
        """Small nodes for what belongs to no pool; they stay up while every pool is at zero."""
        template = nodes.launch_template(self, "SystemNodes", volume_gib=SYSTEM_VOLUME_GIB)
        tags.tag_pool(template, unit=tags.SYSTEM, pool=tags.SYSTEM)
        return eks.CfnNodegroup(
            self,
            "SystemNodeGroup",
            cluster_name=self.cluster.cluster_name,
            node_role=self.node_role.role_arn,
            subnets=[subnet.subnet_id for subnet in self._network.subnets_for(SYSTEM_INSTANCE_TYPE)],
            ami_type=ACCELERATORS["cpu"].ami_type,
            release_version=nodes.ami_release(self._settings.kubernetes_version),
            instance_types=[SYSTEM_INSTANCE_TYPE],
            launch_template=nodes.specification(template),
            scaling_config=eks.CfnNodegroup.ScalingConfigProperty(
                min_size=SYSTEM_NODES, desired_size=SYSTEM_NODES, max_size=SYSTEM_NODES + 1
            ),
            labels={nodes.POOL_LABEL: tags.SYSTEM},
            update_config=nodes.update_config("DEFAULT"),
            node_repair_config=nodes.no_repair(),
        )

    def _load_balancer_controller(self) -> eks.HelmChart:
        role = self.pod_role("ControllerRole", namespace=charts.NAMESPACE, service_account=CONTROLLER_ACCOUNT)
        charts.grant_controller(role, stack_name=self._settings.stack_name)
        values = charts.controller_values(
            cluster=self._settings.stack_name,
            region=self._settings.region,
            vpc_id=self._network.vpc.vpc_id,
            service_account=CONTROLLER_ACCOUNT,
        )
        chart = charts.install(self.cluster, charts.LOAD_BALANCER_CONTROLLER, values, wait=True)
        chart.node.add_dependency(self.system_nodes, role, self.node.find_child("ControllerRoleAssociation"))
        return chart

    def _device_plugins(self) -> None:
        had = {unit.accelerator for unit in self._settings.fleet.units}
        for accelerator, facts in ACCELERATORS.items():
            if accelerator in had and facts.device_plugin:
                charts.install_device_plugin(self.cluster, facts.device_plugin)

    def _namespace(self) -> eks.KubernetesManifest:
        labels = {
            "elbv2.k8s.aws/pod-readiness-gate-inject": "enabled",
            "pod-security.kubernetes.io/enforce": enforced_profile(self._settings),
        }
        manifest = self.cluster.add_manifest(
            "Namespace",
            {"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": NAMESPACE, "labels": labels}},
        )
        manifest.node.add_dependency(self.controller)
        return manifest


def enforced_profile(settings: Settings) -> str:
    """The Pod Security profile of the namespace: the strictest one that what webhooks add keeps to."""
    return "baseline" if settings.application_signals else "restricted"


def _endpoint_access(settings: Settings) -> eks.EndpointAccess:
    """The API is always reachable from the VPC, and from the networks in `api_cidrs` over the internet."""
    if not settings.api_cidrs:
        return eks.EndpointAccess.PRIVATE
    if ANYWHERE in settings.api_cidrs:
        return eks.EndpointAccess.PUBLIC_AND_PRIVATE
    return eks.EndpointAccess.PUBLIC_AND_PRIVATE.only_from(*map(str, settings.api_cidrs))


def _acknowledge(cluster: eks.Cluster) -> None:
    acknowledge_managed_policy(
        cluster, "AmazonEKSClusterPolicy", "EKS asks for it on every cluster, and AWS keeps it in step."
    )
    # cdk-nag 3.0 does not look at aws_eks_v2 yet; what its rule would find is explained all the same.
    acknowledge(
        cluster,
        "AwsSolutions-EKS1",
        "Administrators reach the API from where `api_cidrs` says, with IAM credentials and access entry; "
        "without any network there, the API is closed to the internet.",
    )
    Annotations.of(cluster).acknowledge_warning(
        "@aws-cdk/aws-eks:clusterMustManuallyTagSubnet",
        "The load balancer is the stack's own: nothing looks for subnets by their tags.",
    )
