"""Runs the builds on a deploy: images and weights first, then what is compiled from both."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Final, cast

from aws_cdk import CustomResource, Duration, Stack
from aws_cdk import aws_iam as iam
from aws_cdk import aws_lambda as lambda_
from aws_cdk import aws_stepfunctions as sfn
from aws_cdk import aws_stepfunctions_tasks as tasks
from constructs import Construct

from infra import permissions, pins
from infra.builds.builds import Build
from infra.log_groups import log_group
from infra.permissions import Grant
from infra.settings import Settings

HANDLER: Final = Path(__file__).parent / "build_runner"
LONGEST_RUN: Final = Duration.hours(24)
# What CodeBuild says when the account may have no further build in its queue: a new account's limit is 1, or
# 0 until AWS has verified it, which takes hours. With the waits below a build is tried for ten hours.
LIMITED: Final = "CodeBuild.AccountLimitExceededException"
FIRST_WAIT: Final = Duration.minutes(1)
LONGEST_WAIT: Final = Duration.minutes(10)
TRIES: Final = 60
CLOUDFORMATION_WAITS: Final = Duration.hours(1)  # the longest that it waits for a custom resource
MEMORY_MIB: Final = 128
RUNTIME: Final = lambda_.Runtime(pins.version("runtime", "builds"), lambda_.RuntimeFamily.PYTHON)

Stages = Mapping[str, Mapping[str, Build]]

_DELIVERY: Final = "AWS knows no resource for delivering logs and traces, which is all that these calls do."
_VERSIONS: Final = "Any version of the one function that ends a run; a task names the function without one."


class BuildRun(Construct):
    """A state machine that runs the builds, and a custom resource, `.built`, that starts it.

    The first deploy does not wait for the builds, nor does one that adds a unit: it has no nodes yet, and
    gets none until its builds have succeeded. An update of image or model waits, because what depends on
    `.built` rolls pods that serve. It fails and is rolled back when a build fails or the builds take more
    than an hour; they go on then, and the next deploy finds what they made.

    `stages` maps a stage to its builds by name; all builds of one stage end before any of the next begins,
    and no failure stops another build but those that need it: `needs` maps a build to builds of the first
    stage. A build that the account's limit refuses is tried again for hours, so that with a limit of one they
    run one after the other. A change of `properties` is what makes an update run the builds.
    """

    def __init__(
        self,
        scope: Construct,
        id: str,
        *,
        settings: Settings,
        stages: Stages,
        needs: Mapping[str, Sequence[str]],
        properties: Mapping[str, str],
    ) -> None:
        super().__init__(scope, id)
        self._settings = settings
        self._needs = needs
        self.state_machine = self._create_state_machine(stages)
        start = Grant(
            sid="StartRun",
            actions=["states:StartExecution"],
            resources=[self.state_machine.state_machine_arn],
        )
        begin = self._create_function("Begin", "begin", [start])
        begin.add_environment("STATE_MACHINE_ARN", self.state_machine.state_machine_arn)
        self.built = CustomResource(
            self,
            "Built",
            resource_type="Custom::FulcrumBuilds",
            service_token=begin.function_arn,
            service_timeout=CLOUDFORMATION_WAITS,
            properties=dict(properties),
        )
        # Their roles' rights, too, which the projects by themselves do not wait for.
        builds = (build for stage in stages.values() for build in stage.values())
        self.built.node.add_dependency(*builds)

    def _create_function(self, id: str, handler: str, grants: Sequence[Grant]) -> lambda_.Function:
        group = log_group(self, f"{id}Logs", settings=self._settings)
        role = iam.Role(self, f"{id}Role", assumed_by=iam.ServicePrincipal("lambda.amazonaws.com"))
        logs = Grant(
            sid="WriteLogs",
            actions=["logs:CreateLogStream", "logs:PutLogEvents"],
            resources=[group.log_group_arn],
        )
        permissions.grant(role, [*grants, logs])
        return lambda_.Function(
            self,
            id,
            code=lambda_.Code.from_asset(str(HANDLER), exclude=["__pycache__"]),
            handler=f"handler.{handler}",
            runtime=RUNTIME,
            description=f"Fulcrum: {handler} of the builds that a deploy asks for",
            role=role,
            timeout=Duration.seconds(30),
            memory_size=MEMORY_MIB,
            log_group=group,
        )

    def _create_state_machine(self, stages: Stages) -> sfn.StateMachine:
        function = self._create_function("FinishFunction", "finish", [])
        payload = {
            "request": sfn.JsonPath.object_at("$.request"),
            "results": sfn.JsonPath.array(*(sfn.JsonPath.string_at(f"$.{name}") for name in stages)),
        }
        finish = tasks.LambdaInvoke(
            self, "Finish", lambda_function=function, payload=sfn.TaskInput.from_object(payload)
        )
        first_name, first_builds = next(iter(stages.items()))
        places = {build: f"$.{first_name}[{index}]" for index, build in enumerate(first_builds)}
        first, *later = (self._stage(name, builds, places) for name, builds in stages.items())
        chain = sfn.Chain.start(first)
        for step in (*later, finish):
            chain = chain.next(step)
        machine = sfn.StateMachine(
            self,
            "Run",
            definition_body=sfn.DefinitionBody.from_chainable(chain),
            timeout=LONGEST_RUN,
            tracing_enabled=True,
            logs=sfn.LogOptions(
                destination=log_group(self, "RunLogs", settings=self._settings), level=sfn.LogLevel.ALL
            ),
        )
        permissions.acknowledge(machine, "AwsSolutions-IAM5[Resource::*]", _DELIVERY)
        permissions.acknowledge(
            machine, f"AwsSolutions-IAM5[Resource::<{_logical_id(function)}.Arn>:*]", _VERSIONS
        )
        return machine

    def _stage(self, stage: str, builds: Mapping[str, Build], places: Mapping[str, str]) -> sfn.Parallel:
        """All builds at once; what each one came to stands in a list under the stage's name.

        `places` says where the state holds what the builds of the first stage came to.
        """
        parallel = sfn.Parallel(self, stage, result_path=f"$.{stage}")
        for name, build in builds.items():
            task = tasks.CodeBuildStartBuild(
                self,
                f"Build {name}",
                project=build.project,
                integration_pattern=sfn.IntegrationPattern.RUN_JOB,
                result_selector={"built": name},
            )
            task.add_retry(
                errors=[LIMITED],
                interval=FIRST_WAIT,
                backoff_rate=2,
                max_delay=LONGEST_WAIT,
                max_attempts=TRIES,
                jitter_strategy=sfn.JitterType.FULL,
            )
            failed = sfn.Pass(self, f"{name} failed", result=sfn.Result.from_object({"failed": name}))
            task.add_catch(failed)
            parallel.branch(self._once_possible(name, task, failed, places))
        return parallel

    def _once_possible(
        self, name: str, task: sfn.TaskStateBase, failed: sfn.Pass, places: Mapping[str, str]
    ) -> sfn.IChainable:
        """The build, unless one that it needs has failed."""
        lacking = [
            sfn.Condition.is_present(f"{places[needed]}.failed") for needed in self._needs.get(name, ())
        ]
        if not lacking:
            return task
        choice = sfn.Choice(self, f"{name} has what it needs")
        return choice.when(sfn.Condition.or_(*lacking), failed).otherwise(task)


def _logical_id(function: lambda_.Function) -> str:
    return Stack.of(function).get_logical_id(cast("lambda_.CfnFunction", function.node.default_child))
