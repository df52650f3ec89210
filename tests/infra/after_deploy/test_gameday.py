"""Game days on the embedded AWS: each scenario is played, told and undone, whatever happens in between."""

import json
from argparse import Namespace
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from infra.__main__ import main
from infra.after_deploy import command
from infra.after_deploy.deployed import find
from infra.after_deploy.gameday import GameDay, Plan
from infra.after_deploy.guard import Guard
from infra.after_deploy.prediction import predict
from infra.after_deploy.troubles import SCENARIOS, TroubleError, trouble_of
from tests.infra.after_deploy.simulated import Account, account, prediction

SPOT, MARKET = "inf2-neuron-spot", "inf2-neuron-on-demand"
RPM = 400


@pytest.fixture
def fleet() -> Iterator[Account]:
    """A fleet that serves 200 requests a minute."""
    with account(200, {SPOT: 1, MARKET: 2}, warm_up=2) as made:
        yield made


def given(out: Path, scenario: str, **changes: object) -> Namespace:
    """The arguments of a game day."""
    usual: dict[str, object] = {"stack": None, "region": None, "endpoint": "http://fleet", "load": float(RPM)}
    usual |= {"minutes": 6, "yes": True, "hard": False, "out": out, "scenario": scenario}
    return Namespace(command="gameday", **(usual | changes))


def hands(fleet: Account, answer: str = "no") -> command.Hands:
    """The simulated account's clock and users; who is asked says `answer`."""
    return command.Hands(fleet.client, fleet, lambda _: fleet, prediction, lambda _: answer, 1, 2)


def run(fleet: Account, arguments: Namespace, answer: str = "no") -> tuple[int, list[str]]:
    """A game day's exit code and lines."""
    lines: list[str] = []
    code = command.run(arguments, lambda _: "Fulcrum", lines.append, hands(fleet, answer))
    return code, lines


def is_undone(fleet: Account) -> bool:
    """Whether nothing of any scenario is left: no experiment, no note, ticks, a table, nodes that serve."""
    deployed = find(fleet.client, "Fulcrum")
    experiments = fleet.client("fis").list_experiments()["experiments"]
    table = fleet.client("dynamodb").describe_table(TableName=deployed.state_table)["Table"]["TableArn"]
    with pytest.raises(Exception, match="PolicyNotFoundException"):
        fleet.client("dynamodb").get_resource_policy(ResourceArn=table)
    return (
        fleet.cloud.ticks_run()
        and not any(each["state"]["status"] == "running" for each in experiments)
        and not fleet.cloud.client("ssm").describe_parameters(
            ParameterFilters=[{"Key": "Name", "Values": [deployed.game_day_parameter]}]
        )["Parameters"]
        and all(
            node.dead_at > fleet.now() for pool in (SPOT, MARKET) for node in fleet.world.nodes.existing(pool)
        )
    )


def told(out: Path) -> dict[str, Any]:
    """What report.json says."""
    read: dict[str, Any] = json.loads((out / "report.json").read_text(encoding="utf-8"))
    return read


def codes(report: dict[str, Any], since: float) -> set[str]:
    """The reasons that the loop gave from then on."""
    return {reason["code"] for reason in report["reasons"] if reason["seconds"] >= since}


EXPECTED: dict[str, Callable[[dict[str, Any]], bool]] = {
    "shortage": lambda report: {"launch-refused", "capacity-mode"} <= codes(report, 60),
    "spot-loss": lambda report: "interrupted" in codes(report, 60),
    "node-death": lambda report: report["harmed"]["interface"].startswith("eni-"),
    "tick-stop": lambda report: (
        not [
            share
            for share in report["shares"]
            if 60 < share["seconds"] < report["measured"]["phases"][1]["to"]
        ]
    ),
    "table-throttle": lambda report: report["harmed"]["table"].endswith("table/fulcrum-state"),
}


