"""The loop over hand-written ports: when it runs, what it remembers, and what a failure changes."""

from typing import Any

import pytest

from control_lambda.core.model import Evidence, EvidenceKind, Refusal, Snapshot, State
from control_lambda.core.reasons import Code, Failure, Skip
from control_lambda.core.supply import refusals
from control_lambda.loop import ROUNDS, tick
from control_lambda.ports import LeaseLostError, Settings
from control_lambda.trigger import iso_time
from tests.control_lambda.fake_world import (
    FLEET,
    NOON,
    SIZES,
    WEIGHTS,
    A,
    B,
    C,
    Killed,
    World,
    deciding,
    refused,
    run,
)


def test_the_record_holds_the_keys_of_the_contract() -> None:
    """DESIGN's decision record, with the savings and the signal age that the metrics need."""
    record = run(World(), deciding())
    assert set(record) == {
        "tick", "at", "mode", "reasons", "demand_rpm", "forecast_rpm", "cost_usd_per_hour",
        "savings_usd_per_hour", "budget_usd_per_hour", "signal_age_seconds", "units", "pools", "writes",
        "failures",
    }  # fmt: skip
    assert record["units"]["aa"] == {
        "ready": 4,
        "weight": 100,
        "previous_weight": 100,
        "latency_seconds": 0.6,
        "trusted_rpm": 105.0,
        "signal_age_seconds": 60.0,
    }
    assert record["reasons"] == [{"code": "because", "text": "It was decided in advance.", "subject": ""}]


def test_the_state_keeps_what_stands_not_what_was_decided() -> None:
    """A size that could not be set is not remembered as set."""
    world = World(fails={f"size {B}": refused("Throttling")})
    run(world, deciding(WEIGHTS, {B: 7, C: 5}))
    assert world.state is not None
    assert world.state.desired == {A: 4, B: 4, C: 5}
    assert world.state.weights == WEIGHTS


def test_a_paused_loop_decides_and_reports_but_writes_nothing() -> None:
    """The record says paused; the state keeps the learning and what really stands."""
    world = World(settings_now=Settings(FLEET.to_json(), observe=True))
    record = run(world, deciding(WEIGHTS, SIZES, resume=(B,)))
    assert record["reasons"][0]["code"] == Code.PAUSED
    assert record["writes"] == []
    assert world.calls == [f"acquire {NOON:.0f}", "sense", "save"]
    assert world.state is not None
    assert world.state.tick == 1
    assert world.state.weights == {"aa": 100, "bb": 0, "cc": 0}
    assert world.state.desired == {A: 4, B: 4, C: 4}


def test_a_tick_that_finds_the_lease_held_is_skipped() -> None:
    """One tick acts at a time."""
    world = World(lease="theirs")
    assert run(world, deciding(WEIGHTS)) == {"skipped": Skip.LEASE_HELD.told()}
    assert world.lease == "theirs"


@pytest.mark.parametrize("later", [0.0, -60.0])
def test_a_tick_not_later_than_the_last_is_skipped(later: float) -> None:
    """Duplicates and late deliveries change nothing, and the lease is given back."""
    world = World(state=State(tick=7, at=NOON))
    record = run(world, deciding(WEIGHTS), at=NOON + later)
    assert record["skipped"].startswith(Skip.NOT_LATER)
    assert world.lease == "free"
    assert world.state == State(tick=7, at=NOON)


@pytest.mark.parametrize("source", ["event", "memory"])
def test_an_event_tick_with_new_evidence_runs_even_when_it_is_not_later(source: str) -> None:
    """Evidence is worth a tick at the last tick's time; time never runs backwards."""
    seen: list[Snapshot] = []
    world = World(state=State(tick=7, at=NOON), evidence=(at_a(),) if source == "memory" else ())
    brought = [plain_evidence(at_a())] if source == "event" else []
    run(world, deciding(seen=seen), at=NOON - 30, cause="event", evidence=brought)
    assert [(snapshot.at, snapshot.cause, snapshot.evidence) for snapshot in seen] == [
        (NOON, "event", (at_a(),))
    ]


