"""Gap: asynchronous invocations, and a function's configuration.

Without Docker, moto's Invoke answers an error text as success. Restored: an invocation of type Event is
accepted (202) and its payload kept for whoever plays Lambda.
"""

from collections.abc import Callable, Mapping
from typing import Any, Final

from twin.cloud.moto_gaps.protocol import (
    AwsError,
    Operation,
    Parameters,
    Result,
    not_implemented,
    refuse_unknown,
)

LOG_GROUPS: Final = "/aws/lambda"
ROLE_ACCOUNT: Final = "123456789012"


class Lambda:
    """One function, named `function`, that is invoked with events; `environment` gives its variables."""

    service = "lambda"

    def __init__(self, function: str, environment: Callable[[], Mapping[str, str]]) -> None:
        self._function = function
        self._environment = environment
        self._payloads: list[bytes] = []

    @property
    def operations(self) -> Mapping[str, Operation]:
        """What is answered here; nothing of this service is left to moto."""
        return {"GetFunctionConfiguration": self.get_configuration, "Invoke": self.invoke}

    def get_configuration(self, parameters: Parameters) -> Result:
        """The function's variables, its role and where it logs to.

        Raises:
            AwsError: ResourceNotFoundException for another function.
        """
        self._require(parameters["FunctionName"])
        return {
            "FunctionName": self._function,
            "Role": f"arn:aws:iam::{ROLE_ACCOUNT}:role/{self._function}",
            "Environment": {"Variables": dict(self._environment())},
            "LoggingConfig": {"LogGroup": f"{LOG_GROUPS}/{self._function}"},
        }

    def drain(self) -> list[bytes]:
        """The payloads of the invocations since the last call, in their order."""
        payloads, self._payloads = self._payloads, []
        return payloads

    def invoke(self, parameters: Parameters) -> Result:
        """Accept an event for the function, named by its name or ARN.

        Raises:
            AwsError: ResourceNotFoundException for another function, NotImplemented for an invocation
                that waits for the answer.
        """
        refuse_unknown(parameters, "Invoke", "FunctionName", "InvocationType", "Payload")
        self._require(parameters["FunctionName"])
        if parameters.get("InvocationType") != "Event":
            raise not_implemented("lambda Invoke of a type other than Event")
        self._payloads.append(_bytes(parameters.get("Payload", b"")))
        return {"StatusCode": 202}

    def _require(self, name: str) -> None:
        if name.rpartition(":")[2] != self._function:
            raise AwsError("ResourceNotFoundException", f"Function not found: {name}", 404)


def _bytes(payload: Any) -> bytes:
    return payload.encode() if isinstance(payload, str) else bytes(payload)
