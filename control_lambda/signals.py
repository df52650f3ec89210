"""The second Lambda: what AWS announces becomes evidence and an immediate tick; prices become metrics.

`docs/decisions/0001-interruptions-are-evidence.md` says what each event means.
"""

import json
import os
import time
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import cache
from typing import Any, Final, Self

import boto3
from aws_lambda_powertools import Logger
from botocore.exceptions import ClientError

from control_lambda.aws.memory import DynamoMemory
from control_lambda.aws.prices import PriceReader
from control_lambda.aws.world import CONFIG, MakeClient
from control_lambda.core import names
from control_lambda.core.fleet import fleet_from_json
from control_lambda.core.metrics import Metric
from control_lambda.core.model import Evidence, EvidenceKind, plain
from control_lambda.core.supply.refusal_kinds import refused_launch
from control_lambda.environment import Environment
from control_lambda.errors import is_missing

LAUNCH_FAILED: Final = "EC2 Instance Launch Unsuccessful"
INTERRUPTION: Final = "EC2 Spot Instance Interruption Warning"
REBALANCE: Final = "EC2 Instance Rebalance Recommendation"
BUILD: Final = "CodeBuild Build State Change"
VALID: Final = (
    f"an EventBridge event of type {LAUNCH_FAILED}, {INTERRUPTION}, {REBALANCE} or {BUILD}, "
    'or {"prices": true}'
)

PRICE_LIST_REGIONS: Final = {"eu": "eu-central-1", "ap": "ap-south-1"}
PRICE_LIST_HOME: Final = "us-east-1"

Answer = dict[str, Any]

logger = Logger(service="signals")


class PricesMissingError(Exception):
    """Some prices could not be read; the others were put."""


