"""The dashboard of the whole stack: it asks what it promises to answer, of metrics that somebody puts."""

import json
import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, Final

import pytest
from aws_cdk.assertions import Template

from control_lambda.core import names
from control_lambda.core.fleet import Fleet
from control_lambda.core.metrics import Metric, Owner
from control_lambda.core.record import DecisionRecord
from control_lambda.core.supply.refusal_kinds import LAUNCH_REFUSALS
from control_lambda.emf import metrics_of
from control_lambda.fleet_file import load_fleet
from infra.observability.dashboard import DECISIONS
from tests.infra.replayed import run

FLEET: Final = load_fleet(Path(__file__).parents[3] / "fleet.yaml")
CLUSTER: Final = "the-cluster"
QUESTIONS: Final = (
    "Are users fine?",
    "What is the loop doing?",
    "What does it cost?",
    "What is short?",
    "Is the loop healthy?",
)

# A series: its namespace, its metric's name and its dimensions, the fleet's left out.
Series = tuple[str, str, frozenset[tuple[str, str]]]


@pytest.fixture(scope="session")
def resources(template: Template) -> Mapping[str, Any]:
    """The resources of the default stack."""
    found: Mapping[str, Any] = template.to_json()["Resources"]
    return found


@pytest.fixture(scope="session")
def widgets(resources: Mapping[str, Any]) -> list[dict[str, Any]]:
    """The dashboard's widgets in reading order."""
    (page,) = of_type(resources, "AWS::CloudWatch::Dashboard")
    body = json.loads(joined(page["DashboardBody"]))
    found: list[dict[str, Any]] = body["widgets"]
    return sorted(found, key=lambda widget: (widget["y"], widget["x"]))


@pytest.fixture(scope="session")
def record() -> DecisionRecord:
    """What a tick of the default fleet says."""
    return run(FLEET, [100] * 20).records[-1]


def of_type(resources: Mapping[str, Any], kind: str) -> list[dict[str, Any]]:
    """The properties of the resources of a type."""
    return [resource["Properties"] for resource in resources.values() if resource["Type"] == kind]


def joined(value: Any) -> str:
    """A string of the template; what CloudFormation fills in stands as `<logical id>`."""
    match value:
        case str():
            return value
        case {"Fn::Join": [str() as glue, list() as parts]}:
            return glue.join(map(joined, parts))
        case {"Ref": str() as name} | {"Fn::GetAtt": [str() as name, _]}:
            return f"<{name}>"
        case _:
            raise ValueError(f"no string: {value}")


def put_by_the_loop(record: DecisionRecord, fleet: Fleet) -> set[Series]:
    """Everything that the two functions put."""
    told = {
        (names.NAMESPACE, metric.metric_name, frozenset(list(dimensions.items())[1:]))
        for dimensions, metrics in metrics_of(record, CLUSTER)
        for metric in metrics
    }
    prices = {
        (names.NAMESPACE, Metric.PRICE_USD_PER_HOUR.metric_name, frozenset({(names.POOL, pool.name)}))
        for pool in fleet.pools
    }
    refusals = {
        (
            names.NAMESPACE,
            Metric.CAPACITY_ERRORS.metric_name,
            frozenset({(names.POOL, pool.name), (names.KIND, kind.value)}),
        )
        for pool in fleet.pools
        for kind in LAUNCH_REFUSALS
    }
    return told | prices | refusals


def shown(widgets: list[dict[str, Any]]) -> Iterator[tuple[str, str, dict[str, str]]]:
    """Every metric of every graph: namespace, name and dimensions."""
    for widget in widgets:
        for entry in widget["properties"].get("metrics", ()):
            if isinstance(entry[0], str):
                namespace, metric, *dimensions = (item for item in entry if isinstance(item, str))
                yield namespace, metric, dict(zip(dimensions[::2], dimensions[1::2], strict=True))


def watched(resources: Mapping[str, Any]) -> Iterator[tuple[str, str, dict[str, str]]]:
    """Every metric of every alarm: namespace, name and dimensions."""
    for alarm in of_type(resources, "AWS::CloudWatch::Alarm"):
        metrics = [
            query["MetricStat"]["Metric"] for query in alarm.get("Metrics", ()) if "MetricStat" in query
        ]
        for metric in metrics or [alarm]:
            dimensions = {item["Name"]: joined(item["Value"]) for item in metric["Dimensions"]}
            yield metric["Namespace"], metric["MetricName"], dimensions


def test_the_questions_stand_in_their_order(widgets: list[dict[str, Any]]) -> None:
    """Users first, then what serves them, then what it costs."""
    headings = [widget["properties"]["markdown"] for widget in widgets if widget["type"] == "text"]
    assert headings == [f"## {question}" for question in QUESTIONS]


@pytest.mark.parametrize(
    ("question", "metrics"),
    [
        (
            QUESTIONS[0],
            {
                Metric.TARGET_RESPONSE_TIME.metric_name,
                Metric.TARGET_5XX_COUNT.metric_name,
                Metric.ELB_5XX_COUNT.metric_name,
            },
        ),
        (
            QUESTIONS[1],
            {
                Metric.MODE.metric_name,
                Metric.WEIGHT.metric_name,
                Metric.DESIRED_NODES.metric_name,
                Metric.READY_NODES.metric_name,
            },
        ),
        (QUESTIONS[2], {Metric.COST_USD_PER_HOUR.metric_name, Metric.SAVINGS_USD_PER_HOUR.metric_name}),
        (QUESTIONS[3], {Metric.AVAILABLE.metric_name, Metric.QUOTA_REACHED.metric_name}),
        (QUESTIONS[4], {Metric.TICK_FAILURES.metric_name, Metric.SIGNAL_AGE_SECONDS.metric_name, "Errors"}),
    ],
)
def test_each_question_is_answered_below_it(
    question: str, metrics: set[str], widgets: list[dict[str, Any]]
) -> None:
    """By the metrics that hold the answer."""
    begin = [widget["properties"].get("markdown") for widget in widgets].index(f"## {question}")
    rest = widgets[begin + 1 :]
    end = next((index for index, widget in enumerate(rest) if widget["type"] == "text"), len(rest))
    assert metrics <= {metric for _, metric, _ in shown(rest[:end])}


