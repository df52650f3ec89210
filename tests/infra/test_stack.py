"""The whole stack: synthesized offline, within CloudFormation's limits, tagged, and in its order."""

import json
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import pytest
from aws_cdk import App
from aws_cdk.assertions import Template
from cfnlint.schema import PROVIDER_SCHEMA_MANAGER

from infra.settings import Settings
from infra.stack import FulcrumStack
from tests.infra.conftest import UNSTAGED

NewSettings = Callable[..., Settings]
MAX_RESOURCES = 500  # of one template
MAX_BYTES = 1_000_000  # of one template in S3
# Made by the CDK as raw resources, which neither tags nor settings reach; the function runs once.
RAW = ("ClusterEksKubectlReadyBarrier", "CustomVpcRestrictDefaultSGCustomResourceProvider")


def tagging(kind: str) -> Mapping[str, Any]:
    """What CloudFormation's schema says about the tags of a type; nothing of a custom resource."""
    if kind.startswith("Custom::"):
        return {}
    schema = PROVIDER_SCHEMA_MANAGER.get_resource_schema("us-east-1", kind).schema
    found: Mapping[str, Any] = schema.get("tagging", {})
    return found


def is_taggable(kind: str) -> bool:
    """Whether resources of the type take tags of their own."""
    return bool(tagging(kind).get("taggable"))


def tag_property(kind: str) -> str:
    """The property that holds a type's tags."""
    return str(tagging(kind).get("tagProperty", "/properties/Tags")).rpartition("/")[2]


def resources(template: Template) -> Mapping[str, Any]:
    """Logical id to resource."""
    found: Mapping[str, Any] = template.to_json()["Resources"]
    return found


def of_type(template: Template, kind: str) -> set[str]:
    """The logical ids of the resources of that type."""
    return set(template.find_resources(kind))


def before(template: Template, logical_id: str) -> set[str]:
    """Everything that CloudFormation creates before the resource, by DependsOn and by reference."""
    every = resources(template)
    found: set[str] = set()
    waiting = [logical_id]
    while waiting:
        resource = every[waiting.pop()]
        needs = resource.get("DependsOn", [])
        needed = {needs} if isinstance(needs, str) else set(needs)
        text = json.dumps(resource.get("Properties", {}))
        needed |= {name for name in every if f'"Ref": "{name}"' in text or f'"Fn::GetAtt": ["{name}"' in text}
        waiting += needed - found
        found |= needed
    return found


def only(template: Template, kind: str) -> str:
    """The logical id of the one resource of that type."""
    (found,) = of_type(template, kind)
    return found


def every_minute(template: Template) -> str:
    """The logical id of the schedule that starts the ticks."""
    (found,) = [
        name
        for name, schedule in template.find_resources("AWS::Scheduler::Schedule").items()
        if schedule["Properties"]["ScheduleExpression"] == "rate(1 minute)"
    ]
    return found


def test_the_template_is_far_from_cloudformations_limits(template: Template) -> None:
    """With five units there is room for what is to come."""
    assert len(resources(template)) < MAX_RESOURCES / 1.5
    assert len(json.dumps(template.to_json())) < MAX_BYTES / 1.5


@pytest.mark.parametrize("account", ["", "111122223333"])
def test_synthesis_asks_no_account_for_anything(new_settings: NewSettings, account: str) -> None:
    """A lookup would need credentials, and would differ from one account to the next."""
    app = App(context=UNSTAGED)
    FulcrumStack(app, settings=new_settings(account=account))
    assembly = app.synth()
    manifest = json.loads((Path(assembly.directory) / "manifest.json").read_text(encoding="utf-8"))
    assert manifest.get("missing", []) == []


def test_everything_that_can_be_tagged_carries_the_stack_and_the_fleet(template: Template) -> None:
    """Costs are allocated by these tags, and permissions limited; AWS's schemas say what takes tags."""
    untagged = set()
    for name, resource in resources(template).items():
        tags = json.dumps(resource.get("Properties", {}).get(tag_property(resource["Type"]), {}))
        if is_taggable(resource["Type"]) and not ("fulcrum:stack" in tags and "fulcrum:fleet" in tags):
            untagged.add(name)
    assert {name for name in untagged if not name.startswith(RAW)} == set()


def test_every_function_logs_to_a_group_that_forgets(template: Template) -> None:
    """A log group that Lambda makes itself keeps everything for ever, and outlives the stack."""
    groups = template.find_resources("AWS::Logs::LogGroup")
    assert {group["Properties"]["RetentionInDays"] for group in groups.values()} == {90}
    for name, function in template.find_resources("AWS::Lambda::Function").items():
        if not name.startswith(RAW):
            assert function["Properties"]["LoggingConfig"]["LogGroup"]["Ref"] in groups, name


def test_the_schedule_starts_last(template: Template) -> None:
    """The first tick finds node groups, target groups, the release and every Deployment."""
    earlier = before(template, every_minute(template))
    assert of_type(template, "AWS::EKS::Nodegroup") <= earlier
    assert of_type(template, "AWS::ElasticLoadBalancingV2::TargetGroup") <= earlier
    assert of_type(template, "Custom::AWSCDK-EKS-KubernetesResource") <= earlier
    assert of_type(template, "Custom::FulcrumRelease") <= earlier


def test_pods_leave_before_their_nodes(template: Template) -> None:
    """Deletion is the reverse of creation: what runs in the namespace stands after every node group."""
    groups = of_type(template, "AWS::EKS::Nodegroup")
    for manifest in of_type(template, "Custom::AWSCDK-EKS-KubernetesResource"):
        if manifest.startswith("Serving"):
            assert groups <= before(template, manifest)


def test_the_loops_rules_go_before_listener_and_target_groups(template: Template) -> None:
    """A target group that a rule uses cannot be deleted, and the loop's rules are not in the template."""
    earlier = before(template, only(template, "Custom::FulcrumRelease"))
    assert of_type(template, "AWS::ElasticLoadBalancingV2::TargetGroup") <= earlier
    assert of_type(template, "AWS::ElasticLoadBalancingV2::Listener") <= earlier


def test_deletion_is_guarded_unless_the_settings_say_otherwise(new_settings: NewSettings) -> None:
    """One setting guards stack and state, and one takes both guards away."""
    for guarded in (True, False):
        stack = FulcrumStack(App(), settings=new_settings(deletion_protection=guarded))
        assert stack.termination_protection is guarded
