"""The release resource on the embedded AWS: what is still there after each request, and what is told."""

from __future__ import annotations

import io
import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any

import pytest

from control_lambda import handler as tick_lambda
from control_lambda import release as release_lambda
from control_lambda.aws.memory import DynamoMemory
from control_lambda.core import names
from control_lambda.core.model import State
from control_lambda.core.reasons import Code, Skip
from control_lambda.ports import LeaseHeldError
from control_lambda.release import NotReleasedError, Release
from control_lambda.trigger import iso_time
from tests.control_lambda.conftest import NOON
from tests.control_lambda.fake_world import as_json

if TYPE_CHECKING:
    from tests.control_lambda.conftest import Shell

Invoke = Callable[[Mapping[str, Any]], Any]
PATIENT, IN_A_HURRY = (lambda: 60.0), (lambda: 0.0)


@dataclass
class FakeLambda:
    """Lambda's side of a synchronous invocation: `tick` answers it, in this process."""

    tick: Invoke
    events: list[Mapping[str, Any]] = field(default_factory=list)

    def invoke(self, **request: Any) -> dict[str, Any]:
        """Run the function and answer with what it returns."""
        assert request["InvocationType"] == "RequestResponse"
        event = json.loads(request["Payload"])
        self.events.append(event)
        return {"StatusCode": 200, "Payload": io.BytesIO(json.dumps(self.tick(event)).encode())}


@dataclass
class Deployed:
    """A stack whose loop has ticked: `release` answers CloudFormation, `clock` is the wall clock."""

    shell: Shell
    release: Release
    lambda_: FakeLambda
    environ: dict[str, str]
    clock: list[float]

    @property
    def listener(self) -> str:
        """The listener that serves."""
        return self.release.environment.listener_arn

    def update(self, listener: str = "") -> None:
        """Have CloudFormation update the resource."""
        self.release.update(listener or self.listener, PATIENT)

    def rules(self, listener: str = "") -> dict[str, dict[str, int]]:
        """The listener's rules: priority to the weights by target group."""
        raw = self.shell.clients.elbv2.describe_rules(ListenerArn=listener or self.listener)["Rules"]
        return {
            rule["Priority"]: {
                group["TargetGroupArn"]: group.get("Weight", 1)
                for action in rule["Actions"]
                for group in action.get("ForwardConfig", {}).get("TargetGroups", [])
            }
            for rule in raw
        }

    def without(self, unit: str) -> Deployed:
        """The stack after a deploy that removed the unit, before anything was deleted."""
        raw = self.shell.fleet.model_dump(mode="json", exclude_defaults=True)
        raw["units"] = [described for described in raw["units"] if described["name"] != unit]
        self.shell.put_fleet_parameter(json.dumps(raw))
        units = {name: value for name, value in json.loads(self.environ[names.UNITS]).items() if name != unit}
        return self.redeployed({**self.environ, names.UNITS: json.dumps(units)})

    def redeployed(self, environ: dict[str, str]) -> Deployed:
        """The same stack with another environment, in both functions."""
        ports = tick_lambda.Ports.connect(environ, self.shell.cloud.connect)
        fake = FakeLambda(lambda event: as_json(tick_lambda.run(event, ports)))
        release = replace(
            Release.connect(environ, self.shell.cloud.connect, wait=self.release.wait), lambda_=fake
        )
        return replace(self, release=release, lambda_=fake, environ=environ)

    def target_group(self, unit: str) -> str:
        """The ARN of the unit's target group."""
        return self.shell.environment.units[unit].target_group_arn

    def ticks(self) -> dict[str, Any]:
        """What the scheduled tick of the clock's time answers."""
        record: dict[str, Any] = self.lambda_.tick({"time": iso_time(self.clock[0]), "cause": "schedule"})
        return record


@pytest.fixture
def deployed(
    shell: Shell, monkeypatch: pytest.MonkeyPatch, variables: tuple[Any, dict[str, str]]
) -> Deployed:
    """A stack with two ready nodes of `fast`, and the rule that the loop made for them."""
    clock = [NOON + 60.0]
    monkeypatch.setattr("time.time", lambda: clock[0])
    shell.cloud.set_ready("fast-on-demand", 2)

    def wait(seconds: float) -> None:
        clock[0] += seconds

    first = Deployed(
        shell,
        Release.connect(variables[1], shell.cloud.connect, wait=wait),
        FakeLambda(dict),
        variables[1],
        clock,
    )
    stack = first.redeployed(variables[1])
    assert stack.ticks()["failures"] == []
    assert set(stack.rules()) == {"1", "50000", "default"}
    clock[0] += 60.0
    return stack


