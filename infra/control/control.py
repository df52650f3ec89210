"""The loop: both handlers, what invokes them, what they remember and whom they alarm."""

import json
from collections.abc import Mapping, Sequence
from typing import Final

from aws_cdk import CfnOutput, Duration, Stack
from aws_cdk import aws_dynamodb as dynamodb
from aws_cdk import aws_eks_v2 as eks
from aws_cdk import aws_events as events
from aws_cdk import aws_events_targets as targets
from aws_cdk import aws_iam as iam
from aws_cdk import aws_lambda as lambda_
from aws_cdk import aws_scheduler as scheduler
from aws_cdk import aws_sns as sns
from aws_cdk import aws_sns_subscriptions as subscriptions
from aws_cdk import aws_sqs as sqs
from aws_cdk import aws_ssm as ssm
from constructs import Construct

from control_lambda.core import names
from infra import permissions
from infra.control.function import MAX_EVENT_AGE, ControlFunction
from infra.removal import kept
from infra.routing import Routing
from infra.settings import Settings

TIMEOUT: Final = Duration.seconds(30)
# Ten ticks of ten pools under awslambdaric (tests/infra/test_lambda_runtime.py) held 92 MiB at most; the
# first took 1.5 s with the start of its process, on a busy machine 2.4 s, the others 0.07 and 0.13 s.
# Processor time comes with memory: 512 MiB are 0.3 of a processor, so a tick may take half a second.
MEMORY_MIB: Final = 512
# A delivery that Lambda throttles is tried again: an interruption is told only once. What is repeated by
# mistake does no harm, since the same evidence counts once.
DELIVERY_RETRIES: Final = 2
DEAD_LETTER_DAYS: Final = 14

# What AWS announces: name of the rule to source and detail type.
ANNOUNCEMENTS: Final[Mapping[str, tuple[str, str]]] = {
    "LaunchFailed": ("aws.autoscaling", "EC2 Instance Launch Unsuccessful"),
    "Interruption": ("aws.ec2", "EC2 Spot Instance Interruption Warning"),
    "Rebalance": ("aws.ec2", "EC2 Instance Rebalance Recommendation"),
}


