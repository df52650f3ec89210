"""The third Lambda: a CloudFormation resource that takes the loop's hand off what is about to be deleted.

`docs/decisions/0007-what-a-deploy-does-to-a-running-fleet.md` says when CloudFormation asks for what.
"""

import json
import os
import time
import urllib.request
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from functools import cache
from typing import Any, Final, Self

import boto3
from aws_lambda_powertools import Logger
from botocore.config import Config
from botocore.exceptions import ClientError

from control_lambda.aws.memory import DynamoMemory
from control_lambda.aws.nodes import HEALTHY
from control_lambda.aws.sensing import OBSERVE
from control_lambda.aws.world import CONFIG, MakeClient
from control_lambda.core import names
from control_lambda.core.reasons import Skip
from control_lambda.environment import Environment
from control_lambda.errors import is_missing
from control_lambda.ports import LeaseHeldError

# Longer than it takes to delete whatever could still start a tick; shorter than the quarter of an hour
# beyond which a lease counts as taken by a clock that had jumped.
LEASE_SECONDS: Final = 840.0
LEASE_TOKEN: Final = "release"  # noqa: S105 - a name: a repeated request holds the lease already
WAIT_SECONDS: Final = 3.0
# After the last moment in which something new may begin: one tick (30 s), a few calls, and the answer.
RESERVED_SECONDS: Final = 50.0
ANSWER_SECONDS: Final = 10.0
MAX_REASON: Final = 1000  # characters; CloudFormation takes an answer of 4 KB
# A tick is invoked once and waited for: Lambda ends it after 30 s.
TICK_CONFIG: Final = Config(connect_timeout=2, read_timeout=35, retries={"total_max_attempts": 1})

Remaining = Callable[[], float]
Rule = Mapping[str, Any]
Priorities = frozenset[str]

DECLARED: Final = frozenset({str(names.STACK_RULE_PRIORITY)})

logger = Logger(service="release")


class NotReleasedError(Exception):
    """Something cannot be released without harm; the message says what to do about it."""


