"""Memory brought up to date by a snapshot."""

import random
from dataclasses import replace

import pytest

from control_lambda.core.demand.forecast import look_ahead, observe
from control_lambda.core.model import DemandMemory, Evidence, EvidenceKind, Refusal, Snapshot, State
from control_lambda.core.outlook import Outlook, look, slowest_start
from control_lambda.core.supply import refusals
from tests.control_lambda.core.examples import NOON, START, fleet, group, minutes, snapshot, unit

FLEET = fleet(unit("aa", markets=("on-demand", "spot")), unit("bb", service=0.8))
A, A_SPOT, B = (pool.name for pool in FLEET.pools)


def looked(seen: Snapshot, before: State | None = None) -> Outlook:
    """The outlook on the fleet."""
    return look(seen, before or State(), FLEET)


def test_looking_leaves_what_was_remembered_untouched() -> None:
    """The reasons compare the two."""
    before = State(tick=3, at=NOON - 60)

    assert looked(snapshot(FLEET, {A: 1}, 100.0), before).before == before


def test_live_prices_are_remembered_and_survive_their_absence() -> None:
    """The last good price stays until there is a new one."""
    first = looked(snapshot(FLEET, {}, 100.0, pools={A: group(A, price=0.5), B: group(B, price=0.9)}))
    later = looked(snapshot(FLEET, {}, 100.0, pools={A: group(A), B: group(B, price=1.1)}), first.state)

    assert later.state.prices == {A: 0.5, B: 1.1}


def test_an_overdue_node_is_evidence_that_the_pool_never_gets_ready() -> None:
    """Nobody reports it; the loop sees it."""
    stuck = group(A, 0, starting=[NOON - 2 * START - 1])
    outlook = looked(snapshot(FLEET, {}, 100.0, pools={A: stuck, A_SPOT: group(A_SPOT), B: group(B)}))

    assert [refusal.kind for refusal in outlook.state.refusals.values()] == [EvidenceKind.NEVER_READY]


def test_an_interrupted_node_is_left_out_until_it_is_gone() -> None:
    """For longer than AWS's two minutes, and not for ever."""
    told = Evidence(A_SPOT, EvidenceKind.INTERRUPTION, NOON, node="i-1")
    state = looked(snapshot(FLEET, {}, 100.0, evidence=(told,))).state
    soon = looked(snapshot(FLEET, {}, 100.0, at=NOON + 120), state).state
    late = looked(snapshot(FLEET, {}, 100.0, at=NOON + 3600), soon).state

    assert set(soon.leaving) == {"i-1"}
    assert late.leaving == {}


def test_capacity_is_kept_for_the_highest_forecast_of_the_last_start_time() -> None:
    """An idle node is worth as much as its restart would cost."""
    busy = looked(snapshot(FLEET, {A: 5}, 1000.0))
    calm = looked(snapshot(FLEET, {A: 5}, 10.0, at=NOON + 180), busy.state)
    later = looked(snapshot(FLEET, {A: 5}, 10.0, at=NOON + 180 + START), calm.state)

    assert calm.demand_to_carry == busy.forecast.upper
    assert later.demand_to_carry < busy.forecast.upper


def test_stale_demand_forgets_no_peak() -> None:
    """What was needed when data was last seen is what is kept."""
    busy = looked(snapshot(FLEET, {A: 5}, 1000.0))
    blind = looked(snapshot(FLEET, {A: 5}, 0.0, at=NOON + 3600, minutes={}), busy.state)

    assert blind.forecast.stale
    assert blind.demand_to_carry == busy.demand_to_carry


def test_the_slowest_start_is_that_of_a_unit_that_may_have_nodes() -> None:
    """A unit whose pools are switched off slows nobody down."""
    switched_off = fleet(unit("fast", start=60.0), unit("slow", start=900.0, most=0))

    assert slowest_start(switched_off) == 60.0


def test_a_distrusted_unit_is_planned_with_less() -> None:
    """Its table says what its trusted service time carries."""
    seen = snapshot(FLEET, {A: 1}, 100.0)
    trusted, distrusted = (looked(seen, State(trust={"aa": level})).tables["aa"] for level in (1.0, 0.7))

    assert all(low < high for low, high in zip(distrusted[1:], trusted[1:], strict=True))


def test_even_a_wholly_distrusted_unit_carries_something() -> None:
    """Without traffic it could never prove itself again."""
    outlook = looked(snapshot(FLEET, {B: 2}, 10.0), State(trust={"bb": 0.01}))

    assert outlook.tables["bb"][1] > 0


