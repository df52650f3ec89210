"""Where the release resource stands between everything else, and what makes CloudFormation update it."""

from typing import Any

import pytest

from control_lambda import release
from infra.settings import Settings
from tests.infra.conftest import ROOT, settings_with
from tests.infra.control.control_stack import ControlStack, control_stack

KIND = "Custom::FulcrumRelease"
CERTIFICATE = "arn:aws:acm:us-east-1:111122223333:certificate/12345678-1234-1234-1234-123456789012"


@pytest.fixture(scope="module")
def stack() -> ControlStack:
    """The stack as cdk.json has it."""
    return control_stack(settings_with())


def resource(stack: ControlStack) -> str:
    """The logical id of the release resource."""
    (name,) = stack.of_type(KIND)
    return name


@pytest.mark.parametrize(
    "kind",
    [
        "AWS::ElasticLoadBalancingV2::Listener",
        "AWS::ElasticLoadBalancingV2::ListenerRule",
        "AWS::ElasticLoadBalancingV2::LoadBalancer",
        "AWS::ElasticLoadBalancingV2::TargetGroup",
        "AWS::DynamoDB::Table",
        "AWS::EKS::Nodegroup",
        "AWS::SSM::Parameter",
    ],
)
def test_it_is_deleted_before_whatever_it_releases_or_needs(stack: ControlStack, kind: str) -> None:
    """And updated after them: the tick knows the new fleet, on the new listener, with the new groups."""
    needed = stack.of_type(kind)
    assert needed
    assert all(stack.follows(resource(stack), name) for name in needed)


def test_its_own_function_and_rights_outlive_it(stack: ControlStack) -> None:
    """Or nobody would answer."""
    token = stack.one(KIND)["ServiceToken"]["Fn::GetAtt"][0]
    role = stack.of_type("AWS::Lambda::Function")[token]["Properties"]["Role"]["Fn::GetAtt"][0]
    policies = [
        name
        for name, policy in stack.of_type("AWS::IAM::Policy").items()
        if {"Ref": role} in policy["Properties"]["Roles"]
    ]
    assert policies
    for name in (token, role, *policies):
        assert stack.follows(resource(stack), name)


@pytest.mark.parametrize("kind", ["AWS::Scheduler::Schedule", "AWS::Events::Rule"])
def test_whatever_starts_ticks_is_deleted_before_it(stack: ControlStack, kind: str) -> None:
    """After its work nobody makes the rule anew."""
    triggers = stack.of_type(kind)
    assert len(triggers) >= 2
    assert all(stack.follows(name, resource(stack)) for name in triggers)


def test_cloudformation_does_not_wait_for_an_hour(stack: ControlStack) -> None:
    """The function ends, and is invoked once more, before CloudFormation gives up."""
    timeout = int(stack.one(KIND)["ServiceTimeout"])
    token = stack.one(KIND)["ServiceToken"]["Fn::GetAtt"][0]
    function = stack.of_type("AWS::Lambda::Function")[token]["Properties"]
    assert 2 * function["Timeout"] + 60 < timeout < 3600


def test_waiting_for_a_lease_and_a_tick_fits_into_the_functions_time(stack: ControlStack) -> None:
    """45 s until a lease ends, and what is reserved for a tick and the answer."""
    token = stack.one(KIND)["ServiceToken"]["Fn::GetAtt"][0]
    function = stack.of_type("AWS::Lambda::Function")[token]["Properties"]
    assert function["Timeout"] - release.RESERVED_SECONDS > 45 + release.WAIT_SECONDS


def properties(settings: Settings) -> Any:
    """What CloudFormation compares to see whether it has to update the resource."""
    return control_stack(settings).one(KIND)


def test_the_same_fleet_is_no_update(stack: ControlStack) -> None:
    """A deploy that changes something else makes no tick."""
    assert properties(settings_with(log_retention_days=7)) == stack.one(KIND)


@pytest.mark.parametrize(
    "changes",
    [
        {"fleet_file": str(ROOT / "fleets" / "two-units.yaml")},
        {"fleet_file": str(ROOT / "fleets" / "spot-twins.yaml")},
        {"certificate_arn": CERTIFICATE},
    ],
)
def test_other_units_pools_or_listeners_are_an_update(
    stack: ControlStack, changes: dict[str, object]
) -> None:
    """Then the loop ticks before CloudFormation deletes anything."""
    assert properties(settings_with(**changes)) != stack.one(KIND)


def test_its_identity_in_the_template_never_changes(stack: ControlStack) -> None:
    """A new logical id would delete the old resource on a running stack, and with it the loop's rules."""
    assert resource(stack) == "Release6218179A"