@pytest.mark.parametrize("scenario", SCENARIOS)
def test_a_scenario_is_played_to_its_report_and_undone(fleet: Account, tmp_path: Path, scenario: str) -> None:
    """Before, during, after; what the loop did; the twin beside it; and nothing is left of it."""
    code, lines = run(fleet, given(tmp_path, scenario))
    assert code == 0, lines
    report = told(tmp_path)
    assert [phase["name"] for phase in report["measured"]["phases"]] == ["before", "during", "after"]
    assert all(phase["requests"] for phase in report["measured"]["phases"])
    assert EXPECTED[scenario](report), report["reasons"]
    assert report["predicted"]["phases"][1]["attainment"] == 1.0
    assert "<h1>Game day:" in (tmp_path / "report.html").read_text(encoding="utf-8")
    assert is_undone(fleet)


def test_a_node_that_dies_hard_is_terminated(fleet: Account, tmp_path: Path) -> None:
    """By Fault Injection, behind its group's back."""
    before = {node.id for node in fleet.world.nodes.members(SPOT)}
    code, _ = run(fleet, given(tmp_path, "node-death", hard=True, minutes=2))
    assert code == 0
    assert before - {node.id for node in fleet.world.nodes.members(SPOT)}
    assert is_undone(fleet)


class Interrupting:
    """A clock that raises Ctrl-C after some minutes."""

    def __init__(self, fleet: Account, minutes: int) -> None:
        self._fleet = fleet
        self._left = minutes

    def now(self) -> float:
        """The account's time."""
        return self._fleet.now()

    def sleep(self, seconds: float) -> None:
        """Let a minute pass, or end it all."""
        if self._left == 0:
            raise KeyboardInterrupt
        self._left -= 1
        self._fleet.sleep(seconds)


@pytest.mark.parametrize("scenario", SCENARIOS)
def test_what_began_is_ended_when_somebody_interrupts(fleet: Account, tmp_path: Path, scenario: str) -> None:
    """In the middle of trouble: exit code 130, and nothing is left."""
    used = command.Hands(fleet.client, Interrupting(fleet, 2), lambda _: fleet, prediction, before_minutes=1)
    lines: list[str] = []
    code = command.run(given(tmp_path, scenario), lambda _: "Fulcrum", lines.append, used)
    assert code == command.INTERRUPTED
    assert any(line.startswith("trouble begins") for line in lines)
    assert is_undone(fleet)


@pytest.mark.parametrize("scenario", SCENARIOS)
def test_the_next_start_ends_what_a_killed_game_day_left(
    fleet: Account, tmp_path: Path, scenario: str
) -> None:
    """The note that it left behind says what."""
    deployed = find(fleet.client, "Fulcrum")
    trouble = trouble_of(scenario, fleet.client, deployed)
    note = trouble.prepare()
    Guard(fleet.client, deployed).take(scenario, note, hard=False)
    trouble.begin(note, fleet.now() + 3600)
    code, lines = run(fleet, given(tmp_path, scenario, yes=False))
    assert lines[0] == f"ended what an earlier game day left behind: {scenario}"
    assert lines[-1] == "nothing was begun"
    assert code == 1
    assert is_undone(fleet)


@pytest.mark.parametrize("scenario", ["tick-stop", "table-throttle"])
def test_trouble_ends_by_itself_when_nobody_is_left_to_end_it(fleet: Account, scenario: str) -> None:
    """The schedule starts again and the denial lapses at the time set beforehand."""
    trouble = trouble_of(scenario, fleet.client, find(fleet.client, "Fulcrum"))
    note = trouble.prepare()
    trouble.begin(note, fleet.now() + 120)
    before = len(fleet.ticks)
    fleet.sleep(120)
    assert len(fleet.ticks) == before
    fleet.sleep(180)
    assert len(fleet.ticks) > before


def test_an_alarm_that_means_harm_ends_the_day(fleet: Account, tmp_path: Path) -> None:
    """At once, with a report of what was seen until then, and exit code 1."""

    def ring() -> None:
        if len(fleet.ticks) >= 6:
            fleet.cloud.ring("objective-missed")

    fleet.world.observe(lambda *_: ring())
    code, lines = run(fleet, given(tmp_path, "shortage"))
    assert code == 1
    assert "Fulcrum-objective-missed rings: this harms users, so it ends here" in lines
    assert told(tmp_path)["ended_by"] == "Fulcrum-objective-missed"
    assert is_undone(fleet)


