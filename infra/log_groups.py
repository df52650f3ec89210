"""Log groups with the retention that the settings ask for."""

from typing import cast

from aws_cdk import RemovalPolicy
from aws_cdk import aws_logs as logs
from constructs import Construct

from infra.settings import Settings


def log_group(
    scope: Construct,
    id: str,
    *,
    settings: Settings,
    name: str | None = None,
) -> logs.LogGroup:
    """A log group that goes with the stack; `name` only where AWS writes to a name of its own choice."""
    group = logs.LogGroup(scope, id, log_group_name=name, removal_policy=RemovalPolicy.DESTROY)
    # The L2 construct takes names of periods, the settings hold days.
    cast("logs.CfnLogGroup", group.node.default_child).retention_in_days = settings.log_retention_days
    return group
