"""The loop's resources as CloudFormation gets them."""

import json
from collections.abc import Mapping
from datetime import datetime
from typing import Any

import pytest

from control_lambda import signals
from control_lambda.core import names
from control_lambda.core.fleet import fleet_from_json
from control_lambda.environment import Environment
from control_lambda.trigger import trigger_from
from tests.infra.conftest import ROOT, settings_with
from tests.infra.control.control_stack import ControlStack, control_stack
from tests.infra.iam import resolve
from twin.cloud.embedded import start

TICK, SIGNALS, RELEASE = (f"control_lambda.{name}.handler" for name in ("handler", "signals", "release"))
HANDLERS = pytest.mark.parametrize("handler", [TICK, SIGNALS, RELEASE])
MAX_ENVIRONMENT_BYTES = 4096
TEN_POOLS = str(ROOT / "fleets" / "spot-twins.yaml")


@pytest.fixture(scope="module")
def stack() -> ControlStack:
    """The stack as cdk.json has it."""
    return control_stack(settings_with())


@pytest.fixture(scope="module")
def unprotected() -> ControlStack:
    """A stack that may be thrown away, with an address for alerts."""
    return control_stack(settings_with(keep_data=False, alert_email="team@example.com"))


def function(stack: ControlStack, handler: str) -> tuple[str, dict[str, Any]]:
    """Logical id and properties of the function with that handler."""
    ((name, found),) = [
        (name, resource["Properties"])
        for name, resource in stack.of_type("AWS::Lambda::Function").items()
        if resource["Properties"]["Handler"] == handler
    ]
    return name, found


def resolved(stack: ControlStack, value: Any) -> Any:
    """A part of the template with made-up values for what it refers to, of the length that AWS's have."""
    return resolve(value, _MadeUp(stack.template["Resources"]))


class _MadeUp(dict[str, str]):
    """Values of references: ARNs for load balancers' parts, generated names for all else."""

    def __init__(self, resources: Mapping[str, Any]) -> None:
        super().__init__()
        self._resources = resources

    def __missing__(self, reference: str) -> str:
        name = reference.partition(".")[0]
        head = "arn:aws:elasticloadbalancing:us-east-1:111122223333"
        balancer = "Fulcru-Routi-ABCDEFGHIJKL/0123456789abcdef"
        group = f"{name[:19]}-ABCDEFGHIJKL/0123456789abcdef"
        made = {
            "AWS::ElasticLoadBalancingV2::TargetGroup": f"{head}:targetgroup/{group}",
            "AWS::ElasticLoadBalancingV2::Listener": f"{head}:listener/app/{balancer}/0123456789abcdef",
        }
        return made.get(self._resources.get(name, {}).get("Type", ""), f"Fulcrum-{name}-ABCDEFGHIJKL")


@HANDLERS
def test_every_function_runs_traced_outside_the_vpc(stack: ControlStack, handler: str) -> None:
    """On Python 3.13, with Powertools from AWS's own layer."""
    _, found = function(stack, handler)
    assert found["Runtime"] == "python3.13"
    assert found["TracingConfig"] == {"Mode": "Active"}
    assert "VpcConfig" not in found
    (layer,) = found["Layers"]
    parameter = stack.template["Parameters"][layer["Ref"]]
    assert parameter["Type"] == "AWS::SSM::Parameter::Value<String>"
    assert parameter["Default"] == "/aws/service/powertools/python/x86_64/python3.13/latest"


def test_a_tick_gets_thirty_seconds(stack: ControlStack) -> None:
    """Longer than its budget of 20 s, shorter than its lease of 45 s."""
    assert function(stack, TICK)[1]["Timeout"] == function(stack, SIGNALS)[1]["Timeout"] == 30


@HANDLERS
def test_logs_go_into_a_group_of_their_own_that_forgets(stack: ControlStack, handler: str) -> None:
    """After as many days as the settings say."""
    name = function(stack, handler)[1]["LoggingConfig"]["LogGroup"]["Ref"]
    group = stack.of_type("AWS::Logs::LogGroup")[name]
    assert group["Properties"]["RetentionInDays"] == settings_with().log_retention_days
    assert group["DeletionPolicy"] == "Delete"


@pytest.mark.parametrize(("handler", "age", "retries"), [(TICK, 60, 0), (SIGNALS, 60, 0), (RELEASE, 480, 2)])
def test_what_fails_is_kept_and_not_repeated_when_it_is_too_old(
    stack: ControlStack, handler: str, age: int, retries: int
) -> None:
    """After a minute the next tick has seen the same; only an answer to CloudFormation is worth repeating."""
    name, _ = function(stack, handler)
    configs = [found["Properties"] for found in stack.of_type("AWS::Lambda::EventInvokeConfig").values()]
    (config,) = [found for found in configs if found["FunctionName"] == {"Ref": name}]
    assert (config["MaximumEventAgeInSeconds"], config["MaximumRetryAttempts"]) == (age, retries)
    queue = config["DestinationConfig"]["OnFailure"]["Destination"]["Fn::GetAtt"][0]
    assert queue in stack.of_type("AWS::SQS::Queue")


