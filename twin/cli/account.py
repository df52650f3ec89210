"""`status`, `pause` and `resume` on a live account: the parameters and the state of one deployed loop."""

import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Final

import boto3
from botocore.config import Config
from botocore.exceptions import (
    BotoCoreError,
    ClientError,
    NoCredentialsError,
    NoRegionError,
    PartialCredentialsError,
    ProfileNotFound,
)

from control_lambda.aws.sensing import OBSERVE
from control_lambda.core import names
from control_lambda.core.fleet import FleetError, fleet_from_json
from control_lambda.core.model import State, state_from_json
from control_lambda.errors import is_missing
from twin.errors import InputError
from twin.report.explain import clock_time

CONFIG: Final = Config(
    connect_timeout=5, read_timeout=10, retries={"mode": "standard", "total_max_attempts": 3}
)
# A tick runs every minute; this long after the last one something is wrong.
LATE_SECONDS: Final = 180


class AccountError(Exception):
    """AWS did not do what was asked; one line says what and why."""


VARIABLES: Final[Mapping[str, str]] = {
    "fleet_parameter": names.FLEET_PARAMETER,
    "pause_parameter": names.PAUSE_PARAMETER,
    "state_table": names.STATE_TABLE,
    "cluster": names.CLUSTER_NAME,
}


@dataclass(frozen=True, slots=True)
class Deployed:
    """The names of one deployed loop, as its Lambda's environment has them."""

    fleet_parameter: str
    pause_parameter: str
    state_table: str
    cluster: str


class Account:
    """The AWS account of the default credentials, which every AWS SDK finds in the same places.

    Every method raises InputError where credentials or region are missing, and AccountError where AWS
    refuses or cannot be reached.
    """

    def __init__(self) -> None:
        client: Any = _answered(boto3.Session).client
        self._ssm = _answered(client, "ssm", config=CONFIG)
        self._dynamodb = _answered(client, "dynamodb", config=CONFIG)

    def pause(self, parameter: str) -> str:
        """Let the loop that obeys the pause parameter decide and report only; say so."""
        _answered(self._ssm.put_parameter, Name=parameter, Value=OBSERVE, Type="String", Overwrite=True)
        return (
            f"Paused: {parameter} = {OBSERVE}. From its next tick on the loop decides and reports, "
            "and writes nothing.\nNext: python -m twin resume"
        )

    def resume(self, parameter: str) -> str:
        """Let the loop that obeys the pause parameter act again; say so."""
        try:
            _answered(self._ssm.delete_parameter, Name=parameter)
        except _MissingError:
            return f"Not paused: {parameter} does not exist. Nothing was changed."
        return (
            f"Resumed: {parameter} is deleted. The loop acts from its next tick on.\n"
            "Next: python -m twin status"
        )

    def status(self, deployed: Deployed, now: float) -> str:
        """What the loop is told, and what it last did; `now` in epoch seconds."""
        item = self._item(deployed)
        lines = [
            self._fleet_line(deployed.fleet_parameter),
            self._pause_line(deployed.pause_parameter),
            *_lease_lines(item, now),
            *_state_lines(item, now),
        ]
        return "\n".join(lines)

    def _fleet_line(self, name: str) -> str:
        text = self._parameter(name)
        if text is None:
            return f"Fleet: {name} does not exist; the loop keeps to the last good fleet."
        try:
            fleet = fleet_from_json(text)
        except FleetError as error:
            return f"Fleet: {name} is invalid ({error}); the loop keeps to the last good fleet."
        budget = f"${fleet.budget_usd_per_hour:g} per hour"
        return f"Fleet: {fleet.fleet}, {len(fleet.units)} units, policy {fleet.policy}, budget {budget}."

    def _pause_line(self, name: str) -> str:
        value = self._parameter(name)
        if value is None:
            return "Loop: acting."
        if value == OBSERVE:
            return (
                "Loop: paused; it decides and reports, and writes nothing. python -m twin resume ends that."
            )
        return f"Loop: paused, since {name} holds {value!r}; valid: {OBSERVE}, or no such parameter."

    def _parameter(self, name: str) -> str | None:
        try:
            answer = _answered(self._ssm.get_parameter, Name=name)
        except _MissingError:
            return None
        return str(answer["Parameter"]["Value"])

    def _item(self, deployed: Deployed) -> Mapping[str, Any]:
        key = {"fleet": {"S": deployed.cluster}}
        try:
            answer = _answered(
                self._dynamodb.get_item, TableName=deployed.state_table, Key=key, ConsistentRead=True
            )
        except _MissingError:
            valid = f"the name of the table that the stack made, in --state-table or {names.STATE_TABLE}"
            raise InputError(f"state-table: no table {deployed.state_table}; valid: {valid}") from None
        item: Mapping[str, Any] = answer.get("Item", {})
        return item