def test_creating_it_changes_nothing(deployed: Deployed) -> None:
    """Its identity is the listener that serves."""
    before = deployed.rules()
    identity = release_lambda.run({"RequestType": "Create"}, deployed.release, PATIENT)
    assert identity == deployed.listener
    assert deployed.rules() == before
    assert deployed.lambda_.events == []


def test_deleting_it_deletes_the_rules_of_the_loop_and_no_other(deployed: Deployed) -> None:
    """Somebody else's rule that answers by itself holds no target group."""
    deployed.shell.clients.elbv2.create_rule(
        ListenerArn=deployed.listener,
        Priority=7,
        Conditions=[{"Field": "path-pattern", "PathPatternConfig": {"Values": ["/robots.txt"]}}],
        Actions=[{"Type": "fixed-response", "FixedResponseConfig": {"StatusCode": "404"}}],
    )
    deployed.release.delete(deployed.listener, PATIENT)
    assert set(deployed.rules()) == {"7", "50000", "default"}


def test_a_deleted_release_leaves_nobody_able_to_tick_and_no_pause(deployed: Deployed) -> None:
    """What was queued finds the lease held until all of it is too old; the next deployment is not paused."""
    deployed.release.delete(deployed.listener, PATIENT)
    for _ in range(13):
        assert deployed.ticks() == {"skipped": Skip.LEASE_HELD.told()}
        deployed.clock[0] += 60.0
    assert set(deployed.rules()) == {"50000", "default"}
    assert not deployed.shell.sensors.settings().observe


def test_a_tick_under_way_is_waited_for(deployed: Deployed) -> None:
    """It may be about to write the rule."""
    memory = deployed.shell.another_memory()
    memory.acquire(deployed.clock[0])
    begun = deployed.clock[0]
    deployed.release.delete(deployed.listener, PATIENT)
    assert 45 <= deployed.clock[0] - begun < 50
    assert set(deployed.rules()) == {"50000", "default"}


def test_while_it_waits_the_loop_is_paused(deployed: Deployed) -> None:
    """A tick that gets the lease first writes nothing."""
    deployed.shell.another_memory().acquire(deployed.clock[0])
    with pytest.raises(NotReleasedError, match="a tick holds the lease; delete again in a minute"):
        deployed.release.delete(deployed.listener, IN_A_HURRY)
    assert deployed.shell.sensors.settings().observe
    assert set(deployed.rules()) == {"1", "50000", "default"}


def test_a_repeated_deletion_succeeds_at_once(deployed: Deployed) -> None:
    """The first answer was lost: the lease is found to be our own, and what is gone is gone."""
    deployed.release.delete(deployed.listener, PATIENT)
    begun = deployed.clock[0]
    deployed.redeployed(deployed.environ).release.delete(deployed.listener, IN_A_HURRY)
    assert deployed.clock[0] == begun


@pytest.mark.parametrize("gone", ["table", "listener"])
def test_what_somebody_deleted_by_hand_stops_no_deletion(deployed: Deployed, gone: str) -> None:
    """A stack must always be deletable."""
    if gone == "table":
        table = deployed.release.environment.state_table
        deployed.shell.clients.dynamodb.delete_table(TableName=table)
    else:
        deployed.shell.clients.elbv2.delete_listener(ListenerArn=deployed.listener)
    deployed.release.delete(deployed.listener, IN_A_HURRY)


def test_a_resource_that_never_was_is_deleted_without_a_call(deployed: Deployed) -> None:
    """Its creation failed: CloudFormation knows it by its logical id."""
    deployed.shell.cloud.calls.clear()
    deployed.release.delete("Release", PATIENT)
    assert not deployed.shell.cloud.calls


