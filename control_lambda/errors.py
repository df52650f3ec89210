"""AWS error codes and refusal texts as predicates: the one place that knows how AWS spells a no.

Codes are those of the service models that botocore ships; texts are those that Auto Scaling writes
into scaling activities and EKS into node group health.
"""

from collections.abc import Mapping
from typing import Any, Final

from botocore.exceptions import BotoCoreError, ClientError

from control_lambda.core.model import EvidenceKind


class NotDeployedError(Exception):
    """The fleet names something that this deployment does not hold; deploying again brings it."""


class IncompleteAnswerError(Exception):
    """AWS answered a batch without some of what was asked for."""


class InvalidParameterError(Exception):
    """A parameter of the account holds a value that is not valid."""


FAILED_CALL: Final = (
    ClientError,
    BotoCoreError,
    NotDeployedError,
    IncompleteAnswerError,
    InvalidParameterError,
)

_CONFLICT: Final = frozenset({"ConditionalCheckFailedException", "TransactionConflictException"})
_MISSING: Final = frozenset(
    {
        "ParameterNotFound",
        "ResourceNotFoundException",
        "RuleNotFound",
        "TargetGroupNotFound",
        "ListenerNotFound",
        "InvalidInstanceID.NotFound",
    }
)
_FORBIDDEN: Final = frozenset({"ValidationError", "AccessDenied", "AccessDeniedException"})
_BUSY: Final = frozenset(
    {"ResourceInUseException", "ResourceInUse", "ScalingActivityInProgress", "ResourceContention"}
)

# In this order: the first words found decide, so that a quota, a full subnet or a missing offering is
# never read as a shortage.
_REFUSALS: Final[tuple[tuple[EvidenceKind, tuple[str, ...]], ...]] = (
    (
        EvidenceKind.QUOTA,
        (
            "VcpuLimitExceeded",
            "InstanceLimitExceeded",
            "MaxSpotInstanceCountExceeded",
            "more vCPU capacity than your current vCPU limit",
        ),
    ),
    (EvidenceKind.NO_ADDRESSES, ("InsufficientFreeAddresses", "not enough free addresses")),
    (
        EvidenceKind.SHORTAGE,
        (
            "InsufficientInstanceCapacity",
            "InsufficientCapacity",
            "InsufficientHostCapacity",
            "SpotMaxPriceTooLow",
            "UnfulfillableCapacity",
            "There is no Spot capacity available",
            "do not have sufficient",
        ),
    ),
    (
        EvidenceKind.PERMISSION,
        ("UnauthorizedOperation", "AccessDenied", "not authorized", "KMS", "Client.InternalError"),
    ),
    (EvidenceKind.UNSUPPORTED, ("Unsupported", "not supported in your requested Availability Zone")),
)
# EKS's own codes of node group issues that say what the text may not.
_ISSUES: Final[Mapping[str, EvidenceKind]] = {
    "InstanceLimitExceeded": EvidenceKind.QUOTA,
    "InsufficientFreeAddresses": EvidenceKind.NO_ADDRESSES,
    "AccessDenied": EvidenceKind.PERMISSION,
    "AutoScalingGroupInvalidConfiguration": EvidenceKind.PERMISSION,
    "NodeCreationFailure": EvidenceKind.NEVER_READY,
}


def code_of(error: BaseException) -> str:
    """The AWS code of a failed call, or what else there is to say where AWS gave none."""
    if isinstance(error, ClientError):
        return str(error.response.get("Error", {}).get("Code", "Unknown"))
    if isinstance(error, BotoCoreError):
        return type(error).__name__
    return str(error)


def item_of(error: ClientError) -> Mapping[str, Any]:
    """The DynamoDB item as it stood when a condition on it failed."""
    response: Mapping[str, Any] = error.response
    item: Mapping[str, Any] = response.get("Item", {})
    return item


def is_conflict(error: BaseException) -> bool:
    """A DynamoDB condition did not hold: somebody else wrote first."""
    return code_of(error) in _CONFLICT


def is_missing(error: BaseException) -> bool:
    """What was asked for does not exist."""
    return code_of(error) in _MISSING


def is_forbidden(error: BaseException) -> bool:
    """The call will be refused again: above a maximum, no such group, no permission."""
    return code_of(error) in _FORBIDDEN


def is_busy(error: BaseException) -> bool:
    """The resource is being changed by another operation."""
    return code_of(error) in _BUSY


def kind_of_refusal(text: str, issue_code: str = "") -> EvidenceKind:
    """What a refused launch means, from AWS's words and, for node group health, the issue's code.

    The text wins, because EKS reports shortage, quota and missing offerings alike as
    `AsgInstanceLaunchFailures`.
    """
    lowered = text.lower()
    for kind, words in _REFUSALS:
        if any(word.lower() in lowered for word in words):
            return kind
    return _ISSUES.get(issue_code, EvidenceKind.UNKNOWN)
