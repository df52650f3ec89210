"""The asset as CDK stages it runs as Lambda runs it: awslambdaric, a Runtime API, the embedded AWS."""

import subprocess
import sys
from collections.abc import Callable, Iterator, Mapping
from contextlib import closing
from pathlib import Path
from statistics import median
from typing import Any

import numpy as np
import pytest
from aws_cdk import App

from control_lambda.fleet_file import load_fleet
from control_lambda.trigger import iso_time
from infra.control.control import MEMORY_MIB
from infra.control.release import MEMORY_MIB as RELEASE_MEMORY_MIB
from tests.infra.conftest import ROOT, settings_with
from tests.infra.control.control_stack import ControlStack, control_stack
from tests.infra.control.runtime_api import FunctionError, LambdaProcess
from twin.steering.aws import AwsSteering
from twin.world.trace import CapacityTrace, Demand, PriceTrace
from twin.world.world import EPOCH, Scenario, World

MEGABYTE = 1_000_000
TICKS = 10
FLEET = ROOT / "fleets" / "spot-twins.yaml"  # ten pools: the most that a tick has to read


@pytest.fixture(scope="module")
def assembly(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Where assets are staged."""
    return tmp_path_factory.mktemp("assembly")


@pytest.fixture(scope="module")
def stack(assembly: Path) -> ControlStack:
    """The stack with its assets staged."""
    app = App(outdir=str(assembly))
    made = control_stack(settings_with(), app=app)
    app.synth()
    return made


@pytest.fixture(scope="module")
def asset(stack: ControlStack, assembly: Path) -> Path:
    """The folder that becomes the functions' archive."""
    keys = {
        function["Properties"]["Code"]["S3Key"]
        for function in stack.of_type("AWS::Lambda::Function").values()
        if function["Properties"]["Handler"].startswith("control_lambda.")
    }
    (key,) = keys
    return assembly / f"asset.{key.removesuffix('.zip')}"


@pytest.fixture(scope="module")
def world() -> Iterator[tuple[World, AwsSteering]]:
    """A fleet of ten pools under load, on the embedded AWS, that nothing but the process steers."""
    demand = Demand(np.full(TICKS * 3, 900, np.int64), seed=1, epoch=EPOCH)
    made = World(Scenario(load_fleet(FLEET), demand, CapacityTrace({}), PriceTrace({}), seed=1))
    with closing(AwsSteering(made)) as steering:
        yield made, steering


def test_the_three_functions_share_one_asset_below_a_megabyte(asset: Path) -> None:
    """Code alone, and under the name that it has in the checkout."""
    files = [path for path in asset.rglob("*") if path.is_file()]
    assert {path.relative_to(asset).parts[0] for path in files} == {"control_lambda"}
    assert {path.suffix for path in files} == {".py"}
    assert sum(path.stat().st_size for path in files) < MEGABYTE


def test_the_asset_leaves_out_the_mixes_and_nothing_else(asset: Path) -> None:
    """No function asks which mix to have at all (decision 0009)."""
    package = ROOT / "control_lambda"
    mixes = package / "core/mix"
    expected = {path.relative_to(ROOT) for path in package.rglob("*.py") if mixes not in path.parents}
    assert {path.relative_to(asset) for path in asset.rglob("*.py")} == expected


@pytest.mark.parametrize("door", ["handler", "signals", "release"])
def test_every_function_is_importable_from_the_asset_alone(asset: Path, door: str) -> None:
    """What the asset leaves out is imported by none of them, directly or through another module."""
    code = (
        f"import sys; sys.path.insert(0, {str(asset)!r}); import control_lambda.{door} as door; "
        "ours = [m for n, m in sys.modules.items() if n.startswith('control_lambda') and m.__file__]; "
        "print('control_lambda.core.mix' in sys.modules, {m.__file__.startswith(sys.path[0]) for m in ours})"
    )
    told = subprocess.run([sys.executable, "-IB", "-c", code], check=True, capture_output=True, text=True)
    assert told.stdout.strip() == "False {True}"


def handlers(stack: ControlStack) -> Mapping[str, dict[str, Any]]:
    """The functions' properties by their handler."""
    functions = [function["Properties"] for function in stack.of_type("AWS::Lambda::Function").values()]
    return {function["Handler"]: function for function in functions}


def test_ten_ticks_run_in_the_asset_within_the_memory_that_it_gets(
    asset: Path,
    stack: ControlStack,
    world: tuple[World, AwsSteering],
    record_property: Callable[[str, object], None],
    capsys: pytest.CaptureFixture[str],
) -> None:
    """With room to spare: memory is what processor time comes with. Time is reported, not judged."""
    simulated, steering = world
    with LambdaProcess(asset, "control_lambda.handler.handler", steering.environ) as process:
        seconds = []
        for _ in range(TICKS):
            simulated.begin_minute()
            record, taken = process.invoke({"time": iso_time(simulated.now), "cause": "schedule"})
            simulated.end_minute()
            assert record["failures"] == []
            seconds.append(taken)
        peak = process.peak_memory_mib()
    assert record["tick"] == TICKS
    assert peak < 0.75 * handlers(stack)["control_lambda.handler.handler"]["MemorySize"]
    assert handlers(stack)["control_lambda.handler.handler"]["MemorySize"] == MEMORY_MIB
    record_property("peak_mib", round(peak))
    record_property("first_seconds", round(seconds[0], 2))
    record_property("median_seconds", round(median(seconds[1:]), 3))
    with capsys.disabled():
        print(  # noqa: T201, the figures that the setting rests on
            f"\nten ticks under awslambdaric: {peak:.0f} MiB at most, {seconds[0]:.2f} s with the start of "
            f"the process, then {median(seconds[1:]):.2f} s (median)"
        )


def test_signals_reads_prices_within_the_memory_that_it_gets(
    asset: Path, stack: ControlStack, world: tuple[World, AwsSteering]
) -> None:
    """Its heaviest work: the Price List answers kilobytes for each type."""
    simulated, steering = world
    with LambdaProcess(asset, "control_lambda.signals.handler", steering.environ) as process:
        answer, _ = process.invoke({"prices": True, "time": iso_time(simulated.now)})
        assert set(answer["prices"]) == set(simulated.fleet.pool_named)
        assert process.peak_memory_mib() < handlers(stack)["control_lambda.signals.handler"]["MemorySize"]


def test_release_starts_within_the_memory_that_it_gets(
    asset: Path, stack: ControlStack, world: tuple[World, AwsSteering]
) -> None:
    """Its answer goes to CloudFormation; here nobody takes it, and Lambda hears of that."""
    _, steering = world
    request = {
        "RequestType": "Create",
        "ResponseURL": "http://127.0.0.1:9/",
        "StackId": "stack",
        "RequestId": "request",
        "LogicalResourceId": "Release",
    }
    with LambdaProcess(asset, "control_lambda.release.handler", steering.environ) as process:
        with pytest.raises(FunctionError, match="URLError"):
            process.invoke(request)
        assert process.peak_memory_mib() < 0.75 * RELEASE_MEMORY_MIB
    assert handlers(stack)["control_lambda.release.handler"]["MemorySize"] == RELEASE_MEMORY_MIB


def test_a_function_that_cannot_be_imported_says_so(asset: Path) -> None:
    """As Lambda would report it."""
    with (
        LambdaProcess(asset, "control_lambda.absent.handler", {}) as process,
        pytest.raises(FunctionError, match=r"Runtime\.ImportModuleError"),
    ):
        process.invoke({})
