"""EKS add-ons, each at the version that infra/tables/pins.csv holds for the cluster's Kubernetes.

Those that talk to AWS have a role of their own through Pod Identity, so that the nodes' role needs
no right beyond joining the cluster.
"""

import json
from collections.abc import Mapping
from typing import Any, Final, cast

from aws_cdk import aws_eks_v2 as eks
from aws_cdk import aws_iam as iam
from constructs import Construct, IConstruct

from infra import pins
from infra.log_groups import log_group
from infra.nag import acknowledge_managed_policy
from infra.settings import Settings

INSIGHTS: Final = "amazon-cloudwatch-observability"
# The log groups that it would otherwise make itself, without retention.
INSIGHTS_LOGS: Final = ("application", "dataplane", "host", "performance")
POD_IDENTITY_AGENT: Final = "eks-pod-identity-agent"
NAMES: Final = (POD_IDENTITY_AGENT, "vpc-cni", "kube-proxy", INSIGHTS, "coredns")


def pods() -> iam.IPrincipal:
    """Whoever EKS Pod Identity takes a role for."""
    return iam.SessionTagsPrincipal(iam.ServicePrincipal("pods.eks.amazonaws.com"))


def insights_values(*, application_signals: bool) -> Mapping[str, Any]:
    """Application Signals only where it is asked for.

    From its version 5 on the add-on otherwise instruments every Deployment that a Service selects: its
    webhook adds init containers without a security context, and the namespace's Pod Security refuses the pod
    (aws/amazon-cloudwatch-agent-operator#360, #361).
    """
    wanted = {"monitorAllServices": application_signals, "restartPods": False}
    return {"manager": {"applicationSignals": {"autoMonitor": wanted}}}


def networking_addons(scope: Construct, cluster: eks.Cluster, settings: Settings) -> list[IConstruct]:
    """What a node needs before it is ready."""
    # The construct's own add-on: whoever asks it for a service account with Pod Identity asks for this one.
    pod_identity_agent = cast("IConstruct", cluster.eks_pod_identity_agent)
    resource = cast("eks.CfnAddon", pod_identity_agent.node.default_child)
    resource.addon_version = _version(POD_IDENTITY_AGENT, settings)
    cni_role = _role(scope, "VpcCniRole", "AmazonEKS_CNI_Policy")
    return [
        pod_identity_agent,
        _addon(
            scope,
            "vpc-cni",
            cluster=cluster,
            settings=settings,
            values={"enableNetworkPolicy": "true"},
            roles={"aws-node": cni_role},
        ),
        _addon(scope, "kube-proxy", cluster=cluster, settings=settings),
    ]


def running_addons(scope: Construct, cluster: eks.Cluster, settings: Settings) -> list[Construct]:
    """What runs on nodes, and stays degraded while there is none."""
    agent_role = _role(scope, "CloudWatchAgentRole", "CloudWatchAgentServerPolicy")
    insights = _addon(
        scope,
        INSIGHTS,
        cluster=cluster,
        settings=settings,
        values=insights_values(application_signals=settings.application_signals),
        roles={"cloudwatch-agent": agent_role},
    )
    for kind in INSIGHTS_LOGS:
        name = f"/aws/containerinsights/{settings.stack_name}/{kind}"
        insights.node.add_dependency(
            log_group(scope, f"{kind.capitalize()}Logs", settings=settings, name=name)
        )
    return [insights, _addon(scope, "coredns", cluster=cluster, settings=settings)]


def _role(scope: Construct, id: str, policy: str) -> iam.Role:
    managed = iam.ManagedPolicy.from_aws_managed_policy_name(policy)
    role = iam.Role(scope, id, assumed_by=pods(), managed_policies=[managed])
    acknowledge_managed_policy(
        role, policy, "AWS writes it for this add-on and extends it with it; only its pods take the role."
    )
    return role


def _addon(
    scope: Construct,
    name: str,
    *,
    cluster: eks.Cluster,
    settings: Settings,
    values: Mapping[str, Any] | None = None,
    roles: Mapping[str, iam.Role] | None = None,
) -> eks.CfnAddon:
    """An add-on with its configuration and the role of each of its service accounts."""
    associations = [
        eks.CfnAddon.PodIdentityAssociationProperty(service_account=account, role_arn=role.role_arn)
        for account, role in (roles or {}).items()
    ]
    return eks.CfnAddon(
        scope,
        name,
        addon_name=name,
        addon_version=_version(name, settings),
        cluster_name=cluster.cluster_name,
        configuration_values=json.dumps(values) if values else None,
        pod_identity_associations=associations or None,
        resolve_conflicts="OVERWRITE",
    )


def _version(name: str, settings: Settings) -> str:
    return pins.version("addon", name, settings.kubernetes_version)
