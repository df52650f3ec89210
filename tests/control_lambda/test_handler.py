"""The tick's Lambda as a whole, on the embedded AWS."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

import pytest

from control_lambda import handler as tick_lambda
from control_lambda.aws.world import SLOWEST_CALL_SECONDS
from control_lambda.core.reasons import Skip
from control_lambda.trigger import iso_time
from tests.control_lambda.conftest import NOON

if TYPE_CHECKING:
    from tests.control_lambda.conftest import Shell
    from twin.cloud.embedded import Cloud


@pytest.fixture(autouse=True)
def _fresh_process() -> Iterator[None]:
    """Every test is a cold start."""
    tick_lambda.shared_ports.cache_clear()
    yield
    tick_lambda.shared_ports.cache_clear()


def lines(capsys: pytest.CaptureFixture[str]) -> list[dict[str, Any]]:
    """Everything written to standard output, as JSON."""
    return [json.loads(line) for line in capsys.readouterr().out.splitlines()]


@pytest.mark.usefixtures("variables")
def test_the_handler_returns_the_record_and_logs_it_once(caplog: pytest.LogCaptureFixture) -> None:
    """One structured line for each tick, of what JSON can hold."""
    record = tick_lambda.handler({"time": iso_time(NOON), "cause": "schedule"}, None)
    assert record["tick"] == 1
    assert [vars(line)["record"] for line in caplog.records if line.name == "tick"] == [record]
    assert json.loads(json.dumps(record)) == record


@pytest.mark.usefixtures("variables")
def test_a_tick_without_a_time_takes_the_wall_clock(monkeypatch: pytest.MonkeyPatch) -> None:
    """The handler alone knows what time it is."""
    monkeypatch.setattr("control_lambda.handler.time.time", lambda: NOON + 7)
    assert tick_lambda.handler({}, None)["at"] == NOON + 7


def test_a_second_invocation_shares_the_clients(variables: tuple[Cloud, dict[str, str]]) -> None:
    """And a duplicate of the same minute is skipped, without metrics."""
    cloud, _ = variables
    event = {"time": iso_time(NOON), "cause": "schedule"}
    tick_lambda.handler(event, None)
    ports = tick_lambda.shared_ports()
    cloud.calls.clear()
    assert tick_lambda.handler(event, None)["skipped"].startswith(Skip.NOT_LATER)
    assert tick_lambda.shared_ports() is ports
    assert cloud.calls == {"UpdateItem": 2}


def metrics(capsys: pytest.CaptureFixture[str]) -> dict[tuple[str, ...], dict[str, float]]:
    """The embedded metrics on standard output: dimension values to metric values."""
    found: dict[tuple[str, ...], dict[str, float]] = {}
    for line in lines(capsys):
        if "_aws" not in line:
            continue
        described = line["_aws"]["CloudWatchMetrics"][0]
        assert described["Namespace"] == "Fulcrum"
        key = tuple(line[name] for name in described["Dimensions"][0])
        values = {metric["Name"]: line[metric["Name"]] for metric in described["Metrics"]}
        found[key] = {name: value[0] if isinstance(value, list) else value for name, value in values.items()}
    return found


def test_the_record_becomes_metrics(shell: Shell, capsys: pytest.CaptureFixture[str]) -> None:
    """Fleet on all, Unit or Pool where the contract says so."""
    record = tick_lambda.handler({"time": iso_time(NOON), "cause": "schedule"}, None)
    put = metrics(capsys)
    fleet = shell.environment.cluster_name
    assert put[(fleet,)]["Mode"] == {"cost": 0, "capacity": 1}[record["mode"]]
    assert put[(fleet,)]["TickFailures"] == len(record["failures"])
    assert put[(fleet,)]["CostUsdPerHour"] == record["cost_usd_per_hour"]
    assert set(put[(fleet,)]) >= {"DemandRpm", "ForecastRpm", "SavingsUsdPerHour"}
    assert put[(fleet, "fast")] == {"Weight": 0, "ReadyNodes": 0}
    assert put[(fleet, "slow-on-demand")] == {
        "DesiredNodes": 0,
        "Available": 1,
        "NodeGroupHeld": 0,
    }
    assert len(put) == 1 + len(shell.fleet.units) + len(shell.fleet.pools)


def test_failures_are_counted_and_unknown_values_left_out(
    shell: Shell, capsys: pytest.CaptureFixture[str]
) -> None:
    """A tick without a fleet has a failure to count, and the units' health, but neither demand nor mode."""
    shell.put_fleet_parameter("garbage")
    tick_lambda.handler({"time": iso_time(NOON), "cause": "schedule"}, None)
    put = metrics(capsys)
    fleet = shell.environment.cluster_name
    assert put.keys() == {(fleet,), *((fleet, unit) for unit in shell.environment.units)}
    told = put[(fleet,)]
    assert (told["Survival"], told["TickFailures"]) == (1, 1)
    assert not {"Mode", "DemandRpm", "ForecastRpm", "CostUsdPerHour"} & told.keys()


@pytest.mark.usefixtures("variables")
def test_a_missing_variable_fails_the_invocation(monkeypatch: pytest.MonkeyPatch) -> None:
    """With a line that names it."""
    monkeypatch.delenv("STATE_TABLE")
    with pytest.raises(ValueError, match="environment: STATE_TABLE: not set"):
        tick_lambda.handler({}, None)


def test_writes_may_begin_only_while_they_and_the_save_fit_into_the_tick() -> None:
    """20 s for the tick, less twice the slowest call."""
    assert tick_lambda.WRITE_SECONDS + 2 * SLOWEST_CALL_SECONDS == tick_lambda.TICK_SECONDS
    assert 0 < tick_lambda.time_to_write()() <= tick_lambda.WRITE_SECONDS
