"""Gap: limits of forward actions, and target health.

Moto takes any weight, any number of target groups and any listener action's ARNs, and every target is
healthy. Restored: weights 0 to 999, at most five target groups, existing target groups only;
DescribeTargetHealth from the pools' nodes: `initial` while a node starts, then `healthy` or `unhealthy`,
`draining` while it leaves, `unused` in a target group that no rule forwards to; and which healthy targets are
anomalous.
"""

from collections.abc import Mapping
from typing import Any, Final

from moto.elbv2.models import ELBv2Backend, elbv2_backends

from control_lambda.core.fleet import MAX_UNITS
from twin.cloud.moto_gaps.deployment import Deployment, address
from twin.cloud.moto_gaps.protocol import (
    REGION,
    AwsError,
    Operation,
    Parameters,
    Result,
    refuse_unknown,
)
from twin.world.nodes import Node

MAX_WEIGHT: Final = 999
PORT: Final = 8000

HEALTHY: Final[Result] = {"State": "healthy"}
INITIAL: Final[Result] = {
    "State": "initial",
    "Reason": "Elb.RegistrationInProgress",
    "Description": "Target registration is in progress",
}
DRAINING: Final[Result] = {
    "State": "draining",
    "Reason": "Target.DeregistrationInProgress",
    "Description": "Target deregistration is in progress",
}
UNHEALTHY: Final[Result] = {
    "State": "unhealthy",
    "Reason": "Target.FailedHealthChecks",
    "Description": "Health checks failed",
}
HEALTH: Final[Mapping[str, Result]] = {
    str(health["State"]): health for health in (HEALTHY, INITIAL, DRAINING, UNHEALTHY)
}
ANOMALIES: Final = "AnomalyDetection"
UNUSED: Final[Result] = {
    "State": "unused",
    "Reason": "Target.NotInUse",
    "Description": "Target group is not configured to receive traffic from the load balancer",
}


class Elbv2:
    """The load balancer's rules are moto's; what is checked and how targets fare is answered here."""

    service = "elbv2"

    def __init__(self, deployment: Deployment) -> None:
        self._deployment = deployment

    @property
    def operations(self) -> Mapping[str, Operation]:
        """What is answered or checked here."""
        return {
            "CreateListener": self.check_default_actions,
            "CreateRule": self.check_actions,
            "DescribeTargetHealth": self.describe_target_health,
            "ModifyListener": self.check_default_actions,
            "ModifyRule": self.check_actions,
        }

    def check_actions(self, parameters: Parameters) -> None:
        """Check a rule's actions; moto does the rest.

        Raises:
            AwsError: ValidationError for a weight or a number of target groups beyond the limits,
                TargetGroupNotFound for an ARN that no target group has.
        """
        for action in parameters.get("Actions", ()):
            self._check_action(action)

    def check_default_actions(self, parameters: Parameters) -> None:
        """Check a listener's default actions as a rule's."""
        for action in parameters.get("DefaultActions", ()):
            self._check_action(action)

    def describe_target_health(self, parameters: Parameters) -> Result:
        """The health of the unit's nodes as targets.

        Raises:
            AwsError: TargetGroupNotFound for an ARN that no unit's target group has.
        """
        refuse_unknown(parameters, "DescribeTargetHealth", "TargetGroupArn", "Include")
        arn = parameters["TargetGroupArn"]
        units = [unit for unit, group in self._deployment.target_groups.items() if group == arn]
        if not units:
            raise _no_such_group(arn)
        time = self._deployment.time
        states = {node.id: node.target_state(time) for node in self._deployment.hosts(units[0])}
        hosts = [node for node in self._deployment.hosts(units[0]) if states[node.id] is not None]
        if arn not in _forwarded_to(self._backend):
            return {"TargetHealthDescriptions": [_description(node, UNUSED) for node in hosts]}
        described = [_description(node, HEALTH[states[node.id] or ""]) for node in hosts]
        if ANOMALIES in parameters.get("Include", ()):
            healthy = sum(state == "healthy" for state in states.values())
            for node, target in zip(hosts, described, strict=True):
                if states[node.id] == "healthy":
                    target["AnomalyDetection"] = _anomaly(node, time, healthy)
        return {"TargetHealthDescriptions": described}

    @property
    def _backend(self) -> ELBv2Backend:
        return elbv2_backends[self._deployment.account][REGION]

    def _check_action(self, action: Parameters) -> None:
        groups = action.get("ForwardConfig", {}).get("TargetGroups", [])
        if len(groups) > MAX_UNITS:
            raise AwsError(
                "ValidationError", f"The maximum number of target groups in a forward action is {MAX_UNITS}"
            )
        for group in groups:
            if not 0 <= group.get("Weight", 1) <= MAX_WEIGHT:
                raise AwsError("ValidationError", f"Weight must be between 0 and {MAX_WEIGHT}")
        for arn in _target_groups(action):
            if arn not in self._backend.target_groups:
                raise _no_such_group(arn)


def _anomaly(node: Node, time: float, healthy: int) -> Result:
    return {
        "Result": "anomalous" if node.anomalous(time, healthy) else "normal",
        "MitigationInEffect": "no",  # the target groups do not route by it
    }


def _description(node: Node, health: Result) -> dict[str, Any]:
    return {
        "Target": {"Id": address(node), "Port": PORT, "AvailabilityZone": node.zone},
        "HealthCheckPort": str(PORT),
        "TargetHealth": health,
    }


def _target_groups(action: Mapping[str, Any]) -> set[str]:
    groups = action.get("ForwardConfig", {}).get("TargetGroups", [])
    single = {action["TargetGroupArn"]} if "TargetGroupArn" in action else set()
    return single | {group["TargetGroupArn"] for group in groups}


def _forwarded_to(backend: ELBv2Backend) -> set[str]:
    """The target groups that some rule, or some listener's default action, forwards to."""
    listeners = [item for balancer in backend.load_balancers.values() for item in balancer.listeners.values()]
    rules = [rule for listener in listeners for rule in listener.rules.values()]
    return {arn for rule in rules for action in rule.actions for arn in _target_groups(action.data)}


def _no_such_group(arn: str) -> AwsError:
    return AwsError("TargetGroupNotFound", f"One or more target groups not found: {arn}")