def schedules(stack: ControlStack) -> dict[str, dict[str, Any]]:
    """The schedules by their rate."""
    found = [schedule["Properties"] for schedule in stack.of_type("AWS::Scheduler::Schedule").values()]
    return {schedule["ScheduleExpression"]: schedule for schedule in found}


@pytest.mark.parametrize(("rate", "handler"), [("rate(1 minute)", TICK), ("rate(1 hour)", SIGNALS)])
def test_schedules_invoke_on_the_minute_and_drop_what_is_late(
    stack: ControlStack, rate: str, handler: str
) -> None:
    """Neither Scheduler nor Lambda repeats an old tick."""
    schedule = schedules(stack)[rate]
    assert schedule["FlexibleTimeWindow"] == {"Mode": "OFF"}
    target = schedule["Target"]
    assert target["Arn"]["Fn::GetAtt"] == [function(stack, handler)[0], "Arn"]
    assert target["RetryPolicy"] == {"MaximumEventAgeInSeconds": 60, "MaximumRetryAttempts": 0}
    assert target["DeadLetterConfig"]["Arn"]["Fn::GetAtt"][0] in stack.of_type("AWS::SQS::Queue")


def test_the_scheduled_time_is_the_ticks_clock(stack: ControlStack) -> None:
    """As Scheduler writes it, the tick reads it."""
    event = json.loads(schedules(stack)["rate(1 minute)"]["Target"]["Input"])
    assert event["time"] == "<aws.scheduler.scheduled-time>"
    trigger = trigger_from({**event, "time": "2026-03-22T18:59:43Z"})
    assert trigger.at == datetime.fromisoformat("2026-03-22T18:59:43Z").timestamp()
    assert trigger.cause == "schedule"


def test_signals_understands_what_the_hourly_schedule_sends(stack: ControlStack) -> None:
    """Prices are asked for."""
    event = json.loads(schedules(stack)["rate(1 hour)"]["Target"]["Input"])
    assert event["prices"] is True
    assert event["time"] == "<aws.scheduler.scheduled-time>"


def test_signals_hears_of_every_event_that_it_understands(stack: ControlStack) -> None:
    """From whoever sends it; a throttled delivery is tried again, since it comes only once."""
    rules = [rule["Properties"] for rule in stack.of_type("AWS::Events::Rule").values()]
    heard = {
        kind: rule["EventPattern"]["source"] for rule in rules for kind in rule["EventPattern"]["detail-type"]
    }
    assert heard == {
        signals.LAUNCH_FAILED: ["aws.autoscaling"],
        signals.INTERRUPTION: ["aws.ec2"],
        signals.REBALANCE: ["aws.ec2"],
    }
    for rule in rules:
        (target,) = rule["Targets"]
        assert target["Arn"]["Fn::GetAtt"] == [function(stack, SIGNALS)[0], "Arn"]
        assert target["RetryPolicy"] == {"MaximumEventAgeInSeconds": 60, "MaximumRetryAttempts": 2}


def test_signals_hears_of_this_stacks_builds_alone() -> None:
    """Their projects are in the pattern, and in the variable by which the tick knows whom they concern."""
    made = control_stack(
        settings_with(), builds={"inf2-neuron": ["image", "compiled"], "g5-eager": ["image"]}
    )
    rules = [rule["Properties"]["EventPattern"] for rule in made.of_type("AWS::Events::Rule").values()]
    (pattern,) = [found for found in rules if found["source"] == ["aws.codebuild"]]
    assert pattern["detail-type"] == [signals.BUILD]
    assert pattern["detail"] == {"project-name": ["image", "compiled"]}
    environment = Environment.from_environ(variables(made, TICK))
    assert environment.builds["inf2-neuron"] == ("image", "compiled")
    assert environment.builds["g5-inductor"] == ()


def variables(stack: ControlStack, handler: str) -> dict[str, str]:
    """The function's environment."""
    found: dict[str, str] = resolved(stack, function(stack, handler)[1]["Environment"]["Variables"])
    return found


@HANDLERS
def test_the_handlers_can_read_their_environment(stack: ControlStack, handler: str) -> None:
    """Every unit and pool of the fleet is deployed."""
    environment = Environment.from_environ(variables(stack, handler))
    fleet = settings_with().fleet
    assert list(environment.units) == [unit.name for unit in fleet.units]
    assert list(environment.node_group_of) == list(fleet.pool_named)
    assert environment.metric_namespace == names.NAMESPACE
    assert environment.load_balancer_dimension.startswith("app/")


