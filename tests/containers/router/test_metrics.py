import asyncio
import logging
from typing import Any

import boto3
import pytest
from botocore.exceptions import EndpointConnectionError
from botocore.validate import validate_parameters

from containers.router.cloudwatch import DATA_IN_CALL, VALUES_IN_DATUM, Publisher, metric_data
from containers.router.metrics import Telemetry
from control_lambda.core import names
from control_lambda.core.metrics import Metric, Owner
from tests.containers.router.fake_pods import settings

NOON = 1_700_000_040.0  # a whole minute


class FakeCloudWatch:
    """Takes what PutMetricData takes, checked against botocore's model of the call; or is out of reach."""

    def __init__(self, *, is_reachable: bool = True) -> None:
        self._is_reachable = is_reachable
        self.calls: list[dict[str, Any]] = []
        client = boto3.client("cloudwatch", region_name="us-east-1")
        self._shape = client.meta.service_model.operation_model("PutMetricData").input_shape

    def put_metric_data(self, **call: Any) -> None:
        """One call."""
        if not self._is_reachable:
            raise EndpointConnectionError(endpoint_url="https://monitoring")
        validate_parameters(call, self._shape)
        self.calls.append(call)


def by_name(data: list[dict[str, Any]], name: str, unit: str | None = "fast") -> dict[str, Any]:
    """The only datum of that metric and unit."""
    dimensions = {"Fleet": "local", **({"Unit": unit} if unit else {})}
    (found,) = [
        datum
        for datum in data
        if datum["MetricName"] == name
        and {one["Name"]: one["Value"] for one in datum["Dimensions"]} == dimensions
    ]
    return found


def test_the_router_puts_what_the_table_of_metrics_says_of_it() -> None:
    """Two worlds that share no import spell names, dimensions and units alike."""
    telemetry = Telemetry(["fast"])
    telemetry.answered("fast", 200, 0.5)
    put = {
        (datum["MetricName"], tuple(one["Name"] for one in datum["Dimensions"]), datum["Unit"])
        for datum in metric_data(telemetry.take_report(), "local", NOON)
    }
    assert put == {
        (metric.metric_name, metric.dimensions, metric.unit)
        for metric in Metric
        if metric.owner is Owner.ROUTER
    }
    assert settings().metric_namespace == names.NAMESPACE


def test_a_minute_tells_requests_errors_and_response_times_by_unit() -> None:
    """Times as values with counts, to three digits; a client that left and a dead pod have none."""
    telemetry = Telemetry(["fast", "slow"])
    for status, seconds in ((200, 0.50001), (200, 0.5), (503, 1.2345), (502, None), (499, None)):
        telemetry.answered("fast", status, seconds)
    telemetry.refused("deadline")
    data = metric_data(telemetry.take_report(), "local", NOON)
    assert by_name(data, "RequestCount")["Value"] == 5
    assert by_name(data, "HTTPCode_Target_5XX_Count")["Value"] == 2
    times = by_name(data, "TargetResponseTime")
    assert (times["Values"], times["Counts"], times["Unit"]) == ([0.5, 1.23], [2, 1], "Seconds")
    assert by_name(data, "RefusedRequestCount", unit=None)["Value"] == 1


def test_a_unit_without_requests_reports_zero() -> None:
    """Zero says that nobody asked; nothing at all would say that no router lives."""
    data = metric_data(Telemetry(["fast"]).take_report(), "local", NOON)
    assert [datum["Value"] for datum in data] == [0, 0, 0]


def test_a_report_is_taken_once() -> None:
    """The next one begins at zero."""
    telemetry = Telemetry(["fast"])
    telemetry.answered("fast", 200, 0.1)
    assert telemetry.take_report().units["fast"].requests == 1
    assert telemetry.take_report().units["fast"].requests == 0


def test_a_busy_minute_keeps_cloudwatchs_limits() -> None:
    """At most so many values in a datum and data in a call, as the API's model has it; none is lost."""
    telemetry = Telemetry([f"unit-{number}" for number in range(40)])
    for number in range(40):
        for step in range(400):
            telemetry.answered(f"unit-{number}", 200, 0.1 + step / 1000)
    cloudwatch = FakeCloudWatch()
    publisher = Publisher(telemetry, settings(), cloudwatch)
    asyncio.run(publisher.put_report(NOON + 31))
    assert len(cloudwatch.calls) > 1
    data = [datum for call in cloudwatch.calls for datum in call["MetricData"]]
    assert all(len(call["MetricData"]) <= DATA_IN_CALL <= 1000 for call in cloudwatch.calls)
    assert all(len(datum.get("Values", [])) <= VALUES_IN_DATUM == 150 for datum in data)
    assert sum(sum(datum.get("Counts", [])) for datum in data) == 40 * 400
    assert {call["Namespace"] for call in cloudwatch.calls} == {"Fulcrum"}
    assert {datum["Timestamp"].timestamp() for datum in data} == {NOON}


def test_a_minute_that_cloudwatch_does_not_take_is_lost_and_says_so(caplog: pytest.LogCaptureFixture) -> None:
    """The next minute must not carry it: the loop would see a burst that never was."""
    telemetry = Telemetry(["fast"])
    telemetry.answered("fast", 200, 0.1)
    publisher = Publisher(telemetry, settings(), FakeCloudWatch(is_reachable=False))
    with caplog.at_level(logging.WARNING):
        asyncio.run(publisher.put_report(NOON))
    assert "the minute's metrics were not put" in caplog.text
    assert telemetry.take_report().units["fast"].requests == 0


def test_what_is_left_at_the_end_is_put() -> None:
    """A router that stops within a minute tells what it did in it."""

    async def scenario() -> None:
        telemetry, cloudwatch = Telemetry(["fast"]), FakeCloudWatch()
        running = asyncio.create_task(Publisher(telemetry, settings(), cloudwatch).run())
        await asyncio.sleep(0)
        telemetry.answered("fast", 200, 0.1)
        running.cancel()
        with pytest.raises(asyncio.CancelledError):
            await running
        told = [by_name(call["MetricData"], "RequestCount")["Value"] for call in cloudwatch.calls]
        assert sum(told) == 1

    asyncio.run(scenario())
