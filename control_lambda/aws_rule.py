"""The weighted rule of the listener: priority 1, every request, no stickiness, every unit listed."""

from collections.abc import Mapping
from typing import Any, Final

from control_lambda.core.fleet import Fleet
from control_lambda.environment import Environment
from control_lambda.errors import NotDeployedError

PRIORITY: Final = "1"
EVERY_REQUEST: Final = [{"Field": "path-pattern", "PathPatternConfig": {"Values": ["/*"]}}]


class ListenerRule:
    """Reads and writes the rule; its weights are by unit."""

    def __init__(self, elbv2: Any, environment: Environment) -> None:
        self._elbv2 = elbv2
        self._environment = environment

    def weights(self, fleet: Fleet) -> dict[str, int]:
        """The weights as they stand, 0 for a unit that the rule does not list; empty without a rule.

        A rule that sends requests anywhere but to this fleet's units counts as none, so that the next
        decision writes it anew.
        """
        rule = self._find()
        listed = self._listed(rule) if rule else {}
        units = [unit.name for unit in fleet.units]
        if not listed or any(weight for target, weight in listed.items() if target not in units):
            return {}
        return {unit: listed.get(unit, 0) for unit in units}

    def write(self, weights: Mapping[str, int]) -> dict[str, int]:
        """Write the weights, creating the rule where it is missing, and read them back.

        Raises:
            NotDeployedError: a unit that is not deployed was given weight.
        """
        actions = [self._forward(weights)]
        rule = self._find()
        if rule is None:
            self._elbv2.create_rule(
                ListenerArn=self._environment.listener_arn,
                Priority=int(PRIORITY),
                Conditions=EVERY_REQUEST,
                Actions=actions,
            )
        else:
            self._elbv2.modify_rule(RuleArn=rule["RuleArn"], Conditions=EVERY_REQUEST, Actions=actions)
        return self._read_back(weights)

    def _read_back(self, written: Mapping[str, int]) -> dict[str, int]:
        rule = self._find()
        return {**dict.fromkeys(written, 0), **(self._listed(rule) if rule else {})}

    def _forward(self, weights: Mapping[str, int]) -> dict[str, Any]:
        units = self._environment.units
        strangers = sorted(unit for unit, weight in weights.items() if weight and unit not in units)
        if strangers:
            raise NotDeployedError(f"no target group for {', '.join(strangers)}")
        groups = [
            {"TargetGroupArn": units[unit].target_group_arn, "Weight": weight}
            for unit, weight in weights.items()
            if unit in units
        ]
        return {
            "Type": "forward",
            "ForwardConfig": {
                "TargetGroups": groups,
                "TargetGroupStickinessConfig": {"Enabled": False},
            },
        }

    def _find(self) -> Mapping[str, Any] | None:
        pages = self._elbv2.get_paginator("describe_rules").paginate(
            ListenerArn=self._environment.listener_arn
        )
        for page in pages:
            for rule in page["Rules"]:
                if rule["Priority"] == PRIORITY:
                    found: Mapping[str, Any] = rule
                    return found
        return None

    def _listed(self, rule: Mapping[str, Any]) -> dict[str, int]:
        """Weights by unit; a target group that is not of this stack goes by its ARN."""
        unit_of = self._environment.unit_of_target_group
        return {
            unit_of.get(group["TargetGroupArn"], group["TargetGroupArn"]): int(group.get("Weight", 1))
            for action in rule["Actions"]
            for group in action.get("ForwardConfig", {}).get("TargetGroups", [])
        }
