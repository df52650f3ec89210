"""What has aged, by the table's own dates; and nothing pinned is spelt anywhere but in the table."""

import re
from collections.abc import Iterator
from datetime import date, timedelta
from pathlib import Path
from typing import Final

import pytest

from infra.__main__ import main
from infra.before_deploy.pins import SOON, ageing
from infra.pins import Pin, UnknownPinError, kubernetes_versions, pins, standard_support_ends, version

ROOT: Final = Path(__file__).parents[3]
TABLES_OWN_DATE: Final = max(pin.read_on for pin in pins())
END: Final = date(2027, 3, 27)


def pin(end: date | None) -> Pin:
    """A pin whose support ends that day."""
    return Pin(
        kind="chart",
        what="thing",
        kubernetes="",
        version="1.0",
        end_of_support=end,
        read_on=END,
        source="a page",
    )


@pytest.mark.parametrize(
    ("today", "expected"),
    [
        (END - SOON - timedelta(days=1), []),
        (END - SOON, [False]),
        (END, [False]),
        (END + timedelta(days=1), [True]),
    ],
)
def test_a_pin_is_told_from_ninety_days_before_its_last_day(today: date, expected: list[bool]) -> None:
    """On its last day it is supported still, on the next one it has expired."""
    assert [found.expired for found in ageing([pin(END)], today)] == expected


def test_what_has_no_announced_end_never_expires() -> None:
    """Most charts and add-ons: nobody says until when."""
    assert list(ageing([pin(None)], date(2100, 1, 1))) == []


def test_the_earliest_end_is_told_first() -> None:
    """With what it is, its version, the day and where that is written."""
    lines = [
        found.line for found in ageing([pin(END), pin(END - timedelta(days=9))], END - timedelta(days=1))
    ]
    assert lines == [
        "EXPIRED chart thing 1.0: support ended on 2027-03-18 (a page)",
        "soon    chart thing 1.0: support ends on 2027-03-27 (a page)",
    ]


def test_at_the_tables_own_date_nothing_has_expired(capsys: pytest.CaptureFixture[str]) -> None:
    """Whoever reads the table again finds out what has to go before it is committed."""
    assert main(["pins", "--on", TABLES_OWN_DATE.isoformat()]) == 0
    assert "0 expired" in capsys.readouterr().out


def test_an_expired_pin_is_exit_code_one(capsys: pytest.CaptureFixture[str]) -> None:
    """A pipeline that asks every week fails on the day."""
    ends = standard_support_ends(kubernetes_versions()[0])
    assert ends
    assert main(["pins", "--on", (ends + timedelta(days=1)).isoformat()]) == 1
    assert "EXPIRED kubernetes eks" in capsys.readouterr().out


def test_a_day_that_is_none_is_refused(capsys: pytest.CaptureFixture[str]) -> None:
    """One line, and what would be valid."""
    assert main(["pins", "--on", "tomorrow"]) == 2
    assert capsys.readouterr().err == (
        "python -m infra pins: --on: 'tomorrow'; valid: a day such as 2026-11-27\n"
    )


def test_what_the_table_does_not_hold_is_refused_by_name() -> None:
    """A new Kubernetes version needs its add-ons' rows; the message says which is missing."""
    with pytest.raises(UnknownPinError, match=r"pins\.csv: no row for addon coredns for Kubernetes 1\.99"):
        version("addon", "coredns", "1.99")


def test_the_newest_kubernetes_is_in_standard_support_for_half_a_year_more() -> None:
    """A default that expires soon would put every later deploy into extended support."""
    ends = standard_support_ends(kubernetes_versions()[-1])
    assert ends
    assert ends - TABLES_OWN_DATE > timedelta(days=183)


def test_every_row_is_unique_and_tells_its_source() -> None:
    """The first of two rows would silently win."""
    keys = [(found.kind, found.what, found.kubernetes) for found in pins() if found.kind != "kubernetes"]
    assert len(keys) == len(set(keys))
    assert all(found.source and found.version for found in pins())


def spelt(found: Pin) -> Iterator[str]:
    """Where the stack's code spells the version although it could ask the table."""
    literal = re.compile(rf"[\"':]{re.escape(found.version)}[\"']")
    for path in (ROOT / "infra").rglob("*.py"):
        if literal.search(path.read_text(encoding="utf-8")):
            yield f"{path.relative_to(ROOT)}: {found.version}"


@pytest.mark.parametrize("found", pins(), ids=lambda found: found.name)
def test_no_version_is_spelt_twice(found: Pin) -> None:
    """Whoever moves a pin moves one line."""
    assert list(spelt(found)) == []


def test_every_base_image_is_the_tables() -> None:
    """Dockerfiles cannot read it: what they build on is held against it here."""
    named = {pin.what: pin.version for pin in pins() if pin.kind == "image"}
    for dockerfile in (ROOT / "containers").glob("*/Dockerfile*"):
        lines = re.findall(r"^FROM (\S+)", dockerfile.read_text(encoding="utf-8"), re.MULTILINE)
        for base in lines:
            name, _, tag = base.partition("@")[0].rpartition("/")[2].partition(":")
            assert named[name] == tag, dockerfile
