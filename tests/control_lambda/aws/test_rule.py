"""The weighted rule: zeros are never written, and its rows can be read and written without a fleet."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest

from control_lambda.aws.rule import ListenerRule
from control_lambda.errors import AllZerosError, NotDeployedError

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


def test_zeros_alone_are_never_written(shell: Shell) -> None:
    """Neither where others serve, nor to units of this stack that may still answer, nor as a new rule."""
    for row in (ListenerRule(shell.clients.elbv2, shell.environment), standing(shell, foreign_weight=0)[0]):
        with pytest.raises(AllZerosError):
            row.write(NOBODY)
        with pytest.raises(AllZerosError):
            row.write_row("1", NOBODY)


def test_a_unit_that_is_ready_takes_over_from_a_foreign_target_group(shell: Shell) -> None:
    """Then nothing is cut off."""
    rule, foreign = standing(shell, foreign_weight=1)
    assert rule.write({"fast": 0, "slow": 1}) == {"fast": 0, "slow": 1}
    assert foreign not in listed(shell)


@pytest.mark.parametrize(("foreign_weight", "rows"), [(0, {"1": NOBODY}), (1, {})])
def test_a_row_forwards_to_this_stacks_units_alone(
    shell: Shell, foreign_weight: int, rows: dict[str, dict[str, int]]
) -> None:
    """A rule that gives others weight is none of survival's; neither is the stack's own."""
    rule, _ = standing(shell, foreign_weight)
    assert rule.rows() == rows


def test_a_row_is_written_without_its_conditions(shell: Shell) -> None:
    """Survival knows no query classes."""
    rule = ListenerRule(shell.clients.elbv2, shell.environment)
    rule.write({"fast": 1, "slow": 0})
    before = rules(shell)
    assert rule.write_row("1", {"fast": 0, "slow": 999}) == {"fast": 0, "slow": 999}
    assert [found["Conditions"] for found in rules(shell)] == [found["Conditions"] for found in before]


def test_a_row_that_is_gone_cannot_be_written(shell: Shell) -> None:
    """Somebody deleted the rule since it was read."""
    rule = ListenerRule(shell.clients.elbv2, shell.environment)
    with pytest.raises(NotDeployedError, match="no rule with priority 7"):
        rule.write_row("7", {"fast": 1, "slow": 0})


def rules(shell: Shell) -> list[dict[str, Any]]:
    """The listener's rules as AWS describes them."""
    described = shell.clients.elbv2.describe_rules(ListenerArn=shell.environment.listener_arn)
    found: list[dict[str, Any]] = described["Rules"]
    return found
