"""`python -m infra` as its user meets it: what it prints, and with which code it ends."""

import os
import re
import subprocess
import sys
from pathlib import Path
from typing import Final

import pytest
from rich.console import Console

import infra.__main__ as command_line
from infra.__main__ import main
from infra.before_deploy import preflight
from infra.before_deploy.checks import Finding
from infra.settings import Settings

ROOT: Final = Path(__file__).parents[2]


def test_estimate_prints_plain_lines_into_a_pipe(capsys: pytest.CaptureFixture[str]) -> None:
    """Tab-separated figures for whatever reads them, and what they rest on."""
    assert main(["estimate"]) == 0
    lines = capsys.readouterr().out.splitlines()
    figures = [line.split("\t") for line in lines if not line.startswith("- ")]
    assert {len(cells) for cells in figures} == {4}
    assert figures[0][0] == "inf2-neuron-on-demand"
    assert figures[-1][0] == "total"
    rows = [[float(cell) for cell in cells[1:]] for cells in figures]
    assert [sum(column) for column in zip(*rows[:-1], strict=True)] == pytest.approx(rows[-1], abs=0.1)
    assert any(line.startswith("- typical: 500 requests per minute") for line in lines)


def test_estimate_prints_a_table_on_a_terminal(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """With the nodes of each pool."""
    monkeypatch.setattr(command_line, "Console", lambda: Console(force_terminal=True, width=120))
    assert main(["estimate", "--region", "us-west-2", "--requests-per-minute", "1000"]) == 0
    shown = re.sub(r"\x1b\[[0-9;]*m", "", capsys.readouterr().out)
    assert "USD per month in us-west-2" in shown
    assert re.search(r"inf2-neuron-on-demand +│ 0 / 9 / 40 +│", shown)


@pytest.mark.parametrize("unbuffered", ["", "1"])
def test_a_reader_that_stops_early_ends_the_command_without_a_word(unbuffered: str) -> None:
    """As `| head -1` does: no traceback, whether Python meets it at a line or only at the end."""
    running = subprocess.Popen(
        [sys.executable, "-m", "infra", "estimate"],
        cwd=ROOT,
        env={**os.environ, "PYTHONUNBUFFERED": unbuffered},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
    )
    assert running.stdout
    running.stdout.close()
    _, told = running.communicate()
    assert (running.returncode, told) == (1, b"")


@pytest.mark.parametrize(
    ("arguments", "named"),
    [
        (["--fleet", "missing.yaml"], "missing.yaml: No such file or directory"),
        (["--region", "nowhere-1"], "region: given 'nowhere-1'; valid: one of "),
        (["--region", "eu-west-1"], "no zone in use offers trn1.2xlarge"),
        (["-c", "nat_gateways=seven"], "nat_gateways: given 'seven'; valid: a whole number from 1 to 6"),
        (["-c", "colour=red"], "--context: 'colour=red'; valid: KEY=VALUE with a key of cdk.json"),
        (["-c", "region"], "--context: 'region'; valid: KEY=VALUE"),
        (["-c", "@aws-cdk/core:checkSecretUsage=false"], "--context: '@aws-cdk/core:checkSecretUsage=false'"),
        (["--requests-per-minute", "-1"], "--requests-per-minute: -1; valid: a number from 0 on"),
    ],
)
def test_bad_input_is_one_line_and_code_2(
    arguments: list[str], named: str, capsys: pytest.CaptureFixture[str]
) -> None:
    """It names what is wrong and what would be valid; nothing else is printed."""
    assert main(["estimate", *arguments]) == 2
    told = capsys.readouterr()
    assert told.out == ""
    assert named in told.err
    assert told.err.startswith("python -m infra estimate: ")
    assert told.err.count("\n") == 1


@pytest.mark.parametrize(
    ("found", "code", "verdict"),
    [
        ([Finding("zones", "all")], 0, "nothing found that would fail the deploy"),
        ([Finding("quota", "too low", mend="ask for more")], 0, "nothing found that would fail the deploy"),
        ([Finding("stack", "busy", fails=True, mend="wait")], 1, "1 of these would fail the deploy"),
    ],
)
def test_preflight_ends_with_1_only_if_the_deploy_would_fail(
    found: list[Finding],
    code: int,
    verdict: str,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """One line for each finding, with what mends it, and a verdict."""
    monkeypatch.setattr(preflight, "findings", lambda _: found)
    assert main(["preflight"]) == code
    *lines, last = capsys.readouterr().out.splitlines()
    assert lines == [finding.line for finding in found]
    assert last == f"Fulcrum in us-east-1: {verdict}"


def test_preflight_looks_at_the_settings_of_the_command_line(monkeypatch: pytest.MonkeyPatch) -> None:
    """The same `-c` as the deploy is given."""
    seen: list[Settings] = []

    def look(settings: Settings) -> list[Finding]:
        seen.append(settings)
        return []

    monkeypatch.setattr(preflight, "findings", look)
    fleet = str(ROOT / "fleets/two-units.yaml")
    assert main(["preflight", "-c", "stack_name=Other", "--fleet", fleet, "--region", "us-west-2"]) == 0
    assert (seen[0].stack_name, seen[0].region, seen[0].fleet_file) == ("Other", "us-west-2", Path(fleet))


def test_preflight_without_credentials_is_bad_input(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """It says where they may come from."""
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"):
        monkeypatch.delenv(name)
    monkeypatch.setenv("AWS_SHARED_CREDENTIALS_FILE", "/nonexistent")
    monkeypatch.setenv("AWS_CONFIG_FILE", "/nonexistent")
    assert main(["preflight"]) == 2
    told = capsys.readouterr()
    assert told.out == ""
    assert told.err.startswith("python -m infra preflight: AWS credentials: ")
    assert "valid: AWS_PROFILE" in told.err
