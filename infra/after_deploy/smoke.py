"""Does the stack serve? Waits for each step to the first picture, and says what keeps one from coming."""

import json
import subprocess
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from http import HTTPStatus
from pathlib import Path
from typing import Any, Final

from control_lambda.core.model import EvidenceKind
from control_lambda.core.names import CLUSTER_TAG, NODE_GROUP_TAG
from control_lambda.core.supply.refusal_kinds import kind_of_refusal
from infra.after_deploy.clock import Clock
from infra.after_deploy.deployed import Client, Deployed, item
from infra.after_deploy.load import NO_ANSWER, Reply

ROOT: Final = Path(__file__).parents[2]
POLL_SECONDS: Final = 15.0
BUILT: Final = "SUCCEEDED"
FAILED_BUILDS: Final = ("FAILED", "FAULT", "TIMED_OUT", "STOPPED")
# A tick runs every minute.
LATE_SECONDS: Final = 180.0
# Nodes start within their profile's time, or something keeps them from being ready.
OVERDUE: Final = 2.0
LOG_LINES: Final = 1
RUNBOOK: Final = "docs/operating.md"
POD_EVENTS: Final = "kubectl -n fulcrum describe pods; kubectl -n fulcrum get events --sort-by=.lastTimestamp"

Say = Callable[[str], None]
Ask = Callable[[], Reply]


@dataclass(frozen=True, slots=True)
class Seen:
    """What a look showed: whether the wait is over, what there is, what is wrong and what mends it."""

    done: bool
    text: str
    wrong: str = ""
    mend: str = ""


