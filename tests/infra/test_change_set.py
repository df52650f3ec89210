"""The change set of small templates whose answer CloudFormation's documentation gives."""

from typing import Any

from aws_cdk.assertions import Template

from tests.infra.change_set import change_set

GROUP = {
    "ClusterName": "c",
    "NodeRole": "r",
    "Subnets": ["s"],
    "InstanceTypes": ["g6.xlarge"],
    "Labels": {"a": "b"},
}


def template(**resources: tuple[str, dict[str, Any]]) -> Template:
    """A template of resources, each given as its type and its properties."""
    return Template.from_json(
        {
            "Resources": {
                name: {"Type": kind, "Properties": given} for name, (kind, given) in resources.items()
            }
        }
    )


def node_group(**changes: object) -> tuple[str, dict[str, Any]]:
    """A node group with some properties changed."""
    return "AWS::EKS::Nodegroup", {**GROUP, **changes}


def test_what_only_one_template_has_is_added_or_removed() -> None:
    """By logical id, whatever its type."""
    topic = ("AWS::SNS::Topic", dict[str, Any]())
    changes = change_set(template(Old=topic), template(New=topic))
    assert (changes.added, changes.removed) == ({"New": "AWS::SNS::Topic"}, {"Old": "AWS::SNS::Topic"})
    assert (changes.updated, changes.replaced) == ({}, {})


def test_labels_are_updated_in_place() -> None:
    """AWS::EKS::Nodegroup: Labels: "Update requires: No interruption"."""
    changes = change_set(template(G=node_group()), template(G=node_group(Labels={"a": "c"})))
    assert (changes.updated, changes.replaced) == ({"G": "AWS::EKS::Nodegroup"}, {})


def test_another_instance_type_replaces_a_node_group() -> None:
    """AWS::EKS::Nodegroup: InstanceTypes: "Update requires: Replacement"."""
    changes = change_set(template(G=node_group()), template(G=node_group(InstanceTypes=["g6.2xlarge"])))
    assert (changes.updated, changes.replaced) == ({}, {"G": "AWS::EKS::Nodegroup"})


def test_what_refers_to_a_replaced_resource_changes_with_it() -> None:
    """Its text stays, its value does not: in a property that cannot change, it is replaced too."""
    role = ("AWS::IAM::Role", {"RoleName": "one", "AssumeRolePolicyDocument": {}})
    other = ("AWS::IAM::Role", {"RoleName": "two", "AssumeRolePolicyDocument": {}})
    group = node_group(NodeRole={"Fn::GetAtt": ["Role", "Arn"]})
    output = ("AWS::SSM::Parameter", {"Type": "String", "Value": {"Ref": "Role"}})
    changes = change_set(
        template(Role=role, Group=group, Output=output), template(Role=other, Group=group, Output=output)
    )
    assert changes.replaced.keys() == {"Role", "Group"}
    assert changes.updated.keys() == {"Output"}


def test_the_same_template_changes_nothing() -> None:
    """No update is made up."""
    changes = change_set(template(G=node_group()), template(G=node_group()))
    assert changes.touched("AWS::EKS::Nodegroup") == set()
