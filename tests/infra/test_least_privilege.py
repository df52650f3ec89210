"""The roles allow what the handlers do, and nothing that they don't.

An hour on the embedded AWS drives every path while each call is written down; the statements come from
the template, with its references resolved to the embedded account.
"""

import io
import json
from collections.abc import Iterator, Mapping
from contextlib import closing
from dataclasses import dataclass
from math import inf
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from botocore.awsrequest import AWSRequest, AWSResponse
from botocore.compat import HTTPHeaders

from control_lambda import handler, release, signals
from control_lambda.core import names
from control_lambda.core.fleet import parse_fleet
from control_lambda.core.model import plain
from control_lambda.core.reasons import Code
from control_lambda.core.record import Answer, DecisionRecord
from control_lambda.fleet_file import load_fleet
from control_lambda.trigger import iso_time
from tests.infra.conftest import settings_with
from tests.infra.control.control_stack import ControlStack, control_stack
from tests.infra.iam import Request, Statement, resolve, statements_of, unused
from tests.infra.recorded import Recorder, arn, node_group_arn
from twin.cloud.embedded import Cloud
from twin.cloud.moto_gaps.stack import TICK_FUNCTION
from twin.steering.aws import AwsSteering
from twin.world.nodes import LAUNCH
from twin.world.strikes import SUSPENDED_BY
from twin.world.trace import CapacityTrace, Demand, PriceTrace
from twin.world.trouble import Trouble
from twin.world.world import EPOCH, Scenario, World

FLEET = Path(__file__).parents[2] / "fleets" / "spot-twins.yaml"
SPOT, MARKET = "inf2-neuron-spot", "inf2-neuron-on-demand"
MINUTES = 60
RPM = 900

# Allowed, but never called by the handlers themselves.
BY_LAMBDA = "Lambda does it with the function's role, beside the handler"
EXPLAINED = {
    "logs:CreateLogStream": BY_LAMBDA,
    "logs:PutLogEvents": BY_LAMBDA,
    "sqs:SendMessage": BY_LAMBDA,
    "xray:PutTelemetryRecords": BY_LAMBDA,
    "xray:PutTraceSegments": BY_LAMBDA,
}


@dataclass(frozen=True)
class Hour:
    """What the three handlers asked for in an hour, by handler, and the ticks' records."""

    cloud: Cloud
    environ: Mapping[str, str]
    requests: Mapping[str, list[Request]]
    records: list[DecisionRecord]


def scenario() -> Scenario:
    """Ten pools; of the cheapest one a node dies, then it is short, then its nodes go; prices move."""
    demand = Demand(np.full(2 * MINUTES, RPM, np.int64), seed=1, epoch=EPOCH)
    short = {SPOT: [40] * 25 + [1] * 8 + [0] * 10 + [40] * 77, MARKET: [40] * 25 + [0] * 20 + [40] * 75}
    prices = PriceTrace({SPOT: [(0, 0.15)]})
    fleet = load_fleet(FLEET)
    dies = Trouble.parse({"trouble": [{"at": 20, "what": "node-dead", "pool": SPOT, "nodes": 1}]}, fleet, 60)
    return Scenario(fleet, demand, CapacityTrace(short), prices, seed=1, trouble=dies)


def answering(tick: Any) -> Any:
    """A botocore hook that has `tick` answer an invocation that waits, as Lambda would."""

    def respond(request: AWSRequest, **_: object) -> AWSResponse:
        body = json.dumps(plain(tick(json.loads(request.body)))).encode()
        return AWSResponse(str(request.url), 200, HTTPHeaders(), io.BytesIO(body))

    return respond


PAUSE = "/fulcrum/Fulcrum/pause"  # of the stack that `control_stack` makes


