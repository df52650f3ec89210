import ast
import json
import os
import re
import shlex
import shutil
import subprocess
import sys
from importlib.metadata import packages_distributions
from pathlib import Path

from containers.serving.server_process import running
from infra.builds.images import DOCKERFILES
from infra.manifests.common import PORT, USER_ID
from tests.containers.router.fake_pods import FLEET
from tests.containers.serving.running import free_port
from tests.containers.serving.test_images import Instruction, imported, normal, parsed, pinned

ROOT = Path(__file__).parents[3]
ROUTER = ROOT / "containers/router"
REQUIREMENTS = ROUTER / "requirements.txt"
# Published together with the package that uses or re-exports it.
PART_OF = {"botocore": "boto3"}


def instructions() -> list[Instruction]:
    """Those of the router's Dockerfile."""
    return parsed((ROOT / DOCKERFILES["router"]).read_text())


def final_stage() -> dict[str, list[str]]:
    """The final stage's values, by instruction."""
    every = instructions()
    last = max(index for index, instruction in enumerate(every) if instruction.name == "FROM")
    found: dict[str, list[str]] = {}
    for instruction in every[last:]:
        found.setdefault(instruction.name, []).append(instruction.value)
    return found


def copied() -> list[tuple[Path, Path]]:
    """What comes from the checkout: where it is, and where the image has it."""
    values = [one.value.split() for one in instructions() if one.name == "COPY" and "--from" not in one.value]
    return [(ROOT / source, Path(destination)) for source, destination in values]


def test_the_base_is_pinned_and_that_of_the_serving_image() -> None:
    """By version and digest; both stages and both images stand on the same bytes."""
    serving = parsed((ROOT / DOCKERFILES["cpu"]).read_text())
    bases = {one.value.split()[0] for one in (*instructions(), *serving) if one.name == "FROM"}
    (base,) = bases
    assert re.search(r":\d+\.\d+\.\d+\S*@sha256:[0-9a-f]{64}$", base)


def test_every_copied_file_exists_and_is_in_the_build_context() -> None:
    """The build in the account has `containers/` and nothing else."""
    sources = [source for source, _ in copied()]
    assert REQUIREMENTS in sources
    assert all(source.exists() and source.is_relative_to(ROOT / "containers") for source in sources)


def test_it_runs_as_the_user_on_the_port_and_by_the_command_that_the_pods_expect() -> None:
    """Never root; the manifest's command is the image's own."""
    stage = final_stage()
    assert stage["USER"] == [f"{USER_ID}:{USER_ID}"]
    assert stage["EXPOSE"] == [str(PORT)]
    assert json.loads(stage["ENTRYPOINT"][0]) == ["python", "-m", "containers.router"]


def test_it_listens_on_every_address_of_its_pod() -> None:
    """Only there: the router's own default is this machine alone."""
    pairs = [pair for value in final_stage()["ENV"] for pair in shlex.split(value)]
    assert "HOST=0.0.0.0" in pairs


def test_versions_agree_with_what_the_tests_run() -> None:
    """A package has one version in the project."""
    tested = pinned(ROOT / "requirements-serving.txt") | pinned(ROOT / "requirements.txt")
    image = pinned(REQUIREMENTS)
    assert {name: tested.get(name) for name in image} == image


def test_it_holds_every_package_that_the_router_imports_and_no_other() -> None:
    """Nothing is there only because another package happens to need it."""
    distributions = packages_distributions()
    names = {name for path in ROUTER.glob("*.py") for name in imported(ast.parse(path.read_text()))}
    names -= sys.stdlib_module_names | {"containers"}
    needed = {normal(distribution) for name in names for distribution in distributions[name]}
    assert {PART_OF.get(name, name) for name in needed} == set(pinned(REQUIREMENTS))


def test_the_entry_point_runs_from_the_copied_files_alone(tmp_path: Path) -> None:
    """What the image holds is enough to start and be healthy; it ends with code 0 on SIGTERM."""
    for source, destination in copied():
        if destination.is_relative_to("/app"):
            place(source, tmp_path / destination.relative_to("/"))
    stage = final_stage()
    port = str(free_port())
    pairs = [pair for value in stage["ENV"] for pair in shlex.split(value)]
    settings = {
        **dict(pair.split("=", 1) for pair in pairs),
        "PATH": os.environ["PATH"],
        "PYTHONPATH": str(tmp_path / "app"),
        "PORT": port,
        "FLEET_JSON": json.dumps(FLEET),
        "ENDPOINTS": "fast=http://127.0.0.1:1",
    }
    command = [sys.executable, *json.loads(stage["ENTRYPOINT"][0])[1:]]
    check = [sys.executable, *json.loads(stage["HEALTHCHECK"][0].partition("CMD ")[2])[1:]]
    url = f"http://127.0.0.1:{port}"
    with running(command, url, timeout_seconds=60, environment=settings) as server:
        assert subprocess.run(check, env={**os.environ, "PORT": port}, check=False).returncode == 0
    assert server.process.returncode == 0
    assert (
        subprocess.run(
            check, env={**os.environ, "PORT": port}, check=False, stderr=subprocess.DEVNULL
        ).returncode
        != 0
    )


def place(source: Path, destination: Path) -> None:
    """Copy as COPY does: a folder's contents, or a file into a folder."""
    if source.is_dir():
        shutil.copytree(source, destination, ignore=shutil.ignore_patterns("__pycache__"))
    else:
        destination.mkdir(parents=True, exist_ok=True)
        shutil.copy(source, destination)
