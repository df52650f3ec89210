"""Every alarm is raised by its situation and by nothing else, on metrics of replayed hours."""

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from functools import cache
from pathlib import Path
from typing import Any, Final

import numpy as np
import pytest

from control_lambda.core import names
from control_lambda.core.metrics import Metric
from control_lambda.core.model import EvidenceKind, Mode, PoolReport, Reason
from control_lambda.core.reasons import Code, Failure, Skip
from control_lambda.core.record import DecisionRecord, Skipped
from tests.infra.observability.alarm_evaluator import ALARM, INSUFFICIENT, OK, Alarm, Metrics
from tests.infra.observability.alarmed import BUILDS, FLEET, STACK, resources, template
from tests.infra.replayed import CLUSTER, TICK, Replayed, put_prices, put_record, run
from twin.cloud.moto_gaps.minutes import MINUTE
from twin.world.queues import LOST
from twin.world.world import EPOCH

ROOT: Final = Path(__file__).parents[3]
POOL: Final = "inf2-neuron-spot"
RPM: Final = 400
# CloudWatch's limits for an alarm on metric math, and for the time that an alarm looks back.
MAX_METRICS: Final = 10
LONGEST_SECONDS: Final = 86_400

# Fields of a record with other values.
Change = Mapping[str, Any]


def keys() -> list[str]:
    """What the names of all metric alarms end with."""
    names = [alarm["AlarmName"] for alarm in resources("AWS::CloudWatch::Alarm")]
    return sorted(name.removeprefix(f"{STACK}-") for name in names)


def states(key: str, metrics: Metrics, minutes: Sequence[int]) -> list[str]:
    """The alarm's state at the end of each minute."""
    return list(alarm(key).states(metrics, minutes))


def alarm(key: str) -> Alarm:
    """The alarm, its references replaced by the names that were given."""
    made = template()["Resources"]
    physical = {identity: TICK for identity, made in made.items() if made["Type"] == "AWS::Lambda::Function"}
    return Alarm(template(), f"{STACK}-{key}", physical)


@cache
def quiet() -> Replayed:
    """Three hours of steady demand; everything can be had."""
    return run(FLEET, [RPM] * 180)


@cache
def outage() -> Replayed:
    """After an hour no node can be had any more and those that run are taken away."""
    limits = [40] * 60 + [0] * 120
    return run(FLEET, [RPM] * 180, {pool.name: limits for pool in FLEET.pools})


@cache
def shortage() -> Replayed:
    """From the second hour on the cheapest pool gets no node for an hour."""
    return run(FLEET, [RPM] * 180, {POOL: [40] * 60 + [0] * 60 + [40] * 60})


def since(minute: int, change: Change, until: int = 180) -> list[DecisionRecord]:
    """The quiet hours' records, with `change` in those from `minute` to `until`."""
    begin, end = EPOCH + minute * MINUTE, EPOCH + until * MINUTE
    records = quiet().records
    return [replace(record, **change) if begin <= record.at < end else record for record in records]


def reason(code: Code, subject: str = "") -> Change:
    """What a record with this one reason says."""
    return {"reasons": (Reason(code, "told", subject),)}


def refused(evidence: EvidenceKind) -> Change:
    """What a record says whose pool POOL is refused its launches."""
    return {"pools": {POOL: PoolReport(0, 0, 0, 0.25, available=False, evidence=evidence)}}


def raised_after(key: str, records: Iterable[DecisionRecord], onset: int = 60) -> int | None:
    """How many minutes after `onset` the alarm is raised; None if it is not. Before, it has to be quiet."""
    watched = quiet().watched()
    told = states(key, quiet().metrics(list(records)), watched)
    if ALARM not in told:
        return None
    minute = (watched[told.index(ALARM)] - EPOCH) // MINUTE
    assert minute >= onset
    return int(minute) - onset + 1


@pytest.mark.parametrize("key", keys())
def test_an_ordinary_hour_raises_no_alarm(key: str) -> None:
    """Every alarm settles at OK, and none is raised on the way."""
    told = states(key, quiet().metrics(), quiet().watched())
    assert ALARM not in told
    assert told[-1] == OK


