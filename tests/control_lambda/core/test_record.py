"""The decision as it is told, and the state that it leaves."""

import json
from typing import Any

import pytest

from control_lambda.core.decide import decide
from control_lambda.core.fleet import Fleet
from control_lambda.core.model import Decision, Evidence, EvidenceKind, Mode, State, plain
from control_lambda.core.reasons import Code, Skip
from control_lambda.core.record import (
    Skipped,
    Write,
    answer_from_plain,
    record_of,
    record_without_decision,
)
from control_lambda.core.traffic.survival import NO_SIGNS
from tests.control_lambda.core.examples import NOON, fleet, group, minutes, snapshot, unit

FLEET = fleet(
    unit("aa", price=0.5),
    unit("bb", price=1.0, accelerator="nvidia", type="g5.xlarge"),
    budget_usd_per_hour=40.0,
)
A, B = (pool.name for pool in FLEET.pools)


def decided(steered: Fleet = FLEET, **told: Any) -> Decision:
    """A decision on three ready nodes under 100 rpm."""
    return decide(snapshot(steered, {A: 3}, 100.0, **told), State(), steered)[0]


@pytest.mark.parametrize(("errors", "shown"), [(0.0, 0.6), (1.0, 0.6), (1.1, None), (60.0, None)])
def test_the_latency_percentile_is_hidden_above_one_percent_of_errors(
    errors: float, shown: float | None
) -> None:
    """Errors are often fast: they would flatter it."""
    found = decided(minutes={"aa": minutes(NOON, 100.0, errors=errors)})

    assert found.units["aa"].latency_seconds == shown


def test_a_unit_without_minutes_has_neither_latency_nor_age() -> None:
    """Missing is not zero."""
    report = decided().units["bb"]

    assert report.latency_seconds is None
    assert report.signal_age_seconds is None


def test_the_record_tells_what_was_found_and_what_was_decided() -> None:
    """Ready nodes, sizes, prices and costs add up."""
    found = decided()

    assert found.pools[A].ready == found.units["aa"].ready == 3
    assert found.cost_usd_per_hour == pytest.approx(0.5 * found.pools[A].desired + found.pools[B].desired)
    assert found.budget_usd_per_hour == 40.0
    assert found.signal_age_seconds == pytest.approx(NOON - minutes(NOON, 1.0)[-1].at - 60)
    assert found.units["aa"].weight == 999
    assert found.units["aa"].previous_weight == 0


def test_a_refused_pool_is_told_as_unavailable_with_its_evidence() -> None:
    """By the kind that AWS gave."""
    found = decided(evidence=(Evidence(A, EvidenceKind.QUOTA, NOON),))

    assert (found.pools[A].available, found.pools[A].evidence) == (False, "quota")
    assert (found.pools[B].available, found.pools[B].evidence) == (True, "")


def test_savings_compare_with_gpus_alone() -> None:
    """The cheapest NVIDIA unit on demand, at the same demand; without one, nothing."""
    found = decided()
    without = decided(fleet(unit("aa", price=0.5)))

    assert found.savings_usd_per_hour > 0
    assert without.savings_usd_per_hour == -without.cost_usd_per_hour


def test_only_sizes_that_change_are_written() -> None:
    """A held pool's never."""
    quiet = decided(pools={A: group(A, 3, status="UPDATING"), B: group(B)})

    assert A not in quiet.sizes
    assert all(size != 0 for size in quiet.sizes.values())


def test_the_state_counts_ticks_and_remembers_what_was_decided() -> None:
    """It is what the next tick starts from."""
    before = State(tick=41, at=NOON - 60, mode_since=NOON - 500)
    found, state = decide(snapshot(FLEET, {A: 3}, 100.0), before, FLEET)

    assert (state.tick, state.at, found.tick) == (42, NOON, 42)
    assert state.mode_since == NOON - 500
    assert state.weights == {"aa": 999, "bb": 0}
    assert state.desired == {name: report.desired for name, report in found.pools.items()}
    assert state.in_service == {A: 3, B: 0}


def test_the_mode_is_dated_when_it_changes_and_on_the_first_tick() -> None:
    """The dwell counts from then."""
    _, first = decide(snapshot(FLEET, {A: 3}, 100.0), State(), FLEET)
    short = (Evidence(A, EvidenceKind.SHORTAGE, NOON + 30),)
    _, second = decide(snapshot(FLEET, {}, 900.0, at=NOON + 60, evidence=short), first, FLEET)

    assert first.mode_since == NOON
    assert (second.mode, second.mode_since) == (Mode.CAPACITY, NOON + 60)


def test_a_record_is_read_back_from_its_json_as_it_was() -> None:
    """With its reasons, reports, writes and failures, and with None where nothing is known."""
    written = Write("size", A, 3, 4)
    record = record_of(decided(), [Code.PAUSED.reason()], [written], ["metrics: Throttling"])
    unknown = record_without_decision(State(tick=3), NOON, NO_SIGNS, [Code.FLEET_UNREADABLE.reason()], (), [])

    for answer in (record, unknown, Skipped(Skip.NOT_LATER)):
        assert answer_from_plain(json.loads(json.dumps(plain(answer)))) == answer
    assert record.reasons[0].code == Code.PAUSED


@pytest.mark.parametrize(
    ("change", "told"),
    [
        ({"units": {"aa": {"ready": 1}}}, "units: aa: weight, previous_weight, latency_seconds"),
        ({"reasons": [{"code": "grow"}]}, "reasons: text missing"),
        ({"writes": 7}, "TypeError"),
        ({"mode": "idle"}, "'idle' is not a valid Mode"),
    ],
)
def test_what_is_no_record_is_refused_with_what_is_missing(change: dict[str, Any], told: str) -> None:
    """Records of another version among them."""
    raw = plain(record_of(decided(), [], [], []))

    with pytest.raises(ValueError, match=told):
        answer_from_plain({**raw, **change})


def test_a_key_of_a_later_version_is_left_out() -> None:
    """What is known can still be told."""
    record = record_of(decided(), [], [], [])

    assert answer_from_plain({**plain(record), "mood": "good"}) == record
