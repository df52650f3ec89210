"""What scaling activities and node group health say of refused launches, as AWS may leave parts of it out."""

from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any

import pytest

from control_lambda.aws.nodes import NodesReader, health_evidence
from control_lambda.core.model import Evidence, EvidenceKind
from control_lambda.environment import Deployment, Environment
from tests.control_lambda.conftest import NOON

POOL = "fast-on-demand"
FAILED: Mapping[str, Any] = {
    "StatusCode": "Failed",
    "StatusMessage": "There is no Spot capacity available",
    "StartTime": datetime.fromtimestamp(NOON - 60, UTC),
    "Details": '{"Availability Zone": "us-east-1a"}',
}


class Answering:
    """Auto Scaling and EKS, answering what they were given."""

    def __init__(self, answer: Mapping[str, Any]) -> None:
        self._answer = answer

    def describe_scaling_activities(self, **asked: Any) -> Mapping[str, Any]:
        """One activity."""
        del asked
        return {"Activities": [self._answer]}

    def describe_nodegroup(self, **asked: Any) -> Mapping[str, Any]:
        """An active node group with one issue."""
        del asked
        return {"nodegroup": {"status": "ACTIVE", "health": {"issues": [self._answer]}}}


def reader(answer: Mapping[str, Any]) -> NodesReader:
    """A reader to whom Auto Scaling and EKS give the answer."""
    environment = Environment(
        fleet_parameter="/fleet",
        pause_parameter="/pause",
        cluster_name="cluster",
        listener_arn="arn",
        units={"fast": Deployment("arn", {POOL: POOL})},
        state_table="table",
    )
    return NodesReader(None, Answering(answer), None, Answering(answer), environment)


@pytest.mark.parametrize(
    ("details", "zone"),
    [
        ('{"Availability Zone": "us-east-1a"}', "us-east-1a"),
        ('{"Subnet ID": "subnet-1"}', ""),
        ('{"Availability Zone": null}', ""),
        ("null", ""),
        ("[]", ""),
        ("{", ""),
        ("", ""),
        (None, ""),
    ],
)
def test_a_refused_launch_without_details_is_one_of_unknown_zone(details: str | None, zone: str) -> None:
    """The zone is a refinement: without it the refusal counts for every zone."""
    (found,) = reader({**FAILED, "Details": details}).refusals(POOL, "group", NOON)
    assert found == Evidence(POOL, EvidenceKind.SHORTAGE, NOON - 60, zone=zone)


@pytest.mark.parametrize(("message", "text"), [("Tea is out.", "Tea is out."), ("", ""), (None, "")])
def test_a_refusal_that_nobody_can_read_brings_its_text(message: str | None, text: str) -> None:
    """From the group's activities."""
    (found,) = reader({**FAILED, "StatusMessage": message}).refusals(POOL, "group", NOON)
    assert (found.kind, found.text) == (EvidenceKind.UNKNOWN, text)


@pytest.mark.parametrize(("message", "text"), [("Tea is out.", "Tea is out."), (None, "")])
def test_a_health_issue_that_nobody_can_read_brings_its_text(message: str | None, text: str) -> None:
    """From EKS, which may name a code alone."""
    group = reader({"code": "ClusterUnreachable", "message": message}).node_group(POOL)
    (found,) = health_evidence(POOL, group, NOON)
    assert (found.kind, found.text) == (EvidenceKind.UNKNOWN, text)
