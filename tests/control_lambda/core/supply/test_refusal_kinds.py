"""The table of refusals: complete, readable by the parser, and backed by what AWS was seen to write."""

import re
from pathlib import Path
from typing import Final

import pytest

from control_lambda.core.model import EvidenceKind
from control_lambda.core.supply.refusal_kinds import (
    LAUNCH_REFUSALS,
    REFUSAL_KINDS,
    SHOWN_CHARACTERS,
    Example,
    RefusalKind,
    kind_of_refusal,
    read_refusal,
    refused_launch,
)
from tests.control_lambda.core.examples import NOON

GUIDE: Final = (Path(__file__).parents[4] / "docs/operating.md").read_text(encoding="utf-8")
ROWS: Final = tuple(REFUSAL_KINDS.values())
POOL: Final = "inf2-neuron-on-demand"


def test_every_kind_of_evidence_but_an_interruption_has_a_row() -> None:
    """An interruption takes a node that runs; everything else is a refusal."""
    missing = set(EvidenceKind) - set(REFUSAL_KINDS) - {EvidenceKind.INTERRUPTION}
    assert not missing, f"refusal_kinds.py has no row for: {', '.join(missing)}"
    assert EvidenceKind.INTERRUPTION not in REFUSAL_KINDS


@pytest.mark.parametrize("row", ROWS, ids=lambda row: row.kind.value)
def test_every_kind_has_its_heading_in_the_runbook(row: RefusalKind) -> None:
    """Whoever is paged finds out what to do."""
    headings = re.findall(r"^#### (\S+)$", GUIDE, re.MULTILINE)
    assert row.runbook in headings, f"docs/operating.md has no heading `#### {row.runbook}`"


def test_the_runbook_has_no_heading_of_a_kind_that_is_gone() -> None:
    """The fourth level of headings is that of the kinds."""
    assert set(re.findall(r"^#### (\S+)$", GUIDE, re.MULTILINE)) == {row.runbook for row in ROWS}


@pytest.mark.parametrize(
    ("kind", "example"),
    [pytest.param(row.kind, example, id=example.text[:40]) for row in ROWS for example in row.examples],
)
def test_a_refused_launch_is_what_its_text_says(kind: EvidenceKind, example: Example) -> None:
    """Only real shortage is shortage: EKS's issue code is the same for all of these."""
    text = example.text.format(
        type="g5.xlarge", zone="us-east-1a", others="us-east-1b, us-east-1c", subnet="subnet-1"
    )
    assert kind_of_refusal(text) is kind
    assert kind_of_refusal(text.upper(), "AsgInstanceLaunchFailures") is kind
    assert example.source


@pytest.mark.parametrize(
    ("row", "words"),
    [pytest.param(row, words, id=words) for row in ROWS for words in row.words],
)
def test_every_word_that_decides_was_seen_in_a_text(row: RefusalKind, words: str) -> None:
    """A word without an example is a guess."""
    assert any(words in example.text for example in row.examples), f"{row.kind}: no example says {words!r}"


@pytest.mark.parametrize("row", ROWS, ids=lambda row: row.kind.value)
def test_every_kind_has_words_or_a_code_to_be_known_by(row: RefusalKind) -> None:
    """All but the unknown one, which is what is left."""
    assert bool(row.words or row.issues) is (row.kind is not EvidenceKind.UNKNOWN), row.kind


@pytest.mark.parametrize("kind", LAUNCH_REFUSALS)
def test_every_refused_launch_has_a_text_in_both_markets(kind: EvidenceKind) -> None:
    """The embedded AWS refuses in these words."""
    assert REFUSAL_KINDS[kind].text("on-demand")
    assert REFUSAL_KINDS[kind].text("spot")


def test_a_kind_without_a_text_of_the_market_says_so() -> None:
    """An example of the other market is no answer."""
    quota = REFUSAL_KINDS[EvidenceKind.QUOTA]
    other = tuple(example for example in quota.examples if example.market == "spot")
    spot_only = RefusalKind(
        kind=quota.kind, words=(), first_back_off=1, longest_back_off=2, scope=quota.scope, examples=other
    )
    with pytest.raises(LookupError, match="quota: no example of the on-demand market"):
        spot_only.text("on-demand")


@pytest.mark.parametrize("row", ROWS, ids=lambda row: row.kind.value)
def test_every_back_off_has_room_to_grow(row: RefusalKind) -> None:
    """It doubles with every refused probe, up to its longest."""
    assert 0 < row.first_back_off < row.longest_back_off


def test_only_shortage_flips_the_mode() -> None:
    """A quota, a full subnet or a missing permission is not mended by paying more elsewhere for a day."""
    assert [row.kind for row in ROWS if row.flips_mode] == [EvidenceKind.SHORTAGE]


def test_a_node_that_never_gets_ready_is_the_only_refusal_after_a_launch() -> None:
    """So signals counts all others, and a launch disproves all others."""
    assert set(REFUSAL_KINDS) - set(LAUNCH_REFUSALS) == {EvidenceKind.NEVER_READY}


@pytest.mark.parametrize(
    ("code", "kind"),
    [
        ("InstanceLimitExceeded", EvidenceKind.QUOTA),
        ("InsufficientFreeAddresses", EvidenceKind.NO_ADDRESSES),
        ("AccessDenied", EvidenceKind.PERMISSION),
        ("AutoScalingGroupInvalidConfiguration", EvidenceKind.PERMISSION),
        ("NodeCreationFailure", EvidenceKind.NEVER_READY),
        ("AsgInstanceLaunchFailures", EvidenceKind.UNKNOWN),
        ("ClusterUnreachable", EvidenceKind.UNKNOWN),
        ("", EvidenceKind.UNKNOWN),
    ],
)
def test_without_a_telling_text_the_issue_code_decides(code: str, kind: EvidenceKind) -> None:
    """EKS's own codes say what some texts do not."""
    assert kind_of_refusal("Something went wrong.", code) is kind


def test_the_text_wins_over_the_issue_code() -> None:
    """EKS's code may be broader than what happened."""
    assert kind_of_refusal("VcpuLimitExceeded", "NodeCreationFailure") is EvidenceKind.QUOTA


def test_an_unknown_refusal_keeps_the_beginning_of_its_text() -> None:
    """People can read what the parser cannot; a text without an end does not fill the state's item."""
    told = refused_launch(POOL, "Tea is out. " * 100, NOON, zone="us-east-1a")
    assert (told.pool, told.kind, told.at, told.zone) == (POOL, EvidenceKind.UNKNOWN, NOON, "us-east-1a")
    assert told.text == ("Tea is out. " * 100)[:SHOWN_CHARACTERS]


def test_a_refusal_that_is_understood_needs_no_text() -> None:
    """Its kind says it."""
    told = refused_launch(POOL, "VcpuLimitExceeded - You have requested more vCPU", NOON)
    assert (told.kind, told.text) == (EvidenceKind.QUOTA, "")


def test_an_issue_code_that_is_understood_needs_no_text() -> None:
    """The same for EKS's word."""
    assert read_refusal("Instances failed to join", "NodeCreationFailure") == (EvidenceKind.NEVER_READY, "")
