"""Two stacks in one account and region: nothing that the one names is the other's."""

import json
import re
from collections.abc import Iterator, Mapping
from typing import Any, Final

import pytest
from aws_cdk.assertions import Template

from control_lambda.core import names
from infra import tags
from tests.infra.conftest import Synth, settings_with

# The properties by which a resource's physical name is given, where it is not generated.
NAMES: Final = {
    "AWS::CloudWatch::Alarm": "AlarmName",
    "AWS::CloudWatch::CompositeAlarm": "AlarmName",
    "AWS::CloudWatch::Dashboard": "DashboardName",
    "AWS::CodeBuild::Project": "Name",
    "AWS::DynamoDB::Table": "TableName",
    "AWS::EC2::LaunchTemplate": "LaunchTemplateName",
    "AWS::EC2::SecurityGroup": "GroupName",
    "AWS::ECR::Repository": "RepositoryName",
    "AWS::EKS::Cluster": "Name",
    "AWS::ElasticLoadBalancingV2::LoadBalancer": "Name",
    "AWS::ElasticLoadBalancingV2::TargetGroup": "Name",
    "AWS::Events::Rule": "Name",
    "AWS::IAM::InstanceProfile": "InstanceProfileName",
    "AWS::IAM::ManagedPolicy": "ManagedPolicyName",
    "AWS::IAM::Role": "RoleName",
    "AWS::KMS::Alias": "AliasName",
    "AWS::Lambda::Function": "FunctionName",
    "AWS::Lambda::LayerVersion": "LayerName",
    "AWS::Logs::LogGroup": "LogGroupName",
    "AWS::S3::Bucket": "BucketName",
    "AWS::SNS::Topic": "TopicName",
    "AWS::SQS::Queue": "QueueName",
    "AWS::SSM::Parameter": "Name",
    "AWS::Scheduler::Schedule": "Name",
    "AWS::StepFunctions::StateMachine": "StateMachineName",
}
# What is named within something else: a policy in its role, an add-on in its cluster, and what a function of
# the stack makes.
WITHIN: Final = ("Custom::", "AWS::CloudFormation::CustomResource", "AWS::IAM::Policy", "AWS::EKS::Addon")


@pytest.fixture(scope="module")
def two(template: Template, synth: Synth) -> tuple[Template, Template]:
    """The same settings and the same fleet under two names."""
    return template, synth(settings_with(stack_name="Second"))


def resources(template: Template) -> Mapping[str, Any]:
    """The template's resources by logical id."""
    found: Mapping[str, Any] = template.to_json()["Resources"]
    return found


def given_names(template: Template) -> set[tuple[str, str]]:
    """Type and physical name of everything whose name is given."""
    found = set()
    for resource in resources(template).values():
        key = NAMES.get(resource["Type"])
        if key and key in resource.get("Properties", {}):
            found.add((resource["Type"], json.dumps(resource["Properties"][key], sort_keys=True)))
    return found


def suspicious(template: Template) -> Iterator[tuple[str, str]]:
    """Properties that look like a physical name and that the table above lacks."""
    for resource in resources(template).values():
        kind = resource["Type"]
        if kind.startswith(WITHIN):
            continue
        for key in resource.get("Properties", {}):
            if key in {"Name", f"{kind.rpartition('::')[2]}Name"} and NAMES.get(kind) != key:
                yield kind, key


def test_two_stacks_share_no_physical_name(two: tuple[Template, Template]) -> None:
    """Roles, log groups, alarms, parameters, rules: each is generated, or told apart by the stack's name."""
    one, other = map(given_names, two)
    assert len(one) == len(other) > 0
    assert one & other == set()


def test_every_name_that_a_template_gives_is_compared(template: Template) -> None:
    """A kind of resource that is named for the first time has to join the table."""
    assert set(suspicious(template)) == set()


def test_two_stacks_tell_their_metrics_and_their_nodes_apart(two: tuple[Template, Template]) -> None:
    """By the dimension Fleet, which is the cluster's name, and by the tag of the stack."""
    for template, name in zip(two, ("Fulcrum", "Second"), strict=True):
        alarms = json.dumps(list(template.find_resources("AWS::CloudWatch::Alarm").values()))
        fleets = {
            dimension["Value"] if isinstance(dimension["Value"], str) else json.dumps(dimension["Value"])
            for dimension in _dimensions(json.loads(alarms))
            if dimension["Name"] == names.FLEET
        }
        clusters = template.find_resources("AWS::EKS::Cluster")
        assert fleets <= {name, *(json.dumps({"Ref": logical}) for logical in clusters)}
        assert {cluster["Properties"]["Name"] for cluster in clusters.values()} == {name}
        (table,) = template.find_resources("AWS::DynamoDB::Table").values()
        assert {"Key": tags.STACK, "Value": name} in table["Properties"]["Tags"]


def _texts(node: Any) -> Iterator[str]:
    match node:
        case str():
            yield node
        case dict():
            for key, value in node.items():
                yield from () if key == "Description" else _texts(value)
        case list():
            for value in node:
                yield from _texts(value)


def _dimensions(node: Any) -> Iterator[Mapping[str, Any]]:
    match node:
        case {"Dimensions": list(found)}:
            yield from found
        case dict():
            for value in node.values():
                yield from _dimensions(value)
        case list():
            for value in node:
                yield from _dimensions(value)


def test_no_permission_of_one_stack_names_what_the_other_holds(two: tuple[Template, Template]) -> None:
    """Those of the second stack never say the first one's name; both put metrics into one namespace."""
    for kind in ("AWS::IAM::Policy", "AWS::IAM::Role", "AWS::IAM::ManagedPolicy"):
        for text in _texts(two[1].find_resources(kind)):
            assert text == names.NAMESPACE or not re.search(r"\bFulcrum\b", text)
