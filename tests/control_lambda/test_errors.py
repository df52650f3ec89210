"""AWS's codes, read."""

import pytest
from botocore.exceptions import ClientError, ConnectTimeoutError

from control_lambda.errors import (
    NotDeployedError,
    code_of,
    is_busy,
    is_conflict,
    is_missing,
    item_of,
)


def refused(code: str) -> ClientError:
    """The exception boto3 raises for an AWS error code."""
    return ClientError({"Error": {"Code": code, "Message": "no"}}, "Operation")


@pytest.mark.parametrize(
    ("predicate", "codes"),
    [
        (is_conflict, ["ConditionalCheckFailedException"]),
        (is_missing, ["ParameterNotFound", "RuleNotFound", "InvalidInstanceID.NotFound"]),
        (is_busy, ["ResourceInUseException", "ScalingActivityInProgress"]),
    ],
)
def test_each_code_belongs_to_one_predicate(predicate: object, codes: list[str]) -> None:
    """A code that means one thing means none of the others."""
    every = (is_conflict, is_missing, is_busy)
    for code in codes:
        assert [one for one in every if one(refused(code))] == [predicate]


def test_a_failure_is_named_by_its_code_or_else_by_what_happened() -> None:
    """AWS's code where it answered, botocore's name where it did not, our words for our own."""
    assert code_of(refused("Throttling")) == "Throttling"
    assert code_of(ConnectTimeoutError(endpoint_url="http://localhost")) == "ConnectTimeoutError"
    assert code_of(NotDeployedError("no target group for fast")) == "no target group for fast"


def test_a_failed_condition_shows_the_item_where_it_was_asked_for() -> None:
    """DynamoDB returns the item beside the error; other errors hold none."""
    error = refused("ConditionalCheckFailedException")
    assert item_of(error) == {}
    error.response["Item"] = {"version": {"N": "1"}}  # type: ignore[typeddict-unknown-key]
    assert item_of(error) == {"version": {"N": "1"}}
