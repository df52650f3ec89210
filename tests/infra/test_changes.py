"""What a change of fleet.yaml does to a deployed stack, and that a redeploy undoes nothing of the loop's."""

import copy
import json
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import pytest
import yaml
from aws_cdk.assertions import Template

from infra.settings import Settings
from tests.infra.change_set import ChangeSet, change_set

ROOT = Path(__file__).parents[2]
NewSettings = Callable[..., Settings]
Synth = Callable[[Settings], Template]
Description = dict[str, Any]

# What holds requests, nodes or state: it must never be touched because the fleet changes.
FOUNDATIONS = (
    "AWS::DynamoDB::Table",
    "AWS::EC2::SecurityGroup",
    "AWS::EC2::Subnet",
    "AWS::EC2::VPC",
    "AWS::EKS::Addon",
    "AWS::EKS::Cluster",
    "AWS::ElasticLoadBalancingV2::Listener",
    "AWS::ElasticLoadBalancingV2::LoadBalancer",
    "AWS::S3::Bucket",
    "Custom::AWSCDK-EKS-HelmChart",
)


@pytest.fixture(scope="module")
def description() -> Description:
    """The default fleet as its file describes it."""
    parsed: Description = yaml.safe_load((ROOT / "fleet.yaml").read_text(encoding="utf-8"))
    return parsed


@pytest.fixture(scope="module")
def deploy(
    tmp_path_factory: pytest.TempPathFactory, new_settings: NewSettings, synth: Synth
) -> Callable[[Description], Template]:
    """Makes the template of the stack for a fleet; its file always has the same name."""
    path = tmp_path_factory.mktemp("fleet") / "fleet.yaml"

    def deployed(fleet: Description) -> Template:
        path.write_text(yaml.safe_dump(fleet), encoding="utf-8")
        return synth(new_settings(fleet_file=str(path)))

    return deployed


@pytest.fixture(scope="module")
def before(description: Description, deploy: Callable[[Description], Template]) -> Template:
    """The stack of the default fleet."""
    return deploy(description)


@pytest.fixture(scope="module")
def without_one_unit(description: Description, deploy: Callable[[Description], Template]) -> Template:
    """The stack of the default fleet without its last unit, g5-eager."""
    return deploy({**description, "units": description["units"][:4]})


def changed(description: Description, change: Callable[[Description], object]) -> Description:
    """A copy of the description, changed."""
    copied = copy.deepcopy(description)
    change(copied)
    return copied


def counted(types: Mapping[str, str]) -> dict[str, int]:
    """How many resources there are of each type."""
    kinds = list(types.values())
    return {kind: kinds.count(kind) for kind in sorted(kinds)}


def untouched(changes: ChangeSet) -> bool:
    """Whether everything stays that holds requests, nodes or state."""
    return changes.touched(*FOUNDATIONS) == set()


def test_the_same_settings_give_the_same_template(
    before: Template, description: Description, deploy: Callable[[Description], Template]
) -> None:
    """Whatever the loop has set in between: nothing of it is in the template, so nothing is set back."""
    assert deploy(description).to_json() == before.to_json()


def test_no_rule_in_the_template_carries_a_weight(before: Template) -> None:
    """CloudFormation would set a weight that it declares back on every deploy."""
    for kind in ("Listener", "ListenerRule"):
        rules = before.find_resources(f"AWS::ElasticLoadBalancingV2::{kind}")
        assert rules
        assert '"Weight"' not in json.dumps(rules)


def test_adding_a_unit_adds_what_is_the_units_alone(without_one_unit: Template, before: Template) -> None:
    """A target group, a node group and its launch template, its manifests, its alarms; nothing goes."""
    changes = change_set(without_one_unit, before)
    assert counted(changes.added) == {
        "AWS::CloudWatch::Alarm": 3,
        "AWS::EC2::LaunchTemplate": 1,
        "AWS::EKS::Nodegroup": 1,
        "AWS::ElasticLoadBalancingV2::TargetGroup": 1,
        "Custom::AWSCDK-EKS-KubernetesResource": 2,
    }
    assert changes.removed == {}
    assert changes.replaced == {}
    assert untouched(changes)


def test_adding_a_unit_leaves_the_others_alone(without_one_unit: Template, before: Template) -> None:
    """What changes in place is shared by all units: the fleet, who reads it, the rule that checks health."""
    changes = change_set(without_one_unit, before)
    assert set(counted(changes.updated)) == {
        "AWS::CloudWatch::Alarm",
        "AWS::CloudWatch::Dashboard",
        "AWS::ElasticLoadBalancingV2::ListenerRule",
        "AWS::IAM::Policy",
        "AWS::Lambda::Function",
        "AWS::SSM::Parameter",
        "Custom::AWSCDK-EKS-KubernetesResource",
        "Custom::FulcrumRelease",
    }
    (shared,) = changes.touched("Custom::AWSCDK-EKS-KubernetesResource") - changes.added.keys()
    assert "Shared" in shared


