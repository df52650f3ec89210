"""A decision record in plain words, and where the runbook says what to do about it.

Every reason code and every kind of failure has one sentence here and, under its own name, a heading in
`docs/operating.md`.
"""

from collections.abc import Iterator, Mapping, Sequence
from datetime import UTC, datetime
from types import MappingProxyType
from typing import Any, Final

from control_lambda.core.reasons import Code
from twin.steering.steering import Record

RUNBOOK: Final = "docs/operating.md"

REASONS: Final[Mapping[str, str]] = MappingProxyType(
    {
        Code.REFUSED: "AWS refused to launch a node here; what runs keeps its traffic.",
        Code.PROBE: "After a refusal one node is asked for, to learn whether capacity is back.",
        Code.PROVEN: "A launch was granted after refusals; the pool may grow as planned again.",
        Code.INTERRUPTED: "AWS takes a spot node away within two minutes; it no longer counts.",
        Code.NOT_SENSED: "The pool's nodes could not be read, so its size is left as it is.",
        Code.HELD: "The node group is being updated by someone else, so its size is left as it is.",
        Code.SUSPENDED: "AWS suspended the group's launches after a day of refusals.",
        Code.NOT_BUILT: "The unit's image or compiled model is not built yet, so it gets no nodes.",
        Code.STALE: "No request counts have come lately, so no size is changed for demand.",
        Code.CAPACITY_MODE: "The cheapest nodes cannot be had in sufficient number; others serve as well.",
        Code.COST_MODE: "The cheapest nodes can carry demand again; traffic returns to them.",
        Code.GROW: "The pool gets nodes for the demand that is expected.",
        Code.SHRINK: "The pool gives nodes back that demand no longer needs.",
        Code.WAITING: "Surplus nodes stay until those that replace them are ready.",
        Code.SHORTFALL: "Not enough nodes may be launched for the demand that is expected.",
        Code.BUDGET: "The hourly budget does not pay for the nodes that demand needs.",
        Code.NO_READY_UNIT: "No node anywhere is ready: every request fails.",
        Code.FAILOVER: "A unit lost its last ready node; its traffic moved to the others.",
        Code.JUMP: "Traffic moved in one step, because the rest could not have carried it.",
        Code.SHIFT: "The load balancer's shares of traffic changed.",
        Code.FOREIGN_WEIGHTS: "Somebody else changed the load balancer's weights; they were set right.",
        Code.TRUST_LOWERED: "The unit is slower than its profile says, so it is given less to do.",
        Code.FLEET_UNREADABLE: "The fleet description could not be read; the last good one stays in force.",
        Code.FLEET_INVALID: "The fleet description is invalid; the last good one stays in force.",
        Code.PAUSED: "The loop is paused: it decides and reports, but writes nothing.",
    }
)

# How a failure in a record begins, its runbook heading, and what it means. The first that fits counts.
FAILURES: Final[Sequence[tuple[str, str, str]]] = (
    ("skipped", "write-skipped", "A write was left to the next tick."),
    ("state-not-saved", "state-not-saved", "The tick acted, but what it learned was not saved."),
    ("state-unreadable", "state-unreadable", "The saved state cannot be read; the loop starts afresh."),
    ("lease-lost", "lease-lost", "Another tick took over while this one ran."),
    ("lease-not-released", "lease-not-released", "The next tick waits until the lease runs out."),
    ("clock-jumped", "clock-jumped", "This tick's time lies far before the last one's."),
    ("evidence-unreadable", "evidence-unreadable", "A stored observation cannot be read and is left out."),
    ("evidence for", "evidence-without-pool", "An observation names a pool that the fleet does not have."),
    ("foreign-weights", "foreign-weights", "The weights read back are not those just written."),
    ("fleet-unreadable", "fleet-unreadable", "The fleet description could not be read."),
    ("fleet-invalid", "fleet-invalid", "The fleet description is invalid."),
    ("fleet-parameter", "fleet-unreadable", "The SSM parameter with the fleet could not be read."),
    ("pause-parameter", "pause-unreadable", "The pause parameter could not be read; nothing is written."),
    ("metrics", "metrics-failed", "CloudWatch gave no request counts."),
    ("prices", "prices-failed", "CloudWatch gave no live prices; the last good ones count."),
    ("weights", "weights-failed", "The load balancer's rule could not be read or written."),
    ("instances", "nodes-failed", "EC2 did not list the fleet's instances."),
    ("groups", "nodes-failed", "The Auto Scaling groups could not be read."),
    ("target-health", "nodes-failed", "The load balancer did not say which nodes are healthy."),
    ("node-group", "nodes-failed", "EKS did not describe the node group."),
    ("scaling-activities", "scaling-activities-failed", "Refused launches could not be looked up."),
    ("size of", "size-failed", "A pool's size could not be set."),
    ("resume of", "resume-failed", "A pool's suspended launches could not be resumed."),
)
OTHER_FAILURE: Final = ("other-failure", "Something failed that this version has no words for.")


