from collections.abc import Iterator
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import boto3
import pytest
from moto import mock_aws

from control_lambda.core.model import Evidence, EvidenceKind, Health, Mode, Refusal, State, state_to_json
from control_lambda.fleet_file import load_fleet
from twin.cli.account import Account, AccountError, Deployed, act
from twin.errors import InputError
from twin.inputs import with_policy

FLEET = Path(__file__).parents[3] / "fleet.yaml"
NOW = 1767225600.0
DEPLOYED = Deployed(
    fleet_parameter="/fulcrum/sd21/fleet",
    pause_parameter="/fulcrum/sd21/pause",
    state_table="fulcrum-state",
    cluster="fulcrum-sd21",
)
NAMES: dict[str, str | None] = asdict(DEPLOYED)
STATE = State(
    tick=41,
    at=NOW - 30,
    mode=Mode.CAPACITY,
    weights={"inf2-neuron": 700, "g5-inductor": 299},
    desired={"inf2-neuron-on-demand": 8},
    in_service={"inf2-neuron-on-demand": 7},
    health={"inf2-neuron": Health(NOW - 30, 6)},
    refusals={"inf2": Refusal(EvidenceKind.SHORTAGE, "inf2-neuron-on-demand", NOW - 60, NOW + 120, 2)},
)


@pytest.fixture(autouse=True)
def _aws() -> Iterator[None]:
    """An empty account with the state table and a fleet."""
    with mock_aws():
        boto3.client("dynamodb").create_table(
            TableName=DEPLOYED.state_table,
            AttributeDefinitions=[{"AttributeName": "fleet", "AttributeType": "S"}],
            KeySchema=[{"AttributeName": "fleet", "KeyType": "HASH"}],
            BillingMode="PAY_PER_REQUEST",
        )
        put_fleet(load_fleet(FLEET).to_json())
        yield


def put_fleet(text: str) -> None:
    """Set the fleet parameter."""
    boto3.client("ssm").put_parameter(
        Name=DEPLOYED.fleet_parameter, Value=text, Type="String", Tier="Advanced", Overwrite=True
    )


def put_item(**attributes: Any) -> None:
    """Set the state item."""
    item = {"fleet": {"S": DEPLOYED.cluster}, **attributes}
    boto3.client("dynamodb").put_item(TableName=DEPLOYED.state_table, Item=item)


def pause_value() -> str | None:
    """The pause parameter; None where there is none."""
    ssm = boto3.client("ssm")
    try:
        return str(ssm.get_parameter(Name=DEPLOYED.pause_parameter)["Parameter"]["Value"])
    except ssm.exceptions.ParameterNotFound:
        return None


def test_pausing_sets_the_parameter_that_the_loop_obeys() -> None:
    """The loop only observes while the parameter says so; pausing twice is pausing once."""
    assert "Paused" in act("pause", NAMES, {})
    assert "Paused" in act("pause", NAMES, {})
    assert pause_value() == "observe"


def test_resuming_removes_the_parameter() -> None:
    """The absence of the parameter is what lets the loop act."""
    act("pause", NAMES, {})
    assert "Resumed" in act("resume", NAMES, {})
    assert pause_value() is None


def test_resuming_a_loop_that_acts_changes_nothing() -> None:
    """It is told as it is, and is no error."""
    assert "Not paused" in act("resume", NAMES, {})


def test_the_status_tells_fleet_pause_and_last_decision() -> None:
    """What the loop is told and what it last did, with refusals and waiting evidence."""
    waiting = Evidence("g5-inductor-on-demand", EvidenceKind.QUOTA, NOW)
    put_item(
        state={"S": state_to_json(STATE)},
        lease_until={"N": str(NOW + 20)},
        evidence={"M": {"one": {"M": {"pool": {"S": waiting.pool}}}}},
    )
    told = Account().status(DEPLOYED, NOW)
    for part in (
        "Fleet: sd21, 5 units, policy merit-order, budget $40 per hour.",
        "Loop: acting.",
        "A tick is running; its lease ends in 20 s.",
        "Last tick: 41, 2025-12-31 23:59:30 UTC, 30 s ago, capacity mode.",
        "Evidence waiting for the next tick: 1.",
        "inf2-neuron-on-demand 7 of 8",
        "inf2-neuron 6",
        "Weights: inf2-neuron 700, g5-inductor 299.",
        "Refused: inf2-neuron-on-demand (shortage), next probe at 2026-01-01 00:02:00 UTC.",
    ):
        assert part in told
    assert "Late" not in told


