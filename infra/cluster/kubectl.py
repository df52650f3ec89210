"""The CDK's own functions that apply charts and manifests: their logs, and why they are as they are."""

from typing import Final, cast

from aws_cdk import CfnResource
from aws_cdk import aws_eks_v2 as eks
from constructs import Construct

from infra.log_groups import log_group
from infra.nag import acknowledge_managed_policy, acknowledge_wildcard
from infra.permissions import acknowledge
from infra.settings import Settings

MANAGED_POLICIES: Final = (
    "service-role/AWSLambdaBasicExecutionRole",
    "service-role/AWSLambdaVPCAccessExecutionRole",
    "AmazonEC2ContainerRegistryReadOnly",
)
# As cdk-nag writes a policy that is there only in the partition that has a public registry.
PUBLIC_REGISTRY: Final = (
    '{"Fn::If":["ClusterEksKubectlProviderHandlerHasEcrPublic454A6214",'
    '{"Fn::Join":["",["arn:",{"Ref":"AWS::Partition"},'
    '":iam::aws:policy/AmazonElasticContainerRegistryPublicReadOnly"]]},{"Ref":"AWS::NoValue"}]}'
)


def configure_kubectl(cluster: eks.Cluster, settings: Settings) -> None:
    """Give the functions log groups with retention, and say why their rights stand."""
    provider = cast("Construct", cluster.node.find_child("KubectlProvider"))
    for path in ("Handler", "Provider/framework-onEvent"):
        _keep_logs(provider, path, settings)
    for policy in MANAGED_POLICIES:
        acknowledge_managed_policy(
            provider,
            policy,
            "The CDK's kubectl provider logs, runs in the VPC and pulls charts, at deploys alone.",
        )
    acknowledge(provider, f"AwsSolutions-IAM4[Policy::{PUBLIC_REGISTRY}]", "It pulls public charts as well.")
    acknowledge(provider, "AwsSolutions-L1", "The CDK keeps its kubectl provider's runtime current.")
    acknowledge_wildcard(
        provider,
        "<ClusterEksKubectlProviderHandler59BB3552.Arn>:*",
        "The CDK's provider framework invokes this one function, in any version of it.",
    )


def _keep_logs(provider: Construct, path: str, settings: Settings) -> None:
    """The provider takes no log group: the function is told of one behind the construct's back."""
    function = provider
    for step in path.split("/"):
        function = cast("Construct", function.node.find_child(step))
    group = log_group(function, "Logs", settings=settings)
    resource = cast("CfnResource", function.node.default_child)
    resource.add_property_override("LoggingConfig.LogGroup", group.log_group_name)
