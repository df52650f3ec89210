import json
import re
from pathlib import Path

import pytest
import yaml

from control_lambda.core.traffic.policies import POLICIES
from twin import traces
from twin.__main__ import main
from twin.cli import account, demo
from twin.steering.baselines import BASELINES
from twin.world.kinds import KINDS

ROOT = Path(__file__).parents[3]
FLEET = str(ROOT / "fleet.yaml")
SHORT = [
    "--fleet",
    FLEET,
    "--demand",
    str(traces.DEMAND),
    "--minutes",
    "30",
    "--start",
    "600",
    "--scale",
    "0.3",
]
CAPACITY = ["--capacity", str(traces.CAPACITY)]
SUMMARY_KEYS = [
    *("policy", "seed", "minutes", "requests", "served", "failed", "slo_attainment", "p50_seconds"),
    *("p95_seconds", "p99_seconds", "cost_usd", "cost_per_thousand_usd", "oracle_cost_usd"),
    *("cost_over_oracle", "flips", "node_launches", "launches_refused", "unmet_request_minutes"),
    *("failover_seconds", "failback_seconds", "ticks", "tick_ms_p50", "tick_ms_p99", "phases"),
]
COMMANDS = [
    "replay",
    "compare",
    "plan",
    "explain",
    "report",
    "demo",
    "trouble",
    "bench",
    "aws",
    "status",
    "pause",
    "resume",
]


def run(*arguments: object) -> int:
    """Run the command line; the exit code."""
    try:
        return main([str(argument) for argument in arguments])
    except SystemExit as left:
        return left.code if isinstance(left.code, int) else 1


def told_in_one_line(capsys: pytest.CaptureFixture[str]) -> str:
    """What the command said on standard error, which has to be one line."""
    lines = capsys.readouterr().err.splitlines()
    assert len(lines) == 1, lines
    return lines[0]


