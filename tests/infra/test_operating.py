"""The operating guide keeps what it promises: its links lead somewhere, and every alarm to its heading."""

import re
from pathlib import Path
from typing import Final

import pytest

from tests.infra.observability import alarmed

ROOT: Final = Path(__file__).parents[2]
GUIDE: Final = (ROOT / "docs/operating.md").read_text(encoding="utf-8")
HEADINGS: Final = re.findall(r"^#{1,4} (.+)$", GUIDE, re.MULTILINE)


def anchor(heading: str) -> str:
    """The heading as a link names it."""
    return re.sub(r"[^\w-]", "", heading.lower().replace(" ", "-"))


def section(heading: str) -> str:
    """What stands below the heading."""
    return re.split(rf"^#+ {re.escape(heading)}$", GUIDE, flags=re.MULTILINE)[1].partition("\n## ")[0]


def test_every_heading_stands_once() -> None:
    """A second one of the same name could not be linked to."""
    assert len({anchor(heading) for heading in HEADINGS}) == len(HEADINGS)


@pytest.mark.parametrize("target", sorted(set(re.findall(r"\]\(([^)]+)\)", GUIDE))))
def test_every_link_leads_somewhere(target: str) -> None:
    """To a heading of this page, or to a file of the project."""
    if target.startswith("#"):
        assert target[1:] in {anchor(heading) for heading in HEADINGS}
    else:
        assert (ROOT / "docs" / target.partition("#")[0]).is_file()


def test_every_alarm_stands_in_the_table_with_the_heading_that_it_names() -> None:
    """Whoever reads the alarm's name finds the same way as whoever reads its description."""
    rows = dict(
        re.findall(r"^\| `([\w-]+?)(?:-POOL)?` \|.*\(#([\w-]+)\) \|$", section("Alarms"), re.MULTILINE)
    )
    pools = "|".join(pool.name for pool in alarmed.FLEET.pools)
    told = {
        re.sub(rf"-({pools})$", "", alarm["AlarmName"].removeprefix(f"{alarmed.STACK}-")): alarm[
            "AlarmDescription"
        ].rpartition("#")[2]
        for alarm in alarmed.resources("AWS::CloudWatch::Alarm")
    }
    assert rows == told


def test_every_page_and_command_names_one_version_of_the_cdks_command_line() -> None:
    """That of `make synth`, which is the one that the template was made with."""
    files = ("Makefile", "README.md", "docs/operating.md", "infra/before_deploy/checks.py")
    found = [
        set(re.findall(r"aws-cdk@([\d.]+)", (ROOT / name).read_text(encoding="utf-8"))) for name in files
    ]
    assert found == [found[0]] * len(files)
    assert len(found[0]) == 1