class Smoke:
    """The waits of one stack, whose load balancer `ask` sends one request to."""

    def __init__(self, client: Client, deployed: Deployed, ask: Ask, clock: Clock, say: Say) -> None:
        self._client = client
        self._deployed = deployed
        self._ask = ask
        self._clock = clock
        self._say = say
        self._last = Reply(NO_ANSWER, {})

    def serves(self, timeout: float) -> bool:
        """Wait for the first picture, at most so many seconds; whether it came.

        Progress is told whenever something changes; in the end what is wrong, and the command that mends it.
        """
        began = self._clock.now()
        for name, look in (
            ("builds", self.builds),
            ("first tick", self.tick),
            ("first node", self.node),
            ("first picture", self.picture),
        ):
            told = ""
            while not (seen := look()).done:
                if seen.text != told:
                    self._tell(began, name, seen.text + (f" ({seen.wrong})" if seen.wrong else ""))
                    told = seen.text
                if self._clock.now() - began + POLL_SECONDS > timeout:
                    wrong = seen.wrong or "it takes longer than it was given"
                    self._say(
                        f"FAILS {name}: {wrong} -> {seen.mend or f'a longer --timeout than {timeout:g}'}"
                    )
                    return False
                self._clock.sleep(POLL_SECONDS)
            self._tell(began, name, seen.text)
        return True

    def _tell(self, began: float, name: str, text: str) -> None:
        self._say(f"{self._clock.now() - began:4.0f} s  {name}: {text}")

    def builds(self) -> Seen:
        """Every image and compiled model that a unit needs has been built once."""
        known = item(self._client, self._deployed).builds
        needed = {project for unit in self._deployed.units for project in self._deployed.projects(unit)}
        waiting = sorted(project for project in needed if known.get(project) != BUILT)
        if not waiting:
            return Seen(True, f"all {len(needed)} built")
        # One unit is enough for a picture.
        if any(not set(self._deployed.projects(unit)) & set(waiting) for unit in self._deployed.units):
            return Seen(
                True, f"{len(needed) - len(waiting)} of {len(needed)} built; waiting: {', '.join(waiting)}"
            )
        failed = [project for project in waiting if known.get(project) in FAILED_BUILDS]
        text = f"{len(needed) - len(waiting)} of {len(needed)} built, waiting for {waiting[0]}"
        again = f"aws stepfunctions start-execution --state-machine-arn {self._deployed.builds or 'ARN'}"
        if failed:
            return Seen(False, text, f"{failed[0]} {known[failed[0]]}: {self._last_line(failed[0])}", again)
        return Seen(False, text, mend=f"{again}, where none is running ({RUNBOOK}#unit-not-built)")

    def _last_line(self, project: str) -> str:
        """The last line that the project's latest build logged."""
        codebuild = self._client("codebuild")
        ids = codebuild.list_builds_for_project(projectName=project)["ids"]
        if not ids:
            return "no build is known"
        logs = codebuild.batch_get_builds(ids=ids[:1])["builds"][0].get("logs", {})
        if not logs.get("streamName"):
            return "it logged nothing"
        events = self._client("logs").get_log_events(
            logGroupName=logs["groupName"], logStreamName=logs["streamName"], limit=LOG_LINES
        )["events"]
        return str(events[-1]["message"]).strip() if events else "it logged nothing"

    def tick(self) -> Seen:
        """The loop has saved a state, lately."""
        state = item(self._client, self._deployed).state
        mend = f"{RUNBOOK}#no-ticks"
        if state is None:
            return Seen(False, "no tick has been saved", "the schedule runs every minute", mend)
        age = self._clock.now() - state.at
        if age > LATE_SECONDS:
            return Seen(False, f"the last tick is {age / 60:.0f} minutes old", "ticks have stopped", mend)
        return Seen(True, f"tick {state.tick}, {age:.0f} s ago, {state.mode} mode")

    def node(self) -> Seen:
        """A target is healthy. A fleet that starts from nothing is woken by a request."""
        healthy = {unit: self._healthy(unit) for unit in self._deployed.units}
        if any(healthy.values()):
            return Seen(True, ", ".join(f"{unit} {count}" for unit, count in healthy.items() if count))
        self._last = self._ask()
        state = item(self._client, self._deployed).state
        wanted = {} if state is None else {pool: count for pool, count in state.desired.items() if count}
        text = "wanted: " + (", ".join(f"{pool} {count}" for pool, count in wanted.items()) or "none yet")
        for find in (self._overdue, self._given_up, self._refused):
            if problem := find(wanted):
                return Seen(False, text, *problem)
        nothing = "requests do not reach the loop's metrics, or the budget holds no node"
        return Seen(
            False, text, "" if wanted else nothing, f"python -m twin explain ({RUNBOOK}#no-ready-unit)"
        )

    def _healthy(self, unit: str) -> int:
        group = self._deployed.units[unit]["target_group_arn"]
        targets = self._client("elbv2").describe_target_health(TargetGroupArn=group)[
            "TargetHealthDescriptions"
        ]
        return sum(target["TargetHealth"]["State"] == "healthy" for target in targets)

    def _groups(self) -> Mapping[str, Any]:
        """The Auto Scaling group of each pool."""
        pools = {self._deployed.node_group(pool): pool for pool in self._deployed.fleet.pool_named}
        filters = [{"Name": f"tag:{CLUSTER_TAG}", "Values": [self._deployed.cluster]}]
        pages = self._client("autoscaling").get_paginator("describe_auto_scaling_groups")
        return {
            pools[tag["Value"]]: group
            for page in pages.paginate(Filters=filters)
            for group in page["AutoScalingGroups"]
            for tag in group["Tags"]
            if tag["Key"] == NODE_GROUP_TAG and tag["Value"] in pools
        }

    def _refused(self, wanted: Mapping[str, int]) -> tuple[str, str] | None:
        """Where nothing starts, the latest launch that was refused, in AWS's words, and what they mean.

        The loop wants nothing any more of a pool that was refused, so those that it wants only come first.
        """
        groups = self._groups()
        if any(group["Instances"] for group in groups.values()):
            return None
        for pool, group in sorted(groups.items(), key=lambda each: each[0] not in wanted):
            name = group["AutoScalingGroupName"]
            activities = self._client("autoscaling").describe_scaling_activities(
                AutoScalingGroupName=name, MaxRecords=10
            )["Activities"]
            failed = [each for each in activities if each["StatusCode"] == "Failed"]
            if failed:
                text = str(failed[0].get("StatusMessage", "no reason given"))
                kind = kind_of_refusal(text)
                return f"{pool}: {kind}: {text}", f"{RUNBOOK}#{kind}; python -m infra preflight"
        return None

    def _overdue(self, wanted: Mapping[str, int]) -> tuple[str, str] | None:
        """A node that has long been running and is no healthy target."""
        ids = {
            instance["InstanceId"]: pool
            for pool, group in self._groups().items()
            for instance in group["Instances"]
            if pool in wanted
        }
        if not ids:
            return None
        reservations = self._client("ec2").describe_instances(InstanceIds=list(ids))["Reservations"]
        for instance in (each for reservation in reservations for each in reservation["Instances"]):
            pool = ids[instance["InstanceId"]]
            age = self._clock.now() - instance["LaunchTime"].timestamp()
            start = self._deployed.fleet.unit_of[pool].profile.start_seconds
            if age > OVERDUE * start:
                runs = f"{instance['InstanceId']} of {pool} runs for {age / 60:.0f} minutes"
                return f"{runs} and serves nothing (a start takes {start / 60:.0f})", POD_EVENTS
        return None

    def _given_up(self, wanted: Mapping[str, int]) -> tuple[str, str] | None:
        """A pool whose nodes the loop has given up, because they never served within twice their start."""
        state = item(self._client, self._deployed).state
        refusals = () if state is None else state.refusals.values()
        pools = [
            refusal.pool for refusal in refusals if refusal.count and refusal.kind is EvidenceKind.NEVER_READY
        ]
        for pool in sorted(pools, key=lambda pool: pool not in wanted):
            start = self._deployed.fleet.unit_of[pool].profile.start_seconds
            return (
                f"nodes of {pool} never serve: given up after {OVERDUE * start / 60:.0f} minutes",
                POD_EVENTS,
            )
        return None

    def picture(self) -> Seen:
        """The load balancer answers a request with a picture."""
        reply = self._ask()
        if reply.status == HTTPStatus.OK and reply.body.get("data"):
            return Seen(True, f"from {reply.body.get('pool', 'a server')}")
        if reply.status == NO_ANSWER:
            reach = (
                "an internal load balancer answers only inside its VPC; from there, or with --endpoint URL"
            )
            return Seen(False, "no answer", "the load balancer cannot be reached from here", reach)
        told = json.dumps(reply.body)[:200]
        return Seen(
            False, f"status {reply.status}", f"it answers {reply.status}: {told}", f"{RUNBOOK}#no-ready-unit"
        )

    def serving_units(self) -> list[str]:
        """The units that get traffic and have a healthy target: those that can be compared."""
        state = item(self._client, self._deployed).state
        weights = {} if state is None else state.weights
        return [unit for unit in self._deployed.units if weights.get(unit) and self._healthy(unit)]


def compare(units: Sequence[str], endpoint: str, out: Path) -> int:
    """Have the consistency tool compare one picture of each unit; its exit code.

    No rule of the load balancer can ask for one unit, so the tool asks until each has answered.
    """
    prompts = out / "prompt.yaml"
    out.mkdir(parents=True, exist_ok=True)
    prompts.write_text("- {prompt: a lighthouse at dusk, seed: 7}\n", encoding="utf-8")
    named = [argument for unit in units for argument in ("--unit", f"{unit}={endpoint}")]
    command = [sys.executable, "-m", "containers.serving.consistency", "--through-load-balancer", *named]
    command += ["--prompts", str(prompts), "--steps", "1", "--out", str(out)]
    return subprocess.run(command, cwd=ROOT, check=False).returncode  # noqa: S603 - the project's own tool
