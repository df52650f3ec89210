"""The handlers' environment, parsed once."""

import json

import pytest

from control_lambda.environment import Environment, InvalidEnvironmentError, target_group_dimension

LISTENER = "arn:aws:elasticloadbalancing:us-east-1:1:listener/app/fulcrum/50dc6c495c0c9188/f2f7dc8efc522ab2"
GROUP = "arn:aws:elasticloadbalancing:us-east-1:1:targetgroup/fast/73e2d6bc24d8a067"
VALID = {
    "FLEET_PARAMETER": "/fulcrum/fleet",
    "PAUSE_PARAMETER": "/fulcrum/pause",
    "CLUSTER_NAME": "fulcrum",
    "LISTENER_ARN": LISTENER,
    "UNITS": json.dumps({"fast": {"target_group_arn": GROUP, "pools": {"fast-spot": "group-7"}}}),
    "STATE_TABLE": "fulcrum-state",
}


def test_a_valid_environment_is_read() -> None:
    """Every variable finds its place; the namespace has a default."""
    environment = Environment.from_environ(VALID)
    assert environment.cluster_name == "fulcrum"
    assert environment.metric_namespace == "Fulcrum"
    assert environment.node_group_of == {"fast-spot": "group-7"}
    assert environment.pool_of == {"group-7": "fast-spot"}
    assert environment.unit_of_target_group == {GROUP: "fast"}


def test_builds_are_read_and_may_be_absent() -> None:
    """A unit without any is built."""
    described = {"target_group_arn": GROUP, "pools": {}}
    units = {"fast": {**described, "builds": ["image", "compiled"]}, "slow": described}
    environment = Environment.from_environ({**VALID, "UNITS": json.dumps(units)})
    assert environment.builds == {"fast": ("image", "compiled"), "slow": ()}


def test_cloudwatch_dimensions_are_the_ends_of_the_arns() -> None:
    """AWS/ApplicationELB names load balancers and target groups without their ARNs' beginnings."""
    environment = Environment.from_environ(VALID)
    assert environment.load_balancer_dimension == "app/fulcrum/50dc6c495c0c9188"
    assert target_group_dimension(GROUP) == "targetgroup/fast/73e2d6bc24d8a067"


@pytest.mark.parametrize("variable", sorted(VALID))
def test_a_missing_variable_is_named(variable: str) -> None:
    """The message names the variable and what would be valid."""
    environ = {name: value for name, value in VALID.items() if name != variable}
    with pytest.raises(InvalidEnvironmentError, match=f"environment: {variable}: not set; valid: "):
        Environment.from_environ(environ)


@pytest.mark.parametrize(
    ("variable", "value", "message"),
    [
        ("LISTENER_ARN", "listener", "LISTENER_ARN: 'listener'; valid: an ARN that holds ':listener/app/'"),
        ("UNITS", "{", "UNITS: .*; valid: JSON"),
        ("UNITS", "[]", "UNITS: no object; valid: JSON"),
        ("UNITS", "{}", "UNITS: no object; valid: JSON"),
        ("UNITS", '{"fast": {}}', "UNITS: fast: no pools; valid: JSON"),
        ("UNITS", '{"fast": {"pools": {"fast-spot": 7}}}', "UNITS: fast: no pools; valid: JSON"),
        ("UNITS", '{"fast": {"pools": {}, "target_group_arn": "x"}}', "UNITS: fast: target_group_arn: 'x'"),
        ("UNITS", '{"fast": {"pools": {}, "builds": "x"}}', "UNITS: fast: builds: no list of names; valid: "),
        ("UNITS", '{"fast": {"pools": {}, "builds": [1]}}', "UNITS: fast: builds: no list of names; valid: "),
    ],
)
def test_a_wrong_variable_is_named(variable: str, value: str, message: str) -> None:
    """The message names the variable, its fault and what would be valid."""
    with pytest.raises(InvalidEnvironmentError, match=message):
        Environment.from_environ({**VALID, variable: value})
