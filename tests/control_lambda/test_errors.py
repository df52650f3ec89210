"""AWS's codes and texts, read."""

import pytest
from botocore.exceptions import ClientError, ConnectTimeoutError

from control_lambda.core.model import EvidenceKind
from control_lambda.errors import (
    NotDeployedError,
    code_of,
    is_busy,
    is_conflict,
    is_missing,
    item_of,
    kind_of_refusal,
)


def refused(code: str) -> ClientError:
    """The exception boto3 raises for an AWS error code."""
    return ClientError({"Error": {"Code": code, "Message": "no"}}, "Operation")


# Texts: EC2 Auto Scaling User Guide, "Troubleshoot ... instance launch failures"; EC2 API Reference,
# "Error codes"; EKS User Guide, "Managed node group error codes".
@pytest.mark.parametrize(
    ("text", "kind"),
    [
        (
            (
                "Could not launch On-Demand Instances. InsufficientInstanceCapacity - We currently do not "
                "have sufficient inf2.xlarge capacity in the Availability Zone you requested (us-east-1a)."
            ),
            EvidenceKind.SHORTAGE,
        ),
        (
            (
                "We currently do not have sufficient g5.xlarge capacity in the Availability Zone you "
                "requested (us-east-1a). Launching EC2 instance failed."
            ),
            EvidenceKind.SHORTAGE,
        ),
        ("There is no Spot capacity available that matches your request.", EvidenceKind.SHORTAGE),
        (
            (
                "Could not launch Spot Instances. SpotMaxPriceTooLow - Your Spot request price of 0.1 is "
                "lower than the minimum required Spot request fulfillment price of 0.2."
            ),
            EvidenceKind.SHORTAGE,
        ),
        ("UnfulfillableCapacity - Unable to fulfill capacity due to your request.", EvidenceKind.SHORTAGE),
        ("InsufficientCapacity - There is no capacity available.", EvidenceKind.SHORTAGE),
        (
            (
                "You have requested more vCPU capacity than your current vCPU limit of 32 allows for the "
                "instance bucket that the specified instance type belongs to."
            ),
            EvidenceKind.QUOTA,
        ),
        ("VcpuLimitExceeded - You have requested more vCPU capacity", EvidenceKind.QUOTA),
        ("MaxSpotInstanceCountExceeded - Max spot instance count exceeded.", EvidenceKind.QUOTA),
        ("InstanceLimitExceeded - Your quota allows for 0 more running instance(s).", EvidenceKind.QUOTA),
        (
            (
                "Unsupported - Your requested instance type (inf2.xlarge) is not supported in your requested "
                "Availability Zone (us-east-1e)."
            ),
            EvidenceKind.UNSUPPORTED,
        ),
        (
            (
                "Your requested instance type (trn1.2xlarge) is not supported in your requested Availability "
                "Zone (us-east-1e)."
            ),
            EvidenceKind.UNSUPPORTED,
        ),
        (
            "InsufficientFreeAddressesInSubnet - There are not enough free addresses",
            EvidenceKind.NO_ADDRESSES,
        ),
        (
            "UnauthorizedOperation - You are not authorized to perform this operation.",
            EvidenceKind.PERMISSION,
        ),
        ("Access denied: AccessDenied when assuming the role", EvidenceKind.PERMISSION),
        ("Instance became unhealthy. Client.InternalError: Client error on launch.", EvidenceKind.PERMISSION),
        ("InternalError - An internal error has occurred.", EvidenceKind.UNKNOWN),
        ("", EvidenceKind.UNKNOWN),
    ],
)
def test_a_refused_launch_is_what_its_text_says(text: str, kind: EvidenceKind) -> None:
    """Only real shortage is shortage: EKS's issue code is the same for all of these."""
    assert kind_of_refusal(text) is kind
    assert kind_of_refusal(text.upper(), "AsgInstanceLaunchFailures") is kind


@pytest.mark.parametrize(
    ("code", "kind"),
    [
        ("InstanceLimitExceeded", EvidenceKind.QUOTA),
        ("InsufficientFreeAddresses", EvidenceKind.NO_ADDRESSES),
        ("AccessDenied", EvidenceKind.PERMISSION),
        ("NodeCreationFailure", EvidenceKind.NEVER_READY),
        ("AsgInstanceLaunchFailures", EvidenceKind.UNKNOWN),
        ("ClusterUnreachable", EvidenceKind.UNKNOWN),
    ],
)
def test_without_a_telling_text_the_issue_code_decides(code: str, kind: EvidenceKind) -> None:
    """EKS's own codes say what some texts do not."""
    assert kind_of_refusal("Something went wrong.", code) is kind


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
