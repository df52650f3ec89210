"""The loop over hand-written ports: what is written, in which order, and what a failure changes."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import pytest
from botocore.exceptions import ClientError

from control_lambda.core.fleet import Fleet, parse_fleet
from control_lambda.core.model import (
    Decision,
    Evidence,
    Kind,
    Mode,
    PoolReport,
    PoolSignals,
    Reason,
    Snapshot,
    State,
    UnitReport,
)
from control_lambda.loop import ROUNDS, Decide, Record, iso_time, tick
from control_lambda.ports import (
    LeaseHeldError,
    LeaseLostError,
    NewEvidenceError,
    Remembered,
    Settings,
)

NOON = 1_769_860_800.0


def unit(name: str) -> dict[str, Any]:
    """A unit with one pool of at most ten nodes."""
    return {
        "name": name,
        "instance_type": "inf2.xlarge",
        "accelerator": "neuron",
        "framework": "neuronx",
        "profile": {
            "service_seconds": 0.5,
            "throughput_rpm": 105,
            "latency_seconds": 0.67,
            "start_seconds": 600,
        },
        "pools": [{"market": "on-demand", "nodes": {"max": 10}, "price_usd_per_hour": 0.75}],
    }


FLEET = parse_fleet(
    {
        "fleet": "test-fleet",
        "model": "some/model",
        "objective": {"latency_seconds": 2.0},
        "budget_usd_per_hour": 40,
        "units": [unit("aa"), unit("bb"), unit("cc")],
    }
)
A, B, C = (pool.name for pool in FLEET.pools)


class Killed(BaseException):
    """The process ends here, as when Lambda kills it."""


def refused(code: str) -> ClientError:
    """The exception boto3 raises for an AWS error code."""
    return ClientError({"Error": {"Code": code, "Message": ""}}, "Operation")


@dataclass
class World:
    """Ports over plain values. `fails` maps a call, such as `size aa-on-demand`, to what it raises."""

    weights: dict[str, int] | None = field(default_factory=lambda: {"aa": 100, "bb": 0, "cc": 0})
    desired: dict[str, int] = field(default_factory=lambda: {A: 4, B: 4, C: 4})
    settings_now: Settings = field(default_factory=lambda: Settings(FLEET.to_json(), observe=False))
    state: State | None = None
    evidence: tuple[Evidence, ...] = ()
    arriving: list[tuple[Evidence, ...]] = field(default_factory=list)
    fails: dict[str, BaseException] = field(default_factory=dict)
    foreign_hand: Mapping[str, int] | None = None
    lease: str = "free"
    calls: list[str] = field(default_factory=list)
    sense_failures: tuple[str, ...] = ()
    remembered_problems: tuple[str, ...] = ()

    def _call(self, name: str) -> None:
        self.calls.append(name)
        if name in self.fails:
            raise self.fails[name]

    def settings(self) -> Settings:
        """The settings, as they stand."""
        return self.settings_now

    def sense(self, fleet: Fleet, at: float, evidence: Sequence[Evidence]) -> Snapshot:
        """Every node that a group wants is ready."""
        self._call("sense")
        pools = {
            pool.name: PoolSignals(
                self.desired[pool.name],
                ready=frozenset(f"i-{pool.name}-{number}" for number in range(self.desired[pool.name])),
            )
            for pool in fleet.pools
        }
        return Snapshot(
            at,
            pools=pools,
            weights=None if self.weights is None else dict(self.weights),
            evidence=tuple(evidence),
            failures=self.sense_failures,
        )

    def set_weights(self, weights: Mapping[str, int]) -> Mapping[str, int]:
        """Write the weights; a foreign hand may overwrite them before they are read back."""
        self._call("weights")
        self.weights = dict(self.foreign_hand or weights)
        self._call("read back")
        return self.weights

    def set_desired(self, pool: str, nodes: int) -> None:
        """Set one group's size."""
        self._call(f"size {pool}")
        self.desired[pool] = nodes

    def resume_launches(self, pool: str) -> None:
        """Resume one group's launches."""
        self._call(f"resume {pool}")

    def acquire(self, at: float) -> Remembered:
        """Take the lease unless another holds it."""
        self._call(f"acquire {at:.0f}")
        if self.lease != "free":
            raise LeaseHeldError
        self.lease = "ours"
        return Remembered(self.state, self.evidence, self.remembered_problems)

    def save(self, state: State, seen: Sequence[Evidence]) -> None:
        """Keep the state unless evidence arrived or the lease was lost."""
        self._call("save")
        if self.lease != "ours":
            raise LeaseLostError
        if self.arriving:
            self.evidence += self.arriving.pop(0)
        if new := [item for item in self.evidence if item not in seen]:
            raise NewEvidenceError(new)
        self.state, self.evidence, self.lease = state, (), "free"

    def release(self) -> None:
        """Give the lease back."""
        self._call("release")
        self.lease = "free"


