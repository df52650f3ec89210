"""One Lambda function of `control_lambda`, with its own role and its own log group."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Final

from aws_cdk import Duration, IgnoreMode
from aws_cdk import aws_iam as iam
from aws_cdk import aws_lambda as lambda_
from aws_cdk import aws_lambda_destinations as destinations
from aws_cdk import aws_sqs as sqs
from aws_cdk import aws_ssm as ssm
from constructs import Construct

from infra import pins
from infra.log_groups import log_group
from infra.permissions import Grant, acknowledge, function_grants, grant
from infra.settings import Settings

ROOT: Final = Path(__file__).parents[2]
# The package alone, under the name by which everything imports it: no build step, no Docker. Which mix to
# have is asked on a person's machine (decision 0009); the loop never asks it.
NOT_IN_THE_ASSET: Final = ["/*", "!/control_lambda", "/control_lambda/core/mix", "__pycache__"]
# Powertools and pydantic, from the layer that AWS publishes in every region; boto3 comes with the runtime.
PYTHON: Final = pins.version("runtime", "control")
POWERTOOLS: Final = f"/aws/service/powertools/python/x86_64/{PYTHON}/latest"
NOT_THE_LATEST_PYTHON: Final = (
    f"AWS supports {PYTHON} and publishes the layer of Powertools and pydantic for it."
)
# The oldest event that is still worth handling: after a minute the next tick has seen the same.
MAX_EVENT_AGE: Final = Duration.seconds(60)


class ControlFunction(Construct):
    """A handler as AWS Lambda runs it: outside the VPC, traced, its failures kept in a queue.

    `handler` is the dotted name of the handler, `grants` its rights beyond logs and traces, `memory_mib`
    its memory, which also sets its share of a processor. An asynchronous invocation that failed is repeated
    up to `retries` times within `max_event_age`.
    """

    def __init__(  # noqa: PLR0913, keywords all: what one function differs in from another
        self,
        scope: Construct,
        id: str,
        *,
        settings: Settings,
        handler: str,
        description: str,
        grants: Sequence[Grant],
        environment: Mapping[str, str],
        dead_letters: sqs.IQueue,
        timeout: Duration,
        memory_mib: int,
        max_event_age: Duration = MAX_EVENT_AGE,
        retries: int = 0,
    ) -> None:
        super().__init__(scope, id)
        self.log_group = log_group(self, "Logs", settings=settings)
        own = function_grants(self.log_group.log_group_arn, dead_letters.queue_arn)
        role, policy = _role(self, description, [*grants, *own])
        self.function = lambda_.Function(
            self,
            "Function",
            code=lambda_.Code.from_asset(str(ROOT), exclude=NOT_IN_THE_ASSET, ignore_mode=IgnoreMode.GIT),
            handler=handler,
            runtime=lambda_.Runtime(PYTHON, lambda_.RuntimeFamily.PYTHON),
            architecture=lambda_.Architecture.X86_64,
            layers=[_powertools(self)],
            description=description,
            role=role,
            environment=environment,
            timeout=timeout,
            memory_size=memory_mib,
            log_group=self.log_group,
            tracing=lambda_.Tracing.ACTIVE,
            max_event_age=max_event_age,
            retry_attempts=retries,
            on_failure=destinations.SqsDestination(dead_letters),
        )
        self.function.node.add_dependency(policy)
        acknowledge(self.function, "AwsSolutions-L1", NOT_THE_LATEST_PYTHON)


def _role(scope: Construct, description: str, grants: Sequence[Grant]) -> tuple[iam.IRole, iam.Policy]:
    """A role that has these grants and, whatever the CDK thinks that the function needs, no other."""
    principal = iam.ServicePrincipal("lambda.amazonaws.com")
    role = iam.Role(scope, "Role", assumed_by=principal, description=description)
    return role.without_policy_updates(), grant(role, grants)


def _powertools(scope: Construct) -> lambda_.ILayerVersion:
    arn = ssm.StringParameter.value_for_string_parameter(scope, POWERTOOLS)
    return lambda_.LayerVersion.from_layer_version_arn(scope, "Powertools", arn)
