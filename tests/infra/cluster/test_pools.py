"""Pools: a node group each, in the right place, on the right image, and never sized by the template."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from aws_cdk.assertions import Template

from control_lambda.core.fleet import Fleet
from control_lambda.fleet_file import load_fleet
from infra import catalog, pins
from infra.settings import KUBERNETES_VERSIONS, Settings

ROOT = Path(__file__).parents[3]
FLEETS = ["fleet.yaml", *(f"fleets/{path.name}" for path in sorted((ROOT / "fleets").glob("*.yaml")))]
NewSettings = Callable[..., Settings]
Synth = Callable[[Settings], Template]
FLEET = load_fleet(ROOT / "fleet.yaml")


def node_groups(template: Template) -> dict[str, dict[str, Any]]:
    """Pool name to the properties of its node group; the system nodes left out."""
    found = [group["Properties"] for group in template.find_resources("AWS::EKS::Nodegroup").values()]
    pools = {group["Labels"]["fulcrum.dev/pool"]: group for group in found}
    del pools["system"]
    return pools


def launch_template(template: Template, group: dict[str, Any]) -> dict[str, Any]:
    """The data of the node group's launch template."""
    logical_id = group["LaunchTemplate"]["Id"]["Ref"]
    data: dict[str, Any] = template.to_json()["Resources"][logical_id]["Properties"]["LaunchTemplateData"]
    return data


def tags_of(data: dict[str, Any], kind: str) -> dict[str, str]:
    """The tags that the launch template puts on instances or volumes."""
    (found,) = [spec["Tags"] for spec in data["TagSpecifications"] if spec["ResourceType"] == kind]
    return {tag["Key"]: tag["Value"] for tag in found}


@pytest.fixture(scope="module", params=FLEETS)
def deployed(
    request: pytest.FixtureRequest, new_settings: NewSettings, synth_ground: Synth
) -> tuple[Fleet, dict[str, dict[str, Any]]]:
    """Each shipped fleet with the node groups that it gets."""
    path = str(ROOT / request.param)
    return load_fleet(path), node_groups(synth_ground(new_settings(fleet_file=path)))


def test_every_pool_has_a_node_group(deployed: tuple[Fleet, dict[str, dict[str, Any]]]) -> None:
    """Pools of one unit in two markets are two node groups."""
    fleet, groups = deployed
    assert groups.keys() == {pool.name for pool in fleet.pools}


def test_no_pool_is_sized_by_the_template(deployed: tuple[Fleet, dict[str, dict[str, Any]]]) -> None:
    """CloudFormation resends the desired size with any other limit: so no fleet changes any of the three."""
    _, groups = deployed
    for group in groups.values():
        assert group["ScalingConfig"] == {"MinSize": 0, "DesiredSize": 0, "MaxSize": 450}


def test_a_pool_has_its_units_type_and_market(deployed: tuple[Fleet, dict[str, dict[str, Any]]]) -> None:
    """One type in one market: a price and a shortage belong to exactly one pool."""
    fleet, groups = deployed
    for pool in fleet.pools:
        group = groups[pool.name]
        assert group["InstanceTypes"] == [fleet.unit_of[pool.name].instance_type]
        assert group["CapacityType"] == {"on-demand": "ON_DEMAND", "spot": "SPOT"}[pool.market]


def test_a_pool_can_be_replaced(deployed: tuple[Fleet, dict[str, dict[str, Any]]]) -> None:
    """With a name of its own the new group could not stand beside the old one."""
    _, groups = deployed
    assert not any("NodegroupName" in group for group in groups.values())


def test_nodes_know_their_pool_and_take_no_other_pods(
    deployed: tuple[Fleet, dict[str, dict[str, Any]]],
) -> None:
    """Labels for selectors and autoscalers; the taint stays for good."""
    fleet, groups = deployed
    for name, group in groups.items():
        assert group["Labels"]["fulcrum.dev/unit"] == fleet.unit_of[name].name
        assert group["Taints"] == [{"Key": "fulcrum.dev/pool", "Value": name, "Effect": "NO_SCHEDULE"}]


@pytest.mark.parametrize(
    ("pool", "ami_type"),
    [
        ("inf2-neuron-on-demand", "AL2023_x86_64_NEURON"),
        ("trn1-neuron-on-demand", "AL2023_x86_64_NEURON"),
        ("g5-inductor-on-demand", "AL2023_x86_64_NVIDIA"),
        ("g6-inductor-on-demand", "AL2023_x86_64_NVIDIA"),
    ],
)
def test_an_accelerator_gets_the_image_with_its_driver(ground: Template, pool: str, ami_type: str) -> None:
    """The release is pinned: a newer driver is a change like any other."""
    group = node_groups(ground)[pool]
    assert group["AmiType"] == ami_type
    assert group["ReleaseVersion"] == pins.version("ami", "eks-node", KUBERNETES_VERSIONS[-1])


