"""AWS error codes as predicates: the one place that knows how AWS says that a call failed.

Codes are those of the service models that botocore ships.
"""

from collections.abc import Mapping
from typing import Any, Final

from botocore.exceptions import BotoCoreError, ClientError


class NotDeployedError(Exception):
    """The fleet names something that this deployment does not hold; deploying again brings it."""


class IncompleteAnswerError(Exception):
    """AWS answered a batch without some of what was asked for."""


class AllZerosError(Exception):
    """Weights that would send no request to any unit."""


class NotSavedError(Exception):
    """The table refuses a write again and again, and what it shows of the item does not say why."""


FAILED_CALL: Final = (
    ClientError,
    BotoCoreError,
    NotDeployedError,
    IncompleteAnswerError,
    AllZerosError,
    NotSavedError,
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
_INVALID: Final = frozenset({"ValidationError", "InvalidParameterValue", "InvalidParameterCombination"})
_BUSY: Final = frozenset(
    {"ResourceInUseException", "ResourceInUse", "ScalingActivityInProgress", "ResourceContention"}
)


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


def is_invalid(error: BaseException) -> bool:
    """The request itself was refused: asking the same again brings the same answer."""
    return code_of(error) in _INVALID


def is_busy(error: BaseException) -> bool:
    """The resource is being changed by another operation."""
    return code_of(error) in _BUSY
