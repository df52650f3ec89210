"""The VPC: private subnets by zone id, egress, endpoints, flow logs, or an existing VPC as it is."""

from collections.abc import Callable
from typing import Any

import pytest
from aws_cdk import App, Environment, Stack
from aws_cdk.assertions import Match, Template

from infra.network import INTERFACE_ENDPOINTS, Network
from infra.settings import Settings

NewSettings = Callable[..., Settings]
ZONES = "use1-az4,use1-az5,use1-az6"


def network_of(settings: Settings) -> tuple[Network, Template]:
    """The network alone, in a stack of its own."""
    stack = Stack(App(), "Alone", env=Environment(region=settings.region))
    network = Network(stack, "Network", settings=settings)
    return network, Template.from_stack(stack)


@pytest.fixture(scope="module")
def template(new_settings: NewSettings) -> Template:
    """The network in three zones, with every other setting at its default."""
    return network_of(new_settings(zones=ZONES))[1]


def subnets(template: Template, kind: str) -> list[dict[str, Any]]:
    """The properties of the subnets of that kind (Private or Public), in order of their network."""
    tag = {"Key": "aws-cdk:subnet-name", "Value": kind}
    found = template.find_resources("AWS::EC2::Subnet", {"Properties": {"Tags": Match.array_with([tag])}})
    return sorted((subnet["Properties"] for subnet in found.values()), key=lambda subnet: subnet["CidrBlock"])


@pytest.mark.parametrize("kind", ["Private", "Public"])
def test_every_zone_has_a_private_and_a_public_subnet_by_zone_id(template: Template, kind: str) -> None:
    """A zone name would be another place in another account, and not where the accelerators are."""
    found = subnets(template, kind)
    assert sorted(subnet["AvailabilityZoneId"] for subnet in found) == ZONES.split(",")
    assert not any("AvailabilityZone" in subnet for subnet in found)


def test_private_subnets_have_room_for_thousands_of_pods(template: Template) -> None:
    """Each pod has an address of its own: /19 for nodes, /24 for load balancer and NAT."""
    assert {subnet["CidrBlock"].partition("/")[2] for subnet in subnets(template, "Private")} == {"19"}
    assert {subnet["CidrBlock"].partition("/")[2] for subnet in subnets(template, "Public")} == {"24"}


def test_six_zones_fit_into_the_narrowest_network(new_settings: NewSettings) -> None:
    """A /19 still leaves a /27 for a load balancer, the least that it takes."""
    zones = "use1-az1,use1-az2,use1-az4,use1-az5,use1-az6,use1-az7"
    template = network_of(new_settings(vpc_cidr="10.0.0.0/19", zones=zones))[1]
    assert len(subnets(template, "Private")) == 6
    assert subnets(template, "Public")[0]["CidrBlock"].endswith("/27")


def test_nothing_gets_a_public_address_by_being_launched(template: Template) -> None:
    """Only the load balancer and NAT have one."""
    assert not any(subnet["MapPublicIpOnLaunch"] for subnet in subnets(template, "Public"))


@pytest.mark.parametrize(("gateways", "expected"), [(1, 1), (3, 3)])
def test_nat_gateways_are_as_many_as_asked_for(
    new_settings: NewSettings, gateways: int, expected: int
) -> None:
    """Each costs by the hour: one is enough until the loss of a zone matters."""
    template = network_of(new_settings(zones=ZONES, nat_gateways=gateways))[1]
    template.resource_count_is("AWS::EC2::NatGateway", expected)


def test_s3_and_dynamodb_do_not_pass_nat(template: Template) -> None:
    """Gateway endpoints are free; model weights through NAT are not."""
    endpoints = template.find_resources("AWS::EC2::VPCEndpoint")
    names = {endpoint["Properties"]["ServiceName"]["Fn::Join"][1][-1] for endpoint in endpoints.values()}
    assert names == {".s3", ".dynamodb"}
    assert {endpoint["Properties"]["VpcEndpointType"] for endpoint in endpoints.values()} == {"Gateway"}


def test_interface_endpoints_stand_only_when_asked_for(new_settings: NewSettings) -> None:
    """They cost by the hour, zone and service."""
    template = network_of(new_settings(zones=ZONES, interface_endpoints=True))[1]
    found = template.find_resources("AWS::EC2::VPCEndpoint", {"Properties": {"VpcEndpointType": "Interface"}})
    assert len(found) == len(INTERFACE_ENDPOINTS)


def test_all_traffic_is_logged_and_kept_as_long_as_the_settings_say(new_settings: NewSettings) -> None:
    """Flow logs go to a log group with a retention."""
    template = network_of(new_settings(zones=ZONES, log_retention_days=14))[1]
    template.has_resource_properties("AWS::EC2::FlowLog", {"TrafficType": "ALL"})
    template.has_resource_properties("AWS::Logs::LogGroup", {"RetentionInDays": 14})


def test_the_default_security_group_admits_nothing(template: Template) -> None:
    """Whatever is put into the VPC without a group of its own is cut off."""
    template.resource_count_is("Custom::VpcRestrictDefaultSG", 1)


def test_a_type_keeps_to_the_zones_that_offer_it(new_settings: NewSettings) -> None:
    """A node group in a zone without its type fails to launch there."""
    network = network_of(new_settings(zones=ZONES))[0]
    zones = [subnet.availability_zone for subnet in network.subnets_for("trn1.2xlarge")]
    assert zones == ["use1-az5", "use1-az6"]


def test_an_existing_vpc_is_used_as_it_is(new_settings: NewSettings) -> None:
    """Nothing is made in it: its endpoints, routes and flow logs are its owner's."""
    settings = new_settings(
        vpc_id="vpc-0123456789abcdef0",
        private_subnets="use1-az5=subnet-00000005,use1-az6=subnet-00000006",
        public_subnets="use1-az6=subnet-00000016,use1-az5=subnet-00000015",
        vpc_cidr="10.9.0.0/16",
    )
    network, template = network_of(settings)
    assert template.to_json().get("Resources", {}) == {}
    assert network.vpc.vpc_id == "vpc-0123456789abcdef0"
    assert network.vpc.vpc_cidr_block == "10.9.0.0/16"
    assert [subnet.subnet_id for subnet in network.subnets_for("trn1.2xlarge")] == [
        "subnet-00000005",
        "subnet-00000006",
    ]
    assert [(subnet.subnet_id, subnet.availability_zone) for subnet in network.vpc.public_subnets] == [
        ("subnet-00000015", "use1-az5"),
        ("subnet-00000016", "use1-az6"),
    ]
