"""One listener rule for each query class, read and written through boto3."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest

from control_lambda.core.fleet import Fleet, parse_fleet
from control_lambda.core.model import Decision
from control_lambda.core.reasons import Failure
from control_lambda.loop import tick
from control_lambda.ports import Settings
from tests.control_lambda.conftest import NOON
from tests.control_lambda.fake_world import SIZES, WEIGHTS, World, as_json, deciding, refused, run

if TYPE_CHECKING:
    from tests.control_lambda.conftest import Shell

CLASSES: list[Any] = [
    {"name": "large", "header": "x-size", "weights": {"fast": 1}},
    {"name": "previews", "path": "/v1/previews/*"},
    "rest",
]


def with_classes(fleet: Fleet, classes: list[Any], **settings: Any) -> Fleet:
    """The same fleet with query classes."""
    return parse_fleet(
        {**fleet.model_dump(mode="json", exclude_defaults=True), "classes": classes, **settings}
    )


def rules_of(shell: Shell) -> dict[str, Any]:
    """The listener's rules by priority, without the stack's own."""
    answer = shell.clients.elbv2.describe_rules(ListenerArn=shell.environment.listener_arn)
    return {rule["Priority"]: rule for rule in answer["Rules"] if rule["Priority"] in {"1", "2", "3", "101"}}


def weights_in(rule: Any) -> list[int]:
    """The rule's weights, unit by unit."""
    return [group["Weight"] for group in rule["Actions"][0]["ForwardConfig"]["TargetGroups"]]


def test_every_class_gets_a_rule_in_its_order_and_the_last_takes_the_rest(shell: Shell) -> None:
    """Priorities 1 to n; a header or a path as fleet.yaml says; every unit listed, zeros included."""
    fleet = with_classes(shell.fleet, CLASSES)
    shell.sensors.sense(fleet, NOON, ())
    shell.actuators.set_weights({"fast": 500, "slow": 499})
    assert shell.actuators.set_class_weights("large", {"fast": 999, "slow": 0}) == {"fast": 999, "slow": 0}
    shell.actuators.set_class_weights("previews", {"fast": 0, "slow": 999})
    rules = rules_of(shell)
    header = {"HttpHeaderName": "x-size", "Values": ["large"]}
    assert rules["1"]["Conditions"][0]["HttpHeaderConfig"] == header
    assert rules["2"]["Conditions"][0]["PathPatternConfig"]["Values"] == ["/v1/previews/*"]
    assert rules["3"]["Conditions"][0]["PathPatternConfig"]["Values"] == ["/*"]
    assert [weights_in(rules[priority]) for priority in "123"] == [[999, 0], [0, 999], [500, 499]]


def test_the_rows_are_read_as_they_stand(shell: Shell) -> None:
    """Empty where a class has no rule yet."""
    fleet = with_classes(shell.fleet, CLASSES)
    shell.sensors.sense(fleet, NOON, ())
    shell.actuators.set_weights({"fast": 500, "slow": 499})
    shell.actuators.set_class_weights("large", {"fast": 999, "slow": 0})
    snapshot = shell.sensors.sense(fleet, NOON, ())
    assert snapshot.weights == {"fast": 500, "slow": 499}
    assert snapshot.class_weights == {"large": {"fast": 999, "slow": 0}, "previews": {}}


def test_classes_that_appear_take_the_first_priorities(shell: Shell) -> None:
    """The rule that took every request becomes the first class's, once the rest has a rule of its own."""
    shell.actuators.set_weights({"fast": 500, "slow": 499})
    fleet = with_classes(shell.fleet, CLASSES)
    assert shell.sensors.sense(fleet, NOON, ()).weights == {}
    shell.actuators.set_weights({"fast": 400, "slow": 599})
    shell.actuators.set_class_weights("large", {"fast": 999, "slow": 0})
    rules = rules_of(shell)
    assert weights_in(rules["3"]) == [400, 599]
    assert weights_in(rules["1"]) == [999, 0]
    assert rules["1"]["Conditions"][0]["Field"] == "http-header"


def test_behind_a_router_the_rules_stand_below_the_routers(shell: Shell) -> None:
    """Priority 1 is the stack's rule that sends every request to the router."""
    fleet = with_classes(shell.fleet, [], routing="router")
    shell.sensors.sense(fleet, NOON, ())
    shell.actuators.set_weights({"fast": 500, "slow": 499})
    assert set(rules_of(shell)) == {"101"}


