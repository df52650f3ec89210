"""The weighted rules of the listener: one for every request, one more for each query class before the last.

Every unit is listed, zeros included; no stickiness. Priorities run from 1 in the order of the classes; the
last class, or without classes all traffic, is the rule for every request. Rules left by a longer list of
classes stand below that one, where no request reaches them. With `routing: router` they all stand below the
stack's rule that sends every request to the router: what serves if that rule is taken away.
"""

from collections.abc import Mapping
from typing import Any, Final

from control_lambda.core import names
from control_lambda.core.fleet import Fleet, QueryClass
from control_lambda.environment import Environment
from control_lambda.errors import AllZerosError, NotDeployedError

FIRST_PRIORITY: Final = 1
FIRST_BELOW_ROUTER: Final = names.ROUTER_RULE_PRIORITY + 100
EVERY_REQUEST: Final = [{"Field": "path-pattern", "PathPatternConfig": {"Values": ["/*"]}}]

Conditions = list[dict[str, Any]]
Rule = Mapping[str, Any]


class ListenerRule:
    """Reads and writes the rules; their weights are by unit."""

    def __init__(self, elbv2: Any, environment: Environment) -> None:
        self._elbv2 = elbv2
        self._environment = environment

    def weights(self, fleet: Fleet) -> dict[str, int]:
        """The weights as they stand, 0 for a unit that the rule does not list; empty without a rule.

        A rule that sends requests anywhere but to this fleet's units counts as none, so that the next
        decision writes it anew.
        """
        return self._weights(self._find(_priority_of_rest(fleet)), fleet)

    def class_weights(self, fleet: Fleet) -> Mapping[str, Mapping[str, int]]:
        """The weights of the rule of each class before the last, as `weights` gives those of the rest."""
        rules = self._rules()
        return {
            item.name: self._weights(rules.get(priority), fleet)
            for priority, item in enumerate(fleet.classes[:-1], _first_priority(fleet))
        }

    def rows(self) -> dict[str, dict[str, int]]:
        """The weights of every rule of the loop's that forwards to this stack's units alone, by priority."""
        listed = {
            str(priority): self._listed(rule)
            for priority, rule in self._rules().items()
            if priority < names.STACK_RULE_PRIORITY
        }
        units = self._environment.units
        return {
            row: {target: weight for target, weight in weights.items() if target in units}
            for row, weights in listed.items()
            if weights and not any(weight for target, weight in weights.items() if target not in units)
        }

    def write_row(self, row: str, weights: Mapping[str, int]) -> dict[str, int]:
        """Write the weights of the rule with that priority, and read them back.

        Raises:
            AllZerosError, NotDeployedError: as from `write`; or there is no such rule any more.
        """
        actions = [self._forward(weights)]
        rule = self._find(int(row))
        if rule is None:
            raise NotDeployedError(f"no rule with priority {row}")
        self._elbv2.modify_rule(RuleArn=rule["RuleArn"], Actions=actions)
        return self._read_back(weights, int(row))

    def write(self, weights: Mapping[str, int], fleet: Fleet | None = None) -> dict[str, int]:
        """Write the weights of the last class or of all traffic, and read them back.

        The rule is created where it is missing; without a `fleet` as for one without classes or router.

        Raises:
            AllZerosError: no unit was given any weight.
            NotDeployedError: a unit that is not deployed was given weight.
        """
        return self._write(weights, _priority_of_rest(fleet), EVERY_REQUEST)

    def write_class(self, name: str, weights: Mapping[str, int], fleet: Fleet) -> dict[str, int]:
        """Write the weights of one class before the last, as `write` does those of the rest.

        Raises:
            AllZerosError, NotDeployedError: as from `write`.
        """
        position = [item.name for item in fleet.classes].index(name)
        return self._write(weights, _first_priority(fleet) + position, _conditions(fleet.classes[position]))

    def _write(self, weights: Mapping[str, int], priority: int, conditions: Conditions) -> dict[str, int]:
        actions = [self._forward(weights)]
        rule = self._find(priority)
        if rule is None:
            self._elbv2.create_rule(
                ListenerArn=self._environment.listener_arn,
                Priority=priority,
                Conditions=conditions,
                Actions=actions,
            )
        else:
            self._elbv2.modify_rule(RuleArn=rule["RuleArn"], Conditions=conditions, Actions=actions)
        return self._read_back(weights, priority)

    def _weights(self, rule: Rule | None, fleet: Fleet) -> dict[str, int]:
        listed = self._listed(rule) if rule else {}
        units = [unit.name for unit in fleet.units]
        if not listed or any(weight for target, weight in listed.items() if target not in units):
            return {}
        return {unit: listed.get(unit, 0) for unit in units}

    def _read_back(self, written: Mapping[str, int], priority: int) -> dict[str, int]:
        rule = self._find(priority)
        return {**dict.fromkeys(written, 0), **(self._listed(rule) if rule else {})}

    def _forward(self, weights: Mapping[str, int]) -> dict[str, Any]:
        """The action. All zeros would answer every request with 503, whatever may still serve."""
        if not any(weights.values()):
            raise AllZerosError("no unit is given any weight")
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

    def _find(self, priority: int) -> Rule | None:
        return self._rules().get(priority)

    def _rules(self) -> dict[int, Rule]:
        """The listener's rules by priority; the default action has none."""
        pages = self._elbv2.get_paginator("describe_rules").paginate(
            ListenerArn=self._environment.listener_arn
        )
        rules = (rule for page in pages for rule in page["Rules"])
        return {int(rule["Priority"]): rule for rule in rules if rule["Priority"].isdigit()}

    def _listed(self, rule: Rule) -> dict[str, int]:
        """Weights by unit; a target group that is not of this stack goes by its ARN."""
        unit_of = self._environment.unit_of_target_group
        return {
            unit_of.get(group["TargetGroupArn"], group["TargetGroupArn"]): int(group.get("Weight", 1))
            for action in rule["Actions"]
            for group in action.get("ForwardConfig", {}).get("TargetGroups", [])
        }


def _first_priority(fleet: Fleet | None) -> int:
    return FIRST_BELOW_ROUTER if fleet and fleet.routing == "router" else FIRST_PRIORITY


def _priority_of_rest(fleet: Fleet | None) -> int:
    return _first_priority(fleet) + (max(0, len(fleet.classes) - 1) if fleet else 0)


def _conditions(item: QueryClass) -> Conditions:
    if item.path is not None:
        return [{"Field": "path-pattern", "PathPatternConfig": {"Values": [item.path]}}]
    header = {"HttpHeaderName": item.header, "Values": [item.name]}
    return [{"Field": "http-header", "HttpHeaderConfig": header}]
