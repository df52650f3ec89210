"""A CodeBuild project: something that the pods need is made inside the account, without a local Docker."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

from aws_cdk import Duration, IgnoreMode
from aws_cdk import aws_codebuild as codebuild
from aws_cdk import aws_iam as iam
from aws_cdk import aws_s3_assets as assets
from constructs import Construct

from infra import permissions, pins
from infra.builds.buildspecs import buildspec
from infra.log_groups import log_group
from infra.permissions import Grant
from infra.settings import Settings

ROOT: Final = Path(__file__).parents[2]
BUILD_IMAGE: Final = codebuild.LinuxBuildImage.from_code_build_image_id(pins.version("image", "codebuild"))
QUEUED: Final = Duration.hours(8)  # the most that CodeBuild lets a build wait for a machine

_NO_KEY: Final = (
    "The project has no artifacts that a key could encrypt: what it makes goes to ECR or to the model "
    "store, and both encrypt it."
)
_PRIVILEGED: Final = (
    "Building and running an image takes a Docker daemon, which CodeBuild runs in privileged mode alone. "
    "Each build has a machine of its own that is thrown away, and its sources are this stack's asset."
)


def sources(scope: Construct, id: str) -> assets.Asset:
    """`containers/` as it is at synthesis, and nothing else."""
    return assets.Asset(
        scope, id, path=str(ROOT), exclude=["/*", "!/containers", "__pycache__"], ignore_mode=IgnoreMode.GIT
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class Recipe:
    """What a project does: run `script` with `variables` over `source`, if it has one, within `timeout`.

    `docker` gives it a Docker daemon. `secrets` maps variables to ARNs of Secrets Manager: CodeBuild reads
    them as the build starts, and masks them in its log.
    """

    description: str
    script: str
    variables: Mapping[str, str]
    timeout: Duration
    source: assets.Asset | None = None
    docker: bool = False
    secrets: Mapping[str, str] = field(default_factory=dict)
    compute_type: codebuild.ComputeType = codebuild.ComputeType.MEDIUM


class Build(Construct):
    """`.project` follows the recipe; its role may do what `grants` say, read the source and log."""

    def __init__(
        self, scope: Construct, id: str, *, settings: Settings, recipe: Recipe, grants: Sequence[Grant]
    ) -> None:
        super().__init__(scope, id)
        self._recipe = recipe
        self._logs = log_group(self, "Logs", settings=settings)
        role = iam.Role(
            self,
            "Role",
            assumed_by=iam.ServicePrincipal("codebuild.amazonaws.com"),
            description=recipe.description,
        )
        permissions.grant(role, [*grants, *self._own_grants()])
        self.project = self._create_project(role)

    def _create_project(self, role: iam.Role) -> codebuild.Project:
        recipe = self._recipe
        source = recipe.source
        logged = codebuild.CloudWatchLoggingOptions(log_group=self._logs)
        project = codebuild.Project(
            self,
            "Project",
            description=recipe.description,
            role=role.without_policy_updates(),
            source=codebuild.Source.s3(bucket=source.bucket, path=source.s3_object_key) if source else None,
            build_spec=codebuild.BuildSpec.from_object(buildspec(recipe.script)),
            environment=codebuild.BuildEnvironment(
                build_image=BUILD_IMAGE, compute_type=recipe.compute_type, privileged=recipe.docker
            ),
            environment_variables={
                name: codebuild.BuildEnvironmentVariable(value=value)
                for name, value in recipe.variables.items()
            }
            | {
                name: codebuild.BuildEnvironmentVariable(
                    value=arn, type=codebuild.BuildEnvironmentVariableType.SECRETS_MANAGER
                )
                for name, arn in recipe.secrets.items()
            },
            logging=codebuild.LoggingOptions(cloud_watch=logged),
            timeout=recipe.timeout,
            queued_timeout=QUEUED,
            grant_report_group_permissions=False,
        )
        permissions.acknowledge(project, "AwsSolutions-CB4", _NO_KEY)
        if recipe.docker:
            permissions.acknowledge(project, "AwsSolutions-CB3", _PRIVILEGED)
        return project

    def _own_grants(self) -> list[Grant]:
        logs = Grant(
            sid="WriteLogs",
            actions=["logs:CreateLogStream", "logs:PutLogEvents"],
            resources=[self._logs.log_group_arn],
        )
        own = [logs]
        if self._recipe.secrets:
            arns = list(self._recipe.secrets.values())
            own.append(Grant(sid="ReadSecrets", actions=["secretsmanager:GetSecretValue"], resources=arns))
        source = self._recipe.source
        if source is None:
            return own
        return [
            *own,
            Grant(
                sid="ReadSource",
                actions=["s3:GetObject", "s3:GetObjectVersion"],
                resources=[source.bucket.arn_for_objects(source.s3_object_key)],
            ),
            Grant(
                sid="FindSource",
                actions=["s3:GetBucketAcl", "s3:GetBucketLocation"],
                resources=[source.bucket.bucket_arn],
            ),
        ]
