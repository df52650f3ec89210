import asyncio
import logging
from typing import Any

import pytest

from containers.serving.settings import Settings
from containers.serving.slowness import Pace, SlownessReport

PROFILE = 0.5
SETTINGS = Settings(fleet="sd21", unit="inf2-neuron", service_seconds=PROFILE, host_ip="10.0.0.7")


class FakeCloudWatch:
    """Keeps what is put, or takes nothing."""

    def __init__(self) -> None:
        self.put: list[dict[str, Any]] = []
        self.error: Exception | None = None

    def put_metric_data(self, **call: Any) -> None:
        """Keep the call."""
        if self.error:
            raise self.error
        self.put.append(call)


def paced(*seconds: float, now: list[float] | None = None) -> Pace:
    """The pace after these pictures, on a clock that tests can set."""
    clock = now or [0.0]
    pace = Pace(PROFILE, lambda: clock[0])
    for each in seconds:
        pace.add(each)
    return pace


@pytest.mark.parametrize(
    ("seconds", "told"),
    [
        ([0.5] * 9, None),
        ([0.64] * 9, None),
        ([0.5] * 5 + [9.0] * 4, None),
        ([0.5] * 4 + [0.8] * 5, 0.8),
        ([2.0] * 4, None),
    ],
)
def test_a_node_is_slow_when_its_median_is(seconds: list[float], told: float | None) -> None:
    """More than 1.3 times the profile, over at least five batches."""
    assert paced(*seconds).slow_seconds() == told


def test_what_is_five_minutes_old_no_longer_counts() -> None:
    """A node that has recovered, or is idle, says nothing."""
    now = [0.0]
    pace = paced(*[2.0] * 9, now=now)
    now[0] = 301.0
    assert pace.slow_seconds() is None


def test_a_slow_node_is_told_by_its_address() -> None:
    """One datum with fleet, unit and node; a node that keeps its pace puts nothing at all."""
    cloudwatch = FakeCloudWatch()
    asyncio.run(SlownessReport(paced(*[0.5] * 9), SETTINGS, cloudwatch).report())
    assert cloudwatch.put == []
    asyncio.run(SlownessReport(paced(*[1.0] * 9), SETTINGS, cloudwatch).report())
    [call] = cloudwatch.put
    assert call["Namespace"] == "Fulcrum"
    [datum] = call["MetricData"]
    assert (datum["MetricName"], datum["Value"], datum["Unit"]) == ("NodeServiceSeconds", 1.0, "Seconds")
    assert {each["Name"]: each["Value"] for each in datum["Dimensions"]} == {
        "Fleet": "sd21",
        "Unit": "inf2-neuron",
        "Node": "10.0.0.7",
    }


def test_a_failure_to_put_is_logged_once_and_harms_nothing(caplog: pytest.LogCaptureFixture) -> None:
    """A log that repeats every minute helps nobody; a success starts anew."""
    cloudwatch = FakeCloudWatch()
    report = SlownessReport(paced(*[1.0] * 9), SETTINGS, cloudwatch)
    cloudwatch.error = OSError("no route")
    with caplog.at_level(logging.WARNING):
        for _ in range(3):
            asyncio.run(report.report())
    assert [record.message for record in caplog.records] == ["NodeServiceSeconds was not put: no route"]
    cloudwatch.error = None
    asyncio.run(report.report())
    assert len(cloudwatch.put) == 1


@pytest.mark.parametrize("unknown", [{"service_seconds": None}, {"host_ip": ""}])
def test_without_a_profile_or_a_node_it_never_reports(unknown: dict[str, Any]) -> None:
    """The task ends at once."""
    settings = SETTINGS.model_copy(update=unknown)
    asyncio.run(SlownessReport(paced(*[9.0] * 9), settings, FakeCloudWatch()).run())
    assert Pace(None).slow_seconds() is None
