import json
from typing import Any

import pytest

from containers.serving import metrics
from containers.serving.metrics import Telemetry
from containers.serving.settings import Settings
from control_lambda.core import names


@pytest.fixture
def telemetry() -> Telemetry:
    """Metrics of one pod."""
    return Telemetry(Settings(fleet="sd21", unit="inf2-neuron", pool="inf2-neuron-spot"))


def lines(capsys: pytest.CaptureFixture[str]) -> list[dict[str, Any]]:
    """The lines of EMF written so far."""
    return [json.loads(line) for line in capsys.readouterr().out.splitlines()]


def test_one_line_of_emf_holds_everything_since_the_last(
    telemetry: Telemetry, capsys: pytest.CaptureFixture[str]
) -> None:
    """Each metric with all its values, under the pod's fleet, unit and pool."""
    telemetry.prepared(12.5, 3.25)
    for status in (200, 503):
        telemetry.answered(status)
    telemetry.picture(0.1, 0.5, 0.02)
    telemetry.batch(2)
    telemetry.queue_depth(3)
    telemetry.device_error("out_of_memory")
    telemetry.flush()
    (line,) = lines(capsys)
    described = line.pop("_aws")["CloudWatchMetrics"][0]
    assert described["Namespace"] == "Fulcrum"
    assert described["Dimensions"] == [["Fleet", "Unit", "Pool"]]
    assert line == {
        "Fleet": "sd21",
        "Unit": "inf2-neuron",
        "Pool": "inf2-neuron-spot",
        "LoadSeconds": [12.5],
        "WarmUpSeconds": [3.25],
        "RequestCount": [2.0],
        "Images": [1.0],
        "QueueSeconds": [0.1],
        "InferenceSeconds": [0.5],
        "EncodeSeconds": [0.02],
        "BatchSize": [2.0],
        "QueueDepth": [3.0],
        "DeviceErrors": [1.0],
    }


def test_nothing_new_writes_nothing(telemetry: Telemetry, capsys: pytest.CaptureFixture[str]) -> None:
    """An idle pod costs no log."""
    telemetry.answered(200)
    telemetry.flush()
    telemetry.flush()
    assert len(lines(capsys)) == 1


def test_no_value_is_lost_beyond_emfs_hundred_a_line(
    telemetry: Telemetry, capsys: pytest.CaptureFixture[str]
) -> None:
    """CloudWatch takes at most 100 values of a metric in a line; the rest goes into further lines."""
    for _ in range(250):
        telemetry.batch(2)
        telemetry.answered(200)
    telemetry.flush()
    written = lines(capsys)
    assert [len(line["BatchSize"]) for line in written] == [100, 100, 50]
    assert sum(line.get("RequestCount", [0.0])[0] for line in written) == 250


def test_names_are_spelled_as_the_control_loop_spells_them() -> None:
    """The container imports nothing of the loop, so this test holds the two together."""
    assert metrics.FLEET_DIMENSION == names.FLEET
    assert metrics.UNIT_DIMENSION == names.UNIT
    assert metrics.POOL_DIMENSION == names.POOL
    assert Settings().metric_namespace == names.NAMESPACE
    assert names.METRIC_NAMESPACE.lower() in Settings.model_fields
