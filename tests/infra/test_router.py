"""The whole stack of a fleet with `routing: router`."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from aws_cdk.assertions import Template

from containers.router.settings import Settings as RouterSettings
from control_lambda.aws.rule import FIRST_BELOW_ROUTER
from control_lambda.core import names
from infra.settings import KUBERNETES_VERSIONS, Settings
from infra.stack import FulcrumStack
from tests.infra.conftest import settings_with
from tests.infra.kubernetes_objects import check, manifests_of, of_kind, pod_specs
from tests.infra.test_nag import app_in, findings

V2 = "AWS::ElasticLoadBalancingV2"


@pytest.fixture(scope="module")
def routed_settings() -> Settings:
    """The settings of cdk.json, over a fleet that asks for the router."""
    settings = settings_with()
    return settings.model_copy(update={"fleet": settings.fleet.model_copy(update={"routing": "router"})})


@pytest.fixture(scope="module")
def routed(routed_settings: Settings, synth: Callable[[Settings], Template]) -> Template:
    """Its template."""
    return synth(routed_settings)


def rules(template: Template) -> dict[int, dict[str, Any]]:
    """The listener's rules by priority."""
    found = [rule["Properties"] for rule in template.find_resources(f"{V2}::ListenerRule").values()]
    return {rule["Priority"]: rule for rule in found}


def router_group(template: Template) -> str:
    """The logical id of the router's target group."""
    (found,) = (
        name for name in template.find_resources(f"{V2}::TargetGroup") if "grouprouter" in name.lower()
    )
    return str(found)


def test_every_request_goes_to_the_router_by_a_rule_without_weights(routed: Template) -> None:
    """The stack's own rule, ahead of all that the loop writes; a deploy has no weights to reset."""
    rule = rules(routed)[names.ROUTER_RULE_PRIORITY]
    assert rule["Conditions"] == [{"Field": "path-pattern", "PathPatternConfig": {"Values": ["/*"]}}]
    (action,) = rule["Actions"]
    assert action["ForwardConfig"] == {"TargetGroups": [{"TargetGroupArn": {"Ref": router_group(routed)}}]}
    assert names.ROUTER_RULE_PRIORITY < FIRST_BELOW_ROUTER


def test_the_units_targets_are_still_checked(routed: Template, template: Template) -> None:
    """Pods wait for the load balancer's check, and the loop counts healthy targets: that rule stays."""
    assert rules(routed)[names.STACK_RULE_PRIORITY] == rules(template)[names.STACK_RULE_PRIORITY]


def test_the_load_balancer_waits_for_what_the_router_holds(
    routed_settings: Settings, synth: Callable[[Settings], Template]
) -> None:
    """Its idle timeout grows by the hold, and the router's pods are told how long it is."""
    fleet = routed_settings.fleet.model_copy(update={"hold_seconds": 300.0})
    made = synth(routed_settings.model_copy(update={"fleet": fleet}))
    (balancer,) = made.find_resources(f"{V2}::LoadBalancer").values()
    idle = {"Key": "idle_timeout.timeout_seconds", "Value": "420"}
    assert idle in balancer["Properties"]["LoadBalancerAttributes"]
    (container,) = pod_specs(manifests_of(made))["router"]["containers"]
    assert {"name": "HOLD_SECONDS", "value": "300"} in container["env"]


def test_without_the_router_the_first_priority_is_the_loops(template: Template) -> None:
    """Only the rule that matches nothing is the stack's."""
    assert set(rules(template)) == {names.STACK_RULE_PRIORITY}


def test_the_routers_pods_stand_behind_its_target_group(routed: Template) -> None:
    """Bound to it, and told what they need of the fleet and of themselves."""
    manifests = manifests_of(routed)
    binding = of_kind(manifests, "TargetGroupBinding")["router"]
    assert binding["spec"]["targetGroupARN"] == router_group(routed)
    (container,) = pod_specs(manifests)["router"]["containers"]
    told = {one["name"] for one in container["env"]}
    assert told == {
        "PORT",
        "NAMESPACE",
        "METRIC_NAMESPACE",
        "FLEET",
        "FLEET_JSON",
        "AWS_REGION",
        "POD_IP",
    } | {
        "STEPS",
        "SHAPES",
        "HOLD_SECONDS",
    }


def test_every_variable_of_the_router_is_one_that_it_reads(routed: Template) -> None:
    """What it does not know would be ignored, silently."""
    (container,) = pod_specs(manifests_of(routed))["router"]["containers"]
    known = {name.upper() for name in RouterSettings.model_fields}
    assert {one["name"] for one in container["env"]} <= known


@pytest.mark.parametrize("version", KUBERNETES_VERSIONS)
def test_every_object_fits_its_schema(routed: Template, version: str) -> None:
    """The router's, too."""
    for made in manifests_of(routed):
        check(made, version)


def test_no_security_rule_finds_anything(routed_settings: Settings, tmp_path: Path) -> None:
    """AWS Solutions' checks over the whole stack."""
    app = app_in(tmp_path)
    FulcrumStack(app, settings=routed_settings)
    assert findings(app, tmp_path) == []