def test_a_replay_leaves_its_figures_decisions_minutes_and_a_report(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """The folder holds the files of the contract, and the output ends with what to do next."""
    out = tmp_path / "new" / "out"
    capacity = [*CAPACITY, "--map", "inf2-neuron-on-demand=inf2", "g5-eager-on-demand=g5@60"]
    assert run("replay", *SHORT, *capacity, "--seed", 3, "--start-seconds", 120, "--out", out) == 0
    summary = json.loads((out / "summary.json").read_text())
    records = [json.loads(line) for line in (out / "decisions.jsonl").read_text().splitlines()]
    assert list(summary) == SUMMARY_KEYS
    assert (summary["policy"], summary["seed"], summary["minutes"]) == ("merit-order", 3, 15)
    assert summary["oracle_cost_usd"] is None
    assert len(records) == summary["ticks"] == 30
    assert len(json.loads((out / "minutes.json").read_text())["requests"]) == 30
    assert (out / "report.html").read_text().startswith("<!DOCTYPE html>")
    assert not (out / "compare.json").exists()
    assert "Next: open" in capsys.readouterr().out


def test_trouble_cuts_a_replay_into_phases_and_stands_in_the_report(tmp_path: Path) -> None:
    """From the first minute on, half-open, with what users got and what it cost in each."""
    file = tmp_path / "trouble.yaml"
    dies = "{at: 10, minutes: 10, what: node-dead, pool: inf2-neuron-on-demand, share: 1}"
    file.write_text(f"trouble: [{dies}, {{at: 20, what: note, text: after <all>}}]", encoding="utf-8")
    out = tmp_path / "out"
    assert run("replay", *SHORT, "--trouble", file, "--retries", 1, "--out", out) == 0
    summary = json.loads((out / "summary.json").read_text())
    phases = summary["phases"]
    assert [(phase["name"], phase["from"], phase["to"]) for phase in phases] == [
        ("before", 0, 10),
        ("node-dead@10", 10, 20),
        ("note@20", 20, 30),
    ]
    minutes = json.loads((out / "minutes.json").read_text())
    assert sum(phase["requests"] for phase in phases) == sum(minutes["requests"])
    assert sum(phase["cost_usd"] for phase in phases) == pytest.approx(sum(minutes["cost_usd"]), abs=1e-4)
    assert phases[1]["failed"] > phases[0]["failed"]
    assert "text after &lt;all&gt;, to the end" in (out / "report.html").read_text()
    assert (run("report", out), minutes["ready"]["inf2-neuron-on-demand"][10]) == (0, 0)


def test_servers_that_queue_are_another_world(tmp_path: Path) -> None:
    """With servers that refuse no answer comes late; the choice stands in the report."""
    summaries = []
    for servers in ("refuse", "queue"):
        out = tmp_path / servers
        short = ("--scale", 20, "--start-seconds", 7200)
        assert run("replay", *SHORT, *short, "--servers", servers, "--out", out) == 0
        summaries.append(json.loads((out / "summary.json").read_text()))
        assert servers in (out / "report.html").read_text()
    refusing, queueing = summaries
    assert refusing["p99_seconds"] < 2.5 < queueing["p99_seconds"]


def test_every_kind_of_trouble_is_listed_with_a_line_that_can_be_copied(
    capsys: pytest.CaptureFixture[str],
) -> None:
    """`trouble` shows a trouble file that has one entry of each kind."""
    assert run("trouble") == 0
    listed = yaml.safe_load(capsys.readouterr().out)["trouble"]
    assert [entry["what"] for entry in listed] == list(KINDS)


def test_equal_seeds_leave_equal_decisions(tmp_path: Path) -> None:
    """A replay is repeatable; another seed gives other requests."""
    for name, seed in (("first", 1), ("again", 1), ("other", 2)):
        assert run("replay", *SHORT, "--seed", seed, "--out", tmp_path / name) == 0
    first, again, other = (
        (tmp_path / name / "decisions.jsonl").read_text() for name in ("first", "again", "other")
    )
    assert first == again
    assert first != other


def test_a_baseline_is_replayed_without_decision_records(tmp_path: Path) -> None:
    """A baseline has no decision record, and the report says so."""
    assert run("replay", *SHORT, "--policy", "gpu-only", "--out", tmp_path) == 0
    assert (tmp_path / "decisions.jsonl").read_text() == ""
    assert "keeps no decision records" in (tmp_path / "report.html").read_text()


def test_a_comparison_has_a_summary_per_policy_against_the_least_cost(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Every policy is held against what its answers could have cost at least; the first is reported."""
    assert run("compare", "--policies", "equal,gpu-only", *SHORT, "--out", tmp_path) == 0
    summaries = json.loads((tmp_path / "compare.json").read_text())
    assert [summary["policy"] for summary in summaries] == ["equal", "gpu-only"]
    assert all(list(summary) == SUMMARY_KEYS for summary in summaries)
    assert all(summary["cost_over_oracle"] > 1 for summary in summaries)
    assert json.loads((tmp_path / "summary.json").read_text()) == summaries[0]
    assert "Compared on the same requests" in (tmp_path / "report.html").read_text()
    assert "gpu-only" in capsys.readouterr().out


def test_the_report_is_rebuilt_as_it_was(tmp_path: Path) -> None:
    """`report` needs nothing but what a replay left."""
    assert run("compare", "--policies", "merit-order,equal", *SHORT, "--out", tmp_path) == 0
    page = tmp_path / "report.html"
    before = page.read_text()
    page.unlink()
    assert run("report", tmp_path) == 0
    assert page.read_text() == before


def test_a_tick_of_a_replay_is_explained(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """`--tick` chooses; without it the last tick is told, and how to see the others."""
    assert run("replay", *SHORT, "--out", tmp_path) == 0
    capsys.readouterr()
    assert run("explain", tmp_path / "decisions.jsonl", "--tick", 4) == 0
    assert capsys.readouterr().out.startswith("Tick 4, ")
    assert run("explain", tmp_path / "decisions.jsonl") == 0
    last = capsys.readouterr().out
    assert last.startswith("Tick 30, ")
    assert "Next: --tick N tells another one, 1 to 30." in last


def test_a_logged_record_is_explained(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """The line that the Lambda logs holds the record; it is told as any other."""
    assert run("replay", *SHORT, "--out", tmp_path) == 0
    record = json.loads((tmp_path / "decisions.jsonl").read_text().splitlines()[-1])
    logged = tmp_path / "log.json"
    logged.write_text(json.dumps({"level": "INFO", "message": "tick", "record": record}, indent=2))
    capsys.readouterr()
    assert run("explain", logged) == 0
    assert capsys.readouterr().out.startswith("Tick 30, ")


@pytest.mark.parametrize("command", COMMANDS)
def test_every_command_teaches_itself_with_an_example(
    command: str, capsys: pytest.CaptureFixture[str]
) -> None:
    """The help of a command shows how it is called."""
    assert run(command, "--help") == 0
    assert f"example:\n  python -m twin {command}" in capsys.readouterr().out


@pytest.mark.parametrize("command", ["replay", "compare"])
def test_the_help_tells_what_each_policy_of_the_loop_does(
    command: str, capsys: pytest.CaptureFixture[str]
) -> None:
    """In the table's words."""
    assert run(command, "--help") == 0
    told = capsys.readouterr().out
    for policy, rules in POLICIES.items():
        assert re.search(rf"^  {policy} +{re.escape(rules.words)}$", told, re.MULTILINE), policy


def test_no_baseline_has_the_name_of_a_policy_of_the_loop() -> None:
    """A name stands for one way to steer."""
    assert not BASELINES.keys() & POLICIES.keys()


def test_the_help_lists_every_command(capsys: pytest.CaptureFixture[str]) -> None:
    """What there is stands in the first help, and nothing else."""
    assert run("--help") == 0
    shown = capsys.readouterr().out
    assert all(f"\n    {command} " in shown for command in COMMANDS)


@pytest.mark.parametrize(
    ("changes", "parts"),
    [
        (["--fleet", "nowhere.yaml"], ["nowhere.yaml", "valid: a readable fleet file"]),
        (["--demand", "nowhere.csv"], ["nowhere.csv", "valid: a CSV file"]),
        (["--demand", str(traces.CAPACITY)], ["capacity.csv", "requests", "it has: minute, inf2"]),
        (["--capacity", "nowhere.csv", "--map", "inf2-neuron-on-demand=a"], ["nowhere.csv", "valid:"]),
        (CAPACITY, ["map: missing", "valid: pool=column"]),
        (["--map", "inf2-neuron-on-demand=inf2"], ["map:", "--capacity"]),
        ([*CAPACITY, "--map", "inf2=inf2"], ["map: no pool 'inf2'", "valid: inf2-neuron-on-demand"]),
        ([*CAPACITY, "--map", "inf2-neuron-on-demand=k80"], ["capacity.csv", "no column k80", "it has:"]),
        ([*CAPACITY, "--map", "inf2-neuron-on-demand"], ["map:", "valid: pool=column"]),
        (["--prices", str(traces.CAPACITY)], ["capacity.csv", "valid: minute and any of"]),
        (["--policy", "cheapest-first"], ["policy: 'cheapest-first'", "merit-order", "gpu-only"]),
        (["--policy", "gpu-only", "--through", "aws"], ["through: aws", "gpu-only", "valid: core"]),
        (["--through", "moto"], ["--through", "moto", "core", "aws"]),
        (["--start", "9000"], ["start: 9000", "valid: a minute from 0 to 1439"]),
        (["--start", "noon"], ["--start", "noon"]),
        (["--minutes", "15"], ["minutes: 15", "valid: 16 or more"]),
        (["--minutes", "9000"], ["minutes: 9000", "valid: 1 to"]),
        (["--scale", "0"], ["scale: 0", "valid: a number above 0"]),
        (["--scale", "nan"], ["scale: nan", "valid: a number above 0"]),
        (["--smooth", "-1"], ["smooth: -1", "valid: 0 to"]),
        (["--clip", "0"], ["clip: 0", "valid: 1 or more"]),
        (["--start-seconds", "0"], ["start-seconds: 0", "valid: a number above 0"]),
        (["--seed", "-1"], ["seed: -1", "valid: a whole number of 0 or more"]),
        (["--retries", "-1"], ["retries: -1", "valid: a whole number of 0 or more"]),
        (["--servers", "lie"], ["--servers", "lie", "refuse", "queue"]),
        (["--trouble", "nowhere.yaml"], ["nowhere.yaml: No such file", "valid: a YAML file"]),
        (
            ["--trouble", FLEET],
            ["fleet.yaml: the file: keys fleet", "valid: a YAML file"],
        ),
        (["--out", FLEET], ["out:", "fleet.yaml is a file", "valid: a folder"]),
        (["--colour", "red"], ["--colour"]),
    ],
)
def test_bad_input_to_a_replay_is_one_line_and_leaves_nothing(
    changes: list[str], parts: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Exit code 2, one line with the key and what would be valid, no folder."""
    out = tmp_path / "out"
    assert run("replay", *SHORT, "--out", out, *changes) == 2
    told = told_in_one_line(capsys)
    assert all(part in told for part in parts), told
    assert not out.exists()


@pytest.mark.parametrize(
    ("policies", "part"),
    [
        ("", "policies: none given; valid: merit-order"),
        ("merit-order,best", "policy: 'best'; valid: merit-order"),
        ("equal,equal", "policies: equal stands twice"),
    ],
)
def test_bad_policies_to_a_comparison_are_one_line_and_leave_nothing(
    policies: str, part: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """All policies are checked before the first one runs."""
    out = tmp_path / "out"
    assert run("compare", "--policies", policies, *SHORT, "--out", out) == 2
    assert part in told_in_one_line(capsys)
    assert not out.exists()


@pytest.mark.parametrize(
    ("text", "part"),
    [
        ("", "no decision record; valid:"),
        ('{"tick": 1}', "the file: at, mode, reasons, demand_rpm, forecast_rpm, cost_usd_per_hour,"),
        ("[]", "the file: tick, at,"),
        ('{"skipped": "late"}\nnonsense', "line 2: Expecting value; valid: a decision record as JSON"),
    ],
)
def test_a_file_without_a_record_cannot_be_explained(
    text: str, part: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """The line names the file, where in it the fault is, and what would be valid."""
    path = tmp_path / "some.jsonl"
    path.write_text(text)
    assert run("explain", path) == 2
    told = told_in_one_line(capsys)
    assert str(path) in told
    assert part in told


def test_a_tick_that_is_not_there_cannot_be_explained(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """The line says which ticks there are."""
    assert run("replay", *SHORT, "--out", tmp_path) == 0
    capsys.readouterr()
    assert run("explain", tmp_path / "decisions.jsonl", "--tick", 99) == 2
    assert "no tick 99; valid: 1 to 30" in told_in_one_line(capsys)


@pytest.mark.parametrize(
    ("name", "text", "part"),
    [
        ("summary.json", "{}", "summary.json: policy, slo_attainment or cost_usd missing; valid:"),
        ("summary.json", "{", "summary.json: line 1:"),
        ("minutes.json", '{"policy": 1}', "minutes.json: policy:"),
        ("decisions.jsonl", "{}", "decisions.jsonl: the file: tick"),
        ("compare.json", "{}", "compare.json: no list of summaries; valid: what compare writes"),
    ],
)
def test_a_damaged_folder_makes_no_report(
    name: str, text: str, part: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """The report that was there stays as it is."""
    assert run("compare", "--policies", "equal", *SHORT, "--out", tmp_path) == 0
    capsys.readouterr()
    page = (tmp_path / "report.html").read_text()
    (tmp_path / name).write_text(text)
    assert run("report", tmp_path) == 2
    assert part in told_in_one_line(capsys)
    assert (tmp_path / "report.html").read_text() == page


def test_a_missing_folder_makes_no_report(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """A folder that no replay wrote is named."""
    assert run("report", tmp_path / "nothing") == 2
    assert "nothing: no folder; valid: one that replay or compare has written" in told_in_one_line(capsys)


@pytest.mark.parametrize("port", ["-1", "65536"])
def test_a_port_out_of_range_serves_nothing(port: str, capsys: pytest.CaptureFixture[str]) -> None:
    """Ports are 0 to 65535."""
    assert run("aws", "--port", port, "--fleet", FLEET) == 2
    assert f"port: {port}; valid: 0 to 65535" in told_in_one_line(capsys)


def test_a_fleet_that_cannot_be_read_is_not_served(capsys: pytest.CaptureFixture[str]) -> None:
    """The fleet is checked before the port is opened."""
    assert run("aws", "--port", "0", "--fleet", "nowhere.yaml") == 2
    assert "nowhere.yaml" in told_in_one_line(capsys)


@pytest.mark.parametrize("command", ["status", "pause", "resume"])
def test_a_missing_name_of_the_account_is_asked_for(
    command: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Without flag and variable, the line names both."""
    for variable in account.VARIABLES.values():
        monkeypatch.delenv(variable, raising=False)
    assert run(command) == 2
    expected = "pause-parameter: missing; valid: --pause-parameter, or PAUSE_PARAMETER in the environment"
    assert expected in told_in_one_line(capsys)


@pytest.mark.parametrize(
    ("flag", "value", "valid"),
    [
        ("--scenarios", "D9", "valid: D2m"),
        ("--policies", "hope", "valid: equal-shares"),
        ("--seeds", "0", "1 or more"),
        ("--histories", "-1", "0 or more"),
    ],
)
def test_what_the_bench_cannot_measure_is_refused(
    flag: str, value: str, valid: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """It is refused by its flag's name before anything runs."""
    assert run("bench", flag, value, "--out", tmp_path / "out") == 2
    told = told_in_one_line(capsys)
    assert flag.removeprefix("--") in told
    assert valid in told
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize("command", ["demo", "bench"])
def test_a_file_in_the_place_of_the_folder_is_refused(
    command: str, capsys: pytest.CaptureFixture[str]
) -> None:
    """It is refused before anything runs."""
    assert run(command, "--out", FLEET) == 2
    assert "is a file; valid: a folder" in told_in_one_line(capsys)


def test_an_interrupted_replay_leaves_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Ctrl-C ends with exit code 130 and no folder."""

    def interrupt(*_: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr("twin.cli.commands.run_policy", interrupt)
    assert run("replay", *SHORT, "--out", tmp_path / "out") == 130
    assert "interrupted; nothing was written" in told_in_one_line(capsys)
    assert not (tmp_path / "out").exists()


def test_the_demo_runs_on_the_shipped_trace_where_no_recorded_one_is(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Without data the demo says so and runs on the synthetic day, the shortage at its busiest time."""
    monkeypatch.setenv("FULCRUM_DATA", str(tmp_path / "absent"))
    monkeypatch.setattr(demo, "BASELINES", ("gpu-only",))
    monkeypatch.setattr(demo, "THROUGH", "core")
    assert run("demo", "--out", tmp_path / "out") == 0
    told = capsys.readouterr().out
    assert "The shipped synthetic demand stands in" in told
    assert "possible minimum" in told
    summary = json.loads((tmp_path / "out" / "summary.json").read_text())
    assert summary["minutes"] == 345
    assert summary["launches_refused"] > 0
    assert [phase["name"] for phase in summary["phases"]] == ["before", "node-dead@45"]