def deciding(
    weights: Mapping[str, int] | None = None,
    sizes: Mapping[str, int] | None = None,
    resume: tuple[str, ...] = (),
    seen: list[Snapshot] | None = None,
) -> Decide:
    """A decision made in advance; `seen` collects the snapshots it was asked about."""

    def decide(snapshot: Snapshot, state: State, fleet: Fleet) -> tuple[Decision, State]:
        if seen is not None:
            seen.append(snapshot)
        decision = Decision(
            tick=state.tick + 1,
            at=snapshot.at,
            mode=Mode.COST,
            reasons=(Reason("because", "It was decided in advance."),),
            demand_rpm=100.0,
            forecast_rpm=120.0,
            cost_usd_per_hour=9.0,
            savings_usd_per_hour=1.0,
            budget_usd_per_hour=fleet.budget_usd_per_hour,
            signal_age_seconds=60.0,
            units={"aa": UnitReport(4, 100, 100, 0.6, 105.0, 60.0)},
            pools={A: PoolReport(4, 4, 4, 0.75, available=True, evidence="")},
            weights=weights,
            sizes=sizes or {},
            resume=resume,
        )
        wished = {"weights": weights or {}, "desired": sizes or {}}
        decided = replace(state, tick=state.tick + 1, at=snapshot.at, **wished)
        return decision, decided

    return decide


def run(
    world: World,
    decide: Decide,
    at: float = NOON,
    remaining: Callable[[], float] = lambda: 20.0,
    **event: Any,
) -> Record:
    """One tick at `at`."""
    return tick({"time": iso_time(at), **event}, world, world, world, decide, remaining)


WEIGHTS = {"aa": 60, "bb": 40, "cc": 0}
SIZES = {A: 2, B: 7, C: 5}


def test_weights_are_written_first_then_growth_then_shrinking() -> None:
    """A node is taken away only after traffic has left and others were asked for."""
    world = World()
    run(world, deciding(WEIGHTS, SIZES, resume=(B,)))
    assert world.calls[2:] == [
        "weights",
        "read back",
        f"resume {B}",
        f"size {B}",
        f"size {C}",
        f"size {A}",
        "save",
    ]


def test_the_record_tells_every_write_with_what_stood_before() -> None:
    """writes[] holds what, subject, before and after."""
    record = run(World(), deciding(WEIGHTS, {B: 7}, resume=(C,)))
    assert record["writes"] == [
        {"what": "weights", "subject": "rule", "before": {"aa": 100, "bb": 0, "cc": 0}, "after": WEIGHTS},
        {"what": "resume", "subject": C, "before": "suspended", "after": "resumed"},
        {"what": "size", "subject": B, "before": 4, "after": 7},
    ]
    assert record["failures"] == []


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
        "p95_seconds": 0.6,
        "trusted_rpm": 105.0,
        "signal_age_seconds": 60.0,
    }
    assert record["reasons"] == [{"code": "because", "text": "It was decided in advance.", "subject": ""}]


@pytest.mark.parametrize("call", ["weights", "read back"])
def test_shrinking_waits_when_the_weights_are_not_certain(call: str) -> None:
    """A node that may still receive traffic stays; growth goes on."""
    world = World(fails={call: refused("InternalFailure")})
    record = run(world, deciding(WEIGHTS, SIZES))
    assert world.desired == {A: 4, B: 7, C: 5}
    assert "weights: InternalFailure" in record["failures"]
    assert f"skipped: size of {A}: the weights are not certain" in record["failures"]


def test_shrinking_waits_when_the_standing_weights_could_not_be_read() -> None:
    """Unchanged weights are only certain when they were read."""
    world = World(weights=None)
    run(world, deciding(None, SIZES))
    assert world.desired == {A: 4, B: 7, C: 5}


def test_lowering_a_size_to_what_is_in_service_needs_no_certain_weights() -> None:
    """It takes no node away, only a launch that AWS refuses."""
    world = World(weights=None)
    real_sense = world.sense

    def sense_refused_launches(fleet: Fleet, at: float, evidence: Sequence[Evidence]) -> Snapshot:
        snapshot = real_sense(fleet, at, evidence)
        pools = {**snapshot.pools, A: PoolSignals(desired=9, ready=frozenset({"i-1"}))}
        return replace(snapshot, pools=pools)

    world.sense = sense_refused_launches  # type: ignore[method-assign]
    run(world, deciding(None, {A: 1}))
    assert world.desired[A] == 1


def test_a_foreign_hand_between_write_and_read_back_is_reported() -> None:
    """What is read back differs from what was written."""
    world = World(foreign_hand={"aa": 1, "bb": 1, "cc": 1})
    record = run(world, deciding(WEIGHTS, {A: 2}))
    assert record["failures"][0].startswith("foreign-weights: ")
    assert world.desired[A] == 4
    assert world.state is not None
    assert world.state.weights == {"aa": 1, "bb": 1, "cc": 1}