@dataclass(frozen=True, slots=True)
class Signals:
    """The clients of this Lambda and the stack that it belongs to."""

    environment: Environment
    memory: DynamoMemory
    cloudwatch: Any
    ec2: Any
    lambda_: Any
    ssm: Any
    prices: PriceReader

    @classmethod
    def connect(cls, environ: Mapping[str, str], client: MakeClient = boto3.client) -> Self:
        """The stack that `environ` describes, over clients that `client` makes.

        Raises:
            InvalidEnvironmentError: naming the variable and what would be valid.
        """
        environment = Environment.from_environ(environ)
        environment.require_tick_function()
        dynamodb, ec2 = client("dynamodb", config=CONFIG), client("ec2", config=CONFIG)
        pricing = client("pricing", config=CONFIG, region_name=price_list_region(ec2.meta.region_name))
        return cls(
            environment=environment,
            memory=DynamoMemory(dynamodb, environment.state_table, environment.cluster_name),
            cloudwatch=client("cloudwatch", config=CONFIG),
            ec2=ec2,
            lambda_=client("lambda", config=CONFIG),
            ssm=client("ssm", config=CONFIG),
            prices=PriceReader(pricing, ec2),
        )

    def launch_failed(self, event: Mapping[str, Any]) -> Answer:
        """A refused launch: evidence, an immediate tick, and a count in CapacityErrors."""
        detail = event["detail"]
        pool = self._pool_of_group(detail["AutoScalingGroupName"])
        if pool is None:
            return {"ignored": f"{detail['AutoScalingGroupName']} is none of this fleet's groups"}
        text, details = detail.get("StatusMessage") or "", detail.get("Details") or {}
        zone = str(details.get("Availability Zone") or "")
        evidence = refused_launch(pool, text, _seconds(event), zone=zone)
        answer = self._announce(event, evidence)
        self._count(evidence)
        return answer

    def interrupted(self, event: Mapping[str, Any]) -> Answer:
        """A node that AWS takes away within two minutes: evidence that names it, and an immediate tick."""
        node = event["detail"]["instance-id"]
        pool = self._pool_of_instance(node)
        if pool is None:
            return {"ignored": f"{node} is none of this fleet's nodes"}
        return self._announce(event, Evidence(pool, EvidenceKind.INTERRUPTION, _seconds(event), node=node))

    def at_risk(self, event: Mapping[str, Any]) -> Answer:
        """A node that AWS may take away: no evidence, since it still serves, but a look at once."""
        node = event["detail"]["instance-id"]
        pool = self._pool_of_instance(node)
        if pool is None:
            return {"ignored": f"{node} is none of this fleet's nodes"}
        self._tick(event, ())
        return {"pool": pool, "ticked": True}

    def build_changed(self, event: Mapping[str, Any]) -> Answer:
        """A build that began or ended: what the tick needs to know before it gives a unit nodes."""
        project, status = event["detail"]["project-name"], event["detail"]["build-status"]
        if not any(project in builds for builds in self.environment.builds.values()):
            return {"ignored": f"{project} builds nothing of this fleet"}
        self.memory.put_build(project, status)
        return {"project": project, "status": status}

    def put_prices(self, at: float) -> Answer:
        """Put the price of every pool as a metric.

        Raises:
            FleetError: the fleet parameter is invalid.
            PricesMissingError: some prices could not be read; the loop keeps each pool's last good one.
        """
        text = self.ssm.get_parameter(Name=self.environment.fleet_parameter)["Parameter"]["Value"]
        prices, failures = self.prices.read(fleet_from_json(text), at)
        data = [
            self._datum(Metric.PRICE_USD_PER_HOUR, price, at, {names.POOL: pool})
            for pool, price in prices.items()
        ]
        if data:
            self.cloudwatch.put_metric_data(Namespace=self.environment.metric_namespace, MetricData=data)
        if failures:
            raise PricesMissingError("; ".join(failures))
        return {"prices": prices}

    def _announce(self, event: Mapping[str, Any], evidence: Evidence) -> Answer:
        """Write the evidence down before the tick is invoked, so that a tick under way finds it too."""
        kept = self.memory.add_evidence(evidence)
        if not kept:
            logger.warning("evidence dropped: too much of it waits for a tick", pool=evidence.pool)
        self._tick(event, (evidence,))
        return {"pool": evidence.pool, "kind": evidence.kind.value, "kept": kept, "ticked": True}

    def _tick(self, event: Mapping[str, Any], evidence: tuple[Evidence, ...]) -> None:
        payload = {"time": event["time"], "cause": "event", "evidence": plain(evidence)}
        answer = self.lambda_.invoke(
            FunctionName=self.environment.tick_function,
            InvocationType="Event",
            Payload=json.dumps(payload).encode(),
        )
        answer["Payload"].read()  # it is empty; unread, it would keep its connection from the next call

    def _count(self, evidence: Evidence) -> None:
        dimensions = {names.POOL: evidence.pool, names.KIND: evidence.kind.value}
        datum = self._datum(Metric.CAPACITY_ERRORS, 1, evidence.at, dimensions)
        self.cloudwatch.put_metric_data(Namespace=self.environment.metric_namespace, MetricData=[datum])

    def _datum(
        self, metric: Metric, value: float, at: float, dimensions: Mapping[str, str]
    ) -> dict[str, Any]:
        named = {names.FLEET: self.environment.cluster_name, **dimensions}
        return {
            "MetricName": metric.metric_name,
            "Dimensions": [{"Name": name, "Value": value} for name, value in named.items()],
            "Timestamp": datetime.fromtimestamp(at, UTC),
            "Value": value,
            "Unit": metric.unit,
        }

    def _pool_of_group(self, group: str) -> str | None:
        """EKS names a node group's Auto Scaling group `eks-<node group>-<id>`."""
        found = [name for name in self.environment.pool_of if group.startswith(f"eks-{name}-")]
        return self.environment.pool_of[max(found, key=len)] if found else None

    def _pool_of_instance(self, node: str) -> str | None:
        try:
            answer = self.ec2.describe_instances(InstanceIds=[node])
        except ClientError as error:
            if is_missing(error):
                return None
            raise
        tags = {
            tag["Key"]: tag["Value"]
            for reservation in answer["Reservations"]
            for instance in reservation["Instances"]
            for tag in instance.get("Tags", [])
        }
        if tags.get(names.CLUSTER_TAG) != self.environment.cluster_name:
            return None
        return self.environment.pool_of.get(tags.get(names.NODE_GROUP_TAG, ""))


@cache
def shared_signals() -> Signals:
    """The clients that later invocations of this process share."""
    return Signals.connect(os.environ)


def price_list_region(region: str) -> str:
    """The nearest of the three regions that answer the Price List Query API."""
    return PRICE_LIST_REGIONS.get(region.split("-", 1)[0], PRICE_LIST_HOME)


def handler(event: Mapping[str, Any], context: object) -> Answer:
    """Turn one event into evidence, a tick or prices; say what was done.

    Raises:
        ValueError: the event is none of those that this function understands.
    """
    del context
    answer = run(event, shared_signals())
    logger.info("signal", event_type=event.get("detail-type", "prices"), answer=answer)
    return answer


def run(event: Mapping[str, Any], signals: Signals) -> Answer:
    """Turn one event into evidence, a tick or prices over the given clients; say what was done.

    Raises:
        ValueError: the event is none of those that this function understands.
        PricesMissingError: some prices could not be read.
    """
    if event.get("prices") is True:
        return signals.put_prices(_seconds(event) if "time" in event else time.time())
    react = {
        LAUNCH_FAILED: signals.launch_failed,
        INTERRUPTION: signals.interrupted,
        REBALANCE: signals.at_risk,
        BUILD: signals.build_changed,
    }.get(event.get("detail-type", ""))
    if react is None:
        raise ValueError(f"event: detail-type: {event.get('detail-type')!r}; valid: {VALID}")
    return react(event)


def _seconds(event: Mapping[str, Any]) -> float:
    return datetime.fromisoformat(event["time"]).timestamp()
