"""What every gap is made of: operations from parameters to a result, errors and pages."""

from collections.abc import Callable, Mapping, Sequence
from datetime import UTC, datetime
from typing import Any, Final, Protocol, TypeVar
from uuid import NAMESPACE_URL, uuid5

REGION: Final = "us-east-1"
ZONE: Final = "us-east-1a"  # whose spot prices stand for those of all zones

Item = TypeVar("Item")
Parameters = Mapping[str, Any]
Result = Mapping[str, Any]
Operation = Callable[[Parameters], Result | None]
"""One AWS action: parameters as botocore names them, timestamps as epoch seconds. None: moto answers."""


class Gap(Protocol):
    """The operations of one service (botocore's name for it) that are answered here."""

    service: str

    @property
    def operations(self) -> Mapping[str, Operation]:
        """Action name to what answers it."""
        ...


class AwsError(Exception):
    """An error that AWS answers with; `status` is the HTTP status where the service model has none."""

    def __init__(self, code: str, message: str, status: int = 400) -> None:
        super().__init__(f"{code}: {message}")
        self.code = code
        self.message = message
        self.status = status


def not_implemented(what: str) -> AwsError:
    """The embedded AWS cannot do `what`: an error that no client retries and no code expects."""
    return AwsError("NotImplemented", f"the embedded AWS does not answer {what}", status=501)


def refuse_unknown(parameters: Parameters, action: str, *known: str) -> None:
    """Refuse parameters that would be ignored.

    Raises:
        AwsError: NotImplemented, naming the first parameter that is not in `known`.
    """
    for name in parameters:
        if name not in known:
            raise not_implemented(f"{action} with {name}")


def page(
    items: Sequence[Item], token: str | None, size: int, token_error: str
) -> tuple[Sequence[Item], str | None]:
    """The `size` items from `token` on, and the token of the page after them.

    Raises:
        AwsError: `token_error`, for a token that no page gave.
    """
    if token is not None and not token.isdigit():
        raise AwsError(token_error, f"The token '{token}' is invalid.")
    start = int(token or 0)
    end = start + size
    return items[start:end], str(end) if end < len(items) else None


def iso(at: float) -> str:
    """Epoch seconds as AWS writes a time in events and texts."""
    return datetime.fromtimestamp(at, UTC).strftime("%Y-%m-%dT%H:%M:%SZ")


def stable_id(*parts: object) -> str:
    """A UUID that depends on nothing but `parts`, so that equal runs show equal ids."""
    return str(uuid5(NAMESPACE_URL, "/".join(str(part) for part in parts)))
