"""From CodeBuild's event to the first node, on the embedded AWS."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

import pytest

from control_lambda import handler as tick_lambda
from control_lambda import signals
from control_lambda.aws.memory import DynamoMemory
from control_lambda.core import names
from control_lambda.core.model import State
from control_lambda.core.reasons import Code
from control_lambda.trigger import iso_time
from tests.control_lambda.conftest import NOON

if TYPE_CHECKING:
    from tests.control_lambda.conftest import Shell
    from tests.control_lambda.fake_world import Record
    from twin.cloud.embedded import Cloud

IMAGE, COMPILED = "fulcrum-image", "fulcrum-compiled"
FAST, SLOW = "fast-on-demand", "slow-on-demand"


@pytest.fixture(autouse=True)
def _fresh_process() -> Iterator[None]:
    """Every test is a cold start."""
    signals.shared_signals.cache_clear()
    tick_lambda.shared_ports.cache_clear()
    yield
    signals.shared_signals.cache_clear()
    tick_lambda.shared_ports.cache_clear()


@pytest.fixture(autouse=True)
def cloud(variables: tuple[Cloud, dict[str, str]], shell: Shell, monkeypatch: pytest.MonkeyPatch) -> Cloud:
    """A cloud whose units wait for builds: `fast` for two projects, `slow` for one of them."""
    cloud, environ = variables
    units = json.loads(environ[names.UNITS])
    units["fast"]["builds"], units["slow"]["builds"] = [IMAGE, COMPILED], [IMAGE]
    monkeypatch.setenv(names.UNITS, json.dumps(units))
    raw = shell.fleet.model_dump(mode="json", exclude_defaults=True)
    for unit in raw["units"]:
        unit["pools"][0]["nodes"]["min"] = 1
    shell.put_fleet_parameter(json.dumps(raw))
    return cloud


def build(project: str, status: str) -> dict[str, Any]:
    """Let CodeBuild tell how a build stands."""
    detail = {"project-name": project, "build-status": status}
    event = {"detail-type": signals.BUILD, "time": iso_time(NOON), "detail": detail}
    return signals.handler(event, None)


def tick(minute: int) -> Record:
    """The tick of that minute after noon."""
    return tick_lambda.handler({"time": iso_time(NOON + 60 * minute), "cause": "schedule"}, None)


def told(record: Record) -> dict[str, str]:
    """What the units are said to wait for."""
    return {
        reason["subject"]: reason["text"] for reason in record["reasons"] if reason["code"] == Code.NOT_BUILT
    }


def sized(record: Record) -> set[str]:
    """The pools that got nodes."""
    return {write["subject"] for write in record["writes"] if write["what"] == "size"}


def test_units_get_their_nodes_as_their_builds_succeed() -> None:
    """One after the other; each says what it waits for."""
    first = tick(0)
    assert told(first) == {
        "fast": "fast: gets no nodes before it is built "
        "(fulcrum-image: not heard of, fulcrum-compiled: not heard of)",
        "slow": "slow: gets no nodes before it is built (fulcrum-image: not heard of)",
    }
    assert sized(first) == set()
    assert build(IMAGE, "SUCCEEDED") == {"project": IMAGE, "status": "SUCCEEDED"}
    build(COMPILED, "IN_PROGRESS")
    second = tick(1)
    assert told(second) == {"fast": "fast: gets no nodes before it is built (fulcrum-compiled: IN_PROGRESS)"}
    assert sized(second) == {SLOW}
    build(COMPILED, "SUCCEEDED")
    third = tick(2)
    assert told(third) == {}
    assert sized(third) == {FAST}


def test_what_was_built_once_stays_built() -> None:
    """A later build that fails takes no image away."""
    build(IMAGE, "SUCCEEDED")
    build(IMAGE, "IN_PROGRESS")
    build(IMAGE, "FAILED")
    assert "slow" not in told(tick(0))


def test_a_build_that_failed_is_told_until_one_succeeds() -> None:
    """The latest word counts."""
    build(IMAGE, "IN_PROGRESS")
    build(IMAGE, "FAILED")
    assert told(tick(0))["slow"].endswith("(fulcrum-image: FAILED)")
    build(IMAGE, "SUCCEEDED")
    assert "slow" not in told(tick(1))


def test_builds_of_others_are_ignored(shell: Shell) -> None:
    """Nothing is kept of them."""
    assert build("somebody-elses", "SUCCEEDED") == {"ignored": "somebody-elses builds nothing of this fleet"}
    assert shell.item() == {}


def test_a_ticks_save_keeps_the_builds(shell: Shell) -> None:
    """They are not the tick's to change."""
    build(IMAGE, "SUCCEEDED")
    shell.memory.acquire(NOON)
    shell.memory.save(State(), ())
    assert shell.item()["builds"] == {"M": {IMAGE: {"S": "SUCCEEDED"}}}


def test_a_build_is_remembered_while_a_tick_runs(shell: Shell) -> None:
    """It needs no lease, and stops no save."""
    shell.memory.acquire(NOON)
    build(IMAGE, "SUCCEEDED")
    shell.memory.save(State(), ())
    memory = DynamoMemory(
        shell.clients.dynamodb,
        shell.environment.state_table,
        shell.environment.cluster_name,
        {"slow": (IMAGE,), "fast": (IMAGE, COMPILED)},
    )
    assert memory.acquire(NOON + 60).unbuilt == {"fast": "fulcrum-compiled: not heard of"}


def test_a_unit_without_builds_is_built(shell: Shell) -> None:
    """Such as the embedded fleets'."""
    assert shell.memory.acquire(NOON).unbuilt == {}
