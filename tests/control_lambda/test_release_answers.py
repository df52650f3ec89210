"""What the release resource answers CloudFormation, which waits until it hears something."""

from __future__ import annotations

import json
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, HTTPServer
from threading import Thread
from typing import TYPE_CHECKING, Any

import pytest

from control_lambda import release as release_lambda
from control_lambda.core import names

if TYPE_CHECKING:
    from tests.control_lambda.conftest import Shell


class CloudFormation:
    """CloudFormation's side: a URL that takes answers, and a context as Lambda gives it."""

    def __init__(self) -> None:
        self.answers: list[dict[str, Any]] = []
        self.content_types: list[str | None] = []
        answers, content_types = self.answers, self.content_types

        class Endpoint(BaseHTTPRequestHandler):
            """Takes one PUT after the other."""

            def do_PUT(self) -> None:
                """Keep the answer."""
                answers.append(json.loads(self.rfile.read(int(self.headers["Content-Length"]))))
                content_types.append(self.headers["Content-Type"])
                self.send_response(200)
                self.end_headers()

            def log_message(self, *_: object) -> None:
                """Log nothing."""

        self.server = HTTPServer(("127.0.0.1", 0), Endpoint)
        self._thread = Thread(target=self.server.serve_forever, args=(0.01,), daemon=True)
        self._thread.start()

    def close(self) -> None:
        """Take no more answers."""
        self.server.shutdown()
        self._thread.join()
        self.server.server_close()

    def request(self, kind: str, **more: str) -> dict[str, str]:
        """A request as CloudFormation sends it."""
        url = f"http://127.0.0.1:{self.server.server_port}/answer?signed=1"
        identities = {"StackId": "stack", "RequestId": "request", "LogicalResourceId": "Release"}
        return {"RequestType": kind, "ResponseURL": url, **identities, **more}

    def get_remaining_time_in_millis(self) -> int:
        """Lambda's context: time enough."""
        return 150_000


@pytest.fixture
def cloudformation() -> Iterator[CloudFormation]:
    """A CloudFormation that waits for answers, and a function that starts cold."""
    release_lambda.shared_release.cache_clear()
    listening = CloudFormation()
    yield listening
    listening.close()
    release_lambda.shared_release.cache_clear()


@pytest.mark.usefixtures("variables")
def test_every_request_is_answered_with_its_identities(cloudformation: CloudFormation, shell: Shell) -> None:
    """Without a content type, for which the URL is not signed."""
    release_lambda.handler(cloudformation.request("Create"), cloudformation)
    listener = shell.environment.listener_arn
    release_lambda.handler(cloudformation.request("Delete", PhysicalResourceId=listener), cloudformation)
    assert (
        cloudformation.answers
        == [
            {
                "Status": "SUCCESS",
                "Reason": "released",
                "PhysicalResourceId": listener,
                "StackId": "stack",
                "RequestId": "request",
                "LogicalResourceId": "Release",
            }
        ]
        * 2
    )
    assert set(cloudformation.content_types) == {""}


def test_a_failure_is_answered_with_its_reason_and_keeps_the_identity(
    cloudformation: CloudFormation, shell: Shell
) -> None:
    """CloudFormation would wait, and a new identity would have it delete the old one."""
    shell.cloud.fail("DescribeRules", "AccessDenied", -1)
    listener = shell.environment.listener_arn
    release_lambda.handler(cloudformation.request("Delete", PhysicalResourceId=listener), cloudformation)
    (answer,) = cloudformation.answers
    assert (answer["Status"], answer["PhysicalResourceId"]) == ("FAILED", listener)
    assert answer["Reason"].startswith("ClientError: An error occurred (AccessDenied)")


def test_even_a_function_without_its_environment_answers(
    cloudformation: CloudFormation, monkeypatch: pytest.MonkeyPatch
) -> None:
    """By the logical id, because there is no identity yet."""
    monkeypatch.delenv(names.LISTENER_ARN, raising=False)
    release_lambda.handler(cloudformation.request("Create"), cloudformation)
    (answer,) = cloudformation.answers
    assert (answer["Status"], answer["PhysicalResourceId"]) == ("FAILED", "Release")
    assert "environment: " in answer["Reason"]


def test_a_long_reason_is_cut_to_what_cloudformation_takes(cloudformation: CloudFormation) -> None:
    """4 KB for the whole answer."""
    release_lambda.answer(cloudformation.request("Update"), "identity", "x" * 10_000)
    assert len(json.dumps(cloudformation.answers[0])) < 4096


def test_an_answer_that_does_not_arrive_is_an_error(cloudformation: CloudFormation) -> None:
    """So that Lambda tries again."""
    request = cloudformation.request("Create")
    cloudformation.server.server_close()
    with pytest.raises(OSError, match=r"refused|reset|closed"):
        release_lambda.answer({**request, "ResponseURL": "http://127.0.0.1:9/"}, "identity", "")
