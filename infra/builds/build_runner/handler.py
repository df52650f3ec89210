"""Starts the builds when a deploy asks for them, and tells CloudFormation how they ended.

A custom resource's handler and the last step of the builds' state machine. A first deploy and one that adds
a unit are answered at once: no pod waits for these builds yet. An update of what pods run already is answered
by the last step, so that none is rolled onto an image that is not there.
"""

import json
import logging
import os
import urllib.request
from collections.abc import Iterable, Mapping
from typing import Any, Final

import boto3

PHYSICAL_ID: Final = "builds"
ANSWER_SECONDS: Final = 10
ROLLING: Final = ("Tag", "Model", "ModelVersion", "Shapes")  # the properties that change what every pod runs
LONGEST_REASON: Final = 1000  # CloudFormation takes an answer of 4 KB at most

log = logging.getLogger()


class BuildsFailedError(Exception):
    """Some builds failed; the message names them."""


def begin(request: dict[str, Any], _context: object) -> None:
    """Handle a request of CloudFormation: start the builds, and answer at once unless pods wait."""
    try:
        if request["RequestType"] != "Delete":
            _start(request)
    except Exception as error:  # whatever it is: without an answer CloudFormation waits for an hour
        log.exception("the builds could not be started")
        _answer(request, failure=f"the builds could not be started: {error}")
        return
    if not _waits(request):
        _answer(request)


def finish(run: dict[str, Any], _context: object) -> None:
    """Handle the end of a run: answer the update that waits for it, if one does.

    Raises:
        BuildsFailedError: builds failed; the run counts as failed, too.
    """
    failed = sorted(_failures(run["results"]))
    failure = f"failed: {', '.join(failed)}; their logs in CodeBuild say why" if failed else None
    if run["request"]:
        _answer(run["request"], failure=failure)
    if failure:
        raise BuildsFailedError(failure)


def _waits(request: Mapping[str, Any]) -> bool:
    """Whether pods that run already are about to be rolled."""
    if request["RequestType"] != "Update":
        return False
    new, old = request["ResourceProperties"], request["OldResourceProperties"]
    return any(new.get(key) != old.get(key) for key in ROLLING)


def _start(request: Mapping[str, Any]) -> None:
    boto3.client("stepfunctions").start_execution(
        stateMachineArn=os.environ["STATE_MACHINE_ARN"],
        input=json.dumps({"request": request if _waits(request) else None}),
    )


def _failures(stages: Iterable[Iterable[Mapping[str, str]]]) -> Iterable[str]:
    return (result["failed"] for stage in stages for result in stage if "failed" in result)


def _answer(request: Mapping[str, Any], *, failure: str | None = None) -> None:
    """Put the answer where CloudFormation waits for it."""
    body = {
        "Status": "FAILED" if failure else "SUCCESS",
        "Reason": (failure or "")[:LONGEST_REASON],
        "PhysicalResourceId": request.get("PhysicalResourceId", PHYSICAL_ID),
        **{key: request[key] for key in ("StackId", "RequestId", "LogicalResourceId")},
    }
    answer = urllib.request.Request(  # noqa: S310 - CloudFormation's own presigned URL
        request["ResponseURL"], data=json.dumps(body).encode(), headers={"Content-Type": ""}, method="PUT"
    )
    with urllib.request.urlopen(answer, timeout=ANSWER_SECONDS):  # noqa: S310 - the same
        log.info("answered %s", body["Status"])
