"""What CloudFormation is told about the builds, and when."""

import json
from collections.abc import Iterator
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, HTTPServer
from threading import Thread
from typing import Any

import boto3
import pytest
from moto import mock_aws

from infra.builds.build_runner.handler import LONGEST_REASON, BuildsFailedError, begin, finish

PROPERTIES = {"Images": "neuron", "Tag": "old", "Model": "org/model", "Shapes": "512x512", "Targets": "inf2"}
DEFINITION = json.dumps({"StartAt": "End", "States": {"End": {"Type": "Succeed"}}})


@dataclass
class CloudFormation:
    """Where CloudFormation waits for answers; a real server on localhost, and what has arrived there."""

    url: str = ""
    answers: list[dict[str, Any]] = field(default_factory=list)

    def request(self, kind: str, **changed: str) -> dict[str, Any]:
        """A request about the resource, whose properties have changed from the usual ones."""
        assert changed.keys() <= PROPERTIES.keys(), "the resource has no such property"
        return {
            "RequestType": kind,
            "ResponseURL": self.url,
            "StackId": "stack",
            "RequestId": "request",
            "LogicalResourceId": "Built",
            "ResourceProperties": {**PROPERTIES, **changed},
            **({} if kind == "Create" else {"PhysicalResourceId": "builds"}),
            **({"OldResourceProperties": PROPERTIES} if kind == "Update" else {}),
        }


@pytest.fixture
def cloudformation() -> Iterator[CloudFormation]:
    """A server that keeps what is put there."""
    waiting = CloudFormation()

    class Handler(BaseHTTPRequestHandler):
        def do_PUT(self) -> None:
            length = int(self.headers["Content-Length"])
            waiting.answers.append(json.loads(self.rfile.read(length)))
            self.send_response(200)
            self.end_headers()

        def log_message(self, *_: object) -> None:
            """Say nothing."""

    server = HTTPServer(("127.0.0.1", 0), Handler)
    waiting.url = f"http://127.0.0.1:{server.server_port}/answer"
    thread = Thread(target=server.serve_forever)
    thread.start()
    yield waiting
    server.shutdown()
    thread.join()
    server.server_close()


@pytest.fixture
def state_machine(monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    """The ARN of a state machine in an account without another one."""
    monkeypatch.setenv("AWS_DEFAULT_REGION", "us-east-1")
    with mock_aws():
        role = "arn:aws:iam::123456789012:role/role"
        made = boto3.client("stepfunctions").create_state_machine(
            name="run", definition=DEFINITION, roleArn=role
        )
        monkeypatch.setenv("STATE_MACHINE_ARN", made["stateMachineArn"])
        yield made["stateMachineArn"]


def runs_of(state_machine: str) -> list[dict[str, Any]]:
    """The input of every run that was started."""
    client = boto3.client("stepfunctions")
    runs = client.list_executions(stateMachineArn=state_machine)["executions"]
    return [json.loads(client.describe_execution(executionArn=run["executionArn"])["input"]) for run in runs]


def test_a_first_deploy_starts_the_builds_and_does_not_wait(
    cloudformation: CloudFormation, state_machine: str
) -> None:
    """No pod runs yet, so none is rolled onto an image that is not there."""
    begin(cloudformation.request("Create"), None)
    assert runs_of(state_machine) == [{"request": None}]
    (answer,) = cloudformation.answers
    assert answer["Status"] == "SUCCESS"
    assert answer["PhysicalResourceId"] == "builds"
    assert {answer[key] for key in ("StackId", "RequestId", "LogicalResourceId")} == {
        "stack",
        "request",
        "Built",
    }


@pytest.mark.parametrize("changed", [{"Tag": "new"}, {"Model": "org/other"}, {"Shapes": "768x768"}])
def test_an_update_of_what_pods_run_waits_for_the_builds(
    cloudformation: CloudFormation, state_machine: str, changed: dict[str, str]
) -> None:
    """The answer comes from the end of the run, which is told whom to answer."""
    request = cloudformation.request("Update", **changed)
    begin(request, None)
    assert cloudformation.answers == []
    assert runs_of(state_machine) == [{"request": request}]


def test_an_update_that_only_adds_units_does_not_wait(
    cloudformation: CloudFormation, state_machine: str
) -> None:
    """The new units have no pods yet, and those of the others stay as they are."""
    begin(cloudformation.request("Update", Images="neuron,nvidia", Targets="inf2,trn1"), None)
    assert runs_of(state_machine) == [{"request": None}]
    assert [answer["Status"] for answer in cloudformation.answers] == ["SUCCESS"]


def test_a_deletion_starts_nothing(cloudformation: CloudFormation, state_machine: str) -> None:
    """What was built goes with its repositories and its bucket."""
    begin(cloudformation.request("Delete"), None)
    assert runs_of(state_machine) == []
    assert [answer["Status"] for answer in cloudformation.answers] == ["SUCCESS"]


@pytest.mark.usefixtures("state_machine")
def test_builds_that_cannot_be_started_are_reported(
    cloudformation: CloudFormation, monkeypatch: pytest.MonkeyPatch
) -> None:
    """CloudFormation would otherwise wait for an hour, and then not know why."""
    gone = "arn:aws:states:us-east-1:123456789012:stateMachine:gone"
    monkeypatch.setenv("STATE_MACHINE_ARN", gone)
    begin(cloudformation.request("Update", Tag="new"), None)
    (answer,) = cloudformation.answers
    assert answer["Status"] == "FAILED"
    assert "StateMachineDoesNotExist" in answer["Reason"]


def test_the_end_of_a_run_answers_the_update_that_waits(cloudformation: CloudFormation) -> None:
    """All builds have succeeded: the pods may be rolled."""
    request = cloudformation.request("Update", Tag="new")
    finish({"request": request, "results": [[{"built": "image-neuron"}], [{"built": "for-inf2"}]]}, None)
    (answer,) = cloudformation.answers
    assert answer["Status"] == "SUCCESS"
    assert answer["PhysicalResourceId"] == "builds"


def test_failed_builds_fail_the_update_and_the_run(cloudformation: CloudFormation) -> None:
    """CloudFormation rolls back to the image that runs, and the reason names every build that failed."""
    results = [[{"failed": "weights"}, {"built": "image-neuron"}], [{"failed": "for-inf2"}]]
    request = cloudformation.request("Update", Tag="new")
    with pytest.raises(BuildsFailedError, match="failed: for-inf2, weights"):
        finish({"request": request, "results": results}, None)
    (answer,) = cloudformation.answers
    assert answer["Status"] == "FAILED"
    assert answer["Reason"].startswith("failed: for-inf2, weights;")


def test_failed_builds_of_a_first_deploy_fail_the_run_alone(cloudformation: CloudFormation) -> None:
    """Nobody waits for it; the failed run shows in Step Functions, and the units get no nodes."""
    with pytest.raises(BuildsFailedError):
        finish({"request": None, "results": [[{"failed": "image-neuron"}]]}, None)
    assert cloudformation.answers == []


def test_a_long_reason_is_cut(cloudformation: CloudFormation) -> None:
    """CloudFormation takes an answer of 4 KB, and would wait for an hour if it got a longer one."""
    results = [[{"failed": f"build-{number:03}"} for number in range(200)]]
    with pytest.raises(BuildsFailedError):
        finish({"request": cloudformation.request("Update", Tag="new"), "results": results}, None)
    assert len(cloudformation.answers[0]["Reason"]) == LONGEST_REASON