def test_an_outage_of_everything_tells_of_unserved_users() -> None:
    """Nothing is ready while requests come: the pager's first two alarms, within minutes."""
    metrics, watched = outage().metrics(), outage().watched()
    for key, minutes in (("no-ready-unit", 6), ("objective-missed", 18)):
        told = states(key, metrics, watched)
        assert told.index(ALARM) < 30 + minutes, key
        assert set(told[:29]) == {OK}, key
        assert told[-1] == ALARM, key


@pytest.mark.parametrize(("demand_rpm", "minutes"), [(400.0, 3), (0.2, None)])
def test_only_demand_makes_a_fleet_without_nodes_an_outage(demand_rpm: float, minutes: int | None) -> None:
    """Nobody asks, so nobody is refused; what a long idle forecast decays to is no demand."""
    units = {name: replace(unit, ready=0) for name, unit in quiet().records[-1].units.items()}
    assert raised_after("no-ready-unit", since(60, {"units": units, "demand_rpm": demand_rpm})) == minutes


def test_overload_is_a_missed_objective_although_every_request_is_answered() -> None:
    """Late answers count, not errors alone."""
    most = {pool.name: [2] * 180 for pool in FLEET.pools if pool.name == POOL}
    rest = {pool.name: [0] * 180 for pool in FLEET.pools if pool.name != POOL}
    late = run(FLEET, [200] * 60 + [260] * 120, most | rest)
    assert ALARM in states("objective-missed", late.metrics(), late.watched(60))


def test_the_missed_share_is_what_the_replays_users_saw() -> None:
    """Late, failed and refused requests alike; a node's error that was late or unanswered counts twice."""
    metrics = outage().metrics()
    for end in outage().watched(50)[:30:5]:
        parts = [outage().traffic[end - back * MINUTE] for back in range(1, 6)]
        latency = np.concatenate([part.latency for part in parts])
        missed = 100 * float(np.mean(latency > FLEET.objective.latency_seconds))
        twice = 100 * float(np.mean(np.concatenate([part.outcome for part in parts]) == LOST))
        told = alarm("objective-missed").values(metrics, end)[-1]
        assert told == pytest.approx(missed + twice, abs=1e-6)
        assert twice < 1


def test_a_replayed_shortage_is_told_after_half_an_hour() -> None:
    """And of the pool that is short, not of the others."""
    metrics, watched = shortage().metrics(), shortage().watched()
    first = next(record.at for record in shortage().records if not record.pools[POOL].available)
    told = states(f"pool-short-{POOL}", metrics, watched)
    raised = watched[told.index(ALARM)] + MINUTE
    assert 30 <= (raised - first) / MINUTE <= 36
    assert ALARM not in states("pool-short-g5-inductor-spot", metrics, watched)


SHORT: Final[Change] = {"mode": Mode.CAPACITY, **refused(EvidenceKind.SHORTAGE)}


@pytest.mark.parametrize(
    ("later", "minutes"),
    [(SHORT, 6 * 60), ({**SHORT, "mode": Mode.COST}, None), ({"mode": Mode.CAPACITY}, None)],
)
def test_capacity_mode_is_told_while_the_shortage_lasts(later: Change, minutes: int | None) -> None:
    """The mode outlasts a shortage by design, and a short pool that nobody needs keeps cost mode."""
    metrics = Metrics()
    watched = range(EPOCH, EPOCH + 9 * 3600, MINUTE)
    for minute in watched:
        hour = (minute - EPOCH) // 3600
        change = ({}, SHORT)[hour] if hour < 2 else later
        put_record(metrics, replace(quiet().records[-1], **change), minute)
    told = states("capacity-mode", metrics, watched)
    assert (told.index(ALARM) - 60 + 1 if ALARM in told else None) == minutes


