"""Why findings of cdk-nag's AwsSolutions pack stand, by their exact ids."""

from constructs import Construct

from infra.permissions import acknowledge


def acknowledge_managed_policy(role: Construct, policy: str, reason: str) -> None:
    """Say why a role has a policy that AWS writes (`policy`: its name with its path)."""
    acknowledge(role, f"AwsSolutions-IAM4[Policy::arn:<AWS::Partition>:iam::aws:policy/{policy}]", reason)


def acknowledge_wildcard(role: Construct, resource: str, reason: str) -> None:
    """Say why a role may act on more than one resource (`resource`: as the finding writes it)."""
    acknowledge(role, f"AwsSolutions-IAM5[Resource::{resource}]", reason)
