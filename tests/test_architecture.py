"""The arrows of the house: imports run downwards only, and the core is pure.

import-linter holds the arrows between the packages that exist (its contracts stand in
pyproject.toml); the walk below adds what its graph can't show: the standard library's clocks and
doors, pydantic's one place, and the arrows of packages that are still to come.
"""

import ast
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
OURS = frozenset({"app", "containers", "control_lambda", "infra", "tests", "twin"})

# What each package may import of ours; tests may import everything.
ARROWS = {
    "app": ("infra",),
    "infra": ("infra", "control_lambda.core", "control_lambda.fleet_file"),
    "control_lambda": ("control_lambda",),
    "containers": ("containers",),
    "twin": ("twin", "control_lambda", "containers.router.matching", "containers.serving.deadline"),
}
# Modules of the standard library that reach a clock, chance, the environment or the world outside.
IMPURE = frozenset(
    {"asyncio", "http", "logging", "multiprocessing", "os", "pathlib", "random", "secrets", "shutil"}
    | {"socket", "ssl", "subprocess", "sys", "tempfile", "threading", "time", "urllib", "uuid"}
)
CLOCKS = frozenset(
    f"{owner}.{name}"
    for owner in ("date", "datetime", "datetime.date", "datetime.datetime")
    for name in ("now", "today", "utcnow")
)
DOORS = frozenset({"input", "open", "print"})

# A module for every room that a test breaks a rule of, or is needed to break one.
SMALL_HOUSE = {
    "control_lambda/core/fleet.py": "import json\n\nimport pydantic\n",
    "control_lambda/core/demand/worth.py": "from control_lambda.core import fleet\n",
    "control_lambda/ports.py": "from control_lambda.core import fleet\n",
    "control_lambda/fleet_file.py": "import yaml\n",
    "control_lambda/aws/world.py": "import boto3\n",
    "control_lambda/loop.py": "from control_lambda import ports\n",
    "control_lambda/handler.py": "from control_lambda import ports\n",
    "twin/world/plant.py": "import numpy\n\nfrom control_lambda import ports\n",
    "twin/steering/replay.py": "from twin.world import plant\n",
    "containers/router/matching.py": "import numpy\n",
    "infra/catalog.py": "from control_lambda.core import fleet\n",
    "infra/settings.py": "from control_lambda import fleet_file\nfrom infra import catalog\n",
    "infra/network.py": "import aws_cdk\n\nfrom infra import settings\n",
}


def module_name(path: Path) -> str:
    """The dotted name of the module in the file `path`, relative to the checkout."""
    parts = path.with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


def imports(tree: ast.Module, path: Path) -> Iterator[tuple[int, str]]:
    """Line and full dotted name of everything that the module imports, at any depth."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from ((node.lineno, alias.name) for alias in node.names)
        if isinstance(node, ast.ImportFrom):
            package = ".".join(path.parent.parts[: len(path.parent.parts) + 1 - node.level])
            base = ".".join(filter(None, (package if node.level else "", node.module)))
            yield from ((node.lineno, f"{base}.{alias.name}") for alias in node.names)


def is_within(name: str, packages: tuple[str, ...]) -> bool:
    """Whether the dotted name is one of the packages or inside one."""
    return any(name == package or name.startswith(f"{package}.") for package in packages)


def wrong_arrow(name: str, path: Path) -> str | None:
    """Why the module in `path` may not import `name`, if it may not."""
    package = module_name(path).partition(".")[0]
    if package == "tests" or name.partition(".")[0] not in OURS:
        return None
    allowed = ARROWS[package]
    return None if is_within(name, allowed) else f"imports {name}; of ours it may import {', '.join(allowed)}"


def impure_import(name: str, path: Path) -> str | None:
    """Why the core's module in `path` may not import `name`, if it may not."""
    top = name.partition(".")[0]
    if is_within(name, ("control_lambda.core",)):
        return None
    if top in {"pydantic", "pydantic_core"} and path.name == "fleet.py":
        return None
    if top in sys.stdlib_module_names and top not in IMPURE:
        return None
    return f"imports {name}; the core may import itself and the pure standard library, fleet.py pydantic"