def explain(record: Record) -> str:
    """The record as a few lines that somebody just woken understands."""
    if "skipped" in record:
        return f"This tick did nothing: {record['skipped']}."
    paragraphs = (
        [_opening(record), _demand(record)],
        _listed("Changed", changes(record) or ["nothing"]),
        _listed("Why", list(_reasons(record)) or ["everything was as it should be"]),
        _listed("What failed", list(_failures(record))),
        _listed("Units", list(_units(record))),
        _listed("Pools", list(_pools(record))),
    )
    return "\n\n".join("\n".join(lines) for lines in paragraphs if lines)


def heading_of_failure(failure: str) -> tuple[str, str]:
    """The runbook heading of a record's failure, and what it means."""
    for beginning, heading, meaning in FAILURES:
        if failure.startswith(beginning):
            return heading, meaning
    return OTHER_FAILURE


def changes(record: Record) -> list[str]:
    """What the tick wrote, a line for each write."""
    return [_change(write) for write in record["writes"]]


def clock_time(at: float) -> str:
    """Epoch seconds as a UTC date and time to the second."""
    return datetime.fromtimestamp(at, UTC).strftime("%Y-%m-%d %H:%M:%S UTC")


def _opening(record: Record) -> str:
    return f"Tick {record['tick']}, {clock_time(record['at'])}, {record['mode']} mode."


def _demand(record: Record) -> str:
    if record.get("demand_rpm") is None:
        return "No fleet description was ever read, so nothing was sensed or decided."
    return (
        f"Demand {record['demand_rpm']:,.0f} requests/min, prepared for {record['forecast_rpm']:,.0f}; "
        f"${record['cost_usd_per_hour']:.2f} of ${record['budget_usd_per_hour']:g} per hour."
    )


def _listed(title: str, lines: list[str]) -> list[str]:
    return [f"{title}:", *(f"- {line}" for line in lines)] if lines else []


def _change(write: Mapping[str, Any]) -> str:
    match write["what"]:
        case "weights":
            return "traffic " + (_shares_moved(write["before"] or {}, write["after"]) or "rule written")
        case "size":
            return f"{write['subject']}: size {write['before']} → {write['after']}"
        case "resume":
            return f"{write['subject']}: launches resumed"
        case _:
            return f"{write['subject']}: {write['what']} {write['before']} → {write['after']}"


def _shares_moved(before: Mapping[str, int], after: Mapping[str, int]) -> str:
    old, new = sum(before.values()) or 1, sum(after.values()) or 1
    moved = {unit: (before.get(unit, 0) / old, weight / new) for unit, weight in after.items()}
    return ", ".join(f"{unit} {was:.0%} → {now:.0%}" for unit, (was, now) in moved.items() if was != now)


def _reasons(record: Record) -> Iterator[str]:
    for reason in record["reasons"]:
        yield f"{reason['text']}\n  {_meaning(reason['code'])}"


def _meaning(code: str) -> str:
    if code not in REASONS:
        return f"This version has no words for the code {code}."
    return f"{REASONS[code]} ({RUNBOOK}#{code})"


def _failures(record: Record) -> Iterator[str]:
    for failure in record["failures"]:
        heading, meaning = heading_of_failure(failure)
        yield f"{failure}\n  {meaning} ({RUNBOOK}#{heading})"


def _units(record: Record) -> Iterator[str]:
    total = sum(unit["weight"] for unit in record["units"].values()) or 1
    for name, unit in record["units"].items():
        latency = unit["p95_seconds"]
        told = "no trusted latency" if latency is None else f"{latency:.2f} s at the objective's percentile"
        yield f"{name}: {unit['ready']} ready, {unit['weight'] / total:.0%} of traffic, {told}"


def _pools(record: Record) -> Iterator[str]:
    for name, pool in record["pools"].items():
        short = "" if pool["available"] else f", not available ({pool['evidence']})"
        yield (
            f"{name}: {pool['ready']} ready of {pool['desired']} wanted, {pool['planned']} planned, "
            f"${pool['price']:.4f} per hour{short}"
        )