@pytest.mark.parametrize(
    ("key", "change", "minutes"),
    [
        ("loop-paused", reason(Code.PAUSED), 60),
        ("budget-reached", reason(Code.BUDGET), 15),
        ("foreign-weights", reason(Code.FOREIGN_WEIGHTS), 1),
        ("quota-reached", refused(EvidenceKind.QUOTA), 1),
        ("unit-not-built", reason(Code.NOT_BUILT, "inf2-neuron"), 60),
        (f"node-group-stuck-{POOL}", reason(Code.HELD, POOL), 60),
        (f"pool-short-{POOL}", refused(EvidenceKind.SHORTAGE), 30),
        ("tick-failing", {"failures": (Failure.INSTANCES.told("RequestLimitExceeded"),)}, 5),
    ],
)
def test_what_the_record_tells_raises_its_alarm(key: str, change: Change, minutes: int) -> None:
    """And only once it has lasted as long as the alarm says."""
    assert raised_after(key, since(60, change)) == minutes
    if minutes > 1:
        assert raised_after(key, since(60, change, until=60 + minutes - 1)) is None


@pytest.mark.parametrize("key", ["loop-paused", "budget-reached", f"pool-short-{POOL}", "capacity-mode"])
def test_silence_of_the_loop_raises_none_of_its_flags(key: str) -> None:
    """That no tick runs is told by one alarm, not by all of them."""
    assert raised_after(key, [record for record in quiet().records if record.at < EPOCH + 3600]) is None


@pytest.mark.parametrize(
    ("kind", "pool", "at", "expected"),
    [
        ("unknown", POOL, (70, 80, 90), {OK, ALARM}),
        ("unknown", POOL, (70, 80), {OK}),
        ("unknown", POOL, (70, 100, 131), {OK}),
        ("shortage", POOL, (70, 80, 90), {OK}),
        ("unknown", "g5-inductor-spot", (70, 80, 90), {OK}),
    ],
)
def test_refusals_that_nobody_can_read_are_told_when_they_come_again(
    kind: str, pool: str, at: Sequence[int], expected: set[str]
) -> None:
    """Three in an hour, of one pool; what the loop can read has its own alarms."""
    metrics, name = quiet().metrics(), Metric.CAPACITY_ERRORS.metric_name
    dimensions = {names.FLEET: CLUSTER, names.POOL: pool, names.KIND: kind}
    for minute in at:
        metrics.put(names.NAMESPACE, name, dimensions, EPOCH + minute * MINUTE, [1])
    told = states(f"refusals-unknown-{POOL}", metrics, quiet().watched())
    assert set(told) == expected
    assert told[-1] == OK


def test_missing_ticks_are_told_within_minutes() -> None:
    """Missing data is the very thing that this alarm waits for."""
    before = [record for record in quiet().records if record.at < EPOCH + 60 * MINUTE]
    assert raised_after("tick-missing", before) == 3


def test_a_loop_that_never_ticked_is_told() -> None:
    """From the first evaluation on."""
    assert states("tick-missing", Metrics(), quiet().watched())[0] == ALARM


def test_a_lease_that_is_never_free_is_told_twice() -> None:
    """No tick decides, and every one says why."""
    metrics = quiet().metrics([record for record in quiet().records if record.at < EPOCH + 60 * MINUTE])
    for minute in quiet().watched(60):
        put_record(metrics, Skipped(Skip.LEASE_HELD.told()), minute)
    for key in ("lease-stuck", "tick-missing"):
        told = states(key, metrics, quiet().watched())
        assert told.index(ALARM) == 30 + 3 - 1, key


def test_two_ticks_of_one_minute_are_no_stuck_lease() -> None:
    """An event's tick that finds the scheduled one at work is an everyday thing."""
    metrics = quiet().metrics()
    for minute in quiet().watched():
        put_record(metrics, Skipped(Skip.LEASE_HELD.told()), minute)
    assert ALARM not in states("lease-stuck", metrics, quiet().watched())


def test_crashing_ticks_are_told_although_they_leave_no_record() -> None:
    """Lambda counts what the loop cannot say."""
    metrics = quiet().metrics()
    for minute in quiet().watched(60)[:5]:
        metrics.put("AWS/Lambda", "Errors", {"FunctionName": TICK}, minute, [1])
    told = states("tick-failing", metrics, quiet().watched())
    assert told.index(ALARM) == 30 + 5 - 1


@pytest.mark.parametrize("ending", ["ExecutionsFailed", "ExecutionsTimedOut", "ExecutionsAborted"])
def test_a_run_of_the_builds_that_ends_badly_is_told(ending: str) -> None:
    """Whatever ended it: the units that wait for it get no nodes, and nobody else would say so."""
    metrics = quiet().metrics()
    metrics.put("AWS/States", ending, {"StateMachineArn": BUILDS}, EPOCH + 100 * MINUTE, [1])
    assert ALARM in states("builds-failed", metrics, quiet().watched())
    assert ALARM not in states("builds-failed", quiet().metrics(), quiet().watched())