@pytest.mark.parametrize("version", KUBERNETES_VERSIONS)
def test_nodes_have_the_clusters_version(
    new_settings: NewSettings, synth_ground: Synth, version: str
) -> None:
    """A node may be older than its control plane, never newer; here they are the same."""
    template = synth_ground(new_settings(kubernetes_version=version))
    releases = {
        group["Properties"]["ReleaseVersion"].rpartition(".")[0]
        for group in template.find_resources("AWS::EKS::Nodegroup").values()
    }
    assert releases == {version}


def test_only_nvidia_nodes_are_labelled_as_having_a_gpu(ground: Template) -> None:
    """NVIDIA's device plugin goes by this label."""
    labelled = {
        name for name, group in node_groups(ground).items() if "nvidia.com/gpu.present" in group["Labels"]
    }
    assert labelled == {"g5-inductor-on-demand", "g6-inductor-on-demand", "g5-eager-on-demand"}


def test_a_pool_is_in_the_zones_that_offer_its_type(ground: Template) -> None:
    """trn1 is offered in two of the five zones in use."""
    subnets = ground.find_resources("AWS::EC2::Subnet")
    group = node_groups(ground)["trn1-neuron-on-demand"]
    zones = {subnets[subnet["Ref"]]["Properties"]["AvailabilityZoneId"] for subnet in group["Subnets"]}
    assert zones == {"use1-az5", "use1-az6"}


@pytest.mark.parametrize("pool", ["inf2-neuron-on-demand", "g5-eager-on-demand"])
def test_a_node_gives_pods_no_credentials_and_writes_to_an_encrypted_disk(
    ground: Template, pool: str
) -> None:
    """IMDSv2 with a hop limit of one ends at the node; 150 GiB hold image, weights and artifacts."""
    data = launch_template(ground, node_groups(ground)[pool])
    assert data["MetadataOptions"] == {"HttpPutResponseHopLimit": 1, "HttpTokens": "required"}
    (disk,) = data["BlockDeviceMappings"]
    assert disk["DeviceName"] == "/dev/xvda"
    assert {"Encrypted": True, "VolumeSize": 150, "VolumeType": "gp3"}.items() <= disk["Ebs"].items()


def test_the_template_names_no_image(ground: Template) -> None:
    """With an image of its own in the launch template, EKS would not install kubelet and driver."""
    for group in node_groups(ground).values():
        data = launch_template(ground, group)
        assert "ImageId" not in data
        assert "UserData" not in data


@pytest.mark.parametrize("kind", ["instance", "volume"])
def test_instances_and_volumes_are_tagged_with_unit_and_pool(ground: Template, kind: str) -> None:
    """EKS does not pass a node group's tags on; without the launch template's, costs have no pool."""
    for name, group in node_groups(ground).items():
        tags = tags_of(launch_template(ground, group), kind)
        assert tags["fulcrum:pool"] == name
        assert tags["fulcrum:unit"] == group["Labels"]["fulcrum.dev/unit"]


def test_every_volume_states_what_it_does_and_no_more_than_its_instance_takes(ground: Template) -> None:
    """gp3 is 125 MiB/s unless told otherwise; what an instance cannot take would be paid for nothing."""
    for name, group in node_groups(ground).items():
        volume = launch_template(ground, group)["BlockDeviceMappings"][0]["Ebs"]
        takes = catalog.instance_type(FLEET.unit_of[name].instance_type)
        assert (volume["VolumeType"], volume["Iops"]) == ("gp3", 3000)
        assert 125 < volume["Throughput"] <= takes.ebs_mbps * 1e6 / 2**20
        assert volume["Throughput"] <= 3000 / 4  # what gp3 gives for an operation a second: a quarter MiB/s
        assert takes.ebs_iops >= 3000


def test_accelerators_are_updated_without_a_surge(ground: Template) -> None:
    """A new node before the old one goes would need an accelerator more, from a quota that is full."""
    for name, group in node_groups(ground).items():
        assert group["UpdateConfig"] == {"MaxUnavailable": 1, "UpdateStrategy": "MINIMAL"}, name


def test_no_node_group_repairs_its_nodes_by_itself(ground: Template) -> None:
    """The loop does: two repairers would double the loss."""
    groups = ground.find_resources("AWS::EKS::Nodegroup").values()
    assert len(groups) == 1 + len(FLEET.pools)
    assert all(group["Properties"]["NodeRepairConfig"] == {"Enabled": False} for group in groups)