class Drive:
    """The hour under way."""

    def __init__(self, world: World, steering: AwsSteering) -> None:
        self.world, self.steering, self.cloud = world, steering, steering.cloud
        # The stack names this parameter after itself; the embedded account has no stacks.
        steering.environ = {**steering.environ, names.PAUSE_PARAMETER: PAUSE}
        self.recorders = {name: Recorder(self.cloud) for name in ("tick", "signals", "release")}
        steering.ports = handler.Ports.connect(steering.environ, self.recorders["tick"].connect)
        steering.signals = signals.Signals.connect(steering.environ, self.recorders["signals"].connect)
        self.records: list[DecisionRecord] = []

    def minutes(self, count: int) -> None:
        """Some minutes: the scheduled tick, all that AWS announces, and the ticks at once."""
        for _ in range(count):
            self.world.begin_minute()
            announced = self.world.events()
            self.keep(self.steering.schedule())
            for event in announced + self.world.events():
                self.keep(self.steering.react([event]))
            for recommended in self.cloud.events():
                signals.run(recommended, self.steering.signals)
            for payload in self.cloud.invocations():
                self.keep(handler.run(payload, self.steering.ports))
            self.world.end_minute()

    def keep(self, answer: Answer | None) -> None:
        """Keep the record of a tick that decided."""
        if isinstance(answer, DecisionRecord):
            self.records.append(answer)

    def drop_rule(self) -> None:
        """Somebody deletes the loop's rule."""
        elbv2 = self.cloud.client("elbv2")
        rules = elbv2.describe_rules(ListenerArn=self.steering.environ[names.LISTENER_ARN])["Rules"]
        (weighted,) = [rule["RuleArn"] for rule in rules if rule["Priority"] == "1"]
        elbv2.delete_rule(RuleArn=weighted)

    def suspend_all(self) -> None:
        """AWS suspends every group's launches, and the owner asks for a node more in each, which hangs."""
        raw = self.world.fleet.model_dump(mode="json", exclude_defaults=True)
        for unit in raw["units"]:
            for pool in unit["pools"]:
                name = f"{unit['name']}-{pool['market']}"
                pool["nodes"]["min"] = least = self.world.nodes.desired(name) + 1
                pool["nodes"]["max"] = max(pool["nodes"]["max"], least)
                self.world.nodes.suspend(name, LAUNCH, SUSPENDED_BY["aws"])
                self.world.nodes.hang_next(name, 1, inf)
        fleet = parse_fleet({**raw, "budget_usd_per_hour": 500}).to_json()
        name = self.steering.environ[names.FLEET_PARAMETER]
        ssm = self.cloud.client("ssm")
        ssm.put_parameter(Name=name, Value=fleet, Type="String", Tier="Advanced", Overwrite=True)

    def recommend_rebalance(self) -> None:
        """EC2 says that a node may be taken away, and that somebody else's may."""
        node = next(node for pool in self.world.fleet.pools for node in self.world.nodes.members(pool.name))
        self.cloud.recommend_rebalance(node.id)

    def release_all(self) -> None:
        """A deploy removes a unit while the loop is paused, and then the stack is deleted."""
        environ = self.remove_unit("g5-eager")
        made = release.Release.connect(environ, self.recorders["release"].connect, wait=lambda _: None)
        made.lambda_.meta.events.register("before-send.lambda.Invoke", answering(self.tick))
        made.update(made.environment.listener_arn, lambda: 60.0)
        made.delete(made.environment.listener_arn, lambda: 60.0)

    def remove_unit(self, unit: str) -> dict[str, str]:
        """Take its nodes and leave it its weight; the environment without it."""
        self.steering.ports.actuators.set_weights({known.name: 1 for known in self.world.fleet.units})
        for market in ("spot", "on-demand"):
            self.cloud.set_ready(f"{unit}-{market}", 0)
        environ = dict(self.steering.environ)
        pause = {"Name": environ[names.PAUSE_PARAMETER], "Value": "observe", "Type": "String"}
        self.cloud.client("ssm").put_parameter(**pause)
        units = json.loads(environ[names.UNITS])
        del units[unit]
        return {**environ, names.UNITS: json.dumps(units)}

    def tick(self, event: Mapping[str, Any]) -> Answer:
        """The tick that the release resource waits for."""
        return handler.run({**event, "time": iso_time(self.world.now)}, self.steering.ports)


@pytest.fixture(scope="module")
def hour() -> Iterator[Hour]:
    """The hour, driven through every path."""
    world = World(scenario())
    with closing(AwsSteering(world)) as steering:
        drive = Drive(world, steering)
        drive.minutes(5)
        drive.drop_rule()
        drive.minutes(30)
        drive.cloud.busy(MARKET, world.now + 300)
        drive.recommend_rebalance()
        drive.minutes(10)
        drive.suspend_all()
        drive.minutes(25)
        drive.release_all()
        requests = {name: recorder.requests for name, recorder in drive.recorders.items()}
        yield Hour(drive.cloud, steering.environ, requests, drive.records)


@pytest.fixture(scope="module")
def stack(hour: Hour) -> ControlStack:
    """The constructs for the same fleet and the same cluster."""
    settings = settings_with(fleet_file=str(FLEET))
    return control_stack(settings, cluster_name=hour.environ[names.CLUSTER_NAME])


