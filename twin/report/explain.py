"""A decision record in plain words, and where the runbook says what to do about it.

What a reason code or a failure means stands with it in `control_lambda.core.reasons`.
"""

from collections.abc import Iterator, Mapping
from datetime import UTC, datetime
from typing import Final

from control_lambda.core.reasons import Code, Failure
from control_lambda.core.record import Answer, DecisionRecord, Skipped, Write

RUNBOOK: Final = "docs/operating.md"

OTHER_FAILURE: Final = ("other-failure", "Something failed that this version has no words for.")


def explain(answer: Answer) -> str:
    """What a tick answered as a few lines that somebody just woken understands."""
    if isinstance(answer, Skipped):
        return f"This tick did nothing: {answer.skipped}."
    paragraphs = (
        [_opening(answer), _demand(answer)],
        _listed("Changed", changes(answer) or ["nothing"]),
        _listed("Why", list(_reasons(answer)) or ["everything was as it should be"]),
        _listed("What failed", list(_failures(answer))),
        _listed("Units", list(_units(answer))),
        _listed("Pools", list(_pools(answer))),
    )
    return "\n\n".join("\n".join(lines) for lines in paragraphs if lines)


def heading_of_failure(failure: str) -> tuple[str, str]:
    """The runbook heading of a record's failure, and what it means."""
    kind = Failure.of(failure)
    return OTHER_FAILURE if kind is None else (kind.heading, kind.meaning)


def changes(record: DecisionRecord) -> list[str]:
    """What the tick wrote, a line for each write."""
    return [_change(write) for write in record.writes]


def clock_time(at: float) -> str:
    """Epoch seconds as a UTC date and time to the second."""
    return datetime.fromtimestamp(at, UTC).strftime("%Y-%m-%d %H:%M:%S UTC")


def _opening(record: DecisionRecord) -> str:
    return f"Tick {record.tick}, {clock_time(record.at)}, {record.mode} mode."


def _demand(record: DecisionRecord) -> str:
    demand, forecast = record.demand_rpm, record.forecast_rpm
    cost, budget = record.cost_usd_per_hour, record.budget_usd_per_hour
    if demand is None or forecast is None or cost is None or budget is None:
        return "No fleet description was ever read, so nothing was sensed or decided."
    return (
        f"Demand {demand:,.0f} requests/min, prepared for {forecast:,.0f}; "
        f"${cost:.2f} of ${budget:g} per hour."
    )


def _listed(title: str, lines: list[str]) -> list[str]:
    return [f"{title}:", *(f"- {line}" for line in lines)] if lines else []


def _change(write: Write) -> str:
    match write.what:
        case "weights":
            return "traffic " + (_shares_moved(write.before or {}, write.after) or "rule written")
        case "size":
            return f"{write.subject}: size {write.before} → {write.after}"
        case "resume":
            return f"{write.subject}: launches resumed"
        case _:
            return f"{write.subject}: {write.what} {write.before} → {write.after}"


def _shares_moved(before: Mapping[str, int], after: Mapping[str, int]) -> str:
    old, new = sum(before.values()) or 1, sum(after.values()) or 1
    moved = {unit: (before.get(unit, 0) / old, weight / new) for unit, weight in after.items()}
    return ", ".join(f"{unit} {was:.0%} → {now:.0%}" for unit, (was, now) in moved.items() if was != now)


def _reasons(record: DecisionRecord) -> Iterator[str]:
    for reason in record.reasons:
        yield f"{reason.text}\n  {_meaning(reason.code)}"


def _meaning(code: str) -> str:
    meaning = next((known.meaning for known in Code if known == code), None)
    if meaning is None:
        return f"This version has no words for the code {code}."
    return f"{meaning} ({RUNBOOK}#{code})"


def _failures(record: DecisionRecord) -> Iterator[str]:
    for failure in record.failures:
        heading, meaning = heading_of_failure(failure)
        yield f"{failure}\n  {meaning} ({RUNBOOK}#{heading})"


def _units(record: DecisionRecord) -> Iterator[str]:
    total = sum(unit.weight for unit in record.units.values()) or 1
    for name, unit in record.units.items():
        latency = unit.latency_seconds
        told = "no trusted latency" if latency is None else f"{latency:.2f} s at the objective's percentile"
        yield f"{name}: {unit.ready} ready, {unit.weight / total:.0%} of traffic, {told}"


def _pools(record: DecisionRecord) -> Iterator[str]:
    for name, pool in record.pools.items():
        short = "" if pool.available else f", not available ({pool.evidence})"
        yield (
            f"{name}: {pool.ready} ready of {pool.desired} wanted, {pool.planned} planned, "
            f"${pool.price:.4f} per hour{short}"
        )