def test_removing_a_unit_releases_it_first(without_one_unit: Template, before: Template) -> None:
    """Its parts go; the release is updated before CloudFormation deletes anything."""
    changes = change_set(before, without_one_unit)
    assert counted(changes.removed) == {
        "AWS::CloudWatch::Alarm": 3,
        "AWS::EC2::LaunchTemplate": 1,
        "AWS::EKS::Nodegroup": 1,
        "AWS::ElasticLoadBalancingV2::TargetGroup": 1,
        "Custom::AWSCDK-EKS-KubernetesResource": 2,
    }
    assert (changes.added, changes.replaced) == ({}, {})
    assert "Custom::FulcrumRelease" in changes.updated.values()
    assert untouched(changes)


def test_another_instance_type_replaces_the_pools_node_group_and_nothing_else(
    before: Template, description: Description, deploy: Callable[[Description], Template]
) -> None:
    """The new group stands before the old one is drained; the unit keeps its target group and its weight."""
    fleet = changed(description, lambda raw: raw["units"][3].update(instance_type="g6.2xlarge"))
    changes = change_set(before, deploy(fleet))
    ((logical_id, kind),) = changes.replaced.items()
    assert kind == "AWS::EKS::Nodegroup"
    assert logical_id.startswith("Poolsg6inductorondemand")
    assert (changes.added, changes.removed) == ({}, {})
    assert changes.touched("AWS::ElasticLoadBalancingV2::TargetGroup") == set()
    assert untouched(changes)


def test_a_spot_pool_shares_its_units_target_group(
    before: Template, description: Description, deploy: Callable[[Description], Template]
) -> None:
    """A second node group under the same weight: ten pools still need only five target groups."""
    spot = {"market": "spot", "nodes": {"max": 20}, "price_usd_per_hour": 0.3785}
    fleet = changed(description, lambda raw: raw["units"][3]["pools"].insert(0, spot))
    changes = change_set(before, deploy(fleet))
    assert counted(changes.added) == {
        "AWS::CloudWatch::Alarm": 3,
        "AWS::EC2::LaunchTemplate": 1,
        "AWS::EKS::Nodegroup": 1,
        "AWS::FIS::ExperimentTemplate": 1,  # the loss of spot nodes
    }
    assert (changes.removed, changes.replaced) == ({}, {})
    assert changes.touched("AWS::ElasticLoadBalancingV2::TargetGroup") == set()
    assert untouched(changes)


def test_other_limits_prices_and_budgets_reach_the_loop_and_no_node(
    before: Template, description: Description, deploy: Callable[[Description], Template]
) -> None:
    """The loop enforces the fleet's limits; every node group keeps the limits that it has."""

    def spend_less(raw: Description) -> None:
        raw["budget_usd_per_hour"] = 20
        raw["units"][0]["pools"][0].update(nodes={"min": 1, "max": 9}, price_usd_per_hour=0.8)

    changes = change_set(before, deploy(changed(description, spend_less)))
    assert (changes.added, changes.removed, changes.replaced) == ({}, {}, {})
    assert changes.touched("AWS::EKS::Nodegroup", "AWS::EC2::LaunchTemplate") == set()
    assert "AWS::SSM::Parameter" in changes.updated.values()
    assert untouched(changes)


def test_another_kubernetes_version_is_rolled_out_in_place(
    new_settings: NewSettings, synth: Synth, before: Template
) -> None:
    """Cluster and nodes are updated, and neither is replaced."""
    changes = change_set(before, synth(new_settings(kubernetes_version="1.35")))
    assert changes.replaced == {}
    assert "AWS::EKS::Cluster" in changes.updated.values()
    assert len(changes.touched("AWS::EKS::Nodegroup")) == 6


def test_most_settings_may_change_later(new_settings: NewSettings, synth: Synth, before: Template) -> None:
    """All of these at once replace nothing but the rule that checks health, which moves to HTTPS."""
    later = new_settings(
        admin_arns="arn:aws:iam::111122223333:role/Admin",
        alert_email="pager@example.com",
        api_cidrs="203.0.113.0/24",
        certificate_arn="arn:aws:acm:us-east-1:111122223333:certificate/0a1b2c3d-0000-1111-2222-333344445555",
        deletion_protection=True,
        interface_endpoints=True,
        log_retention_days=30,
        nat_gateways=2,
    )
    changes = change_set(before, synth(later))
    assert set(changes.replaced.values()) == {"AWS::ElasticLoadBalancingV2::ListenerRule"}


@pytest.mark.parametrize(
    ("key", "value", "replaced"),
    [
        ("public", True, "AWS::ElasticLoadBalancingV2::LoadBalancer"),
        ("vpc_cidr", "10.43.0.0/16", "AWS::EC2::VPC"),
        ("zones", "use1-az5,use1-az6", "AWS::EC2::Subnet"),
    ],
)
def test_a_setting_that_cannot_change_later_says_so(
    new_settings: NewSettings, synth: Synth, before: Template, key: str, value: object, replaced: str
) -> None:
    """What replaces a foundation is told apart in cdk.json, where the setting is chosen."""
    changes = change_set(before, synth(new_settings(**{key: value})))
    context = json.loads((ROOT / "cdk.json").read_text(encoding="utf-8"))["context"]
    assert replaced in changes.replaced.values()
    assert "Not to be changed once deployed" in context[f"//{key}"]
