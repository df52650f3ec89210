import ast
import json
import os
import re
import shlex
import shutil
import socket
import subprocess
import sys
from collections.abc import Iterator
from contextlib import closing
from functools import cache
from importlib.metadata import packages_distributions
from pathlib import Path
from typing import NamedTuple

import pytest

from containers.serving.server_process import running
from infra.manifests.common import PORT, USER_ID

ROOT = Path(__file__).parents[3]
SERVING = ROOT / "containers/serving"
KINDS = sorted(path.suffix.removeprefix(".") for path in SERVING.glob("Dockerfile.*"))
# AWS publishes no digest for this tag that could be checked here; its version numbers are in the tag.
WITHOUT_DIGEST = {"public.ecr.aws/neuron/pytorch-inference-neuronx"}
# What the base of the Neuron image brings, and nothing may replace.
IN_NEURON_BASE = {"torch", "torch_neuronx", "numpy"}
# Published together with the package that pins or re-exports them.
PART_OF = {"botocore": "boto3", "starlette": "fastapi", "tokenizers": "transformers"}
# Run on the machine of whoever measures, never in the image's server.
NOT_IN_IMAGES = {"bench", "breakpoint", "gpu_bench", "peers"}


class Instruction(NamedTuple):
    """One instruction of a Dockerfile, its continuation lines joined."""

    name: str
    value: str


def parsed(text: str) -> list[Instruction]:
    """The instructions of a Dockerfile, comments left out."""
    lines = [line for line in text.splitlines() if not line.lstrip().startswith("#")]
    joined = "\n".join(lines).replace("\\\n", " ")
    return [Instruction(*line.split(maxsplit=1)) for line in joined.splitlines() if line.strip()]


@cache
def dockerfile(kind: str) -> list[Instruction]:
    """The instructions of one of the images."""
    return parsed((SERVING / f"Dockerfile.{kind}").read_text())


def values(kind: str, name: str) -> list[str]:
    """The values of every instruction of that name."""
    return [instruction.value for instruction in dockerfile(kind) if instruction.name == name]


def final_stage(kind: str) -> list[Instruction]:
    """The instructions from the last FROM on: what the image is."""
    instructions = dockerfile(kind)
    last = max(index for index, instruction in enumerate(instructions) if instruction.name == "FROM")
    return instructions[last:]


def in_final_stage(kind: str, name: str) -> list[str]:
    """The values of the final stage's instructions of that name."""
    return [instruction.value for instruction in final_stage(kind) if instruction.name == name]


def environment(kind: str) -> dict[str, str]:
    """What ENV sets in the image."""
    return dict(pair.split("=", 1) for value in in_final_stage(kind, "ENV") for pair in shlex.split(value))


def pinned(path: Path) -> dict[str, str]:
    """The packages of a requirements file with their exact versions, names in their normal form."""
    lines = [line.partition("#")[0].strip() for line in path.read_text().splitlines()]
    pins = [line for line in lines if line and not line.startswith("-")]
    assert all(re.fullmatch(r"[\w.-]+(\[[\w,]+\])?==[\w.+]+", pin) for pin in pins), pins
    split = (re.sub(r"\[.*\]", "", pin).split("==") for pin in pins)
    return {normal(name): version for name, version in split}


def normal(name: str) -> str:
    """A package's name as the index compares it."""
    return re.sub(r"[-_.]+", "_", name).lower()


def copied(kind: str) -> Iterator[tuple[Path, Path]]:
    """Every file or folder that comes from the checkout: where it is, and where the image has it."""
    for value in values(kind, "COPY"):
        if not value.startswith("--from="):
            *sources, destination = value.split()
            yield from ((ROOT / source, Path(destination)) for source in sources)


@pytest.mark.parametrize("kind", KINDS)
def test_bases_are_pinned_and_the_same_in_every_stage(kind: str) -> None:
    """A tag names the version, a digest the bytes; the final stage runs what was built on the same base."""
    bases = {value.split()[0] for value in values(kind, "FROM")}
    assert len(values(kind, "FROM")) == 2
    assert len(bases) == 1
    name, _, rest = bases.pop().partition(":")
    tag, _, digest = rest.partition("@")
    assert re.search(r"\d+\.\d+\.\d+", tag)
    assert re.fullmatch(r"sha256:[0-9a-f]{64}", digest) or name in WITHOUT_DIGEST


@pytest.mark.parametrize("kind", KINDS)
def test_every_copied_file_exists_and_is_in_the_build_context(kind: str) -> None:
    """The build in the account has `containers/` of the checkout and nothing else."""
    sources = [source for source, _ in copied(kind)]
    assert sources
    for source in sources:
        assert source.exists(), source
        assert source.is_relative_to(ROOT / "containers")


@pytest.mark.parametrize("kind", KINDS)
def test_the_image_installs_its_own_requirements(kind: str) -> None:
    """The requirements file of the image's kind is the one that is copied and installed."""
    [requirements] = [source for source, _ in copied(kind) if source.suffix == ".txt"]
    assert requirements == SERVING / f"requirements-{kind}.txt"
    assert "--requirement /tmp/requirements.txt" in " ".join(values(kind, "RUN"))


@pytest.mark.parametrize("kind", KINDS)
def test_versions_agree_with_what_the_tests_run(kind: str) -> None:
    """A package has one version in the project: that of the requirements which the tests are run with."""
    tested = pinned(ROOT / "requirements-serving.txt") | pinned(ROOT / "requirements.txt")
    image = pinned(SERVING / f"requirements-{kind}.txt")
    differing = {
        name: (version, tested.get(name))
        for name, version in image.items()
        if tested.get(name) != version.removesuffix("+cpu")
    }
    assert differing == {}


