"""The pinned Helm charts that the cluster needs, and the values that they are given."""

from collections.abc import Mapping
from typing import Any, Final

from aws_cdk import Duration, Stack
from aws_cdk import aws_eks_v2 as eks
from aws_cdk import aws_iam as iam

from infra import pins, tags
from infra.accelerators import DevicePlugin
from infra.cluster.nodes import POOL_LABEL
from infra.helm import Chart
from infra.nag import acknowledge_wildcard

NAMESPACE: Final = "kube-system"
PATIENCE: Final = Duration.minutes(10)  # for a chart to become ready; the provider's own limit is 15 minutes
_READS: Final = (
    "ec2:DescribeAvailabilityZones",
    "ec2:DescribeInstances",
    "ec2:DescribeSecurityGroups",
    "ec2:DescribeVpcs",
    "elasticloadbalancing:DescribeTargetGroups",
    "elasticloadbalancing:DescribeTargetHealth",
)
# A device plugin runs on the nodes of every pool.
_TOLERATIONS: Final = [{"key": POOL_LABEL, "operator": "Exists", "effect": "NoSchedule"}]

LOAD_BALANCER_CONTROLLER: Final = Chart(
    release="aws-load-balancer-controller",
    chart="aws-load-balancer-controller",
    repository="https://aws.github.io/eks-charts",
    version=pins.version("chart", "aws-load-balancer-controller"),
)


def controller_values(*, cluster: str, region: str, vpc_id: str, service_account: str) -> Mapping[str, Any]:
    """The controller only binds pods to target groups that the stack owns: no Ingress, no Service.

    It is told region and VPC, which it could not read from the instance metadata (hop limit 1).
    """
    return {
        "clusterName": cluster,
        "region": region,
        "vpcId": vpc_id,
        "serviceAccount": {"create": True, "name": service_account},
        "createIngressClassResource": False,
        "ingressClassParams": {"create": False},
        "enableServiceMutatorWebhook": False,
        # Without it every change of a value here makes a new certificate, which the webhook has to wait for.
        "keepTLSSecret": True,
        "enableShield": False,
        "enableWaf": False,
        "enableWafv2": False,
    }


def grant_controller(role: iam.Role, *, stack_name: str) -> None:
    """Let the controller put pods into existing target groups, those of this stack only.

    Source: "You only want the LBC to add and remove IPs to already existing target groups" in the
    controller's docs/deploy/installation.md, less the two Modify actions, which its code for target
    group bindings does not call.
    """
    target_groups = Stack.of(role).format_arn(
        service="elasticloadbalancing", resource="targetgroup", resource_name="*"
    )
    role.add_to_policy(iam.PolicyStatement(sid="ReadTargets", actions=[*_READS], resources=["*"]))
    role.add_to_policy(
        iam.PolicyStatement(
            sid="BindTargets",
            actions=["elasticloadbalancing:DeregisterTargets", "elasticloadbalancing:RegisterTargets"],
            resources=[target_groups],
            conditions={"StringEquals": {f"aws:ResourceTag/{tags.STACK}": stack_name}},
        )
    )
    acknowledge_wildcard(role, "*", "EC2 and ELB take no resource in Describe calls; they only read.")
    acknowledge_wildcard(
        role,
        f"arn:<AWS::Partition>:elasticloadbalancing:{Stack.of(role).region}:<AWS::AccountId>:targetgroup/*",
        f"Target groups have generated names; the tag {tags.STACK} limits it to those of this stack.",
    )


def install_device_plugin(cluster: eks.Cluster, plugin: DevicePlugin) -> eks.HelmChart:
    """Install an accelerator's device plugin."""
    return install(cluster, plugin.chart, plugin.values(_TOLERATIONS))


def install(
    cluster: eks.Cluster, chart: Chart, values: Mapping[str, Any], *, wait: bool = False
) -> eks.HelmChart:
    """Install the chart; with `wait`, until everything in it is ready."""
    return cluster.add_helm_chart(
        chart.release,
        chart=chart.chart,
        repository=chart.repository,
        version=chart.version,
        release=chart.release,
        namespace=NAMESPACE,
        create_namespace=False,
        values=dict(values),
        wait=wait,
        timeout=PATIENCE if wait else None,
    )
