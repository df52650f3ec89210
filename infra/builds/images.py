"""The container images: where they are kept, and what builds them and what is compiled with them."""

from collections.abc import Mapping
from typing import Final, Literal

from aws_cdk import Duration, RemovalPolicy
from aws_cdk import aws_codebuild as codebuild
from aws_cdk import aws_ecr as ecr
from constructs import Construct

from control_lambda.core.fleet import Accelerator, Unit
from infra.accelerators import ACCELERATORS
from infra.builds import buildspecs
from infra.builds.build_run import BuildRun
from infra.builds.builds import Build, Recipe, sources
from infra.builds.model_store import ModelStore
from infra.manifests.server_environment import model_environment, neuron_target
from infra.permissions import ANYTHING, Grant
from infra.settings import Settings

KEPT_IMAGES: Final = 10  # enough to roll back to; each holds a few GB

ImageKind = Accelerator | Literal["router"]
DOCKERFILES: Final[Mapping[ImageKind, str]] = {
    **{accelerator: facts.dockerfile for accelerator, facts in ACCELERATORS.items()},
    "router": "containers/router/Dockerfile",
}


class Images(Construct):
    """A repository and a CodeBuild project for each image that the fleet needs, and no other.

    Images are built from `containers/` as it is at synthesis, and tagged with its hash: a change there
    makes a new tag, which is built and rolled out by the next deploy. For Neuron units a further
    project compiles the model for each kind of chip. `.run.built` is what Deployments wait for.
    """

    def __init__(self, scope: Construct, id: str, *, settings: Settings, model_store: ModelStore) -> None:
        super().__init__(scope, id)
        self._settings = settings
        self._model_store = model_store
        self._source = sources(self, "Source")
        self.tag: str = self._source.asset_hash
        self._repositories = {kind: self._create_repository(kind) for kind in self._kinds()}
        self._builds = {kind: self._create_build(kind) for kind in self._kinds()}
        self._compilations = {
            target: self._create_compilation(target, unit) for target, unit in self._compiled_units().items()
        }
        self.run = self._create_run()

    def uri_of(self, kind: ImageKind) -> str:
        """The image of that kind, as a pod names it."""
        return f"{self._repositories[kind].repository_uri}:{self.tag}"

    def projects_of(self, unit: str) -> list[str]:
        """The names of the CodeBuild projects that all have to succeed before the unit can serve."""
        known = next(known for known in self._settings.fleet.units if known.name == unit)
        builds = [self._builds[known.accelerator]]
        if self._model_store.download:
            builds.append(self._model_store.download)
        if known.accelerator == "neuron" and self._compilations:
            builds.append(self._compilations[neuron_target(known.instance_type)])
        return [build.project.project_name for build in builds]

    def _kinds(self) -> list[ImageKind]:
        """The kinds of image that the fleet needs, each once."""
        fleet = self._settings.fleet
        kinds: list[ImageKind] = [unit.accelerator for unit in fleet.units]
        if fleet.routing == "router":
            kinds.append("router")
        return list(dict.fromkeys(kinds))

    def _compiled_units(self) -> dict[str, Unit]:
        """One unit for each kind of Neuron chip: all units of one kind run the same artifacts."""
        if self._model_store.download is None:
            return {}
        units = (unit for unit in self._settings.fleet.units if unit.accelerator == "neuron")
        return {neuron_target(unit.instance_type): unit for unit in units}

    def _create_repository(self, kind: ImageKind) -> ecr.Repository:
        kept = self._settings.keep_data
        return ecr.Repository(
            self,
            f"Repository-{kind}",
            image_scan_on_push=True,
            image_tag_mutability=ecr.TagMutability.IMMUTABLE,
            encryption=ecr.RepositoryEncryption.AES_256,
            lifecycle_rules=[ecr.LifecycleRule(max_image_count=KEPT_IMAGES)],
            removal_policy=RemovalPolicy.RETAIN if kept else RemovalPolicy.DESTROY,
            empty_on_delete=not kept,
        )

    def _create_build(self, kind: ImageKind) -> Build:
        repository = self._repositories[kind]
        recipe = Recipe(
            description=f"Fulcrum: builds the image for {kind}",
            script=buildspecs.BUILD_IMAGE,
            variables={
                "DOCKERFILE": DOCKERFILES[kind],
                "REPOSITORY": repository.repository_name,
                **self._image_variables(kind),
            },
            timeout=Duration.hours(2),
            source=self._source,
            docker=True,
        )
        grants = [_log_in(), _pull(repository), _push(repository)]
        return Build(self, f"Build-{kind}", settings=self._settings, recipe=recipe, grants=grants)

    def _create_compilation(self, target: str, unit: Unit) -> Build:
        store = self._model_store
        recipe = Recipe(
            description=f"Fulcrum: compiles {store.model.name} for {target}",
            script=buildspecs.COMPILE_MODEL,
            variables={**model_environment(store.model, unit), **self._image_variables("neuron")},
            timeout=Duration.hours(8),
            docker=True,
            compute_type=codebuild.ComputeType.X_LARGE,  # the smallest one with more than 16 GB of memory
        )
        grants = [
            _log_in(),
            _pull(self._repositories["neuron"]),
            store.reading(store.model.weights),
            store.writing(store.model.artifacts_prefix),
        ]
        return Build(self, f"Compile-{target}", settings=self._settings, recipe=recipe, grants=grants)

    def _image_variables(self, kind: ImageKind) -> dict[str, str]:
        return {"REPOSITORY_URI": self._repositories[kind].repository_uri, "IMAGE_TAG": self.tag}

    def _create_run(self) -> BuildRun:
        store = self._model_store
        made = {f"image-{kind}": build for kind, build in self._builds.items()}
        if store.download:
            made["weights"] = store.download
        stages = {"made": made}
        needs: dict[str, list[str]] = {}
        if self._compilations:
            compiled = {f"for-{target}": build for target, build in self._compilations.items()}
            stages["compiled"] = compiled
            needs = {name: ["image-neuron", "weights"] for name in compiled}
        return BuildRun(
            self,
            "Run",
            settings=self._settings,
            stages=stages,
            needs=needs,
            properties={
                "Images": ",".join(self._builds),
                "Tag": self.tag,
                "Model": store.model.name,
                "ModelVersion": store.model.prefix,
                "Shapes": ",".join(store.model.shapes),
                "Targets": ",".join(self._compilations),
            },
        )


def _log_in() -> Grant:
    return Grant(
        sid="LogInToRegistry",
        actions=["ecr:GetAuthorizationToken"],
        resources=[ANYTHING],
        forced="The token is for the registry; ECR knows no resource for it",
    )


def _pull(repository: ecr.IRepository) -> Grant:
    actions = ["ecr:BatchCheckLayerAvailability", "ecr:BatchGetImage", "ecr:GetDownloadUrlForLayer"]
    return Grant(sid="PullImage", actions=actions, resources=[repository.repository_arn])


def _push(repository: ecr.IRepository) -> Grant:
    actions = [
        "ecr:CompleteLayerUpload",
        "ecr:DescribeImages",
        "ecr:InitiateLayerUpload",
        "ecr:PutImage",
        "ecr:UploadLayerPart",
    ]
    return Grant(sid="PushImage", actions=actions, resources=[repository.repository_arn])