def test_an_event_whose_evidence_a_tick_has_taken_is_skipped() -> None:
    """Of events that come together the first tick takes all; the others have nothing to add."""
    taken = Refusal(EvidenceKind.SHORTAGE, A, at=NOON - 5, until=NOON + 115, count=1)
    state = State(
        tick=7, at=NOON, refusals=refusals.remember({}, [at_a()], FLEET), last_good_fleet=FLEET.to_json()
    )
    assert list(state.refusals.values()) == [taken]
    world = World(state=state)
    known = run(world, deciding(), at=NOON, cause="event", evidence=[plain_evidence(at_a())])
    assert known["skipped"].startswith(Skip.NOT_LATER)
    newer = run(world, deciding(), at=NOON, cause="event", evidence=[plain_evidence(at_a(NOON))])
    assert newer["at"] == NOON


def test_a_clock_that_jumped_ahead_once_does_not_stop_the_loop() -> None:
    """A tick far behind the last one runs at its own time and reports the jump."""
    world = World(state=State(tick=7, at=NOON + 86_400))
    record = run(world, deciding())
    assert record["at"] == NOON
    assert record["failures"][0].startswith(Failure.CLOCK_JUMPED)


def at_a(at: float = NOON - 5) -> Evidence:
    """A shortage in pool A."""
    return Evidence(A, EvidenceKind.SHORTAGE, at)


def plain_evidence(evidence: Evidence) -> dict[str, Any]:
    """Evidence as an event carries it."""
    return {"pool": evidence.pool, "kind": evidence.kind.value, "at": evidence.at}


def test_evidence_in_memory_and_in_the_event_is_taken_once() -> None:
    """Signals writes the item and tells the tick the same."""
    seen: list[Snapshot] = []
    world = World(evidence=(at_a(),))
    run(world, deciding(seen=seen), cause="event", evidence=[plain_evidence(at_a())])
    assert seen[0].evidence == (at_a(),)
    assert world.evidence == ()


def test_evidence_about_a_pool_that_the_fleet_does_not_hold_is_reported() -> None:
    """The core only sees pools of the fleet."""
    seen: list[Snapshot] = []
    world = World(evidence=(Evidence("gone-spot", EvidenceKind.SHORTAGE, NOON),))
    record = run(world, deciding(seen=seen))
    assert seen[0].evidence == ()
    assert record["failures"] == [
        Failure.EVIDENCE_WITHOUT_POOL.told("the fleet has no such pool", "gone-spot")
    ]
    assert world.evidence == ()


def test_evidence_that_arrives_during_a_tick_is_acted_on_at_once() -> None:
    """A second round senses what now stands, and sees only what is new."""
    seen: list[Snapshot] = []
    world = World(arriving=[(at_a(),)])
    record = run(world, deciding(None, {B: 7}, seen=seen))
    assert [snapshot.evidence for snapshot in seen] == [(), (at_a(),)]
    assert seen[1].pools[B].desired == 7
    assert len(record["writes"]) == 2
    assert world.lease == "free"
    assert world.evidence == ()


def test_evidence_that_keeps_arriving_ends_the_tick_without_saving() -> None:
    """The evidence stays for the next tick, which repairs."""
    world = World(arriving=[(at_a(NOON + number),) for number in range(ROUNDS + 1)])
    record = run(world, deciding())
    assert record["failures"] == [
        Failure.STATE_NOT_SAVED.told(f"new evidence arrived in each of {ROUNDS} rounds")
    ]
    assert world.calls.count("save") == ROUNDS
    assert world.state is None
    assert len(world.evidence) == ROUNDS
    assert world.lease == "free"


def test_a_lease_lost_during_the_tick_is_a_failure_in_the_record() -> None:
    """The tick that took over repairs."""
    world = World(fails={"save": LeaseLostError()})
    record = run(world, deciding(WEIGHTS))
    assert record["failures"] == [
        Failure.LEASE_LOST.told("another tick took over and repairs what this one left")
    ]


def test_a_state_that_cannot_be_saved_is_a_failure_in_the_record() -> None:
    """The record of what was written is not lost with it."""
    world = World(fails={"save": refused("ThrottlingException"), "release": refused("ThrottlingException")})
    record = run(world, deciding(WEIGHTS))
    assert len(record["writes"]) == 1
    assert record["failures"] == [
        Failure.STATE_NOT_SAVED.told("ThrottlingException"),
        Failure.LEASE_NOT_RELEASED.told("ThrottlingException"),
    ]


