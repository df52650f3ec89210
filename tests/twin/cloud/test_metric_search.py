"""SEARCH in the embedded cloud: a series for each node that put something, and nothing else."""

from collections.abc import Iterator, Mapping
from datetime import UTC, datetime
from typing import Any

import pytest
from botocore.exceptions import ClientError

from tests.control_lambda.core.examples import fleet, unit
from twin.cloud.embedded import BEGINNING, Cloud, start

FLEET = fleet(unit("neuron"))
LATER = BEGINNING + 600
SCHEMA = "{Fulcrum,Fleet,Unit,Node}"
EXPRESSION = f"""SEARCH('{SCHEMA} MetricName="NodeServiceSeconds" Fleet="here"', 'Average', 60)"""


@pytest.fixture
def cloud() -> Iterator[Cloud]:
    """Two nodes of this cluster put their seconds, and others something else; ten minutes ago."""
    with start() as cloud:
        cloud.provision(FLEET)
        put_seconds(cloud)
        cloud.advance(LATER)
        yield cloud


def put_seconds(cloud: Cloud) -> None:
    """Put what is sought, and what differs from it in one way each."""
    put(cloud, "NodeServiceSeconds", {"Fleet": "here", "Unit": "a", "Node": "10.0.0.2"}, 1.5)
    put(cloud, "NodeServiceSeconds", {"Fleet": "here", "Unit": "a", "Node": "10.0.0.1"}, 1.6)
    put(cloud, "NodeServiceSeconds", {"Fleet": "there", "Unit": "a", "Node": "10.0.0.3"}, 1.7)
    put(cloud, "NodeServiceSeconds", {"Fleet": "here", "Unit": "a"}, 1.8)
    put(cloud, "Arrivals", {"Fleet": "here", "Unit": "a", "Node": "10.0.0.4"}, 1.9)


def put(cloud: Cloud, metric: str, dimensions: Mapping[str, str], value: float) -> None:
    """Put a datum now."""
    named = [{"Name": name, "Value": text} for name, text in dimensions.items()]
    datum = {"MetricName": metric, "Dimensions": named, "Value": value}
    cloud.client("cloudwatch").put_metric_data(Namespace="Fulcrum", MetricData=[datum])


def results(cloud: Cloud, expression: str, **more: str) -> list[dict[str, Any]]:
    """What the one expression is answered with, over ten minutes."""
    answer = cloud.client("cloudwatch").get_metric_data(
        MetricDataQueries=[{"Id": "nodes", "Expression": expression, **more}],
        StartTime=datetime.fromtimestamp(BEGINNING - 60, UTC),
        EndTime=datetime.fromtimestamp(LATER, UTC),
    )
    found: list[dict[str, Any]] = answer["MetricDataResults"]
    return found


def test_each_series_that_is_found_is_a_result_with_its_label(cloud: Cloud) -> None:
    """Of the schema's dimensions exactly, with these values; all under the query's id."""
    found = results(cloud, EXPRESSION, Label="${PROP('Dim.Node')}")
    assert [(one["Id"], one["Label"], one["Values"]) for one in found] == [
        ("nodes", "10.0.0.1", [1.6]),
        ("nodes", "10.0.0.2", [1.5]),
    ]


def test_what_is_not_found_gives_no_result(cloud: Cloud) -> None:
    """An empty answer, and no failure."""
    assert results(cloud, EXPRESSION.replace("here", "nowhere")) == []


@pytest.mark.parametrize(
    "expression",
    [
        EXPRESSION.replace("60)", "300)"),
        f"SEARCH('{SCHEMA} NodeServiceSeconds', 'Average', 60)",
        f"""SEARCH('{SCHEMA} Fleet="here"', 'Average', 60)""",
    ],
)
def test_other_searches_are_refused(cloud: Cloud, expression: str) -> None:
    """Another period, free text, and no metric: AWS takes them, the embedded cloud does not."""
    with pytest.raises(ClientError, match="not supported"):
        results(cloud, expression)