class Control(Construct):
    """The tick every minute, signals whenever AWS announces something, and prices every hour.

    `triggers` is everything that starts a tick by itself. Whoever has to outlive the loop's work, such as
    the release of its rules, stands before them: they are then created last and deleted first. `builds` maps
    a unit to the CodeBuild projects that have to succeed once before it gets nodes.
    """

    def __init__(
        self,
        scope: Construct,
        id: str,
        *,
        settings: Settings,
        cluster_name: str,
        routing: Routing,
        node_groups: Mapping[str, eks.CfnNodegroup],
        builds: Mapping[str, Sequence[str]] | None = None,
    ) -> None:
        super().__init__(scope, id)
        self._settings = settings
        self._builds = builds or {}
        self.table = self._create_table()
        self.topic = self._create_topic()
        self.dead_letters = self._create_dead_letters()
        self.fleet_parameter = self._create_fleet_parameter()
        self.pause_parameter_name = settings.pause_parameter
        self.units = self._units(routing, node_groups)
        self.environment = self._environment(cluster_name, routing.listener.listener_arn)
        self.steered = permissions.Steered(
            cluster_name=cluster_name,
            listener_arn=routing.listener.listener_arn,
            load_balancer_name=routing.load_balancer.load_balancer_full_name,
            node_groups={group.attr_nodegroup_name: group.attr_arn for group in node_groups.values()},
            fleet_parameter_arn=self.fleet_parameter.parameter_arn,
            pause_parameter_arn=_parameter_arn(self, self.pause_parameter_name),
            table_arn=self.table.table_arn,
            metric_namespace=names.NAMESPACE,
        )
        self.tick = self._create_tick()
        self.signals = self._create_signals()
        self.schedule, prices = self._create_schedules()
        self.announcements = self._create_announcements()
        self.triggers: Sequence[Construct] = (self.schedule, prices, *self.announcements)
        self._create_outputs(cluster_name)

    def _create_table(self) -> dynamodb.Table:
        settings = self._settings
        return dynamodb.Table(
            self,
            "State",
            partition_key=dynamodb.Attribute(name="fleet", type=dynamodb.AttributeType.STRING),
            billing_mode=dynamodb.BillingMode.PAY_PER_REQUEST,
            point_in_time_recovery_specification=dynamodb.PointInTimeRecoverySpecification(
                point_in_time_recovery_enabled=True
            ),
            deletion_protection=settings.deletion_protection,
            removal_policy=kept(settings),
        )

    def _create_topic(self) -> sns.Topic:
        topic = sns.Topic(
            self, "Alerts", display_name=f"Fulcrum {self._settings.fleet.fleet}", enforce_ssl=True
        )
        if self._settings.alert_email:
            topic.add_subscription(subscriptions.EmailSubscription(self._settings.alert_email))
        return topic

    def _create_dead_letters(self) -> sqs.Queue:
        queue = sqs.Queue(
            self,
            "DeadLetters",
            encryption=sqs.QueueEncryption.SQS_MANAGED,
            enforce_ssl=True,
            retention_period=Duration.days(DEAD_LETTER_DAYS),
        )
        permissions.acknowledge(queue, "AwsSolutions-SQS3", "This is the dead-letter queue itself.")
        return queue

    def _create_fleet_parameter(self) -> ssm.StringParameter:
        """The fleet as the handlers read it; above 4 KB it becomes an advanced parameter by itself."""
        return ssm.StringParameter(
            self,
            "Fleet",
            parameter_name=self._settings.fleet_parameter,
            string_value=self._settings.fleet.to_json(),
            tier=ssm.ParameterTier.INTELLIGENT_TIERING,
            description="fleet.yaml as the control loop reads it; change it there and deploy",
        )

    def _units(self, routing: Routing, node_groups: Mapping[str, eks.CfnNodegroup]) -> str:
        """What was made for each unit, as the handlers' variable UNITS."""
        units = {
            unit.name: {
                "target_group_arn": routing.target_groups[unit.name].target_group_arn,
                "pools": {pool.name: node_groups[pool.name].attr_nodegroup_name for pool in unit.pools},
                **({"builds": list(self._builds[unit.name])} if self._builds.get(unit.name) else {}),
            }
            for unit in self._settings.fleet.units
        }
        return Stack.of(self).to_json_string(units)

    def _environment(self, cluster_name: str, listener_arn: str) -> dict[str, str]:
        """The variables that every handler reads."""
        return {
            names.FLEET_PARAMETER: self.fleet_parameter.parameter_name,
            names.PAUSE_PARAMETER: self.pause_parameter_name,
            names.CLUSTER_NAME: cluster_name,
            names.LISTENER_ARN: listener_arn,
            names.UNITS: self.units,
            names.STATE_TABLE: self.table.table_name,
            names.METRIC_NAMESPACE: names.NAMESPACE,
            names.TOPIC_ARN: self.topic.topic_arn,
        }

    def _create_tick(self) -> lambda_.Function:
        return ControlFunction(
            self,
            "Tick",
            settings=self._settings,
            handler="control_lambda.handler.handler",
            description="Fulcrum: one tick of the control loop",
            grants=permissions.tick_grants(self, self.steered),
            environment=self.environment,
            dead_letters=self.dead_letters,
            timeout=TIMEOUT,
            memory_mib=MEMORY_MIB,
        ).function

    def _create_signals(self) -> lambda_.Function:
        return ControlFunction(
            self,
            "Signals",
            settings=self._settings,
            handler="control_lambda.signals.handler",
            description="Fulcrum: refused launches, interruptions and prices",
            grants=permissions.signals_grants(self.steered, self.tick.function_arn),
            environment={**self.environment, names.TICK_FUNCTION: self.tick.function_name},
            dead_letters=self.dead_letters,
            timeout=TIMEOUT,
            memory_mib=MEMORY_MIB,
        ).function

    def _create_schedules(self) -> tuple[scheduler.CfnSchedule, scheduler.CfnSchedule]:
        """The tick's schedule and that of the prices; the scheduled time is the tick's clock."""
        role = iam.Role(
            self,
            "SchedulerRole",
            assumed_by=iam.ServicePrincipal(
                "scheduler.amazonaws.com",
                conditions={"StringEquals": {"aws:SourceAccount": Stack.of(self).account}},
            ),
            description="Fulcrum: EventBridge Scheduler invokes the two handlers",
        )
        functions = [self.tick.function_arn, self.signals.function_arn]
        policy = permissions.grant(role, permissions.scheduler_grants(functions, self.dead_letters.queue_arn))
        time = scheduler.ContextAttribute.scheduled_time
        tick = self._create_schedule(
            "EveryMinute", "rate(1 minute)", self.tick, {"time": time, "cause": "schedule"}, role
        )
        prices = self._create_schedule(
            "EveryHour", "rate(1 hour)", self.signals, {"time": time, "prices": True}, role
        )
        # A role without its policy can invoke nothing, and the first minutes would go to the queue.
        tick.node.add_dependency(policy)
        prices.node.add_dependency(policy)
        return tick, prices

    def _create_schedule(
        self,
        name: str,
        rate: str,
        function: lambda_.Function,
        event: Mapping[str, object],
        role: iam.Role,
    ) -> scheduler.CfnSchedule:
        return scheduler.CfnSchedule(
            self,
            name,
            schedule_expression=rate,
            flexible_time_window=scheduler.CfnSchedule.FlexibleTimeWindowProperty(mode="OFF"),
            target=scheduler.CfnSchedule.TargetProperty(
                arn=function.function_arn,
                role_arn=role.role_arn,
                input=json.dumps(event),
                dead_letter_config=scheduler.CfnSchedule.DeadLetterConfigProperty(
                    arn=self.dead_letters.queue_arn
                ),
                retry_policy=scheduler.CfnSchedule.RetryPolicyProperty(
                    maximum_event_age_in_seconds=MAX_EVENT_AGE.to_seconds(), maximum_retry_attempts=0
                ),
            ),
        )

    def _create_announcements(self) -> tuple[events.Rule, ...]:
        """Events are account-wide; signals finds out whether they concern this fleet.

        Those about builds name the project, so that only this stack's arrive.
        """
        patterns = {
            name: events.EventPattern(source=[source], detail_type=[detail_type])
            for name, (source, detail_type) in ANNOUNCEMENTS.items()
        }
        # In the units' order: the names are tokens here, whose own order changes from synth to synth.
        projects = list(dict.fromkeys(project for builds in self._builds.values() for project in builds))
        if projects:
            patterns["BuildChanged"] = events.EventPattern(
                source=["aws.codebuild"],
                detail_type=["CodeBuild Build State Change"],
                detail={"project-name": projects},
            )
        target = targets.LambdaFunction(
            self.signals,
            dead_letter_queue=self.dead_letters,
            max_event_age=MAX_EVENT_AGE,
            retry_attempts=DELIVERY_RETRIES,
        )
        return tuple(
            events.Rule(self, name, event_pattern=pattern, targets=[target])
            for name, pattern in patterns.items()
        )

    def _create_outputs(self, cluster_name: str) -> None:
        """What `python -m twin status`, `pause` and `resume` ask for, under the same names."""
        outputs = {
            "FleetParameter": self.fleet_parameter.parameter_name,
            "PauseParameter": self.pause_parameter_name,
            "StateTable": self.table.table_name,
            "ClusterName": cluster_name,
        }
        for name, value in outputs.items():
            CfnOutput(self, name, value=value)


def _parameter_arn(scope: Construct, name: str) -> str:
    """The ARN of a parameter that the template does not create."""
    stack = Stack.of(scope)
    return stack.format_arn(service="ssm", resource="parameter", resource_name=name.removeprefix("/"))