@pytest.mark.parametrize("kind", KINDS)
def test_the_image_holds_every_package_that_the_server_imports(kind: str) -> None:
    """Nothing is there only because another package happens to need it."""
    provided = set(pinned(SERVING / f"requirements-{kind}.txt"))
    if kind == "neuron":
        provided |= IN_NEURON_BASE
    assert third_party_imports() - provided - {"torch_neuronx"} == set()


@cache
def third_party_imports() -> set[str]:
    """The distributions, by their normal names, that the server's modules import."""
    distributions = packages_distributions()
    files = [path for path in SERVING.rglob("*.py") if not NOT_IN_IMAGES & set(path.parts)]
    names = {name for path in files for name in imported(ast.parse(path.read_text()))}
    names -= sys.stdlib_module_names | {"containers"}
    needed = {normal(distribution) for name in names for distribution in distributions.get(name, [name])}
    return {PART_OF.get(name, name) for name in needed}


def imported(tree: ast.Module) -> Iterator[str]:
    """The top-level packages that a module imports, at any depth."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from (alias.name.partition(".")[0] for alias in node.names)
        if isinstance(node, ast.ImportFrom) and node.module and not node.level:
            yield node.module.partition(".")[0]


@pytest.mark.parametrize("kind", KINDS)
def test_the_image_runs_as_the_user_and_on_the_port_that_the_pods_expect(kind: str) -> None:
    """Never root, by number, so that `runAsNonRoot` can tell; files belong to nobody who runs."""
    assert in_final_stage(kind, "USER") == [f"{USER_ID}:{USER_ID}"]
    assert in_final_stage(kind, "EXPOSE") == [str(PORT)]
    assert environment(kind)["PORT"] == str(PORT)
    assert not any("--chown" in value for value in values(kind, "COPY"))


@pytest.mark.parametrize("kind", KINDS)
def test_the_image_listens_on_every_address_of_its_pod(kind: str) -> None:
    """Only there: the server's own default is this machine alone."""
    assert environment(kind)["HOST"] == "0.0.0.0"  # noqa: S104 - whoever can reach the pod is served


@pytest.mark.parametrize(("kind", "backend"), [("cpu", "cpu"), ("nvidia", "cuda"), ("neuron", "neuron")])
def test_the_image_starts_the_backend_of_its_accelerator(kind: str, backend: str) -> None:
    """Without further settings each image serves on its own kind of device."""
    assert environment(kind)["BACKEND"] == backend
    assert [json.loads(value) for value in in_final_stage(kind, "ENTRYPOINT")] == [
        ["python", "-m", "containers.serving"]
    ]


@pytest.mark.parametrize("kind", KINDS)
def test_no_weights_are_in_the_image(kind: str) -> None:
    """Weights come from the model store: no file of the copied tree is one, and none is downloaded."""
    weights = {".safetensors", ".bin", ".pt", ".ckpt", ".neff"}
    for source, _ in copied(kind):
        files = source.rglob("*") if source.is_dir() else [source]
        assert not [file for file in files if file.suffix in weights]
    assert not re.search(r"\b(hf|huggingface-cli|wget|curl)\b", " ".join(values(kind, "RUN")))


def health_command(kind: str) -> list[str]:
    """The command of the image's health check."""
    [value] = in_final_stage(kind, "HEALTHCHECK")
    command: list[str] = json.loads(value.partition("CMD ")[2])
    return command


@pytest.mark.parametrize("kind", KINDS)
def test_the_health_check_fails_where_nobody_listens(kind: str) -> None:
    """An unreachable server is unhealthy: the command ends with another code than 0."""
    with closing(socket.socket()) as unused:
        unused.bind(("127.0.0.1", 0))
        assert run_locally(health_command(kind), {"PORT": str(unused.getsockname()[1])}).returncode != 0


def test_the_entry_point_runs_from_the_copied_files_alone(tmp_path: Path) -> None:
    """What the image holds is enough to start, be healthy, and end with code 0 on SIGTERM."""
    for source, destination in copied("cpu"):
        if destination.is_relative_to("/app"):
            place(source, tmp_path / destination.relative_to("/"))
    with closing(socket.socket()) as probe:
        probe.bind(("127.0.0.1", 0))
        port = str(probe.getsockname()[1])
    settings = {**environment("cpu"), "PORT": port, "CACHE_DIRECTORY": str(tmp_path / "cache")}
    settings |= {"PATH": os.environ["PATH"], "PYTHONPATH": str(tmp_path / "app"), "OMP_NUM_THREADS": "1"}
    [entry_point] = in_final_stage("cpu", "ENTRYPOINT")
    command = [sys.executable, *json.loads(entry_point)[1:]]
    url = f"http://127.0.0.1:{port}"
    with running(command, url, ready_path="/health/live", timeout_seconds=60, environment=settings) as server:
        assert run_locally(health_command("cpu"), {"PORT": port}).returncode == 0
    assert server.process.returncode == 0


def place(source: Path, destination: Path) -> None:
    """Copy as COPY does: a folder's contents, or a file into a folder."""
    if source.is_dir():
        shutil.copytree(source, destination, ignore=shutil.ignore_patterns("__pycache__"))
    else:
        destination.mkdir(parents=True, exist_ok=True)
        shutil.copy(source, destination)


def run_locally(command: list[str], variables: dict[str, str]) -> "subprocess.CompletedProcess[bytes]":
    """Run a command of the image with this Python, and see what it returns."""
    assert command[0] == "python"
    return subprocess.run(
        [sys.executable, *command[1:]],
        env={**os.environ, **variables},
        capture_output=True,
        timeout=30,
        check=False,
    )