def test_removing_an_idle_unit_takes_it_out_of_the_rule(deployed: Deployed) -> None:
    """Before CloudFormation deletes its target group, which no rule may use then."""
    assert deployed.target_group("slow") in deployed.rules()["1"]
    after = deployed.without("slow")
    after.update()
    assert set(after.rules()["1"]) == {deployed.target_group("fast")}
    assert len(after.lambda_.events) == 1


def test_removing_a_unit_that_serves_moves_its_traffic_to_what_is_ready(deployed: Deployed) -> None:
    """The tick writes the rule for the remaining unit."""
    deployed.shell.cloud.set_ready("slow-on-demand", 2)
    after = deployed.without("fast")
    after.update()
    weights = after.rules()["1"]
    assert set(weights) == {deployed.target_group("slow")}
    assert weights[deployed.target_group("slow")] > 0


def test_removing_the_only_unit_that_serves_is_refused(deployed: Deployed) -> None:
    """CloudFormation undoes the deploy, and the reason says how to do it."""
    after = deployed.without("fast")
    with pytest.raises(NotReleasedError, match=r"still serves requests; set nodes\.max .* to 0") as refused:
        after.update()
    assert deployed.target_group("fast") in str(refused.value)
    assert deployed.rules()["1"][deployed.target_group("fast")] > 0


def test_a_refused_removal_can_be_undone(deployed: Deployed) -> None:
    """The rollback updates the resource with what stood before."""
    with pytest.raises(NotReleasedError):
        deployed.without("fast").update()
    deployed.shell.put_fleet_parameter(deployed.shell.fleet.to_json())
    deployed.clock[0] += 60
    deployed.update()
    assert deployed.rules()["1"][deployed.target_group("fast")] > 0


def test_removing_a_unit_without_any_ready_node_is_fine(deployed: Deployed) -> None:
    """Nothing is lost: the rule goes, and the loop makes it anew once some unit is ready."""
    deployed.shell.cloud.set_ready("fast-on-demand", 0)
    after = deployed.without("fast")
    after.update()
    assert set(after.rules()) == {"50000", "default"}


def test_a_paused_loop_does_not_keep_an_idle_unit_from_going(deployed: Deployed) -> None:
    """Release takes the unit out of the rule and leaves the other weights as they stand."""
    before = deployed.rules()["1"]
    deployed.shell.put_pause_parameter("observe")
    after = deployed.without("slow")
    after.update()
    fast = deployed.target_group("fast")
    assert after.rules()["1"] == {fast: before[fast]}


def test_adding_a_unit_leaves_the_traffic_where_it_is(deployed: Deployed) -> None:
    """The new one has no ready node yet."""
    smaller = deployed.without("slow")
    smaller.update()
    deployed.shell.put_fleet_parameter(deployed.shell.fleet.to_json())
    deployed.clock[0] += 60
    deployed.update()
    assert deployed.rules()["1"] == smaller.rules()["1"]


def test_a_tick_that_runs_already_is_waited_for_and_followed_by_ours(deployed: Deployed) -> None:
    """Ours alone knows the new fleet for certain."""
    deployed.shell.another_memory().acquire(deployed.clock[0])
    after = deployed.without("slow")
    after.update()
    assert len(after.lambda_.events) > 1
    assert set(after.rules()["1"]) == {deployed.target_group("fast")}


def test_a_tick_that_fails_does_not_stop_a_deploy_that_removes_nothing(deployed: Deployed) -> None:
    """The deploy may be what mends it."""
    deployed.lambda_.tick = lambda _: {"errorMessage": "broken", "errorType": "ValueError"}
    before = deployed.rules()
    deployed.update()
    assert deployed.rules() == before


def with_tls(deployed: Deployed) -> Deployed:
    """The stack after a deploy that added a listener, which now serves."""
    elbv2 = deployed.shell.clients.elbv2
    old = elbv2.describe_listeners(ListenerArns=[deployed.listener])["Listeners"][0]
    new = elbv2.create_listener(
        LoadBalancerArn=old["LoadBalancerArn"],
        Protocol="HTTP",
        Port=443,
        DefaultActions=old["DefaultActions"],
    )["Listeners"][0]["ListenerArn"]
    return deployed.redeployed({**deployed.environ, names.LISTENER_ARN: new})