def test_the_environment_is_the_embedded_ones(stack: ControlStack) -> None:
    """The same variables under the same names, so that what runs in the twin runs here."""
    with start() as cloud:
        embedded = {name for name in cloud.provision(settings_with().fleet) if not name.startswith("AWS_")}
    assert set(variables(stack, SIGNALS)) == set(variables(stack, RELEASE)) == embedded
    assert set(variables(stack, TICK)) == embedded - {names.TICK_FUNCTION}


def test_signals_and_release_invoke_the_tick(stack: ControlStack) -> None:
    """By its name."""
    raw = function(stack, SIGNALS)[1]["Environment"]["Variables"][names.TICK_FUNCTION]
    assert raw == {"Ref": function(stack, TICK)[0]}
    assert function(stack, RELEASE)[1]["Environment"]["Variables"][names.TICK_FUNCTION] == raw


def test_five_units_with_ten_pools_and_their_builds_fit_into_the_environment() -> None:
    """Lambda takes 4 KB of variables."""
    settings = settings_with(fleet_file=TEN_POOLS)
    project = "FulcrumImagesBuildneuron-ABCDEFGHIJKL"
    made = control_stack(settings, builds={unit.name: [project] * 3 for unit in settings.fleet.units})
    size = sum(len(name) + len(value) for name, value in variables(made, RELEASE).items())
    assert size < MAX_ENVIRONMENT_BYTES


def test_the_fleet_parameter_holds_the_fleet(stack: ControlStack) -> None:
    """As the handlers read it; a large one becomes an advanced parameter."""
    parameter = stack.one("AWS::SSM::Parameter")
    assert fleet_from_json(parameter["Value"]) == settings_with().fleet
    assert parameter["Name"] == "/fulcrum/Fulcrum/fleet"
    assert parameter["Tier"] == "Intelligent-Tiering"


def test_the_pause_is_not_in_the_template(stack: ControlStack) -> None:
    """`twin pause` creates it; a deploy must not end it."""
    assert variables(stack, TICK)[names.PAUSE_PARAMETER] == "/fulcrum/Fulcrum/pause"
    assert len(stack.of_type("AWS::SSM::Parameter")) == 1


@pytest.mark.parametrize(
    ("changes", "protected", "policy"),
    [
        ({}, False, "RetainExceptOnCreate"),
        ({"deletion_protection": True}, True, "RetainExceptOnCreate"),
        ({"keep_data": False}, False, "Delete"),
    ],
)
def test_the_state_can_be_restored_and_is_protected_where_the_settings_say_so(
    changes: Mapping[str, object], *, protected: bool, policy: str
) -> None:
    """On demand, since a tick a minute is next to nothing; it outlives the stack, but no failed create."""
    made = control_stack(settings_with(**changes))
    ((_, table),) = made.of_type("AWS::DynamoDB::Table").items()
    assert table["DeletionPolicy"] == policy
    properties = table["Properties"]
    assert properties["DeletionProtectionEnabled"] is protected
    assert properties["PointInTimeRecoverySpecification"] == {"PointInTimeRecoveryEnabled": True}
    assert properties["BillingMode"] == "PAY_PER_REQUEST"
    assert properties["KeySchema"] == [{"AttributeName": "fleet", "KeyType": "HASH"}]


def test_alerts_reach_an_address_where_one_is_given(stack: ControlStack, unprotected: ControlStack) -> None:
    """Over TLS alone."""
    assert stack.of_type("AWS::SNS::Subscription") == {}
    subscription = unprotected.one("AWS::SNS::Subscription")
    assert (subscription["Protocol"], subscription["Endpoint"]) == ("email", "team@example.com")
    assert '"aws:SecureTransport": "false"' in json.dumps(stack.of_type("AWS::SNS::TopicPolicy"))


def test_no_role_has_a_managed_policy(stack: ControlStack) -> None:
    """What a role may do stands in the template, where it is tested."""
    of_functions = [
        found["Properties"]["Role"]["Fn::GetAtt"][0]
        for found in stack.of_type("AWS::Lambda::Function").values()
        if found["Properties"]["Handler"].startswith("control_lambda.")
    ]
    assert len(set(of_functions)) == 3
    assert not any(
        "ManagedPolicyArns" in stack.of_type("AWS::IAM::Role")[name]["Properties"] for name in of_functions
    )


def test_a_function_stands_only_once_its_rights_do(stack: ControlStack) -> None:
    """The first invocation would be refused otherwise."""
    for handler in (TICK, SIGNALS, RELEASE):
        name, found = function(stack, handler)
        role = {"Ref": found["Role"]["Fn::GetAtt"][0]}
        policies = stack.of_type("AWS::IAM::Policy").items()
        own = [policy for policy, resource in policies if role in resource["Properties"]["Roles"]]
        assert own
        assert all(stack.follows(name, policy) for policy in own)