def values(stack: ControlStack, hour: Hour) -> dict[str, str]:
    """What the template's references stand for in the embedded account."""
    cloud, environ, parts = hour.cloud, hour.environ, stack
    groups = {pool: group for unit in units(hour).values() for pool, group in unit["pools"].items()}
    known = {
        parts.routing.listener.listener_arn: environ[names.LISTENER_ARN],
        parts.routing.load_balancer.load_balancer_full_name: balancer(hour),
        parts.control.fleet_parameter.parameter_name: environ[names.FLEET_PARAMETER],
        parts.control.table.table_arn: arn(cloud, "dynamodb", f"table/{environ[names.STATE_TABLE]}"),
        parts.control.tick.function_arn: arn(cloud, "lambda", f"function:{TICK_FUNCTION}"),
        parts.control.signals.function_arn: arn(cloud, "lambda", "function:fulcrum-signals"),
        parts.control.dead_letters.queue_arn: arn(cloud, "sqs", "dead-letters"),
    }
    for pool, made in parts.node_groups.items():
        known[made.attr_nodegroup_name] = groups[pool]
        known[made.attr_arn] = node_group_arn(cloud, environ[names.CLUSTER_NAME], groups[pool])
    pseudo = {"AWS::Partition": "aws", "AWS::Region": "us-east-1", "AWS::AccountId": cloud.account}
    logged = {f"{name}.Arn": arn(cloud, "logs", name) for name in stack.of_type("AWS::Logs::LogGroup")}
    return {**pseudo, **logged, **{reference(stack, token): value for token, value in known.items()}}


def reference(stack: ControlStack, token: str) -> str:
    """`Name` or `Name.Attribute` of what the token refers to."""
    match stack.stack.resolve(token):
        case {"Ref": str(name)}:
            return name
        case {"Fn::GetAtt": [name, attribute]}:
            return f"{name}.{attribute}"
        case other:
            raise AssertionError(f"{other} is no reference")


def units(hour: Hour) -> dict[str, Any]:
    """The variable UNITS."""
    parsed: dict[str, Any] = json.loads(hour.environ[names.UNITS])
    return parsed


def balancer(hour: Hour) -> str:
    """The load balancer's full name."""
    return hour.environ[names.LISTENER_ARN].split(":listener/")[1].rpartition("/")[0]


def role_of(stack: ControlStack, who: str) -> str:
    """The logical id of the role of a handler."""
    handler_of = {
        "tick": "control_lambda.handler.handler",
        "signals": "control_lambda.signals.handler",
        "release": "control_lambda.release.handler",
    }
    (found,) = [
        function["Properties"]["Role"]["Fn::GetAtt"][0]
        for function in stack.of_type("AWS::Lambda::Function").values()
        if function["Properties"]["Handler"] == handler_of[who]
    ]
    return str(found)


@pytest.fixture(scope="module")
def statements(stack: ControlStack, hour: Hour) -> dict[str, list[Statement]]:
    """What each handler's role allows in the embedded account."""
    resolved = values(stack, hour)
    return {who: statements_of(stack.template, role_of(stack, who), resolved) for who in hour.requests}


Statements = Mapping[str, list[Statement]]
HANDLERS = pytest.mark.parametrize("who", ["tick", "signals", "release"])


def is_allowed(statements: list[Statement], request: Request) -> bool:
    """Whether any statement allows the request."""
    return any(statement.allows(request) for statement in statements)


def test_the_hour_drives_every_path(hour: Hour) -> None:
    """Shortage, interruption, stuck group, suspended launches, nodes of no use; else it proves little."""
    told = {reason.code for record in hour.records for reason in record.reasons}
    assert {
        Code.REFUSED,
        Code.INTERRUPTED,
        Code.HELD,
        Code.SUSPENDED,
        Code.GROW,
        Code.SHRINK,
        Code.DEAD,
        Code.HUNG,
    } <= told
    written = {write.what for record in hour.records for write in record.writes}
    assert written == {"weights", "size", "resume", "rebalancing", "terminate"}
    assert len(hour.records) >= MINUTES


@HANDLERS
def test_every_call_is_allowed(hour: Hour, statements: Statements, who: str) -> None:
    """By the role of the handler that makes it."""
    refused = {request for request in hour.requests[who] if not is_allowed(statements[who], request)}
    assert refused == set()


