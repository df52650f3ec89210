"""Which calls fail because trouble has it so; an SDK's retries of a call share its fate."""

from collections.abc import Callable

from twin.cloud.moto_gaps.deployment import Deployment
from twin.cloud.moto_gaps.protocol import AwsError, Parameters
from twin.world.strikes import TABLE_ERROR, Strikes

SERVER_FAULT = 500


class FailingCalls:
    """The faults of a deployment's calls under trouble."""

    def __init__(self, strikes: Strikes, deployment: Deployment) -> None:
        self._strikes = strikes
        self._deployment = deployment
        self._known: dict[str, str | None] = {}

    def fault(
        self, service: str, action: str, parameters: Callable[[], Parameters], invocation: str
    ) -> AwsError | None:
        """The error that answers the call; None: it goes through.

        `parameters` are read only where they matter; attempts of one `invocation` fail alike.
        """
        if service == "dynamodb" and self._strikes.table_down():
            return AwsError(TABLE_ERROR, "The request processing has failed.", SERVER_FAULT)
        if not self._strikes.concerns(action):
            return None
        if invocation not in self._known:
            self._known[invocation] = self._strikes.failing(action, self._subject(parameters()))
        code = self._known[invocation]
        return None if code is None else AwsError(code, f"{code}, as the trouble file has it.")

    def _subject(self, parameters: Parameters) -> str:
        """What tells calls apart that are made side by side: a unit, a pool or a parameter's name."""
        groups = {arn: unit for unit, arn in self._deployment.target_groups.items()}
        if (arn := parameters.get("TargetGroupArn")) in groups:
            return groups[arn]
        pool = self._deployment.pool_of_group.get(parameters.get("AutoScalingGroupName", ""))
        if pool is not None:
            return pool.name
        return str(parameters.get("nodegroupName") or parameters.get("Name") or "")