@dataclass(frozen=True, slots=True)
class Release:
    """The clients of this Lambda and the stack that it belongs to; `wait` sleeps for some seconds."""

    environment: Environment
    memory: DynamoMemory
    elbv2: Any
    lambda_: Any
    ssm: Any
    wait: Callable[[float], None] = time.sleep

    @classmethod
    def connect(
        cls,
        environ: Mapping[str, str],
        client: MakeClient = boto3.client,
        wait: Callable[[float], None] = time.sleep,
    ) -> Self:
        """The stack that `environ` describes, over clients that `client` makes.

        Raises:
            InvalidEnvironmentError: naming the variable and what would be valid.
        """
        environment = Environment.from_environ(environ)
        environment.require_tick_function()
        return cls(
            environment=environment,
            memory=DynamoMemory(
                client("dynamodb", config=CONFIG),
                environment.state_table,
                environment.cluster_name,
                lease_seconds=LEASE_SECONDS,
                token=LEASE_TOKEN,
            ),
            elbv2=client("elbv2", config=CONFIG),
            lambda_=client("lambda", config=TICK_CONFIG),
            ssm=client("ssm", config=CONFIG),
            wait=wait,
        )

    def update(self, listener_before: str, remaining: Remaining, declared: Priorities = DECLARED) -> None:
        """Have the loop tick once, and see to it that its rule uses nothing that is about to be deleted.

        `declared` are the priorities of the rules that the template holds.

        Raises:
            NotReleasedError: the deploy would take away what serves now; CloudFormation undoes it.
        """
        told = self._tick_once(remaining)
        listener = self.environment.listener_arn
        for rule in self._owned(listener, declared):
            self._drop_removed_groups(rule, told)
        moved = listener_before != listener and bool(self._owned(listener_before, declared))
        if moved and not self._owned(listener, declared):
            raise NotReleasedError(f"the loop has not made its rule on the new listener yet; {told}")

    def delete(self, listener: str, remaining: Remaining, declared: Priorities = DECLARED) -> None:
        """Delete the loop's rules of the listener; the loop is stopped first where they are in force.

        A listener that served before is on its way out while the loop works on: only its rules go.

        Raises:
            NotReleasedError: a tick that holds the lease does not end.
        """
        in_force = listener == self.environment.listener_arn
        if in_force:
            self._pause()
            self._take_lease(remaining)
        for rule in self._owned(listener, declared):
            self._delete_rule(rule)
        if in_force:
            # Until the lease ends there is nobody left to tick; a next deployment must not begin paused.
            self._unpause()

    def _tick_once(self, remaining: Remaining) -> str:
        """Run one tick; what it said, in one line."""
        while True:
            record = self._invoke_tick()
            held = str(record.get("skipped", "")).startswith(Skip.LEASE_HELD)
            if not held or remaining() <= 0:
                return _said(record)
            self.wait(WAIT_SECONDS)

    def _invoke_tick(self) -> Mapping[str, Any]:
        answer = self.lambda_.invoke(
            FunctionName=self.environment.tick_function,
            InvocationType="RequestResponse",
            Payload=json.dumps({"cause": "event"}).encode(),
        )
        record: Mapping[str, Any] = json.loads(answer["Payload"].read())
        return record

    def _drop_removed_groups(self, rule: Rule, told: str) -> None:
        """Take out of the rule what the tick left in: it was paused, failed, or had no better unit.

        Raises:
            NotReleasedError: a target group that is about to be deleted serves requests.
        """
        groups = _target_groups(rule)
        kept = [group for group in groups if self._is_deployed(group)]
        if len(kept) == len(groups):
            return
        serving = [
            group["TargetGroupArn"]
            for group in groups
            if not self._is_deployed(group) and group.get("Weight", 1) and self._is_healthy(group)
        ]
        if serving:
            raise NotReleasedError(
                f"{', '.join(serving)} still serves requests; set nodes.max of its unit's pools to 0, "
                f"deploy, wait until its weight is 0 and only then remove the unit; {told}"
            )
        if not any(group.get("Weight", 1) for group in kept):
            self._delete_rule(rule)  # it would answer nothing; the loop makes it anew when a unit is ready
            return
        action = {"Type": "forward", "ForwardConfig": {"TargetGroups": kept}}
        self.elbv2.modify_rule(RuleArn=rule["RuleArn"], Actions=[action])

    def _is_deployed(self, group: Mapping[str, Any]) -> bool:
        return group["TargetGroupArn"] in self.environment.unit_of_target_group

    def _is_healthy(self, group: Mapping[str, Any]) -> bool:
        """Whether any target of the group is healthy."""
        answer = self.elbv2.describe_target_health(TargetGroupArn=group["TargetGroupArn"])
        return any(
            target["TargetHealth"]["State"] == HEALTHY for target in answer["TargetHealthDescriptions"]
        )

    def _pause(self) -> None:
        """From now on a tick that gets the lease before us only observes."""
        self.ssm.put_parameter(
            Name=self.environment.pause_parameter, Value=OBSERVE, Type="String", Overwrite=True
        )

    def _unpause(self) -> None:
        try:
            self.ssm.delete_parameter(Name=self.environment.pause_parameter)
        except ClientError as error:
            if not is_missing(error):
                raise

    def _take_lease(self, remaining: Remaining) -> None:
        """Wait until no tick is under way, and keep others from starting.

        Raises:
            NotReleasedError: the lease is still held when no time remains.
        """
        while True:
            try:
                self.memory.acquire(time.time())
            except LeaseHeldError as error:
                if remaining() <= 0:
                    raise NotReleasedError("a tick holds the lease; delete again in a minute") from error
                self.wait(WAIT_SECONDS)
            except ClientError as error:
                if not is_missing(error):
                    raise
                return  # no table: no tick can act without its lease
            else:
                return

    def _owned(self, listener: str, declared: Priorities) -> list[Rule]:
        """The loop's rules on the listener: those that forward and are not the template's.

        None where the listener does not exist (any more).
        """
        return [
            rule
            for rule in self._rules(listener)
            if rule["Priority"] not in declared and _target_groups(rule)
        ]

    def _rules(self, listener: str) -> Iterator[Rule]:
        if ":listener/" not in listener:
            return  # the resource was never created
        try:
            for page in self.elbv2.get_paginator("describe_rules").paginate(ListenerArn=listener):
                yield from page["Rules"]
        except ClientError as error:
            if not is_missing(error):
                raise

    def _delete_rule(self, rule: Rule) -> None:
        try:
            self.elbv2.delete_rule(RuleArn=rule["RuleArn"])
        except ClientError as error:
            if not is_missing(error):
                raise


