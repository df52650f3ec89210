"""Gap: the policy of a table.

Moto keeps a table's policy and lets everybody do everything. Restored: a statement that denies, until the
time in its condition, the handlers' calls to the table that it is attached to.
"""

import json
from collections.abc import Callable, Mapping
from datetime import datetime
from typing import Any, Final

from twin.cloud.moto_gaps.deployment import Deployment
from twin.cloud.moto_gaps.protocol import AwsError, Operation, Parameters, Result, stable_id

UNTIL: Final = "DateLessThan"
NOW: Final = "aws:CurrentTime"


class TablePolicy:
    """One table's policy: denials that end by themselves."""

    service = "dynamodb"

    def __init__(self, deployment: Deployment) -> None:
        self._deployment = deployment
        self._policy = ""

    @property
    def operations(self) -> Mapping[str, Operation]:
        """What is answered here."""
        return {
            "PutResourcePolicy": self.put,
            "GetResourcePolicy": self.get,
            "DeleteResourcePolicy": self.delete,
        }

    def put(self, parameters: Parameters) -> Result:
        """Attach the policy; `ExpectedRevisionId` NO_POLICY refuses to replace one.

        Raises:
            AwsError: PolicyNotFoundException where another revision was expected.
        """
        if parameters.get("ExpectedRevisionId") == "NO_POLICY" and self._policy:
            raise AwsError("PolicyNotFoundException", "The revision of the policy is another one")
        self._policy = parameters["Policy"]
        return {"RevisionId": stable_id(self._policy)}

    def get(self, parameters: Parameters) -> Result:
        """The policy.

        Raises:
            AwsError: PolicyNotFoundException where there is none.
        """
        if not self._policy:
            raise AwsError("PolicyNotFoundException", f"No policy of {parameters['ResourceArn']}")
        return {"Policy": self._policy, "RevisionId": stable_id(self._policy)}

    def delete(self, parameters: Parameters) -> Result:
        """Detach the policy; without one nothing happens."""
        del parameters
        self._policy = ""
        return {"RevisionId": stable_id("")}

    def fault(
        self, service: str, action: str, parameters: Callable[[], Parameters], invocation: str
    ) -> AwsError | None:
        """What answers a handler's call to the table under a denial that has not ended."""
        del parameters, invocation
        if service != "dynamodb" or not any(map(self._denies(action), self._statements())):
            return None
        return AwsError("AccessDeniedException", f"not authorized to perform dynamodb:{action}")

    def _statements(self) -> list[Mapping[str, Any]]:
        statements: list[Mapping[str, Any]] = json.loads(self._policy or '{"Statement": []}')["Statement"]
        return statements

    def _denies(self, action: str) -> Callable[[Mapping[str, Any]], bool]:
        def denies(statement: Mapping[str, Any]) -> bool:
            until = statement["Condition"][UNTIL][NOW]
            ends = datetime.fromisoformat(until).timestamp()
            named = f"dynamodb:{action}" in statement["Action"]
            return statement["Effect"] == "Deny" and named and self._deployment.time < ends

        return denies
