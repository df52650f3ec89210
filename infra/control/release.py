"""Takes the loop's hand off what CloudFormation is about to delete."""

import hashlib
from typing import Final

from aws_cdk import CustomResource, Duration
from constructs import Construct

from control_lambda.core import names
from infra import permissions
from infra.control.control import Control
from infra.control.function import ControlFunction
from infra.routing import Routing
from infra.settings import Settings

# Waiting for the lease takes 45 s at most, a tick 30 s; the handler ends early enough to answer.
TIMEOUT: Final = Duration.seconds(150)
# CloudFormation would otherwise wait for an hour for a function that died without an answer.
SERVICE_TIMEOUT: Final = Duration.minutes(10)
# An answer that did not reach CloudFormation is given again: every request can be repeated.
RETRIES: Final = 2
MAX_REQUEST_AGE: Final = Duration.minutes(8)
MEMORY_MIB: Final = 256  # it holds less than a tick does (92 MiB), and nobody waits for it


class Release(Construct):
    """A custom resource that stands between the loop's rules and the target groups they forward to.

    It is updated whenever fleet, target groups, node groups or the listener change: then it has the loop
    tick once, which writes the rule without what is about to go, before CloudFormation deletes anything. It
    is deleted before anything that it depends on: then it stops the loop and deletes the loop's rules. All
    that starts ticks depends on it, so that none starts once it is gone.
    """

    def __init__(
        self,
        scope: Construct,
        id: str,
        *,
        settings: Settings,
        control: Control,
        routing: Routing,
    ) -> None:
        super().__init__(scope, id)
        handler = ControlFunction(
            self,
            "Handler",
            settings=settings,
            handler="control_lambda.release.handler",
            description="Fulcrum: releases target groups and listener before they are deleted",
            grants=permissions.release_grants(self, control.steered, control.tick.function_arn),
            environment={**control.environment, names.TICK_FUNCTION: control.tick.function_name},
            dead_letters=control.dead_letters,
            timeout=TIMEOUT,
            memory_mib=MEMORY_MIB,
            max_event_age=MAX_REQUEST_AGE,
            retries=RETRIES,
        )
        self.resource = CustomResource(
            self,
            "Resource",
            resource_type="Custom::FulcrumRelease",
            service_token=handler.function.function_arn,
            service_timeout=SERVICE_TIMEOUT,
            properties={
                "ListenerArn": routing.listener.listener_arn,
                "Units": control.units,
                "Routing": settings.fleet.routing,
                "FleetDigest": hashlib.sha256(settings.fleet.to_json().encode()).hexdigest(),
            },
        )
        for needed in (handler, routing, control.tick, control.table, control.fleet_parameter):
            self.resource.node.add_dependency(needed)
        for trigger in control.triggers:
            trigger.node.add_dependency(self.resource)