@cache
def shared_release() -> Release:
    """The clients that later invocations of this process share."""
    return Release.connect(os.environ)


def handler(event: Mapping[str, Any], context: Any) -> None:
    """Do what CloudFormation asks for and answer it, whatever comes of it.

    Raises:
        OSError: the answer did not reach CloudFormation; Lambda tries again.
    """
    identity, failure = str(event.get("PhysicalResourceId") or event["LogicalResourceId"]), ""
    try:
        identity = run(
            event,
            shared_release(),
            lambda: context.get_remaining_time_in_millis() / 1000 - RESERVED_SECONDS,
        )
    except Exception as error:  # CloudFormation hears of it, instead of waiting
        logger.exception("not released")
        failure = f"{type(error).__name__}: {error}"
    logger.info("release", request=event["RequestType"], identity=identity, failure=failure)
    answer(event, identity, failure)


def run(event: Mapping[str, Any], release: Release, remaining: Remaining) -> str:
    """Do what CloudFormation asks for; return the resource's identity, which is the listener that serves.

    A new identity has CloudFormation delete the old one once everything else is up to date.

    Raises:
        NotReleasedError: it cannot be done without harm.
        ValueError: CloudFormation asks for something unknown.
    """
    match event["RequestType"]:
        case "Create":
            return release.environment.listener_arn
        case "Update":
            release.update(event["PhysicalResourceId"], remaining, declared_priorities(event))
            return release.environment.listener_arn
        case "Delete":
            release.delete(event["PhysicalResourceId"], remaining, declared_priorities(event))
            return str(event["PhysicalResourceId"])
        case other:
            raise ValueError(f"event: RequestType: {other!r}; valid: Create, Update, Delete")


def answer(event: Mapping[str, Any], identity: str, failure: str) -> None:
    """Tell CloudFormation how it went.

    Raises:
        OSError: it could not be told.
    """
    body = {
        "Status": "FAILED" if failure else "SUCCESS",
        "Reason": failure[:MAX_REASON] or "released",
        "PhysicalResourceId": identity,
        **{key: event[key] for key in ("StackId", "RequestId", "LogicalResourceId")},
    }
    request = urllib.request.Request(  # noqa: S310 - the URL is CloudFormation's own
        event["ResponseURL"],
        data=json.dumps(body).encode(),
        method="PUT",
        headers={"Content-Type": ""},  # the URL is signed for none
    )
    with urllib.request.urlopen(request, timeout=ANSWER_SECONDS):  # noqa: S310 - as above
        pass


def declared_priorities(event: Mapping[str, Any]) -> Priorities:
    """The priorities of the rules that the template holds, before or after this deploy."""
    told = (event.get("ResourceProperties", {}), event.get("OldResourceProperties", {}))
    routed = any(properties.get("Routing") == "router" for properties in told)
    return DECLARED | {str(names.ROUTER_RULE_PRIORITY)} if routed else DECLARED


def _target_groups(rule: Rule) -> list[Mapping[str, Any]]:
    return [
        group
        for action in rule["Actions"]
        for group in action.get("ForwardConfig", {}).get("TargetGroups", [])
    ]


def _said(record: Mapping[str, Any]) -> str:
    """What a tick's answer says about itself, in one line; the tick may be of another version than this."""
    if "errorMessage" in record:
        return f"the tick failed: {record['errorMessage']}"
    if "skipped" in record:
        return f"the tick was skipped: {record['skipped']}"
    told = [reason["text"] for reason in record["reasons"]] + list(record["failures"])
    return f"the tick says: {' '.join(told)}"