def test_a_fleet_that_already_harms_its_users_is_left_alone(
    fleet: Account, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Nothing begins while an alarm rings."""
    fleet.cloud.ring("no-ready-unit")
    code, lines = run(fleet, given(tmp_path, "shortage"))
    assert (code, lines) == (1, [])
    assert "Fulcrum-no-ready-unit rings already; valid:" in capsys.readouterr().err


def test_it_says_what_it_costs_and_asks(fleet: Account, tmp_path: Path) -> None:
    """Whoever does not say yes has begun nothing."""
    code, lines = run(fleet, given(tmp_path, "shortage", yes=False))
    assert code == 1
    assert any(line.startswith("Cost: at most") for line in lines)
    assert lines[-1] == "nothing was begun"
    assert not (tmp_path / "report.json").exists()
    assert run(fleet, given(tmp_path, "shortage", yes=False, minutes=1), answer="y")[0] == 0


def test_a_scenario_that_the_stack_cannot_play_is_refused(fleet: Account) -> None:
    """Such as the loss of spot nodes where the fleet has none; what would be valid is told."""
    deployed = find(fleet.client, "Fulcrum")
    without = type(deployed)(
        **{name: getattr(deployed, name) for name in deployed.__slots__} | {"templates": ()}
    )
    with pytest.raises(TroubleError, match="holds no experiment spot-loss; valid: a fleet with a spot pool"):
        trouble_of("spot-loss", fleet.client, without)


def test_two_game_days_do_not_overlap(fleet: Account) -> None:
    """The second finds the first one's note."""
    deployed = find(fleet.client, "Fulcrum")
    Guard(fleet.client, deployed).take("tick-stop", {}, hard=False)
    trouble = trouble_of("tick-stop", fleet.client, deployed)
    plan = Plan(scenario="tick-stop", rpm=RPM, minutes=1, before=1, after=1)
    day = GameDay(fleet.client, deployed, plan, trouble, fleet, lambda _: None)
    with pytest.raises(Exception, match="another game day is under way"):
        day.play(fleet)


@pytest.mark.parametrize(
    ("arguments", "told_"),
    [
        (["--scenario", "flood"], "--scenario: 'flood'; valid: shortage, spot-loss, node-death"),
        (["--scenario", "shortage", "--minutes", "-3"], "--minutes: -3; valid: 1 to 60"),
        (["--scenario", "shortage", "--load", "0"], "--load: 0; valid: above 0"),
        (["--scenario", "shortage", "--load", "nan"], "--load: nan; valid: above 0"),
        (["--scenario", "shortage", "--hard"], "--hard with shortage; valid: with node-death alone"),
        (["--scenario", "shortage", "--endpoint", "fleet"], "--endpoint: 'fleet'; valid: http://HOST"),
        (["--scenario", "shortage", "--out", "fleet.yaml"], "--out: fleet.yaml is a file; valid: a folder"),
    ],
)
def test_bad_input_is_one_line_and_exit_code_2(
    arguments: list[str], told_: str, capsys: pytest.CaptureFixture[str]
) -> None:
    """Before anything is asked of AWS."""
    assert main(["gameday", *arguments]) == 2
    lines = capsys.readouterr().err.splitlines()
    assert len(lines) == 1
    assert told_ in lines[0]


def test_a_game_day_without_a_deployment_is_refused(
    fleet: Account, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """One line, exit code 2."""
    code, _ = run(fleet, given(tmp_path, "shortage", stack="Nowhere"))
    assert code == 2
    assert "stack Nowhere: not deployed here; valid: the name of a deployed stack" in capsys.readouterr().err


def test_the_twin_plays_the_same_hour(tmp_path: Path) -> None:
    """In a process of its own, whose figures have the names of the measured ones."""
    with account(60, warm_up=0) as made:
        hour = prediction_hour(made)
    found = predict(hour, tmp_path)
    assert "error" not in found
    assert [phase["name"] for phase in found["phases"]] == ["before", "during", "after"]
    assert found["phases"][2]["requests"] == pytest.approx(120, abs=60)
    assert found["cost_usd"] > 0


def prediction_hour(made: Account) -> Any:
    """An hour of the simulated fleet, with all its ticks missing."""
    from infra.after_deploy.prediction import Hour  # noqa: PLC0415 - named beside what it is for

    return Hour(made.world.fleet, 60, 60, 1, 2, 2, {"what": "ticks-missing"})