def impure_uses(tree: ast.Module) -> Iterator[tuple[int, str]]:
    """Line and name of each clock that the module reads and each door that it opens."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Attribute) and ast.unparse(node) in CLOCKS:
            yield node.lineno, f"reads a clock: {ast.unparse(node)}; the snapshot's `at` is now"
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id in DOORS:
            yield node.lineno, f"calls {node.func.id}; the core only computes"


def violations(root: Path) -> list[str]:
    """Every broken rule under `root`, as path:line: what is wrong."""
    found = []
    for path in sorted(path.relative_to(root) for name in OURS for path in modules(root, name)):
        tree = ast.parse((root / path).read_text(encoding="utf-8"))
        in_core = path.parts[:2] == ("control_lambda", "core")
        for line, name in imports(tree, path):
            wrong = wrong_arrow(name, path) or (impure_import(name, path) if in_core else None)
            found += [f"{path}:{line}: {wrong}"] if wrong else []
        if in_core:
            found += [f"{path}:{line}: {wrong}" for line, wrong in impure_uses(tree)]
    return found


def modules(root: Path, name: str) -> Iterator[Path]:
    """The files of one of our packages, or the module of that name, where it exists."""
    yield from (root / name).rglob("*.py")
    yield from root.glob(f"{name}.py")


def linted(root: Path) -> subprocess.CompletedProcess[str]:
    """Run import-linter's contracts over the checkout at `root`."""
    command = "from importlinter.cli import lint_imports_command; lint_imports_command()"
    return subprocess.run(
        [sys.executable, "-c", command, "--no-logo", "--no-cache"],
        cwd=root,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )


def write_module(root: Path, path: str, source: str) -> None:
    """Write one module, making its packages on the way."""
    file = root / path
    file.parent.mkdir(parents=True, exist_ok=True)
    for folder in file.relative_to(root).parents[:-1]:
        (root / folder / "__init__.py").touch()
    file.write_text(source, encoding="utf-8")


@pytest.fixture
def small_house(tmp_path: Path) -> Path:
    """A house in order, with the project's own contracts, for a test to break."""
    (tmp_path / "pyproject.toml").write_text((ROOT / "pyproject.toml").read_text("utf-8"), "utf-8")
    for path, source in SMALL_HOUSE.items():
        write_module(tmp_path, path, source)
    return tmp_path


def test_the_house_breaks_no_rule() -> None:
    """Imports run downwards only and the core is pure."""
    assert violations(ROOT) == []


def test_the_house_keeps_its_import_contracts() -> None:
    """The contracts in pyproject.toml hold."""
    result = linted(ROOT)
    assert result.returncode == 0, result.stdout + result.stderr


def test_a_house_in_order_passes(small_house: Path) -> None:
    """What the rules allow is not reported."""
    assert violations(small_house) == []
    result = linted(small_house)
    assert result.returncode == 0, result.stdout + result.stderr


@pytest.mark.parametrize(
    ("path", "source"),
    [
        ("control_lambda/core/demand/counts.py", "import boto3\n"),
        ("control_lambda/core/demand/counts.py", "import numpy as np\n"),
        ("control_lambda/core/demand/counts.py", "import pydantic\n"),
        ("control_lambda/core/demand/counts.py", "import time\n"),
        ("control_lambda/core/demand/counts.py", "def f():\n    from os import environ\n"),
        ("control_lambda/core/demand/counts.py", "import random\n"),
        ("control_lambda/core/demand/counts.py", "from urllib import request\n"),
        ("control_lambda/core/demand/counts.py", "from control_lambda import ports\n"),
        ("control_lambda/core/demand/counts.py", "from ... import ports\n"),
        ("control_lambda/core/demand/counts.py", "from datetime import datetime\nx = datetime.now()\n"),
        ("control_lambda/core/demand/counts.py", "x = open('fleet.yaml')\n"),
        ("control_lambda/loop.py", "from twin.world import plant\n"),
        ("control_lambda/loop.py", "import infra.stack\n"),
        ("twin/steering/other.py", "import infra\n"),
        ("infra/network.py", "from twin.world import plant\n"),
        ("twin/steering/other.py", "from containers.serving import server\n"),
        ("infra/stack.py", "from control_lambda import aws\n"),
        ("containers/router/proxy.py", "from control_lambda.core import names\n"),
        ("app.py", "import control_lambda\n"),
    ],
)
def test_a_broken_rule_is_reported_with_its_place(small_house: Path, path: str, source: str) -> None:
    """Each rule can fail, and says where."""
    write_module(small_house, path, source)
    assert [found.partition(":")[0] for found in violations(small_house)] == [path]


