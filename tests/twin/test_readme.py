import re
import shlex
from pathlib import Path

import pytest

from twin.__main__ import main

ROOT = Path(__file__).parents[2]
README = (ROOT / "README.md").read_text(encoding="utf-8")


def example() -> tuple[list[str], str]:
    """The arguments of the README's replay, and the headline that it promises."""
    found = re.search(
        r"```sh\n(\.venv/bin/python -m twin replay .*?)```\n.*?```text\n(.*?)\n```", README, re.DOTALL
    )
    assert found is not None, "README.md has no replay with its headline"
    command, headline = found.groups()
    return shlex.split(command.replace("\\\n", " "))[3:], headline


def test_the_readmes_example_prints_the_readmes_number(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Who copies the command gets the headline that stands below it."""
    arguments, headline = example()
    arguments[arguments.index("--out") + 1] = str(tmp_path / "day")
    monkeypatch.chdir(ROOT)
    assert main(arguments) == 0
    assert headline in capsys.readouterr().out.splitlines()


def test_every_file_that_the_readme_points_to_exists() -> None:
    """Links and pictures lead somewhere."""
    linked = [target for target in re.findall(r"\]\(([^)#]+)\)", README) if not target.startswith("http")]
    assert linked
    assert [target for target in linked if not (ROOT / target).exists()] == []


def test_everything_in_the_readmes_map_exists() -> None:
    """The map of the house shows what is there, and leaves out no folder of code."""
    map_of_the_house = README.split("## The map of the house")[1].split("##", maxsplit=1)[0]
    named = re.findall(r"(?:^| ) *([\w-]+(?:\.py|\.yaml|/)) ", map_of_the_house, re.MULTILINE)
    shown = [folder for folder in ROOT.iterdir() if f"{folder.name}/" in named]
    known = {path.name for path in ROOT.iterdir()} | {
        path.name for folder in shown for path in folder.rglob("*")
    }
    assert {"control_lambda/", "twin/", "tests/", "docs/", "fleets/"} <= set(named)
    assert [name for name in named if name.rstrip("/") not in known] == []