def test_one_pool_that_cannot_be_resized_does_not_keep_another_from_it() -> None:
    """Each failure is recorded with its AWS code and the next write goes on."""
    world = World(fails={f"size {B}": refused("ScalingActivityInProgress")})
    record = run(world, deciding(None, SIZES))
    assert world.desired == {A: 2, B: 4, C: 5}
    assert record["failures"] == [f"size of {B}: ScalingActivityInProgress"]
    assert [write["subject"] for write in record["writes"]] == [C, A]


def test_writes_that_do_not_fit_into_the_tick_are_skipped_and_named() -> None:
    """A tick that runs out of time says what it left out."""
    world = World()
    left = iter([5.0, 1.0, 0.0, -1.0])
    record = run(world, deciding(WEIGHTS, SIZES), remaining=lambda: next(left))
    assert world.desired == {A: 4, B: 7, C: 4}
    assert record["failures"] == [
        f"skipped: size of {C}: no time left in this tick",
        f"skipped: size of {A}: no time left in this tick",
    ]


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
    assert record["reasons"][0]["code"] == "paused"
    assert record["writes"] == []
    assert world.calls == [f"acquire {NOON:.0f}", "sense", "save"]
    assert world.state is not None
    assert world.state.tick == 1
    assert world.state.weights == {"aa": 100, "bb": 0, "cc": 0}
    assert world.state.desired == {A: 4, B: 4, C: 4}


def test_a_tick_that_finds_the_lease_held_is_skipped() -> None:
    """One tick acts at a time."""
    world = World(lease="theirs")
    assert run(world, deciding(WEIGHTS)) == {"skipped": "lease-held: another tick is running"}
    assert world.lease == "theirs"


@pytest.mark.parametrize("later", [0.0, -60.0])
def test_a_tick_not_later_than_the_last_is_skipped(later: float) -> None:
    """Duplicates and late deliveries change nothing, and the lease is given back."""
    world = World(state=State(tick=7, at=NOON))
    record = run(world, deciding(WEIGHTS), at=NOON + later)
    assert record["skipped"].startswith("not-later: ")
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


def test_a_clock_that_jumped_ahead_once_does_not_stop_the_loop() -> None:
    """A tick far behind the last one runs at its own time and reports the jump."""
    world = World(state=State(tick=7, at=NOON + 86_400))
    record = run(world, deciding())
    assert record["at"] == NOON
    assert record["failures"][0].startswith("clock-jumped: ")


def at_a(at: float = NOON - 5) -> Evidence:
    """A shortage in pool A."""
    return Evidence(A, Kind.SHORTAGE, at)


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
    world = World(evidence=(Evidence("gone-spot", Kind.SHORTAGE, NOON),))
    record = run(world, deciding(seen=seen))
    assert seen[0].evidence == ()
    assert record["failures"] == ["evidence for gone-spot: the fleet has no such pool"]
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
    assert record["failures"] == [f"state-not-saved: new evidence arrived in each of {ROUNDS} rounds"]
    assert world.calls.count("save") == ROUNDS
    assert world.state is None
    assert len(world.evidence) == ROUNDS
    assert world.lease == "free"


def test_a_lease_lost_during_the_tick_is_a_failure_in_the_record() -> None:
    """The tick that took over repairs."""
    world = World(fails={"save": LeaseLostError()})
    record = run(world, deciding(WEIGHTS))
    assert record["failures"] == ["lease-lost: another tick took over and repairs what this one left"]


def test_a_state_that_cannot_be_saved_is_a_failure_in_the_record() -> None:
    """The record of what was written is not lost with it."""
    world = World(fails={"save": refused("ThrottlingException"), "release": refused("ThrottlingException")})
    record = run(world, deciding(WEIGHTS))
    assert len(record["writes"]) == 1
    assert record["failures"] == [
        "state-not-saved: ThrottlingException",
        "lease-not-released: ThrottlingException",
    ]


def test_what_could_not_be_sensed_or_remembered_is_in_the_record() -> None:
    """Failures of every port come together, each once."""
    world = World(
        sense_failures=("metrics: Throttling",), remembered_problems=("state-unreadable: no JSON",)
    )
    record = run(world, deciding())
    assert record["failures"] == ["state-unreadable: no JSON", "metrics: Throttling"]


@pytest.mark.parametrize(
    ("given", "code"),
    [(None, "fleet-unreadable"), ("garbage", "fleet-invalid"), ('{"fleet": "x"}', "fleet-invalid")],
)
def test_without_a_usable_fleet_parameter_the_last_good_fleet_stays(given: str | None, code: str) -> None:
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
    assert record["failures"][0].startswith("fleet-unreadable: ")
    assert (record["tick"], record["units"], record["writes"]) == (3, {}, [])
    assert world.calls == [f"acquire {NOON:.0f}", "release"]
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
    assert caught.value.__notes__ == ["lease-not-released: Throttling"]


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