def test_what_could_not_be_sensed_or_remembered_is_in_the_record() -> None:
    """Failures of every port come together, each once."""
    world = World(sense_failures=("metrics: Throttling",), remembered_problems=("state-unreadable: no JSON",))
    record = run(world, deciding())
    assert record["failures"] == ["state-unreadable: no JSON", "metrics: Throttling"]


@pytest.mark.parametrize(
    ("given", "code"),
    [(None, Code.FLEET_UNREADABLE), ("garbage", Code.FLEET_INVALID), ('{"fleet": "x"}', Code.FLEET_INVALID)],
)
def test_without_a_usable_fleet_parameter_the_last_good_fleet_stays(given: str | None, code: Code) -> None:
    """The loop steers on, and says why in reasons and failures."""
    world = World()
    run(world, deciding())
    world.settings_now = Settings(given, observe=False)
    record = run(world, deciding(None, {B: 7}), at=NOON + 60)
    assert world.desired[B] == 7
    assert record["reasons"][0]["code"] == code
    assert record["failures"][0].startswith(f"{code}: ")
    assert world.state is not None
    assert world.state.last_good_fleet == FLEET.to_json()


@pytest.mark.parametrize("last_good", ["", "garbage"])
def test_without_any_fleet_nothing_is_changed(last_good: str) -> None:
    """The record carries the failure; the lease is given back; nothing is saved."""
    state = State(tick=3, at=NOON - 60, last_good_fleet=last_good)
    world = World(state=state, settings_now=Settings(None, observe=False))
    record = run(world, deciding(WEIGHTS, SIZES))
    assert record["failures"][0].startswith(Failure.FLEET_UNREADABLE)
    assert Code.NO_FLEET in {reason["code"] for reason in record["reasons"]}
    assert (record["tick"], record["units"], record["writes"]) == (3, {}, [])
    assert world.calls == [f"acquire {NOON:.0f}", "vital signs", "release"]
    assert world.state == state


def test_an_unexpected_error_propagates_and_gives_the_lease_back() -> None:
    """Lambda reports it; the next tick does not wait for the lease to expire."""
    world = World(fails={"sense": KeyError("a bug")})
    with pytest.raises(KeyError, match="a bug"):
        run(world, deciding())
    assert world.lease == "free"
    assert world.state is None


def test_an_error_is_not_hidden_by_a_lease_that_cannot_be_released() -> None:
    """The first error propagates with a note about the second."""
    world = World(fails={"sense": KeyError("a bug"), "release": refused("Throttling")})
    with pytest.raises(KeyError) as caught:
        run(world, deciding())
    assert caught.value.__notes__ == [Failure.LEASE_NOT_RELEASED.told("Throttling")]


@pytest.mark.parametrize("call", ["weights", "read back", f"size {B}", f"size {C}", f"size {A}", "save"])
def test_after_a_crash_anywhere_the_next_tick_reaches_what_was_decided(call: str) -> None:
    """Nothing is saved before everything is written, so the next tick repeats what is missing."""
    world = World(fails={call: Killed()})
    with pytest.raises(Killed):
        run(world, deciding(WEIGHTS, SIZES))
    assert world.state is None
    world.fails, world.lease = {}, "free"
    run(world, deciding(WEIGHTS, SIZES), at=NOON + 60)
    assert world.weights == WEIGHTS
    assert world.desired == SIZES


@pytest.mark.parametrize(
    ("event", "message"),
    [
        ({}, "event: time: None is no time"),
        ({"time": "yesterday"}, "event: time: 'yesterday' is no time"),
        ({"time": "2026-01-31T12:00:00"}, "has no offset"),
        ({"time": iso_time(NOON), "cause": "whim"}, "event: cause: 'whim' is not one of schedule, event"),
        ({"time": iso_time(NOON), "evidence": "none"}, "event: evidence: 'none' is no list"),
        ({"time": iso_time(NOON), "evidence": [{"pool": A}]}, "kind"),
    ],
)
def test_an_event_that_cannot_be_read_is_refused_before_anything_is_touched(
    event: dict[str, Any], message: str
) -> None:
    """The message names the key and what would be valid."""
    world = World()
    with pytest.raises(ValueError, match=message):
        tick(event, world, world, world, deciding())
    assert world.calls == []
