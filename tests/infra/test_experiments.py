"""What a game day finds in the stack: experiments on this fleet's nodes, a group without requests."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
from aws_cdk.assertions import Template

from infra.routing import POD_PORT
from infra.scenarios import HARM_TO_USERS, cheapest
from tests.infra.conftest import Synth, settings_with

SPOT_TWINS = Path(__file__).parents[2] / "fleets" / "spot-twins.yaml"


@pytest.fixture(scope="module")
def stack(synth: Synth) -> Mapping[str, Any]:
    """The resources of a stack whose fleet has spot pools."""
    found: Mapping[str, Any] = synth(settings_with(fleet_file=str(SPOT_TWINS))).to_json()["Resources"]
    return found


def templates(stack: Mapping[str, Any]) -> dict[str, Any]:
    """The experiment templates by scenario."""
    return {
        resource["Properties"]["Tags"]["fulcrum:scenario"]: resource["Properties"]
        for resource in stack.values()
        if resource["Type"] == "AWS::FIS::ExperimentTemplate"
    }


def statements(stack: Mapping[str, Any]) -> dict[str, Any]:
    """The statements of the experiments' role, by their ids."""
    (policy,) = [
        resource["Properties"]["PolicyDocument"]["Statement"]
        for name, resource in stack.items()
        if resource["Type"] == "AWS::IAM::Policy" and name.startswith("ExperimentsRole")
    ]
    return {statement["Sid"]: statement for statement in policy}


def test_each_scenario_that_needs_one_has_its_experiment(stack: Mapping[str, Any]) -> None:
    """Tagged with the scenario and with the pool that it is about: the cheapest."""
    found = templates(stack)
    assert {name: each["Tags"]["fulcrum:pool"] for name, each in found.items()} == {
        "shortage": "inf2-neuron-spot",
        "node-terminated": "inf2-neuron-spot",
        "spot-loss": "inf2-neuron-spot",
    }
    assert {each["Tags"]["fulcrum:stack"] for each in found.values()} == {"Fulcrum"}


def test_a_fleet_without_spot_pools_has_nothing_to_interrupt(template: Template) -> None:
    """And so no template that could only fail."""
    assert set(templates(template.to_json()["Resources"])) == {"shortage", "node-terminated"}


def test_a_shortage_is_one_of_every_zone_and_ends_by_itself(stack: Mapping[str, Any]) -> None:
    """A group tries its other zones; and nobody may be left to stop the experiment."""
    action = templates(stack)["shortage"]["Actions"]["shortage"]
    settings = settings_with(fleet_file=str(SPOT_TWINS))
    zones = settings.zones_with("inf2.xlarge")
    assert action["ActionId"] == "aws:ec2:asg-insufficient-instance-capacity-error"
    assert action["Parameters"] == {
        "availabilityZoneIdentifiers": ",".join(sorted(zones)),
        "duration": "PT1H",
    }


def test_targets_are_found_by_the_tags_of_one_node_group(stack: Mapping[str, Any]) -> None:
    """Of this cluster: the group's own name is not known before it exists."""
    for found in templates(stack).values():
        (target,) = found["Targets"].values()
        assert set(target["ResourceTags"]) == {"eks:cluster-name", "eks:nodegroup-name"}
        node_group = target["ResourceTags"]["eks:nodegroup-name"]["Fn::GetAtt"]
        assert node_group[0].startswith("Poolsinf2neuronspot")
        assert node_group[1] == "NodegroupName"
        assert found["ExperimentOptions"]["EmptyTargetResolutionMode"] == "fail"


def test_alarms_that_mean_harm_to_users_stop_every_experiment(stack: Mapping[str, Any]) -> None:
    """And no alarm that a scenario has to ring."""
    for found in templates(stack).values():
        stops = [stop["Value"]["Fn::GetAtt"][0] for stop in found["StopConditions"]]
        assert [stack[stop]["Properties"]["AlarmName"] for stop in stops] == [
            f"Fulcrum-{key}" for key in HARM_TO_USERS
        ]


def test_the_role_can_touch_only_this_stacks_nodes_and_groups(stack: Mapping[str, Any]) -> None:
    """Launches by the groups' names, instances by the cluster's tag; only Fault Injection may be it."""
    allowed = statements(stack)
    refuse = allowed["RefuseLaunches"]["Condition"]
    assert refuse["StringEquals"] == {"ec2:FisActionId": "aws:ec2:asg-insufficient-instance-capacity-error"}
    groups = refuse["ForAllValues:ArnLike"]["ec2:FisTargetArns"]
    assert len(groups) == 10
    assert all("autoScalingGroupName/eks-" in str(group) for group in groups)
    assert set(allowed["TakeNodes"]["Condition"]["StringEquals"]) == {"aws:ResourceTag/eks:cluster-name"}
    assert set(allowed) == {"FindTargets", "RefuseLaunches", "TakeNodes"}
    (role,) = [
        resource["Properties"]["AssumeRolePolicyDocument"]["Statement"]
        for name, resource in stack.items()
        if resource["Type"] == "AWS::IAM::Role" and name.startswith("ExperimentsRole")
    ]
    assert role[0]["Principal"] == {"Service": "fis.amazonaws.com"}
    assert "aws:SourceAccount" in role[0]["Condition"]["StringEquals"]


def test_an_unreachable_node_stays_in_its_cluster(stack: Mapping[str, Any]) -> None:
    """Everything from the cluster but requests; nothing at all from the load balancer."""
    (group,) = [
        resource["Properties"]
        for name, resource in stack.items()
        if resource["Type"] == "AWS::EC2::SecurityGroup" and name.startswith("ExperimentsUnreachable")
    ]
    rules = group["SecurityGroupIngress"]
    assert {rule["SourceSecurityGroupId"]["Fn::GetAtt"][1] for rule in rules} == {"ClusterSecurityGroupId"}
    tcp = [(rule["FromPort"], rule["ToPort"]) for rule in rules if rule["IpProtocol"] == "tcp"]
    assert not any(first <= POD_PORT <= last for first, last in tcp)


def test_the_cheapest_pool_is_that_of_the_cheapest_request() -> None:
    """Not of the cheapest hour: a slow node may cost little and serve less."""
    fleet = settings_with().fleet
    found = cheapest(fleet)
    assert found is not None
    assert found.name == "inf2-neuron-on-demand"
    assert cheapest(fleet, "spot") is None
