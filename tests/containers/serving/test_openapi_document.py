"""The OpenAPI document, held against the server by requests made from it."""

from typing import Any

import httpx2
import hypothesis
import pytest
import schemathesis
from hypothesis import HealthCheck
from schemathesis import Case, GenerationMode
from schemathesis.core.result import Ok
from schemathesis.specs.openapi.checks import (
    content_type_conformance,
    response_headers_conformance,
    response_schema_conformance,
    status_code_conformance,
)

REQUESTS = 20  # for each operation
# That bad requests are refused is the other tests' matter; limits that are settings are not in the document.
TRUE = [
    status_code_conformance,
    content_type_conformance,
    response_headers_conformance,
    response_schema_conformance,
    schemathesis.checks.not_a_server_error,
]


@pytest.mark.parametrize("mode", list(GenerationMode))
def test_the_document_tells_the_truth(client: httpx2.Client, mode: GenerationMode) -> None:
    """Whatever request it allows or forbids, the answer is one it announces, and no error of ours."""
    schema = schemathesis.openapi.from_url(f"{client.base_url}/openapi.json")
    operations = [found.ok() for found in schema.get_all_operations() if isinstance(found, Ok)]
    assert {operation.path for operation in operations} >= {"/v1/images/generations", "/v1/images/edits"}
    if mode is GenerationMode.NEGATIVE:  # an operation without a body takes no wrong one
        operations = [operation for operation in operations if operation.body]
    for operation in operations:

        @hypothesis.settings(
            max_examples=REQUESTS,
            deadline=None,
            derandomize=True,
            database=None,
            suppress_health_check=list(HealthCheck),
        )
        @hypothesis.given(case=operation.as_strategy(generation_mode=mode))
        def answers_as_announced(case: Case[Any]) -> None:
            case.call_and_validate(checks=TRUE)

        answers_as_announced()