def test_a_group_above_its_maximum_is_seen_as_it_is() -> None:
    """The owner may have lowered the maximum while the node group is being updated."""
    outlook = looked(
        snapshot(
            FLEET, {}, 100.0, pools={A: group(A, 25, status="UPDATING"), A_SPOT: group(A_SPOT), B: group(B)}
        )
    )

    assert len(outlook.tables["aa"]) > 25


LATER = NOON + 86400.0


@pytest.mark.parametrize(
    "ahead",
    [
        State(mode_since=LATER),
        State(peaks=((LATER, 5000.0),)),
        State(refusals={"x": Refusal(EvidenceKind.SHORTAGE, A, LATER, LATER + 120, 1)}),
        State(leaving={"i-1": LATER}),
        State(demand=DemandMemory(minute=int(LATER))),
    ],
    ids=["mode", "peaks", "refusals", "interruptions", "demand"],
)
def test_what_is_remembered_from_the_future_does_not_freeze_the_loop(ahead: State) -> None:
    """The clock jumped back: what would never expire is forgotten, what can be is believed from now on."""
    state = looked(snapshot(FLEET, {A: 2}, 100.0), ahead).state

    assert state.mode_since <= NOON
    assert all(at <= NOON for at, _ in state.peaks)
    assert state.peaks[0][1] < 5000.0
    assert state.refusals == {}
    assert state.leaving == {}
    assert 0 < state.demand.minute <= NOON


def test_evidence_dated_in_the_future_counts_from_now() -> None:
    """A wrong clock on either side blocks no pool for longer than its back-off."""
    told = (
        Evidence(A, EvidenceKind.SHORTAGE, LATER),
        Evidence(A_SPOT, EvidenceKind.INTERRUPTION, LATER, node="i-1"),
    )
    state = looked(snapshot(FLEET, {}, 100.0, evidence=told)).state

    assert max(refusal.until for refusal in state.refusals.values()) <= NOON + 14400
    assert state.leaving["i-1"] <= NOON + refusals.INTERRUPTION_SECONDS


def test_trust_is_learned_from_minutes_that_are_new() -> None:
    """The same late minutes lower it once."""
    late = {"aa": tuple(replace(minute, latency_seconds=5.0) for minute in minutes(NOON, 30.0))}
    once = looked(snapshot(FLEET, {A: 1}, 0.0, minutes=late)).state
    again = looked(snapshot(FLEET, {A: 1}, 0.0, minutes=late, at=NOON + 5), once).state

    assert once.trust["aa"] < 1.0
    assert again.trust == once.trust


@pytest.mark.parametrize(("start_seconds", "minutes_ahead"), [(600.0, 13), (601.0, 14), (60.0, 4)])
def test_the_forecast_looks_as_far_as_a_node_launched_now_takes(
    start_seconds: float, minutes_ahead: int
) -> None:
    """Two minutes that counts are late, one to the next tick, and the slowest start, in whole minutes."""
    steered = fleet(unit("aa", start=start_seconds))
    demand = look(snapshot(steered, {A: 1}, 100.0), State(), steered).state.demand

    assert demand.pending[-1][0] == demand.minute + 60 * minutes_ahead


def promised(attainment: float) -> Outlook:
    """The outlook under that promise, after ten hours in which demand was 100 or 300 by a coin's toss.

    Nodes cost next to nothing, so that the promise alone bounds what is worth carrying.
    """
    toss = random.Random(7)
    demand = observe(
        DemandMemory(), {NOON - 60 * minute: toss.choice((100.0, 300.0)) for minute in range(3, 603)}, 13
    )
    objective = {"latency_seconds": 2.0, "attainment": attainment}
    steered = fleet(unit("aa", least=10, most=10), objective=objective)
    return look(snapshot(steered, {A: 10}, 0.0, minutes={}), State(demand=demand, prices={A: 1e-6}), steered)


def test_the_margin_leaves_four_times_the_share_that_may_be_late() -> None:
    """Of what is promised for 99.5 % of requests, 2 % may come in minutes above the upper forecast."""
    for attainment, miss_share in ((0.995, 0.02), (0.9, 0.4)):
        found = promised(attainment)
        expected = look_ahead(found.state.demand, NOON, 13, miss_share)
        assert found.forecast.upper == pytest.approx(expected.upper)
        assert found.forecast.upper > found.forecast.mean


def test_the_higher_the_promise_the_wider_the_margin() -> None:
    """Fewer requests may be late."""
    assert promised(0.995).forecast.upper > promised(0.9).forecast.upper
