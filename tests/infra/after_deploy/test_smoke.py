"""The smoke test on the embedded AWS: what it waits for, what it says is wrong, and what it ends with."""

import json
from argparse import Namespace
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from aws_cdk.assertions import Template

from control_lambda.core import names
from control_lambda.core.model import EvidenceKind
from infra.__main__ import main
from infra.after_deploy import command, deployed, smoke
from infra.after_deploy.load import NO_ANSWER, Reply
from infra.after_deploy.smoke import Smoke
from tests.infra.after_deploy.simulated import Account, account
from twin.world.nodes import ZONES

SPOT, MARKET, G5 = "inf2-neuron-spot", "inf2-neuron-on-demand", "g5-eager-on-demand"
PICTURE = Reply(200, {"data": [{"b64_json": ""}], "pool": SPOT})


@pytest.fixture
def empty() -> Iterator[Account]:
    """A stack right after its deploy: no node, no tick, no request."""
    with account(0, {SPOT: 0, MARKET: 0, G5: 0}, warm_up=0) as made:
        yield made


class Balancer:
    """Instead of the load balancer: 503 until a node serves, and every request is a user's."""

    def __init__(self, fleet: Account) -> None:
        self._fleet = fleet

    def __call__(self) -> Reply:
        """Ask for a picture."""
        serving = any(self._fleet.world.nodes.ready(pool) for pool in (SPOT, MARKET, G5))
        if serving:
            return PICTURE
        self._fleet.change(1)
        return Reply(503, {"error": "no unit has capacity"})


def smoke_of(fleet: Account, lines: list[str], ask: Any = None) -> Smoke:
    """A smoke test of the fleet whose lines are kept."""
    found = deployed.find(fleet.client, "Fulcrum")
    return Smoke(fleet.client, found, ask or Balancer(fleet), fleet, lines.append)


def needing_builds(fleet: Account, built: dict[str, str]) -> None:
    """Have every unit need a build of its own name, and the loop's item know how they stand."""
    environ = fleet.cloud._environment  # noqa: SLF001 - as the stack with its builds would set it
    units = json.loads(environ[names.UNITS])
    for unit in units:
        units[unit]["builds"] = [f"build-{unit}"]
    fleet.cloud._environment = {**environ, names.UNITS: json.dumps(units)}  # noqa: SLF001 - as above
    fleet.client("dynamodb").put_item(
        TableName=environ[names.STATE_TABLE],
        Item={
            "fleet": {"S": environ[names.CLUSTER_NAME]},
            "builds": {"M": {project: {"S": state} for project, state in built.items()}},
        },
    )


def test_an_empty_stack_is_waited_for_until_its_first_picture(empty: Account) -> None:
    """The first request wakes the loop, a node starts, and a picture comes; each step is told once."""
    lines: list[str] = []
    assert smoke_of(empty, lines).serves(timeout=3600)
    steps = [line.split(": ")[0].split(" s  ")[1] for line in lines]
    assert list(dict.fromkeys(steps)) == ["builds", "first tick", "first node", "first picture"]
    assert lines[-1].endswith(f"first picture: from {SPOT}")
    assert len(lines) == len(set(lines))


def test_a_failed_build_is_named_with_its_last_line_and_the_command(empty: Account) -> None:
    """When every unit waits for one."""
    needing_builds(empty, {"build-inf2-neuron": "FAILED"})
    empty.cloud.fail_build("build-inf2-neuron", "neuronx-cc terminated: out of memory")
    lines: list[str] = []
    assert not smoke_of(empty, lines).serves(timeout=60)
    assert lines[-1].startswith(
        "FAILS builds: build-inf2-neuron FAILED: neuronx-cc terminated: out of memory"
    )
    assert "-> aws stepfunctions start-execution" in lines[-1]


def test_one_unit_that_is_built_is_enough(empty: Account) -> None:
    """The others are told of, not waited for."""
    needing_builds(empty, {"build-g5-eager": "SUCCEEDED"})
    seen = smoke_of(empty, []).builds()
    assert seen.done
    assert seen.text == "1 of 2 built; waiting: build-inf2-neuron"


def test_a_schedule_that_runs_no_ticks_is_said_to_be_wrong(empty: Account) -> None:
    """With the heading of the runbook."""
    scheduler = empty.client("scheduler")
    schedule = scheduler.get_schedule(Name="fulcrum-every-minute")
    kept = {key: schedule[key] for key in ("Name", "ScheduleExpression", "FlexibleTimeWindow", "Target")}
    scheduler.update_schedule(**kept, State="DISABLED")
    lines: list[str] = []
    assert not smoke_of(empty, lines).serves(timeout=300)
    assert lines[-1].startswith("FAILS first tick: the schedule runs every minute")
    assert lines[-1].endswith("-> docs/operating.md#no-ticks")


