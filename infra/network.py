"""The VPC: private subnets for nodes in every zone in use, public ones for NAT and a public ALB.

Zones are named by zone id, because a name such as us-east-1a means another place in every account
and the tables of what is offered where go by id.
"""

from collections.abc import Mapping
from typing import Final, cast

from aws_cdk import Annotations
from aws_cdk import aws_ec2 as ec2
from constructs import Construct

from infra.log_groups import log_group
from infra.settings import Settings

# A VPC of /16 gives each zone a private /19 (8,187 pods and nodes) and a public /24.
PRIVATE_BITS: Final = 3
PUBLIC_BITS: Final = 8

# What nodes and pods ask AWS for; through NAT at a price per GB unless `interface_endpoints` is set.
INTERFACE_ENDPOINTS: Final[Mapping[str, ec2.InterfaceVpcEndpointAwsService]] = {
    "Ec2": ec2.InterfaceVpcEndpointAwsService.EC2,
    "EcrApi": ec2.InterfaceVpcEndpointAwsService.ECR,
    "EcrDocker": ec2.InterfaceVpcEndpointAwsService.ECR_DOCKER,
    "Eks": ec2.InterfaceVpcEndpointAwsService.EKS,
    "EksAuth": ec2.InterfaceVpcEndpointAwsService.EKS_AUTH,
    "ElasticLoadBalancing": ec2.InterfaceVpcEndpointAwsService.ELASTIC_LOAD_BALANCING,
    "Logs": ec2.InterfaceVpcEndpointAwsService.CLOUDWATCH_LOGS,
    "Monitoring": ec2.InterfaceVpcEndpointAwsService.CLOUDWATCH_MONITORING,
    "Sts": ec2.InterfaceVpcEndpointAwsService.STS,
}


class Network(Construct):
    """A new VPC with flow logs and gateway endpoints, or the existing one that the settings name.

    An existing VPC is used as it is: its endpoints, routes and flow logs are its owner's.
    """

    def __init__(self, scope: Construct, id: str, *, settings: Settings) -> None:
        super().__init__(scope, id)
        self._settings = settings
        self.vpc: ec2.IVpc = self._existing() if settings.vpc_id else self._new()

    def subnets_for(self, instance_type: str) -> list[ec2.ISubnet]:
        """The private subnets in zones that offer the instance type."""
        zones = self._settings.zones_with(instance_type)
        return [subnet for subnet in self.vpc.private_subnets if subnet.availability_zone in zones]

    def _existing(self) -> ec2.IVpc:
        private, public = self._settings.private_subnets, self._settings.public_subnets
        zones = [zone for zone in self._settings.zones if zone in private]
        vpc = ec2.Vpc.from_vpc_attributes(
            self,
            "Vpc",
            vpc_id=str(self._settings.vpc_id),
            vpc_cidr_block=str(self._settings.vpc_cidr),
            availability_zones=zones,
            private_subnet_ids=[private[zone] for zone in zones],
            public_subnet_ids=[public[zone] for zone in zones if zone in public] or None,
        )
        Annotations.of(vpc).acknowledge_warning(
            "@aws-cdk/aws-ec2:noSubnetRouteTableId", "Its routes are its owner's, and nothing reads them."
        )
        return vpc

    def _new(self) -> ec2.Vpc:
        prefix = self._settings.vpc_cidr.prefixlen
        vpc = ec2.Vpc(
            self,
            "Vpc",
            ip_addresses=ec2.IpAddresses.cidr(str(self._settings.vpc_cidr)),
            availability_zones=list(self._settings.zones),
            nat_gateways=self._settings.nat_gateways,
            restrict_default_security_group=True,
            subnet_configuration=[
                ec2.SubnetConfiguration(
                    name="Private",
                    subnet_type=ec2.SubnetType.PRIVATE_WITH_EGRESS,
                    cidr_mask=prefix + PRIVATE_BITS,
                ),
                ec2.SubnetConfiguration(
                    name="Public",
                    subnet_type=ec2.SubnetType.PUBLIC,
                    cidr_mask=prefix + PUBLIC_BITS,
                    map_public_ip_on_launch=False,
                ),
            ],
        )
        for subnet in (*vpc.private_subnets, *vpc.public_subnets):
            _place_by_zone_id(subnet)
        self._add_flow_log(vpc)
        self._add_endpoints(vpc)
        return vpc

    def _add_flow_log(self, vpc: ec2.Vpc) -> None:
        group = log_group(self, "FlowLogs", settings=self._settings)
        vpc.add_flow_log("FlowLog", destination=ec2.FlowLogDestination.to_cloud_watch_logs(group))

    def _add_endpoints(self, vpc: ec2.Vpc) -> None:
        vpc.add_gateway_endpoint("S3", service=ec2.GatewayVpcEndpointAwsService.S3)
        vpc.add_gateway_endpoint("DynamoDb", service=ec2.GatewayVpcEndpointAwsService.DYNAMODB)
        if self._settings.interface_endpoints:
            self._add_interface_endpoints(vpc)

    def _add_interface_endpoints(self, vpc: ec2.Vpc) -> None:
        group = ec2.SecurityGroup(
            self, "Endpoints", vpc=vpc, description="HTTPS from the VPC", allow_all_outbound=False
        )
        group.add_ingress_rule(
            ec2.Peer.ipv4(str(self._settings.vpc_cidr)), ec2.Port.tcp(443), "nodes and pods"
        )
        for name, service in INTERFACE_ENDPOINTS.items():
            vpc.add_interface_endpoint(name, service=service, security_groups=[group], open=False)


def _place_by_zone_id(subnet: ec2.ISubnet) -> None:
    """Say the zone by its id: the L2 construct only knows names."""
    resource = cast("ec2.CfnSubnet", subnet.node.default_child)
    resource.add_property_deletion_override("AvailabilityZone")
    resource.add_property_override("AvailabilityZoneId", subnet.availability_zone)
