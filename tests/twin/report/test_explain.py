import ast
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from control_lambda.core.reasons import Code, Failure, Skip
from control_lambda.core.record import answer_from_plain
from twin.report.explain import OTHER_FAILURE, explain, heading_of_failure

ROOT = Path(__file__).parents[3]
HEADINGS = set(
    re.findall(r"^### (\S+)$", (ROOT / "docs/operating.md").read_text(encoding="utf-8"), re.MULTILINE)
)

UNIT = {"previous_weight": 0, "trusted_rpm": 100.0, "signal_age_seconds": 60.0}
RECORD: dict[str, Any] = {
    "tick": 7,
    "at": 1767225600.0,
    "mode": "capacity",
    "reasons": [
        {"code": Code.REFUSED, "text": "inf2-spot: launch refused (shortage)", "subject": "inf2-spot"}
    ],
    "demand_rpm": 812.0,
    "forecast_rpm": 1011.4,
    "cost_usd_per_hour": 7.582,
    "savings_usd_per_hour": 1.0,
    "budget_usd_per_hour": 40.0,
    "signal_age_seconds": 120.0,
    "units": {
        "inf2": {**UNIT, "ready": 3, "weight": 600, "latency_seconds": 0.91},
        "g5": {**UNIT, "ready": 2, "weight": 400, "latency_seconds": None},
    },
    "pools": {
        "inf2-spot": {
            "ready": 3,
            "desired": 3,
            "planned": 5,
            "price": 0.25,
            "available": False,
            "evidence": "shortage",
        }
    },
    "writes": [
        {
            "what": "weights",
            "subject": "rule",
            "before": {"inf2": 999, "g5": 0},
            "after": {"inf2": 600, "g5": 400},
        },
        {"what": "size", "subject": "g5-spot", "before": 2, "after": 4},
        {"what": "resume", "subject": "g6-spot", "before": "suspended", "after": "resumed"},
    ],
    "failures": [Failure.SIZE.told("Throttling", "inf2-spot")],
}


@pytest.mark.parametrize("code", Code)
def test_every_reason_code_has_a_sentence_and_a_runbook_heading(code: Code) -> None:
    """Whoever reads a code finds out what it means and what to do."""
    assert code.meaning.endswith(".")
    assert code.value in HEADINGS


@pytest.mark.parametrize("heading", [*(kind.heading for kind in Failure), OTHER_FAILURE[0]])
def test_every_kind_of_failure_has_a_runbook_heading(heading: str) -> None:
    """Whoever reads a failure finds out what to do."""
    assert heading in HEADINGS


def test_every_failure_that_the_loop_writes_is_known() -> None:
    """What the source appends to failures or asks of AWS begins like one of the kinds."""
    unknown = {text for text in failure_beginnings() if heading_of_failure(text) == OTHER_FAILURE}
    assert not unknown
    assert "metrics" in set(failure_beginnings())


def test_a_record_is_told_with_what_changed_and_why() -> None:
    """Mode, demand, money, every write in words, every reason with its runbook, every failure."""
    told = told_of(RECORD)
    for part in (
        "Tick 7, 2026-01-01 00:00:00 UTC, capacity mode.",
        "Demand 812 requests/min, prepared for 1,011; $7.58 of $40 per hour.",
        "traffic inf2 100% → 60%, g5 0% → 40%",
        "g5-spot: size 2 → 4",
        "g6-spot: launches resumed",
        "inf2-spot: launch refused (shortage)",
        "docs/operating.md#launch-refused",
        "docs/operating.md#size-failed",
        "inf2: 3 ready, 60% of traffic, 0.91 s at the objective's percentile",
        "inf2-spot: 3 ready of 3 wanted, 5 planned, $0.2500 per hour, not available (shortage)",
    ):
        assert part in told


def test_a_skipped_tick_is_told_with_its_cause() -> None:
    """A tick that did nothing says why."""
    told = told_of({"skipped": Skip.LEASE_HELD.told()})
    assert told == "This tick did nothing: lease-held: another tick is running."


def test_a_record_without_a_fleet_is_told_too() -> None:
    """Before any fleet was read there are no numbers to tell."""
    nothing = dict.fromkeys(key for key in RECORD if key.endswith(("_rpm", "_per_hour")))
    told = told_of({**RECORD, **nothing, "units": {}, "pools": {}, "writes": [], "failures": []})
    assert "No fleet description was ever read" in told
    assert "Changed:\n- nothing" in told


def test_a_code_of_a_later_version_is_named_rather_than_hidden() -> None:
    """An unknown code does not stop the explanation."""
    told = told_of({**RECORD, "reasons": [{"code": "new", "text": "something new", "subject": ""}]})
    assert "something new" in told
    assert "no words for the code new" in told


def told_of(raw: dict[str, Any]) -> str:
    """The explanation of what a tick answered."""
    return explain(answer_from_plain(raw))


def failure_beginnings() -> Iterator[str]:
    """How the failures begin that the loop and its ports write, read from their source."""
    for path in (ROOT / "control_lambda").rglob("*.py"):
        if path.name in {"signals.py", "prices.py"}:  # their failures end in an exception, not in a record
            continue
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.Call) and node.args and is_failure(node.func):
                yield from beginning(node.args[0])


def is_failure(function: ast.expr) -> bool:
    """Whether the call appends a failure or makes a call whose name begins a failure."""
    if not isinstance(function, ast.Attribute):
        return False
    owner = ast.unparse(function.value)
    return function.attr in {"ask", "_failed"} or (
        function.attr == "append" and owner.endswith(("failures", "problems"))
    )


def beginning(argument: ast.expr) -> Iterator[str]:
    """The literal text at the beginning of an expression."""
    first = argument.values[0] if isinstance(argument, ast.JoinedStr) else argument
    if isinstance(first, ast.Constant) and isinstance(first.value, str):
        yield first.value
