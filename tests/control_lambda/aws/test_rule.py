"""The guard of the weighted rule: zeros are never written, whatever they would replace."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from control_lambda.aws.rule import ListenerRule
from control_lambda.errors import FAILED_CALL, AllZerosError

if TYPE_CHECKING:
    from tests.control_lambda.conftest import Shell

NOBODY = {"fast": 0, "slow": 0}


def stranger(shell: Shell) -> str:
    """The ARN of a target group that no unit of this stack has."""
    created = shell.clients.elbv2.create_target_group(
        Name="another-stacks", Protocol="HTTP", Port=80, VpcId=vpc(shell), TargetType="ip"
    )
    return str(created["TargetGroups"][0]["TargetGroupArn"])


def vpc(shell: Shell) -> str:
    """The VPC of the units' target groups."""
    known = shell.environment.units["fast"].target_group_arn
    described = shell.clients.elbv2.describe_target_groups(TargetGroupArns=[known])
    return str(described["TargetGroups"][0]["VpcId"])


def standing(shell: Shell, foreign_weight: int) -> tuple[ListenerRule, str]:
    """A rule whose units have no weight and which lists a foreign target group with this one."""
    rule, foreign = ListenerRule(shell.clients.elbv2, shell.environment), stranger(shell)
    rule.write({"fast": 1, "slow": 0})
    rules = shell.clients.elbv2.describe_rules(ListenerArn=shell.environment.listener_arn)["Rules"]
    ours = next(found for found in rules if found["Priority"] == "1")
    groups = [
        *({**group, "Weight": 0} for group in ours["Actions"][0]["ForwardConfig"]["TargetGroups"]),
        {"TargetGroupArn": foreign, "Weight": foreign_weight},
    ]
    action = {"Type": "forward", "ForwardConfig": {"TargetGroups": groups}}
    shell.clients.elbv2.modify_rule(RuleArn=ours["RuleArn"], Actions=[action])
    return rule, foreign


def listed(shell: Shell) -> dict[str, int]:
    """Weights by target group as the listener has them."""
    rules = shell.clients.elbv2.describe_rules(ListenerArn=shell.environment.listener_arn)["Rules"]
    ours = next(found for found in rules if found["Priority"] == "1")
    return {
        group["TargetGroupArn"]: group["Weight"]
        for group in ours["Actions"][0]["ForwardConfig"]["TargetGroups"]
    }


def test_zeros_do_not_cut_off_a_foreign_target_group_that_serves(shell: Shell) -> None:
    """The rule stays as it is."""
    rule, foreign = standing(shell, foreign_weight=1)
    with pytest.raises(AllZerosError):
        rule.write(NOBODY)
    assert listed(shell)[foreign] == 1


def test_a_unit_that_is_ready_takes_over_from_a_foreign_target_group(shell: Shell) -> None:
    """Then nothing is cut off."""
    rule, foreign = standing(shell, foreign_weight=1)
    assert rule.write({"fast": 0, "slow": 1}) == {"fast": 0, "slow": 1}
    assert foreign not in listed(shell)


def test_zeros_are_refused_as_a_call_that_failed(shell: Shell) -> None:
    """What a load balancer answers to a rule of zeros is nowhere documented: no such rule is ever made."""
    rule = ListenerRule(shell.clients.elbv2, shell.environment)
    with pytest.raises(FAILED_CALL, match="no unit is given any weight"):
        rule.write(NOBODY)
    assert rule.weights(shell.fleet) == {}


def test_zeros_leave_a_rule_that_stands(shell: Shell) -> None:
    """The weights of the last unit that was ready remain until another one is."""
    rule = ListenerRule(shell.clients.elbv2, shell.environment)
    rule.write({"fast": 999, "slow": 0})
    with pytest.raises(AllZerosError):
        rule.write(NOBODY)
    assert rule.weights(shell.fleet) == {"fast": 999, "slow": 0}