def act(command: str, flags: Mapping[str, str | None], environ: Mapping[str, str]) -> str:
    """Run `status`, `pause` or `resume`; what to tell the user.

    The names come from the flags, else from the environment; `pause` and `resume` need one name alone.

    Raises:
        InputError: credentials, region or a name are missing or wrong.
        AccountError: AWS refused or could not be reached.
    """
    pause_parameter = _name("pause_parameter", flags, environ)
    if command == "status":
        deployed = Deployed(**{key: _name(key, flags, environ) for key in VARIABLES})
        return Account().status(deployed, time.time())
    if command == "pause":
        return Account().pause(pause_parameter)
    return Account().resume(pause_parameter)


class _MissingError(AccountError):
    """AWS knows no such thing."""


def _name(key: str, flags: Mapping[str, str | None], environ: Mapping[str, str]) -> str:
    name = flags.get(key) or environ.get(VARIABLES[key])
    if not name:
        flag = key.replace("_", "-")
        raise InputError(f"{flag}: missing; valid: --{flag}, or {VARIABLES[key]} in the environment")
    return name


def _answered(call: Callable[..., Any], *arguments: Any, **named: Any) -> Any:
    """The call's answer; what goes wrong as an error of this module."""
    try:
        return call(*arguments, **named)
    except (NoCredentialsError, PartialCredentialsError, ProfileNotFound) as error:
        valid = "AWS_PROFILE, AWS_ACCESS_KEY_ID with AWS_SECRET_ACCESS_KEY, or aws configure"
        raise InputError(f"AWS credentials: {error}; valid: {valid}") from None
    except NoRegionError as error:
        raise InputError(f"AWS region: {error}; valid: AWS_REGION, or a region in the profile") from None
    except ClientError as error:
        told = error.response["Error"]
        kind = _MissingError if is_missing(error) else AccountError
        raise kind(f"AWS refused {error.operation_name}: {told['Code']}: {told['Message']}") from None
    except BotoCoreError as error:
        raise AccountError(f"AWS could not be asked: {error}") from None


def _lease_lines(item: Mapping[str, Any], now: float) -> list[str]:
    if "lease_until" not in item:
        return []
    left = float(item["lease_until"]["N"]) - now
    return [f"A tick is running; its lease ends in {left:.0f} s." if left > 0 else "A lease has run out."]


def _state_lines(item: Mapping[str, Any], now: float) -> list[str]:
    if "state" not in item:
        return ["State: none yet; no tick has been saved."]
    try:
        state = state_from_json(item["state"]["S"])
    except ValueError as error:
        return [f"State: unreadable ({error}); the next tick starts afresh."]
    age = now - state.at
    late = " Late: ticks run every minute. See docs/operating.md#no-ticks." if age > LATE_SECONDS else ""
    waiting = len(item.get("evidence", {}).get("M", {}))
    return [
        f"Last tick: {state.tick}, {clock_time(state.at)}, {age:.0f} s ago, {state.mode} mode.{late}",
        f"Evidence waiting for the next tick: {waiting}.",
        "Pools, there of wanted: " + _counts(state) + ".",
        "Units, ready nodes: " + (_ready(state) or "not read yet") + ".",
        "Weights: "
        + (", ".join(f"{unit} {weight}" for unit, weight in state.weights.items()) or "none")
        + ".",
        *(
            f"Refused: {refusal.pool} ({refusal.kind}), next probe at {clock_time(refusal.until)}."
            for refusal in state.refusals.values()
            if refusal.count
        ),
    ]


def _counts(state: State) -> str:
    told = (f"{pool} {state.in_service.get(pool, 0)} of {wanted}" for pool, wanted in state.desired.items())
    return ", ".join(told) or "none"


def _ready(state: State) -> str:
    return ", ".join(f"{unit} {health.nodes}" for unit, health in state.health.items())