@pytest.mark.parametrize("kind", [EvidenceKind.SHORTAGE, EvidenceKind.QUOTA])
def test_a_refused_launch_is_told_in_awss_words_and_by_its_kind(empty: Account, kind: EvidenceKind) -> None:
    """The table of refusals says what the text means, the runbook what to do."""
    for pool in (SPOT, MARKET, G5):
        empty.world.nodes.refuse_zones(pool, ZONES, kind, empty.now() + 86400)
    lines: list[str] = []
    assert not smoke_of(empty, lines).serves(timeout=1200)
    assert lines[-1].startswith("FAILS first node: ")
    assert f": {kind}: " in lines[-1]
    assert f"-> docs/operating.md#{kind}; python -m infra preflight" in lines[-1]


def test_a_node_that_never_serves_is_named(empty: Account) -> None:
    """Once the loop has given it up, after twice as long as it should take; the pod's events say why."""
    for pool in (SPOT, MARKET, G5):
        empty.world.nodes.hang_next(pool, 10, empty.now() + 86400)
    lines: list[str] = []
    assert not smoke_of(empty, lines).serves(timeout=900)
    assert "never serve: given up after 4 minutes" in lines[-1]
    assert "-> kubectl -n fulcrum describe pods" in lines[-1]


def test_a_load_balancer_out_of_reach_is_told_apart(empty: Account) -> None:
    """An internal one answers only inside its VPC."""
    assert (
        smoke_of(empty, [], lambda: Reply(NO_ANSWER, {}))
        .picture()
        .wrong.endswith("cannot be reached from here")
    )
    seen = smoke_of(empty, [], lambda: Reply(500, {"error": "boom"})).picture()
    assert seen.wrong == 'it answers 500: {"error": "boom"}'


def arguments(out: Path) -> Namespace:
    """A smoke test's arguments."""
    return Namespace(
        command="smoke", stack=None, region=None, endpoint="http://fleet", timeout=3600.0, out=out
    )


@pytest.mark.parametrize(("alike", "code"), [(True, 0), (False, 1)])
def test_units_that_serve_are_compared_with_each_other(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, *, alike: bool, code: int
) -> None:
    """Only those that get traffic and have a node; different pictures fail the test."""
    asked: list[object] = []

    def compare(units: object, url: str, out: Path) -> int:
        asked.append((units, url, out))
        return 0 if alike else 1

    monkeypatch.setattr(smoke, "compare", compare)
    monkeypatch.setattr(command, "request_picture", lambda *_, **__: PICTURE)
    monkeypatch.setattr(Smoke, "serving_units", lambda _: ["inf2-neuron", "g5-eager"])
    lines: list[str] = []
    with account(120, {SPOT: 1, MARKET: 0, G5: 1}, warm_up=2) as made:
        ended = command.run(
            arguments(tmp_path), lambda _: "Fulcrum", lines.append, command.Hands(made.client, made)
        )
    assert ended == code
    assert asked == [(["inf2-neuron", "g5-eager"], "http://fleet", tmp_path)]
    assert lines[-1].startswith("Fulcrum serves at" if alike else "FAILS comparison")


def test_what_commands_look_for_is_what_the_stack_holds(template: Template) -> None:
    """By kind and beginning of the logical id: one function, schedule, group and state machine."""
    resources = template.to_json()["Resources"]
    found = {
        key: [name for name, each in resources.items() if each["Type"] == key[0] and name.startswith(key[1])]
        for key in (
            deployed.TICK,
            deployed.SCHEDULE,
            deployed.UNREACHABLE,
            deployed.BUILDS,
            deployed.TEMPLATES,
        )
    }
    assert {key[1]: len(names_) for key, names_ in found.items()} == {
        "ControlTick": 1,
        "ControlEveryMinute": 1,
        "ExperimentsUnreachable": 1,
        "Images": 1,
        "Experiments": 2,
    }


@pytest.mark.parametrize("timeout", ["0", "-1", "nan"])
def test_a_timeout_that_is_none_is_refused(timeout: str, capsys: pytest.CaptureFixture[str]) -> None:
    """One line, exit code 2."""
    assert main(["smoke", "--timeout", timeout]) == 2
    assert "--timeout: " in capsys.readouterr().err