def test_every_metric_that_is_shown_or_watched_is_put_by_somebody(
    widgets: list[dict[str, Any]], resources: Mapping[str, Any], record: DecisionRecord
) -> None:
    """Under the same name and dimensions; a graph that is misspelt stays empty without a word."""
    put = put_by_the_loop(record, FLEET)
    asked = [*shown(widgets), *watched(resources)]
    own = [item for item in asked if item[0] == names.NAMESPACE]
    assert len({dimensions[names.FLEET] for _, _, dimensions in own}) == 1
    for namespace, metric, dimensions in own:
        rest = frozenset((key, value) for key, value in dimensions.items() if key != names.FLEET)
        assert (namespace, metric, rest) in put, (metric, dimensions)
    others = {(namespace, tuple(dimensions)) for namespace, _, dimensions in asked} - {
        (namespace, tuple(dimensions)) for namespace, _, dimensions in own
    }
    assert others == {
        (names.LOAD_BALANCER_NAMESPACE, (names.LOAD_BALANCER,)),
        ("AWS/Lambda", ("FunctionName",)),
        ("AWS/States", ("StateMachineArn",)),
    }


def test_every_metric_that_is_put_in_our_namespace_is_shown_or_watched_by_somebody(
    widgets: list[dict[str, Any]], resources: Mapping[str, Any]
) -> None:
    """One that nobody looks at costs money for nothing."""
    asked = {
        metric
        for namespace, metric, _ in (*shown(widgets), *watched(resources))
        if namespace == names.NAMESPACE
    }
    put = {metric.metric_name for metric in Metric if metric.owner in {Owner.LOOP, Owner.SIGNALS}}
    assert put - asked == set()


def test_the_metrics_are_those_of_the_cluster_that_the_loop_steers(
    widgets: list[dict[str, Any]], resources: Mapping[str, Any]
) -> None:
    """The dimension Fleet holds what the functions are told as CLUSTER_NAME."""
    told = {
        joined(function["Environment"]["Variables"][names.CLUSTER_NAME])
        for function in of_type(resources, "AWS::Lambda::Function")
        if names.TICK_FUNCTION in function.get("Environment", {}).get("Variables", {})
    }
    asked = {dimensions[names.FLEET] for _, _, dimensions in shown(widgets) if names.FLEET in dimensions}
    assert asked == told
    assert len(asked) == 1


def test_capacity_errors_are_found_whatever_their_pool_and_kind(widgets: list[dict[str, Any]]) -> None:
    """They are put only when there are any; signals gives them these three dimensions."""
    (expression,) = (
        entry[0]["expression"]
        for widget in widgets
        for entry in widget["properties"].get("metrics", ())
        if isinstance(entry[0], dict) and "SEARCH" in entry[0]["expression"]
    )
    schema = f"{{{names.NAMESPACE},{names.FLEET},{names.POOL},{names.KIND}}}"
    assert expression.startswith(
        f'SEARCH(\'{schema} MetricName="{Metric.CAPACITY_ERRORS.metric_name}" {names.FLEET}='
    )


def test_limits_are_drawn_where_the_fleet_says(widgets: list[dict[str, Any]]) -> None:
    """Objective, promise and budget; and where the alarm on missing ticks rings."""
    lines = {
        annotation["label"]: annotation["value"]
        for widget in widgets
        for annotation in widget["properties"].get("annotations", {}).get("horizontal", ())
    }
    assert lines == {
        "objective": FLEET.objective.latency_seconds,
        "promised": 100 * FLEET.objective.attainment,
        "budget": FLEET.budget_usd_per_hour,
        "tick-missing": 180,
    }


def test_decisions_come_from_the_ticks_log_as_the_record_tells_them(
    widgets: list[dict[str, Any]], resources: Mapping[str, Any], record: DecisionRecord
) -> None:
    """Every field of the query is one of the record's."""
    (widget,) = (widget for widget in widgets if widget["type"] == "log")
    (group,) = re.findall(r"^SOURCE '<(\w+)>'", widget["properties"]["query"])
    assert resources[group]["Type"] == "AWS::Logs::LogGroup"
    (tick,) = (
        function
        for function in of_type(resources, "AWS::Lambda::Function")
        if function["Handler"] == "control_lambda.handler.handler"
    )
    assert joined(tick["LoggingConfig"]["LogGroup"]) == f"<{group}>"
    for field in re.findall(r"record\.(\w+)", " ".join(DECISIONS)):
        assert hasattr(record, field)


def test_widgets_fill_the_page_and_do_not_overlap(widgets: list[dict[str, Any]]) -> None:
    """Every row is as wide as the page."""
    rows: dict[int, int] = {}
    for widget in widgets:
        rows[widget["y"]] = rows.get(widget["y"], 0) + widget["width"]
    assert set(rows.values()) == {24}


def test_alarms_stand_only_once_the_loop_is_scheduled(resources: Mapping[str, Any]) -> None:
    """Before, every tick would be missing."""
    schedules = {key for key, item in resources.items() if item["Type"] == "AWS::Scheduler::Schedule"}
    for item in resources.values():
        if item["Type"] == "AWS::CloudWatch::Alarm":
            assert schedules & set(item["DependsOn"])
