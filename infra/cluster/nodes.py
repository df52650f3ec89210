"""What every node of the cluster has in common, whichever pool it belongs to."""

from typing import Final

from aws_cdk import aws_ec2 as ec2
from aws_cdk import aws_eks_v2 as eks
from aws_cdk import aws_iam as iam
from constructs import Construct

from infra import catalog, pins
from infra.nag import acknowledge_managed_policy

# Names the pool, as a label and as the taint that keeps everything else off its nodes.
POOL_LABEL: Final = "fulcrum.dev/pool"
UNIT_LABEL: Final = "fulcrum.dev/unit"
# What a gp3 volume does without a surcharge, in operations a second and MiB/s.
GP3_IOPS: Final = 3000
GP3_THROUGHPUT: Final = 125
# An image of 10 GB takes 80 s to read or write at 125 MiB/s and 20 s at this; registry and unpacking would
# not keep up with more. It costs 15 USD a month while the node runs.
VOLUME_THROUGHPUT: Final = 500
ROOT_DEVICE: Final = "/dev/xvda"  # of every AL2023 AMI
NODE_POLICIES: Final = ("AmazonEKSWorkerNodePolicy", "AmazonEC2ContainerRegistryPullOnly")


def ami_release(kubernetes: str) -> str:
    """The AMI release of the nodes, the same for every AMI type: its drivers fit the images' SDKs."""
    return pins.version("ami", "eks-node", kubernetes)


def volume_throughput(instance_type: str) -> int:
    """The MiB/s of a node's volume: enough for the image's layers, and no more than the instance takes."""
    takes = int(catalog.instance_type(instance_type).ebs_mbps * 1e6 / 2**20)
    return max(GP3_THROUGHPUT, min(VOLUME_THROUGHPUT, takes))


def update_config(strategy: str) -> eks.CfnNodegroup.UpdateConfigProperty:
    """How EKS replaces nodes for a new AMI or template: one at a time."""
    return eks.CfnNodegroup.UpdateConfigProperty(max_unavailable=1, update_strategy=strategy)


def no_repair() -> eks.CfnNodegroup.NodeRepairConfigProperty:
    """EKS's own repair stays off, and the template says so: the loop replaces bad nodes, and two who do would
    take away twice as many.
    """
    return eks.CfnNodegroup.NodeRepairConfigProperty(enabled=False)


def launch_template(
    scope: Construct, id: str, *, volume_gib: int, throughput: int = GP3_THROUGHPUT
) -> ec2.LaunchTemplate:
    """IMDSv2 only and out of the pods' reach, and an encrypted gp3 root volume.

    It holds `volume_gib` GiB at `throughput` MiB/s.
    """
    return ec2.LaunchTemplate(
        scope,
        id,
        require_imdsv2=True,
        http_put_response_hop_limit=1,
        block_devices=[
            ec2.BlockDevice(
                device_name=ROOT_DEVICE,
                volume=ec2.BlockDeviceVolume.ebs(
                    volume_gib,
                    encrypted=True,
                    volume_type=ec2.EbsDeviceVolumeType.GP3,
                    iops=GP3_IOPS,
                    throughput=throughput,
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