def test_adding_tls_makes_the_rule_on_the_new_listener_before_the_old_one_goes(deployed: Deployed) -> None:
    """The new identity has CloudFormation delete the old one: then HTTP no longer forwards, but redirects."""
    after = with_tls(deployed)
    event = {"RequestType": "Update", "PhysicalResourceId": deployed.listener}
    identity = release_lambda.run(event, after.release, PATIENT)
    assert identity == after.listener
    assert after.rules()["1"][deployed.target_group("fast")] > 0
    assert "1" in deployed.rules()
    after.release.delete(deployed.listener, PATIENT)
    assert "1" not in deployed.rules()


def test_after_tls_was_added_the_loop_works_on(deployed: Deployed) -> None:
    """Deleting the old listener's identity neither pauses the loop nor holds its lease."""
    after = with_tls(deployed)
    after.update(deployed.listener)
    after.release.delete(deployed.listener, PATIENT)
    after.clock[0] += 60
    record = after.ticks()
    assert record["failures"] == []
    assert Code.PAUSED not in {reason["code"] for reason in record["reasons"]}


def test_tls_is_refused_while_a_pause_keeps_the_loop_from_the_new_listener(deployed: Deployed) -> None:
    """Otherwise HTTP would redirect to a listener that answers 503."""
    after = with_tls(deployed)
    deployed.shell.put_pause_parameter("observe")
    with pytest.raises(NotReleasedError, match=r"has not made its rule on the new listener yet; .*paused"):
        after.update(deployed.listener)


def with_router(deployed: Deployed) -> Deployed:
    """The stack with a rule of its own ahead of the loop's, which sends every request to a router."""
    elbv2 = deployed.shell.clients.elbv2
    rules = elbv2.describe_rules(ListenerArn=deployed.listener)["Rules"]
    (weighted,) = [rule["RuleArn"] for rule in rules if rule["Priority"] == "1"]
    elbv2.set_rule_priorities(RulePriorities=[{"RuleArn": weighted, "Priority": 101}])
    vpc = elbv2.describe_target_groups()["TargetGroups"][0]["VpcId"]
    made = elbv2.create_target_group(Name="router", Protocol="HTTP", Port=8000, VpcId=vpc)
    router = {"TargetGroupArn": made["TargetGroups"][0]["TargetGroupArn"]}
    elbv2.create_rule(
        ListenerArn=deployed.listener,
        Priority=names.ROUTER_RULE_PRIORITY,
        Conditions=[{"Field": "path-pattern", "PathPatternConfig": {"Values": ["/*"]}}],
        Actions=[{"Type": "forward", "ForwardConfig": {"TargetGroups": [router]}}],
    )
    return deployed


@pytest.mark.parametrize("which", ["ResourceProperties", "OldResourceProperties"])
def test_the_rule_to_a_router_is_the_stacks_own(deployed: Deployed, which: str) -> None:
    """Release leaves it to CloudFormation, which knows whether it comes or goes."""
    routed = with_router(deployed)
    told = {"PhysicalResourceId": deployed.listener, which: {"Routing": "router"}}
    routed.shell.put_pause_parameter("observe")
    release_lambda.run({"RequestType": "Update", **told}, routed.release, PATIENT)
    assert set(routed.rules()) == {"1", "101", "50000", "default"}
    release_lambda.run({"RequestType": "Delete", **told}, routed.release, PATIENT)
    assert set(routed.rules()) == {"1", "50000", "default"}


def test_an_unknown_request_is_refused(deployed: Deployed) -> None:
    """With what would be valid."""
    with pytest.raises(ValueError, match="'Move'; valid: Create, Update, Delete"):
        release_lambda.run({"RequestType": "Move"}, deployed.release, PATIENT)


def test_a_lease_with_a_name_is_its_holders_own_and_nobody_elses(shell: Shell) -> None:
    """Another holder has to wait for its end."""
    table, cluster = shell.environment.state_table, shell.environment.cluster_name
    memory = DynamoMemory(shell.clients.dynamodb, table, cluster, lease_seconds=100, token="me")
    memory.acquire(NOON)
    memory.acquire(NOON + 50)
    with pytest.raises(LeaseHeldError):
        shell.memory.acquire(NOON + 149)
    shell.memory.acquire(NOON + 150)
    shell.memory.save(State(), ())
