"""A deployed stack, as it can be found by its name: everything else stands in its tick's environment."""

import json
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Final

from botocore.exceptions import ClientError

from control_lambda.core import names
from control_lambda.core.fleet import Fleet, fleet_from_json
from control_lambda.core.model import State, state_from_json

# Makes the boto3 client of a service.
Client = Callable[[str], Any]

TICK: Final = ("AWS::Lambda::Function", "ControlTick")
SCHEDULE: Final = ("AWS::Scheduler::Schedule", "ControlEveryMinute")
UNREACHABLE: Final = ("AWS::EC2::SecurityGroup", "ExperimentsUnreachable")
BUILDS: Final = ("AWS::StepFunctions::StateMachine", "Images")
TEMPLATES: Final = ("AWS::FIS::ExperimentTemplate", "Experiments")


class NotDeployedError(ValueError):
    """There is no such stack, or one without a loop; the message says what would be valid."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Deployed:
    """What a deploy made, by name or ARN.

    `units` is the handlers' variable UNITS; `templates` are the ids of the experiment templates. What a stack
    of an earlier version lacks is empty.
    """

    stack: str
    fleet: Fleet
    cluster: str
    listener_arn: str
    state_table: str
    pause_parameter: str
    units: Mapping[str, Mapping[str, Any]]
    tick_role_arn: str
    tick_logs: str
    schedule: str
    unreachable_group: str = ""
    builds: str = ""
    templates: tuple[str, ...] = ()

    @property
    def game_day_parameter(self) -> str:
        """Where a game day under way is noted, so that the next command can end it."""
        return f"/fulcrum/{self.fleet.fleet}/game-day"

    def projects(self, unit: str) -> list[str]:
        """The CodeBuild projects that the unit needs."""
        return list(self.units[unit].get("builds", ()))

    def node_group(self, pool: str) -> str:
        """The name of the pool's node group."""
        return str(self.units[self.fleet.unit_of[pool].name]["pools"][pool])


def find(client: Client, stack: str) -> Deployed:
    """The stack of that name.

    Raises:
        NotDeployedError: there is none, or it holds no loop.
    """
    resources = _resources(client, stack)
    tick, schedule = resources.get(TICK, []), resources.get(SCHEDULE, [])
    if not tick or not schedule:
        raise NotDeployedError(
            f"stack {stack}: it holds no control loop; valid: a stack that cdk deploy made"
        )
    function = client("lambda").get_function_configuration(FunctionName=tick[0])
    environ = function["Environment"]["Variables"]
    parameter = client("ssm").get_parameter(Name=environ[names.FLEET_PARAMETER])
    return Deployed(
        stack=stack,
        fleet=fleet_from_json(parameter["Parameter"]["Value"]),
        cluster=environ[names.CLUSTER_NAME],
        listener_arn=environ[names.LISTENER_ARN],
        state_table=environ[names.STATE_TABLE],
        pause_parameter=environ[names.PAUSE_PARAMETER],
        units=json.loads(environ[names.UNITS]),
        tick_role_arn=function["Role"],
        tick_logs=function["LoggingConfig"]["LogGroup"],
        schedule=schedule[0],
        unreachable_group=next(iter(resources.get(UNREACHABLE, [])), ""),
        builds=next(iter(resources.get(BUILDS, [])), ""),
        templates=tuple(resources.get(TEMPLATES, [])),
    )


def endpoint(client: Client, deployed: Deployed) -> str:
    """The address that the load balancer answers at."""
    elbv2 = client("elbv2")
    (listener,) = elbv2.describe_listeners(ListenerArns=[deployed.listener_arn])["Listeners"]
    arn = listener["LoadBalancerArn"]
    (balancer,) = elbv2.describe_load_balancers(LoadBalancerArns=[arn])["LoadBalancers"]
    return f"{listener['Protocol'].lower()}://{balancer['DNSName']}"


@dataclass(frozen=True, slots=True)
class Item:
    """The loop's item: its last state, none before the first tick, and how each build ended."""

    state: State | None
    builds: Mapping[str, str]


def item(client: Client, deployed: Deployed) -> Item:
    """The loop's item as it stands now."""
    key = {"fleet": {"S": deployed.cluster}}
    answer = client("dynamodb").get_item(TableName=deployed.state_table, Key=key, ConsistentRead=True)
    found = answer.get("Item", {})
    builds = {project: each["S"] for project, each in found.get("builds", {}).get("M", {}).items()}
    return Item(state_from_json(found["state"]["S"]) if "state" in found else None, builds)


def is_error(error: ClientError, *codes: str) -> bool:
    """Whether AWS answered with one of the codes."""
    return error.response["Error"]["Code"] in codes


def _resources(client: Client, stack: str) -> Mapping[tuple[str, str], list[str]]:
    """The physical ids of what commands look for, by kind and beginning of the logical id."""
    found: dict[tuple[str, str], list[str]] = {}
    wanted = (TICK, SCHEDULE, UNREACHABLE, BUILDS, TEMPLATES)
    for kind, logical, physical in _listed(client, stack):
        for key in wanted:
            if kind == key[0] and logical.startswith(key[1]):
                found.setdefault(key, []).append(physical)
    return found


def _listed(client: Client, stack: str) -> Iterator[tuple[str, str, str]]:
    pages = client("cloudformation").get_paginator("list_stack_resources")
    try:
        for page in pages.paginate(StackName=stack):
            for each in page["StackResourceSummaries"]:
                yield (
                    each["ResourceType"],
                    each["LogicalResourceId"],
                    str(each.get("PhysicalResourceId", "")),
                )
    except ClientError as error:
        if not is_error(error, "ValidationError"):
            raise
        valid = "the name of a deployed stack (cdk deploy makes it, -c stack_name names it)"
        raise NotDeployedError(f"stack {stack}: not deployed here; valid: {valid}") from None
