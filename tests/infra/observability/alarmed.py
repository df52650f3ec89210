"""Alarms and dashboard in a stack of their own, with plain names where the real one has references."""

from collections.abc import Mapping
from functools import cache
from pathlib import Path
from typing import Any, Final

import aws_cdk as cdk
from aws_cdk import aws_lambda as lambda_
from aws_cdk import aws_logs as logs
from aws_cdk import aws_sns as sns
from aws_cdk import aws_stepfunctions as sfn
from aws_cdk.assertions import Template

from control_lambda.core.fleet import Fleet
from control_lambda.fleet_file import load_fleet
from infra.metrics import FleetMetrics
from infra.observability.alarms import Alarms
from infra.observability.dashboard import Dashboard
from infra.settings import Settings
from tests.infra.replayed import CLUSTER, LOAD_BALANCER, TICK

FLEET: Final = load_fleet(Path(__file__).parents[3] / "fleets/spot-twins.yaml")
STACK: Final = "Fulcrum"
BUILDS: Final = "arn:aws:states:us-east-1:123456789012:stateMachine:Builds"


def synthesize(fleet: Fleet) -> Mapping[str, Any]:
    """The alarms and the dashboard of a fleet in a stack of their own."""
    stack = cdk.Stack(cdk.App(), STACK)
    tick = lambda_.Function(
        stack,
        "Tick",
        runtime=lambda_.Runtime.PYTHON_3_13,
        handler="index.handler",
        code=lambda_.Code.from_inline("handler = print"),
        function_name=TICK,
        log_group=logs.LogGroup(stack, "Logs"),
    )
    settings = Settings(stack_name=STACK, fleet=fleet)
    metrics = FleetMetrics(cluster_name=CLUSTER, load_balancer=LOAD_BALANCER)
    topic = sns.Topic(stack, "Topic")
    builds = sfn.StateMachine.from_state_machine_arn(stack, "Builds", BUILDS)
    alarms = Alarms(
        stack, "Alarms", settings=settings, metrics=metrics, tick=tick, builds=builds, topic=topic
    )
    Dashboard(
        stack,
        "Dashboard",
        settings=settings,
        metrics=metrics,
        alarms=[*alarms.of_key.values(), alarms.pager],
        tick=tick,
        signals=tick,
    )
    made: Mapping[str, Any] = Template.from_stack(stack).to_json()
    return made


@cache
def template() -> Mapping[str, Any]:
    """Those of the fleet with the most pools that are valid."""
    return synthesize(FLEET)


def resources(kind: str) -> list[dict[str, Any]]:
    """The properties of the template's resources of a type."""
    return [item["Properties"] for item in template()["Resources"].values() if item["Type"] == kind]