def test_four_failing_ticks_of_ten_are_left_to_the_loop() -> None:
    """The next tick repairs what one could not do."""
    change = {"failures": (Failure.INSTANCES.told("RequestLimitExceeded"),)}
    assert raised_after("tick-failing", since(60, change, until=64)) is None


def test_a_price_that_one_pool_lacks_is_told_after_three_hours() -> None:
    """The others' prices do not hide it."""
    day = range(EPOCH, EPOCH + 24 * 3600, 3600)
    metrics = Metrics()
    for hour in day:
        put_prices(metrics, FLEET.pools, hour)
    watched = range(EPOCH + 3 * 3600, EPOCH + 24 * 3600, MINUTE)
    assert set(states("prices-stale", metrics, watched)) == {OK}
    short = Metrics()
    for hour in day:
        put_prices(short, FLEET.pools if hour < EPOCH + 6 * 3600 else FLEET.pools[1:], hour)
    told = states("prices-stale", short, watched)
    assert watched[told.index(ALARM)] == EPOCH + 5 * 3600 + 3 * 3600


def test_an_alarm_without_any_data_waits() -> None:
    """The flags say nothing before the first tick."""
    assert set(states("loop-paused", Metrics(), quiet().watched())) == {INSUFFICIENT}


def test_every_alarm_and_the_pager_tell_the_topic_when_they_begin_and_end() -> None:
    """Nobody has to watch the console."""
    for made in resources("AWS::CloudWatch::Alarm") + resources("AWS::CloudWatch::CompositeAlarm"):
        assert len(made["AlarmActions"]) == len(made["OKActions"]) == 1
        assert made["AlarmActions"] == made["OKActions"]
    (policy,) = resources("AWS::SNS::TopicPolicy")
    (statement,) = policy["PolicyDocument"]["Statement"]
    assert statement["Principal"] == {"Service": "cloudwatch.amazonaws.com"}
    assert statement["Condition"] == {"StringEquals": {"aws:SourceAccount": {"Ref": "AWS::AccountId"}}}


def test_the_pager_wakes_for_users_and_for_a_dead_loop_alone() -> None:
    """What can wait until the morning does."""
    (pager,) = resources("AWS::CloudWatch::CompositeAlarm")
    ids = re.findall(r"'Fn::GetAtt': \['(\w+)', 'Arn'\]", str(pager["AlarmRule"]))
    names = {template()["Resources"][identity]["Properties"]["AlarmName"] for identity in ids}
    wakes = {"objective-missed", "no-ready-unit", "tick-missing", "tick-failing", "lease-stuck"}
    wakes |= {"survival", "all-unhealthy", "breaker"}
    assert names == {f"{STACK}-{key}" for key in wakes}


def test_every_alarm_leads_to_a_runbook_heading_that_exists() -> None:
    """Whoever is woken finds out what to do."""
    headings = re.findall(
        r"^#{2,3} (\S+)$", (ROOT / "docs/operating.md").read_text(encoding="utf-8"), re.MULTILINE
    )
    for made in resources("AWS::CloudWatch::Alarm") + resources("AWS::CloudWatch::CompositeAlarm"):
        _, _, heading = made["AlarmDescription"].rpartition("docs/operating.md#")
        assert heading in headings, made["AlarmName"]


@pytest.mark.parametrize("key", keys())
def test_cloudwatch_accepts_the_alarm(key: str) -> None:
    """At most ten metrics, no SEARCH, and a day to look back: the fleet has the most pools that are valid."""
    queries = alarm(key).properties.get("Metrics", [])
    assert sum("MetricStat" in query for query in queries) <= MAX_METRICS
    assert not any("SEARCH" in query.get("Expression", "") for query in queries)
    assert alarm(key).period * alarm(key).properties["EvaluationPeriods"] <= LONGEST_SECONDS
    assert len(FLEET.pools) == 2 * len(FLEET.units) == MAX_METRICS