@pytest.mark.parametrize(
    ("path", "source"),
    [
        ("twin/cloud/embedded.py", "from control_lambda import handler, fleet_file\nimport moto\n"),
        ("infra/stack.py", "from control_lambda.fleet_file import load_fleet\nimport infra.network\n"),
        ("containers/router/proxy.py", "from containers.router import matching\n"),
        ("twin/mixes/central.py", "from containers.router.matching import assign\n"),
        ("twin/world/queues.py", "from containers.serving.deadline import fits\n"),
        ("app.py", "from infra.stack import Stack\n"),
        ("control_lambda/core/demand/counts.py", "def f(forecast):\n    return forecast.now\n"),
    ],
)
def test_an_arrow_of_the_house_is_allowed(small_house: Path, path: str, source: str) -> None:
    """The arrows that the design draws are no violation."""
    write_module(small_house, path, source)
    assert violations(small_house) == []


@pytest.mark.parametrize(
    ("path", "source", "contract"),
    [
        ("control_lambda/signals.py", "from twin.world import plant\n", "The twin imports"),
        (
            "control_lambda/signals.py",
            "from control_lambda import fleet_file\n",
            "no handler imports fleet_file",
        ),
        ("control_lambda/aws/world.py", "from control_lambda import handler\n", "imports run downwards"),
        ("control_lambda/aws/world.py", "from control_lambda import loop\n", "The loop and the AWS"),
        ("control_lambda/loop.py", "from control_lambda import aws\n", "The loop and the AWS"),
        ("control_lambda/core/demand/counts.py", "import boto3\n", "The core imports no AWS"),
        ("control_lambda/loop.py", "import scipy\n", "heavy libraries"),
        ("control_lambda/elsewhere.py", "", "imports run downwards"),
        ("control_lambda/core/elsewhere.py", "", "A decision is made of rooms"),
        (
            "control_lambda/core/fleet.py",
            "from control_lambda.core.demand import worth\n",
            "A decision is made",
        ),
        ("control_lambda/aws/elsewhere.py", "", "each AWS subject stands alone"),
        ("twin/elsewhere.py", "", "The twin's world knows nothing"),
        ("twin/world/plant.py", "from twin.steering import replay\n", "The twin's world knows nothing"),
        ("infra/elsewhere.py", "", "The stack is composed of rooms"),
        ("infra/catalog.py", "from infra import network\n", "The stack is composed of rooms"),
        ("control_lambda/loop.py", "from infra import catalog\n", "nothing imports infra"),
        ("twin/steering/other.py", "from infra import catalog\n", "nothing imports infra"),
        ("infra/network.py", "from control_lambda import ports\n", "infra shares only"),
        ("infra/settings.py", "import aws_cdk\n", "without starting the CDK"),
    ],
)
def test_a_broken_contract_is_named(small_house: Path, path: str, source: str, contract: str) -> None:
    """Each import contract can fail, and says which one it was."""
    write_module(small_house, path, source)
    result = linted(small_house)
    broken = [line for line in result.stdout.splitlines() if " BROKEN" in line]
    assert result.returncode == 1
    assert any(contract in line for line in broken), result.stdout + result.stderr