def test_a_status_without_recent_ticks_says_so() -> None:
    """Ticks run every minute; older ones lead to the runbook."""
    put_item(state={"S": state_to_json(STATE)})
    assert "docs/operating.md#no-ticks" in Account().status(DEPLOYED, NOW + 600)


def test_a_paused_loop_is_told_as_paused() -> None:
    """The status says what ends the pause."""
    act("pause", NAMES, {})
    assert "Loop: paused; it decides and reports, and writes nothing." in Account().status(DEPLOYED, NOW)


def test_a_pause_parameter_with_another_value_is_told_as_paused() -> None:
    """The loop takes what it does not understand for a pause, and so does the status."""
    boto3.client("ssm").put_parameter(Name=DEPLOYED.pause_parameter, Value="maybe", Type="String")
    assert "holds 'maybe'; valid: observe" in Account().status(DEPLOYED, NOW)


def test_an_account_without_any_tick_has_a_status() -> None:
    """Before the first tick there is no state."""
    assert "State: none yet" in Account().status(DEPLOYED, NOW)


def test_an_unreadable_state_is_named() -> None:
    """What the loop would start afresh from is told."""
    put_item(state={"S": "{}"})
    assert "State: unreadable" in Account().status(DEPLOYED, NOW)


def test_an_invalid_fleet_parameter_is_named() -> None:
    """The status says which key the loop refuses."""
    put_fleet(with_policy(load_fleet(FLEET), "equal").to_json().replace('"equal"', '"best"'))
    assert "/fulcrum/sd21/fleet is invalid (policy: given 'best'; valid:" in Account().status(DEPLOYED, NOW)


def test_a_missing_fleet_parameter_is_named() -> None:
    """The status says that it is gone."""
    boto3.client("ssm").delete_parameter(Name=DEPLOYED.fleet_parameter)
    assert "/fulcrum/sd21/fleet does not exist" in Account().status(DEPLOYED, NOW)


def test_a_missing_table_is_bad_input() -> None:
    """The name of the table is the user's to correct."""
    deployed = replace(DEPLOYED, state_table="elsewhere")
    with pytest.raises(InputError, match=r"state-table: no table elsewhere; valid: .*STATE_TABLE"):
        Account().status(deployed, NOW)


def test_flags_precede_the_environment() -> None:
    """A name comes from its flag, else from its variable."""
    environ = {"PAUSE_PARAMETER": "/from/environment"}
    assert "/from/flag" in act("pause", {"pause_parameter": "/from/flag"}, environ)
    assert "/from/environment" in act("pause", {"pause_parameter": None}, environ)


def test_the_status_needs_every_name() -> None:
    """The line names the flag and the variable of what is missing."""
    with pytest.raises(InputError, match=r"cluster: missing; valid: --cluster, or CLUSTER_NAME in the env"):
        act("status", {**NAMES, "cluster": None}, {})


def test_missing_credentials_are_bad_input(monkeypatch: pytest.MonkeyPatch) -> None:
    """Without credentials the line says where an SDK finds them."""
    monkeypatch.delenv("AWS_ACCESS_KEY_ID")
    monkeypatch.delenv("AWS_SECRET_ACCESS_KEY")
    monkeypatch.setenv("AWS_PROFILE", "nobody")
    monkeypatch.setenv("AWS_CONFIG_FILE", "/nonexistent")
    with pytest.raises(InputError, match=r"AWS credentials: .*nobody.*; valid: AWS_PROFILE"):
        act("pause", NAMES, {})


def test_a_missing_region_is_bad_input(monkeypatch: pytest.MonkeyPatch) -> None:
    """Without a region the line says where to name it."""
    monkeypatch.delenv("AWS_DEFAULT_REGION")
    monkeypatch.setenv("AWS_CONFIG_FILE", "/nonexistent")
    with pytest.raises(InputError, match=r"AWS region: .*; valid: AWS_REGION"):
        act("pause", NAMES, {})


def test_an_account_that_cannot_be_reached_is_told_in_one_line(monkeypatch: pytest.MonkeyPatch) -> None:
    """What the network refuses is no fault of the input."""
    monkeypatch.setenv("AWS_ENDPOINT_URL", "http://127.0.0.1:9")
    monkeypatch.setenv("AWS_MAX_ATTEMPTS", "1")
    with pytest.raises(AccountError, match=r"AWS could not be asked: .*127.0.0.1:9") as raised:
        act("pause", NAMES, {})
    assert "\n" not in str(raised.value)
