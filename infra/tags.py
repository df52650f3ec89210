"""The tags by which costs are allocated and permissions are limited.

Activate them as cost allocation tags in the billing console; they appear there a day after the
first deployment.
"""

from typing import Final

from aws_cdk import Tags
from constructs import IConstruct

from infra.settings import Settings

STACK: Final = "fulcrum:stack"
FLEET: Final = "fulcrum:fleet"
UNIT: Final = "fulcrum:unit"
POOL: Final = "fulcrum:pool"
SYSTEM: Final = "system"  # the pool of what belongs to no unit


def tag_stack(scope: IConstruct, settings: Settings) -> None:
    """Tag everything in `scope` with the stack and the fleet that it belongs to."""
    Tags.of(scope).add(STACK, settings.stack_name)
    Tags.of(scope).add(FLEET, settings.fleet.fleet)


def tag_pool(scope: IConstruct, *, unit: str, pool: str) -> None:
    """Tag everything in `scope`, and the instances and volumes that it launches, with unit and pool."""
    Tags.of(scope).add(UNIT, unit)
    Tags.of(scope).add(POOL, pool)
