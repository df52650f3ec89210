"""Alarms and the dashboard over what the loop, the load balancer and both functions report."""

from aws_cdk import aws_stepfunctions as sfn
from constructs import Construct

from infra.control.control import Control
from infra.metrics import FleetMetrics
from infra.observability.alarms import Alarms
from infra.observability.dashboard import Dashboard
from infra.routing import Routing
from infra.scenarios import HARM_TO_USERS
from infra.settings import Settings


class Observability(Construct):
    """One dashboard, an alarm for everything that somebody has to act on, and a composite one for the pager.

    The alarms stand only once the loop is scheduled: before, each tick would be missing.
    """

    def __init__(
        self,
        scope: Construct,
        id: str,
        *,
        settings: Settings,
        control: Control,
        routing: Routing,
        builds: sfn.IStateMachine,
    ) -> None:
        super().__init__(scope, id)
        metrics = FleetMetrics(
            cluster_name=control.steered.cluster_name,
            load_balancer=routing.load_balancer.load_balancer_full_name,
        )
        self.alarms = Alarms(
            self,
            "Alarms",
            settings=settings,
            metrics=metrics,
            tick=control.tick,
            builds=builds,
            topic=control.topic,
        )
        self.alarms.node.add_dependency(control.schedule)
        self.harm_to_users = [self.alarms.of_key[key] for key in HARM_TO_USERS]
        self.dashboard = Dashboard(
            self,
            "Dashboard",
            settings=settings,
            metrics=metrics,
            alarms=[*self.alarms.of_key.values(), self.alarms.pager],
            tick=control.tick,
            signals=control.signals,
        )
