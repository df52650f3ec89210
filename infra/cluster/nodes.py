"""What every node of the cluster has in common, whichever pool it belongs to."""

from typing import Final

from aws_cdk import aws_ec2 as ec2
from aws_cdk import aws_eks_v2 as eks
from aws_cdk import aws_iam as iam
from constructs import Construct

from infra import pins
from infra.nag import acknowledge_managed_policy

# Names the pool, as a label and as the taint that keeps everything else off its nodes.
POOL_LABEL: Final = "fulcrum.dev/pool"
UNIT_LABEL: Final = "fulcrum.dev/unit"
ROOT_DEVICE: Final = "/dev/xvda"  # of every AL2023 AMI
NODE_POLICIES: Final = ("AmazonEKSWorkerNodePolicy", "AmazonEC2ContainerRegistryPullOnly")


def ami_release(kubernetes: str) -> str:
    """The AMI release of the nodes, the same for every AMI type: its drivers fit the images' SDKs."""
    return pins.version("ami", "eks-node", kubernetes)


def launch_template(scope: Construct, id: str, *, volume_gib: int) -> ec2.LaunchTemplate:
    """IMDSv2 only and out of the pods' reach, and an encrypted gp3 root volume of `volume_gib` GiB."""
    return ec2.LaunchTemplate(
        scope,
        id,
        require_imdsv2=True,
        http_put_response_hop_limit=1,
        block_devices=[
            ec2.BlockDevice(
                device_name=ROOT_DEVICE,
                volume=ec2.BlockDeviceVolume.ebs(
                    volume_gib, encrypted=True, volume_type=ec2.EbsDeviceVolumeType.GP3
                ),
            )
        ],
    )


def specification(template: ec2.LaunchTemplate) -> eks.CfnNodegroup.LaunchTemplateSpecificationProperty:
    """The latest version of the template: a change of it rolls the node group."""
    return eks.CfnNodegroup.LaunchTemplateSpecificationProperty(
        id=template.launch_template_id, version=template.latest_version_number
    )


def node_role(scope: Construct, id: str) -> iam.Role:
    """What a node itself may do: join the cluster and pull images. Pods have roles of their own."""
    policies = [iam.ManagedPolicy.from_aws_managed_policy_name(name) for name in NODE_POLICIES]
    role = iam.Role(
        scope, id, assumed_by=iam.ServicePrincipal("ec2.amazonaws.com"), managed_policies=policies
    )
    for name in NODE_POLICIES:
        acknowledge_managed_policy(
            role,
            name,
            "EKS asks for it on every node; it only reads, and AWS keeps it in step with the kubelet.",
        )
    return role