def test_behind_a_router_its_own_counts_are_read(shell: Shell) -> None:
    """By unit in our namespace; what the router refused found no unit, but was demand."""
    fleet = with_classes(shell.fleet, [], routing="router")
    minute = int(NOON) - 300
    shell.cloud.put_minute("fast", minute, [0.5] * 4, healthy_hosts=3)
    put_counts(shell, minute)
    snapshot = shell.sensors.sense(fleet, NOON, ())
    fast = {item.at: item for item in snapshot.minutes["fast"]}[minute]
    assert (fast.requests, fast.errors, fast.healthy_hosts) == (70, 2, 3)
    assert snapshot.untargeted[minute] == 9
    assert snapshot.failures == ()


def put_counts(shell: Shell, minute: int) -> None:
    """Put a minute's counts as the router does."""
    by_fleet = [{"Name": "Fleet", "Value": shell.environment.cluster_name}]
    by_unit = [*by_fleet, {"Name": "Unit", "Value": "fast"}]
    counts = [
        ("RequestCount", by_unit, 70.0),
        ("HTTPCode_Target_5XX_Count", by_unit, 2.0),
        ("RefusedRequestCount", by_fleet, 9.0),
    ]
    shell.clients.cloudwatch.put_metric_data(
        Namespace=shell.environment.metric_namespace,
        MetricData=[
            {"MetricName": name, "Dimensions": dimensions, "Timestamp": minute, "Value": value}
            for name, dimensions, value in counts
        ],
    )


def test_a_tick_writes_a_row_for_every_class(shell: Shell) -> None:
    """The rest first, so that no class ever takes the place of the rule for every request."""
    fleet = with_classes(shell.fleet, CLASSES)
    shell.put_fleet_parameter(fleet.to_json())
    shell.cloud.set_ready("fast-on-demand", 2)
    event = {"time": "2026-01-31T12:00:00Z", "cause": "schedule"}
    record = as_json(tick(event, shell.sensors, shell.actuators, shell.memory))
    assert record["failures"] == []
    assert [(item["what"], item["subject"]) for item in record["writes"]][:3] == [
        ("weights", "rule"),
        ("class weights", "large"),
        ("class weights", "previews"),
    ]
    assert {priority: weights_in(rule) for priority, rule in rules_of(shell).items()} == {
        "1": [999, 0],
        "2": [999, 0],
        "3": [999, 0],
    }


def deciding_rows(rows: dict[str, dict[str, int]]) -> Any:
    """A policy that decides on sizes and on rows of class weights."""
    plain = deciding(WEIGHTS, SIZES)

    def decide(*given: Any) -> Any:
        decision, state = plain(*given)
        values = {name: getattr(decision, name) for name in Decision.__dataclass_fields__}
        return Decision(**{**values, "class_weights": rows}), state

    return decide


def test_shrinking_waits_when_a_class_row_is_not_certain() -> None:
    """A node that still gets a class's traffic must not go."""
    world = World(foreign_hand={"aa": 1, "bb": 1, "cc": 1})
    record = run(world, deciding_rows({"large": {"aa": 999, "bb": 0, "cc": 0}}))
    assert any(
        failure.startswith(f"{Failure.FOREIGN_WEIGHTS}: class large") for failure in record["failures"]
    )
    assert any(failure.startswith(f"{Failure.SKIPPED}: {Failure.SIZE}") for failure in record["failures"])


@pytest.mark.parametrize("code", ["Throttling", "InternalFailure"])
def test_a_row_that_cannot_be_written_is_a_failure_of_its_own(code: str) -> None:
    """The other rows and the growth go on."""
    world = World(fails={"class large": refused(code)})
    rows = {"large": {"aa": 999, "bb": 0, "cc": 0}, "small": {"aa": 0, "bb": 999, "cc": 0}}
    record = run(world, deciding_rows(rows))
    assert Failure.WEIGHTS.told(code, "of class large") in record["failures"]
    assert "class small" in world.calls


def test_observing_writes_no_row() -> None:
    """Paused is paused."""
    world = World(settings_now=Settings(World().settings_now.fleet_json, observe=True))
    run(world, deciding_rows({"large": {"aa": 999, "bb": 0, "cc": 0}}))
    assert not [call for call in world.calls if call.startswith("class")]