@HANDLERS
def test_every_allowed_action_and_resource_was_needed_or_is_explained(
    hour: Hour, statements: Statements, who: str
) -> None:
    """Each action on each resource that a statement names."""
    idle = {found for found in unused(statements[who], hour.requests[who]) if found[0] not in EXPLAINED}
    assert idle == set()


def test_no_explanation_is_left_over(statements: Statements) -> None:
    """What the roles no longer allow needs none."""
    allowed = {action for found in statements.values() for statement in found for action in statement.actions}
    assert set(EXPLAINED) <= allowed


@HANDLERS
def test_no_action_has_a_wildcard(statements: Statements, who: str) -> None:
    """Every action is spelled out."""
    assert not [action for found in statements[who] for action in found.actions if "*" in action]


def test_another_clusters_group_of_the_same_name_is_out_of_reach(hour: Hour, statements: Statements) -> None:
    """The name alone is not enough: the cluster's tag has to be right."""
    sized = next(
        request for request in hour.requests["tick"] if request.action.endswith("SetDesiredCapacity")
    )
    assert is_allowed(statements["tick"], sized)
    for context in ({}, {**sized.context, "aws:ResourceTag/eks:cluster-name": "another"}):
        assert not is_allowed(statements["tick"], Request(sized.action, sized.resource, context))


def test_the_clusters_other_groups_are_out_of_reach(hour: Hour, statements: Statements) -> None:
    """Such as the system nodes'."""
    sized = next(
        request for request in hour.requests["tick"] if request.action.endswith("SetDesiredCapacity")
    )
    head = sized.resource.partition("autoScalingGroupName/")[0]
    other = Request(sized.action, f"{head}autoScalingGroupName/eks-system-abc", sized.context)
    assert not is_allowed(statements["tick"], other)


@pytest.mark.parametrize("action", ["ModifyRule", "CreateRule"])
def test_another_load_balancers_rules_are_out_of_reach(
    hour: Hour, statements: Statements, action: str
) -> None:
    """Even in the same account."""
    name = f"elasticloadbalancing:{action}"
    made = next(request for request in hour.requests["tick"] if request.action == name)
    other = made.resource.replace(balancer(hour), "app/other/0123456789abcdef")
    assert other != made.resource
    assert not is_allowed(statements["tick"], Request(name, other))


def test_metrics_go_into_one_namespace(hour: Hour, statements: Statements) -> None:
    """Nobody else's can be forged."""
    action = "cloudwatch:PutMetricData"
    assert Request(action, "*", {"cloudwatch:namespace": "Fulcrum"}) in hour.requests["signals"]
    for context in ({}, {"cloudwatch:namespace": "AWS/EC2"}):
        assert not is_allowed(statements["signals"], Request(action, "*", context))


ALLOW = {"Effect": "Allow", "Action": "ec2:Describe*", "Resource": "arn:aws:ec2:*:1:x/?"}


@pytest.mark.parametrize(
    ("request_", "allowed"),
    [
        (Request("ec2:DescribeInstances", "arn:aws:ec2:us-east-1:1:x/a"), True),
        (Request("EC2:describeinstances", "arn:aws:ec2:us-east-1:1:x/a"), True),
        (Request("ec2:RunInstances", "arn:aws:ec2:us-east-1:1:x/a"), False),
        (Request("ec2:DescribeInstances", "arn:aws:ec2:us-east-1:1:x/ab"), False),
        (Request("ec2:DescribeInstances", "ARN:aws:ec2:us-east-1:1:x/a"), False),
    ],
)
def test_the_evaluator_matches_as_iam_does(request_: Request, *, allowed: bool) -> None:
    """Actions in any case, resources exactly, `*` and `?` as wildcards."""
    assert Statement.parse(ALLOW).allows(request_) is allowed


@pytest.mark.parametrize(
    "more", [{"Effect": "Deny"}, {"NotAction": "x"}, {"Condition": {"StringLike": {"a": "b"}}}]
)
def test_the_evaluator_refuses_what_it_does_not_understand(more: dict[str, Any]) -> None:
    """An unread condition would count as met."""
    with pytest.raises(NotImplementedError):
        Statement.parse({**ALLOW, **more})


def test_references_are_resolved_as_cloudformation_does() -> None:
    """Those functions that the templates use."""
    value = {
        "Fn::Join": [
            "-",
            [{"Fn::Select": ["1", {"Fn::Split": [":", {"Ref": "A"}]}]}, {"Fn::GetAtt": ["B", "C"]}],
        ]
    }
    assert resolve(value, {"A": "x:y", "B.C": "z"}) == "y-z"
